//! A disk's medium says something else than the database, and somebody who knows decides.

#![cfg(test)]

mod lab;

use lab::{create, delete, furnished, lab, name, outcome, remove_disk, then, whole_disk};
use palisade_model::limits::GENERATION_MAX;
use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Uuid};

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
        keeps: Default::default(),
        older: false,
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
        assert_eq!(disk.taken_at, Some(Generation(of)));
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
            confirmed: false,
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

/// Several are found under other paths in one step: each told of once, each by its own id, and none has another's path
/// in the end.
#[test]
fn disks_exchange_their_paths_in_one_step_or_not_at_all() {
    let device = |text, uuid| AddDisk {
        medium: block(&format!("/dev/{text}"), None),
        ..whole_disk(text, uuid)
    };
    let memory = AddDisk {
        medium: Medium::Memory {
            bytes: 10 * UNIT * 512,
        },
        ..lab::disk("ram", 103)
    };
    let of_m = AddDisk {
        node: name("m"),
        ..device("y", 104)
    };
    let disks = [device("w", 101), device("x", 102), memory, of_m].map(Command::AddDisk);
    let cluster = lab::after(&lab::lab_of_two_nodes(), disks);
    let revision = |text: &str| cluster.disks[&name(text)].revision;
    let to = |text: &str, uuid, path: &str, expected| {
        let (name, uuid, path) = (name(text), Uuid(uuid), path.to_owned());
        Relocation {
            name,
            uuid,
            path,
            found: None,
            confirmed: false,
            expected,
        }
    };
    let all = |disks: &[Relocation]| {
        Command::RelocateDisks(RelocateDisks {
            disks: disks.to_vec(),
        })
    };
    let (w, x) = (|path| to("w", 101, path, None), |path| to("x", 102, path, None));
    for (number, (disks, expected)) in [
        (vec![], "unchanged"),
        (vec![w("/dev/w")], "unchanged"),
        (vec![x("/dev/x"), w("/dev/w")], "unchanged"),
        (vec![w("/dev/x"), x("/dev/w")], "changed"),
        (vec![w("/dev/z"), x("/dev/w")], "changed"),
        (vec![w("/dev/z"), x("/dev/x")], "changed"),
        (vec![w("/dev/y")], "changed"),
        (vec![w("/dev/x")], "medium_taken"),
        (vec![w("/dev/z"), x("/dev/z")], "medium_taken"),
        (vec![w("/disks/d"), x("/dev/w")], "medium_taken"),
        (vec![w("/dev/z"), w("/dev/z")], "disks"),
        (vec![w("/dev/w"), x("/dev/x"), w("/dev/w")], "disks"),
        (vec![to("w", 102, "/dev/z", None)], "disk_not_found"),
        (vec![to("l", 101, "/dev/z", None)], "disk_not_found"),
        (vec![to("w", 101, "/dev/z", Some(revision("w")))], "changed"),
        (
            vec![to("w", 101, "/dev/z", Some(revision("x")))],
            "revision_mismatch",
        ),
        (vec![w("/dev/../z")], "path"),
        (vec![to("ram", 103, "/dev/z", None)], "path"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(outcome(&cluster, &all(&disks)), expected, "case {number}");
        if expected == "changed" {
            let next = then(&cluster, all(&disks));
            for told in &disks {
                let (before, now) = (&cluster.disks[&told.name], &next.disks[&told.name]);
                assert_eq!(now.medium.path(), Some(told.path.as_str()));
                let moved = before.medium.path() != now.medium.path();
                assert_eq!(
                    now.revision,
                    if moved { next.generation } else { before.revision }
                );
            }
        }
    }
    // A file that has moved keeps its size and who made it.
    let moved = then(&cluster, all(&[to("d", 100, "/disks/z", None)]));
    let bytes = 10 * UNIT * 512;
    assert_eq!(
        moved.disks[&name("d")].medium,
        Medium::File {
            path: "/disks/z".into(),
            bytes,
            created: true
        }
    );
    // One that an operator has said to be the disk is known by what was read of it, and nothing else of its path.
    let found = |wwid: Option<&str>, serial: &str| {
        let (wwid, serial) = (wwid.map(str::to_owned), Some(serial.to_owned()));
        let record = MediumRecord {
            serial,
            ..MediumRecord::default()
        };
        Some(FoundMedium { wwid, record })
    };
    let copied = |path: &str, found| Relocation {
        found,
        ..to("w", 101, path, None)
    };
    for path in ["/dev/w", "/dev/z"] {
        let next = then(&cluster, all(&[copied(path, found(Some("naa.9"), "s"))]));
        let disk = &next.disks[&name("w")];
        assert_eq!(
            (disk.medium.path(), disk.medium.wwid()),
            (Some(path), Some("naa.9"))
        );
        assert_eq!(disk.record.serial.as_deref(), Some("s"));
        assert_eq!(disk.revision, next.generation);
        let again = all(&[copied(path, found(Some("naa.9"), "s"))]);
        assert_eq!(outcome(&next, &again), "unchanged");
        let others = Relocation {
            found: found(Some("naa.9"), "t"),
            ..x("/dev/x")
        };
        assert_eq!(outcome(&next, &all(&[others])), "medium_taken");
    }
    let bad = copied("/dev/z", found(None, "a\u{7}"));
    assert_eq!(outcome(&cluster, &all(&[bad])), "serial");
    // What has not changed has the latest revision of all that were told of.
    let same = cluster
        .apply(&all(&[x("/dev/x"), w("/dev/w")]))
        .map(|(_, outcome)| outcome.revision());
    assert_eq!(same, Ok(revision("x")));
}

/// An older copy is gone on from with a generation of the disk's own, whichever time it is asked for; without that word, what
/// the disk has been at is adopted already.
#[test]
fn an_older_copy_is_gone_on_from() {
    let cluster = lab();
    let disk = &cluster.disks[&name("d")];
    let points: Vec<Ancestor> = disk.history.iter().copied().collect();
    let (first, w) = (points[0], lab::uuid_of("w"));
    let copy = |older| {
        let seen = OnMedium {
            point: first,
            epoch: Epoch(1),
            ancestors: Vec::new(),
        };
        match adopt("d", 100, Some(seen), &[w]) {
            Command::AdoptDisk(adopt) => Command::AdoptDisk(AdoptDisk { older, ..adopt }),
            other => other,
        }
    };
    assert_eq!(outcome(&cluster, &copy(false)), "unchanged");
    let after = then(&cluster, copy(true));
    let disk = &after.disks[&name("d")];
    assert_eq!(disk.revision, after.generation);
    assert_eq!(disk.taken_at, Some(first.generation));
    assert_eq!(
        after.volumes[&name("w")].usable_sectors(),
        0,
        "it is cleared before it is used"
    );
    let now: Vec<Ancestor> = disk.history.iter().copied().collect();
    let latest = Ancestor {
        generation: after.generation,
        id: after.lineage,
    };
    assert_eq!(
        now,
        [points, vec![latest]].concat(),
        "what it has been at is told once"
    );
}

/// Another daemon may have made a pool of a disk that is given whole, or its guest runs Palisade itself.
#[test]
fn superblocks_on_a_whole_disk_are_strangers_until_they_are_remembered() {
    let found = [Uuid(7), Uuid(8)];
    let strangers = |disk: &Disk| disk.strangers(found).collect::<Vec<_>>();
    let mut disk = furnished().disks[&name("e")].clone();
    assert_eq!(disk.usage, Usage::Whole);
    assert_eq!(strangers(&disk), found);
    disk.record.nested = vec![Uuid(8)];
    assert!(disk.record.is_empty(), "it says nothing of who the medium is");
    assert_eq!(strangers(&disk), [Uuid(7)]);
    disk.usage = Usage::Pooled;
    assert_eq!(strangers(&disk), []);
    (disk.usage, disk.medium) = (Usage::Whole, Medium::Memory { bytes: 4096 });
    assert_eq!(strangers(&disk), []);
}

/// What is a volume's own on the copy stays in use, and what comes behind is cleared as if it had grown now.
#[test]
fn a_volume_that_is_emptied_keeps_what_is_said_to_be_its_own() {
    let cluster = then(&lab(), Command::GrowVolume(lab::grow("w", 2 * UNIT)));
    let w = lab::uuid_of("w");
    let first = cluster.disks[&name("d")].history.iter().copied().next().unwrap();
    let keeping = |cluster: &Cluster, volume: Uuid, sectors: u64| {
        let seen = OnMedium {
            point: first,
            epoch: Epoch(1),
            ancestors: Vec::new(),
        };
        let Command::AdoptDisk(adopt) = adopt("d", 100, Some(seen), &[w]) else {
            unreachable!("it is one")
        };
        let adopt = Command::AdoptDisk(AdoptDisk {
            keeps: [(volume, sectors)].into(),
            older: true,
            ..adopt
        });
        (outcome(cluster, &adopt), adopt)
    };
    let size = cluster.volumes[&name("w")].sectors;
    // Nothing that is not emptied, not all of it, and nothing that no guest may use.
    assert_eq!(keeping(&cluster, Uuid(77), UNIT).0, "keeps");
    assert_eq!(keeping(&cluster, w, size).0, "keeps");
    assert_eq!(keeping(&cluster, w, size + 8).0, "keeps");
    let (said, adopt) = keeping(&cluster, w, UNIT);
    assert_eq!(said, "changed");
    let after = then(&cluster, adopt);
    check(&after).unwrap();
    let volume = &after.volumes[&name("w")];
    assert_eq!(volume.usable_sectors(), UNIT);
    let clearing = volume.clearing.unwrap();
    assert_eq!(
        (clearing.from, clearing.cleared, clearing.since, clearing.withheld),
        (UNIT, UNIT, after.generation, true)
    );
    assert_eq!(volume.route_generation(), after.generation);
    // What is not clear yet is nothing that could be kept.
    assert_eq!(keeping(&after, w, UNIT + 8).0, "keeps");
    assert_eq!(keeping(&after, w, UNIT).0, "changed");
    let whole = then(&after, lab::cleared("w", size));
    assert_eq!(whole.volumes[&name("w")].usable_sectors(), size);
}

/// What was cleared was so on the medium that is gone.
#[test]
fn a_clearing_begins_anew_on_a_medium_that_was_elsewhere() {
    let grown = GrowVolume {
        clears: true,
        disk: Some(name("d")),
        ..lab::grow("w", 3 * UNIT)
    };
    let two_disks = then(&lab(), Command::AddDisk(lab::disk("e", 101)));
    let cluster = then(&two_disks, Command::GrowVolume(grown));
    let from = cluster.volumes[&name("w")].clearing.unwrap().from;
    let part = Command::RecordCleared(RecordCleared {
        name: name("w"),
        uuid: lab::uuid_of("w"),
        sectors: 2 * UNIT,
        start: from,
    });
    let cluster = then(&cluster, part);
    let before = cluster.volumes[&name("w")].clone();
    assert_eq!(before.clearing.unwrap().cleared, 2 * UNIT);
    let first = cluster.disks[&name("d")].history.iter().copied().next().unwrap();
    let seen = |point| OnMedium {
        point,
        epoch: Epoch(1),
        ancestors: Vec::new(),
    };
    let older = match adopt("d", 100, Some(seen(first)), &[]) {
        Command::AdoptDisk(adopt) => Command::AdoptDisk(AdoptDisk { older: true, ..adopt }),
        other => other,
    };
    let elsewhere = Ancestor {
        generation: Generation(900),
        id: LineageId(900),
    };
    for adopted in [
        older,
        adopt("d", 100, Some(seen(elsewhere)), &[]),
        adopt("d", 100, None, &[]),
    ] {
        let after = then(&cluster, adopted.clone());
        check(&after).unwrap();
        let volume = &after.volumes[&name("w")];
        let clearing = volume.clearing.unwrap();
        assert_eq!((clearing.from, clearing.cleared), (from, from), "{adopted:?}");
        assert_eq!(clearing.since, before.clearing.unwrap().since);
        assert_eq!(volume.route_generation(), before.route_generation());
        assert_eq!(volume.revision, after.generation);
    }
    // One on other disks goes on.
    let after = then(&cluster, adopt("e", 101, Some(seen(elsewhere)), &[]));
    assert_eq!(after.volumes[&name("w")], before);
}
