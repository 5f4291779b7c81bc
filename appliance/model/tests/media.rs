//! A disk's medium says something else than the database, and somebody who knows decides.

#![cfg(test)]

mod lab;

use lab::{create, delete, lab, name, outcome, remove_disk, then, whole_disk};
use palisade_model::limits::{ALLOCATION_UNIT_SECTORS as UNIT, GENERATION_MAX};
use palisade_model::*;

/// A block device.
fn block(path: &str, wwid: Option<&str>) -> Medium {
    let (path, wwid) = (path.to_owned(), wwid.map(str::to_owned));
    Medium::Block { path, wwid }
}

fn seen(generation: u64, epoch: u64) -> OnMedium {
    let point = Ancestor {
        generation: Generation(generation),
        id: LineageId(u128::from(generation)),
    };
    OnMedium {
        point,
        epoch: Epoch(epoch),
        ancestors: Vec::new(),
    }
}

fn adopt(text: &str, uuid: u128, seen: Option<OnMedium>, empties: &[Uuid]) -> Command {
    let (name, uuid, empties) = (name(text), Uuid(uuid), empties.to_vec());
    Command::AdoptDisk(AdoptDisk {
        name,
        uuid,
        seen,
        empties,
    })
}

/// What is adopted is what lies on the medium, as far as it can be believed, and nothing behind what the cluster knows.
#[test]
fn what_is_adopted_is_gone_beyond_and_never_behind() {
    let cluster = then(&lab(), Command::AddDisk(whole_disk("e", 101)));
    let [v, w] = ["v", "w"].map(lab::uuid_of);
    for (command, expected) in [
        (adopt("l", 100, None, &[]), "disk_not_found"),
        (adopt("d", 101, None, &[]), "disk_not_found"),
        (adopt("e", 101, None, &[]), "usage"),
        (adopt("d", 100, Some(seen(40, 1)), &[Uuid(1)]), "empties"),
        (adopt("d", 100, Some(seen(40, 1)), &[v, Uuid(1)]), "empties"),
        (adopt("d", 100, Some(seen(40, 1)), &[v, w]), "changed"),
        (adopt("d", 100, Some(seen(GENERATION_MAX, 1)), &[]), "changed"),
        (
            adopt("d", 100, Some(seen(GENERATION_MAX + 1, 1)), &[]),
            "generation",
        ),
        (adopt("d", 100, Some(seen(40, GENERATION_MAX)), &[]), "changed"),
        (
            adopt("d", 100, Some(seen(40, GENERATION_MAX + 1)), &[]),
            "generation",
        ),
        (adopt("d", 100, None, &[]), "changed"),
    ] {
        assert_eq!(outcome(&cluster, &command), expected, "{command:?}");
    }
    let next = cluster.generation.next();
    for (of, epoch, then_generation, then_epoch) in [
        (2, 0, next, Epoch(1)),
        (next.0, 7, next.next(), Epoch(7)),
        (next.0 - 1, 1, next, Epoch(1)),
        (500, 1, Generation(501), Epoch(1)),
    ] {
        let after = then(&cluster, adopt("d", 100, Some(seen(of, epoch)), &[w]));
        assert_eq!((after.generation, after.epoch), (then_generation, then_epoch));
        let disk = &after.disks[&name("d")];
        assert_eq!(
            (disk.revision, disk.first_superblock),
            (after.generation, FirstSuperblock::OnMedium)
        );
        let emptied = |text: &str| after.volumes[&name(text)].clearing.is_some();
        assert!(emptied("w") && !emptied("v"));
    }
    let gone = then(
        &cluster,
        Command::DeleteVolume(DeleteVolume {
            detaches: true,
            ..delete("v", None)
        }),
    );
    let gone = then(&gone, Command::DeleteVolume(delete("w", None)));
    let leaving = then(&gone, remove_disk("d", true));
    assert_eq!(outcome(&leaving, &adopt("d", 100, None, &[])), "disk_going");
    for command in [
        Command::ChangeDisk(ChangeDisk {
            name: name("d"),
            protected: Some(true),
            expected: None,
        }),
        Command::CreateVolume(create("x")),
    ] {
        assert_eq!(outcome(&leaving, &command), "disk_going");
    }
    let more = GrowDisk {
        name: name("d"),
        sectors: 12 * UNIT,
        data_end: 11 * UNIT,
        expected: None,
    };
    assert_eq!(outcome(&leaving, &Command::GrowDisk(more)), "disk_going");
}

/// A disk is found elsewhere by what identifies it: each part counts by itself.
#[test]
fn a_disk_that_is_identified_anew_changes_in_what_was_said() {
    let medium = block("/dev/w", Some("naa.1"));
    let cluster = then(
        &lab(),
        Command::AddDisk(AddDisk {
            medium,
            ..whole_disk("w", 101)
        }),
    );
    let identify = |text: &str, path: Option<&str>, wwid: Option<&str>, serial: Option<&str>| {
        let serial = serial.map(str::to_owned);
        Command::IdentifyDisk(IdentifyDisk {
            name: name(text),
            path: path.map(str::to_owned),
            wwid: wwid.map(str::to_owned),
            record: MediumRecord {
                serial,
                ..MediumRecord::default()
            },
            expected: None,
        })
    };
    for (path, wwid, serial, expected) in [
        (None, Some("naa.1"), None, "unchanged"),
        (Some("/dev/w"), Some("naa.1"), None, "unchanged"),
        (Some("/dev/x"), Some("naa.1"), None, "changed"),
        (None, Some("naa.2"), None, "changed"),
        (None, None, None, "changed"),
        (None, Some("naa.1"), Some("S1"), "changed"),
        (None, Some("naa.1"), Some(""), "serial"),
        (None, Some(""), None, "wwid"),
        (Some("w"), Some("naa.1"), None, "path"),
        (Some("/disks/d"), Some("naa.1"), None, "medium_taken"),
    ] {
        let command = identify("w", path, wwid, serial);
        assert_eq!(outcome(&cluster, &command), expected, "{command:?}");
        if expected == "changed" {
            let next = then(&cluster, command);
            let found = &next.disks[&name("w")];
            assert_eq!(found.medium, block(path.unwrap_or("/dev/w"), wwid));
            assert_eq!(
                (found.record.serial.as_deref(), found.revision),
                (serial, next.generation)
            );
        }
    }
    // A file has no WWID, and keeps its size.
    let moved = then(&cluster, identify("d", Some("/disks/x"), Some("naa.7"), None));
    assert_eq!(
        moved.disks[&name("d")].medium,
        Medium::File {
            path: "/disks/x".into(),
            bytes: 10 * UNIT * 512,
            created: true
        }
    );
}

/// What was adopted is on the medium, and the first superblock with it.
#[test]
fn a_superblock_that_is_adopted_is_no_longer_waited_for() {
    let pending = AddDisk {
        superblock_pending: true,
        ..lab::disk("p", 105)
    };
    let cluster = then(&lab(), Command::AddDisk(pending));
    assert!(!cluster.disks[&name("p")].first_superblock.is_on_medium());
    let next = then(&cluster, adopt("p", 105, Some(seen(40, 1)), &[]));
    assert!(next.disks[&name("p")].first_superblock.is_on_medium());
}

#[test]
fn a_disks_medium_is_held_against_its_own_record() {
    let medium = block("/dev/w", Some("naa.1"));
    let cluster = then(
        &lab(),
        Command::AddDisk(AddDisk {
            medium,
            ..whole_disk("w", 101)
        }),
    );
    let (disk, found) = (&cluster.disks[&name("w")], MediumRecord::default());
    assert_eq!(disk.check_medium(&found, Some("naa.1")), Ok(()));
    let other = disk.check_medium(&found, Some("naa.2")).unwrap_err();
    assert_eq!((other.what, other.found.as_deref()), ("WWID", Some("naa.2")));
    // A record of nothing is not written down, so that a database stays readable for who knows of none.
    let text = |disk: &Disk| serde_json::to_string(disk).unwrap();
    assert!(!text(disk).contains("\"record\""));
    let recorded = Disk {
        record: MediumRecord {
            sparse: true,
            ..found
        },
        ..disk.clone()
    };
    assert!(text(&recorded).contains("\"record\":{\"sparse\":true}"));
}
