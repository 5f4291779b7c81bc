//! A disk that is held since the database was put back from a copy: what is said of it, and the word that ends it.

use super::preview::{BYTES, added, node, request};
use super::*;
use palisade_model::Held;

/// A node with a file that is given whole to a volume, as it comes up after a restore.
fn restored(folder: &Path) -> (Rest, Door) {
    let (rest, door) = node(folder);
    let whole = api::DiskCreate {
        usage: api::DiskUsage::Whole,
        ..request(&folder.join("d1.img"), Some(BYTES))
    };
    added(&rest, &whole).unwrap();
    let volume = CreateVolume {
        name: Name::new("alice").unwrap(),
        uuid: chance(),
        node: Name::new("n1").unwrap(),
        disk: Some(Name::new("d1").unwrap()),
        sectors: None,
        block_bytes: None,
        clear: None,
        clears: true,
        clears_reused: true,
        clears_unknown_past: true,
    };
    for command in [
        Command::CreateVolume(volume),
        Command::HoldDisks(Held {
            taken_unix_s: Some(951_782_400),
        }),
    ] {
        rest.shared.propose(command).unwrap();
    }
    (rest, door)
}

fn disk(rest: &Rest) -> api::Disk {
    palisade_admin::Appliance::disk(rest, "d1").unwrap()
}

fn findings(rest: &Rest) -> Vec<String> {
    rest.shared.derive_findings(Duration::ZERO);
    let found = rest.health().findings.into_iter();
    let found = found.filter(|finding| finding.subject == "disk/d1");
    found.map(|finding| finding.message).collect()
}

#[test]
fn it_says_of_when_the_copy_is_and_what_is_to_be_decided() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = restored(folder.path());
    let shown = disk(&rest);
    let blocked_on = shown.state.blocked_on().unwrap();
    for word in ["alice", "palisade disk confirm d1 --yes"] {
        assert!(blocked_on.contains(word), "{blocked_on}");
    }
    let notes = shown.notes.join("\n");
    assert!(notes.contains("taken on 2000-02-29 at 00:00:00 UTC"), "{notes}");
    assert_eq!(findings(&rest), [blocked_on]);
}

#[test]
fn only_the_word_that_it_is_the_disk_ends_that() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = restored(folder.path());
    let held = |rest: &Rest| {
        rest.shared
            .cluster()
            .disks
            .values()
            .any(|disk| disk.held.is_some())
    };
    let path = folder.path().join("d1.img").display().to_string();
    let only_its_path = api::DiskPatch {
        path: Some(path),
        ..api::DiskPatch::default()
    };
    rest.disk_change("d1", only_its_path, None).unwrap();
    assert!(held(&rest));
    let confirm = api::DiskPatch {
        confirm: true,
        ..api::DiskPatch::default()
    };
    let shown = rest.disk_change("d1", confirm, None).unwrap();
    assert!(!held(&rest));
    assert!(!shown.notes.join("\n").contains("held"), "{:?}", shown.notes);
    assert!(
        !findings(&rest)
            .iter()
            .any(|found| found.contains("put back from a copy"))
    );
}
