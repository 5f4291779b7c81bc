//! What is recorded of a medium when a disk is added, so that another one under its path is known for what it is.

use palisade_words::Uuid;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes of a recorded fingerprint.
pub const FINGERPRINT_BYTES_MAX: usize = 2048;

/// Most superblocks of its guest that are remembered of a whole disk: there are places for those of a few.
pub const NESTED_MAX: usize = 64;

/// What is recorded of a medium beside its WWID. Empty for one that was added before anything was recorded, and for
/// memory.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MediumRecord {
    /// The maker's serial number of a block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Which part of the block device it is; `None` for the whole of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Logical block of the block device itself, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
    /// Who a file is, where its file system keeps that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileRecord>,
    /// The file that a loop device stands on, of a whole disk without any identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing: Option<BackingRecord>,
    /// What the content of a whole disk without any identity looked like, in the words of who looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Permanent ids of disks whose superblocks lie on a whole disk and are its guest's own, as an operator has said. At most
    /// [`NESTED_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<Uuid>,
    /// The file was made with holes: it takes its space as it is written to, and grows in the same way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
}

/// A part of a block device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// Where it begins on the block device, in sectors.
    pub start: Option<u64>,
}

/// Who a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FileRecord {
    /// Number of its inode.
    pub inode: u64,
    /// The inode's generation: it tells a file from a later one of the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Id of the file system, where that is written on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<u64>,
}

/// Which part of which file a loop device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BackingRecord {
    /// Who the file is.
    pub file: FileRecord,
    /// Where the device begins in it, in bytes.
    #[serde(default)]
    pub offset: u64,
}

/// Why a medium is not the one that was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherMedium {
    /// What differs.
    pub what: &'static str,
    /// As recorded; `None`: the recorded one had none.
    pub recorded: Option<String>,
    /// As found.
    pub found: Option<String>,
}

impl fmt::Display for OtherMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what;
        match (&self.recorded, &self.found) {
            (Some(recorded), Some(found)) => {
                write!(f, "its {what} is {found}, that of the disk is {recorded}")
            }
            (Some(recorded), None) => write!(f, "it has no {what}, that of the disk is {recorded}"),
            (None, Some(found)) => write!(f, "its {what} is {found}, and the disk has none"),
            (None, None) => write!(f, "it has no {what}"),
        }
    }
}

impl std::error::Error for OtherMedium {}

impl MediumRecord {
    /// Whether anything is recorded by which a medium is known.
    pub fn is_empty(&self) -> bool {
        *self
            == MediumRecord {
                sparse: self.sparse,
                nested: self.nested.clone(),
                ..MediumRecord::default()
            }
    }

    /// Whether a medium of which `found` and `found_wwid` were read is the one that was recorded, with `wwid`. What
    /// was not recorded is not compared, as a disk added by an earlier version has nothing but a WWID; but one that had
    /// no identity when it was added has none later.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check(
        &self,
        wwid: Option<&str>,
        found: &MediumRecord,
        found_wwid: Option<&str>,
    ) -> Result<(), OtherMedium> {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let other = |what, recorded, found| {
            Err(OtherMedium {
                what,
                recorded,
                found,
            })
        };
        // Earlier versions recorded the WWID of the whole device for a part of it.
        let of_device = |wwid: &str| match (self.partition, found.partition) {
            (None, Some(part)) => found_wwid == Some(&part_wwid(wwid, part.number)),
            _ => false,
        };
        let is_block = found.block_bytes.is_some();
        match wwid {
            Some(wwid) if found_wwid != Some(wwid) && !of_device(wwid) => {
                return other("WWID", text(Some(wwid)), text(found_wwid));
            }
            None if !self.is_empty() && is_block && found_wwid.is_some() => {
                return other("WWID", None, text(found_wwid));
            }
            _ => {}
        }
        // Some devices tell their serial number only to those with rights that were not there before, so one that
        // appears beside the right WWID is none the worse for it.
        let serial_appeared =
            self.serial.is_none() && (wwid.is_some() || self.is_empty() || found.serial.is_none());
        if self.serial != found.serial && !serial_appeared {
            return other("serial number", self.serial.clone(), found.serial.clone());
        }
        if let (Some(recorded), at) = (self.partition, found.partition)
            && at.is_none_or(|at| at.number != recorded.number || at.start != recorded.start)
        {
            return other(
                "partition",
                Some(recorded.to_string()),
                at.map(|at| at.to_string()),
            );
        }
        if let (Some(recorded), Some(at)) = (self.block_bytes, found.block_bytes)
            && recorded != at
        {
            let bytes = |bytes| Some(format!("{bytes} bytes"));
            return other("logical block", bytes(recorded), bytes(at));
        }
        if let Some(recorded) = self.backing
            && !found.backing.is_some_and(|at| recorded.is_same(&at))
        {
            let found = found.backing.map(|at| at.to_string());
            return other("backing file", Some(recorded.to_string()), found);
        }
        match (self.file, found.file) {
            (Some(recorded), Some(at)) if !recorded.is_same(&at) => {
                other("inode", Some(recorded.to_string()), Some(at.to_string()))
            }
            (Some(recorded), None) => other("inode", Some(recorded.to_string()), None),
            _ => Ok(()),
        }
    }
}

impl FileRecord {
    /// What one side does not know is not compared.
    fn is_same(&self, other: &FileRecord) -> bool {
        fn same<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        self.inode == other.inode
            && same(self.generation, other.generation)
            && same(self.filesystem, other.filesystem)
    }
}

impl BackingRecord {
    fn is_same(&self, other: &BackingRecord) -> bool {
        self.file.is_same(&other.file) && self.offset == other.offset
    }
}

impl fmt::Display for BackingRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode {}", self.file)?;
        match self.offset {
            0 => Ok(()),
            offset => write!(f, " from byte {offset} on"),
        }
    }
}

impl fmt::Display for FileRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inode)?;
        if let Some(generation) = self.generation {
            write!(f, " (generation {generation})")?;
        }
        match self.filesystem {
            Some(filesystem) => write!(f, " of file system {filesystem:016x}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start {
            Some(start) => write!(f, "{} at sector {start}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

/// The WWID of a part of a block device, as udev names it below /dev/disk/by-id.
pub fn part_wwid(wwid: &str, number: u32) -> String {
    format!("{wwid}-part{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(serial: Option<&str>, partition: Option<(u32, u64)>) -> MediumRecord {
        MediumRecord {
            serial: serial.map(str::to_owned),
            partition: partition.map(|(number, start)| Partition {
                number,
                start: Some(start),
            }),
            block_bytes: Some(512),
            ..MediumRecord::default()
        }
    }

    fn differs(
        recorded: (&MediumRecord, Option<&str>),
        found: (&MediumRecord, Option<&str>),
    ) -> Option<&'static str> {
        recorded
            .0
            .check(recorded.1, found.0, found.1)
            .err()
            .map(|other| other.what)
    }

    #[test]
    fn a_wwid_is_the_same_or_it_is_another_medium() {
        let (disk, other) = (block(Some("S1"), None), block(Some("S2"), None));
        assert_eq!(differs((&disk, Some("eui.1")), (&disk, Some("eui.1"))), None);
        assert_eq!(
            differs((&disk, Some("eui.1")), (&disk, Some("eui.2"))),
            Some("WWID")
        );
        assert_eq!(differs((&disk, Some("eui.1")), (&disk, None)), Some("WWID"));
        // Makers that give all their disks one WWID.
        assert_eq!(
            differs((&disk, Some("eui.1")), (&other, Some("eui.1"))),
            Some("serial number")
        );
        let silent = block(None, None);
        assert_eq!(differs((&silent, Some("eui.1")), (&disk, Some("eui.1"))), None);
        assert_eq!(
            differs((&disk, Some("eui.1")), (&silent, Some("eui.1"))),
            Some("serial number")
        );
    }

    #[test]
    fn a_medium_without_identity_does_not_become_one_with() {
        let (nameless, named) = (block(None, None), block(Some("S1"), None));
        assert_eq!(differs((&nameless, None), (&nameless, None)), None);
        assert_eq!(
            differs((&nameless, None), (&nameless, Some("eui.1"))),
            Some("WWID")
        );
        assert_eq!(differs((&nameless, None), (&named, None)), Some("serial number"));
        let reformatted = MediumRecord {
            block_bytes: Some(4096),
            ..nameless.clone()
        };
        assert_eq!(
            differs((&nameless, None), (&reformatted, None)),
            Some("logical block")
        );
    }

    #[test]
    fn what_an_earlier_version_recorded_goes_on() {
        let (nothing, found) = (MediumRecord::default(), block(Some("S1"), None));
        assert_eq!(differs((&nothing, None), (&found, Some("eui.1"))), None);
        assert_eq!(differs((&nothing, Some("eui.1")), (&found, Some("eui.1"))), None);
        assert_eq!(
            differs((&nothing, Some("eui.2")), (&found, Some("eui.1"))),
            Some("WWID")
        );
        // It took the WWID of the whole device for a part of it.
        let part = block(None, Some((1, 2048)));
        assert_eq!(
            differs((&nothing, Some("eui.1")), (&part, Some("eui.1-part1"))),
            None
        );
        assert_eq!(
            differs((&nothing, Some("eui.1")), (&part, Some("eui.2-part1"))),
            Some("WWID")
        );
        assert_eq!(serde_json::to_string(&nothing).unwrap(), "{}");
        assert_eq!(serde_json::from_str::<MediumRecord>("{}").unwrap(), nothing);
    }

    /// Each part of a record against what is found, one at a time.
    #[test]
    fn what_is_compared_is_what_was_recorded() {
        let nothing = MediumRecord::default();
        let sparse = MediumRecord {
            sparse: true,
            ..nothing.clone()
        };
        let file = MediumRecord {
            file: Some(FileRecord {
                inode: 7,
                ..FileRecord::default()
            }),
            ..nothing.clone()
        };
        let print = MediumRecord {
            fingerprint: Some("x".into()),
            ..nothing.clone()
        };
        let blockless = MediumRecord {
            block_bytes: None,
            ..block(Some("S1"), None)
        };
        let part = |number, start| MediumRecord {
            partition: Some(Partition { number, start }),
            ..block(None, None)
        };
        assert!(nothing.is_empty() && sparse.is_empty());
        for known in [&file, &print, &blockless, &block(None, None), &part(1, None)] {
            assert!(!known.is_empty());
        }
        let named = block(Some("S1"), None);
        let (one, two) = (Some("e"), Some("f"));
        let cases = [
            // Nothing was recorded, so anything is it, with a WWID or without.
            (&nothing, None, &named, one, None),
            (&sparse, None, &named, one, None),
            (&nothing, None, &file, None, None),
            // Something was, and no WWID: what has one is another. A file's is none of its own.
            (&print, None, &named, one, Some("WWID")),
            (&named, None, &named, one, Some("WWID")),
            (&blockless, None, &blockless, one, None),
            (&named, one, &named, None, Some("WWID")),
            (&named, one, &named, two, Some("WWID")),
            // The WWID of the device for a part of it: of this number, and only where no part was recorded.
            (&nothing, one, &part(1, None), Some("e-part1"), None),
            (&nothing, one, &part(2, None), Some("e-part1"), Some("WWID")),
            (&part(1, None), one, &part(1, None), Some("e-part1"), Some("WWID")),
            (&nothing, one, &named, Some("e-part1"), Some("WWID")),
            // A serial number that appears is one more beside the right WWID, and another's without.
            (&block(None, None), one, &named, one, None),
            (&block(None, None), None, &named, None, Some("serial number")),
            (&named, None, &block(None, None), None, Some("serial number")),
            (&named, one, &block(Some("S2"), None), one, Some("serial number")),
            // A part has its number and its beginning; none was recorded of what is no part.
            (&part(1, Some(8)), None, &part(1, Some(8)), None, None),
            (
                &part(1, Some(8)),
                None,
                &part(2, Some(8)),
                None,
                Some("partition"),
            ),
            (
                &part(1, Some(8)),
                None,
                &part(1, Some(9)),
                None,
                Some("partition"),
            ),
            (&part(1, Some(8)), None, &part(1, None), None, Some("partition")),
            (&block(None, None), None, &part(1, None), None, None),
            (&named, None, &blockless, None, None),
            (&blockless, None, &named, None, None),
            (&nothing, None, &file, None, None),
            (&file, None, &file, None, None),
            (&file, None, &nothing, None, Some("inode")),
        ];
        for (number, (recorded, wwid, found, found_wwid, expected)) in cases.into_iter().enumerate() {
            assert_eq!(
                differs((recorded, wwid), (found, found_wwid)),
                expected,
                "case {number}"
            );
        }
    }

    #[test]
    fn a_file_is_told_by_its_number_and_by_what_both_sides_know_beside_it() {
        let file = |inode, generation, filesystem| FileRecord {
            inode,
            generation,
            filesystem,
        };
        let recorded = file(7, Some(1), Some(9));
        for (found, same) in [
            (file(7, Some(1), Some(9)), true),
            (file(8, Some(1), Some(9)), false),
            (file(7, None, None), true),
            (file(7, Some(2), Some(9)), false),
            (file(7, Some(1), Some(8)), false),
            (file(7, None, Some(8)), false),
            (file(7, Some(2), None), false),
        ] {
            assert_eq!(
                (recorded.is_same(&found), found.is_same(&recorded)),
                (same, same),
                "{found}"
            );
        }
    }

    #[test]
    fn a_loop_device_is_the_file_that_it_stands_on() {
        let over = |inode, generation, offset| MediumRecord {
            backing: Some(BackingRecord {
                file: FileRecord {
                    inode,
                    generation,
                    filesystem: None,
                },
                offset,
            }),
            ..block(None, None)
        };
        let (recorded, plain) = (over(7, Some(1), 0), block(None, None));
        for (found, expected) in [
            (over(7, Some(1), 0), None),
            (over(7, None, 0), None),
            (over(8, Some(1), 0), Some("backing file")),
            (over(7, Some(2), 0), Some("backing file")),
            (over(7, Some(1), 512), Some("backing file")),
            (plain.clone(), Some("backing file")),
        ] {
            assert_eq!(differs((&recorded, None), (&found, None)), expected, "{found:?}");
        }
        // What an earlier version has recorded goes on.
        assert_eq!(differs((&plain, None), (&recorded, None)), None);
        assert!(!serde_json::to_string(&plain).unwrap().contains("backing"));
        let text = serde_json::to_string(&recorded).unwrap();
        assert_eq!(serde_json::from_str::<MediumRecord>(&text).unwrap(), recorded);
        let refused = recorded.check(None, &over(8, None, 512), None).unwrap_err();
        let words =
            "its backing file is inode 8 from byte 512 on, that of the disk is inode 7 (generation 1)";
        assert_eq!(refused.to_string(), words);
    }

    #[test]
    fn a_partition_keeps_its_place() {
        let at = |number, start| block(None, Some((number, start)));
        assert_eq!(
            differs((&at(1, 2048), Some("e-part1")), (&at(1, 2048), Some("e-part1"))),
            None
        );
        assert_eq!(
            differs((&at(1, 2048), None), (&at(1, 4096), None)),
            Some("partition")
        );
        assert_eq!(
            differs((&at(1, 2048), None), (&block(None, None), None)),
            Some("partition")
        );
    }

    #[test]
    fn a_file_is_its_inode_as_far_as_both_sides_know() {
        let file = |inode, generation, filesystem| MediumRecord {
            file: Some(FileRecord {
                inode,
                generation,
                filesystem,
            }),
            ..MediumRecord::default()
        };
        let recorded = file(7, Some(1), Some(9));
        assert_eq!(differs((&recorded, None), (&file(7, Some(1), None), None)), None);
        for other in [
            file(8, Some(1), Some(9)),
            file(7, Some(2), Some(9)),
            file(7, Some(1), Some(8)),
        ] {
            assert_eq!(differs((&recorded, None), (&other, None)), Some("inode"));
        }
        assert_eq!(
            differs((&recorded, None), (&MediumRecord::default(), None)),
            Some("inode")
        );
        let refused = recorded.check(None, &file(8, None, None), None).unwrap_err();
        let words = "its inode is 8, that of the disk is 7 (generation 1) of file system 0000000000000009";
        assert_eq!(refused.to_string(), words);
    }
}
