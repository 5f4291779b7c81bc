//! What is shown with `--dry-run` before it is done: the real program, and nothing changed behind it.

use crate::site::{Site, line, run};
use palisade_consensus::{Agreement, Backup, Store};
use palisade_model::{Command, CreateVolume};
use palisade_words::{Name, Uuid};
use std::path::Path;

/// Nobody listens there, and nobody is asked.
const NOWHERE: &str = "http://127.0.0.1:1";

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn database(directory: &Path) -> Store {
    let store = Store::open(directory).unwrap();
    if !store.cluster().is_initialised() {
        let begun = Command::InitCluster(palisade_model::InitCluster {
            id: Uuid(7),
            node: name("host-a"),
            node_uuid: Uuid(8),
        });
        store.propose(begun).unwrap();
        store.propose(disk("d1", 1)).unwrap();
        store.propose(volume("v1", 11)).unwrap();
    }
    store
}

fn disk(id: &str, uuid: u128) -> Command {
    Command::AddDisk(palisade_model::AddDisk {
        name: name(id),
        uuid: Uuid(uuid),
        node: name("host-a"),
        medium: palisade_model::Medium::Memory { bytes: 64 << 20 },
        record: palisade_model::MediumRecord::default(),
        usage: palisade_model::Usage::Pooled,
        block_bytes: 512,
        sectors: 64 << 11,
        data_start: 4096,
        data_end: 60 << 11,
        superblock_pending: false,
    })
}

fn volume(id: &str, uuid: u128) -> Command {
    Command::CreateVolume(created(id, uuid))
}

fn created(id: &str, uuid: u128) -> CreateVolume {
    CreateVolume {
        name: name(id),
        uuid: Uuid(uuid),
        node: name("host-a"),
        disk: Some(name("d1")),
        sectors: Some(2048),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    }
}

/// What follows the words that a line begins with.
fn fact<'a>(shown: &'a str, words: &str) -> &'a str {
    let found = shown.lines().find_map(|line| line.strip_prefix(words));
    found.unwrap_or_else(|| panic!("no {words} in\n{shown}")).trim()
}

#[test]
fn a_restore_shows_what_it_brings_and_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (old, file) = (folder.path().join("old"), folder.path().join("backup"));
    let store = database(&old);
    Backup::of(store.cluster().as_ref().clone()).write(&file).unwrap();
    let fresh = folder.path().join("fresh");
    let command = |directory: &Path| {
        let (file, directory) = (file.display(), directory.display());
        format!("state restore {file} --state-dir {directory} --dry-run")
    };
    let shown = run(NOWHERE, &command(&fresh)).ok();
    assert_eq!(
        line(&shown, "Holds:")[1..],
        ["1", "disk,", "1", "volume,", "0", "attachments"]
    );
    assert!(
        shown.contains("no database") && shown.contains("Nothing was changed."),
        "{shown}"
    );
    assert!(!fresh.exists());
    // While a daemon works there, the backup is shown and the restore refused, as it would be.
    let in_use = run(NOWHERE, &command(&old));
    assert!(in_use.code == 1 && in_use.out.contains("1 disk"), "{in_use:?}");
    assert!(
        in_use.err.contains("another daemon uses this state directory (")
            && in_use.err.contains(&format!("process {}", std::process::id()))
            && in_use.err.contains("systemctl stop palisaded"),
        "{in_use:?}"
    );
    let there = fact(&in_use.out, "There now:");
    assert!(
        there.starts_with("the same cluster") && there.contains("in use by a daemon that runs"),
        "{there}"
    );
    assert!(in_use.out.ends_with("Nothing was changed.\n"), "{in_use:?}");
    let copy = folder.path().join("copy");
    let online = run(
        NOWHERE,
        &format!("state backup {} --state-dir {}", copy.display(), old.display()),
    );
    assert!(
        online.code == 1 && online.err.contains("leave --state-dir out"),
        "{online:?}"
    );
    for change in [disk("d2", 2), volume("v2", 12)] {
        store.propose(change).unwrap();
    }
    drop(store);
    let refused = run(NOWHERE, &command(&old));
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("a restore writes over none"), "{refused:?}");
    assert!(refused.out.contains("the same cluster"), "{refused:?}");
    let shown = &refused.out;
    assert_eq!(fact(shown, "Only there now:"), "disk d2, volume v2");
    assert_eq!(fact(shown, "Only in the file:"), "-");
    let value = run(NOWHERE, &format!("{} --json", command(&old)));
    let value: serde_json::Value = serde_json::from_str(&value.out).unwrap();
    assert_eq!(value["difference"]["only_in_database"][1], "volume v2");
    // What was rehearsed in a fresh directory is what happens there.
    run(NOWHERE, command(&fresh).trim_end_matches(" --dry-run")).ok();
    let shown = run(NOWHERE, &command(&fresh));
    assert_eq!(fact(&shown.out, "In both, changed:"), "-");
}

/// What a disk that keeps no record holds by now is not known to the backup: it is named, with its volumes, before and after.
#[test]
fn a_restore_names_the_disks_that_are_held() {
    let folder = tempfile::tempdir().unwrap();
    let (old, file) = (folder.path().join("old"), folder.path().join("backup"));
    let store = database(&old);
    let Command::AddDisk(memory) = disk("w1", 5) else {
        panic!("it is a disk")
    };
    let whole = |id: &str, uuid| {
        Command::AddDisk(palisade_model::AddDisk {
            name: name(id),
            uuid: Uuid(uuid),
            medium: palisade_model::Medium::Block {
                path: format!("/dev/{id}"),
                wwid: None,
            },
            usage: palisade_model::Usage::Whole,
            data_start: 0,
            data_end: memory.sectors,
            ..memory.clone()
        })
    };
    let alice = Command::CreateVolume(CreateVolume {
        disk: Some(name("w1")),
        ..created("alice", 13)
    });
    for change in [whole("w1", 5), whole("w2", 6), alice] {
        store.propose(change).unwrap();
    }
    let backup = Backup::of(store.cluster().as_ref().clone());
    backup.write(&file).unwrap();
    let restore = format!(
        "state restore {} --state-dir {}",
        file.display(),
        folder.path().join("fresh").display()
    );
    let value = run(NOWHERE, &format!("{restore} --dry-run --json")).ok();
    let value: serde_json::Value = serde_json::from_str(&value).unwrap();
    assert_eq!(value["held_disks"], serde_json::json!(["w1", "w2"]));
    for command in [format!("{restore} --dry-run"), restore] {
        let shown = run(NOWHERE, &command).ok();
        let held = fact(&shown, "Held: disks that were given whole");
        assert!(
            held.contains("w1 (alice), w2 (no volume)") && held.contains("palisade disk confirm ID --yes"),
            "{shown}"
        );
        assert!(
            !shown.contains("d1 ("),
            "a disk of a pool tells by itself: {shown}"
        );
        assert!(
            !shown.contains(" disks that have gone on") || shown.contains("pooled disks that have gone on"),
            "{shown}"
        );
    }
    let restored = Store::open(&folder.path().join("fresh")).unwrap().cluster();
    assert_eq!(
        restored.disks[&name("w2")]
            .held
            .and_then(|held| held.taken_unix_s),
        Some(backup.taken_unix_s)
    );
}

/// A file with a table of one partition at 1 MiB, of 1 MiB.
fn used(path: &Path) {
    let mut head = vec![0; 512];
    head[510..].copy_from_slice(b"\x55\xaa");
    head[446 + 4] = 0x83;
    head[446 + 8..446 + 12].copy_from_slice(&2048u32.to_le_bytes());
    head[446 + 12..446 + 16].copy_from_slice(&2048u32.to_le_bytes());
    std::fs::write(path, head).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(64 << 20).unwrap();
}

/// A file that is a disk of another cluster, with a volume `mail`.
fn pooled(path: &Path) {
    let other = Site::new();
    let file = other.node.path("disks/pooled.img");
    other
        .palisade("disk add old --file @disks/pooled.img --size 64MiB --sparse")
        .ok();
    other.palisade("volume create mail 1MiB --disk old --wait").ok();
    std::fs::copy(file, path).unwrap();
}

#[test]
fn a_disk_is_looked_at_before_it_is_taken() {
    let site = Site::new();
    used(&site.node.path("disks/used.img"));
    let request = "disk add d1 --file @disks/used.img --dry-run";
    let refused = site.palisade(request);
    assert_eq!(refused.code, 1, "it ends as the adding would: {refused:?}");
    assert!(
        refused
            .err
            .contains("holds a partition table (mbr), which would be lost"),
        "{refused:?}"
    );
    for part in [
        "Found on it:    a partition table (mbr)",
        "1 MiB",
        "Nothing was changed.",
    ] {
        assert!(refused.out.contains(part), "no {part:?} in {refused:?}");
    }
    let shown = site.palisade(&format!("{request} --force")).ok();
    assert!(
        shown.contains(&site.words("  - a partition table (mbr) on @disks/used.img is lost")),
        "{shown}"
    );
    let value = site.palisade(&format!("{request} --force --json")).json();
    assert_eq!(value["partitions"][0]["offset_bytes"], 1 << 20);
    assert_eq!(value["file"]["path"], site.node.text("disks/used.img"));
    let both = site.palisade(&format!("{request} --wait"));
    assert_eq!(both.code, 2, "there is nothing to wait for: {both:?}");
    assert_eq!(site.palisade("disk list --json").json(), serde_json::json!([]));
    // A name that is taken by something else is told with both values.
    site.palisade("disk add d1 --null 1GiB").ok();
    let taken = site.palisade(request);
    assert!(
        taken.code == 1 && taken.err.contains("exists already"),
        "{taken:?}"
    );
}

/// Volumes of Palisade's are lost by a request that names them, or an answer, and by nothing less.
#[test]
fn volumes_on_a_disk_that_is_added_anew_are_asked_about() {
    let site = Site::new();
    pooled(&site.node.path("disks/pooled.img"));
    let request = "disk add d1 --file @disks/pooled.img --force";
    let asked = site.palisade(request);
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(
        asked.err.contains("disk d1 was not touched") && asked.err.contains("mail (1 MiB)"),
        "{asked:?}"
    );
    assert_eq!(site.palisade("disk list --json").json(), serde_json::json!([]));
    site.palisade(&format!("{request} --yes")).ok();
    // Where nothing of ours is, `--force` says enough.
    used(&site.node.path("disks/used.img"));
    site.palisade("disk add d2 --file @disks/used.img --force").ok();
    let without = site.palisade("disk add d3 --file @disks/used.img --yes");
    assert_eq!(without.code, 2, "{without:?}");
}
