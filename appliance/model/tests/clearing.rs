//! What a guest has not written reads as zeros, and what it has written stays: a pool with content, guests that write,
//! a node that clears and records, crashes between the two, and careless operators.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Name, Uuid};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The grain at which content is kept, in sectors: all sizes here are whole grains.
const GRAIN: u64 = UNIT / 4;
const DISK_UNITS: u64 = 12;

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

/// A pool of two disks, what is on them, and what is agreed on.
struct Pool {
    cluster: Cluster,
    /// Who wrote a grain last; absent: it reads as zeros.
    content: BTreeMap<(Name, u64), Uuid>,
    /// Volumes whose operator has chosen to see what was there.
    careless: BTreeSet<Uuid>,
    uuids: u128,
}

#[derive(Clone, Debug)]
enum Act {
    Create(u8, u8, u64, Option<Clear>),
    Grow(u8, u64),
    Delete(u8, Option<bool>),
    Choose(u8, Clear),
    Write(u8, u64),
    /// Some grains are cleared, and that is recorded, unless the node ends before.
    Clear(u8, u64, bool),
    /// The disk of a number is removed, and added again.
    Swap(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let clear = || prop_oneof![3 => Just(Clear::Now), 3 => Just(Clear::OnDelete), 1 => Just(Clear::Never)];
    let force = prop_oneof![4 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))];
    prop_oneof![
        4 => (0u8..4, 0u8..2, 1u64..20, proptest::option::of(clear())).prop_map(|(v, d, n, c)| Act::Create(v, d, n, c)),
        3 => (0u8..4, 1u64..30).prop_map(|(v, n)| Act::Grow(v, n)),
        3 => (0u8..4, force).prop_map(|(v, clear)| Act::Delete(v, clear)),
        1 => (0u8..4, clear()).prop_map(|(v, clear)| Act::Choose(v, clear)),
        6 => (0u8..4, any::<u64>()).prop_map(|(v, at)| Act::Write(v, at)),
        6 => (0u8..4, 1u64..30, any::<bool>()).prop_map(|(v, n, recorded)| Act::Clear(v, n, recorded)),
        1 => (0u8..2).prop_map(Act::Swap),
    ]
}

fn disk(number: u8, uuid: u128) -> Command {
    let sectors = (DISK_UNITS + 2) * UNIT;
    Command::AddDisk(AddDisk {
        name: name("d", number),
        uuid: Uuid(uuid),
        node: name("n", 0),
        medium: Medium::Block {
            path: format!("/dev/{number}"),
            wwid: None,
        },
        usage: Usage::Pooled,
        block_bytes: 512,
        sectors,
        data_start: UNIT,
        data_end: sectors - UNIT,
        superblock_pending: false,
        record: MediumRecord::default(),
    })
}

impl Pool {
    /// Both disks are full of somebody else's data.
    fn new() -> Pool {
        let mut pool = Pool {
            cluster: Cluster::empty().apply(&init()).unwrap().0,
            content: BTreeMap::new(),
            careless: BTreeSet::new(),
            uuids: 100,
        };
        for number in 0..2 {
            pool.propose(disk(number, 10 + u128::from(number))).unwrap();
            for grain in 0..(DISK_UNITS + 2) * UNIT / GRAIN {
                pool.content.insert((name("d", number), grain), Uuid(1));
            }
        }
        pool
    }

    fn propose(&mut self, command: Command) -> Result<Outcome, Refusal> {
        let (next, outcome) = self.cluster.apply(&command)?;
        check(&next).unwrap();
        self.cluster = next;
        Ok(outcome)
    }

    fn grains(extents: &[Extent]) -> impl Iterator<Item = (Name, u64)> + '_ {
        extents.iter().flat_map(|extent| {
            let first = extent.disk_lba / GRAIN;
            (first..first + extent.sectors / GRAIN).map(|grain| (extent.disk.clone(), grain))
        })
    }

    fn does(&mut self, act: &Act) {
        let expected = None;
        match act {
            Act::Create(volume, disk, grains, clear) => {
                self.uuids += 1;
                let uuid = Uuid(self.uuids);
                let created = self.propose(Command::CreateVolume(CreateVolume {
                    name: name("v", *volume),
                    uuid,
                    node: name("n", 0),
                    disk: Some(name("d", *disk)),
                    sectors: Some(grains * GRAIN),
                    block_bytes: None,
                    clear: *clear,
                    clears: true,
                    clears_reused: true,
                    clears_unknown_past: true,
                }));
                if *clear == Some(Clear::Never) && matches!(created, Ok(Outcome::Created { .. })) {
                    self.careless.insert(uuid);
                }
            }
            Act::Grow(volume, grains) => {
                let _ = self.propose(Command::GrowVolume(GrowVolume {
                    name: name("v", *volume),
                    sectors: grains * GRAIN,
                    disk: None,
                    expected,
                    clears: true,
                }));
            }
            Act::Delete(volume, clear) => {
                let _ = self.propose(Command::DeleteVolume(DeleteVolume {
                    name: name("v", *volume),
                    expected,
                    clear: *clear,
                    detaches: false,
                }));
            }
            Act::Choose(volume, clear) => {
                let name = name("v", *volume);
                let uuid = self.cluster.volumes.get(&name).map(|volume| volume.uuid);
                let chosen = self.propose(Command::ChangeVolume(ChangeVolume {
                    name,
                    protected: None,
                    clear: Some(*clear),
                    expected,
                }));
                if *clear == Clear::Never && chosen.is_ok() {
                    self.careless.extend(uuid);
                }
            }
            Act::Write(volume, at) => {
                let Some(volume) = self.cluster.volumes.get(&name("v", *volume)) else {
                    return;
                };
                let usable: Vec<_> = Pool::grains(&volume.usable_extents()).collect();
                if let Some(grain) = usable.get(*at as usize % usable.len().max(1)) {
                    self.content.insert(grain.clone(), volume.uuid);
                }
            }
            Act::Clear(volume, grains, recorded) => self.clear(*volume, *grains, *recorded),
            Act::Swap(number) => {
                let removed = self.propose(Command::RemoveDisk(RemoveDisk {
                    name: name("d", *number),
                    expected,
                    releases: false,
                }));
                self.uuids += 1;
                if removed.is_ok() {
                    self.propose(disk(*number, self.uuids)).unwrap();
                }
            }
        }
    }

    fn clear(&mut self, volume: u8, grains: u64, recorded: bool) {
        let name = name("v", volume);
        let Some(volume) = self.cluster.volumes.get(&name).cloned() else {
            return;
        };
        let Some(clearing) = volume.clearing else { return };
        let end = (clearing.cleared + grains * GRAIN).min(volume.sectors);
        for grain in Pool::grains(&volume.extents_between(clearing.cleared, end)) {
            self.content.remove(&grain);
        }
        if recorded {
            self.propose(Command::RecordCleared(RecordCleared {
                name,
                uuid: volume.uuid,
                sectors: end,
                start: 0,
            }))
            .unwrap();
        }
    }

    /// What every guest reads: zeros, or what it has written itself.
    fn no_guest_reads_what_is_not_its_own(&self) {
        for (name, volume) in &self.cluster.volumes {
            for grain in Pool::grains(&volume.usable_extents()) {
                let foreign = self.content.get(&grain).filter(|writer| **writer != volume.uuid);
                let foreign = foreign.filter(|_| !self.careless.contains(&volume.uuid));
                assert_eq!(foreign, None, "{name} reads {grain:?}");
            }
        }
    }

    /// All that the guests of volumes which stay have written is where it was.
    fn nothing_written_is_lost(&self, before: &BTreeMap<(Name, u64), Uuid>) {
        for volume in self.cluster.volumes.values().filter(|volume| !volume.deleting) {
            for grain in Pool::grains(volume.all_extents()) {
                if before.get(&grain) == Some(&volume.uuid) {
                    assert_eq!(self.content.get(&grain), Some(&volume.uuid), "{grain:?}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_guest_reads_zeros_or_what_it_wrote(acts in proptest::collection::vec(act(), 1..80)) {
        let mut pool = Pool::new();
        for act in &acts {
            let before = pool.content.clone();
            pool.does(act);
            pool.no_guest_reads_what_is_not_its_own();
            pool.nothing_written_is_lost(&before);
        }
    }

    /// Deleted with its space cleared, a volume leaves nothing of itself.
    #[test]
    fn what_is_cleared_on_deletion_is_gone(acts in proptest::collection::vec(act(), 1..60)) {
        let mut pool = Pool::new();
        for act in &acts {
            let going: Vec<Uuid> =
                pool.cluster.volumes.values().filter(|volume| volume.deleting).map(|volume| volume.uuid).collect();
            pool.does(act);
            let ended_early = matches!(act, Act::Delete(_, Some(false)));
            for uuid in going.into_iter().filter(|_| !ended_early) {
                let there = pool.cluster.volumes.values().any(|volume| volume.uuid == uuid);
                prop_assert!(there || !pool.content.values().any(|writer| *writer == uuid));
            }
        }
    }
}

fn pool_with(clear: Option<Clear>) -> Pool {
    let mut pool = Pool::new();
    pool.does(&Act::Create(0, 0, 8, clear));
    pool
}

fn volume(pool: &Pool) -> &Volume {
    &pool.cluster.volumes[&name("v", 0)]
}

#[test]
fn a_new_volume_is_usable_once_it_is_clear() {
    let mut pool = pool_with(None);
    assert_eq!(volume(&pool).usable_sectors(), 0);
    pool.does(&Act::Clear(0, 3, true));
    let clearing = volume(&pool).clearing.unwrap();
    assert_eq!((clearing.from, clearing.cleared), (0, 3 * GRAIN));
    assert_eq!(volume(&pool).uncleared_extents()[0].sectors, 5 * GRAIN);
    pool.does(&Act::Clear(0, 5, true));
    assert_eq!(volume(&pool).clearing, None);
    assert_eq!(volume(&pool).usable_sectors(), 8 * GRAIN);
    assert_eq!(volume(&pool).route_generation(), pool.cluster.generation);
    assert_eq!(
        pool.cluster.disks[&name("d", 0)].superblock_generation(),
        pool.cluster.generation
    );
}

#[test]
fn a_grown_volume_keeps_its_size_for_guests_until_the_new_part_is_clear() {
    let mut pool = pool_with(None);
    pool.does(&Act::Clear(0, 8, true));
    let before = volume(&pool).route_generation();
    pool.does(&Act::Grow(0, 20));
    assert_eq!(
        (volume(&pool).sectors, volume(&pool).usable_sectors()),
        (20 * GRAIN, 8 * GRAIN)
    );
    assert_eq!(volume(&pool).route_generation(), before);
    // Growing further meanwhile only makes more to clear.
    pool.does(&Act::Clear(0, 2, true));
    pool.does(&Act::Grow(0, 24));
    let clearing = volume(&pool).clearing.unwrap();
    assert_eq!((clearing.from, clearing.cleared), (8 * GRAIN, 10 * GRAIN));
    pool.does(&Act::Clear(0, 14, true));
    assert_eq!(volume(&pool).usable_sectors(), 24 * GRAIN);
}

#[test]
fn what_an_earlier_version_agreed_on_stays_as_it_was() {
    // A command and a volume in the words of a version that did not clear.
    let text = r#"{"create_volume":{"name":"v0","uuid":"00000000-0000-0000-0000-0000000000c8","node":"n0","disk":"d0",
                   "sectors":8192,"block_bytes":null}}"#;
    let command: Command = serde_json::from_str(text).unwrap();
    let mut pool = Pool::new();
    pool.propose(command).unwrap();
    let text = serde_json::to_string(volume(&pool)).unwrap();
    for word in ["clear", "clearing", "deleting", "protected", "layout_revision"] {
        assert!(!text.contains(word), "{text}");
    }
    assert_eq!(volume(&pool).usable_sectors(), 8192);
    // Whatever a node believes to have cleared, there is nothing of it that may be.
    let record = RecordCleared {
        name: name("v", 0),
        uuid: volume(&pool).uuid,
        sectors: 8192,
        start: 0,
    };
    assert!(matches!(
        pool.propose(Command::RecordCleared(record)),
        Ok(Outcome::Unchanged { .. })
    ));
    assert_eq!(volume(&pool).uncleared_extents(), []);
    // Growing it now clears what comes, and nothing else.
    pool.does(&Act::Grow(0, 16));
    assert_eq!(volume(&pool).uncleared_extents()[0].disk_lba, UNIT + 8192);
}

#[test]
fn the_first_volume_on_a_whole_disk_gets_it_untouched_unless_asked_for() {
    let (mut pool, mut asked) = (with_whole_disk(), with_whole_disk());
    pool.does(&Act::Create(0, 9, 2, None));
    assert_eq!(
        (volume(&pool).clearing, pool.cluster.clear_of(&name("v", 0))),
        (None, Some(Clear::Never))
    );
    // What it grows by was on the disk when that was added, too.
    pool.does(&Act::Grow(0, 4));
    assert_eq!(volume(&pool).usable_sectors(), 4 * GRAIN);
    asked.does(&Act::Create(0, 9, 4, Some(Clear::Now)));
    assert!(volume(&asked).clearing.is_some());
}

#[test]
fn the_next_volume_on_a_whole_disk_is_cleared_first_and_so_is_what_it_grows_by() {
    for first in [None, Some(Clear::Never), Some(Clear::Now)] {
        let mut pool = with_whole_disk();
        pool.does(&Act::Create(0, 9, 4, first));
        pool.does(&Act::Clear(0, 4, true));
        pool.does(&Act::Delete(0, None));
        // The daemon ends, and reads what it had agreed on.
        let text = serde_json::to_string(&pool.cluster).unwrap();
        pool.cluster = serde_json::from_str(&text).unwrap();
        pool.does(&Act::Create(0, 9, 2, None));
        assert_eq!(volume(&pool).usable_sectors(), 0, "{first:?}");
        assert_eq!(pool.cluster.clear_of(&name("v", 0)), Some(Clear::Now));
        pool.does(&Act::Clear(0, 2, true));
        pool.does(&Act::Grow(0, 4));
        assert_eq!(volume(&pool).usable_sectors(), 2 * GRAIN);
        pool.does(&Act::Clear(0, 2, true));
        assert_eq!(volume(&pool).usable_sectors(), 4 * GRAIN);
        // Whoever wants what is there can have it.
        pool.does(&Act::Delete(0, None));
        pool.does(&Act::Create(0, 9, 4, Some(Clear::Never)));
        assert_eq!(volume(&pool).usable_sectors(), 4 * GRAIN);
    }
}

#[test]
fn a_log_of_before_gives_the_next_volume_what_it_gave_it() {
    // Its volume is in use: clearing it now would lose what its guest has written.
    let text = r#"{"create_volume":{"name":"v0","uuid":"00000000-0000-0000-0000-0000000000c8","node":"n0","disk":"d9",
                   "sectors":8192,"block_bytes":null,"clears":true}}"#;
    let mut pool = with_whole_disk();
    pool.does(&Act::Create(0, 9, 4, None));
    pool.does(&Act::Delete(0, None));
    pool.propose(serde_json::from_str(text).unwrap()).unwrap();
    assert_eq!(volume(&pool).usable_sectors(), 8192);
    assert_eq!(pool.cluster.clear_of(&name("v", 0)), Some(Clear::Never));
}

fn with_whole_disk() -> Pool {
    let mut pool = Pool::new();
    let whole = AddDisk {
        name: name("d", 9),
        uuid: Uuid(99),
        node: name("n", 0),
        medium: Medium::File {
            path: "/image".into(),
            bytes: UNIT * 512,
            created: false,
        },
        usage: Usage::Whole,
        block_bytes: 512,
        sectors: UNIT,
        data_start: 0,
        data_end: UNIT,
        superblock_pending: false,
        record: MediumRecord::default(),
    };
    pool.propose(Command::AddDisk(whole)).unwrap();
    pool
}

#[test]
fn a_volume_cleared_on_deletion_keeps_its_name_and_space_meanwhile() {
    let mut pool = pool_with(Some(Clear::OnDelete));
    pool.does(&Act::Clear(0, 8, true));
    pool.does(&Act::Write(0, 0));
    let free = allocation::free_sectors(&pool.cluster, &name("d", 0));
    pool.does(&Act::Delete(0, None));
    assert!(volume(&pool).deleting && volume(&pool).usable_extents().is_empty());
    assert_eq!(
        volume(&pool).route_generation(),
        pool.cluster.generation,
        "the route that was in force leads to what nobody may use any more"
    );
    assert_eq!(allocation::free_sectors(&pool.cluster, &name("d", 0)), free);
    let code = |refused: Result<Outcome, Refusal>| refused.unwrap_err().code();
    let again = CreateVolume {
        name: name("v", 0),
        uuid: Uuid(7),
        node: name("n", 0),
        disk: None,
        sectors: Some(UNIT),
        block_bytes: None,
        clear: None,
        clears: true,
        clears_reused: true,
        clears_unknown_past: true,
    };
    assert_eq!(code(pool.propose(Command::CreateVolume(again))), "volume_going");
    let remove = RemoveDisk {
        name: name("d", 0),
        expected: None,
        releases: false,
    };
    assert_eq!(code(pool.propose(Command::RemoveDisk(remove))), "volume_going");
    pool.does(&Act::Clear(0, 8, true));
    assert!(!pool.cluster.volumes.contains_key(&name("v", 0)));
}

#[test]
fn what_is_protected_is_not_taken_away() {
    let mut pool = pool_with(None);
    let protect = |protected| {
        Command::ChangeVolume(ChangeVolume {
            name: name("v", 0),
            protected: Some(protected),
            clear: None,
            expected: None,
        })
    };
    let delete = DeleteVolume {
        name: name("v", 0),
        expected: None,
        clear: None,
        detaches: false,
    };
    let before = volume(&pool).route_generation();
    pool.propose(protect(true)).unwrap();
    assert_eq!(
        volume(&pool).route_generation(),
        before,
        "nothing changes for a guest"
    );
    let refused = pool.propose(Command::DeleteVolume(delete.clone())).unwrap_err();
    assert_eq!(refused.code(), "protected");
    pool.propose(protect(false)).unwrap();
    pool.propose(Command::DeleteVolume(delete)).unwrap();
    let disk = |protected| {
        Command::ChangeDisk(ChangeDisk {
            name: name("d", 0),
            protected: Some(protected),
            expected: None,
        })
    };
    let remove = RemoveDisk {
        name: name("d", 0),
        expected: None,
        releases: false,
    };
    pool.propose(disk(true)).unwrap();
    let refused = pool.propose(Command::RemoveDisk(remove.clone())).unwrap_err();
    assert_eq!(refused.code(), "protected");
    pool.propose(disk(false)).unwrap();
    pool.propose(Command::RemoveDisk(remove)).unwrap();
}

#[test]
fn a_record_for_another_volume_of_the_name_changes_nothing() {
    let mut pool = pool_with(None);
    let before = volume(&pool).uuid;
    pool.does(&Act::Delete(0, None));
    pool.does(&Act::Create(0, 0, 8, None));
    let late = RecordCleared {
        name: name("v", 0),
        uuid: before,
        sectors: 8 * GRAIN,
        start: 0,
    };
    let refused = pool.propose(Command::RecordCleared(late)).unwrap_err();
    assert_eq!(refused.code(), "volume_not_found");
    assert_eq!(volume(&pool).usable_sectors(), 0);
}
