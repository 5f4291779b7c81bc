//! A database that is put back from a copy holds the disks that keep no record of their own, until an operator has looked.

#![cfg(test)]

mod lab;

use lab::imported::found;
use lab::{after, create, furnished, name, outcome, then, whole_disk};
use palisade_model::*;
use palisade_words::{Ancestor, Generation, LineageId, Uuid};

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
                found: None,
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

fn next_volume(cluster: &Cluster, wanted: CreateVolume) -> Volume {
    then(cluster, Command::CreateVolume(wanted)).volumes[&name("x")].clone()
}

fn wanted(disk: &str) -> CreateVolume {
    CreateVolume {
        name: name("x"),
        uuid: Uuid(99),
        disk: Some(name(disk)),
        clears: true,
        clears_reused: true,
        clears_unknown_past: true,
        ..create("x")
    }
}

/// The database of then does not know whether a volume was there meanwhile, and it says `none has been` for ever.
#[test]
fn the_next_volume_after_a_restore_shows_nothing_of_what_was_there_meanwhile() {
    let cluster = restored();
    let confirmed = then(&cluster, Command::IdentifyDisk(identify(&cluster, "w", true)));
    assert!(!confirmed.disks[&name("w")].has_had_volumes());
    for now in [&cluster, &confirmed] {
        let volume = next_volume(now, wanted("w"));
        assert_eq!(
            (volume.clear, volume.usable_sectors()),
            (Some(Clear::Now), 0),
            "and what it grows by is cleared as well"
        );
        let as_it_is = CreateVolume {
            clear: Some(Clear::Never),
            ..wanted("w")
        };
        assert_eq!(next_volume(now, as_it_is).clearing, None, "its operator's choice");
        let of_old = CreateVolume {
            clears_unknown_past: false,
            ..wanted("w")
        };
        assert_eq!(
            next_volume(now, of_old).clearing,
            None,
            "an old log means what it meant"
        );
    }
    let plain = then(&furnished(), Command::AddDisk(whole_disk("w", 77)));
    assert_eq!(
        next_volume(&plain, wanted("w")).clearing,
        None,
        "nothing was put back"
    );
}

/// By another word than a restore, too: an operator says that another medium is the disk, or a pooled disk shows that the
/// database is an old one.
#[test]
fn whatever_shows_that_the_past_of_a_disk_is_not_known_has_its_next_volume_cleared() {
    let plain = then(&furnished(), Command::AddDisk(whole_disk("w", 77)));
    let other = IdentifyDisk {
        wwid: Some("other".into()),
        ..identify(&plain, "w", true)
    };
    let moved = |confirmed| {
        Command::RelocateDisks(RelocateDisks {
            disks: vec![Relocation {
                name: name("w"),
                uuid: Uuid(77),
                path: "/dev/other".into(),
                found: None,
                confirmed,
                expected: None,
            }],
        })
    };
    let adopt = |older| {
        Command::AdoptDisk(AdoptDisk {
            name: name("d"),
            uuid: plain.disks[&name("d")].uuid,
            seen: Some(OnMedium {
                point: Ancestor {
                    generation: Generation(400),
                    id: LineageId(4),
                },
                epoch: plain.epoch,
                ancestors: Vec::new(),
            }),
            empties: Vec::new(),
            keeps: Default::default(),
            older,
        })
    };
    let import = |holds_clearings| {
        Command::ImportDisks(ImportDisks {
            disks: vec![found("new", 900, &[])],
            cluster: None,
            holds_clearings,
            regards_protection: false,
        })
    };
    for (command, is_forgotten) in [
        (Command::IdentifyDisk(identify(&plain, "w", true)), false),
        (
            Command::IdentifyDisk(IdentifyDisk {
                confirmed: false,
                ..other.clone()
            }),
            false,
        ),
        (Command::IdentifyDisk(other), true),
        (moved(false), false),
        (moved(true), true),
        (adopt(true), false),
        (adopt(false), true),
        (import(false), false),
        (import(true), true),
    ] {
        let now = then(&plain, command.clone());
        assert_eq!(now.disks[&name("w")].unknown_past, is_forgotten, "{command:?}");
        assert!(
            !now.disks[&name("d")].unknown_past,
            "a pooled disk says itself what lies on it"
        );
        let is_cleared = next_volume(&now, wanted("w")).clearing.is_some();
        assert_eq!(is_cleared, is_forgotten, "{command:?}");
    }
}

/// What an earlier version has written has none of it, and what is not held is written as before.
#[test]
fn a_disk_that_is_not_held_is_written_as_ever() {
    let plain = then(&furnished(), Command::AddDisk(whole_disk("w", 77)));
    let disk = &plain.disks[&name("w")];
    let text = serde_json::to_string(disk).unwrap();
    assert!(!text.contains("held") && !text.contains("past"), "{text}");
    assert_eq!(serde_json::from_str::<Disk>(&text).unwrap(), *disk);
    let identify = serde_json::to_string(&identify(&plain, "w", false)).unwrap();
    assert!(!identify.contains("confirmed"), "{identify}");
}
