//! What kind of file system a file lies on, and how much room it has (statfs(2)).

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// A file system at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSystem {
    /// The kernel's number of the kind (`f_type`).
    pub magic: u32,
    /// Bytes that this process may still take: what is kept for root counts where it is root, or the like.
    pub free_bytes: u64,
    /// Bytes that anybody may still take, so that what is kept for root stays.
    pub unreserved_bytes: u64,
    /// Bytes that it has in all.
    pub total_bytes: u64,
    /// It is mounted read-only, or has become so after an error.
    pub read_only: bool,
    /// The kernel's id of this very file system; of use only where [`FileSystem::keeps_its_id`] says so.
    pub id: u64,
}

/// Numbers of kinds: linux/magic.h, and the file systems' own headers where they are not in it.
mod magic {
    pub const EXT: u32 = 0xef53;
    pub const XFS: u32 = 0x5846_5342;
    pub const BTRFS: u32 = 0x9123_683e;
    pub const F2FS: u32 = 0xf2f5_2010;
    pub const BCACHEFS: u32 = 0xca45_1a4e;
    pub const ZFS: u32 = 0x2fc1_2fc1;
    pub const JFS: u32 = 0x3153_464a;
    pub const NILFS: u32 = 0x3434;
    pub const TMPFS: u32 = 0x0102_1994;
    pub const RAMFS: u32 = 0x8584_58f6;
    pub const HUGETLBFS: u32 = 0x9584_58f6;
    pub const OVERLAY: u32 = 0x794c_7630;
    pub const FUSE: u32 = 0x6573_5546;
    pub const NFS: u32 = 0x6969;
    pub const CIFS: u32 = 0xff53_4d42;
    pub const SMB2: u32 = 0xfe53_4d42;
    pub const CEPH: u32 = 0x00c3_6400;
    pub const V9FS: u32 = 0x0102_1997;
    pub const VBOXSF: u32 = 0x786f_4256;
    pub const AFS: u32 = 0x5346_414f;
    pub const GFS2: u32 = 0x0116_1970;
    pub const OCFS2: u32 = 0x7461_636f;
    pub const VFAT: u32 = 0x4d44;
    pub const EXFAT: u32 = 0x2011_bab0;
}

use magic::{
    AFS, BCACHEFS, BTRFS, CEPH, CIFS, EXFAT, EXT, F2FS, FUSE, GFS2, HUGETLBFS, JFS, NFS, NILFS, OCFS2,
    OVERLAY, RAMFS, SMB2, TMPFS, V9FS, VBOXSF, VFAT, XFS, ZFS,
};

impl FileSystem {
    /// The one that an open file or directory lies on.
    ///
    /// # Errors
    /// What fstatfs(2) says.
    pub fn of(file: impl AsFd) -> io::Result<FileSystem> {
        // SAFETY: a statfs is made of integers, for which zero is a value.
        let mut found: libc::statfs = unsafe { mem::zeroed() };
        // SAFETY: fstatfs fills in one statfs, to which the pointer points.
        if unsafe { libc::fstatfs(file.as_fd().as_raw_fd(), &mut found) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a statvfs is made of integers, for which zero is a value.
        let mut flags: libc::statvfs = unsafe { mem::zeroed() };
        // SAFETY: fstatvfs fills in one statvfs, to which the pointer points.
        if unsafe { libc::fstatvfs(file.as_fd().as_raw_fd(), &mut flags) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let block = found.f_bsize as u64;
        // SAFETY: an fsid is two ints and nothing else.
        let id: [u32; 2] = unsafe { mem::transmute(found.f_fsid) };
        Ok(FileSystem {
            magic: found.f_type as u32,
            free_bytes: usable_blocks(&found, takes_reserve()).saturating_mul(block),
            unreserved_bytes: found.f_bavail.saturating_mul(block),
            total_bytes: found.f_blocks.saturating_mul(block),
            read_only: flags.f_flag & libc::ST_RDONLY != 0,
            id: u64::from(id[0]) << 32 | u64::from(id[1]),
        })
    }

    /// Its usual name.
    pub fn name(&self) -> &'static str {
        match self.magic {
            EXT => "ext4",
            XFS => "xfs",
            BTRFS => "btrfs",
            F2FS => "f2fs",
            BCACHEFS => "bcachefs",
            ZFS => "zfs",
            JFS => "jfs",
            NILFS => "nilfs2",
            TMPFS => "tmpfs",
            RAMFS => "ramfs",
            HUGETLBFS => "hugetlbfs",
            OVERLAY => "overlay",
            FUSE => "FUSE",
            NFS => "NFS",
            CIFS | SMB2 => "SMB",
            CEPH => "CephFS",
            V9FS => "9p",
            VBOXSF => "vboxsf",
            AFS => "AFS",
            GFS2 => "gfs2",
            OCFS2 => "ocfs2",
            VFAT => "FAT",
            EXFAT => "exFAT",
            _ => "another kind",
        }
    }

    /// Whether what it holds is gone when the machine stops.
    pub fn is_volatile(&self) -> bool {
        matches!(self.magic, TMPFS | RAMFS | HUGETLBFS)
    }

    /// Whether a lock on some bytes keeps everybody from writing to them, its holder included, as SMB's locks do: others are
    /// an agreement among those that ask.
    pub fn locks_forbid_writes(&self) -> bool {
        matches!(self.magic, CIFS | SMB2)
    }

    /// Whether another program or machine answers for it, so that any call on it may wait for as long as that likes,
    /// the submission of an operation included.
    pub fn is_answered_elsewhere(&self) -> bool {
        matches!(self.magic, FUSE | NFS | CIFS | SMB2 | CEPH | V9FS | VBOXSF | AFS)
    }

    /// Whether reads and writes can be tried without waiting (RWF_NOWAIT). On the others an operation may wait at its very
    /// submission whatever its flags say, in an overlay for what lies below, and so may the closing of a file.
    pub fn submits_without_waiting(&self) -> bool {
        matches!(self.magic, EXT | XFS | BTRFS | F2FS)
    }

    /// Whether an inode keeps its number for as long as the file is there, over mounts and restarts too.
    pub fn keeps_inodes(&self) -> bool {
        let own = matches!(
            self.magic,
            EXT | XFS | BTRFS | F2FS | BCACHEFS | ZFS | JFS | NILFS
        );
        own || matches!(self.magic, NFS | CEPH | GFS2 | OCFS2)
    }

    /// Whether [`FileSystem::id`] comes from what is written on it. The others make it from a device's number, which
    /// changes from boot to boot.
    pub fn keeps_its_id(&self) -> bool {
        matches!(self.magic, EXT | BTRFS)
    }

    /// Why a disk on it may come to harm although all goes well, if so. On a file system that a program in user space answers
    /// for, an answer may be one of a part: Linux 6.18 was seen to carry out the rest at the wrong place of the file through
    /// io_uring, and to say that all went well. Those that the kernel itself sends over a network, it also cuts up itself.
    ///
    /// | kind | who answers | |
    /// |---|---|---|
    /// | FUSE (virtiofs, sshfs, glusterfs, s3fs and so on) | a program | harm was seen |
    /// | 9p | a program, mostly the monitor of the virtual machine that this is | its answers may be short in the same way |
    /// | vboxsf | the monitor of the virtual machine that this is | as with 9p |
    /// | NFS, SMB, CephFS, AFS | a server, behind a client in the kernel that asks again for what is missing | none known |
    pub fn hazard(&self) -> Option<&'static str> {
        matches!(self.magic, FUSE | V9FS | VBOXSF).then_some(
            "a program answers for it, and where that carries out a part of a request, the kernel may write the rest at the \
             wrong place of the file and say that all went well (seen with FUSE on Linux 6.18)",
        )
    }

    /// Whether it is btrfs, which writes elsewhere what is overwritten and keeps a checksum of it.
    pub fn is_btrfs(&self) -> bool {
        self.magic == BTRFS
    }
}

/// Blocks that ext4 keeps for itself, at most: a fiftieth of all, and no more than this (`ext4_calculate_resv_clusters`).
/// Not even root gets them.
const EXT_OWN_BLOCKS_MAX: u64 = 4096;

/// Blocks that may still be taken, by who gets what is kept for root if `takes_reserve`.
fn usable_blocks(found: &libc::statfs, takes_reserve: bool) -> u64 {
    let reserve_too = match found.f_type as u32 {
        EXT => found
            .f_bfree
            .saturating_sub((found.f_blocks / 50).min(EXT_OWN_BLOCKS_MAX)),
        F2FS => found.f_bfree,
        // What lies between the two is the file system's own there.
        _ => return found.f_bavail,
    };
    match takes_reserve {
        true => reserve_too.max(found.f_bavail),
        false => found.f_bavail,
    }
}

/// Whether this process gets what ext4 and f2fs keep for root: as the machine's root, or with CAP_SYS_RESOURCE. Both let
/// another user be named when they are mounted (`resuid`), which is not looked at.
fn takes_reserve() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(|| {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        is_given_reserve(&read("/proc/self/status"), &read("/proc/self/uid_map"))
    })
}

/// The same by what proc(5) says in `status` and `uid_map`. Within a user namespace neither counts.
fn is_given_reserve(status: &str, uid_map: &str) -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved, and the one that file systems ask for.
    let is_root = line("Uid:").is_some_and(|ids| ids.split_whitespace().nth(3) == Some("0"));
    let capabilities = line("CapEff:").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let is_capable = capabilities.is_some_and(|set| set >> CAP_SYS_RESOURCE & 1 == 1);
    let is_machines = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    is_machines && (is_root || is_capable)
}

/// The inode flag `chattr +C` (linux/fs.h).
const FS_NOCOW_FL: u32 = 0x0080_0000;

/// Whether a file on btrfs is written in place and without checksums (`chattr +C`); `None` when that cannot be found
/// out.
pub fn is_nocow(file: impl AsFd) -> Option<bool> {
    flags(file.as_fd()).map(|flags| flags & FS_NOCOW_FL != 0)
}

/// Has an empty file on btrfs written in place and without checksums. A guest may change a buffer while it is being
/// written, which under O_DIRECT leaves a sector whose checksum does not fit and that cannot be read any more.
pub(crate) fn set_nocow(file: impl AsFd) -> io::Result<()> {
    let file = file.as_fd();
    let flags = [flags(file).ok_or(io::ErrorKind::Unsupported)? | FS_NOCOW_FL, 0];
    // SAFETY: FS_IOC_SETFLAGS reads one int, whatever its number says, and never more than a long; both are there.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, flags.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn flags(file: BorrowedFd<'_>) -> Option<u32> {
    let mut flags = [0_u32; 2];
    // SAFETY: FS_IOC_GETFLAGS writes one int, whatever its number says, and never more than a long; both have room.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, flags.as_mut_ptr()) };
    (failed == 0).then_some(flags[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn kinds_are_told_apart() {
        let shared = File::open("/dev/shm").map(|file| FileSystem::of(&file).unwrap());
        if let Ok(shared) = shared {
            assert!(shared.is_volatile() && !shared.keeps_inodes(), "{shared:?}");
            assert_eq!(shared.name(), "tmpfs");
        }
        let build = FileSystem::of(File::open(env!("CARGO_MANIFEST_DIR")).unwrap()).unwrap();
        assert!(build.total_bytes >= build.free_bytes && !build.is_volatile());
        assert!(build.free_bytes >= build.unreserved_bytes);
        let proc = FileSystem::of(File::open("/proc").unwrap()).unwrap();
        assert_eq!((proc.name(), proc.keeps_inodes()), ("another kind", false));
        assert_eq!(proc.hazard(), None);
        for (magic, is_hazardous) in [
            (FUSE, true),
            (V9FS, true),
            (VBOXSF, true),
            (EXT, false),
            (NFS, false),
        ] {
            assert_eq!(
                FileSystem { magic, ..proc }.hazard().is_some(),
                is_hazardous,
                "{magic:x}"
            );
        }
    }

    #[test]
    fn root_has_what_is_kept_for_it_and_nobody_else() {
        // SAFETY: a statfs is made of integers, for which zero is a value.
        let mut found: libc::statfs = unsafe { mem::zeroed() };
        // Of 1,000,000 blocks 60,000 are free: 50,000 are root's, 4,096 the file system's own, 5,904 everybody's.
        (found.f_blocks, found.f_bfree, found.f_bavail) = (1_000_000, 60_000, 5_904);
        for (magic, for_root) in [(EXT, 55_904), (F2FS, 60_000), (XFS, 5_904), (BTRFS, 5_904)] {
            found.f_type = i64::from(magic) as _;
            assert_eq!(usable_blocks(&found, true), for_root, "{magic:x}");
            assert_eq!(usable_blocks(&found, false), 5_904, "{magic:x}");
        }
        // What we can have is gone, though blocks are free: they are the file system's own.
        (found.f_bfree, found.f_bavail, found.f_type) = (4_096, 0, i64::from(EXT) as _);
        assert_eq!(usable_blocks(&found, true), 0);
    }

    #[test]
    fn who_gets_what_is_kept_for_root_is_read_from_proc() {
        let machine = "         0          0 4294967295\n";
        let status = |uid: &str, set: &str| format!("Name:\tx\nUid:\t{uid}\nCapEff:\t{set}\n");
        // As the unit runs it: root, without the capability.
        assert!(is_given_reserve(
            &status("0\t0\t0\t0", "000000000000000b"),
            machine
        ));
        assert!(is_given_reserve(
            &status("9\t9\t9\t9", "0000000001000000"),
            machine
        ));
        assert!(!is_given_reserve(
            &status("9\t9\t9\t9", "0000000000000000"),
            machine
        ));
        let container = "0 100000 65536\n";
        assert!(!is_given_reserve(
            &status("0\t0\t0\t0", "000001ffffffffff"),
            container
        ));
        assert!(!is_given_reserve("", ""));
    }
}
