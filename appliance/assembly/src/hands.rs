//! Slow work of steps: each function prepares it without waiting and gives back what a thread of its own runs.

use crate::event::Done;
use crate::medium::{self, Manner};
use crate::shared::Shared;
use crate::superblocks;
use crate::write_cache;
use palisade_frontend::{AttachmentSpec, DoorHandle, SocketOwner};
use palisade_memory::Share;
use palisade_model::{Account, Attachment, Cluster, Command, Disk, IdentifyDisk, Medium, MediumRecord};
use palisade_sys::device::{Create, DeviceSpec, Medium as Device};
use palisade_sys::{OpenError, Opened};
use palisade_virtio::VolumeGeometry;
use palisade_words::{AttachmentIndex, Name, Sectors, Uuid};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Work for a thread of its own.
pub type Work = Box<dyn FnOnce() -> Result<Done, String> + Send>;

/// The physical block that guests are told, in bytes: what flash and modern disks have.
const PHYSICAL_BLOCK_BYTES: u32 = 4096;

/// How a disk of the model is opened. A file that the cluster knows is never made anew: if it is gone, its data is
/// gone, and an empty one in its place would hide that.
pub fn spec(medium: &Medium, block_bytes: u32) -> DeviceSpec {
    let medium = match medium {
        Medium::Null { bytes } => Device::Null { bytes: *bytes },
        Medium::Memory { bytes } => Device::Memory { bytes: *bytes },
        Medium::File { path, .. } => Device::File {
            path: path.into(),
            create: None,
        },
        Medium::Block { path, .. } => Device::Block { path: path.into() },
    };
    DeviceSpec {
        medium,
        block_bytes,
        read_only: false,
    }
}

/// Opens a disk and looks whose superblock it carries. `decided` is its medium, if it is open already for an operator who
/// has decided about it.
pub fn open_disk(
    shared: Arc<Shared>,
    wanted: &Arc<Cluster>,
    name: &Name,
    decided: Option<Arc<Opened>>,
    manner: Manner,
) -> Work {
    let (wanted, name) = (Arc::clone(wanted), name.clone());
    Box::new(move || {
        let disk = wanted
            .disks
            .get(&name)
            .ok_or_else(|| format!("disk {name} is not in the cluster"))?;
        // Nothing else may have been recorded for the disk meanwhile.
        let is_it = |opened: &Arc<Opened>| medium::check(disk, opened).is_ok();
        let opened = match decided.filter(is_it) {
            Some(opened) => opened,
            None => Arc::new(medium::open(&wanted, &name, manner, &shared.last_seen)?),
        };
        if disk.has_superblock() {
            // A daemon that was killed may have left a superblock, or its erasure, in the device's cache: nothing is decided
            // by what a power cut would take back.
            opened.sync().map_err(|error| {
                format!("what disk {name} has in its cache cannot be made stable: {error}")
            })?;
        }
        let last = &shared.last_superblock;
        let look = superblocks::look(&wanted, &name, disk, &opened, last)?;
        if let Err(error) = superblocks::keep_opened(disk, &look, last) {
            log::warn!("disk {name}: which generation it carries cannot be kept: {error}");
        }
        if disk.is_its_own(look.superblock) {
            identify(&shared, &name, disk, &opened);
        }
        Ok(Done::Opened { opened, look })
    })
}

/// Records who the medium is of a disk that was added before that was recorded, or before the file was that a loop device
/// stands on.
fn identify(shared: &Shared, name: &Name, disk: &Disk, opened: &Opened) {
    let Some((record, wwid)) = unrecorded(disk, opened) else {
        return;
    };
    let identify = Command::IdentifyDisk(IdentifyDisk {
        name: name.clone(),
        path: None,
        wwid,
        record: MediumRecord {
            sparse: disk.record.sparse,
            nested: disk.record.nested.clone(),
            ..record
        },
        confirmed: false,
        expected: Some(disk.revision),
    });
    if let Err(error) = shared.propose(identify) {
        log::warn!("disk {name}: who its medium is cannot be recorded: {error}");
    }
}

/// What is to be recorded of a disk's medium that is not yet.
fn unrecorded(disk: &Disk, opened: &Opened) -> Option<(MediumRecord, Option<String>)> {
    let (record, wwid) = medium::record_kept(opened, disk.usage);
    if disk.record.is_empty() {
        return (!record.is_empty()).then_some((record, wwid));
    }
    let lacks_backing = medium::needs_fingerprint(disk) && disk.record.backing.is_none();
    let backing = record.backing.filter(|_| lacks_backing)?;
    let record = MediumRecord {
        backing: Some(backing),
        ..disk.record.clone()
    };
    Some((record, wwid))
}

/// Puts a socket in its place. What the guest has made of its write cache is looked up here: the folder may not answer.
pub fn offer(
    door: DoorHandle,
    share: Arc<Share>,
    index: AttachmentIndex,
    (name, attachment): (&Name, &Attachment),
    volume: Uuid,
    sectors: Sectors,
    (block_bytes, run_dir): (u32, PathBuf),
) -> Work {
    let (name, attachment) = (name.clone(), attachment.clone());
    Box::new(move || {
        let writeback = write_cache::recall(&run_dir, &name).unwrap_or(attachment.write_cache);
        let mut serial = [0; 20];
        serial
            .iter_mut()
            .zip(attachment.serial.bytes())
            .for_each(|(to, from)| *to = from);
        let spec = AttachmentSpec {
            index,
            name: name.to_string(),
            path: attachment.socket.clone().into(),
            owner: SocketOwner {
                user: attachment.owner.as_ref().map(user_id).transpose()?,
                group: attachment.group.as_ref().map(group_id).transpose()?,
                mode: attachment.mode,
            },
            geometry: VolumeGeometry {
                sectors,
                block_bytes,
                physical_block_bytes: PHYSICAL_BLOCK_BYTES.max(block_bytes),
                optimal_io_bytes: 0,
                read_only: attachment.read_only,
                queues: attachment.queues,
                discard: !attachment.read_only,
                discard_alignment_bytes: PHYSICAL_BLOCK_BYTES.max(block_bytes),
                write_zeroes: !attachment.read_only,
                writeback,
            },
            queue_size_max: attachment.queue_size,
            volume: volume.0,
            serial,
            share,
        };
        door.attach(spec)
            .map(|()| Done::Plain)
            .map_err(|error| error.to_string())
    })
}

/// Changes owner, group and mode of a socket that is on offer.
pub fn change_permissions(wanted: &Cluster, name: &Name) -> Result<(), String> {
    let Some(attachment) = wanted.attachments.get(name) else {
        return Ok(());
    };
    let path = Path::new(&attachment.socket);
    let (user, group) = (
        attachment.owner.as_ref().map(user_id).transpose()?,
        attachment.group.as_ref().map(group_id).transpose()?,
    );
    let failed =
        |error: std::io::Error| format!("the rights of {} cannot be changed: {error}", path.display());
    std::os::unix::fs::chown(path, user, group).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(attachment.mode)).map_err(failed)
}

/// The number of a user of this machine.
pub fn user_id(account: &Account) -> Result<u32, String> {
    id_in("/etc/passwd", "user", account)
}

/// The number of a group of this machine.
pub fn group_id(account: &Account) -> Result<u32, String> {
    id_in("/etc/group", "group", account)
}

/// Looks a name up in a file of the passwd family. Names from a directory service are given as numbers.
fn id_in(file: &str, kind: &str, account: &Account) -> Result<u32, String> {
    let name = match account {
        Account::Id(id) => return Ok(*id),
        Account::Name(name) => name,
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
    let entry = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name))
            .then(|| fields.nth(1))
            .flatten()?
            .parse()
            .ok()
    });
    entry.ok_or_else(|| format!("there is no {kind} {name} in {file}: create it, or give its number"))
}

/// Opens a disk that is about to be added; a file is made if it is not there.
pub fn open_new(medium: Device, block_bytes: u32, patience: Duration) -> Result<Opened, OpenError> {
    Opened::open(
        &DeviceSpec {
            medium,
            block_bytes,
            read_only: false,
        },
        patience,
    )
}

/// Opens whatever lies where a disk's medium should be, for a look at it.
pub fn open_any(medium: &Medium, block_bytes: u32, patience: Duration) -> Result<Opened, OpenError> {
    Opened::open(&spec(medium, block_bytes), patience)
}

/// How a new file is made.
pub fn create(bytes: u64, sparse: bool) -> Create {
    Create { bytes, sparse }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_or_taken_as_numbers() {
        assert_eq!(user_id(&Account::Name("root".into())), Ok(0));
        assert_eq!(group_id(&Account::Id(77)), Ok(77));
        let missing = user_id(&Account::Name("no-such-user-here".into())).unwrap_err();
        assert!(missing.contains("no user no-such-user-here"), "{missing}");
    }
}
