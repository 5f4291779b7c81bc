//! A database that is put back from a copy holds the disks that keep no record of their own, until an operator has looked.

#![cfg(test)]

mod lab;

use lab::{after, furnished, name, outcome, then, whole_disk};
use palisade_model::*;
use palisade_words::Uuid;

const HELD: Held = Held {
    taken_unix_s: Some(7),
};

/// Beside a pooled file, a whole one and one that keeps nothing, a whole block device without a volume.
fn restored() -> Cluster {
    let before = then(&furnished(), Command::AddDisk(whole_disk("w", 77)));
    then(&before, Command::HoldDisks(HELD))
}

fn identify(cluster: &Cluster, disk: &str, confirmed: bool) -> IdentifyDisk {
    IdentifyDisk {
        name: name(disk),
        path: None,
        wwid: None,
        record: cluster.disks[&name(disk)].record.clone(),
        confirmed,
        expected: None,
    }
}

#[test]
fn disks_that_keep_no_record_are_held_and_no_others() {
    let cluster = restored();
    for (disk, known) in &cluster.disks {
        let is_held = known.usage == Usage::Whole && known.medium.is_lasting();
        assert_eq!(known.held, is_held.then_some(HELD), "{disk}");
        assert_eq!(known.revision == cluster.generation, is_held, "{disk}");
    }
    assert!(cluster.disks[&name("w")].held.is_some() && cluster.disks[&name("d")].held.is_none());
    assert_eq!(outcome(&cluster, &Command::HoldDisks(HELD)), "unchanged");
    // A later copy of what is held still.
    let later = Held {
        taken_unix_s: Some(9),
    };
    let again = then(&cluster, Command::HoldDisks(later));
    assert_eq!(again.disks[&name("w")].held, Some(later));
    let memory = AddDisk {
        medium: Medium::Memory { bytes: 4 << 20 },
        sectors: 8192,
        data_end: 8192,
        ..whole_disk("m", 78)
    };
    let held = after(&cluster, [Command::AddDisk(memory), Command::HoldDisks(HELD)]);
    assert_eq!(
        held.disks[&name("m")].held,
        None,
        "its content has ended with the daemon"
    );
}

#[test]
fn an_operator_who_confirms_it_ends_that_for_one_disk() {
    let cluster = restored();
    assert_eq!(
        outcome(&cluster, &Command::IdentifyDisk(identify(&cluster, "w", false))),
        "unchanged"
    );
    let moved = IdentifyDisk {
        path: Some("/dev/elsewhere".into()),
        ..identify(&cluster, "w", false)
    };
    let moved = then(&cluster, Command::IdentifyDisk(moved));
    assert_eq!(moved.disks[&name("w")].held, Some(HELD), "only its path was told");
    let confirmed = then(&cluster, Command::IdentifyDisk(identify(&cluster, "w", true)));
    assert_eq!(
        (confirmed.disks[&name("w")].held, confirmed.disks[&name("e")].held),
        (None, Some(HELD))
    );
    assert_eq!(confirmed.disks[&name("w")].revision, confirmed.generation);
    assert_eq!(
        outcome(&confirmed, &Command::IdentifyDisk(identify(&cluster, "w", true))),
        "unchanged"
    );
}

#[test]
fn saying_where_disks_are_ends_it_with_the_same_word() {
    let cluster = restored();
    let place = |confirmed| {
        Command::RelocateDisks(RelocateDisks {
            disks: vec![Relocation {
                name: name("w"),
                uuid: Uuid(77),
                path: "/dev/w".into(),
                confirmed,
                expected: None,
            }],
        })
    };
    assert_eq!(outcome(&cluster, &place(false)), "unchanged");
    let placed = then(&cluster, place(true));
    assert_eq!(
        (placed.disks[&name("w")].held, placed.disks[&name("e")].held),
        (None, Some(HELD))
    );
}

/// What an earlier version has written has none of it, and what is not held is written as before.
#[test]
fn a_disk_that_is_not_held_is_written_as_ever() {
    let plain = then(&furnished(), Command::AddDisk(whole_disk("w", 77)));
    let disk = &plain.disks[&name("w")];
    let text = serde_json::to_string(disk).unwrap();
    assert!(!text.contains("held"), "{text}");
    assert_eq!(serde_json::from_str::<Disk>(&text).unwrap(), *disk);
    let identify = serde_json::to_string(&identify(&plain, "w", false)).unwrap();
    assert!(!identify.contains("confirmed"), "{identify}");
}
