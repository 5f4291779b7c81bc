//! A disk that is to grow: what is asked for is weighed, and its file made longer.

use palisade_api::size::human;
use palisade_api::{Problem, ProblemKind};
use palisade_block::{SECTOR_BYTES, Sectors};
use palisade_model::{Disk, Medium, Name};
use palisade_sys::Opened;

/// How long the medium of a disk is now.
pub fn size(name: &Name, opened: &Opened) -> Result<Sectors, Problem> {
    opened.refresh_size().map_err(|error| {
        let message = format!("the size of disk {name} cannot be read: {error}");
        Problem::new(
            ProblemKind::Internal,
            "disk_not_readable",
            message,
            "look into the kernel log",
        )
    })
}

/// Sizes come in whole logical blocks.
pub fn whole_blocks(bytes: u64, block_bytes: u32) -> Result<(), Problem> {
    let block = u64::from(block_bytes.max(1));
    if bytes > 0 && bytes.is_multiple_of(block) {
        return Ok(());
    }
    let message = format!("{bytes} bytes are not a whole number of {block}-byte blocks");
    Err(Problem::new(
        ProblemKind::Invalid,
        "invalid_argument",
        message,
        "round the size",
    )
    .about("bytes"))
}

/// Makes the medium of a disk larger, where that is ours to do, or refuses. Nothing is touched when it is refused.
pub fn enlarge(name: &Name, disk: &Disk, bytes: u64, opened: &Opened) -> Result<(), Problem> {
    let refused = |code: &'static str, message: String, remedy: &str| {
        Err(Problem::new(ProblemKind::Invalid, code, message, remedy).about("bytes"))
    };
    let present = disk.sectors * SECTOR_BYTES;
    if bytes < present {
        let message = format!(
            "disk {name} has {present} bytes ({}) and cannot shrink to {bytes} ({})",
            human(present),
            human(bytes)
        );
        return refused("cannot_shrink", message, "ask for a larger size");
    }
    whole_blocks(bytes, disk.block_bytes)?;
    match &disk.medium {
        _ if bytes == present => Ok(()),
        Medium::File { path, .. } => {
            refuse_shrunk(name, path, present, opened)?;
            lengthen(path, bytes, disk.record.sparse, opened)
        }
        Medium::Block { path, .. } => {
            let message = format!("{path} is a block device: its size is not ours to change");
            refused(
                "disk_cannot_grow",
                message,
                "make it larger where it comes from, then ask again without a size",
            )
        }
        Medium::Null { .. } | Medium::Memory { .. } => {
            let message = format!("disk {name} was made with its size and keeps it");
            refused(
                "disk_cannot_grow",
                message,
                "add another disk of the size you need",
            )
        }
    }
}

/// A file that somebody has cut off is not made longer: guests, who are told of errors there now, would read zeros.
fn refuse_shrunk(name: &Name, path: &str, agreed: u64, opened: &Opened) -> Result<(), Problem> {
    let there = size(name, opened)?;
    if there.bytes() >= agreed {
        return Ok(());
    }
    let message = format!(
        "{path} has been made shorter by somebody: {} are there where disk {name} has {}, and what was behind that would read \
         as zeros if the file were made longer",
        human(there.bytes()),
        human(agreed)
    );
    let remedy =
        "end its guests, bring the missing part back from a backup, restart the daemon, and ask again";
    Err(Problem::new(
        ProblemKind::Conflict,
        "disk_shrunk",
        message,
        remedy,
    ))
}

/// Gives a file its new length, unless it has it already: a growth that was made and not agreed on is made again. It
/// takes its space as it did when it was made: a file without holes gets none. It is the open file that grows, whatever
/// its path leads to by now.
fn lengthen(path: &str, bytes: u64, sparse: bool, opened: &Opened) -> Result<(), Problem> {
    opened.grow(bytes, sparse).map_err(|error| {
        let message = format!("{path} cannot be made larger, and is as long as it was: {error}");
        let remedy = "make room on its file system, or ask for less";
        Problem::new(ProblemKind::NoSpace, "disk_not_grown", message, remedy)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use palisade_model::{Generation, MediumRecord, Usage, Uuid};
    use palisade_sys::device::{DeviceSpec, Medium as Device};
    use std::path::{Path, PathBuf};

    /// A whole disk of 100 sectors.
    pub(crate) fn disk(medium: Medium) -> Disk {
        Disk {
            uuid: Uuid(1),
            node: Name::new("n1").unwrap(),
            medium,
            record: MediumRecord::default(),
            usage: Usage::Whole,
            block_bytes: 512,
            sectors: 100,
            data_start: 0,
            data_end: 100,
            extents_revision: Generation(1),
            created: Generation(1),
            revision: Generation(1),
            protected: false,
            leaving: false,
            first_superblock: Default::default(),
            history: Default::default(),
        }
    }

    fn code(result: Result<(), Problem>) -> String {
        result.unwrap_err().code.into_owned()
    }

    fn open(medium: Device) -> Opened {
        let spec = DeviceSpec {
            medium,
            block_bytes: 512,
            read_only: false,
        };
        Opened::open(&spec, std::time::Duration::ZERO).unwrap()
    }

    /// A file of 100 sectors, open, and the disk that it is.
    fn file(folder: &Path) -> (PathBuf, Opened, Disk) {
        let path = folder.join("d1");
        std::fs::write(&path, vec![7; 100 * 512]).unwrap();
        let opened = open(Device::File {
            path: path.clone(),
            create: None,
        });
        let file = disk(Medium::File {
            path: path.to_str().unwrap().into(),
            bytes: 100 * 512,
            created: true,
        });
        (path, opened, file)
    }

    #[test]
    fn a_file_is_made_longer_and_never_shorter() {
        let folder = tempfile::tempdir().unwrap();
        let (path, opened, file) = file(folder.path());
        let name = Name::new("d1").unwrap();
        let length = || std::fs::metadata(&path).unwrap().len();
        assert_eq!(code(enlarge(&name, &file, 99 * 512, &opened)), "cannot_shrink");
        assert_eq!(
            code(enlarge(&name, &file, 101 * 512 + 1, &opened)),
            "invalid_argument"
        );
        assert_eq!(length(), 100 * 512);
        enlarge(&name, &file, 100 * 512, &opened).unwrap();
        enlarge(&name, &file, 200 * 512, &opened).unwrap();
        assert_eq!(length(), 200 * 512);
        // Asked again after a crash in between, and with a smaller growth.
        enlarge(&name, &file, 150 * 512, &opened).unwrap();
        assert_eq!(length(), 200 * 512);
    }

    /// What was cut off fails; it must not come back as zeros.
    #[test]
    fn a_file_that_somebody_has_cut_off_is_not_made_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (path, opened, file) = file(folder.path());
        let name = Name::new("d1").unwrap();
        let cut = std::fs::File::options().write(true).open(&path).unwrap();
        for (there, refused) in [(99, true), (0, true), (100, false)] {
            cut.set_len(there * 512).unwrap();
            let grown = enlarge(&name, &file, 200 * 512, &opened);
            let length = std::fs::metadata(&path).unwrap().len();
            match refused {
                true => {
                    assert_eq!(code(grown), "disk_shrunk");
                    assert_eq!(length, there * 512);
                }
                false => {
                    grown.unwrap();
                    assert_eq!(length, 200 * 512);
                }
            }
        }
    }

    #[test]
    fn what_has_no_size_of_its_own_to_change_says_so() {
        let name = Name::new("d1").unwrap();
        let opened = open(Device::Null { bytes: 51200 });
        for medium in [
            Medium::Memory { bytes: 51200 },
            Medium::Null { bytes: 51200 },
            Medium::Block {
                path: "/dev/sdz".into(),
                wwid: None,
            },
        ] {
            assert_eq!(
                code(enlarge(&name, &disk(medium), 102_400, &opened)),
                "disk_cannot_grow"
            );
        }
    }
}
