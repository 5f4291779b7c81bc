//! What the kernel's error numbers mean to the engine.

use palisade_block::Fault;

/// The fault of a (positive) error number.
pub(super) fn fault(errno: i32) -> Fault {
    match errno {
        libc::ENOSPC | libc::EDQUOT => Fault::NoSpace,
        libc::ENODEV | libc::ENXIO | libc::ENOLINK | libc::EHOSTUNREACH | libc::ENETUNREACH => Fault::Gone,
        // How the block layer tells of a reservation conflict (BLK_STS_RESV_CONFLICT).
        libc::EBADE => Fault::Fenced,
        libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY => Fault::Unsupported,
        libc::EROFS | libc::EBADF => Fault::ReadOnly,
        libc::ECANCELED => Fault::TimedOut,
        _ => Fault::Media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ]
        .map(fault);
        let kinds: Vec<_> = faults.iter().map(|fault| fault.kind()).collect();
        assert_eq!(kinds, (0..Fault::KINDS).collect::<Vec<_>>());
        assert_eq!(fault(libc::EFAULT), Fault::Media);
    }
}
