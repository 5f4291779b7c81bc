//! Disks taken in with what their superblocks tell, from real files.

use super::preview::{BYTES, added, node, request, volume, written};
use super::*;
use palisade_api::{DiskImport, FileMedium, ImportMedium};
use palisade_reconcile::{Action, Step};
use palisade_words::LineageId;
use std::fs;
use std::os::unix::fs::FileExt;

fn import(rest: &Rest, path: &Path, id: Option<&str>) -> Result<api::DiskImported, Problem> {
    import_from(rest, path, id, true)
}

fn import_from(
    rest: &Rest,
    path: &Path,
    id: Option<&str>,
    volatile: bool,
) -> Result<api::DiskImported, Problem> {
    rest.disk_import(DiskImport {
        volatile,
        disks: vec![ImportMedium {
            file: Some(FileMedium {
                path: path.display().to_string(),
                bytes: None,
                sparse: false,
            }),
            block: None,
            id: id.map(str::to_owned),
        }],
        dry_run: false,
        other_cluster: true,
    })
}

/// A volume across two disks whose cluster is gone: it is not whole with the first, and with the second it is, although
/// the head of that one was zeroed.
#[test]
fn a_volume_on_two_disks_is_whole_with_the_last_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    let paths = ["d1", "d2"].map(|id| there.join(id));
    {
        let (rest, _door) = node(&there);
        let names = ["d1", "d2"].map(|id| Name::new(id).unwrap());
        for (name, path) in names.iter().zip(&paths) {
            let request = api::DiskCreate {
                id: name.to_string(),
                ..request(path, Some(BYTES))
            };
            added(&rest, &request).unwrap();
            written(&rest, name);
        }
        let [d1, d2] = &names;
        volume(&rest, "v1", 11, d1);
        volume(&rest, "other", 12, d2);
        let grow = GrowVolume {
            name: Name::new("v1").unwrap(),
            sectors: 16384,
            disk: Some(d2.clone()),
            clears: false,
            expected: None,
        };
        rest.shared.propose(Command::GrowVolume(grow)).unwrap();
        names.iter().for_each(|name| written(&rest, name));
    }
    let [first, second] = &paths;
    let file = fs::File::options().write(true).open(second).unwrap();
    file.write_all_at(&[0; 2 << 20], 0).unwrap();
    drop(file);
    fs::create_dir(&here).unwrap();
    let allowed = format!("[allow]\nfiles = ['{}']\n", folder.path().display());
    let (rest, _door) = still_node_with(&here, &allowed);
    let told = |imported: &api::DiskImported| -> Vec<(String, u64, u64)> {
        let volumes = imported.volumes.iter();
        volumes
            .map(|volume| (volume.id.clone(), volume.bytes >> 20, volume.present_bytes >> 20))
            .collect()
    };
    let half = import(&rest, first, None).unwrap();
    assert_eq!(told(&half), [("v1".to_owned(), 8, 4)]);
    let incomplete = |rest: &Rest| {
        let mut findings = rest.health().findings.into_iter();
        findings.find(|finding| finding.code == "volume_incomplete")
    };
    let message = incomplete(&rest).unwrap().message;
    assert!(message.contains("volume v1"), "{message}");
    assert!(rest.volumes().is_empty(), "it cannot be attached");
    // It can be given up; here it is only shown.
    let shown = |id: &str| {
        let how = api::RemovalOptions {
            dry_run: true,
            ..api::RemovalOptions::default()
        };
        rest.volume_delete(id, None, how)
    };
    let uuid = message.split(['(', ')']).nth(1).unwrap();
    for id in ["v1", uuid] {
        let removal = shown(id).unwrap();
        assert!(removal.effects[0].contains("4 MiB of 8 MiB on "), "{removal:?}");
    }
    assert_eq!(shown("v2").unwrap_err().code, "volume_not_found");
    let whole = import(&rest, second, None).unwrap();
    let mut volumes = told(&whole);
    volumes.sort();
    assert_eq!(volumes, [("other".to_owned(), 4, 4), ("v1".to_owned(), 8, 8)]);
    assert!(
        !whole.disks[0].damage.is_empty(),
        "the zeroed head is told: {whole:?}"
    );
    assert!(incomplete(&rest).is_none());
    let places: Vec<(String, u64)> = rest
        .volumes()
        .into_iter()
        .filter(|volume| volume.id == "v1")
        .flat_map(|volume| {
            let api::Layout::Linear { extents } = volume.layout;
            extents
        })
        .map(|extent| (extent.disk, extent.bytes >> 20))
        .collect();
    assert_eq!(places, [("d1".to_owned(), 4), ("d2".to_owned(), 4)]);
}

#[test]
fn a_disk_whose_name_is_taken_is_refused_with_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    let (theirs, ours) = (there.join("d1.img"), here.join("d1.img"));
    let d1 = Name::new("d1").unwrap();
    {
        let (rest, _door) = node(&there);
        added(&rest, &request(&theirs, Some(BYTES))).unwrap();
        written(&rest, &d1);
        volume(&rest, "v1", 11, &d1);
        written(&rest, &d1);
    }
    fs::create_dir(&here).unwrap();
    let allowed = format!("[allow]\nfiles = ['{}']\n", folder.path().display());
    let (rest, _door) = still_node_with(&here, &allowed);
    added(&rest, &request(&ours, Some(BYTES))).unwrap();
    written(&rest, &d1);
    volume(&rest, "v1", 99, &d1);
    let refused = import(&rest, &theirs, None).unwrap_err();
    assert_eq!(refused.code, "disk_name_taken");
    let way = format!("palisade disk import --file {} --id NAME", theirs.display());
    assert!(refused.remedy.contains(&way), "{refused:?}");
    let imported = import(&rest, &theirs, Some("d1-old")).unwrap();
    assert_eq!(imported.disks[0].id, "d1-old");
    let volume = &imported.volumes[0];
    assert!(
        volume.id.starts_with("v1-") && volume.name == "v1",
        "beside ours: {volume:?}"
    );
}

/// What may be moved away or emptied as a whole is no place for a disk that exists either.
#[test]
fn a_disk_is_not_taken_in_nor_found_again_in_the_daemons_own_folders() {
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    let d1 = Name::new("d1").unwrap();
    {
        let (rest, _door) = node(&there);
        added(&rest, &request(&there.join("d1.img"), Some(BYTES))).unwrap();
        written(&rest, &d1);
    }
    fs::create_dir(&here).unwrap();
    let allowed = format!("[allow]\nfiles = ['{}']\n", folder.path().display());
    let (rest, _door) = still_node_with(&here, &allowed);
    let own = here.join("state/d1.img");
    fs::rename(there.join("d1.img"), &own).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&own, &link).unwrap();
    for path in [&own, &link] {
        let refused = import(&rest, path, None).unwrap_err();
        assert!(
            refused.code == "disk_place" && refused.message.contains("state directory"),
            "{refused:?}"
        );
    }
    let outside = folder.path().join("d1.img");
    fs::rename(&own, &outside).unwrap();
    import(&rest, &outside, None).unwrap();
    let patch = api::DiskPatch {
        path: Some(own.display().to_string()),
        ..api::DiskPatch::default()
    };
    fs::rename(&outside, &own).unwrap();
    assert_eq!(
        rest.disk_change("d1", patch, None).unwrap_err().code,
        "disk_place"
    );
}

/// As a disk is not added there unasked, none that exists is taken in there.
#[test]
fn a_disk_in_memory_is_taken_in_only_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    let d1 = Name::new("d1").unwrap();
    {
        let (rest, _door) = node(&there);
        added(&rest, &request(&there.join("d1.img"), Some(BYTES))).unwrap();
        written(&rest, &d1);
        volume(&rest, "v1", 11, &d1);
        written(&rest, &d1);
    }
    // Of a name that a device of memory has: it is a file all the same.
    let copy = memory.path().join("ram0");
    fs::copy(there.join("d1.img"), &copy).unwrap();
    fs::create_dir(&here).unwrap();
    let allowed = format!("[allow]\nfiles = ['{}']\n", memory.path().display());
    let (rest, _door) = still_node_with(&here, &allowed);
    let refused = import_from(&rest, &copy, None, false).unwrap_err();
    assert_eq!(refused.code, "disk_volatile_place");
    assert!(refused.message.contains("which is memory"), "{refused:?}");
    assert!(refused.remedy.contains("--volatile"), "{refused:?}");
    assert!(rest.disks().is_empty());
    let taken = import_from(&rest, &copy, None, true).unwrap();
    assert_eq!(taken.volumes.len(), 1);
}

/// The disk could not be opened where it is recorded: what its medium carries is not waited for any more.
fn not_opened(rest: &Rest, disk: &Name) {
    let step = Step {
        generation: rest.shared.cluster().generation,
        action: Action::OpenDisk { disk: disk.clone() },
    };
    let mut state = rest.shared.state();
    state.learns(|state| state.observed.record_failure(&step, "it is not there".to_owned()));
}

/// Two media with one superblock: both are named, and neither is taken for the other unasked.
#[test]
fn a_copy_beside_its_original_is_told_with_both_paths() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let (path, copy) = (folder.path().join("d1.img"), folder.path().join("copy.img"));
    let d1 = Name::new("d1").unwrap();
    added(&rest, &request(&path, Some(BYTES))).unwrap();
    written(&rest, &d1);
    fs::copy(&path, &copy).unwrap();
    let asked = api::DiskCreate {
        id: "d2".into(),
        force: true,
        ..request(&copy, None)
    };
    let both = [&path, &copy].map(|path| path.display().to_string());
    for refused in [
        added(&rest, &asked).unwrap_err(),
        import(&rest, &copy, None).unwrap_err(),
    ] {
        assert_eq!(refused.code, "medium_taken");
        assert!(
            both.iter().all(|path| refused.message.contains(path)),
            "{refused:?}"
        );
        assert!(refused.message.contains("a copy of it"), "{refused:?}");
        let looks = both.iter().map(|path| format!("palisade-inspect {path}"));
        assert!(
            looks.into_iter().all(|look| refused.remedy.contains(&look)),
            "{refused:?}"
        );
    }
    // One that has no identity but its superblock could be either.
    let nameless = palisade_model::IdentifyDisk {
        name: d1.clone(),
        path: None,
        wwid: None,
        record: palisade_model::MediumRecord::default(),
        confirmed: false,
        expected: None,
    };
    rest.shared.propose(Command::IdentifyDisk(nameless)).unwrap();
    let patch = |confirm| api::DiskPatch {
        path: Some(both[1].clone()),
        confirm,
        ..api::DiskPatch::default()
    };
    let refused = rest.disk_change("d1", patch(false), None).unwrap_err();
    assert_eq!(refused.code, "disk_copied");
    assert!(
        both.iter().all(|path| refused.message.contains(path)),
        "{refused:?}"
    );
    let recorded = || rest.shared.cluster().disks[&d1].medium.path().map(str::to_owned);
    assert_eq!(recorded(), Some(both[0].clone()));
    // The one that is left is the disk: so it is said where it is asked for, and so it is recorded.
    let aside = folder.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    not_opened(&rest, &d1);
    let moved = added(&rest, &asked).unwrap_err();
    let way = format!("palisade disk confirm d1 --path {}", both[1]);
    assert!(
        moved.code == "medium_taken" && moved.remedy.contains(&way),
        "{moved:?}"
    );
    rest.disk_change("d1", patch(false), None).unwrap();
    assert_eq!(recorded(), Some(both[1].clone()));
    assert!(rest.shared.state().control.observed.deciding.is_empty());
}

/// What is being opened, or decided about by somebody else, is not said to be elsewhere at the same time.
#[test]
fn one_operator_at_a_time_says_where_a_disk_is() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let (path, moved) = (folder.path().join("d1.img"), folder.path().join("moved.img"));
    let d1 = Name::new("d1").unwrap();
    added(&rest, &request(&path, Some(BYTES))).unwrap();
    fs::rename(&path, &moved).unwrap();
    not_opened(&rest, &d1);
    let change = || {
        let patch = api::DiskPatch {
            path: Some(moved.display().to_string()),
            ..api::DiskPatch::default()
        };
        rest.disk_change("d1", patch, None)
    };
    assert!(rest.shared.state().control.decide(&d1));
    assert_eq!(change().unwrap_err().code, "disk_busy");
    assert!(
        rest.shared.state().control.observed.deciding.contains(&d1),
        "it is the other's still"
    );
    rest.shared.state().control.decided(&d1);
    change().unwrap();
    assert!(rest.shared.state().control.observed.deciding.is_empty());
}

/// Until an operator says so, and only of one that is as long as it should be.
#[test]
fn that_a_file_was_cut_off_is_forgotten_when_it_is_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let path = folder.path().join("d1.img");
    let whole = api::DiskCreate {
        usage: api::DiskUsage::Whole,
        ..request(&path, Some(BYTES))
    };
    added(&rest, &whole).unwrap();
    let uuid = rest.shared.cluster().disks[&Name::new("d1").unwrap()].uuid;
    rest.shared.last_seen.keep_cut(uuid, BYTES / 2).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let change = |confirm: bool| {
        let patch = api::DiskPatch {
            path: (!confirm).then(|| path.display().to_string()),
            confirm,
            ..api::DiskPatch::default()
        };
        rest.disk_change("d1", patch, None)
    };
    file.set_len(BYTES / 2).unwrap();
    assert_eq!(change(true).unwrap_err().code, "disk_shrunk");
    assert!(rest.shared.last_seen.cut(uuid).unwrap().is_some());
    file.set_len(BYTES).unwrap();
    change(false).unwrap();
    assert!(
        rest.shared.last_seen.cut(uuid).unwrap().is_some(),
        "its path alone says nothing"
    );
    change(true).unwrap();
    assert_eq!(rest.shared.last_seen.cut(uuid).unwrap(), None);
    // Something else in the place of the folder: what is told to be done about it works.
    let media = rest.shared.last_seen.folder().to_owned();
    let aside = media.with_extension("aside");
    if media.exists() {
        fs::rename(&media, media.with_extension("before")).unwrap();
    }
    fs::write(&media, "").unwrap();
    let refused = change(true).unwrap_err();
    let moves = format!("mv {} {}", media.display(), aside.display());
    assert!(refused.message.contains("is not a folder"), "{refused:?}");
    assert!(refused.remedy.contains(&moves), "{refused:?}");
    fs::rename(&media, aside).unwrap();
    change(true).unwrap();
}

/// Two heads that tell different histories: neither is taken for the right one.
#[test]
fn a_medium_that_tells_two_histories_is_refused_with_both() {
    use palisade_wire::{Geometry, Label, Lineage, Superblock, format};
    use palisade_words::Ancestor;
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let path = folder.path().join("two.img");
    let file = fs::File::create(&path).unwrap();
    file.set_len(BYTES).unwrap();
    let geometry = Geometry::of(BYTES / 512).unwrap();
    let history = |id: u128| Superblock {
        generation: Generation(id as u64),
        lineage: Some(Lineage {
            id: LineageId(id),
            ancestors: vec![Ancestor {
                generation: Generation(5),
                id: LineageId(5),
            }],
        }),
        ..Superblock::new(
            Uuid(1),
            Uuid(2),
            Uuid(3),
            Label::new("two").unwrap(),
            512,
            BYTES / 512,
        )
        .unwrap()
    };
    for (id, from) in [(10, 0), (20, geometry.tail.0)] {
        let update = format(&history(id), &[]).unwrap();
        for write in update.phases.iter().flat_map(|phase| &phase.writes) {
            if write.lba.0 >= from {
                file.write_all_at(&write.bytes, write.lba.0 * 512).unwrap();
            }
        }
    }
    let before = fs::read(&path).unwrap();
    let refused = import(&rest, &path, None).unwrap_err();
    assert_eq!(refused.code, "contradiction");
    for words in ["generation 10 has no volume", "generation 20 has no volume"] {
        assert!(refused.message.contains(words), "{refused:?}");
    }
    assert!(refused.remedy.contains("palisade-inspect"), "{refused:?}");
    assert!(rest.disks().is_empty() && fs::read(&path).unwrap() == before);
}

/// One disk that is named twice, by one path or by another, and a copy of it: that is said, and nothing of what its volumes
/// would do to each other.
#[test]
fn a_disk_that_is_given_twice_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let (there, here) = (folder.path().join("there"), folder.path().join("here"));
    let path = there.join("g1");
    {
        let (rest, _door) = node(&there);
        let name = Name::new("g1").unwrap();
        let request = api::DiskCreate {
            id: "g1".into(),
            ..request(&path, Some(BYTES))
        };
        added(&rest, &request).unwrap();
        written(&rest, &name);
        volume(&rest, "gv", 11, &name);
        written(&rest, &name);
    }
    let (link, copy) = (there.join("link"), there.join("copy"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    fs::copy(&path, &copy).unwrap();
    fs::create_dir(&here).unwrap();
    let allowed = format!("[allow]\nfiles = ['{}']\n", folder.path().display());
    let (rest, _door) = still_node_with(&here, &allowed);
    for (second, code, words) in [
        (&path, "invalid_argument", "is named twice"),
        (&link, "invalid_argument", "lead to one medium"),
        (&copy, "disk_copied", "both carry the superblock of disk g1"),
    ] {
        let medium = |path: &Path| ImportMedium {
            file: Some(FileMedium {
                path: path.display().to_string(),
                bytes: None,
                sparse: false,
            }),
            block: None,
            id: None,
        };
        let refused = rest.disk_import(DiskImport {
            volatile: true,
            disks: vec![medium(&path), medium(second)],
            dry_run: true,
            other_cluster: true,
        });
        let refused = refused.unwrap_err();
        assert!(
            refused.code == code && refused.message.contains(words),
            "{refused:?}"
        );
    }
}
