//! Disks taken in with the volumes that their superblocks tell of.

use super::{conflict, imported, is_as_long};
use crate::alias;
use crate::exchanged;
use crate::medium;
use crate::new_disk::refuse_used;
use crate::opening;
use crate::places;
use crate::problem;
use crate::recorded::are_one;
use crate::shared::Shared;
use crate::superblocks;
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{AddDisk, Cluster, Command, ImportDisks, Medium, MediumRecord, Usage};
use palisade_sys::device::DeviceMedium;
use palisade_sys::{OpenError, Opened};
use palisade_wire::{Claim, DecodeError, Decoded};
use palisade_words::{Name, SECTOR_BYTES, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Takes disks in with the volumes that their superblocks tell of, or says what that would bring.
///
/// # Errors
/// A medium cannot be opened or carries no superblock that can be used, is a disk here already, or is of another
/// cluster and that is not what was asked for.
pub fn import(shared: &Shared, request: &api::DiskImport) -> Result<api::DiskImported, Problem> {
    let cluster = shared.cluster();
    if request.disks.is_empty() {
        let message = "no disk is named";
        return Err(Problem::new(
            ProblemKind::Invalid,
            "invalid_argument",
            message,
            "name at least one",
        )
        .about("disks"));
    }
    refuse_twice(request)?;
    let looked: Vec<Looked> = request
        .disks
        .iter()
        .map(|medium| look(shared, &cluster, medium, request.volatile))
        .collect::<Result<_, _>>()?;
    refuse_copies(&looked)?;
    let takes = takes_cluster_id(&cluster, &looked, request.other_cluster)?;
    let command = Command::ImportDisks(ImportDisks {
        disks: looked
            .iter()
            .map(|looked| imported(looked.add.clone(), &looked.found))
            .collect::<Result<_, _>>()?,
        cluster: takes,
        holds_clearings: looked.iter().any(|looked| names(&cluster, looked)),
        regards_protection: true,
    });
    let (after, _) = cluster
        .apply(&command)
        .map_err(|refusal| problem::of_refusal(&refusal))?;
    let mut shown = api::DiskImported {
        disks: looked.iter().map(shown_disk).collect(),
        volumes: shown_volumes(&after, &looked),
        takes_cluster_id: takes.is_some(),
        done: false,
    };
    if request.dry_run {
        return Ok(shown);
    }
    // In place of what is known of one that was here once: its operator has been shown what it carries now.
    for looked in &looked {
        let carries = looked.found.superblock.generation;
        shared
            .last_superblock
            .keep_of_new(looked.add.uuid, carries)
            .map_err(|error| {
                let message = format!(
                    "which generation {} carries cannot be kept in the state directory: {error}",
                    looked.add.medium.path().unwrap_or_default()
                );
                let remedy = "make room there, and see that the daemon may write to it";
                Problem::new(ProblemKind::Internal, "state_not_written", message, remedy)
            })?;
    }
    drop(looked);
    let agreed = shared.propose(command);
    agreed.map_err(|error| problem::of_proposal(&error))?;
    shown.done = true;
    Ok(shown)
}

/// Refuses a medium that is named twice, by whatever paths.
fn refuse_twice(request: &api::DiskImport) -> Result<(), Problem> {
    let paths: Vec<&str> = request.disks.iter().filter_map(path_of).collect();
    let twice = paths.iter().enumerate().find_map(|(at, path)| {
        let before = paths.iter().take(at);
        let is_one = |other: &&&str| *other == path || are_one(Path::new(other), Path::new(path));
        let other = before
            .clone()
            .find(|other| *other == path)
            .or_else(|| before.clone().find(is_one));
        Some((*other?, *path))
    });
    let Some((first, second)) = twice else {
        return Ok(());
    };
    let message = match first == second {
        true => format!("{first} is named twice"),
        false => format!("{first} and {second} lead to one medium, or to parts of one"),
    };
    let remedy = "name each disk once";
    Err(Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("disks"))
}

/// The path of a medium, if one is named.
fn path_of(medium: &api::ImportMedium) -> Option<&str> {
    match (&medium.file, &medium.block) {
        (Some(file), _) => Some(&file.path),
        (None, Some(block)) => Some(&block.path),
        (None, None) => None,
    }
}

/// Refuses two media that carry the superblock of one disk: nothing tells which of them is the disk.
fn refuse_copies(looked: &[Looked]) -> Result<(), Problem> {
    let copies = looked.iter().enumerate().find_map(|(at, copy)| {
        let mut before = looked.iter().take(at);
        Some((before.find(|other| other.add.uuid == copy.add.uuid)?, copy))
    });
    let Some((one, copy)) = copies else {
        return Ok(());
    };
    let path = |looked: &Looked| looked.add.medium.path().unwrap_or_default().to_owned();
    let (first, second) = (path(one), path(copy));
    let message = format!(
        "{first} and {second} both carry the superblock of disk {} ({}): one of them is a copy of the other, or both are ways to \
         one medium",
        one.found.superblock.label, one.add.uuid
    );
    let remedy = format!(
        "nothing was changed. See what is on each, which changes nothing: palisade-inspect {first}, palisade-inspect {second}; \
         and name the one only that is the disk"
    );
    Err(conflict("disk_copied", message, &remedy).about("disks"))
}

/// What to do about a medium that says nothing: a disk that was given whole carries nothing of ours.
fn nothing_there(request: &api::ImportMedium, path: &str, error: &DecodeError) -> String {
    let added = match &request.block {
        Some(_) => format!(
            "palisade disk add NAME --block {path} --whole --force, which leaves as it is what is on it"
        ),
        None => format!("palisade disk add NAME --file {path} --whole"),
    };
    match error {
        DecodeError::NotOurs => format!(
            "nothing was changed: leave it out of the disks that are imported together. If it was a disk given whole, which \
             carries no superblock, add it anew, and its content stays ({added}); then create a volume on it (palisade volume \
             create ID SIZE --disk DISK), which shows it"
        ),
        _ => "nothing was changed: leave it out of the disks that are imported together, and see with `palisade-inspect` what is \
              on it, copy by copy"
            .to_owned(),
    }
}

/// A medium that tells two histories: nothing on it says which one is the present one, and the other's volumes would be given
/// away with the space that they lie in. Only a database that has been where one of them was can say it.
fn contradicts(path: &str, claims: &[Claim; 2], error: &DecodeError) -> Problem {
    let told = claims.each_ref().map(|claim| {
        let names: BTreeSet<&str> = claim
            .extents
            .iter()
            .map(|extent| extent.volume_name.as_str())
            .collect();
        let volumes = match names.is_empty() {
            true => "no volume".to_owned(),
            false => Vec::from_iter(names).join(", "),
        };
        format!("generation {} has {volumes}", claim.superblock.generation)
    });
    let message = format!(
        "{path} cannot be imported: {error}: {}; nothing there tells which of them is right",
        told.join(", ")
    );
    let remedy = format!(
        "nothing was changed. Keep an image of it, and see what is there copy by copy: palisade-inspect {path}. Where a copy of the \
         database that it belonged to is left, put that back (palisade state restore), and decide with it: palisade disk adopt \
         DISK. Else leave it out of the disks that are imported together"
    );
    conflict("contradiction", message, &remedy)
}

/// A medium that was looked at.
struct Looked {
    add: AddDisk,
    found: Decoded,
}

fn look(
    shared: &Shared,
    cluster: &Cluster,
    request: &api::ImportMedium,
    volatile: bool,
) -> Result<Looked, Problem> {
    let (device, path) = match (&request.file, &request.block) {
        (Some(file), None) => (
            DeviceMedium::File {
                path: (&file.path).into(),
                create: None,
            },
            &file.path,
        ),
        (None, Some(block)) => (
            DeviceMedium::Block {
                path: (&block.path).into(),
            },
            &block.path,
        ),
        _ => {
            let message = "a medium is exactly one of `file` and `block`";
            let remedy = "name each medium in one way";
            return Err(
                Problem::new(ProblemKind::Invalid, "invalid_argument", message, remedy).about("disks"),
            );
        }
    };
    let allow = &shared.settings.allow;
    allow.check_disk_path(path, matches!(device, DeviceMedium::Block { .. }), "disks")?;
    places::refuse_own(shared, path)?;
    if let Some((holder, _)) = exchanged::recorded_at(cluster, &shared.name, path) {
        return Err(is_here(cluster, path, holder));
    }
    if !volatile && !shared.settings.allow.takes_any_place() {
        places::refuse_volatile(allow, path)?;
    }
    alias::refuse(shared, cluster, None, path)?;
    let patience = shared.settings.lock_wait;
    let opened = match opening::open_new(device.clone(), 512, patience) {
        Err(OpenError::BlockTooSmall { device: own, .. }) => opening::open_new(device, own, patience),
        other => other,
    };
    let opened = opened.map_err(|error| problem::of_open(&error))?;
    refuse_used(path, &opened)?;
    let found = superblocks::read(&opened).map_err(|error| {
        if let DecodeError::Contradiction(claims) = &error {
            return contradicts(path, claims, &error);
        }
        let message = format!("{path} cannot be imported: {error}");
        conflict("nothing_on_disk", message, &nothing_there(request, path, &error))
    })?;
    let superblock = &found.superblock;
    if let Some((holder, disk)) = cluster
        .disks
        .iter()
        .find(|(_, disk)| disk.uuid == superblock.disk)
    {
        return Err(alias::carries(shared, path, holder, disk));
    }
    alias::refuse_recorded(shared, cluster, None, &opened)?;
    let label = request.id.as_deref().unwrap_or(superblock.label.as_str());
    let name = Name::new(label).map_err(|error| problem::of_name("id", error))?;
    if cluster.disks.contains_key(&name) {
        let message = format!("{path} is called disk {name}, and there is another disk of that name");
        let kind = if request.file.is_some() { "file" } else { "block" };
        let remedy = format!(
            "give it another name: palisade disk import --{kind} {path} --id NAME; disks that come with it are taken in \
             before or after"
        );
        return Err(conflict("disk_name_taken", message, &remedy).about("id"));
    }
    let (record, wwid) =
        medium::record_open(&opened, Usage::Pooled).map_err(|error| problem::of_reading(path, error))?;
    let medium = match &request.file {
        Some(file) => Medium::File {
            path: file.path.clone(),
            bytes: superblock.disk_sectors * SECTOR_BYTES,
            created: false,
        },
        None => Medium::Block {
            path: path.clone(),
            wwid,
        },
    };
    let add = of_superblock(shared, name, medium, record, &found);
    fits(path, &opened, &found)?;
    Ok(Looked { add, found })
}

fn of_superblock(
    shared: &Shared,
    name: Name,
    medium: Medium,
    record: MediumRecord,
    found: &Decoded,
) -> AddDisk {
    let superblock = &found.superblock;
    AddDisk {
        name,
        uuid: superblock.disk,
        node: shared.name.clone(),
        medium,
        record,
        usage: Usage::Pooled,
        block_bytes: superblock.block_bytes,
        sectors: superblock.disk_sectors,
        data_start: superblock.data_start.0,
        data_end: superblock.data_end.0,
        superblock_pending: false,
    }
}

fn fits(path: &str, opened: &Opened, found: &Decoded) -> Result<(), Problem> {
    is_as_long(path, opened.sectors().0, found.superblock.disk_sectors)?;
    let (takes, asks) = (opened.limits().block_bytes, found.superblock.block_bytes);
    if takes > asks {
        let message = format!("{path} takes blocks of {takes} bytes, and was written in blocks of {asks}");
        return Err(conflict(
            "block_size",
            message,
            "put it where blocks of that size can be had",
        ));
    }
    Ok(())
}

fn is_here(cluster: &Cluster, path: &str, holder: &Name) -> Problem {
    let message = format!("{path} is disk {holder} of this cluster already");
    let mut remedy = format!("see how it is: palisade disk show {holder}");
    // What a disk without a superblock knows cannot be shown.
    match cluster.disks.get(holder) {
        Some(disk) if disk.has_superblock() => {
            remedy = format!("{remedy}; what each side knows: palisade disk adopt {holder}");
        }
        Some(disk) if disk.keeps_no_record() && cluster.volumes_on(holder).is_empty() => {
            remedy = format!(
                "{remedy}. It was added whole: if it is to be imported instead, take it out first, which leaves what is on it: \
                 palisade disk remove {holder} --yes"
            );
        }
        _ => {}
    }
    conflict("medium_taken", message, &remedy)
}

/// Whether the cluster takes the permanent id of the disks' cluster: only after its database was lost, when it has no
/// disk of its own and they all name the same.
fn takes_cluster_id(
    cluster: &Cluster,
    looked: &[Looked],
    other_cluster: bool,
) -> Result<Option<Uuid>, Problem> {
    let theirs: BTreeSet<Uuid> = looked
        .iter()
        .map(|looked| looked.found.superblock.cluster)
        .collect();
    let foreign = theirs.iter().find(|id| **id != cluster.id);
    let Some(foreign) = foreign else { return Ok(None) };
    if cluster.disks.is_empty() && theirs.len() == 1 {
        return Ok(Some(*foreign));
    }
    if other_cluster {
        return Ok(None);
    }
    let message = format!(
        "the disks name cluster {}, and this one is {} with disks of its own",
        *foreign, cluster.id
    );
    let remedy = "if that cluster does not use them any more, take them with `other_cluster` (--from-other-cluster); \
                  nothing on them is lost, but that cluster will not know them again";
    Err(conflict("disk_of_other_cluster", message, remedy).about("other_cluster"))
}

/// Whether a disk names this very cluster, whose database does not know it: the database may be an old copy.
fn names(cluster: &Cluster, looked: &Looked) -> bool {
    looked.found.superblock.cluster == cluster.id
}

fn shown_disk(looked: &Looked) -> api::ImportedDisk {
    let superblock = &looked.found.superblock;
    api::ImportedDisk {
        id: looked.add.name.to_string(),
        path: looked.add.medium.path().unwrap_or_default().to_owned(),
        uuid: looked.add.uuid.to_string(),
        cluster: superblock.cluster.to_string(),
        generation: superblock.generation.0,
        damage: looked.found.damage.iter().map(ToString::to_string).collect(),
    }
}

/// The volumes that the disks tell of, as they are in the cluster afterwards.
fn shown_volumes(after: &Cluster, looked: &[Looked]) -> Vec<api::ImportedVolume> {
    let mut told: BTreeMap<Uuid, &str> = BTreeMap::new();
    for extent in looked.iter().flat_map(|looked| &looked.found.extents) {
        told.entry(extent.volume)
            .or_insert_with(|| extent.volume_name.as_str());
    }
    let shown = told.into_iter().filter_map(|(uuid, name)| {
        let whole = after.volumes.iter().find(|(_, volume)| volume.uuid == uuid);
        let (id, sectors, present) = match whole {
            Some((id, volume)) => (id.to_string(), volume.sectors, volume.sectors),
            None => {
                let fragment = after.fragments.get(&uuid)?;
                (
                    fragment.name.to_string(),
                    fragment.sectors,
                    fragment.present_sectors(),
                )
            }
        };
        Some(api::ImportedVolume {
            id,
            name: name.to_owned(),
            uuid: uuid.to_string(),
            bytes: sectors * SECTOR_BYTES,
            present_bytes: present * SECTOR_BYTES,
        })
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_here_is_shown_by_what_can_show_it() {
        let name = Name::new("d1").unwrap();
        let nobody = is_here(&Cluster::empty(), "/d1", &name);
        assert!(
            nobody.remedy.contains("palisade disk show d1"),
            "{}",
            nobody.remedy
        );
        assert!(!nobody.remedy.contains("adopt"), "{}", nobody.remedy);
    }
}
