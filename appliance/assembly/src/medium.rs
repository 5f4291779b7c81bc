//! Which medium a disk is: opening the one that was recorded, wherever it is by now, and no other.
//!
//! What is compared, and when: WWID, serial number, partition and logical block of a block device, inode of a file or of
//! that under a loop device which nothing else tells,
//! read from the open descriptor before the first byte is read or written
//! ([`Disk::check_medium`](palisade_model::Disk::check_medium)); the size; and for a disk without any identity that is
//! given whole, the fingerprint of its content ([`last_seen`](crate::last_seen)). A pooled disk without an identity is
//! known by its superblock. What does not match stays closed, until the operator says that it is the disk.

pub mod alike;
mod cut;

pub use cut::{note_cut, refuse_cut};

use crate::exchanged::{self, Places};
use crate::last_seen::LastSeen;
use crate::moved;
use crate::opening;
use crate::own_file::Obstacle;
use crate::recorded::Records;
use crate::smaller_copy::SmallerCopy;
use crate::superblocks;
use palisade_model::{
    BackingRecord, Cluster, Disk, FileRecord, Medium, MediumRecord, OtherMedium, Partition, Usage, part_wwid,
};
use palisade_reconcile::Search;
use palisade_sys::device::fingerprint::{Fingerprint, Hold};
use palisade_sys::device::identity::{BlockIdentity, FileIdentity};
use palisade_sys::device::probe;
use palisade_sys::device::{DeviceMedium, DeviceSpec, Identity, identity};
use palisade_sys::{OpenError, Opened};
use palisade_wire::{AREA_SECTORS, DecodeError};
use palisade_words::{Name, SECTOR_BYTES};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::PathBuf;
use std::time::Duration;

/// Bytes at either end in which foreign superblocks and partition tables lie, and nothing of a guest's.
const END_BYTES: usize = 1 << 20;

/// The record of an identity, and the WWID beside it.
pub fn record_of(identity: &Identity) -> (MediumRecord, Option<String>) {
    match identity {
        Identity::Block(block) => record_of_block(block),
        Identity::File(file) => {
            let record = MediumRecord {
                file: record_of_file(file),
                ..MediumRecord::default()
            };
            (record, None)
        }
    }
}

fn record_of_file(file: &FileIdentity) -> Option<FileRecord> {
    file.inode.map(|inode| FileRecord {
        inode,
        generation: file.generation,
        filesystem: file.filesystem,
    })
}

fn record_of_block(block: &BlockIdentity) -> (MediumRecord, Option<String>) {
    let partition = block.partition.map(|number| Partition {
        number,
        start: block.partition_start,
    });
    let wwid = block.wwid.as_ref().map(|wwid| match partition {
        Some(part) => part_wwid(wwid, part.number),
        None => wwid.clone(),
    });
    let record = MediumRecord {
        serial: block.serial.clone(),
        partition,
        block_bytes: block.block_bytes,
        backing: block.backing.as_ref().and_then(|backing| {
            Some(BackingRecord {
                file: record_of_file(&backing.file)?,
                offset: backing.offset,
            })
        }),
        ..MediumRecord::default()
    };
    (record, wwid)
}

/// Whether what is open is the medium that was recorded of a disk.
///
/// # Errors
/// The first thing that differs.
pub fn check(disk: &Disk, opened: &Opened) -> Result<(), OtherMedium> {
    let (found, wwid) = opened.identity().map(record_of).unwrap_or_default();
    disk.check_medium(&found, wwid.as_deref())
}

/// Opens what lies under a disk's path to read it, beside whoever has it open.
///
/// # Errors
/// What opening says.
pub fn beside(disk: &Disk) -> Result<Opened, OpenError> {
    Opened::beside(&opening::spec(&disk.medium, disk.block_bytes).medium)
}

/// How a disk's medium is opened.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How long a lock in other hands is waited for.
    pub patience: Duration,
    /// It is one of many looks at a medium that may not be used: where it was found has been told.
    pub again: bool,
}

impl Manner {
    /// Says where the medium was found, if that is not its path.
    pub fn tell(self, found: std::fmt::Arguments<'_>) {
        match self.again {
            true => log::debug!("{found}"),
            false => log::warn!("{found}"),
        }
    }
}

/// Opens a disk's medium, if it is the one that was recorded.
///
/// # Errors
/// A sentence for an operator.
pub fn open(cluster: &Cluster, name: &Name, manner: Manner, seen: &LastSeen) -> Result<Opened, String> {
    let disk = cluster
        .disks
        .get(name)
        .ok_or_else(|| format!("disk {name} is not in the cluster"))?;
    let there = open_there(cluster, name, disk, manner, seen);
    if !exchanged::may_be(disk) {
        return there;
    }
    let places = Places {
        cluster,
        seen,
        open: &BTreeMap::new(),
    };
    let there = match there {
        Ok(opened) if !lacks_superblock(disk, &opened) => return Ok(opened),
        there => there,
    };
    let search = places.search(name);
    let reason = match there {
        Ok(opened) => match missing_superblock(disk, &opened, &search, name) {
            None => return Ok(opened),
            Some(reason) => reason,
        },
        Err(reason) => reason,
    };
    let open_at = |path: &str| {
        let moved = Disk {
            medium: Medium::Block {
                path: path.to_owned(),
                wwid: None,
            },
            ..disk.clone()
        };
        open_there(cluster, name, &moved, manner, seen)
    };
    exchanged::open(&places, name, search, &open_at, (reason, manner))
}

/// Whether a disk that is told by its superblock is to be where there is none.
fn lacks_superblock(disk: &Disk, opened: &Opened) -> bool {
    disk.has_superblock() && matches!(superblocks::read(opened), Err(DecodeError::NotOurs))
}

/// What speaks against a medium without a superblock, where a disk that is told by that alone should be: something else that
/// is on it, or that the disk is elsewhere. One with nothing on it, or what is left of ours, is the disk that has lost it.
fn missing_superblock(disk: &Disk, opened: &Opened, search: &Search, name: &Name) -> Option<String> {
    let path = disk.medium.path().unwrap_or_default();
    let reason = format!("{path} carries no superblock of disk {name}");
    if matches!(search, Search::Exchanged(_)) {
        // Told by the command that mends it.
        return Some(reason);
    }
    foreign(opened).map(|content| {
        format!(
            "{reason}, but {content}: it is another medium, or the disk was written over. Nothing was written to it. Bring the \
             right medium back, or say where it is: palisade disk confirm {name} --path PATH"
        )
    })
}

/// What somebody else has put where a superblock of ours should be, if it is known by name. What is found further in may be
/// a guest's.
pub fn foreign(opened: &Opened) -> Option<probe::Content> {
    use probe::Content::{Blank, Palisade, Unknown};
    if !has_bytes_at_its_ends(opened) {
        return None;
    }
    let content = probe::probe(opened).ok()?;
    (!matches!(content, Blank | Palisade { .. } | Unknown)).then_some(content)
}

/// A mark of what lies where our superblocks were: it changes with what is there.
///
/// # Errors
/// What reading says.
pub fn mark_of_ends(opened: &Opened) -> std::io::Result<String> {
    let bytes = AREA_SECTORS * SECTOR_BYTES;
    let last = (opened.sectors().0 * SECTOR_BYTES).saturating_sub(bytes);
    let mut area = vec![0; bytes as usize];
    let mut mark = DefaultHasher::new();
    for at in [0, last] {
        opened.read_at(at, &mut area)?;
        mark.write(&area);
    }
    Ok(format!("{:016x}", mark.finish()))
}

/// What a medium holds that cannot be read as the disk that it should be: `None` where what is left of a superblock or a table
/// says that it is that disk all the same.
pub fn holds(disk: &Disk, opened: &Opened) -> Option<probe::Content> {
    if superblocks::names(disk, opened) {
        return None;
    }
    Some(probe::probe(opened).unwrap_or(probe::Content::Unknown))
}

/// Whether anything is where our superblocks were.
fn has_bytes_at_its_ends(opened: &Opened) -> bool {
    let mut bytes = vec![0; END_BYTES];
    let last = (opened.sectors().0 * SECTOR_BYTES).saturating_sub(END_BYTES as u64);
    [0, last].into_iter().any(|at| {
        let read = opened.read_at(at, &mut bytes);
        read.is_ok() && bytes.iter().any(|byte| *byte != 0)
    })
}

/// Opens what lies under a disk's path, if it is its medium.
fn open_there(
    cluster: &Cluster,
    name: &Name,
    disk: &Disk,
    manner: Manner,
    seen: &LastSeen,
) -> Result<Opened, String> {
    let mut opened = open_recorded((cluster, seen), name, disk, manner)?;
    if disk.record.sparse {
        opened.let_space_go();
    }
    if exchanged::may_be(disk)
        && disk.has_superblock()
        && let Ok(found) = superblocks::read(&opened)
        && found.superblock.disk != disk.uuid
    {
        let path = disk.medium.path().unwrap_or_default();
        return Err(format!(
            "{path} carries the superblock of another disk, called {} there, and not that of disk {name}. Nothing was \
             written to it. Bring the right medium back, or say where it is: palisade disk confirm {name} --path PATH",
            found.superblock.label
        ));
    }
    if let Some(copy) = SmallerCopy::of(disk, &opened) {
        return Err(format!("{}: {}", copy.told(name, disk), copy.remedy(name, disk)));
    }
    if opened.sectors().0 < disk.sectors {
        let (found, agreed) = (opened.sectors(), disk.sectors);
        note_cut(name, disk, found.bytes(), seen);
        return Err(format!(
            "disk {name} has shrunk: {found} sectors are there, {agreed} were agreed on. What was cut off is lost, and making \
             the medium longer brings zeros back, not data: put a copy of the whole medium in its place, or make it as long as \
             before knowing that; restore what lay there from a backup, and say that it is to be used: palisade disk confirm \
             {name} --yes"
        ));
    }
    refuse_cut(name, disk, seen)?;
    alike::refuse(cluster, name, disk, &opened, seen)?;
    check_content(name, disk, &opened, seen)?;
    seen.place(disk.uuid);
    Ok(opened)
}

/// Opens what lies under the recorded path, or the same medium under its present one.
fn open_recorded(
    (cluster, seen): (&Cluster, &LastSeen),
    name: &Name,
    disk: &Disk,
    manner: Manner,
) -> Result<Opened, String> {
    let accept = |identity: &Identity| {
        let (found, wwid) = record_of(identity);
        disk.check_medium(&found, wwid.as_deref())
            .map_err(|other| other.to_string())
    };
    let spec = opening::spec(&disk.medium, disk.block_bytes);
    let patience = manner.patience;
    let error = match Opened::open_checked(&spec, patience, &accept) {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    let elsewhere = match &error {
        OpenError::OtherMedium { .. } | OpenError::NotBlock { .. } => same_medium_elsewhere(disk),
        OpenError::Open { .. } => same_medium_elsewhere(disk),
        _ => Vec::new(),
    };
    match elsewhere.as_slice() {
        [] => Err(refusal((cluster, seen), name, disk, &error)),
        [path] => {
            manner.tell(format_args!(
                "disk {name}: {error}; the medium is {} now",
                path.display()
            ));
            let spec = DeviceSpec {
                medium: DeviceMedium::Block { path: path.clone() },
                ..spec
            };
            Opened::open_checked(&spec, patience, &accept)
                .map_err(|error| refusal((cluster, seen), name, disk, &error))
        }
        several => {
            let several: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(format!(
                "{error}; and {} all say that they are disk {name}. Choose one: palisade disk confirm {name} --path \
                 PATH",
                several.join(", ")
            ))
        }
    }
}

/// What an operator can do about a medium that is not opened.
fn refusal((cluster, seen): (&Cluster, &LastSeen), name: &Name, disk: &Disk, error: &OpenError) -> String {
    let moved = || moved::remedy(cluster, name, disk);
    let places = Places {
        cluster,
        seen,
        open: &BTreeMap::new(),
    };
    match error {
        OpenError::OtherMedium { .. } if let Some(ring) = places.ring(name) => format!(
            "{error}. Nothing was written to it. Disk {name} is not there: {}. Bring them back to their places, or record where \
             they are now, in one step: {}",
            exchanged::told(&ring),
            exchanged::command(&ring)
        ),
        OpenError::OtherMedium { .. } if let Some((other, by)) = anothers(cluster, seen, name, disk) => {
            let path = disk.medium.path().unwrap_or_default();
            format!(
                "{error}. It is the medium of disk {other} ({by}). Nothing was written to it. Disk {name} is not there: {}. {}",
                moved(),
                exchanged::found_under(&places, name, &other, path)
            )
        }
        // Files have been moved over each other: what lies there is not said to be this one.
        OpenError::OtherMedium { .. } if moved::over_another(cluster, name, disk).is_some() => format!(
            "{error}. Nothing was read from it or written to it. Disk {name} is not there: {}",
            moved()
        ),
        OpenError::OtherMedium { .. } => format!(
            "{error}. Nothing was read from it or written to it. Disk {name} is not there: {}. If this is the right one all \
             the same: palisade disk confirm {name} --yes",
            moved()
        ),
        OpenError::Open { source, .. } if matches!(source.kind(), NotFound | NotADirectory) => {
            format!("{error}. Disk {name} is not there: {}", moved())
        }
        OpenError::NotFile { .. } | OpenError::NotBlock { .. } => {
            format!("{error}. Disk {name} is not there: {}", moved())
        }
        error if is_held_by_qemu(error) => format!(
            "{error}. Shut down that program or its virtual machine, or detach the disk from it: the disk is opened by itself \
             when it is free"
        ),
        _ => error.to_string(),
    }
}

/// The other disk whose medium lies under a disk's path, and what tells that.
fn anothers(cluster: &Cluster, seen: &LastSeen, name: &Name, disk: &Disk) -> Option<(Name, String)> {
    let there = beside(disk).ok()?;
    let records = Records {
        cluster,
        seen,
        open: &BTreeMap::new(),
    };
    let other = records.another(Some(name), disk.custodian(), &there)?;
    Some((other.name.clone(), other.by))
}

fn is_held_by_qemu(error: &OpenError) -> bool {
    match error {
        OpenError::Beneath { source, .. } => is_held_by_qemu(source),
        error => matches!(error, OpenError::HeldByQemu { .. }),
    }
}

/// Whether a disk is found by its identity when its path leads elsewhere.
pub fn is_followed(disk: &Disk) -> bool {
    let tells = disk.medium.wwid().is_some() || disk.record.serial.is_some();
    tells && matches!(disk.medium, Medium::Block { .. })
}

/// Whether a disk is a block device that tells nothing of itself: names of such are given away anew at each boot.
pub fn is_nameless_block(disk: &Disk) -> bool {
    matches!(disk.medium, Medium::Block { wwid: None, .. }) && disk.record.serial.is_none()
}

/// Where the kernel shows the medium of a disk that its path does not lead to any more.
fn same_medium_elsewhere(disk: &Disk) -> Vec<PathBuf> {
    if !is_followed(disk) {
        return Vec::new();
    }
    let is_it = |block: &BlockIdentity| {
        let (found, wwid) = record_of_block(block);
        disk.check_medium(&found, wwid.as_deref()).is_ok()
    };
    let all = identity::all().unwrap_or_default();
    let found = all
        .into_iter()
        .filter(|(path, block)| is_it(block) && path.exists());
    found.map(|(path, _)| path).collect()
}

/// Whether a disk is known by the fingerprint of its content alone.
pub fn needs_fingerprint(disk: &Disk) -> bool {
    disk.usage == Usage::Whole && !disk.has_identity()
}

/// Compares the content of a disk that has no other identity, and keeps what it looks like now.
///
/// # Errors
/// A sentence for an operator.
pub fn check_content(name: &Name, disk: &Disk, opened: &Opened, seen: &LastSeen) -> Result<(), String> {
    if !needs_fingerprint(disk) {
        return Ok(());
    }
    let unread = |error| format!("disk {name} cannot be read: {error}");
    is_content_of(disk, opened, seen).map_err(|reason| {
        let path = disk.medium.path().unwrap_or_default();
        format!(
            "{path} has no identity, and its content is not that of disk {name}: {reason}. Nothing was written to it. Put \
             the right medium in its place; if this is the right one, and was written to by something else or a crash came \
             right after it was formatted: palisade disk confirm {name} --yes"
        )
    })?;
    let now = Fingerprint::of(opened).map_err(unread)?;
    seen.keep(disk.uuid, &now, Hold::InUse).map_err(|error| {
        let Obstacle { what, remedy } = seen.obstacle(disk.uuid, &error);
        format!("what disk {name} looks like cannot be kept: {what}. To do: {remedy}")
    })
}

/// Whether it is known what a disk that is known by its content held.
pub fn was_seen(disk: &Disk, seen: &LastSeen) -> bool {
    disk.record.fingerprint.is_some() || seen.recall(disk.uuid).is_some()
}

/// Whether a medium holds what a disk that is known by its content held when it was last seen.
///
/// # Errors
/// What is different, or what reading says.
pub fn is_content_of(disk: &Disk, opened: &Opened, seen: &LastSeen) -> Result<(), String> {
    // The one of the day it was added has been written over since, in all likelihood by the guest.
    let added = disk
        .record
        .fingerprint
        .as_ref()
        .and_then(|text| text.parse().ok());
    let known = seen.recall(disk.uuid).or_else(|| Some((added?, Hold::InUse)));
    let Some((before, hold)) = known else {
        return Ok(());
    };
    let found = Fingerprint::of_first(opened, before.bytes());
    let found = found.map_err(|error| format!("it cannot be read: {error}"))?;
    before.check(&found, hold).map_err(|reason| reason.to_string())
}

/// What an open medium is recorded as: its identity, and its fingerprint if it needs one.
///
/// # Errors
/// What reading says.
pub fn record_open(opened: &Opened, usage: Usage) -> std::io::Result<(MediumRecord, Option<String>)> {
    let (mut record, wwid) = record_kept(opened, usage);
    if usage == Usage::Whole && opened.identity().is_some() && !tells(&record, wwid.as_deref()) {
        record.fingerprint = Some(Fingerprint::of(opened)?.to_string());
    }
    Ok((record, wwid))
}

/// The identity of an open medium, as it is recorded. What a loop device stands on counts where nothing else tells but the
/// content: a pool is known by its superblock, and may be moved to another file.
pub fn record_kept(opened: &Opened, usage: Usage) -> (MediumRecord, Option<String>) {
    let (mut record, wwid) = opened.identity().map(record_of).unwrap_or_default();
    if usage == Usage::Pooled || tells(&record, wwid.as_deref()) {
        record.backing = None;
    }
    (record, wwid)
}

fn tells(record: &MediumRecord, wwid: Option<&str>) -> bool {
    wwid.is_some() || record.serial.is_some() || record.file.is_some()
}

/// How a medium is told to people.
pub fn describe(record: &MediumRecord, wwid: Option<&str>) -> Option<String> {
    let mut words = Vec::new();
    words.extend(wwid.map(|wwid| format!("WWID {wwid}")));
    words.extend(
        record
            .serial
            .as_ref()
            .map(|serial| format!("serial number {serial}")),
    );
    words.extend(record.partition.map(|part| format!("partition {part}")));
    words.extend(record.file.map(|file| format!("inode {file}")));
    words.extend(record.backing.map(|backing| format!("backing file {backing}")));
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests;
