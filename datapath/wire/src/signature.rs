//! What else may lie on a disk: the marks by which file systems, partition tables and volume managers are known.
//! A disk that carries one belongs to somebody.
//!
//! ```text
//!   offset      mark                    of
//!        0      LUKS\xba\xbe            LUKS                     cryptsetup, LUKS1/LUKS2 specification
//!        0      XFSB                    XFS
//!        0      QFI\xfb                 qcow2 image
//!        0      KDMV                    VMDK image
//!        0      hsqs                    squashfs
//!        0      palisade state backup   backup of a cluster database (`palisade state backup`)
//!        0      redb 1a 0a a9 0d 0a     database of redb, as a cluster database is
//!        3      NTFS____ / EXFAT___     NTFS, exFAT
//!       54/82   FAT1, FAT32             FAT
//!      510      55 aa                   partition table (MBR), with a partition entry in use
//!      512/4096 EFI PART                partition table (GPT), by size of the logical block
//!   512*(0..4)  LABELONE                LVM physical volume
//!     1024      10 20 f5 f2             F2FS
//!     1080      53 ef                   ext2, ext3, ext4
//!     4086      SWAPSPACE2, SWAP-SPACE  swap space
//!     4096 / 0  fc 4e 2b a9             member of a Linux software RAID (1.2 / 1.1)
//!     4096      c6 85 73 f6 4e 1a 45 ca bcache (at 4096 + 24)
//!    32769      CD001                   ISO 9660
//!    65600      _BHRfS_M                btrfs
//! ```

use crate::sector::claims;

/// Bytes from the start of a disk that [`recognise`] wants to see.
pub const SIGNATURE_BYTES: usize = 128 << 10;

/// Something known that a disk carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature {
    /// Its name for people, to follow "carries".
    pub name: &'static str,
    /// Where the mark lies, in bytes.
    pub offset: usize,
}

type Mark = (usize, &'static [u8], &'static str);

const MARKS: &[Mark] = &[
    (0, b"LUKS\xba\xbe", "an encrypted container (LUKS)"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"QFI\xfb", "a qcow2 image"),
    (0, b"KDMV", "a VMDK image"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"\xfc\x4e\x2b\xa9", "a member of a software RAID (md)"),
    (0, b"palisade state backup", "a backup of a cluster database"),
    (
        0,
        b"redb\x1a\x0a\xa9\x0d\x0a",
        "a redb database, as a cluster database is",
    ),
    (3, b"NTFS    ", "an NTFS file system"),
    (3, b"EXFAT   ", "an exFAT file system"),
    (54, b"FAT1", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (512, b"EFI PART", "a partition table (GPT)"),
    (4096, b"EFI PART", "a partition table (GPT)"),
    (0, b"LABELONE", "an LVM physical volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (1024, b"LABELONE", "an LVM physical volume"),
    (1536, b"LABELONE", "an LVM physical volume"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4086, b"SWAP-SPACE", "swap space"),
    (4096, b"\xfc\x4e\x2b\xa9", "a member of a software RAID (md)"),
    (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a bcache device"),
    (32_769, b"CD001", "an ISO 9660 file system"),
    (65_600, b"_BHRfS_M", "a btrfs file system"),
];

/// Everything known that the first bytes of a disk show, in the order of offsets. Our own superblock counts; use
/// [`crate::decode`] to learn whose it is.
pub fn recognise(head: &[u8]) -> Vec<Signature> {
    let mut found: Vec<Signature> = Vec::new();
    if claims(head) {
        found.push(Signature {
            name: "a Palisade superblock",
            offset: 0,
        });
    }
    let present = |(offset, mark, _): &&Mark| head.get(*offset..).is_some_and(|rest| rest.starts_with(mark));
    found.extend(
        MARKS
            .iter()
            .filter(present)
            .map(|&(offset, _, name)| Signature { name, offset }),
    );
    let file_system =
        |signature: &Signature| signature.name.contains("FAT") || signature.name.contains("NTFS");
    // A FAT or NTFS boot sector ends with the same two bytes as a partition table.
    if has_partitions(head) && !found.iter().any(file_system) {
        found.push(Signature {
            name: "a partition table (MBR)",
            offset: 510,
        });
    }
    found.sort_by_key(|signature| signature.offset);
    found
}

/// An MBR counts when one of its four entries (16 bytes from 446, type at their fifth byte) is in use: a boot loader
/// alone carries the two bytes too.
fn has_partitions(head: &[u8]) -> bool {
    let ends = head.get(510..512) == Some(&[0x55, 0xaa]);
    let entries = head.get(446..510).unwrap_or_default();
    let mut kinds = entries.chunks(16).filter_map(|entry| entry.get(4));
    ends && kinds.any(|kind| *kind != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(head: &[u8]) -> Vec<&'static str> {
        recognise(head).iter().map(|signature| signature.name).collect()
    }

    #[test]
    fn each_mark_is_found_where_it_belongs_and_only_there() {
        assert!(recognise(&[0; SIGNATURE_BYTES]).is_empty());
        assert!(recognise(&[]).is_empty());
        for (offset, mark, name) in MARKS {
            let mut head = vec![0; SIGNATURE_BYTES];
            head[*offset..offset + mark.len()].copy_from_slice(mark);
            assert_eq!(
                recognise(&head),
                [Signature {
                    name,
                    offset: *offset
                }]
            );
            head.insert(0, 0);
            assert!(
                names(&head).is_empty() || *name == "an LVM physical volume",
                "{name}"
            );
            assert!(recognise(&head[..*offset]).is_empty());
        }
    }

    #[test]
    fn all_marks_are_told_in_the_order_in_which_they_lie_and_ours_too() {
        let mut head = vec![0; SIGNATURE_BYTES];
        head[4096..4104].copy_from_slice(b"EFI PART");
        head[1536..1544].copy_from_slice(b"LABELONE");
        (head[450], head[510], head[511]) = (0xee, 0x55, 0xaa);
        head[..8].copy_from_slice(&crate::sector::MAGIC);
        let found: Vec<_> = recognise(&head)
            .iter()
            .map(|signature| (signature.offset, signature.name))
            .collect();
        let all = [
            (0, "a Palisade superblock"),
            (510, "a partition table (MBR)"),
            (1536, "an LVM physical volume"),
            (4096, "a partition table (GPT)"),
        ];
        assert_eq!(found, all);
        head[0] ^= 1;
        assert_eq!(recognise(&head).len(), 3);
    }

    #[test]
    fn a_partition_table_needs_a_partition() {
        let mut head = vec![0; 4096];
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert!(names(&head).is_empty());
        head[446 + 16 + 4] = 0x83;
        assert_eq!(names(&head), ["a partition table (MBR)"]);
        head[82..87].copy_from_slice(b"FAT32");
        assert_eq!(names(&head), ["a FAT file system"]);
    }
}
