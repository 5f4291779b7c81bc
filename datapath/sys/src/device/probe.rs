//! What is on a disk already: a pure look at its first and last bytes, and a reader that fetches them.
//!
//! Whoever is about to take a disk asks here first, so everything that could be somebody's data must be found; what
//! is not known by name is still told from blank.

mod behind;
mod partitions;

pub(super) use behind::marks;
pub use partitions::{PartitionEntry, partitions};

use super::Opened;
use std::fmt;
use std::io;

/// Bytes of the disk's start that are looked at: every superblock, label and header that util-linux knows lies within,
/// the last of them LUKS2's second header at 4 MiB.
pub const HEAD_BYTES: usize = 8 << 20;

/// Bytes of the disk's end that are looked at: ZFS labels, md superblocks, the backup GPT, what RAID firmware leaves
/// (1.5 MiB from the end at most), our own tail.
pub const TAIL_BYTES: usize = 4 << 20;

/// The first bytes of each sector of ours: superblocks and extent tables, at the start and at the end of a disk.
pub const PALISADE_MAGIC: [u8; 8] = *b"PALISADE";

/// What a disk holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// Zeroes in all places that were looked at.
    Blank,
    /// A superblock of ours, or what a crash has left of the pair.
    Palisade {
        /// At the start.
        head: bool,
        /// At the end.
        tail: bool,
    },
    /// A file system.
    Filesystem {
        /// Its usual name.
        kind: &'static str,
    },
    /// A partition table.
    PartitionTable {
        /// `gpt` or `mbr`.
        kind: &'static str,
    },
    /// A physical volume of LVM.
    Lvm,
    /// A member of a Linux software RAID.
    Md,
    /// An encrypted volume.
    Luks,
    /// A backing or cache device of bcache.
    Bcache,
    /// A member of a ZFS pool.
    Zfs,
    /// Swap space.
    Swap,
    /// A member of something else that is known by name.
    Member {
        /// Of what.
        kind: &'static str,
    },
    /// Data of no kind known here.
    Unknown,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Blank => write!(f, "nothing"),
            Content::Palisade { .. } => write!(f, "a Palisade superblock"),
            Content::Filesystem { kind } => write!(f, "a file system ({kind})"),
            Content::PartitionTable { kind } => write!(f, "a partition table ({kind})"),
            Content::Lvm => write!(f, "an LVM physical volume"),
            Content::Md => write!(f, "a member of a software RAID"),
            Content::Luks => write!(f, "a LUKS volume"),
            Content::Bcache => write!(f, "a bcache device"),
            Content::Zfs => write!(f, "a member of a ZFS pool"),
            Content::Swap => write!(f, "swap space"),
            Content::Member { kind } => write!(f, "{kind}"),
            Content::Unknown => write!(f, "data of an unknown kind"),
        }
    }
}

/// Looks at an open device: the first of [`all`] that is on it.
///
/// # Errors
/// It could not be read.
pub fn probe(device: &Opened) -> io::Result<Content> {
    Ok(all(device)?.into_iter().next().unwrap_or(Content::Blank))
}

/// Everything that is on an open device, what names it best first; nothing when it is blank.
///
/// # Errors
/// It could not be read.
pub fn all(device: &Opened) -> io::Result<Vec<Content>> {
    let bytes = device.sectors().bytes();
    let (head_bytes, tail_bytes) = (bytes.min(HEAD_BYTES as u64), bytes.min(TAIL_BYTES as u64));
    let (mut head, mut tail) = (vec![0; head_bytes as usize], vec![0; tail_bytes as usize]);
    device.read_at(0, &mut head)?;
    device.read_at(bytes - tail_bytes, &mut tail)?;
    match contents(&head, &tail, bytes) {
        // What was overwritten at both ends may hold a guest's whole file system all the same.
        none if none.is_empty() => behind::probe(device),
        found => Ok(found),
    }
}

/// The logical block in bytes that the partition table of a disk was made for; `None` when there is none, or it does not
/// tell, as an MBR does not. Under another block each of its partitions would begin elsewhere.
///
/// # Errors
/// What reading says.
pub fn block_of_table(device: &Opened) -> io::Result<Option<u32>> {
    let mut head = vec![0; device.sectors().bytes().min(8192) as usize];
    device.read_at(0, &mut head)?;
    let table = |block: u32| Mark(block as usize, b"EFI PART").is_in(&head);
    Ok([512, 4096].into_iter().find(|&block| table(block)))
}

/// What a disk of `bytes` bytes holds whose first bytes are `head` and whose last bytes are `tail`.
pub fn content(head: &[u8], tail: &[u8], bytes: u64) -> Content {
    contents(head, tail, bytes)
        .into_iter()
        .next()
        .unwrap_or(Content::Blank)
}

/// Everything that it holds, each kind once; nothing when it is blank.
pub fn contents(head: &[u8], tail: &[u8], bytes: u64) -> Vec<Content> {
    // Each of our copies stands for all: head or tail, first or second, a table without its superblock. The two areas
    // begin on a 4 KiB sector of a disk whose size may not be a multiple of that.
    let is_ours = |bytes: &[u8]| {
        bytes
            .chunks(512)
            .any(|sector| sector.starts_with(&PALISADE_MAGIC))
    };
    let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
    let at_head = head.get(..AREA_BYTES.min(head.len()).min(half));
    let at_tail = tail.get(tail.len().saturating_sub(half)..);
    let (at_head, at_tail) = (at_head.is_some_and(is_ours), at_tail.is_some_and(is_ours));
    let ours = (at_head || at_tail).then_some(Content::Palisade {
        head: at_head,
        tail: at_tail,
    });
    let mut found: Vec<Content> = ours.into_iter().collect();
    found.extend(members(head, tail, bytes));
    found.extend(partition_table(head, tail));
    found.extend(filesystems(head));
    found.dedup();
    if !found.is_empty() {
        return found;
    }
    match () {
        () if is_mbr(head) => vec![Content::PartitionTable { kind: "mbr" }],
        () if head.iter().chain(tail).all(|&byte| byte == 0) => Vec::new(),
        () => vec![Content::Unknown],
    }
}

/// Bytes in which our copies lie at the start.
const AREA_BYTES: usize = 2 << 20;

/// A magic number at a fixed place.
struct Mark(usize, &'static [u8]);

impl Mark {
    fn is_in(&self, bytes: &[u8]) -> bool {
        bytes.get(self.0..).is_some_and(|from| from.starts_with(self.1))
    }
}

/// Things that lie below a file system.
fn members(head: &[u8], tail: &[u8], bytes: u64) -> Vec<Content> {
    const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
    let has = |at, magic| Mark(at, magic).is_in(head);
    // The second header of version 2 lies in one of eight places (LUKS2 on-disk format, 2.1) and outlives the first.
    let second = (0..9).any(|place| has(0x4000 << place, b"SKUL\xba\xbe"));
    // The label is in one of the first four sectors.
    let label = (0..4).any(|sector| has(sector * 512, b"LABELONE") && has(sector * 512 + 24, b"LVM2 001"));
    // The magic ends the first page, whatever the page size of the machine that made it.
    let pages = [4096, 8192, 16384, 65536];
    let swap = pages
        .iter()
        .any(|page| has(page - 10, b"SWAPSPACE2") || has(page - 10, b"SWAP-SPACE"));
    // DRBD's internal metadata ends the disk in a 4 KiB superblock (drbd_md_magic, versions 8.4 and 9).
    let drbd = from_end(tail, 4096).get(60..64);
    let known: [&[u8]; 3] = [b"\x83\x74\x02\x6b", b"\x83\x74\x02\x6c", b"\x83\x74\x02\x6d"];
    let member = |kind| Content::Member { kind };
    let looked_for = [
        (has(0, b"LUKS\xba\xbe") || second, Content::Luks),
        (label, Content::Lvm),
        (is_md(head, tail, bytes), Content::Md),
        (has(4096 + 24, BCACHE), Content::Bcache),
        (is_zfs(head, tail), Content::Zfs),
        (swap, Content::Swap),
        (
            has(0, b"bluestore block device"),
            member("a Ceph OSD (bluestore)"),
        ),
        (has(3, b"-FVE-FS-"), member("a BitLocker volume")),
        (has(0, b"dmvdo001"), member("a VDO device")),
        (
            drbd.is_some_and(|magic| known.contains(&magic)),
            member("a DRBD device"),
        ),
    ];
    let found = looked_for.into_iter().filter(|(is_there, _)| *is_there);
    found.map(|(_, content)| content).collect()
}

/// md superblocks: version 1.1 at the start, 1.2 at 4 KiB, 1.0 and 0.90 near the end (md(4)).
fn is_md(head: &[u8], tail: &[u8], bytes: u64) -> bool {
    const MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";
    if Mark(0, MAGIC).is_in(head) || Mark(4096, MAGIC).is_in(head) {
        return true;
    }
    let near_end = |from_start: Option<u64>| {
        let distance = from_start
            .and_then(|at| bytes.checked_sub(at))
            .and_then(|far| usize::try_from(far).ok());
        distance.is_some_and(|distance| from_end(tail, distance).starts_with(MAGIC))
    };
    let version_1_0 = (bytes / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    let version_0_90 = (bytes & !0xffff).checked_sub(0x10000);
    near_end(version_1_0) || near_end(version_0_90)
}

/// An uberblock in one of the labels: 256 KiB each, two at either end, uberblocks in a label's second half.
fn is_zfs(head: &[u8], tail: &[u8]) -> bool {
    const LABEL: usize = 256 * 1024;
    const LITTLE: &[u8] = b"\x0c\xb1\xba\x00\x00\x00\x00\x00";
    const BIG: &[u8] = b"\x00\x00\x00\x00\x00\xba\xb1\x0c";
    let in_label = |bytes: &[u8]| {
        bytes
            .chunks_exact(1024)
            .any(|block| block.starts_with(LITTLE) || block.starts_with(BIG))
    };
    let at_head = head.get(..2 * LABEL).unwrap_or(head);
    let at_tail = tail
        .get(tail.len().saturating_sub(3 * LABEL)..)
        .unwrap_or_default();
    in_label(at_head) || in_label(at_tail)
}

/// A GPT at either end, under logical blocks of 512 or 4096 bytes.
fn partition_table(head: &[u8], tail: &[u8]) -> Option<Content> {
    let signature: &[u8] = b"EFI PART";
    let found = [512, 4096]
        .into_iter()
        .any(|block| Mark(block, signature).is_in(head) || from_end(tail, block).starts_with(signature));
    found.then_some(Content::PartitionTable { kind: "gpt" })
}

/// A boot sector whose partition entries make sense, at least one of them used. FAT and NTFS begin with a boot
/// sector, too, so they are looked for first.
fn is_mbr(head: &[u8]) -> bool {
    if !Mark(510, b"\x55\xaa").is_in(head) {
        return false;
    }
    let entries = head.get(446..510).unwrap_or_default().chunks_exact(16);
    let sound = entries
        .clone()
        .all(|entry| matches!(entry.first(), Some(0 | 0x80)));
    let used = entries
        .into_iter()
        .any(|entry| entry.get(4).is_some_and(|&kind| kind != 0));
    sound && used
}

/// File systems by their magic.
fn filesystems(head: &[u8]) -> Vec<Content> {
    const MARKS: [(Mark, &str); 23] = [
        (Mark(0, b"XFSB"), "xfs"),
        (Mark(0x438, b"\x53\xef"), "ext2/3/4"),
        (Mark(0x10040, b"_BHRfS_M"), "btrfs"),
        (Mark(3, b"NTFS    "), "ntfs"),
        (Mark(3, b"EXFAT   "), "exfat"),
        (Mark(54, b"FAT12   "), "fat"),
        (Mark(54, b"FAT16   "), "fat"),
        (Mark(54, b"FAT     "), "fat"),
        (Mark(82, b"FAT32   "), "fat"),
        (Mark(1024, b"\x10\x20\xf5\xf2"), "f2fs"),
        (Mark(1024, b"\xe2\xe1\xf5\xe0"), "erofs"),
        (Mark(0, b"hsqs"), "squashfs"),
        (Mark(0x8001, b"CD001"), "iso9660"),
        (Mark(0x8001, b"BEA01"), "udf"),
        (Mark(0x8000, b"JFS1"), "jfs"),
        (Mark(0x10000, b"\x01\x16\x19\x70"), "gfs2"),
        (Mark(0x10034, b"ReIsEr"), "reiserfs"),
        (Mark(0x406, b"\x34\x34"), "nilfs2"),
        (Mark(1024, b"OCFSV2"), "ocfs2"),
        (Mark(2048, b"OCFSV2"), "ocfs2"),
        (Mark(8192, b"OCFSV2"), "ocfs2"),
        (Mark(1024, b"H+\x00\x04"), "hfsplus"),
        (Mark(32, b"NXSB"), "apfs"),
    ];
    const BCACHEFS: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";
    let bcachefs = Mark(4096 + 24, BCACHEFS).is_in(head).then_some("bcachefs");
    let marked = MARKS
        .iter()
        .filter(|(mark, _)| mark.is_in(head))
        .map(|(_, kind)| *kind);
    bcachefs
        .into_iter()
        .chain(marked)
        .map(|kind| Content::Filesystem { kind })
        .collect()
}

/// The last `distance` bytes; nothing when there are not that many.
fn from_end(tail: &[u8], distance: usize) -> &[u8] {
    tail.len()
        .checked_sub(distance)
        .and_then(|at| tail.get(at..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 64 << 20;

    fn with(marks: &[(u64, &[u8])]) -> Content {
        let (mut head, mut tail) = (vec![0; HEAD_BYTES], vec![0; TAIL_BYTES]);
        for &(at, bytes) in marks {
            match usize::try_from(at).unwrap() {
                at if at < HEAD_BYTES => head[at..at + bytes.len()].copy_from_slice(bytes),
                at => {
                    let at = at - (SIZE as usize - TAIL_BYTES);
                    tail[at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
        content(&head, &tail, SIZE)
    }

    #[test]
    fn blank_and_unknown_are_told_apart() {
        assert_eq!(with(&[]), Content::Blank);
        assert_eq!(with(&[(100_000, b"x")]), Content::Unknown);
        assert_eq!(with(&[(SIZE - 1, b"x")]), Content::Unknown);
        assert_eq!(content(&[], &[], 0), Content::Blank);
    }

    /// What is named first is what [`content`] names.
    #[test]
    fn all_that_lies_on_each_other_is_named_once() {
        let (mut head, mut tail) = (vec![0; HEAD_BYTES], vec![0; TAIL_BYTES]);
        head[0x438..0x43a].copy_from_slice(b"\x53\xef");
        head[512..520].copy_from_slice(b"EFI PART");
        head[54..62].copy_from_slice(b"FAT     ");
        head[82..90].copy_from_slice(b"FAT32   ");
        tail[TAIL_BYTES - 8192..][..4].copy_from_slice(b"\xfc\x4e\x2b\xa9");
        tail[TAIL_BYTES - 4096..][..8].copy_from_slice(b"PALISADE");
        let named: Vec<String> = contents(&head, &tail, SIZE)
            .iter()
            .map(Content::to_string)
            .collect();
        assert_eq!(
            named,
            [
                "a Palisade superblock",
                "a member of a software RAID",
                "a partition table (gpt)",
                "a file system (ext2/3/4)",
                "a file system (fat)",
            ]
        );
        assert_eq!(content(&head, &tail, SIZE), contents(&head, &tail, SIZE)[0]);
        assert_eq!(contents(&[0; 4096], &[0; 4096], SIZE), []);
    }

    #[test]
    fn our_own_superblock_is_known_at_either_end() {
        let ours = |head, tail| Content::Palisade { head, tail };
        assert_eq!(
            with(&[(0, b"PALISADE"), (SIZE - 4096, b"PALISADE")]),
            ours(true, true)
        );
        assert_eq!(with(&[(0, b"PALISADE")]), ours(true, false));
        assert_eq!(with(&[(SIZE - 4096, b"PALISADE")]), ours(false, true));
        // Any copy that is left: the second superblock, an extent table, those of a tail that begins earlier.
        assert_eq!(with(&[(64 << 10, b"PALISADE")]), ours(true, false));
        assert_eq!(with(&[(256 << 10, b"PALISADE")]), ours(true, false));
        assert_eq!(with(&[(SIZE - (2 << 20), b"PALISADE")]), ours(false, true));
        assert_eq!(with(&[(SIZE - (2 << 20) - 512, b"PALISADE")]), ours(false, true));
        assert_eq!(with(&[(513, b"PALISADE")]), Content::Unknown);
    }

    #[test]
    fn members_of_other_layers_are_known() {
        for (at, mark) in [
            (0, b"LUKS\xba\xbe"),
            (0x4000, b"SKUL\xba\xbe"),
            (4 << 20, b"SKUL\xba\xbe"),
        ] {
            assert_eq!(with(&[(at, mark)]), Content::Luks, "at {at}");
        }
        assert_eq!(with(&[(512, b"LABELONE"), (536, b"LVM2 001")]), Content::Lvm);
        for at in [0, 4096, SIZE - 8192, SIZE - 65536] {
            assert_eq!(with(&[(at, b"\xfc\x4e\x2b\xa9")]), Content::Md, "at {at}");
        }
        for at in [131_072, 200 * 1024, 400 * 1024, SIZE - 1024] {
            assert_eq!(with(&[(at, b"\x0c\xb1\xba\0\0\0\0\0")]), Content::Zfs, "at {at}");
        }
        assert_eq!(with(&[(4086, b"SWAPSPACE2")]), Content::Swap);
    }

    #[test]
    fn partition_tables_are_known_at_either_end() {
        for at in [512, 4096, SIZE - 512, SIZE - 4096] {
            assert_eq!(
                with(&[(at, b"EFI PART")]),
                Content::PartitionTable { kind: "gpt" },
                "at {at}"
            );
        }
        let mbr: &[(u64, &[u8])] = &[(446, b"\x80"), (450, b"\x83"), (510, b"\x55\xaa")];
        assert_eq!(with(mbr), Content::PartitionTable { kind: "mbr" });
        assert_eq!(
            with(&[(510, b"\x55\xaa")]),
            Content::Unknown,
            "no partition in it"
        );
        let fat: &[(u64, &[u8])] = &[(82, b"FAT32   "), (446, b"\0\0\0\0\x0c"), (510, b"\x55\xaa")];
        assert_eq!(with(fat), Content::Filesystem { kind: "fat" });
    }

    #[test]
    fn short_disks_of_any_bytes_do_no_harm() {
        for length in [0, 1, 511, 512, 4095, 4096, 4097, 70_000] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let expected = if length < 2 {
                Content::Blank
            } else {
                Content::Unknown
            };
            assert_eq!(content(&bytes, &bytes, length as u64), expected);
        }
    }
}
