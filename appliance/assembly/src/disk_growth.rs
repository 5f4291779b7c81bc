//! A disk that is to grow: what is asked for is weighed, and its file made longer.

use crate::findings::media;
use crate::problem;
use crate::shared::Shared;
use palisade_api::size::human;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Cluster, Command, Disk, Medium};
use palisade_sys::Opened;
use palisade_sys::device::Look;
use palisade_words::{Name, SECTOR_BYTES, Sectors};
use std::collections::BTreeSet;
use std::io;

/// How long the medium of a disk is now.
pub fn size(name: &Name, opened: &Opened) -> Result<Sectors, Problem> {
    let unread = |error| problem::of_reading(format_args!("the size of disk {name}"), error);
    opened.refresh_size().map_err(unread)
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
    refuse_unlinked(name, opened)?;
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

/// Nothing more is put into a file that has been deleted: it is gone with its next closing, and so would be what a guest
/// writes there meanwhile, believing that its disk has become larger.
///
/// # Errors
/// That it has been deleted. What does not let itself be looked at is refused elsewhere.
pub fn refuse_unlinked(name: &Name, opened: &Opened) -> Result<(), Problem> {
    refuse_if_unlinked(name, opened, opened.look().ok().flatten().as_ref())
}

/// The same by a look that was taken already.
fn refuse_if_unlinked(name: &Name, opened: &Opened, look: Option<&Look>) -> Result<(), Problem> {
    let Some(message) = look.and_then(|look| media::unlinked(name, opened.path(), look)) else {
        return Ok(());
    };
    let remedy = format!(
        "save it first: `palisade health` tells how, at disk_unlinked of disk {name}; then ask again. Nothing has been changed"
    );
    Err(Problem::new(
        ProblemKind::Conflict,
        "disk_unlinked",
        message,
        remedy,
    ))
}

/// Refuses a new volume, or more of one, on a disk whose file has been deleted, wherever the cluster would put it: by what the
/// look at it each second has seen, since a file system that does not answer would hold whoever looks now.
///
/// # Errors
/// That the file of a disk has been deleted. What the cluster would refuse, it refuses by itself.
pub fn refuse_more_on_unlinked(shared: &Shared, command: &Command, volume: &Name) -> Result<(), Problem> {
    for disk in &disks_given(&shared.cluster(), command, volume) {
        let seen = shared.seen();
        if let Some(open) = seen.disks.get(disk) {
            refuse_if_unlinked(disk, &open.opened, open.sight.look.as_ref())?;
        }
    }
    Ok(())
}

/// The disks that a volume would lie on, if a command makes it or changes it.
fn disks_given(before: &Cluster, command: &Command, volume: &Name) -> BTreeSet<Name> {
    let Ok((after, _)) = before.apply(command) else {
        return BTreeSet::new();
    };
    let there = after.volumes.get(volume);
    // The request of before, asked again, puts nothing anywhere.
    let changed = there.filter(|_| there != before.volumes.get(volume));
    let extents = changed.into_iter().flat_map(|volume| volume.all_extents());
    extents.map(|extent| extent.disk.clone()).collect()
}

/// A file that somebody has cut off is not made longer: guests, who are told of errors there now, would read zeros.
fn refuse_shrunk(name: &Name, path: &str, agreed: u64, opened: &Opened) -> Result<(), Problem> {
    let there = size(name, opened)?;
    if there.bytes() >= agreed {
        return refuse_cut(name, opened);
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

/// Nor is one that was cut off and is as long as before: an operator is to know first what was lost.
fn refuse_cut(name: &Name, opened: &Opened) -> Result<(), Problem> {
    if opened.cut().is_none() {
        return Ok(());
    }
    let message =
        format!("disk {name} was cut off by somebody and made as long as before, and what lay there is lost");
    let remedy = format!(
        "see `palisade health`, and go on with what is there (palisade disk confirm {name} --yes); then ask again"
    );
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
        let remedy = match error.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
                "ask for less: neither room nor holes help, as the file system takes no file of that length, or the daemon's \
                 limit on files does not (`prlimit --fsize`); or add another disk"
            }
            _ => "make room on its file system, or ask for less",
        };
        Problem::new(ProblemKind::NoSpace, "disk_not_grown", message, remedy)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use palisade_model::{MediumRecord, Usage};
    use palisade_sys::device::{DeviceMedium, DeviceSpec};
    use palisade_words::{Generation, Uuid};
    use std::path::{Path, PathBuf};

    /// A whole disk of 100 sectors.
    pub(crate) fn disk(medium: Medium) -> Disk {
        Disk {
            uuid: Uuid(1),
            node: Name::new("n1").unwrap(),
            medium,
            other_paths: Default::default(),
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
            held: None,
            unknown_past: false,
            first_superblock: Default::default(),
            taken_at: None,
            history: Default::default(),
        }
    }

    fn code(result: Result<(), Problem>) -> String {
        result.unwrap_err().code.into_owned()
    }

    fn open(medium: DeviceMedium) -> Opened {
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
        let opened = open(DeviceMedium::File {
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

    #[test]
    fn a_file_that_has_been_deleted_is_not_made_longer() {
        let folder = tempfile::tempdir().unwrap();
        let (path, opened, file) = file(folder.path());
        let name = Name::new("d1").unwrap();
        refuse_unlinked(&name, &opened).unwrap();
        let before = opened.look().unwrap();
        std::fs::remove_file(&path).unwrap();
        // By a look, as old as that is; without any, nothing is known against it.
        for known in [None, before] {
            refuse_if_unlinked(&name, &opened, known.as_ref()).unwrap();
        }
        let since = opened.look().unwrap();
        let refused = refuse_if_unlinked(&name, &opened, since.as_ref());
        assert_eq!(code(refused), "disk_unlinked");
        for bytes in [100 * 512, 200 * 512] {
            let refused = enlarge(&name, &file, bytes, &opened).unwrap_err();
            assert_eq!((refused.status(), &*refused.code), (409, "disk_unlinked"));
            assert!(refused.message.contains("has been deleted"), "{refused:?}");
        }
        assert_eq!(opened.refresh_size().unwrap().0, 100);
    }

    #[test]
    fn the_disks_that_a_volume_would_get_are_known_before_it_is_agreed_on() {
        use palisade_model::{AddDisk, CreateVolume, GrowVolume, InitCluster};
        let [d1, d2, v1, node] = ["d1", "d2", "v1", "n1"].map(|text| Name::new(text).unwrap());
        let add = |name: &Name, uuid, sectors| {
            Command::AddDisk(AddDisk {
                name: name.clone(),
                uuid: Uuid(uuid),
                node: node.clone(),
                medium: Medium::Null { bytes: sectors * 512 },
                record: MediumRecord::default(),
                usage: Usage::Whole,
                block_bytes: 512,
                sectors,
                data_start: 0,
                data_end: sectors,
                superblock_pending: false,
            })
        };
        let create = |disk: Option<&Name>| {
            Command::CreateVolume(CreateVolume {
                name: v1.clone(),
                uuid: Uuid(9),
                node: node.clone(),
                disk: disk.cloned(),
                sectors: Some(100),
                block_bytes: None,
                clear: None,
                clears: true,
                clears_reused: true,
                clears_unknown_past: true,
            })
        };
        let init = Command::InitCluster(InitCluster {
            id: Uuid(1),
            node: node.clone(),
            node_uuid: Uuid(2),
        });
        let after = |cluster: &Cluster, command: &Command| cluster.apply(command).unwrap().0;
        let cluster = [init, add(&d1, 3, 100), add(&d2, 4, 200)]
            .iter()
            .fold(Cluster::empty(), |cluster, command| after(&cluster, command));
        let given = |cluster: &Cluster, command: &Command| Vec::from_iter(disks_given(cluster, command, &v1));
        assert_eq!(given(&cluster, &create(Some(&d2))), std::slice::from_ref(&d2));
        assert!(
            given(&cluster, &create(Some(&v1))).is_empty(),
            "refused by the cluster"
        );
        let with = after(&cluster, &create(Some(&d2)));
        assert!(given(&with, &create(Some(&d2))).is_empty(), "it is there already");
        let grow = Command::GrowVolume(GrowVolume {
            name: v1.clone(),
            sectors: 150,
            disk: None,
            expected: None,
            clears: true,
        });
        assert_eq!(given(&with, &grow), std::slice::from_ref(&d2));
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
        let opened = open(DeviceMedium::Null { bytes: 51200 });
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
