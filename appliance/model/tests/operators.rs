//! What single commands do, case by case.

use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Name, Uuid};

fn name(prefix: &str, number: u8) -> Name {
    Name::new(format!("{prefix}{number}")).expect("a good name")
}

fn init() -> Command {
    Command::InitCluster(InitCluster {
        id: Uuid(1),
        node: name("n", 0),
        node_uuid: Uuid(2),
    })
}

struct Lab(Cluster);

impl Lab {
    /// A node with the pooled disks `d0` and `d1` of 8 and 16 units, and the whole disk `d2`.
    fn new() -> Lab {
        let mut lab = Lab(Cluster::empty());
        lab.does(init());
        for (number, units, usage) in [
            (0, 8, Usage::Pooled),
            (1, 16, Usage::Pooled),
            (2, 4, Usage::Whole),
        ] {
            lab.does(Command::AddDisk(disk(number, units, usage)));
        }
        lab
    }

    fn does(&mut self, command: Command) -> Outcome {
        let (next, outcome) = self.0.apply(&command).expect("it should be accepted");
        self.0 = next;
        outcome
    }

    fn refuses(&self, command: Command) -> &'static str {
        self.0.apply(&command).expect_err("it should be refused").code()
    }

    fn extents(&self, volume: u8) -> Vec<(String, u64, u64)> {
        let extents = self.0.volumes[&name("v", volume)].all_extents();
        extents
            .iter()
            .map(|e| (e.disk.to_string(), e.disk_lba, e.sectors))
            .collect()
    }
}

fn disk(number: u8, units: u64, usage: Usage) -> AddDisk {
    let (data_start, data_end, sectors) = match usage {
        Usage::Pooled => (UNIT, (units + 1) * UNIT, (units + 2) * UNIT),
        Usage::Whole => (0, units * UNIT, units * UNIT),
    };
    AddDisk {
        name: name("d", number),
        uuid: Uuid(100 + u128::from(number)),
        node: name("n", 0),
        medium: Medium::File {
            path: format!("/disks/{number}"),
            bytes: sectors * 512,
            created: true,
        },
        record: MediumRecord::default(),
        usage,
        block_bytes: 512,
        sectors,
        data_start,
        data_end,
        superblock_pending: false,
    }
}

fn volume(number: u8, on: Option<u8>, sectors: u64) -> CreateVolume {
    CreateVolume {
        name: name("v", number),
        uuid: Uuid(200 + u128::from(number)),
        node: name("n", 0),
        disk: on.map(|disk| name("d", disk)),
        sectors: Some(sectors),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    }
}

fn grow(number: u8, sectors: u64) -> GrowVolume {
    GrowVolume {
        name: name("v", number),
        sectors,
        disk: None,
        expected: None,
        clears: false,
    }
}

fn attachment(number: u8, volume: u8, read_only: bool) -> CreateAttachment {
    CreateAttachment {
        name: name("a", number),
        uuid: Uuid(200 + u128::from(number)),
        volume: name("v", volume),
        node: name("n", 0),
        socket: format!("/run/a{number}.sock"),
        queues: 2,
        queue_size: 256,
        owner: None,
        group: None,
        mode: 0o600,
        read_only,
        serial: None,
        limits: Limits::default(),
        write_cache: true,
    }
}

fn delete_volume(number: u8) -> Command {
    Command::DeleteVolume(DeleteVolume {
        name: name("v", number),
        expected: None,
        clear: None,
        detaches: false,
    })
}

#[test]
fn a_volume_takes_the_first_free_run_and_grows_where_it_ends() {
    let mut lab = Lab::new();
    lab.does(Command::CreateVolume(volume(0, Some(0), UNIT + 8)));
    lab.does(Command::CreateVolume(volume(1, Some(0), UNIT)));
    assert_eq!(lab.extents(0), [("d0".into(), UNIT, UNIT + 8)]);
    assert_eq!(
        lab.extents(1),
        [("d0".into(), 3 * UNIT, UNIT)],
        "the last unit of v0 is its own"
    );
    lab.does(Command::GrowVolume(grow(0, 2 * UNIT)));
    assert_eq!(lab.extents(0), [("d0".into(), UNIT, 2 * UNIT)], "slack first");
    lab.does(Command::GrowVolume(grow(0, 3 * UNIT)));
    assert_eq!(
        lab.extents(0),
        [("d0".into(), UNIT, 2 * UNIT), ("d0".into(), 4 * UNIT, UNIT)]
    );
    lab.does(Command::GrowVolume(grow(1, UNIT)));
    assert_eq!(lab.refuses(Command::GrowVolume(grow(0, UNIT))), "cannot_shrink");
    assert_eq!(lab.refuses(Command::GrowVolume(grow(0, 300 * UNIT))), "no_space");
}

#[test]
fn a_hole_is_used_when_nothing_else_is_left() {
    let mut lab = Lab::new();
    for number in 0..8 {
        lab.does(Command::CreateVolume(volume(number, Some(0), UNIT)));
    }
    lab.does(delete_volume(1));
    lab.does(delete_volume(4));
    lab.does(delete_volume(5));
    lab.does(Command::CreateVolume(volume(1, Some(0), 3 * UNIT)));
    assert_eq!(
        lab.extents(1),
        [("d0".into(), 2 * UNIT, UNIT), ("d0".into(), 5 * UNIT, 2 * UNIT)]
    );
}

#[test]
fn what_keeps_nothing_is_never_chosen_for_a_volume() {
    let mut lab = Lab(Cluster::empty());
    lab.does(init());
    for (number, medium) in [
        (
            0,
            Medium::Null {
                bytes: 66 * UNIT * 512,
            },
        ),
        (
            1,
            Medium::Memory {
                bytes: 66 * UNIT * 512,
            },
        ),
    ] {
        let add = AddDisk {
            medium,
            ..disk(number, 64, Usage::Pooled)
        };
        lab.does(Command::AddDisk(add));
    }
    assert_eq!(
        lab.refuses(Command::CreateVolume(volume(0, None, UNIT))),
        "no_disk"
    );
    lab.does(Command::AddDisk(disk(2, 4, Usage::Pooled)));
    lab.does(Command::CreateVolume(volume(0, None, UNIT)));
    assert_eq!(lab.extents(0), [("d2".to_string(), UNIT, UNIT)]);
    // Named, they are as good as any.
    lab.does(Command::CreateVolume(volume(1, Some(1), UNIT)));
}

#[test]
fn without_a_disk_the_roomiest_is_taken() {
    let mut lab = Lab::new();
    lab.does(Command::CreateVolume(volume(0, None, 9 * UNIT)));
    lab.does(Command::CreateVolume(volume(1, None, UNIT)));
    assert_eq!(lab.extents(0)[0].0, "d1");
    assert_eq!(lab.extents(1)[0].0, "d0", "8 units are free there, 7 on d1");
    assert_eq!(
        lab.refuses(Command::CreateVolume(volume(2, None, 9 * UNIT))),
        "no_space"
    );
}

#[test]
fn a_whole_disk_has_one_volume_from_its_first_sector() {
    let mut lab = Lab::new();
    lab.does(Command::CreateVolume(CreateVolume {
        sectors: None,
        ..volume(0, Some(2), 0)
    }));
    assert_eq!(lab.extents(0), [("d2".into(), 0, 4 * UNIT)]);
    assert_eq!(
        lab.refuses(Command::CreateVolume(volume(1, Some(2), UNIT))),
        "disk_taken"
    );
    assert_eq!(lab.refuses(Command::GrowVolume(grow(0, 5 * UNIT))), "no_space");
    let (sectors, data_end) = (6 * UNIT, 6 * UNIT);
    lab.does(Command::GrowDisk(GrowDisk {
        name: name("d", 2),
        sectors,
        data_end,
        expected: None,
    }));
    lab.does(Command::GrowVolume(grow(0, 5 * UNIT)));
    let elsewhere = GrowVolume {
        disk: Some(name("d", 0)),
        ..grow(0, 6 * UNIT)
    };
    assert_eq!(lab.refuses(Command::GrowVolume(elsewhere)), "invalid_argument");
}

#[test]
fn creation_is_idempotent_and_says_what_differs() {
    let mut lab = Lab::new();
    let first = lab.does(Command::CreateVolume(volume(0, Some(0), UNIT)));
    let again = CreateVolume {
        uuid: Uuid(999),
        ..volume(0, Some(0), UNIT)
    };
    assert_eq!(
        lab.does(Command::CreateVolume(again)),
        Outcome::Unchanged {
            revision: first.revision()
        }
    );
    let refused = lab.0.apply(&Command::CreateVolume(volume(0, Some(0), 2 * UNIT)));
    let (kind, name) = (Kind::Volume, name("v", 0));
    assert_eq!(
        refused,
        Err(Refusal::Exists {
            kind,
            name,
            differs: Field::Sectors
        })
    );
    let generation = lab.0.generation;
    lab.does(Command::AddDisk(disk(0, 8, Usage::Pooled)));
    lab.does(init());
    assert_eq!(lab.0.generation, generation);
}

#[test]
fn a_stale_revision_is_refused() {
    let mut lab = Lab::new();
    let revision = lab
        .does(Command::CreateVolume(volume(0, Some(0), UNIT)))
        .revision();
    let with = |expected| {
        Command::GrowVolume(GrowVolume {
            expected: Some(expected),
            ..grow(0, 2 * UNIT)
        })
    };
    lab.does(with(revision));
    assert_eq!(lab.refuses(with(revision)), "revision_mismatch");
}

#[test]
fn what_is_in_use_stays() {
    let mut lab = Lab::new();
    lab.does(Command::CreateVolume(volume(0, Some(0), UNIT)));
    lab.does(Command::CreateAttachment(attachment(0, 0, false)));
    let remove = Command::RemoveDisk(RemoveDisk {
        name: name("d", 0),
        expected: None,
        releases: false,
    });
    assert_eq!(lab.refuses(remove.clone()), "disk_in_use");
    assert_eq!(lab.refuses(delete_volume(0)), "volume_in_use");
    lab.does(Command::DeleteAttachment(DeleteAttachment {
        name: name("a", 0),
        expected: None,
    }));
    lab.does(delete_volume(0));
    lab.does(remove);
    assert_eq!(lab.refuses(delete_volume(0)), "volume_not_found");
}

#[test]
fn a_disk_is_gone_when_its_node_has_let_go_of_it() {
    let mut lab = Lab::new();
    let remove = |releases| {
        Command::RemoveDisk(RemoveDisk {
            name: name("d", 0),
            expected: None,
            releases,
        })
    };
    let release = |lab: &Lab, number| {
        Command::ReleaseDisk(ReleaseDisk {
            name: name("d", 0),
            uuid: lab.0.disks[&name("d", number)].uuid,
        })
    };
    assert_eq!(lab.refuses(release(&lab, 0)), "invalid_argument", "it stays");
    let before = lab.0.disks[&name("d", 0)].clone();
    assert!(matches!(lab.does(remove(true)), Outcome::Changed { .. }));
    let leaving = Disk {
        leaving: true,
        ..before.clone()
    };
    assert_eq!(
        lab.0.disks[&name("d", 0)],
        leaving,
        "what its superblock says is as before"
    );
    assert!(matches!(lab.does(remove(true)), Outcome::Unchanged { .. }));
    // Nothing is put on it, neither by name nor by choice, and nobody gets its name or its medium.
    assert_eq!(
        lab.refuses(Command::CreateVolume(volume(0, Some(0), UNIT))),
        "disk_going"
    );
    lab.does(Command::CreateVolume(volume(1, None, 4 * UNIT)));
    lab.does(Command::CreateVolume(volume(2, None, 12 * UNIT)));
    assert_eq!(
        lab.refuses(Command::CreateVolume(volume(3, None, UNIT))),
        "no_space"
    );
    let again = disk(0, 8, Usage::Pooled);
    assert_eq!(lab.refuses(Command::AddDisk(again.clone())), "disk_going");
    let other = AddDisk {
        name: name("d", 7),
        uuid: Uuid(77),
        ..again.clone()
    };
    assert_eq!(lab.refuses(Command::AddDisk(other)), "medium_taken");
    let protect = Command::ChangeDisk(ChangeDisk {
        name: name("d", 0),
        protected: Some(true),
        expected: None,
    });
    assert_eq!(lab.refuses(protect), "disk_going");
    assert_eq!(
        lab.refuses(release(&lab, 1)),
        "disk_not_found",
        "that is another one"
    );
    let by_force = lab
        .0
        .apply(&remove(false))
        .expect("what cannot be reached is given up")
        .0;
    assert!(!by_force.disks.contains_key(&name("d", 0)));
    lab.does(release(&lab, 0));
    assert!(!lab.0.disks.contains_key(&name("d", 0)));
    lab.does(Command::AddDisk(again));
}

/// A volume that comes back in the place of another one holds what the other's guest has written.
#[test]
fn a_volume_that_others_have_written_over_is_emptied_when_it_comes_back() {
    let mut lab = Lab::new();
    lab.does(Command::CreateVolume(volume(0, Some(0), UNIT)));
    lab.does(Command::CreateVolume(volume(1, Some(0), UNIT)));
    lab.does(Command::CreateVolume(volume(2, Some(1), UNIT)));
    let uuid = |lab: &Lab, number| lab.0.volumes[&name("v", number)].uuid;
    let adopt = |lab: &Lab, volume: u8| {
        Command::AdoptDisk(AdoptDisk {
            name: name("d", 0),
            uuid: lab.0.disks[&name("d", 0)].uuid,
            seen: Some(OnMedium {
                point: Ancestor {
                    generation: Generation(40),
                    id: LineageId(40),
                },
                epoch: Epoch(1),
                ancestors: Vec::new(),
            }),
            empties: vec![uuid(lab, volume)],
            keeps: Default::default(),
            older: false,
        })
    };
    assert_eq!(
        lab.refuses(adopt(&lab, 2)),
        "invalid_argument",
        "it does not lie there"
    );
    lab.does(adopt(&lab, 0));
    let emptied = &lab.0.volumes[&name("v", 0)];
    assert_eq!(emptied.usable_sectors(), 0, "no guest sees anything of it");
    let clearing = emptied.clearing.unwrap();
    assert_eq!((clearing.cleared, clearing.since), (0, lab.0.generation));
    assert_eq!(
        lab.0.volumes[&name("v", 1)].usable_sectors(),
        UNIT,
        "the other is as it was"
    );
    // Nor does its operator see any of it, who may choose so where nobody else has been.
    let never = Command::ChangeVolume(ChangeVolume {
        name: name("v", 0),
        protected: None,
        clear: Some(Clear::Never),
        expected: None,
    });
    assert_eq!(lab.0.apply(&never).unwrap_err().field(), Some("clear"));
    assert_eq!(lab.0.volumes[&name("v", 0)].clearing, Some(clearing));
    lab.does(Command::RecordCleared(RecordCleared {
        name: name("v", 0),
        uuid: uuid(&lab, 0),
        sectors: UNIT,
        start: 0,
    }));
    assert_eq!(lab.0.volumes[&name("v", 0)].usable_sectors(), UNIT);
    lab.does(never);
}

#[test]
fn one_writer_or_many_readers() {
    let mut lab = Lab::new();
    lab.does(Command::CreateVolume(volume(0, Some(0), UNIT)));
    lab.does(Command::CreateAttachment(attachment(0, 0, false)));
    assert_eq!(
        lab.refuses(Command::CreateAttachment(attachment(1, 0, false))),
        "volume_has_writer"
    );
    assert_eq!(
        lab.refuses(Command::CreateAttachment(attachment(1, 0, true))),
        "volume_has_writer"
    );
    let read_only = |number, read_only| {
        let change = ChangeAttachment::of(name("a", number));
        Command::ChangeAttachment(ChangeAttachment {
            read_only: Some(read_only),
            ..change
        })
    };
    lab.does(read_only(0, true));
    lab.does(Command::CreateAttachment(attachment(1, 0, true)));
    assert_eq!(lab.refuses(read_only(0, false)), "volume_has_readers");
}

#[test]
fn arguments_keep_their_rules() {
    let mut lab = Lab::new();
    lab.does(Command::CreateVolume(volume(0, Some(0), UNIT)));
    let wrong = [
        CreateAttachment {
            queues: 0,
            ..attachment(0, 0, false)
        },
        CreateAttachment {
            queues: 65,
            ..attachment(0, 0, false)
        },
        CreateAttachment {
            queue_size: 100,
            ..attachment(0, 0, false)
        },
        CreateAttachment {
            queue_size: 40000,
            ..attachment(0, 0, false)
        },
        CreateAttachment {
            socket: "run/x".into(),
            ..attachment(0, 0, false)
        },
        CreateAttachment {
            mode: 0o1777,
            ..attachment(0, 0, false)
        },
        CreateAttachment {
            serial: Some("x".repeat(21)),
            ..attachment(0, 0, false)
        },
        CreateAttachment {
            owner: Some(Account::Id(u32::MAX)),
            ..attachment(0, 0, false)
        },
    ];
    for create in wrong {
        assert_eq!(lab.refuses(Command::CreateAttachment(create)), "invalid_argument");
    }
    let small = CreateVolume {
        block_bytes: Some(4096),
        sectors: Some(9),
        ..volume(1, Some(0), 0)
    };
    assert_eq!(lab.refuses(Command::CreateVolume(small)), "invalid_argument");
    let same_file = AddDisk {
        name: name("d", 7),
        uuid: Uuid(7),
        ..disk(0, 8, Usage::Pooled)
    };
    assert_eq!(lab.refuses(Command::AddDisk(same_file)), "medium_taken");
}

#[test]
fn a_disk_is_said_to_be_another_medium_or_found_elsewhere() {
    let mut lab = Lab::new();
    let add = AddDisk {
        medium: Medium::Block {
            path: "/dev/sda".into(),
            wwid: Some("eui.1".into()),
        },
        ..disk(3, 4, Usage::Whole)
    };
    lab.does(Command::AddDisk(add));
    let identify = |path: Option<&str>, wwid: Option<&str>| IdentifyDisk {
        name: name("d", 3),
        path: path.map(str::to_owned),
        wwid: wwid.map(str::to_owned),
        record: MediumRecord {
            serial: Some("S1".into()),
            ..MediumRecord::default()
        },
        confirmed: false,
        expected: None,
    };
    lab.does(Command::IdentifyDisk(identify(Some("/dev/sdb"), Some("eui.2"))));
    let found = &lab.0.disks[&name("d", 3)];
    assert_eq!(
        (found.medium.path(), found.medium.wwid()),
        (Some("/dev/sdb"), Some("eui.2"))
    );
    assert_eq!(found.record.serial.as_deref(), Some("S1"));
    assert!(found.revision == lab.0.generation && found.created < found.revision);
    let again = lab.does(Command::IdentifyDisk(identify(None, Some("eui.2"))));
    assert!(matches!(again, Outcome::Unchanged { .. }), "{again:?}");
    // Neither another disk's path nor its WWID, and nothing that is no path.
    for (path, wwid, code) in [
        (Some("/disks/0"), None, "medium_taken"),
        (Some("/dev/../x"), None, "invalid_argument"),
        (None, Some("a\nb"), "invalid_argument"),
    ] {
        assert_eq!(lab.refuses(Command::IdentifyDisk(identify(path, wwid))), code);
    }
    let stranger = IdentifyDisk {
        name: name("d", 9),
        ..identify(None, None)
    };
    assert_eq!(lab.refuses(Command::IdentifyDisk(stranger)), "disk_not_found");
    let stale = IdentifyDisk {
        expected: Some(Generation(1)),
        ..identify(None, None)
    };
    assert_eq!(lab.refuses(Command::IdentifyDisk(stale)), "revision_mismatch");
}

#[test]
fn disks_exchange_their_paths_in_one_step_or_not_at_all() {
    let mut lab = Lab::new();
    let to = |disk: u8, place: u8| Relocation {
        name: name("d", disk),
        uuid: Uuid(100 + u128::from(disk)),
        path: format!("/disks/{place}"),
        found: None,
        confirmed: false,
        expected: None,
    };
    let moves = |disks: &[Relocation]| {
        Command::RelocateDisks(RelocateDisks {
            disks: disks.to_vec(),
        })
    };
    let places = |lab: &Lab| -> Vec<String> {
        let disks = lab.0.disks.values();
        disks.map(|disk| disk.medium.path().unwrap().to_owned()).collect()
    };
    // Two, and then three in a ring.
    let before = lab.0.clone();
    lab.does(moves(&[to(0, 1), to(1, 0)]));
    assert_eq!(places(&lab), ["/disks/1", "/disks/0", "/disks/2"]);
    assert_eq!(lab.0.generation, before.generation.next());
    for disk in [0, 1] {
        let found = &lab.0.disks[&name("d", disk)];
        assert_eq!(
            found.revision, lab.0.generation,
            "its superblock has to tell of it"
        );
        assert_eq!(found.uuid, before.disks[&name("d", disk)].uuid);
    }
    assert_eq!(lab.0.disks[&name("d", 2)], before.disks[&name("d", 2)]);
    lab.does(moves(&[to(0, 2), to(1, 1), to(2, 0)]));
    assert_eq!(places(&lab), ["/disks/2", "/disks/1", "/disks/0"]);
    // The same again is nothing new.
    let again = lab.does(moves(&[to(0, 2), to(1, 1)]));
    let revision = lab.0.disks[&name("d", 0)].revision;
    assert_eq!(again, Outcome::Unchanged { revision });

    // One path for two disks, on the way or in the end; one disk twice; another disk of the name; no path; an old look.
    let stranger = Relocation {
        uuid: Uuid(9),
        ..to(0, 7)
    };
    let stale = Relocation {
        expected: Some(Generation(1)),
        ..to(0, 7)
    };
    let astray = Relocation {
        path: "disks/7".into(),
        ..to(0, 7)
    };
    for (disks, code) in [
        (vec![to(0, 0)], "medium_taken"),
        (vec![to(0, 7), to(1, 7)], "medium_taken"),
        (vec![to(0, 7), to(0, 8)], "invalid_argument"),
        (vec![stranger], "disk_not_found"),
        (vec![to(1, 7), stale], "revision_mismatch"),
        (vec![to(1, 7), astray], "invalid_argument"),
    ] {
        assert_eq!(lab.refuses(moves(&disks)), code, "{disks:?}");
    }
    assert_eq!(places(&lab), ["/disks/2", "/disks/1", "/disks/0"]);
    let memory = AddDisk {
        medium: Medium::Memory {
            bytes: 4 * UNIT * 512,
        },
        ..disk(3, 4, Usage::Whole)
    };
    lab.does(Command::AddDisk(memory));
    assert_eq!(lab.refuses(moves(&[to(3, 7)])), "invalid_argument");
}
