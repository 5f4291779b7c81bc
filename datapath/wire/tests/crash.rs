//! A power cut at any moment of a change leaves the old state or the new one, whole.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, Disk, extents, formatted, superblock};
use palisade_wire::{DecodeError, ExtentRecord, Lineage, Phase, Superblock, erase, format, update};
use palisade_words::{Generation, LineageId, Uuid};
use proptest::prelude::*;

/// Cuts the power in each phase: any subset of its writes has arrived, one of them torn.
fn each_cut(before: &Disk, phases: &[Phase], chance: &[u64], mut check: impl FnMut(&Disk)) {
    let mut stable = before.clone();
    let mut chance = chance.iter().copied().cycle();
    for phase in phases {
        for _ in 0..12 {
            let mut cut = stable.clone();
            let torn = chance.next().unwrap() as usize % phase.writes.len();
            let arrived = chance.next().unwrap();
            for (index, write) in phase.writes.iter().enumerate() {
                if index == torn {
                    cut.write_torn(write, (arrived >> 48) as usize % 9);
                } else if arrived >> (index % 48) & 1 == 1 {
                    cut.write(write);
                }
            }
            check(&cut);
        }
        phase.writes.iter().for_each(|write| stable.write(write));
    }
    check(&stable);
}

type State = (u64, Vec<ExtentRecord>);

fn state(disk: &Disk) -> State {
    let decoded = disk.decode().unwrap();
    (decoded.superblock.generation.0, decoded.extents)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_update_is_all_or_nothing_and_can_be_repeated(
        sizes in proptest::collection::vec(0u64..130, 2..5), chance in proptest::collection::vec(any::<u64>(), 7), grow in 0u64..60_000,
    ) {
        let sectors = 8192 * 140 + 4096;
        let (mut disk, formatted) = formatted(sectors, sizes[0]);
        let mut now = formatted.superblock;
        let mut old: State = state(&disk);
        for size in &sizes[1..] {
            disk.sectors += grow;
            let next = Superblock { generation: now.generation.next(), ..now.resized(disk.sectors).unwrap() };
            let change = update(&now, &next, &extents(*size)).unwrap();
            let new: State = (next.generation.0, extents(*size));
            each_cut(&disk, &change.phases, &chance, |cut| {
                let found = state(cut);
                assert!(found == old || found == new);
                // Whoever comes after the crash can go on from what is there.
                let mut healed = cut.clone();
                let there = cut.decode().unwrap().superblock;
                for _ in 0..2 {
                    let there = healed.decode().unwrap().superblock;
                    let again = Superblock { generation: there.generation, ..next.clone() };
                    healed.write_all(&update(&there, &again, &new.1).unwrap().phases);
                }
                let healed = healed.decode().unwrap();
                assert_eq!((healed.extents, healed.damage), (new.1.clone(), vec![]));
                assert_eq!(healed.superblock.sequence, there.sequence + 2);
            });
            disk.write_all(&change.phases);
            prop_assert_eq!(disk.decode().unwrap().damage, vec![]);
            (now, old) = (change.superblock, new);
        }
    }

    /// As when a disk is imported by a cluster of another id: not even for a moment does an older write speak for it.
    #[test]
    fn a_disk_that_gets_another_cluster_says_the_old_or_the_new(
        before in 1u64..5, chance in proptest::collection::vec(any::<u64>(), 7),
    ) {
        let mut disk = Disk::blank(DISK_SECTORS);
        let at = |generation: u64, earlier: &[&Superblock]| Superblock {
            generation: Generation(generation),
            lineage: Some(Lineage {
                id: LineageId(u128::from(generation)),
                ancestors: earlier.iter().rev().map(|earlier| earlier.point()).collect(),
            }),
            ..superblock(DISK_SECTORS)
        };
        let made = format(&at(1, &[]), &extents(1)).unwrap();
        disk.write_all(&made.phases);
        let mut written = vec![made.superblock];
        for generation in 2..=before {
            let known: Vec<&Superblock> = written.iter().collect();
            let change = update(&written[written.len() - 1], &at(generation, &known), &extents(generation)).unwrap();
            disk.write_all(&change.phases);
            written.push(change.superblock);
        }
        let known: Vec<&Superblock> = written.iter().collect();
        let after = Superblock { cluster: Uuid(77), ..at(before + 1, &known) };
        let change = update(&written[written.len() - 1], &after, &extents(before + 1)).unwrap();
        let (old, new): (State, State) = (state(&disk), (before + 1, extents(before + 1)));
        each_cut(&disk, &change.phases, &chance, |cut| {
            let found = state(cut);
            assert!(found == old || found == new, "generation {}", found.0);
        });
        disk.write_all(&change.phases);
        prop_assert_eq!(state(&disk), new);
    }

    #[test]
    fn a_format_leaves_the_old_owner_nothing_or_the_new_one(chance in proptest::collection::vec(any::<u64>(), 7)) {
        let (disk, _) = formatted(DISK_SECTORS, 20);
        let mine = Superblock { disk: Uuid(77), cluster: Uuid(78), ..superblock(DISK_SECTORS) };
        let change = format(&mine, &extents(3)).unwrap();
        each_cut(&disk, &change.phases, &chance, |cut| match cut.decode() {
            Ok(found) if found.superblock.cluster == Uuid(78) => assert_eq!(found.extents, extents(3)),
            Ok(found) => assert_eq!(found.extents, extents(20)),
            Err(DecodeError::NotOurs | DecodeError::Damaged { .. }) => {}
            Err(other) => panic!("{other}"),
        });
        let mut done = disk;
        done.write_all(&change.phases);
        let decoded = done.decode().unwrap();
        prop_assert_eq!((decoded.superblock, decoded.extents, decoded.damage), (change.superblock, extents(3), vec![]));
    }
}

/// A disk that was imported from another cluster carries the new one's id from one write on, whichever copy's turn it is.
#[test]
fn a_disk_changes_its_cluster_all_or_nothing() {
    for rounds in 0..2u64 {
        let (mut disk, made) = formatted(DISK_SECTORS, 5);
        let mut now = made.superblock;
        for round in 0..rounds {
            let next = Superblock {
                generation: now.generation.next(),
                ..now.clone()
            };
            let change = update(&now, &next, &extents(6 + round)).unwrap();
            disk.write_all(&change.phases);
            now = change.superblock;
        }
        let old: State = state(&disk);
        let lineage = Lineage {
            id: LineageId(99),
            ancestors: vec![now.point()],
        };
        let ours = Superblock {
            cluster: Uuid(1234),
            generation: Generation(now.generation.0 + 5),
            lineage: Some(lineage),
            ..now.clone()
        };
        let change = update(&now, &ours, &extents(9)).unwrap();
        let new: State = (ours.generation.0, extents(9));
        let chance = [
            7,
            0x5a5a_1234_9999_0f0f,
            3,
            u64::MAX,
            12,
            0x0123_4567_89ab_cdef,
            1,
        ];
        each_cut(&disk, &change.phases, &chance, |cut| {
            let found = state(cut);
            assert!(found == old || found == new);
        });
        disk.write_all(&change.phases);
        let found = disk.decode().unwrap();
        assert_eq!(
            (found.superblock.cluster, found.extents, found.damage),
            (Uuid(1234), extents(9), vec![])
        );
    }
}

#[test]
fn an_erased_disk_is_not_ours() {
    let (mut disk, _) = formatted(DISK_SECTORS, 3);
    disk.write_all(&erase(DISK_SECTORS).unwrap());
    assert_eq!(disk.decode(), Err(DecodeError::NotOurs));
    let left = disk
        .written
        .values()
        .filter(|sector| sector.iter().any(|byte| *byte != 0));
    assert_eq!(
        left.count(),
        0,
        "nothing of it is left to be taken for somebody's"
    );
}
