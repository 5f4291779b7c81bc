//! A copy of the superblock that is of the number in force, or of a later one whose table is lost, and says something else:
//! it is written over only where we have grown out of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends by panicking"
)]

mod stand;

use palisade_model::{AdoptDisk, Cluster, Command, FirstSuperblock, OnMedium, SuperblockState};
use palisade_volume::{
    Bare, Forbidden, Known, Leaving, Standing, is_to_be_erased, judged, renewal, standing,
};
use palisade_wire::{DecodeError, TableRef};
use palisade_words::{Epoch, Generation, Lba, LineageId, Uuid};
use stand::{Medium4k, SECTORS, at, begun, image_of, name, read, then, told, volume, written};
use std::convert::Infallible;

const BARE: Bare = Bare {
    pending: false,
    examined: false,
    blank: false,
    cut_off: false,
};

/// What a cluster has on the disk, with one copy of what another has there: of the number in force, or `later`, and with its
/// table, or without.
fn with_a_copy(cluster: &Cluster, other: &Cluster, later: bool, whole: bool) -> Medium4k {
    let mut medium = written(cluster);
    let mut superblock = read(&written(other)).unwrap().superblock;
    superblock.sequence += u64::from(later);
    superblock.table.slot = (superblock.sequence % 2) as u32;
    superblock.table = match whole {
        true => TableRef {
            count: 0,
            crc: 0,
            ..superblock.table
        },
        false => TableRef {
            crc: superblock.table.crc ^ 1,
            ..superblock.table
        },
    };
    let lba = 128 * u64::from(superblock.table.slot);
    medium.insert(lba, superblock.to_sector(Lba(lba)));
    medium
}

struct Family {
    earlier: Cluster,
    ours: Cluster,
    newer: Cluster,
    apart: Cluster,
    strange: Cluster,
}

fn family() -> Family {
    let earlier = then(&begun(3), volume("a"));
    let ours = then(&earlier, volume("bb"));
    Family {
        newer: then(&ours, volume("cccc")),
        apart: then(&earlier, volume("ddddd")),
        // Another beginning: the same ids, and nothing in common.
        strange: begun(3).known_as(LineageId(4711)),
        earlier,
        ours,
    }
}

#[test]
fn a_lost_state_of_a_number_in_force_or_later_is_written_over_only_where_we_have_grown_out_of_it() {
    let Family {
        earlier,
        ours,
        newer,
        apart,
        strange,
    } = family();
    let wanted = image_of(&ours);
    let generation = |cluster: &Cluster| image_of(cluster).superblock.generation;
    let in_force = Ok(SuperblockState::Ours {
        generation: generation(&ours),
        flawed: true,
    });
    for later in [false, true] {
        let of = |other: &Cluster| with_a_copy(&ours, other, later, false);
        assert_eq!(told(&of(&earlier), &ours), in_force, "{later}");
        let (ahead, aside) = (generation(&newer), generation(&apart));
        assert_eq!(
            told(&of(&newer), &ours),
            Ok(SuperblockState::Newer { generation: ahead })
        );
        assert_eq!(
            told(&of(&apart), &ours),
            Ok(SuperblockState::Diverged { generation: aside })
        );
        let generation = generation(&strange);
        assert_eq!(
            told(&of(&strange), &ours),
            Ok(SuperblockState::Diverged { generation })
        );
        for (other, expected) in [
            (&newer, Standing::Ahead),
            (
                &apart,
                Standing::Diverged {
                    since: Some(Generation(generation_of(&earlier))),
                },
            ),
            (&strange, Standing::Diverged { since: None }),
        ] {
            let found = read(&of(other)).unwrap();
            assert_eq!((standing(&found, &wanted), found.extents.len()), (expected, 2));
            assert_eq!(
                judged(&found, &wanted).0.point(),
                image_of(other).superblock.point()
            );
            assert_eq!(
                renewal(&Ok(found), &wanted, Known::NOTHING, || BARE),
                Err(Forbidden::Standing(expected)),
                "nothing is written"
            );
        }
        // What is in force decides first: it is not to be written over either.
        let found = read(&with_a_copy(&newer, &earlier, later, false)).unwrap();
        assert_eq!(judged(&found, &wanted).1, Standing::Ahead);
        assert_eq!(judged(&found, &wanted).0, &found.superblock);
        let found = read(&with_a_copy(&newer, &apart, later, false)).unwrap();
        assert_eq!(judged(&found, &wanted).0, &found.superblock);
    }
}

fn generation_of(cluster: &Cluster) -> u64 {
    image_of(cluster).superblock.generation.0
}

#[test]
fn an_operator_who_has_seen_the_lost_state_may_let_it_be_written_over() {
    let Family { ours, apart, .. } = family();
    let medium = with_a_copy(&ours, &apart, true, false);
    let found = read(&medium).unwrap();
    let point = judged(&found, &image_of(&ours)).0.point();
    let adopted = then(
        &ours,
        Command::AdoptDisk(AdoptDisk {
            name: name("d"),
            uuid: Uuid(3),
            seen: Some(OnMedium {
                point,
                epoch: Epoch(1),
                ancestors: Vec::new(),
            }),
            empties: Vec::new(),
            keeps: Default::default(),
            older: false,
        }),
    );
    let wanted = image_of(&adopted);
    assert_eq!(standing(&found, &wanted), Standing::Behind);
    let mut medium = medium;
    for _ in 0..2 {
        let phases = renewal(&read(&medium), &wanted, Known::NOTHING, || BARE).unwrap();
        let writes = phases.iter().flat_map(|phase| &phase.writes);
        medium.extend(writes.map(|write| (write.lba.0, write.bytes)));
    }
    let found = read(&medium).unwrap();
    assert_eq!(
        (standing(&found, &wanted), found.damage),
        (Standing::InForce, vec![])
    );
}

/// Two complete states of one number: nothing is written until an operator has said so to the daemon that runs.
#[test]
fn two_that_contradict_each_other_are_replaced_when_an_operator_has_decided() {
    let Family { ours, apart, .. } = family();
    let medium = with_a_copy(&ours, &apart, false, true);
    let found = read(&medium);
    let Err(error @ DecodeError::Contradiction(_)) = &found else {
        panic!("{found:?}")
    };
    assert_eq!(told(&medium, &ours), Ok(SuperblockState::Damaged));
    let mut decided = ours;
    decided.disks.get_mut(&name("d")).unwrap().first_superblock = FirstSuperblock::Pending;
    assert_eq!(told(&medium, &decided), Ok(SuperblockState::Missing));
    let wanted = image_of(&decided);
    let may = |bare: Bare| renewal(&found, &wanted, Known::NOTHING, || bare).map(drop);
    let all = Bare {
        pending: true,
        examined: true,
        cut_off: true,
        blank: false,
    };
    assert_eq!(may(all), Ok(()));
    for without in [
        Bare {
            pending: false,
            ..all
        },
        Bare {
            examined: false,
            ..all
        },
        Bare {
            cut_off: false,
            ..all
        },
    ] {
        assert_eq!(may(without), Err(Forbidden::Unusable(error.clone())));
    }
}

#[test]
fn a_disk_that_leaves_keeps_what_may_be_anothers_beside_ours() {
    let Family {
        earlier, ours, apart, ..
    } = family();
    let disk = &ours.disks[&name("d")];
    let leaving = Leaving::of(&ours, &name("d"), disk, false);
    let goes = |medium: &Medium4k| {
        let sector = |lba: Lba| Ok::<_, Infallible>(at(medium, lba.0));
        is_to_be_erased(&read(medium), &leaving, SECTORS, sector).unwrap()
    };
    assert!(goes(&written(&ours)));
    for later in [false, true] {
        assert!(goes(&with_a_copy(&ours, &earlier, later, false)));
        assert!(!goes(&with_a_copy(&ours, &apart, later, false)));
    }
    assert!(
        !goes(&with_a_copy(&ours, &apart, false, true)),
        "nobody knows whose it is"
    );
}
