//! The medium of a disk that is to be added or to grow: what the operator wants is weighed before anything is touched,
//! then the medium is opened, looked at and let go again.

use crate::hands;
use crate::problem;
use crate::shared::Shared;
use palisade_api as api;
use palisade_api::size::human;
use palisade_api::{Problem, ProblemKind};
use palisade_block::SECTOR_BYTES;
use palisade_model::{AddDisk, Cluster, Command, Disk, Medium, Name, Usage, Uuid};
use palisade_sys::device::{Medium as Device, identity, probe};
use palisade_sys::{OpenError, Opened};
use palisade_wire::Geometry;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Logical block of a disk when none is asked for and the medium is content with it.
const BLOCK_BYTES: u32 = 512;

/// Size of a medium while it is not known, for questions that do not depend on it: 1 GiB.
const PRESUMED_SECTORS: u64 = 1 << 21;

/// Gives the command that adds a disk as wished. Its medium is in order, and made if it was to be made.
pub fn command_for(
    shared: &Shared,
    name: &Name,
    wish: &api::DiskCreate,
    uuid: Uuid,
) -> Result<AddDisk, Problem> {
    let cluster = shared.cluster();
    let asked_block = wish.block_bytes.unwrap_or(BLOCK_BYTES);
    let bytes = wished_bytes(&wish.medium);
    if let Some(bytes) = bytes {
        whole_blocks(bytes, asked_block)?;
    }
    // What the cluster would refuse it refuses before a file is made or a device is opened.
    let presumed = Examined {
        medium: presumed_medium(&wish.medium),
        sectors: bytes.map_or(PRESUMED_SECTORS, |bytes| bytes / SECTOR_BYTES),
        block_bytes: asked_block,
    };
    let rehearsal = Command::AddDisk(presumed.command(shared, name, wish.usage, uuid)?);
    if let Err(refusal) = cluster.apply(&rehearsal) {
        return Err(problem::of_refusal(&refusal));
    }
    refuse_alias(&cluster, &wish.medium)?;
    refuse_vast_memory(&wish.medium)?;
    let found = examine(shared, wish, asked_block)?;
    found.command(shared, name, wish.usage, uuid)
}

/// A medium that may be taken.
struct Examined {
    medium: Medium,
    sectors: u64,
    block_bytes: u32,
}

impl Examined {
    fn command(
        self,
        shared: &Shared,
        name: &Name,
        usage: api::DiskUsage,
        uuid: Uuid,
    ) -> Result<AddDisk, Problem> {
        let Examined {
            medium,
            sectors,
            block_bytes,
        } = self;
        let (usage, data_start, data_end) = match usage {
            api::DiskUsage::Whole => (Usage::Whole, 0, sectors),
            api::DiskUsage::Pooled => {
                let geometry = Geometry::of(sectors).map_err(|error| {
                    let remedy = "give a larger disk, or add it with usage `whole`";
                    Problem::new(ProblemKind::Invalid, "disk_too_small", error.to_string(), remedy)
                })?;
                (Usage::Pooled, geometry.data_start.0, geometry.data_end.0)
            }
        };
        Ok(AddDisk {
            name: name.clone(),
            uuid,
            node: shared.name.clone(),
            medium,
            usage,
            block_bytes,
            sectors,
            data_start,
            data_end,
        })
    }
}

/// Opens a new disk's medium, looks what is on it, and lets it go again.
fn examine(shared: &Shared, wish: &api::DiskCreate, asked_block: u32) -> Result<Examined, Problem> {
    let device = match &wish.medium {
        api::Medium::Null(null) => Device::Null { bytes: null.bytes },
        // Not opened here: its memory is taken once, when it is put to use.
        api::Medium::Memory(memory) => {
            return Ok(Examined {
                medium: Medium::Memory { bytes: memory.bytes },
                sectors: memory.bytes / SECTOR_BYTES,
                block_bytes: asked_block,
            });
        }
        api::Medium::File(file) => Device::File {
            path: (&file.path).into(),
            create: file.bytes.map(|bytes| hands::create(bytes, file.sparse)),
        },
        api::Medium::Block(block) => Device::Block {
            path: (&block.path).into(),
        },
    };
    let patience = shared.settings.lock_wait;
    let opened = match hands::open_new(device.clone(), asked_block, patience) {
        // The block was our choice, not the operator's: the medium's own is as good.
        Err(OpenError::BlockTooSmall { device: own, .. }) if wish.block_bytes.is_none() => {
            hands::open_new(device, own, patience)
        }
        other => other,
    };
    let opened = opened.map_err(|error| problem::of_open(&error))?;
    refuse_other_size(wish, &opened)?;
    refuse_data(wish, &opened)?;
    let sectors = opened.sectors().0;
    let medium = match &wish.medium {
        api::Medium::File(file) => Medium::File {
            path: file.path.clone(),
            bytes: sectors * SECTOR_BYTES,
            created: opened.created(),
        },
        api::Medium::Block(block) => Medium::Block {
            path: block.path.clone(),
            wwid: identity::identity(Path::new(&block.path))
                .ok()
                .and_then(|identity| identity.wwid),
        },
        other => presumed_medium(other),
    };
    Ok(Examined {
        medium,
        sectors,
        block_bytes: opened.limits().block_bytes,
    })
}

/// A size is for a file that is to be made. One that is there has its own, and taking another for granted would make
/// the same wish, asked again, look like a different one.
fn refuse_other_size(wish: &api::DiskCreate, opened: &Opened) -> Result<(), Problem> {
    let api::Medium::File(file) = &wish.medium else {
        return Ok(());
    };
    let found = opened.sectors().0 * SECTOR_BYTES;
    let Some(asked) = file.bytes.filter(|&asked| asked != found) else {
        return Ok(());
    };
    let message = format!(
        "{} exists and has {found} bytes ({}), {asked} ({}) were asked for",
        file.path,
        human(found),
        human(asked)
    );
    let remedy = "leave the size out to take the file as it is, or name another file";
    Err(Problem::new(ProblemKind::Conflict, "file_has_other_size", message, remedy).about("file.bytes"))
}

/// Refuses a medium that holds somebody's data. A file that is given whole may hold anything: it is an image for its
/// one volume.
fn refuse_data(wish: &api::DiskCreate, opened: &Opened) -> Result<(), Problem> {
    let image = matches!(wish.medium, api::Medium::File(_)) && wish.usage == api::DiskUsage::Whole;
    if opened.path().is_none() || image {
        return Ok(());
    }
    let unread = |error: std::io::Error| {
        let message = format!("disk {} cannot be read: {error}", wish.id);
        let remedy = "look into the kernel log";
        Problem::new(ProblemKind::Internal, "disk_not_readable", message, remedy)
    };
    match probe::probe(opened).map_err(unread)? {
        probe::Content::Blank => Ok(()),
        probe::Content::Palisade { .. } if wish.force => hands::wipe(opened).map_err(|message| {
            let remedy = "look into the kernel log";
            Problem::new(ProblemKind::Internal, "disk_not_writable", message, remedy)
        }),
        _ if wish.force => Ok(()),
        content => {
            let path = wish.medium.path().unwrap_or_default();
            let message = format!("{path} holds {content}, which would be lost");
            let remedy = "choose another disk, or add it with `force` if its content is not wanted any more";
            Err(Problem::new(ProblemKind::Conflict, "disk_holds_data", message, remedy).about("force"))
        }
    }
}

/// Refuses a medium that is a disk already, by another path to the same file or device. The lock would refuse it too,
/// but only after waiting for ourselves to let go.
fn refuse_alias(cluster: &Cluster, medium: &api::Medium) -> Result<(), Problem> {
    let Some(path) = medium.path() else { return Ok(()) };
    let Some(identity) = place(path) else {
        return Ok(());
    };
    let is_it = |disk: &Disk| disk.medium.path().and_then(place) == Some(identity);
    let Some((holder, _)) = cluster.disks.iter().find(|(_, disk)| is_it(disk)) else {
        return Ok(());
    };
    let message = format!("{path} is in use as disk {holder}");
    let remedy = format!("use that disk, or remove it first: palisade disk remove {holder}");
    Err(Problem::new(ProblemKind::Conflict, "medium_taken", message, remedy).about("path"))
}

/// What a path leads to: the number of a device, or file system and inode.
fn place(path: &str) -> Option<(bool, u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some(match found.file_type().is_block_device() {
        true => (true, found.rdev(), 0),
        false => (false, found.dev(), found.ino()),
    })
}

/// Memory is taken page by page as it is written: a disk larger than the machine's memory would end in the kernel
/// killing the daemon, with all its guests, when it fills up.
fn refuse_vast_memory(medium: &api::Medium) -> Result<(), Problem> {
    let api::Medium::Memory(memory) = medium else {
        return Ok(());
    };
    let Some(total) = memory_total().filter(|&total| memory.bytes > total) else {
        return Ok(());
    };
    let (asked, total) = (human(memory.bytes), human(total));
    let message = format!("{asked} are asked for and this machine has {total} of memory");
    let remedy = "ask for less, or add a file or block device";
    Err(Problem::new(ProblemKind::NoSpace, "no_memory", message, remedy).about("memory.bytes"))
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn memory_total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The size that a wish names, if it names one.
fn wished_bytes(medium: &api::Medium) -> Option<u64> {
    match medium {
        api::Medium::Null(null) => Some(null.bytes),
        api::Medium::Memory(memory) => Some(memory.bytes),
        api::Medium::File(file) => file.bytes,
        api::Medium::Block(_) => None,
    }
}

fn presumed_medium(medium: &api::Medium) -> Medium {
    match medium {
        api::Medium::Null(null) => Medium::Null { bytes: null.bytes },
        api::Medium::Memory(memory) => Medium::Memory { bytes: memory.bytes },
        api::Medium::File(file) => Medium::File {
            path: file.path.clone(),
            bytes: file.bytes.unwrap_or(PRESUMED_SECTORS * SECTOR_BYTES),
            created: true,
        },
        api::Medium::Block(block) => Medium::Block {
            path: block.path.clone(),
            wwid: None,
        },
    }
}

/// Sizes come in whole logical blocks.
fn whole_blocks(bytes: u64, block_bytes: u32) -> Result<(), Problem> {
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
pub fn enlarge(name: &Name, disk: &Disk, bytes: u64) -> Result<(), Problem> {
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
        Medium::File { path, .. } => lengthen(path, bytes),
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

/// Gives a file its new length, unless it has it already: a growth that was made and not agreed on is made again.
fn lengthen(path: &str, bytes: u64) -> Result<(), Problem> {
    let grown = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| {
            let present = file.metadata()?.len();
            if present < bytes {
                file.set_len(bytes)
            } else {
                Ok(())
            }
        });
    grown.map_err(|error| {
        let message = format!("{path} cannot be made larger: {error}");
        Problem::new(
            ProblemKind::NoSpace,
            "disk_not_grown",
            message,
            "make room on its file system",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_model::Generation;

    fn disk(medium: Medium) -> Disk {
        Disk {
            uuid: Uuid(1),
            node: Name::new("n1").unwrap(),
            medium,
            usage: Usage::Whole,
            block_bytes: 512,
            sectors: 100,
            data_start: 0,
            data_end: 100,
            extents_revision: Generation(1),
            created: Generation(1),
            revision: Generation(1),
        }
    }

    fn code(result: Result<(), Problem>) -> String {
        result.unwrap_err().code.into_owned()
    }

    #[test]
    fn a_file_is_made_longer_and_never_shorter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d1");
        std::fs::write(&path, vec![7; 100 * 512]).unwrap();
        let name = Name::new("d1").unwrap();
        let file = disk(Medium::File {
            path: path.to_str().unwrap().into(),
            bytes: 100 * 512,
            created: true,
        });
        let length = || std::fs::metadata(&path).unwrap().len();
        assert_eq!(code(enlarge(&name, &file, 99 * 512)), "cannot_shrink");
        assert_eq!(code(enlarge(&name, &file, 101 * 512 + 1)), "invalid_argument");
        assert_eq!(length(), 100 * 512);
        enlarge(&name, &file, 100 * 512).unwrap();
        enlarge(&name, &file, 200 * 512).unwrap();
        assert_eq!(length(), 200 * 512);
        // Asked again after a crash in between, and with a smaller growth.
        enlarge(&name, &file, 150 * 512).unwrap();
        assert_eq!(length(), 200 * 512);
    }

    #[test]
    fn what_has_no_size_of_its_own_to_change_says_so() {
        let name = Name::new("d1").unwrap();
        for medium in [
            Medium::Memory { bytes: 51200 },
            Medium::Null { bytes: 51200 },
            Medium::Block {
                path: "/dev/sdz".into(),
                wwid: None,
            },
        ] {
            assert_eq!(code(enlarge(&name, &disk(medium), 102_400)), "disk_cannot_grow");
        }
    }

    #[test]
    fn one_file_by_two_paths_is_one_medium() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("d1"), folder.path().join("other"));
        std::fs::write(&path, b"x").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(place(path.to_str().unwrap()), place(link.to_str().unwrap()));
        assert_ne!(
            place(path.to_str().unwrap()),
            place(folder.path().to_str().unwrap())
        );
        assert_eq!(place("/nowhere/at/all"), None);
    }

    #[test]
    fn memory_beyond_the_machine_is_refused() {
        let medium = |bytes| api::Medium::Memory(api::MemoryMedium { bytes });
        assert!(memory_total().unwrap() > 1 << 20);
        refuse_vast_memory(&medium(1 << 20)).unwrap();
        assert_eq!(code(refuse_vast_memory(&medium(1 << 60))), "no_memory");
    }
}
