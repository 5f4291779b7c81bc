//! What is wrong with the media of open disks, as they were last seen, and what is to be known about them.

use crate::exchanged;
use crate::local_state::{LocalState, OpenDisk};
use crate::lost_end;
use crate::medium;
use crate::sight::promised;
use palisade_api::FindingKind;
use palisade_api::calendar::date_and_time;
use palisade_api::size::human;
use palisade_model::{Cluster, Disk, Medium, Usage};
use palisade_reconcile::Ring;
use palisade_sys::device::fingerprint::Fingerprint;
use palisade_sys::device::{FileLook, Look};
use palisade_sys::filesystem::FileSystem;
use palisade_words::{Name, SECTOR_BYTES};
use std::path::Path;

/// A file system is nearly full when a twentieth of it is left, or less than this; whichever is less.
const NEARLY_FULL_BYTES: u64 = 4 << 30;

/// A file system is full when not even this is left: less than one long request of a guest may take.
const FULL_BYTES: u64 = 1 << 20;

/// What is to be said of a disk that has refused this node. It stands until reactors use the disk again: that nobody has met
/// the reservation for a while says nothing of it.
pub fn fenced(state: &LocalState, name: &Name) -> Option<String> {
    let is_fenced = state.control.is_fenced(name);
    is_fenced.then(|| format!("disk {name} has refused this node, which gives it nothing more"))
}

/// What is to be said of a disk that reactors could not take into use, and why not.
pub fn unusable(state: &LocalState, name: &Name) -> Option<String> {
    let on = state.control.unusable_on(name);
    let reasons: Vec<String> = on
        .map(|(reactor, why)| format!("reactor {} ({why})", reactor.0))
        .collect();
    let told = || {
        format!(
            "disk {name} could not be taken into use by {}",
            reasons.join(", ")
        )
    };
    (!reasons.is_empty()).then(told)
}

/// What is wrong with an open disk's medium, the cause before what follows from it.
pub fn findings(
    cluster: &Cluster,
    state: &LocalState,
    name: &Name,
    open: &OpenDisk,
) -> Vec<(FindingKind, String)> {
    let agreed = state
        .control
        .observed
        .disks
        .get(name)
        .map_or(0, |observed| observed.disk.sectors * 512);
    let sight = &open.sight;
    let again = match &sight.reopening {
        Some(reason) => format!("; it is opened anew once it is there, and now: {reason}"),
        None => String::new(),
    };
    if let Some(error) = &sight.error {
        let message = format!("what disk {name} lies on does not answer any more: {error}{again}");
        return vec![(FindingKind::DiskGone, message)];
    }
    let mut found = Vec::new();
    // Where requests wait as well, that is told with their age.
    if sight.silent && !state.control.has_stalled(name) {
        let message = format!("what disk {name} lies on has not answered for some seconds");
        found.push((FindingKind::DiskStalled, message));
    }
    let Some(look) = sight.look else {
        return found;
    };
    if look.gone {
        let message = format!("the device of disk {name} has been taken away from this machine{again}");
        return vec![(FindingKind::DiskGone, message)];
    }
    if look.read_only {
        let path = open.opened.path().unwrap_or(Path::new("")).display();
        let message = format!(
            "the device of disk {name}, {path}, may only be read: guests' writes fail, and nothing is recorded on it"
        );
        found.push((FindingKind::DiskReadOnly, message));
    }
    if let Some(shortest) = sight.shortest {
        let path = open.opened.path().unwrap_or(Path::new("PATH"));
        let message = lost_end::shrunk(cluster, name, path, &look, (agreed, shortest));
        found.push((FindingKind::DiskShrunk, message));
    }
    match unlinked(name, open.opened.path(), &look) {
        Some(message) => found.push((FindingKind::DiskUnlinked, message)),
        None => found.extend(
            sight
                .astray
                .as_ref()
                .filter(|_| !is_followed(state, name) && !is_moved(state, name, sight.looked_under.as_deref()))
                .map(|astray| match exchanged_with(state, name) {
                    Some(ring) => {
                        let now = open.opened.path().unwrap_or(Path::new("")).display();
                        let command = exchanged::command(&ring);
                        let message = format!(
                            "disk {name} is open and works as {now}, which is recorded as the path of another disk: the two, or \
                             more of them, have exchanged their paths. It was found by what its superblock says. Record where \
                             they are now: {command}"
                        );
                        (FindingKind::DiskExchanged, message)
                    }
                    None => {
                        let now = open.opened.path().unwrap_or(Path::new("")).display();
                        let copied = match sight.copied {
                            true => format!(
                                ". What lies under that path carries the superblock of disk {name} as well: it is a copy of what is \
                                 in use, which was found as {now}. Nothing is read from it or written to it"
                            ),
                            false => String::new(),
                        };
                        let message = format!(
                            "disk {name} is open and works, and will not be found at the next start: {astray}{copied}"
                        );
                        (FindingKind::DiskAstray, message)
                    }
                }),
        ),
    }
    if let Some(other) = alike(state, name, open) {
        found.push((
            FindingKind::DiskAlike,
            format!("disk {name}: {}", told_alike(other)),
        ));
    }
    if let Some(file) = look.file {
        found.extend(of_filesystem(state, name, look.bytes, &file));
    }
    found
}

/// Another open disk from which nothing tells one.
fn alike<'a>(state: &'a LocalState, name: &'a Name, open: &'a OpenDisk) -> Option<&'a Name> {
    let seen = |name: &'a Name, open: &'a OpenDisk| {
        let observed = state.control.observed.disks.get(name)?;
        Some((name, &observed.disk, open.sight.print()?))
    };
    let of = seen(name, open)?;
    twin(of, state.disks.iter().filter_map(|(name, open)| seen(name, open)))
}

/// The first of several disks that has no more of an identity than one, and looked the same when both were last looked at.
fn twin<'a>(
    (name, disk, print): (&Name, &Disk, &Fingerprint),
    others: impl Iterator<Item = (&'a Name, &'a Disk, &'a Fingerprint)>,
) -> Option<&'a Name> {
    let is_asked = medium::alike::is_told_by_content;
    let mut others = others
        .filter(|(other, found, seen)| *other != name && is_asked(disk) && is_asked(found) && *seen == print);
    others.next().map(|(other, ..)| other)
}

/// What is said of a medium from which nothing tells that of another disk.
pub fn told_alike(other: &Name) -> String {
    format!(
        "it has no identity of its own, and holds the same as disk {other} wherever both were looked at: after a restart nothing \
         tells which is which, and neither is served then before an operator has said it. Give them a WWID or a serial number, or \
         put different data on them, such as a partition table of its own on each"
    )
}

/// What is said of a disk whose data lies in a file that has been deleted.
pub fn unlinked(name: &Name, path: Option<&Path>, look: &Look) -> Option<String> {
    if look.file.is_some_and(|file| file.links == 0) {
        return Some(format!(
            "the file of disk {name} has been deleted under the daemon: what guests write is gone when it is closed"
        ));
    }
    let path = path.unwrap_or(Path::new("")).display();
    look.is_unlinked().then(|| {
        format!(
            "disk {name}, {path}, lies on a loop device whose file has been deleted (`losetup --list` shows it): what guests \
             write is gone when that device is given back or the machine stops"
        )
    })
}

/// The disks that a disk has exchanged its path with, and that are open as well.
fn exchanged_with(state: &LocalState, name: &Name) -> Option<Ring> {
    let open = |name: &Name| {
        let observed = state.control.observed.disks.get(name)?;
        let opened = &state.disks.get(name)?.opened;
        exchanged::may_be(&observed.disk).then_some((&observed.disk, &**opened))
    };
    exchanged::ring_of(name, open, &state.disks.keys().collect::<Vec<_>>())
}

/// Whether another path has been recorded for a disk since it was looked for.
fn is_moved(state: &LocalState, name: &Name, looked_under: Option<&str>) -> bool {
    let observed = state.control.observed.disks.get(name);
    observed.is_some_and(|observed| observed.disk.medium.path() != looked_under)
}

/// Less than that is the file system's own business.
const KEPT_BYTES: u64 = 1 << 20;

/// Whether a disk is found wherever the kernel shows it.
fn is_followed(state: &LocalState, name: &Name) -> bool {
    let observed = state.control.observed.disks.get(name);
    observed.is_some_and(|observed| medium::is_followed(&observed.disk))
}

fn of_filesystem(
    state: &LocalState,
    name: &Name,
    bytes: u64,
    file: &FileLook,
) -> Option<(FindingKind, String)> {
    let filesystem = file.filesystem;
    let kind = filesystem.name();
    if filesystem.read_only {
        let message =
            format!("the file system ({kind}) under disk {name} is read-only: no guest can write to it");
        return Some((FindingKind::DiskReadOnly, message));
    }
    // What has all its space asks for none, except where overwriting takes new blocks.
    let copies = filesystem.is_btrfs() && file.nocow == Some(false);
    if file.allocated < bytes || copies {
        let (free, promised) = (filesystem.free_bytes, promised(state, file.device));
        if free < FULL_BYTES {
            let message = format!(
                "the file system ({kind}) under disk {name} is full: {} are free, and its disks may still ask for {}",
                human(free),
                human(promised)
            );
            return Some((FindingKind::DiskNoSpace, message));
        }
        let nearly = (filesystem.total_bytes / 20).min(NEARLY_FULL_BYTES);
        if free < nearly && (free < promised || copies) {
            let message = format!(
                "the file system ({kind}) under disk {name} is nearly full: {} of {} are free, and its disks may still ask \
                 for {}",
                human(free),
                human(filesystem.total_bytes),
                human(promised)
            );
            return Some((FindingKind::DiskSpaceLow, message));
        }
    }
    if let Some(why) = filesystem.hazard() {
        let message = format!("disk {name} lies on a file system in user space ({kind}): {why}");
        return Some((FindingKind::DiskInUserSpace, message));
    }
    copies.then(|| {
        let message = format!(
            "the file of disk {name} is copied on write and checksummed by btrfs: a guest that changes a buffer while it is \
             written makes that sector unreadable"
        );
        (FindingKind::DiskCopiedOnWrite, message)
    })
}

/// Whether what has the same content could be taken for a disk: nothing of its own tells it, nor does the file under it.
fn is_known_by_content(disk: &Disk) -> bool {
    medium::needs_fingerprint(disk) && disk.record.backing.is_none()
}

/// What is to be known about a disk, a sentence each.
pub fn notes(state: &LocalState, disk: &Disk, open: Option<&OpenDisk>) -> Vec<String> {
    let mut notes = Vec::new();
    if is_known_by_content(disk) {
        notes.push(
            "its medium has no identity of its own (WWID, serial number or inode): it is known again by its content, so one \
             with the same content is taken for it; use a path that does not change"
                .to_owned(),
        );
    }
    if matches!(disk.medium, Medium::Block { .. }) && disk.has_superblock() && disk.medium.wwid().is_none() {
        notes.push("its medium has no WWID: it is known again by its superblock, and found again when it has exchanged its path with \
             other such disks"
                .to_owned());
    }
    if let Some((open, astray)) = open.and_then(|open| Some((open, open.sight.astray.as_ref()?)))
        && medium::is_followed(disk)
    {
        let now = open.opened.path().unwrap_or(Path::new("")).display();
        notes.push(format!(
            "{astray}; it is found by its identity wherever the kernel shows it, now as {now}: a path below \
             /dev/disk/by-id would stay right"
        ));
    }
    let look = open.and_then(|open| open.sight.look);
    notes.extend(look.and_then(|look| tail(&look, disk.block_bytes)));
    if let Some((look, file)) = look.and_then(|look| Some((look, look.file?))) {
        notes.extend(over_commit(
            look.bytes
                .max(disk.sectors * SECTOR_BYTES)
                .saturating_sub(file.allocated),
            promised(state, file.device),
            &file,
        ));
        notes.extend(hazard(&look));
        if file.filesystem.is_volatile() {
            let kind = file.filesystem.name();
            notes.push(format!(
                "it lies in memory ({kind}): its content is gone when the machine stops"
            ));
        }
    }
    notes
}

/// What is to be known about a disk given whole that has no volume any more.
pub fn note_of_reuse(disk: &Disk) -> Option<String> {
    if disk.usage != Usage::Whole {
        return None;
    }
    let is_given_as_found = match &disk.medium {
        Medium::Null { .. } => return None,
        Medium::Memory { .. } => false,
        Medium::File { created, .. } => !created,
        Medium::Block { .. } => true,
    };
    let told = match (disk.has_had_volumes(), disk.unknown_past) {
        (true, _) => {
            "it keeps what its last volume held: the next one is cleared before its guest sees it, unless that is created with \
             --clear never"
        }
        (false, true) => {
            "it keeps what may have been written to it since the copy of the database was taken, or before it became this \
             disk's medium: the next volume is cleared before its guest sees it, unless that is created with --clear never"
        }
        (false, false) if is_given_as_found => {
            "it keeps what it held when it was added: its first volume shows that, unless that is created with --clear now"
        }
        (false, false) => return None,
    };
    Some(told.to_owned())
}

/// Since when a disk is held that keeps no record of its own.
pub fn note_of_held(disk: &Disk) -> Option<String> {
    let taken = match disk.held?.taken_unix_s {
        Some(unix_s) => {
            let (date, time) = date_and_time(unix_s);
            format!("that was taken on {date} at {time} UTC")
        }
        None => "of a time that is not known".to_owned(),
    };
    Some(format!(
        "it is held since the database was put back from a copy {taken}: its volumes are those of then"
    ))
}

/// What may be made larger, and by which command: the disk, when its medium has become longer than was agreed on; the volume
/// that has a whole disk, when that is longer than the volume, of `used` sectors.
pub fn note_of_growth(
    name: &Name,
    disk: &Disk,
    look: Option<Look>,
    volume: Option<(&str, u64)>,
) -> Option<String> {
    let agreed = disk.sectors * SECTOR_BYTES;
    let block = u64::from(disk.block_bytes.max(1));
    // What a medium has beyond its last whole block is told by itself.
    let there = look.map_or(0, |look| look.bytes / block * block);
    if there > agreed && !disk.leaving {
        return Some(format!(
            "its medium has become larger: {} are there, and {} are agreed on. `palisade disk grow {name}` takes the rest in",
            human(there),
            human(agreed)
        ));
    }
    let (volume, used) = volume.filter(|(_, used)| disk.usage == Usage::Whole && *used < disk.sectors)?;
    Some(format!(
        "{} of it are not in its volume yet, and can be given to no other: `palisade volume grow {volume} {agreed}` takes them",
        human((disk.sectors - used) * SECTOR_BYTES)
    ))
}

/// What is to be known about a file with holes that has taken more of its file system than volumes of `used` bytes can
/// have asked for.
pub fn note_of_kept(disk: &Disk, allocated: u64, used: u64) -> Option<String> {
    // What lies on one that is given whole is told of by its reuse.
    if disk.usage == Usage::Whole || !disk.record.sparse {
        return None;
    }
    let own = (disk.sectors - (disk.data_end - disk.data_start)) * SECTOR_BYTES;
    let kept = allocated.saturating_sub(own).saturating_sub(used);
    (kept >= KEPT_BYTES).then(|| {
        format!(
            "at least {} that its file has taken of its file system belong to no volume any more: they are given back when that \
             space is cleared for the next volume there; a volume that is deleted with --clear gives its space back at once",
            human(kept)
        )
    })
}

/// What is said of a file that does not end with a whole block.
pub fn tail(look: &Look, block_bytes: u32) -> Option<String> {
    look.file?;
    let bytes = look.bytes % u64::from(block_bytes);
    (bytes > 0).then(|| {
        format!(
            "its file ends in the middle of a block: the last {bytes} bytes of it are no part of the disk, and no guest sees \
             them (blocks have {block_bytes} bytes)"
        )
    })
}

/// What is said of a file on a file system on which disks may come to harm.
pub fn hazard(look: &Look) -> Option<String> {
    hazard_of(&look.file?.filesystem)
}

/// The same of a file that is to be made.
pub fn hazard_of(filesystem: &FileSystem) -> Option<String> {
    let why = filesystem.hazard()?;
    Some(format!(
        "it lies on a file system in user space ({}): {why}; use a file on ext4 or xfs, or a block device",
        filesystem.name()
    ))
}

/// What is said of a file that has been promised more than there is.
pub fn over_commit(wanting: u64, promised: u64, file: &FileLook) -> Option<String> {
    short_of(wanting, promised, &file.filesystem)
}

/// The same of a file that is to be made.
pub fn short_of(wanting: u64, promised: u64, filesystem: &FileSystem) -> Option<String> {
    let free = filesystem.free_bytes;
    (wanting > 0 && promised > free).then(|| {
        format!(
            "it takes its space as it is written to, and there is not enough: {} are free on its file system, and the disks \
             there may still ask for {}",
            human(free),
            human(promised)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opening;
    use palisade_sys::Opened;
    use std::time::Duration;

    #[test]
    fn of_disks_that_nothing_tells_apart_each_is_told_with_the_other() {
        use crate::disk_growth::tests::disk;
        use palisade_model::BackingRecord;
        let whole = |text: &str, wwid: Option<&str>| Disk {
            usage: Usage::Whole,
            ..disk(Medium::Block {
                path: format!("/dev/{text}"),
                wwid: wwid.map(str::to_owned),
            })
        };
        let backed = |text: &str| {
            let mut disk = whole(text, None);
            disk.record.backing = Some(BackingRecord::default());
            disk
        };
        let [one, other]: [Fingerprint; 2] =
            ["1:4096:-:7f", "1:4096:-:80"].map(|text| text.parse().expect("a fingerprint"));
        let all = [
            ("v", whole("v", None), &one),
            ("w", whole("w", None), &one),
            ("changed", whole("changed", None), &other),
            ("known", whole("known", Some("naa.1")), &one),
            ("backed", backed("backed"), &one),
        ]
        .map(|(text, disk, print)| (Name::new(text).expect("a name"), disk, print));
        let seen = || all.iter().map(|(name, disk, print)| (name, disk, *print));
        let told: Vec<Option<&str>> = seen().map(|of| twin(of, seen()).map(Name::as_str)).collect();
        assert_eq!(told, [Some("w"), Some("v"), None, None, None]);
        // And of those alone it is said that one with the same content is taken for them.
        let by_content: Vec<bool> = all.iter().map(|(_, disk, _)| is_known_by_content(disk)).collect();
        assert_eq!(by_content, [true, true, true, false, false]);
    }

    #[test]
    fn what_a_sparse_file_keeps_of_deleted_volumes_is_told() {
        use palisade_model::{AddDisk, Cluster, Command, InitCluster, MediumRecord};
        use palisade_words::Uuid;
        use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
        let [name, node] = ["d1", "n1"].map(|text| Name::new(text).unwrap());
        let init = Command::InitCluster(InitCluster {
            id: Uuid(1),
            node: node.clone(),
            node_uuid: Uuid(2),
        });
        let add = Command::AddDisk(AddDisk {
            name: name.clone(),
            uuid: Uuid(3),
            node,
            medium: Medium::File {
                path: "/d1".into(),
                bytes: 1000 * UNIT * SECTOR_BYTES,
                created: true,
            },
            record: MediumRecord {
                sparse: true,
                ..MediumRecord::default()
            },
            usage: Usage::Pooled,
            block_bytes: 512,
            sectors: 1000 * UNIT,
            data_start: UNIT,
            data_end: 999 * UNIT,
            superblock_pending: false,
        });
        let cluster = [init, add].iter().fold(Cluster::empty(), |cluster, command| {
            cluster.apply(command).expect("it should be taken").0
        });
        let sparse = cluster.disks[&name].clone();
        let (own, mib) = (2 * UNIT * SECTOR_BYTES, 1 << 20);
        // Nothing is kept while volumes may have asked for it all.
        assert_eq!(note_of_kept(&sparse, own + 50 * mib, 50 * mib), None);
        assert_eq!(note_of_kept(&sparse, own, 50 * mib), None);
        let note = note_of_kept(&sparse, own + 50 * mib, 20 * mib).unwrap();
        assert!(
            note.contains("at least 30 MiB") && note.contains("--clear"),
            "{note}"
        );
        let mut reserved = sparse.clone();
        reserved.record.sparse = false;
        assert_eq!(note_of_kept(&reserved, own + 50 * mib, 20 * mib), None);
        let whole = Disk {
            usage: Usage::Whole,
            ..sparse
        };
        assert_eq!(note_of_kept(&whole, own + 50 * mib, 20 * mib), None);
    }

    #[test]
    fn a_disk_that_has_refused_this_node_is_told_until_it_is_used_again() {
        use palisade_control::DiskState;
        use palisade_words::ReactorIndex;
        let name = Name::new("d1").unwrap();
        let mut state = LocalState::knowing(palisade_control::NodeState::default());
        assert_eq!(fenced(&state, &name), None);
        let mut refused = |on: &[u16]| {
            let disk = DiskState {
                fenced_on: on.iter().copied().map(ReactorIndex).collect(),
                ..DiskState::default()
            };
            state.learns(|state| drop(state.disks.insert(name.clone(), disk)));
            fenced(&state, &name)
        };
        assert_eq!(refused(&[]), None);
        let told = refused(&[1]).unwrap();
        assert!(told.contains("disk d1 has refused this node"), "{told}");
    }

    #[test]
    fn a_disk_that_reactors_could_not_take_into_use_is_told_with_what_kept_them_from_it() {
        use palisade_control::DiskState;
        use palisade_words::ReactorIndex;
        let name = Name::new("d1").unwrap();
        let mut state = LocalState::knowing(palisade_control::NodeState::default());
        assert_eq!(unusable(&state, &name), None);
        let mut told = |on: &[(u16, &str)]| {
            let on = on
                .iter()
                .map(|(reactor, why)| (ReactorIndex(*reactor), (*why).to_owned()));
            let disk = DiskState {
                unusable_on: on.collect(),
                ..DiskState::default()
            };
            state.learns(|state| drop(state.disks.insert(name.clone(), disk)));
            unusable(&state, &name)
        };
        assert_eq!(told(&[]), None);
        assert_eq!(
            told(&[(0, "no memory"), (2, "no lane")]).as_deref(),
            Some("disk d1 could not be taken into use by reactor 0 (no memory), reactor 2 (no lane)")
        );
    }

    #[test]
    fn a_disk_whose_data_lies_in_a_deleted_file_is_told_by_what_was_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d1");
        std::fs::write(&path, vec![0; 1 << 20]).unwrap();
        let medium = Medium::File {
            path: path.display().to_string(),
            bytes: 1 << 20,
            created: false,
        };
        let opened = Opened::open(&opening::spec(&medium, 4096), Duration::from_secs(5)).unwrap();
        let look = opened.look().unwrap().unwrap();
        let name = Name::new("d1").unwrap();
        let told = |look: &Look| unlinked(&name, Some(Path::new("/dev/loop7")), look);
        assert_eq!(told(&look), None);
        let below = told(&Look {
            on_deleted: true,
            ..look
        })
        .unwrap();
        assert!(
            below.contains("/dev/loop7, lies on a loop device whose file has been deleted"),
            "{below}"
        );
        std::fs::remove_file(&path).unwrap();
        let own = told(&opened.look().unwrap().unwrap()).unwrap();
        assert!(own.starts_with("the file of disk d1 has been deleted"), "{own}");
    }

    #[test]
    fn what_has_become_larger_is_told_with_the_command_that_takes_it() {
        let d1 = Name::new("d1").unwrap();
        let disk = crate::disk_growth::tests::disk(Medium::Block {
            path: "/dev/sdz".into(),
            wwid: None,
        });
        let look = |sectors: u64| {
            Some(Look {
                bytes: sectors * 512,
                gone: false,
                read_only: false,
                on_deleted: false,
                file: None,
            })
        };
        let note = |look, volume| note_of_growth(&d1, &disk, look, volume);
        assert_eq!(note(None, None), None);
        assert_eq!(note(look(100), Some(("v1", 100))), None);
        assert_eq!(note(look(99), None), None, "a shrunk one is a finding");
        let longer = note(look(200), Some(("v1", 100))).unwrap();
        assert!(
            longer.contains("100 KiB are there, and 50 KiB are agreed on"),
            "{longer}"
        );
        assert!(longer.contains("`palisade disk grow d1`"), "{longer}");
        let rest = note(look(100), Some(("v1", 60))).unwrap();
        assert!(
            rest.starts_with("20 KiB of it are not in its volume yet"),
            "{rest}"
        );
        assert!(rest.contains("`palisade volume grow v1 51200`"), "{rest}");
    }

    #[test]
    fn a_file_system_in_user_space_is_told_and_one_of_the_kernel_is_not() {
        const FUSE: u32 = 0x6573_5546;
        let here = FileSystem::of(std::fs::File::open("/proc").unwrap()).unwrap();
        assert_eq!(hazard_of(&here), None);
        let note = hazard_of(&FileSystem { magic: FUSE, ..here }).unwrap();
        assert!(
            note.contains("in user space (FUSE)") && note.contains("use a file on ext4"),
            "{note}"
        );
    }

    #[test]
    fn a_file_that_ends_in_the_middle_of_a_block_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d1");
        let told = |bytes: u64, block_bytes: u32| {
            std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
            let medium = Medium::File {
                path: path.display().to_string(),
                bytes,
                created: false,
            };
            let opened = Opened::open(&opening::spec(&medium, block_bytes), Duration::from_secs(5)).unwrap();
            assert_eq!(
                opened.sectors().0 * 512,
                bytes / u64::from(block_bytes) * u64::from(block_bytes)
            );
            tail(&opened.look().unwrap().unwrap(), block_bytes)
        };
        assert_eq!(told(1 << 20, 512), None);
        let told_of = told((1 << 20) + 100, 512).unwrap();
        assert!(told_of.contains("the last 100 bytes"), "{told_of}");
        let told_of = told((1 << 20) + 512, 4096).unwrap();
        assert!(told_of.contains("the last 512 bytes"), "{told_of}");
    }
}
