//! Paths are names on one node: what another node calls something is no business of this one.

use super::preview::{BYTES, added, node, request};
use super::*;
use palisade_model::{AddDisk, AddNode, AddPath, FEATURE_LEVEL, Medium, MediumRecord, NodeStarted, Usage};
use palisade_words::Incarnation;

#[test]
fn the_path_of_a_disk_is_that_on_this_node() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let shared = shared_of(&rest);
    let (n2, d2) = (Name::new("n2").unwrap(), Name::new("d2").unwrap());
    let at = |name: &str| folder.path().join(name);
    crate::started::tell(&shared).unwrap();
    let disk = AddDisk {
        name: d2.clone(),
        uuid: Uuid(22),
        node: n2.clone(),
        medium: Medium::File {
            path: at("theirs.img").display().to_string(),
            bytes: BYTES,
            created: false,
        },
        record: MediumRecord::default(),
        usage: Usage::Whole,
        block_bytes: 512,
        sectors: BYTES / SECTOR_BYTES,
        data_start: 0,
        data_end: BYTES / SECTOR_BYTES,
        superblock_pending: false,
    };
    let ours = at("ours.img");
    let path = AddPath {
        disk: d2,
        uuid: Uuid(22),
        node: shared.name.clone(),
        path: ours.display().to_string(),
    };
    for command in [
        Command::AddNode(AddNode {
            name: n2,
            uuid: Uuid(2),
            addresses: Vec::new(),
            failure_domain: None,
        }),
        Command::NodeStarted(NodeStarted {
            node: Uuid(2),
            incarnation: Incarnation(1),
            feature_level: FEATURE_LEVEL,
        }),
        Command::AddDisk(disk),
        Command::AddPath(path),
    ] {
        shared.propose(command).unwrap();
    }
    added(&rest, &request(&at("theirs.img"), Some(BYTES))).unwrap();
    let mut second = request(&ours, Some(BYTES));
    second.id = "d3".into();
    let taken = added(&rest, &second).unwrap_err();
    assert_eq!(taken.code, "medium_taken");
    assert!(taken.message.contains("disk d2"), "{}", taken.message);
}
