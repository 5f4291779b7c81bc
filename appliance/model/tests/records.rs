//! What a disk's superblock has to tell of, and when: each change of what lies on a disk is a change of its superblock's
//! generation, and each generation has an id that nothing else has.

#![cfg(test)]

mod lab;

use lab::{after, change_volume, cleared, create, delete, disk, grow, init, name, then};
use palisade_model::*;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS as UNIT, HISTORY_MAX};
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Uuid};

struct Lab(Cluster);

impl Lab {
    /// Two pooled disks of eight units each.
    fn new() -> Lab {
        let disks = [disk("d", 100), disk("e", 101)].map(Command::AddDisk);
        let begun = then(&Cluster::empty(), init(1, "n", 2));
        Lab(after(&begun, disks))
    }

    fn does(&mut self, command: Command) {
        self.0 = then(&self.0, command);
    }

    fn disk(&self, disk: &str) -> &Disk {
        &self.0.disks[&name(disk)]
    }

    /// The change is to be on the superblock of `d`, under the cluster's newest id, and not on that of `e`.
    fn changes_d_alone(&mut self, command: Command) {
        let before = self.disk("e").clone();
        self.does(command.clone());
        let disk = self.disk("d");
        assert_eq!(disk.superblock_generation(), self.0.generation, "{command:?}");
        let newest = Ancestor {
            generation: self.0.generation,
            id: self.0.lineage,
        };
        assert_eq!(disk.history.latest(), Some(&newest), "{command:?}");
        assert_eq!(*self.disk("e"), before, "{command:?}");
    }
}

fn volume(text: &str, clears: bool) -> Command {
    Command::CreateVolume(CreateVolume {
        clears,
        ..create(text)
    })
}

fn deleted(text: &str, clear: bool) -> Command {
    Command::DeleteVolume(delete(text, Some(clear)))
}

#[test]
fn what_changes_on_a_disk_changes_its_superblock() {
    let mut lab = Lab::new();
    lab.changes_d_alone(volume("a", false));
    lab.changes_d_alone(Command::GrowVolume(grow("a", 2 * UNIT)));
    lab.changes_d_alone(deleted("a", false));
    // What is to be cleared comes onto the record once it is clear, and leaves it as soon as it is to go.
    lab.does(volume("b", true));
    lab.changes_d_alone(cleared("b", UNIT));
    lab.changes_d_alone(deleted("b", true));
    // Without clearing it is there at once.
    lab.does(volume("c", true));
    lab.changes_d_alone(Command::ChangeVolume(ChangeVolume {
        clear: Some(Clear::Never),
        ..change_volume("c")
    }));
    assert_eq!(lab.0.volumes[&name("c")].usable_sectors(), UNIT);
}

#[test]
fn no_two_generations_have_one_id() {
    let base = Lab::new().0;
    let (left, right) = (then(&base, volume("l", false)), then(&base, volume("r", false)));
    assert_eq!(left.generation, right.generation);
    assert_ne!(left.lineage, right.lineage, "other commands");
    let (further, elsewhere) = (then(&left, volume("x", false)), then(&right, volume("x", false)));
    assert_ne!(further.lineage, elsewhere.lineage, "other parents");
    assert!(![left.lineage, LineageId::NIL].contains(&further.lineage));
    // The root of a database without lineages is known by what the database says, and is no generation's id.
    let [a, b] = [&left, &right].map(|cluster| cluster.clone().unrooted().rooted());
    assert_ne!(a.lineage, b.lineage);
    assert_ne!(a.lineage, left.lineage);
    assert_eq!(a, left.clone().unrooted().rooted());
}

#[test]
fn a_database_without_lineages_gets_one_root_for_all_its_disks() {
    let mut lab = Lab::new();
    lab.does(volume("a", false));
    let plain = lab.0.clone().unrooted();
    assert!(plain.lineage.is_nil());
    assert!(plain.disks.values().all(|disk| disk.history.is_empty()));
    let rooted = plain.clone().rooted();
    assert!(!rooted.lineage.is_nil());
    for disk in rooted.disks.values() {
        let root = Ancestor {
            generation: disk.superblock_generation(),
            id: rooted.lineage,
        };
        assert_eq!(disk.history.iter().collect::<Vec<_>>(), [&root]);
    }
    // What has a lineage keeps it, and what is no cluster yet gets none.
    assert_eq!(rooted.clone().rooted(), rooted);
    assert_eq!(lab.0.clone().rooted(), lab.0);
    assert_eq!(Cluster::empty().rooted(), Cluster::empty());
    assert_eq!(rooted.unrooted(), plain);
}

#[test]
fn an_id_that_was_given_is_the_one_that_disks_have() {
    let mut lab = Lab::new();
    lab.does(volume("a", false));
    let before = lab.0.clone();
    let known = lab.0.known_as(LineageId(77));
    assert_eq!(known.lineage, LineageId(77));
    let newest = known.disks[&name("d")].history.latest().unwrap();
    assert_eq!((newest.generation, newest.id), (before.generation, LineageId(77)));
    // Other generations and other disks keep theirs.
    let [d, e] = ["d", "e"].map(|disk| (&known.disks[&name(disk)], &before.disks[&name(disk)]));
    assert_eq!(e.0, e.1);
    let but_the_newest = |disk: &Disk| disk.history.iter().rev().skip(1).copied().collect::<Vec<_>>();
    assert_eq!(but_the_newest(d.0), but_the_newest(d.1));
    assert!(!but_the_newest(d.0).is_empty());
}

/// Disks carry ids, so what they are computed from does not change: SHA-256 over a word for what it is of, the id of the
/// generation before and the command as JSON, as any other program computes it.
#[test]
fn an_id_is_what_it_has_always_been() {
    let made = then(&Cluster::empty(), init(1, "n", 2));
    assert_eq!(made.lineage, LineageId(0x371a_e3c5_2a03_c97d_f7b5_6d6f_5b86_721a));
    let root = made.unrooted().rooted();
    assert_eq!(root.lineage, LineageId(0x8f75_a2f4_6498_25bc_70f6_393a_e307_ea5d));
}

/// Of two configurations with one number, only the one that is meant gets the other id.
#[test]
fn an_id_that_was_given_is_that_of_one_generation_alone() {
    let mut lab = Lab::new();
    lab.does(volume("a", false));
    let (generation, id) = (lab.0.generation, lab.0.lineage);
    let point = |generation, id| Ancestor { generation, id };
    let elsewhere = [point(generation, LineageId(5)), point(Generation(1), id)];
    let points = [elsewhere[0], elsewhere[1], point(generation, id)];
    let history = serde_json::from_str(&serde_json::to_string(&points).unwrap()).unwrap();
    lab.0.disks.get_mut(&name("d")).unwrap().history = history;
    let known = lab.0.known_as(LineageId(77));
    let found: Vec<Ancestor> = known.disks[&name("d")].history.iter().copied().collect();
    assert_eq!(
        found,
        [elsewhere[0], elsewhere[1], point(generation, LineageId(77))]
    );
}

#[test]
fn a_history_keeps_the_latest_and_no_more_than_it_may() {
    let mut lab = Lab::new();
    for _ in 0..HISTORY_MAX {
        lab.does(volume("a", false));
        lab.does(deleted("a", false));
    }
    let history = &lab.disk("d").history;
    assert_eq!(history.iter().len(), HISTORY_MAX);
    assert_eq!(history.latest().unwrap().generation, lab.0.generation);
    let numbers: Vec<u64> = history.iter().map(|point| point.generation.0).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn a_first_superblock_is_waited_for_and_told_of() {
    let mut lab = Lab::new();
    lab.does(Command::AddDisk(AddDisk {
        superblock_pending: true,
        ..disk("f", 102)
    }));
    assert!(!lab.disk("f").first_superblock.is_on_medium());
    let on_f = |command: Command| match command {
        Command::CreateVolume(create) => Command::CreateVolume(CreateVolume {
            disk: Some(name("f")),
            ..create
        }),
        other => other,
    };
    assert!(
        lab.0.apply(&on_f(volume("a", false))).is_err(),
        "no extent before that"
    );
    let confirm = |uuid| {
        Command::ConfirmSuperblock(ConfirmSuperblock {
            name: name("f"),
            uuid: Uuid(uuid),
        })
    };
    assert!(lab.0.apply(&confirm(100)).is_err(), "another disk's word");
    lab.does(confirm(102));
    assert!(lab.disk("f").first_superblock.is_on_medium());
    let before = lab.0.clone();
    lab.does(confirm(102));
    assert_eq!(lab.0, before, "told twice is told once");
    lab.does(on_f(volume("a", false)));
}

fn adopt(uuid: u128, seen: Option<OnMedium>) -> Command {
    Command::AdoptDisk(AdoptDisk {
        name: name("d"),
        uuid: Uuid(uuid),
        seen,
        empties: Default::default(),
        keeps: Default::default(),
        older: false,
    })
}

#[test]
fn adopting_goes_beyond_what_the_medium_carries() {
    let mut lab = Lab::new();
    let seen = OnMedium {
        point: Ancestor {
            generation: Generation(500),
            id: LineageId(5),
        },
        epoch: Epoch(9),
        ancestors: Vec::new(),
    };
    assert!(
        lab.0.apply(&adopt(101, Some(seen.clone()))).is_err(),
        "another disk"
    );
    lab.does(adopt(100, Some(seen.clone())));
    assert_eq!((lab.0.generation, lab.0.epoch), (Generation(501), Epoch(9)));
    let disk = lab.disk("d");
    assert_eq!(
        (disk.revision, disk.superblock_generation()),
        (Generation(501), Generation(501))
    );
    assert!(disk.history.iter().any(|point| *point == seen.point));
    let before = lab.0.clone();
    lab.does(adopt(100, Some(seen)));
    assert_eq!(lab.0, before, "asked twice is asked once");
    // Another configuration of the same number is another decision.
    let other = OnMedium {
        point: Ancestor {
            generation: Generation(500),
            id: LineageId(6),
        },
        epoch: Epoch(1),
        ancestors: Vec::new(),
    };
    lab.does(adopt(100, Some(other)));
    assert_ne!(lab.0, before);
}

#[test]
fn a_superblock_that_is_lost_is_waited_for_again() {
    let mut lab = Lab::new();
    lab.does(adopt(100, None));
    let lost = lab.disk("d");
    assert!(!lost.first_superblock.is_on_medium());
    assert_eq!(lost.revision, lab.0.generation);
    // A disk without a superblock has none to adopt.
    let memory = AddDisk {
        medium: Medium::Memory {
            bytes: 10 * UNIT * 512,
        },
        ..disk("m", 103)
    };
    lab.does(Command::AddDisk(memory));
    let of_memory = Command::AdoptDisk(AdoptDisk {
        name: name("m"),
        uuid: Uuid(103),
        seen: None,
        empties: Default::default(),
        keeps: Default::default(),
        older: false,
    });
    assert_eq!(lab.0.apply(&of_memory).unwrap_err().field(), Some("usage"));
}

#[test]
fn a_medium_tells_who_it_is_by_any_one_of_these() {
    let lab = Lab::new();
    let plain = Disk {
        usage: Usage::Whole,
        medium: Medium::Block {
            path: "/dev/sda".to_owned(),
            wwid: None,
        },
        ..lab.disk("d").clone()
    };
    assert!(!plain.has_identity());
    let with = |change: fn(&mut Disk)| {
        let mut disk = plain.clone();
        change(&mut disk);
        disk.has_identity()
    };
    assert!(with(|disk| disk.usage = Usage::Pooled), "our superblock");
    assert!(
        with(|disk| disk.record.serial = Some("S1".to_owned())),
        "a serial number"
    );
    assert!(
        with(|disk| {
            disk.medium = Medium::Block {
                path: "/dev/sda".to_owned(),
                wwid: Some("naa.5".to_owned()),
            }
        }),
        "a WWID"
    );
    assert!(
        with(|disk| disk.medium = Medium::Memory { bytes: 512 }),
        "nothing outlives the daemon"
    );
}
