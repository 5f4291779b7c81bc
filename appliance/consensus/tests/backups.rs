//! A backup brings back what was agreed on when it was taken, and writes over nothing.

mod story;

use palisade_consensus::{
    Agreement, Backup, BackupError, Difference, NodeIdentity, Store, StoreError, rehearse_restore,
};
use palisade_model::{Cluster, JoinToken, NodeRole};
use palisade_words::{Generation, Name, Sha256Sum, Uuid};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use story::Story;

fn filled(directory: &Path, until: u64) -> Store {
    let store = Store::open(directory).expect("no fault of the store");
    for number in store.cluster().generation.0 + 1..=until {
        store
            .propose(story::command(number))
            .expect("no fault of the store");
    }
    store
}

#[test]
fn what_was_backed_up_is_restored_and_goes_on() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = to.path().join("backup");
    let store = filled(from.path(), 40);
    let in_use = Backup::of_directory(from.path()).unwrap_err();
    assert!(matches!(in_use, BackupError::Store(error) if matches!(*error, StoreError::InUse { .. })));
    Backup::of(store.cluster().as_ref().clone()).write(&file).unwrap();
    drop(store);
    let offline = Backup::of_directory(from.path()).unwrap();
    let backup = Backup::read(&file).unwrap();
    assert_eq!(backup.cluster, offline.cluster);
    let directory = to.path().join("state");
    backup.restore(&directory).unwrap();
    let store = filled(&directory, 300);
    assert_eq!(*store.cluster(), *Story::new().at(Generation(300)));
    let cluster = store.cluster();
    drop(store);
    assert_eq!(Store::open(&directory).unwrap().cluster(), cluster);
}

/// A token that is used up later would let somebody in again after a restore, and one in a file that is carried about is a key.
#[test]
fn a_backup_has_no_token() {
    let mut cluster = Story::new().at(Generation(40)).clone();
    let token = JoinToken {
        created: Generation(1),
        revision: Generation(1),
        hash: Sha256Sum([0xab; 32]),
        expires_at_s: 7,
        admits: NodeRole::Voter,
        used_by: None,
    };
    cluster.tokens.insert(Name::new("t").unwrap(), token);
    let backup = Backup::of(cluster);
    assert!(backup.cluster.tokens.is_empty());
    assert!(!backup.to_text().contains("abababab"));
}

/// A directory in which another node lived is the restored node's, and is not refused as a stranger's.
#[test]
fn what_is_restored_says_whose_the_directory_is() {
    let directory = tempfile::tempdir().unwrap();
    let empty = Cluster::empty();
    let other = NodeIdentity::of(directory.path(), &empty, || Uuid(77)).unwrap();
    let from = tempfile::tempdir().unwrap();
    let backup = Backup::of(filled(from.path(), 2).cluster().as_ref().clone());
    assert!(NodeIdentity::of(directory.path(), &backup.cluster, || Uuid(78)).is_err());
    backup.restore(directory.path()).unwrap();
    let cluster = Store::open(directory.path()).unwrap().cluster();
    let own = NodeIdentity::of(directory.path(), &cluster, || Uuid(78)).unwrap();
    assert_ne!(own, other);
    assert_eq!(own.node(), Uuid(2));
    assert!(own.name_in(&cluster).is_some());
}

#[test]
fn nothing_is_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backup");
    let state = directory.path().join("state");
    let store = filled(&state, 10);
    let backup = Backup::of(store.cluster().as_ref().clone());
    drop(store);
    backup.write(&file).unwrap();
    assert!(matches!(backup.write(&file), Err(BackupError::Exists { .. })));
    let before = fs::read(state.join("state.redb")).unwrap();
    assert!(matches!(
        backup.clone().restore(&state),
        Err(BackupError::Occupied { .. })
    ));
    assert_eq!(fs::read(state.join("state.redb")).unwrap(), before);
    fs::remove_file(state.join("log.redb")).unwrap();
    assert!(
        matches!(backup.restore(&state), Err(BackupError::Occupied { .. })),
        "one file is enough"
    );
}

/// What a rehearsal says is what the restore does; it makes no folder and no lock.
#[test]
fn a_restore_can_be_rehearsed_and_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let (state, fresh) = (directory.path().join("state"), directory.path().join("fresh"));
    let store = filled(&state, 10);
    let early = Backup::of(store.cluster().as_ref().clone());
    let refused = rehearse_restore(&state).unwrap_err();
    assert!(matches!(refused, BackupError::Store(error) if matches!(*error, StoreError::InUse { .. })));
    drop(store);
    let files = || {
        let mut all: Vec<_> = fs::read_dir(&state)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .map(|name| (fs::read(state.join(&name)).unwrap(), name))
            .collect();
        all.sort();
        all
    };
    let before = files();
    assert!(matches!(
        rehearse_restore(&state),
        Err(BackupError::Occupied { .. })
    ));
    assert_eq!(files(), before);
    rehearse_restore(&fresh).unwrap();
    assert!(!fresh.exists());
    fs::create_dir(&fresh).unwrap();
    fs::write(fresh.join("restoring"), b"").unwrap();
    fs::write(fresh.join("log.redb"), b"half").unwrap();
    rehearse_restore(&fresh).unwrap();
    assert_eq!(fs::read(fresh.join("log.redb")).unwrap(), b"half");
    assert!(!fresh.join("lock").exists());
    early.clone().restore(&fresh).unwrap();
    let later = Backup::of_directory(&state).unwrap();
    assert_eq!(
        Difference::between(&early.cluster, &later.cluster),
        Difference::default()
    );
}

#[test]
fn what_each_side_knows_alone_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (early, late) = {
        let store = filled(directory.path(), 10);
        let early = Cluster::clone(&store.cluster());
        drop(store);
        (early, Cluster::clone(&filled(directory.path(), 300).cluster()))
    };
    let difference = Difference::between(&early, &late);
    let names = |cluster: &Cluster| -> BTreeSet<String> {
        let disks = cluster.disks.keys().map(|name| format!("disk {name}"));
        let volumes = cluster.volumes.keys().map(|name| format!("volume {name}"));
        let attachments = cluster
            .attachments
            .keys()
            .map(|name| format!("attachment {name}"));
        disks.chain(volumes).chain(attachments).collect()
    };
    let (before, after) = (names(&early), names(&late));
    let alone = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> BTreeSet<String> {
        one.difference(other).cloned().collect()
    };
    let told = |names: &[String]| names.iter().cloned().collect::<BTreeSet<String>>();
    assert_eq!(told(&difference.only_in_backup), alone(&before, &after));
    assert_eq!(told(&difference.only_in_database), alone(&after, &before));
    assert!(!difference.only_in_database.is_empty() && !difference.changed.is_empty());
    let back = Difference::between(&late, &early);
    assert_eq!(back.only_in_backup, difference.only_in_database);
    assert_eq!(back.changed, difference.changed);
}

#[test]
fn any_change_of_a_backup_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 12);
    let text = Backup::of(store.cluster().as_ref().clone()).to_text();
    let path = Path::new("backup");
    Backup::from_text(&text, path).unwrap();
    for at in (0..text.len()).step_by(7) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        assert!(Backup::from_text(&changed, path).is_err(), "byte {at}");
        assert!(Backup::from_text(&text[..at], path).is_err(), "cut at {at}");
    }
}

#[test]
fn a_restore_that_was_cut_off_is_begun_again_and_nothing_is_served_before() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let backup = {
        let store = filled(&directory.path().join("from"), 20);
        Backup::of(store.cluster().as_ref().clone())
    };
    fs::create_dir(&state).unwrap();
    fs::write(state.join("restoring"), b"").unwrap();
    fs::write(state.join("log.redb"), b"half").unwrap();
    assert!(matches!(
        Store::open(&state),
        Err(StoreError::UnfinishedRestore { .. })
    ));
    backup.clone().restore(&state).unwrap();
    assert_eq!(*Store::open(&state).unwrap().cluster(), backup.cluster);
}

#[test]
fn what_could_not_be_written_is_what_was_asked_for_and_nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let store = filled(&at("state"), 3);
    let backup = Backup::of(store.cluster().as_ref().clone());
    drop(store);
    let said = |file: &str| backup.write(&at(file)).unwrap_err().to_string();
    let lost = said("nowhere/backup");
    assert!(
        lost.contains("nowhere/backup cannot be written: No such file"),
        "{lost}"
    );
    fs::write(at("taken"), b"x").unwrap();
    assert!(said("taken").contains("taken is there already, and a backup writes over nothing"));
    assert_eq!(fs::read(at("taken")).unwrap(), b"x");
    assert!(!at("taken.new").exists());
    backup.restore(&at("restored")).unwrap();
    for made in ["state", "restored"] {
        let mode = fs::metadata(at(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{made}");
    }
}

/// Sealed as a program would that writes such a body.
fn sealed(format: u32, body: &str) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body.as_bytes());
    format!("palisade state backup, format {format}, CRC-32C {sum:08x}\n{body}")
}

#[test]
fn a_backup_says_what_is_the_matter_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("state"), 12);
    let text = Backup::of(store.cluster().as_ref().clone()).to_text();
    let said = |text: &str| Backup::from_text(text, Path::new("b")).unwrap_err().to_string();
    let (head, body) = text.split_once('\n').unwrap();
    assert_eq!(
        sealed(1, body),
        text,
        "an earlier program reads what it understands"
    );
    assert!(said("").contains("it is empty"));
    for length in [1, 20, head.len() - 1, head.len(), head.len() + 1, text.len() - 1] {
        assert!(
            said(&text[..length]).contains("it is cut short"),
            "cut at {length}"
        );
    }
    assert!(said("[network]\nname=x\n").contains("it does not begin with"));
    let later = said(&sealed(3, body));
    assert!(
        later.contains("a backup of a later version: it is of format 3, this program knows formats up to 2"),
        "{later}"
    );
    // The same format, and something in it that would be lost.
    let more = body.replacen("\"taken_unix_s\"", "\"snapshots\":[7],\"taken_unix_s\"", 1);
    assert!(said(&sealed(1, &more)).contains("does not know what snapshots in it is"));
    let deeper = body.replacen("\"cluster\":{", "\"cluster\":{\"mirrors\":{\"m1\":3},", 1);
    assert!(said(&sealed(1, &deeper)).contains("does not know what cluster.mirrors in it is"));
    let nothing = body.replacen("\"cluster\":{", "\"cluster\":{\"mirrors\":{},", 1);
    Backup::from_text(&sealed(1, &nothing), Path::new("b")).unwrap();
    let file = directory.path().join("b");
    fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    assert!(
        Backup::read(&file)
            .unwrap_err()
            .to_string()
            .contains("it is no text")
    );
}

#[test]
fn a_restore_into_what_is_no_directory_is_refused_as_rehearsed() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("state"), 5);
    let backup = Backup::of(store.cluster().as_ref().clone());
    let file = directory.path().join("file");
    fs::write(&file, b"x").unwrap();
    for place in [file.clone(), file.join("below")] {
        for refused in [rehearse_restore(&place), backup.clone().restore(&place).map(drop)] {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("file is no directory"), "{said}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

/// A disk that is given whole has no superblock by which the database would be known for an old one.
#[test]
fn a_restored_database_holds_what_it_would_clear_on_a_whole_disk() {
    use palisade_model::{AddDisk, Clear, Command, CreateVolume, InitCluster, Medium, MediumRecord, Usage};
    use palisade_words::{Name, Uuid};
    let name = |text| Name::new(text).unwrap();
    let sectors = 1 << 16;
    let init = InitCluster {
        id: Uuid(1),
        node: name("n"),
        node_uuid: Uuid(2),
    };
    let add = AddDisk {
        name: name("d"),
        uuid: Uuid(3),
        node: name("n"),
        medium: Medium::File {
            path: "/d".into(),
            bytes: sectors * 512,
            created: true,
        },
        record: MediumRecord::default(),
        usage: Usage::Whole,
        block_bytes: 512,
        sectors,
        data_start: 0,
        data_end: sectors,
        superblock_pending: false,
    };
    let create = CreateVolume {
        name: name("v"),
        uuid: Uuid(4),
        node: name("n"),
        disk: Some(name("d")),
        sectors: None,
        block_bytes: None,
        clear: Some(Clear::Now),
        clears: true,
        clears_reused: false,
        clears_unknown_past: false,
    };
    let directory = tempfile::tempdir().unwrap();
    let (state, restored) = (directory.path().join("state"), directory.path().join("restored"));
    let store = Store::open(&state).unwrap();
    for command in [
        Command::InitCluster(init),
        Command::AddDisk(add),
        Command::CreateVolume(create),
    ] {
        store.propose(command).unwrap();
    }
    let backup = Backup::of(store.cluster().as_ref().clone());
    assert_eq!(backup.held_clearings(), [name("v")]);
    assert_eq!(backup.held_disks(), [(name("d"), vec![name("v")])]);
    backup.clone().restore(&restored).unwrap();
    let again = Store::open(&restored).unwrap().cluster();
    assert!(again.volumes[&name("v")].is_clearing_held());
    let held = again.disks[&name("d")].held.unwrap();
    assert_eq!(held.taken_unix_s, Some(backup.taken_unix_s));
    assert_eq!(again.generation, backup.cluster.generation.next().next());
}
