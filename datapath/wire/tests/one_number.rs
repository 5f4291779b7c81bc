//! Copies that have the number of the write in force and say something else: somebody has copied sectors about, or a write
//! was lost. The number proves nothing then.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, Disk, extents, formatted, superblock};
use palisade_wire::{
    Claim, DecodeError, ExtentRecord, Lineage, Part, Proof, RecordPlace, Superblock, TableRef, Why, format,
    mend, update,
};
use palisade_words::{Ancestor, Epoch, Generation, Lba, LineageId, Uuid};

const TAIL: u64 = DISK_SECTORS / 8 * 8 - 4096;

/// A disk with room for more extents than one sector of the table holds.
const LARGE: u64 = 500_000;
const LARGE_TAIL: u64 = LARGE - 4096;

/// The places of a superblock, the head's first.
const PLACES: [(u64, RecordPlace); 4] = [
    (0, place(false, 0)),
    (128, place(false, 1)),
    (TAIL, place(true, 0)),
    (TAIL + 128, place(true, 1)),
];

const fn place(tail: bool, copy: usize) -> RecordPlace {
    RecordPlace {
        tail,
        part: Part::Superblock { copy },
    }
}

/// A superblock of a generation that has grown out of those before it, the latest first.
fn descended(id: u128, ancestors: &[u128]) -> Superblock {
    let ancestor = |id: &u128| Ancestor {
        generation: Generation(*id as u64),
        id: LineageId(*id),
    };
    Superblock {
        generation: Generation(id as u64),
        lineage: Some(Lineage {
            id: LineageId(id),
            ancestors: ancestors.iter().map(ancestor).collect(),
        }),
        ..superblock(DISK_SECTORS)
    }
}

/// A disk that says one thing, and what another says of the same number.
fn two(one: &Superblock, other: &Superblock) -> (Disk, Superblock, Superblock) {
    let mut disk = Disk::blank(DISK_SECTORS);
    let [one, other] = [one, other].map(|superblock| format(superblock, &[]).unwrap());
    disk.write_all(&one.phases);
    (disk, one.superblock, other.superblock)
}

fn copied_to(disk: &Disk, lbas: &[u64], other: &Superblock) -> Disk {
    let mut disk = disk.clone();
    for lba in lbas {
        disk.written.insert(*lba, other.to_sector(Lba(*lba)));
    }
    disk
}

/// What is told of a disk, by place.
fn told(disk: &Disk) -> Vec<(RecordPlace, Why)> {
    let damage = disk.decode().unwrap().damage;
    damage
        .into_iter()
        .map(|damage| (damage.place, damage.why))
        .collect()
}

#[test]
fn a_copy_whose_table_is_not_there_is_told_and_mended_wherever_it_lies() {
    let (disk, made) = formatted(DISK_SECTORS, 2);
    let table = made.superblock.table;
    let others = [
        Superblock {
            owner: Uuid(made.superblock.owner.0 + 1),
            table: TableRef {
                crc: table.crc ^ 1,
                ..table
            },
            ..made.superblock.clone()
        },
        // Longer: it asks for a sector of the table that was never written.
        Superblock {
            table: TableRef { count: 60, ..table },
            ..made.superblock.clone()
        },
    ];
    for other in others {
        for (lba, at) in PLACES {
            let mut copied = copied_to(&disk, &[lba], &other);
            let found = copied.decode().unwrap();
            assert_eq!(
                (&found.superblock, &found.extents),
                (&made.superblock, &extents(2))
            );
            let (sequence, proof) = (1, Proof::TableLost);
            assert_eq!(told(&copied), [(at, Why::OtherContent { sequence, proof })]);
            assert_eq!(
                found.damage[0].to_string().split_once(") ").unwrap().1,
                "has the number of the write in force, 1, and says something else; its extent table is not there"
            );
            copied.write_all(&mend(&found).unwrap());
            assert!(copied == disk, "{at}: bit for bit");
            // Beside a copy that is damaged by itself.
            let (beside, _) = PLACES[PLACES.iter().position(|(there, _)| *there == lba).unwrap() ^ 1];
            let mut both = copied_to(&disk, &[lba], &other);
            both.written.get_mut(&beside).unwrap()[2000] ^= 1;
            let found = both.decode().unwrap();
            assert_eq!(found.damage.len(), 2);
            both.write_all(&mend(&found).unwrap());
            assert!(both == disk, "{at}: bit for bit");
        }
    }
}

#[test]
fn of_two_complete_states_the_one_that_has_grown_out_of_the_other_is_in_force() {
    let (disk, earlier, later) = two(&descended(20, &[10]), &descended(30, &[20, 10]));
    for (lba, at) in PLACES {
        let copied = copied_to(&disk, &[lba], &later);
        assert_eq!(copied.decode().unwrap().superblock, later);
        let elsewhere = PLACES
            .iter()
            .map(|(_, place)| *place)
            .filter(|place| *place != at);
        let (sequence, proof) = (1, Proof::GrownOut);
        let expected: Vec<_> = elsewhere
            .map(|place| (place, Why::OtherContent { sequence, proof }))
            .collect();
        assert_eq!(told(&copied), expected);
        // And the other way round.
        let [(a, _), (b, _), (c, _)] = PLACES
            .into_iter()
            .filter(|(_, place)| *place != at)
            .collect::<Vec<_>>()[..]
        else {
            panic!()
        };
        let mut copied = copied_to(&disk, &[a, b, c], &later);
        assert_eq!(told(&copied), [(at, Why::OtherContent { sequence, proof })]);
        let found = copied.decode().unwrap();
        assert!(
            found.damage[0]
                .to_string()
                .ends_with("the one in force has grown out of it")
        );
        copied.write_all(&mend(&found).unwrap());
        assert!(copied == copied_to(&disk, &[0, 128, TAIL, TAIL + 128], &later));
    }
    assert_ne!(earlier, later);
}

/// Nobody can know which of the two is the disk's, and a later number of the configuration does not tell either.
#[test]
fn two_complete_states_that_grew_on_apart_contradict_each_other() {
    let plain = superblock(DISK_SECTORS);
    let owned = Superblock {
        owner: Uuid(plain.owner.0 + 1),
        ..plain.clone()
    };
    let relabelled = Superblock {
        epoch: Epoch(2),
        ..descended(20, &[10])
    };
    let unlike = [
        (plain, owned),
        (descended(20, &[10]), descended(30, &[10])),
        (descended(20, &[10]), descended(30, &[])),
        // The same generation, and something else.
        (descended(20, &[10]), relabelled),
        // Each says that it has grown out of the other.
        (descended(20, &[30]), descended(30, &[20])),
    ];
    for (one, other) in unlike {
        for (one, other) in [(&one, &other), (&other, &one)] {
            let (disk, one, other) = two(one, other);
            for (lba, at) in &PLACES[1..] {
                let copied = copied_to(&disk, &[*lba], &other);
                let claims = [(PLACES[0].1, &one), (*at, &other)].map(|(place, superblock)| Claim {
                    place,
                    superblock: superblock.clone(),
                    extents: Vec::new(),
                });
                let error = DecodeError::Contradiction(Box::new(claims));
                assert_eq!(copied.decode(), Err(error.clone()));
                assert_eq!(
                    error.to_string(),
                    format!(
                        "head superblock A (generation {}) and {at} (generation {}) are both of write 1, each with its table, \
                         and say different things: one of them was copied here from elsewhere, and nothing tells which",
                        one.generation, other.generation
                    )
                );
            }
        }
    }
}

#[test]
fn of_three_states_those_two_are_named_that_stand_against_each_other() {
    let (disk, first, second) = two(&descended(20, &[10]), &descended(30, &[20, 10]));
    let third = Superblock {
        sequence: 1,
        table: second.table,
        ..descended(40, &[10])
    };
    let copied = copied_to(&copied_to(&disk, &[128], &second), &[TAIL], &third);
    let Err(DecodeError::Contradiction(claims)) = copied.decode() else {
        panic!()
    };
    assert_eq!([claims[0].place, claims[1].place], [PLACES[0].1, PLACES[2].1]);
    assert_eq!((&claims[0].superblock, &claims[1].superblock), (&first, &third));
    // One that has grown out of both is in force.
    let both = Superblock {
        sequence: 1,
        table: second.table,
        ..descended(50, &[40, 30, 20, 10])
    };
    let copied = copied_to(&copied, &[TAIL + 128], &both);
    assert!(
        matches!(copied.decode(), Err(DecodeError::Contradiction(_))),
        "the two are still apart"
    );
    let copied = copied_to(&copied, &[TAIL], &both);
    assert_eq!(
        (copied.decode().unwrap().superblock, told(&copied).len()),
        (both, 2)
    );
    // Each out of the next, in a circle.
    let [a, b, c] = [(20, 30), (30, 40), (40, 20)].map(|(id, ancestor)| Superblock {
        sequence: 1,
        table: second.table,
        ..descended(id, &[ancestor])
    });
    let circle = copied_to(
        &copied_to(&copied_to(&disk, &[0, 128], &a), &[TAIL], &b),
        &[TAIL + 128],
        &c,
    );
    assert!(matches!(circle.decode(), Err(DecodeError::Damaged { .. })));
}

/// What the number before says is older than both, so it is not taken instead.
#[test]
fn an_older_state_does_not_come_in_place_of_two_that_contradict_each_other() {
    let (mut disk, first) = formatted(DISK_SECTORS, 2);
    let next = update(&first.superblock, &first.superblock, &extents(3)).unwrap();
    disk.write_all(&next.phases);
    let other = Superblock {
        generation: next.superblock.generation.next(),
        ..next.superblock.clone()
    };
    let copied = copied_to(&disk, &[TAIL], &other);
    let Err(DecodeError::Contradiction(claims)) = copied.decode() else {
        panic!()
    };
    assert_eq!(claims.map(|claim| claim.extents), [extents(3), extents(3)]);
    // Of the older one nobody speaks as long as it is not in force.
    let older = Superblock {
        generation: first.superblock.generation.next(),
        ..first.superblock.clone()
    };
    let copied = copied_to(&disk, &[128], &older);
    assert_eq!(
        (copied.decode().unwrap().superblock, told(&copied)),
        (next.superblock, vec![])
    );
}

/// A sector of the table with the number in force and other extents: the checksum in the superblock tells which is which.
#[test]
fn of_two_sound_sectors_of_a_table_the_superblocks_own_counts() {
    let (disk, made) = formatted(LARGE, 40);
    let (unlike, _) = formatted(LARGE, 41);
    let start = 1792;
    assert_eq!(made.superblock.table.slot, 1);
    let other: Vec<ExtentRecord> = extents(40)
        .into_iter()
        .map(|one| ExtentRecord {
            sectors: one.sectors - 8,
            ..one
        })
        .collect();
    let other = format(&superblock(LARGE), &other).unwrap();
    let mut moved = Disk::blank(LARGE);
    moved.write_all(&other.phases);
    for tail in [false, true] {
        let area = if tail { LARGE_TAIL } else { 0 };
        for indices in [&[0][..], &[1], &[0, 1]] {
            let mut copied = disk.clone();
            for index in indices {
                let lba = area + start + 8 * index;
                copied.written.insert(lba, moved.read(Lba(lba)));
            }
            let found = copied.decode().unwrap();
            assert_eq!(
                (found.superblock.clone(), found.extents.clone()),
                (made.superblock.clone(), extents(40))
            );
            let expected: Vec<_> = indices
                .iter()
                .map(|index| {
                    let part = Part::Table {
                        slot: 1,
                        index: *index as u32,
                    };
                    let (sequence, proof) = (1, Proof::Checksum);
                    (RecordPlace { tail, part }, Why::OtherContent { sequence, proof })
                })
                .collect();
            assert_eq!(told(&copied), expected);
            assert!(
                found.damage[0]
                    .to_string()
                    .ends_with("its checksum is not that of the table in force")
            );
            copied.write_all(&mend(&found).unwrap());
            assert!(copied == disk, "bit for bit");
        }
    }
    // In both areas: the table of the superblock is not there any more.
    let mut copied = disk;
    for area in [0, LARGE_TAIL] {
        copied
            .written
            .insert(area + start, unlike.read(Lba(area + start)));
        copied
            .written
            .insert(area + start + 8, moved.read(Lba(area + start + 8)));
    }
    assert!(matches!(copied.decode(), Err(DecodeError::Damaged { .. })));
}
