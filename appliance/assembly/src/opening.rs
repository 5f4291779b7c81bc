//! Media of disks are opened: those of the cluster, those that are about to be added, and those that are only looked at.

use crate::effects::work::Job;
use crate::medium::{self, Manner};
use crate::message::Done;
use crate::shared::Shared;
use crate::superblocks;
use palisade_model::{Cluster, Command, Disk, IdentifyDisk, Medium, MediumRecord};
use palisade_sys::device::{Create, DeviceMedium, DeviceSpec};
use palisade_sys::{OpenError, Opened};
use palisade_words::Name;
use std::sync::Arc;
use std::time::Duration;

/// How a disk of the model is opened. A file that the cluster knows is never made anew: if it is gone, its data is
/// gone, and an empty one in its place would hide that.
pub fn spec(medium: &Medium, block_bytes: u32) -> DeviceSpec {
    let medium = match medium {
        Medium::Null { bytes } => DeviceMedium::Null { bytes: *bytes },
        Medium::Memory { bytes } => DeviceMedium::Memory { bytes: *bytes },
        Medium::File { path, .. } => DeviceMedium::File {
            path: path.into(),
            create: None,
        },
        Medium::Block { path, .. } => DeviceMedium::Block { path: path.into() },
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
) -> Job {
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

/// Opens a disk that is about to be added; a file is made if it is not there.
pub fn open_new(medium: DeviceMedium, block_bytes: u32, patience: Duration) -> Result<Opened, OpenError> {
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
