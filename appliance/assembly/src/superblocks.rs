//! Superblocks read from and written to open devices: what may be written is decided by `palisade_volume`, each time
//! with what is on the medium at that moment.

use crate::event::Done;
use crate::hands::Work;
use palisade_model::{Cluster, Disk, Generation, History, Name, Uuid};
use palisade_reconcile::Superblock;
use palisade_sys::Opened;
use palisade_sys::device::probe;
use palisade_volume::{Bare, Forbidden, Standing, image, renewal, standing};
use palisade_wire::{DecodeError, Decoded, Lba, Phase, SECTOR_BYTES, Sector, decode, is_cut_off_write_of};
use std::io;
use std::sync::Arc;

/// How often a superblock is written in a row so that all copies are sound: each write renews half of them.
const WRITES_MAX: usize = 3;

/// What a look at a disk's superblock has brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// What it says, as the planner takes it.
    pub superblock: Superblock,
    /// What is not as it should be, in words. Empty on a healthy disk.
    pub damage: Vec<String>,
}

/// Looks whose superblock an open disk carries.
///
/// # Errors
/// A sentence: it cannot be read, or was written by a later version.
pub fn look(wanted: &Cluster, name: &Name, disk: &Disk, opened: &Opened) -> Result<Look, String> {
    if !disk.has_superblock() {
        return Ok(Look::default());
    }
    let should = image(wanted, name).map_err(|error| error.to_string())?;
    let found = match read(opened) {
        Ok(found) => found,
        Err(DecodeError::NotOurs | DecodeError::TooSmall { .. }) => return Ok(Look::default()),
        Err(DecodeError::Damaged { .. }) if is_cut_off(wanted, disk, opened) => return Ok(Look::default()),
        Err(error @ (DecodeError::Damaged { .. } | DecodeError::Contradiction { .. })) => {
            return Ok(Look {
                superblock: Superblock::Damaged,
                damage: vec![error.to_string()],
            });
        }
        Err(error) => return Err(format!("the superblock of disk {name} cannot be used: {error}")),
    };
    let damage: Vec<String> = found.damage.iter().map(ToString::to_string).collect();
    damage
        .iter()
        .for_each(|damage| log::warn!("disk {name}: {damage}"));
    let superblock = told(standing(&found, &should), &found);
    Ok(Look { superblock, damage })
}

/// As the planner takes it.
fn told(standing: Standing, found: &Decoded) -> Superblock {
    let generation = Generation(found.superblock.generation);
    let flawed = !found.damage.is_empty() || standing == Standing::Unstamped;
    match standing {
        Standing::OtherDisk | Standing::OtherCluster => Superblock::Foreign,
        Standing::Ahead => Superblock::Newer { generation },
        Standing::Diverged { .. } | Standing::Differs => Superblock::Diverged { generation },
        Standing::InForce | Standing::Unstamped | Standing::Behind => Superblock::Ours { generation, flawed },
    }
}

/// Whether a first write of ours was cut off there.
fn is_cut_off(wanted: &Cluster, disk: &Disk, opened: &Opened) -> bool {
    let pending = !disk.first_superblock.is_on_medium();
    pending
        && is_cut_off_write_of(opened.sectors().0, disk.uuid.0, wanted.id.0, |lba| {
            sector(opened, lba)
        })
}

/// What a disk says about itself.
///
/// # Errors
/// See [`DecodeError`].
pub fn read(opened: &Opened) -> Result<Decoded, DecodeError> {
    decode(opened.sectors().0, |lba| sector(opened, lba))
}

fn sector(opened: &Opened, lba: Lba) -> io::Result<Sector> {
    let mut sector = [0; SECTOR_BYTES];
    let offset = lba.checked_bytes().ok_or(io::ErrorKind::InvalidInput)?;
    opened.read_at(offset, &mut sector).map(|()| sector)
}

/// Looks again whose superblock an open disk carries.
pub fn examine(wanted: Arc<Cluster>, name: Name, opened: Option<Arc<Opened>>) -> Work {
    Box::new(move || {
        let opened = opened.ok_or_else(|| format!("disk {name} is not open"))?;
        let disk = wanted
            .disks
            .get(&name)
            .ok_or_else(|| format!("there is no disk {name}"))?;
        look(&wanted, &name, disk, &opened).map(Done::Looked)
    })
}

/// Writes superblock and extents of a pooled disk, if what is on the medium now allows it. `examined`: this very daemon
/// has looked at the medium and was told to take it, so that a first superblock may be written whatever is there; what
/// shows up under the path after a restart may be another disk with somebody's data.
pub fn write(wanted: Arc<Cluster>, name: Name, opened: Option<Arc<Opened>>, examined: bool) -> Work {
    Box::new(move || {
        let opened = opened.ok_or_else(|| format!("disk {name} is not open"))?;
        let disk = wanted
            .disks
            .get(&name)
            .ok_or_else(|| format!("there is no disk {name}"))?;
        let should = image(&wanted, &name).map_err(|error| error.to_string())?;
        let pending = !disk.first_superblock.is_on_medium();
        let bare = || Bare {
            pending,
            examined,
            blank: matches!(probe::probe(&opened), Ok(probe::Content::Blank)),
            cut_off: is_cut_off(&wanted, disk, &opened),
        };
        for _ in 0..WRITES_MAX {
            let found = read(&opened);
            let phases = match renewal(&found, &should, bare) {
                Ok(phases) => phases,
                Err(Forbidden::Standing(_) | Forbidden::Lost) => {
                    return look(&wanted, &name, disk, &opened).map(Done::Looked);
                }
                Err(forbidden) => return Err(not_written(&name, pending, &forbidden)),
            };
            carry_out(&opened, &phases)
                .map_err(|error| format!("the superblock of disk {name} cannot be written: {error}"))?;
            match read(&opened) {
                Ok(there) if there.damage.is_empty() && standing(&there, &should) == Standing::InForce => {
                    let superblock = told(Standing::InForce, &there);
                    let damage = Vec::new();
                    return Ok(Done::Looked(Look { superblock, damage }));
                }
                Ok(_) => {}
                Err(error) => {
                    return Err(format!(
                        "the superblock just written to disk {name} is not there: {error}"
                    ));
                }
            }
        }
        let damage = read(&opened).map(|there| there.damage).unwrap_or_default();
        let damage: Vec<String> = damage.iter().map(ToString::to_string).collect();
        Err(format!(
            "the superblock of disk {name} was written and is still damaged ({}): replace the disk soon",
            damage.join("; ")
        ))
    })
}

fn not_written(name: &Name, pending: bool, forbidden: &Forbidden) -> String {
    let remedy = match forbidden {
        Forbidden::NotBlank if pending => {
            "it is left alone. No volume lies on the disk: check where its path leads, or remove the disk and add it anew"
        }
        Forbidden::NotBlank => {
            "it is left alone; check where its path leads, `palisade-inspect` shows what is there"
        }
        _ => "it is left alone; `palisade-inspect` shows what is there",
    };
    format!("disk {name}: {forbidden}: {remedy}")
}

/// Erases the superblock of a disk that has left the cluster, if it is that one and none that grew on elsewhere.
pub fn erase(opened: Option<Arc<Opened>>, disk: Uuid, cluster: Uuid, history: History) -> Work {
    Box::new(move || {
        let Some(opened) = opened else {
            return Ok(Done::Plain);
        };
        let ours = match read(&opened) {
            Ok(found) => {
                let point = found.superblock.point();
                let known = |ours: &palisade_model::Ancestor| ours.id.0 == point.id;
                let unstamped = found.superblock.lineage.is_none();
                found.superblock.disk == disk.0 && (unstamped || history.iter().any(known))
            }
            Err(DecodeError::Damaged { .. }) => {
                let sector = |lba| sector(&opened, lba);
                is_cut_off_write_of(opened.sectors().0, disk.0, cluster.0, sector)
            }
            Err(DecodeError::NotOurs | DecodeError::TooSmall { .. }) => false,
            Err(error) => return Err(format!("the superblock cannot be read: {error}")),
        };
        match ours {
            true => wipe(&opened).map(|()| Done::Plain),
            false => Ok(Done::Plain),
        }
    })
}

/// Makes a disk carry no superblock of ours.
///
/// # Errors
/// A sentence: it cannot be written.
pub fn wipe(opened: &Opened) -> Result<(), String> {
    let phases = palisade_wire::erase(opened.sectors().0).map_err(|error| error.to_string())?;
    carry_out(opened, &phases).map_err(|error| format!("the superblock cannot be erased: {error}"))
}

/// Each phase is stable before the next begins.
fn carry_out(opened: &Opened, phases: &[Phase]) -> io::Result<()> {
    for phase in phases {
        for write in &phase.writes {
            let offset = write.lba.checked_bytes().ok_or(io::ErrorKind::InvalidInput)?;
            opened.write_at(offset, &write.bytes)?;
        }
        opened.sync()?;
    }
    Ok(())
}
