//! Slow work: each kind is prepared without waiting, and gives back what a thread of its own runs.

use crate::accounts::{group_id, user_id};
use crate::clearing::{self, ClearPiece};
use crate::local_state::lock::StateGuard;
use crate::local_state::{LocalState, OpenDisk};
use crate::medium::Manner;
use crate::message::Done;
use crate::opening;
use crate::shared::Shared;
use crate::superblocks;
use crate::write_cache;
use palisade_consensus::ProposeError;
use palisade_control::Work;
use palisade_frontend::{AttachmentSpec, DoorHandle, SocketOwner};
use palisade_model::{Attachment, Cluster, Command, Extent};
use palisade_sys::Opened;
use palisade_virtio::VolumeGeometry;
use palisade_volume::{Leaving, OnRecord};
use palisade_words::{AttachmentIndex, DeviceIndex, Name, Sectors, Uuid};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a thread of its own runs.
pub type Job = Box<dyn FnOnce() -> Result<Done, String> + Send>;

/// The physical block that guests are told, in bytes: what flash and modern disks have.
const PHYSICAL_BLOCK_BYTES: u32 = 4096;

/// How long a short try to open a disk waits for its lock.
const SHORT_LOCK_WAIT: Duration = Duration::from_secs(1);

/// How long the closing of a disk waits for whoever looks at it just now.
const LOOKER_PATIENCE: Duration = Duration::from_secs(5);

/// What its thread is called.
pub fn thread_name(work: &Work) -> &'static str {
    match work {
        Work::OpenDisk { .. } => "open_disk",
        Work::GrowDisk { .. } => "grow_disk",
        Work::CloseDevice { .. } => "close_disk",
        Work::WriteSuperblock { .. } => "write_superblock",
        Work::ExamineSuperblock { .. } => "examine_superblock",
        Work::EraseSuperblock { .. } => "erase_superblock",
        Work::Propose { .. } => "propose",
        Work::ClearSpace { .. } => "clear_volume",
        Work::OfferSocket { .. } => "offer_socket",
        Work::ChangeSocketPermissions { .. } => "socket_permissions",
        Work::ForgetWriteCache { .. } => "withdraw_socket",
    }
}

/// Prepares it. What it needs of the state is taken from there now, under the lock.
pub fn prepare(shared: &Arc<Shared>, state: &mut StateGuard<'_>, cluster: Arc<Cluster>, work: Work) -> Job {
    let opened =
        |state: &LocalState, device: DeviceIndex| state.device(device).map(|open| Arc::clone(&open.opened));
    match work {
        Work::OpenDisk {
            disk,
            is_short,
            is_again,
        } => {
            let lock_wait = shared.settings.lock_wait;
            let patience = if is_short {
                lock_wait.min(SHORT_LOCK_WAIT)
            } else {
                lock_wait
            };
            let manner = Manner {
                patience,
                again: is_again,
            };
            let decided = state.decided.remove(&disk);
            opening::open_disk(Arc::clone(shared), &cluster, &disk, decided, manner)
        }
        Work::GrowDisk {
            disk,
            device,
            sectors,
        } => grow(disk, opened(state, device), sectors),
        Work::CloseDevice {
            disk, uuid, stays, ..
        } => close_device(shared, state, &disk, uuid, stays),
        Work::WriteSuperblock {
            disk,
            device,
            examined,
        } => superblocks::write(
            cluster,
            disk,
            opened(state, device),
            examined,
            shared.last_superblock.clone(),
        ),
        Work::ExamineSuperblock { disk, device } => superblocks::examine(
            cluster,
            disk,
            opened(state, device),
            shared.last_superblock.clone(),
        ),
        Work::EraseSuperblock {
            disk,
            device,
            known,
            touched,
        } => {
            let opened = opened(state, device);
            let last = shared.last_superblock.clone();
            Box::new(move || {
                // A record that cannot be read counts as none.
                let last = last.recall(known.uuid).unwrap_or_default();
                let leaving =
                    Leaving::of(&cluster, &disk, &known, touched).held_against(OnRecord::of(&known, last));
                superblocks::erase(opened, leaving)()
            })
        }
        Work::Propose { command } => propose(Arc::clone(shared), *command),
        Work::ClearSpace {
            volume,
            uuid,
            extents,
            ..
        } => clear_space(shared, state, volume, uuid, extents),
        Work::OfferSocket {
            attachment,
            index,
            sectors,
        } => offer(Arc::clone(shared), cluster, attachment, index, sectors),
        // The socket's folder may not answer.
        Work::ChangeSocketPermissions { attachment } => {
            let index = state
                .control
                .attachments
                .get(&attachment)
                .map(|offered| offered.index);
            let door = shared.door().clone();
            Box::new(move || change_permissions(&door, index, &cluster, &attachment).map(|()| Done::Plain))
        }
        // Nor may this one.
        Work::ForgetWriteCache { attachment } => {
            let run_dir = shared.settings.run_dir.clone();
            Box::new(move || {
                write_cache::forget(&run_dir, &attachment);
                Ok(Done::Plain)
            })
        }
    }
}

/// Takes the new size of a medium. Its file system may not answer.
fn grow(name: Name, opened: Option<Arc<Opened>>, asked: Sectors) -> Job {
    Box::new(move || {
        let opened = opened.ok_or_else(|| format!("disk {name} is not open"))?;
        match opened.refresh_size() {
            Err(error) => Err(format!("the size of disk {name} cannot be read: {error}")),
            Ok(sectors) if sectors < asked => Err(format!(
                "disk {name} has {sectors} sectors, {asked} were agreed on"
            )),
            Ok(_) => Ok(Done::Plain),
        }
    })
}

/// Closes a device that no reactor uses any more. The disk is closed when others can open it, which can take long.
fn close_device(
    shared: &Arc<Shared>,
    state: &mut StateGuard<'_>,
    disk: &Name,
    uuid: Option<Uuid>,
    stays: bool,
) -> Job {
    let open = state.disks.remove(disk);
    shared.publish(state);
    let seen = shared.last_seen.clone();
    Box::new(move || {
        open.into_iter().for_each(close);
        if let Some(uuid) = uuid {
            seen.forget(uuid);
            // What is not removed belongs to an id that no other disk will ever have.
            let _ = (!stays).then(|| seen.forget_cut(uuid));
        }
        Ok(Done::Plain)
    })
}

/// Lets go of a device. The last reference closes it.
fn close(open: OpenDisk) {
    let begun = Instant::now();
    while Arc::strong_count(&open.opened) > 1 && begun.elapsed() < LOOKER_PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has a command agreed on, which waits for the database's disk.
fn propose(shared: Arc<Shared>, command: Command) -> Job {
    Box::new(move || {
        if let Command::ReleaseDisk(release) = &command {
            shared.last_superblock.forget(release.uuid);
        }
        match shared.propose(command) {
            // It has been overtaken: the disk has been removed meanwhile, or taken away by force.
            Ok(_) | Err(ProposeError::Refused(_)) => Ok(Done::Plain),
            Err(error) => Err(error.to_string()),
        }
    })
}

fn clear_space(
    shared: &Arc<Shared>,
    state: &LocalState,
    volume: Name,
    uuid: Uuid,
    extents: Vec<Extent>,
) -> Job {
    let piece = |extent: Extent| {
        let open = state.disks.get(&extent.disk);
        let opened = open.map(|open| Arc::clone(&open.opened));
        Ok(ClearPiece {
            opened: opened.ok_or_else(|| format!("disk {} is not open", extent.disk))?,
            disk: extent.disk,
            lba: extent.disk_lba,
            sectors: extent.sectors,
        })
    };
    let pieces: Result<Vec<_>, String> = extents.into_iter().map(piece).collect();
    let progress = state.clearings.get(&volume).map(Arc::clone);
    match (pieces, progress) {
        (Ok(pieces), Some(progress)) => clearing::clear(Arc::clone(shared), volume, uuid, pieces, progress),
        (Err(reason), _) => Box::new(move || Err(reason)),
        (Ok(_), None) => Box::new(move || Err(format!("the clearing of volume {volume} was not begun"))),
    }
}

/// Puts a socket in its place. What the guest has made of its write cache is looked up here: the folder may not answer.
fn offer(
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    name: Name,
    index: AttachmentIndex,
    sectors: Sectors,
) -> Job {
    let (door, share) = (shared.door().clone(), shared.shares.join());
    Box::new(move || {
        let attachment = cluster
            .attachments
            .get(&name)
            .ok_or_else(|| format!("there is no attachment {name}"))?;
        let volume = cluster
            .volumes
            .get(&attachment.volume)
            .ok_or_else(|| format!("there is no volume {}", attachment.volume))?;
        let block_bytes = volume.block_bytes;
        let run_dir = &shared.settings.run_dir;
        let writeback = write_cache::recall(run_dir, &name).unwrap_or(attachment.write_cache);
        let mut serial = [0; 20];
        serial
            .iter_mut()
            .zip(attachment.serial.bytes())
            .for_each(|(to, from)| *to = from);
        let spec = AttachmentSpec {
            index,
            name: name.to_string(),
            path: attachment.socket.clone().into(),
            owner: owner_of(attachment)?,
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
            volume: volume.uuid.0,
            serial,
            share,
        };
        door.attach(spec)
            .map(|()| Done::Plain)
            .map_err(|error| error.to_string())
    })
}

/// Changes owner, group and mode of a socket that is on offer. The door is told first: one that it puts back in the place of
/// a deleted one is to have them too.
fn change_permissions(
    door: &DoorHandle,
    index: Option<AttachmentIndex>,
    wanted: &Cluster,
    name: &Name,
) -> Result<(), String> {
    let Some(attachment) = wanted.attachments.get(name) else {
        return Ok(());
    };
    let path = Path::new(&attachment.socket);
    let owner = owner_of(attachment)?;
    if let Some(index) = index {
        door.change_owner(index, owner);
    }
    let failed =
        |error: std::io::Error| format!("the rights of {} cannot be changed: {error}", path.display());
    std::os::unix::fs::chown(path, owner.user, owner.group).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(owner.mode)).map_err(failed)
}

/// Who may connect to an attachment's socket, in numbers.
fn owner_of(attachment: &Attachment) -> Result<SocketOwner, String> {
    Ok(SocketOwner {
        user: attachment.owner.as_ref().map(user_id).transpose()?,
        group: attachment.group.as_ref().map(group_id).transpose()?,
        mode: attachment.mode,
    })
}
