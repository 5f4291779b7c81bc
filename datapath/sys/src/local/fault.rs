//! What the kernel's error numbers mean to the engine: every number that reads, writes, flushes and fallocates of files,
//! block devices, network file systems and FUSE answer with, each on purpose.
//!
//! The block layer's own list is `blk_errors` in block/blk-core.c; a FUSE server may answer with any number whatever.

use palisade_block::Fault;

/// The fault of a (positive) error number. EAGAIN and EINTR are tried again and do not come here.
pub(super) fn fault(errno: i32) -> Fault {
    match errno {
        libc::ENOSPC | libc::EDQUOT => Fault::NoSpace,
        // ESTALE: the server of a network file system knows the file no more. ENOTCONN, ECONNABORTED: a FUSE server has
        // ended. ENOMEDIUM: a drive without a medium. ENOENT: an overlay's or a server's file is not there any more.
        libc::ENODEV
        | libc::ENXIO
        | libc::ESTALE
        | libc::ENOTCONN
        | libc::ECONNABORTED
        | libc::ENOMEDIUM
        | libc::ESHUTDOWN
        | libc::ENOENT => Fault::Gone,
        // ENOLINK: BLK_STS_TRANSPORT. ETIMEDOUT: BLK_STS_TIMEOUT. ETIME: BLK_STS_DURATION_LIMIT.
        libc::ENOLINK
        | libc::ETIMEDOUT
        | libc::ETIME
        | libc::EHOSTUNREACH
        | libc::EHOSTDOWN
        | libc::ENETUNREACH
        | libc::ENETDOWN
        | libc::ENETRESET
        | libc::ECONNRESET
        | libc::ECONNREFUSED
        | libc::EPIPE => Fault::Unreachable,
        // How the block layer tells of a reservation conflict (BLK_STS_RESV_CONFLICT).
        libc::EBADE => Fault::Fenced,
        libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY => Fault::Unsupported,
        libc::EROFS => Fault::ReadOnly,
        libc::ECANCELED => Fault::TimedOut,
        libc::EFAULT => Fault::GuestMemory,
        libc::EFBIG => Fault::TooLarge,
        // EBUSY: BLK_STS_DEV_RESOURCE. EMFILE and ENFILE: a server's tables, or ours, are full.
        libc::ENOMEM | libc::ENOBUFS | libc::EBUSY | libc::EMFILE | libc::ENFILE | libc::ENOLCK => {
            Fault::NoMemory
        }
        // ENOKEY and its kin: an encrypted file whose key was taken away.
        libc::EPERM | libc::EACCES | libc::ETXTBSY | libc::ENOKEY | libc::EKEYEXPIRED | libc::EKEYREVOKED => {
            Fault::Denied
        }
        // The kernel never says these of a sound operation on a sound device. EOVERFLOW: BLK_STS_ZONE_ACTIVE_RESOURCE
        // or an offset that no file has; neither is the medium's failure.
        libc::EINVAL | libc::EBADF | libc::E2BIG | libc::EISDIR | libc::ESPIPE | libc::EOVERFLOW => {
            Fault::Rejected
        }
        // EIO, and what tells of broken data: ENODATA (BLK_STS_MEDIUM), EILSEQ (BLK_STS_PROTECTION), EREMOTEIO
        // (BLK_STS_TARGET), EBADMSG and EUCLEAN (checksums and structures of file systems), EREMCHG (BLK_STS_DM_REQUEUE);
        // and numbers that nobody knows.
        _ => Fault::Media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_block::Origin;

    #[test]
    fn every_kind_has_its_number() {
        let faults = [
            libc::EIO,
            libc::ENOSPC,
            libc::ENODEV,
            libc::EBADE,
            libc::EOPNOTSUPP,
            libc::EROFS,
            libc::ECANCELED,
            libc::EFAULT,
            libc::ENOLINK,
        ]
        .map(fault);
        let kinds: Vec<_> = faults.iter().map(|fault| fault.kind()).collect();
        assert_eq!(kinds, (0..9).collect::<Vec<_>>());
        assert_eq!(fault(libc::EFBIG), Fault::TooLarge);
        assert_eq!(fault(libc::ENOMEM), Fault::NoMemory);
        assert_eq!(fault(libc::EPERM), Fault::Denied);
        assert_eq!(fault(libc::EINVAL), Fault::Rejected);
    }

    /// block/blk-core.c, `blk_errors`: what each status of the block layer becomes, and what it is to us.
    #[test]
    fn every_status_of_the_block_layer_is_mapped_on_purpose() {
        for (errno, expected) in [
            (libc::EOPNOTSUPP, Fault::Unsupported),
            (libc::ETIMEDOUT, Fault::Unreachable),
            (libc::ENOSPC, Fault::NoSpace),
            (libc::ENOLINK, Fault::Unreachable),
            (libc::EREMOTEIO, Fault::Media),
            (libc::EBADE, Fault::Fenced),
            (libc::ENODATA, Fault::Media),
            (libc::EILSEQ, Fault::Media),
            (libc::ENOMEM, Fault::NoMemory),
            (libc::EBUSY, Fault::NoMemory),
            (libc::ENODEV, Fault::Gone),
            (libc::EREMCHG, Fault::Media),
            (libc::ETOOMANYREFS, Fault::Media),
            (libc::EOVERFLOW, Fault::Rejected),
            (libc::ETIME, Fault::Unreachable),
            (libc::EINVAL, Fault::Rejected),
            (libc::EIO, Fault::Media),
        ] {
            assert_eq!(fault(errno), expected, "{errno}");
        }
    }

    #[test]
    fn only_absent_memory_is_the_guests_doing() {
        let guests: Vec<_> = (1..200)
            .filter(|&errno| fault(errno).origin() == Origin::Guest)
            .collect();
        assert_eq!(guests, [libc::EFAULT]);
    }
}
