//! Several nodes reach one disk, each by a path of its own.

#![cfg(test)]

mod lab;

use lab::imported::{found, taken};
use lab::{after, detach, disk, lab, lab_of_two_nodes, name, outcome, refusal, switched_on, then};
use palisade_model::*;
use palisade_words::{FeatureLevel, Uuid};

fn add(node: &str, path: &str) -> AddPath {
    AddPath {
        disk: name("d"),
        uuid: Uuid(100),
        node: name(node),
        path: path.into(),
    }
}

fn remove(node: &str) -> Command {
    Command::RemovePath(RemovePath {
        disk: name("d"),
        uuid: Uuid(100),
        node: name(node),
    })
}

#[test]
fn a_disk_has_a_path_for_each_node_that_reaches_it() {
    let before = lab_of_two_nodes();
    let d = |cluster: &Cluster| cluster.disks[&name("d")].clone();
    assert_eq!(
        (d(&before).path_of(&name("n")), d(&before).path_of(&name("m"))),
        (Some("/disks/d"), None)
    );
    let cluster = then(&before, Command::AddPath(add("m", "/dev/sdq")));
    let found = d(&cluster);
    assert_eq!(*found.custodian(), name("n"));
    assert_eq!(found.path_of(&name("n")), Some("/disks/d"));
    assert_eq!(found.path_of(&name("m")), Some("/dev/sdq"));
    assert!(
        found.is_reached_by(&name("m"))
            && found.is_reached_by(&name("n"))
            && !found.is_reached_by(&name("l"))
    );
    // What the superblock says is as it was.
    assert_eq!(found.superblock_generation(), d(&before).superblock_generation());
    assert_eq!(
        outcome(&cluster, &Command::AddPath(add("m", "/dev/sdq"))),
        "unchanged"
    );
    let moved = then(&cluster, Command::AddPath(add("m", "/dev/sdr")));
    assert_eq!(d(&moved).path_of(&name("m")), Some("/dev/sdr"));
    // The node stays as long as a disk counts on it.
    let gone = Command::RemoveNode(RemoveNode {
        name: name("m"),
        expected: None,
    });
    assert_eq!(outcome(&moved, &gone), "node_in_use");
    let without = then(&moved, remove("m"));
    assert_eq!(d(&without), d(&before));
    assert_eq!(outcome(&without, &remove("m")), "unchanged");
    assert_eq!(outcome(&without, &gone), "removed");
}

#[test]
fn a_path_leads_from_another_member_to_one_disk() {
    let of_m = AddDisk {
        node: name("m"),
        ..disk("o", 106)
    };
    let memory = AddDisk {
        medium: Medium::Memory {
            bytes: disk("h", 104).sectors * 512,
        },
        ..disk("h", 104)
    };
    let cluster = after(
        &lab_of_two_nodes(),
        [Command::AddDisk(of_m), Command::AddDisk(memory)],
    );
    let cases = [
        (add("n", "/dev/sdq"), "node"),
        (add("l", "/dev/sdq"), "node_not_found"),
        (add("m", "dev/sdq"), "path"),
        (add("m", "/disks/o"), "medium_taken"),
        (
            AddPath {
                uuid: Uuid(7),
                ..add("m", "/dev/sdq")
            },
            "disk_not_found",
        ),
        (
            AddPath {
                disk: name("h"),
                uuid: Uuid(104),
                ..add("m", "/dev/sdq")
            },
            "path",
        ),
        // The same text on another node is another place.
        (add("m", "/disks/d"), "changed"),
    ];
    for (add, expected) in cases {
        assert_eq!(
            outcome(&cluster, &Command::AddPath(add.clone())),
            expected,
            "{add:?}"
        );
    }
    // One that leaves is led to by nobody else any more.
    let leaves = after(
        &cluster,
        [Command::AddDisk(disk("q", 108)), lab::remove_disk("q", true)],
    );
    let late = AddPath {
        disk: name("q"),
        uuid: Uuid(108),
        ..add("m", "/dev/sdq")
    };
    assert_eq!(outcome(&leaves, &Command::AddPath(late)), "disk_going");
    let reached = then(&cluster, Command::AddPath(add("m", "/dev/sdq")));
    let taken = AddDisk {
        node: name("m"),
        medium: Medium::Block {
            path: "/dev/sdq".into(),
            wwid: None,
        },
        ..disk("p", 107)
    };
    assert_eq!(outcome(&reached, &Command::AddDisk(taken)), "medium_taken");
}

/// A database of before has one path for each disk, its custodian's, and is as it was.
#[test]
fn a_disk_of_before_has_the_path_of_its_node() {
    let cluster = switched_on(&lab());
    let text = serde_json::to_string(&cluster.disks[&name("d")]).unwrap();
    assert!(!text.contains("other_paths"), "{text}");
    let off = Refusal::FeatureOff {
        needed: FeatureLevel(3),
        level: lab().feature_level,
    };
    assert_eq!(refusal(&lab(), Command::AddPath(add("n", "/x"))), off);
}

/// A database that was put back imports its own disks: it goes on to know the ways of the others to them.
#[test]
fn a_disk_that_is_imported_again_keeps_the_paths_of_other_nodes() {
    let cluster = after(
        &lab_of_two_nodes(),
        [detach("a"), Command::AddPath(add("m", "/dev/sdq"))],
    );
    let again = taken(&cluster, &[found("d", 100, &[])]);
    let again = &again.disks[&name("d")];
    assert_eq!(again.path_of(&name("n")), Some("/disks/d"));
    assert_eq!(again.path_of(&name("m")), Some("/dev/sdq"));
    // The path by which it is imported is its first one from now on, and no other.
    let mut there = found("d", 100, &[]);
    there.disk.node = name("m");
    let moved = taken(&cluster, &[there]);
    let moved = &moved.disks[&name("d")];
    assert_eq!(*moved.custodian(), name("m"));
    assert!(moved.other_paths.is_empty());
}
