//! Where a volume lies, unit by unit: on a disk with holes, at the end of one, and in as many pieces as may be.

#![cfg(test)]

mod lab;

use lab::{after, create, delete, disk, grow, init, name, outcome, piece, refusal, then};
use palisade_model::limits::{ALLOCATION_UNIT_SECTORS as UNIT, EXTENTS_PER_DISK_MAX, EXTENTS_PER_VOLUME_MAX};
use palisade_model::*;

/// The disk `d` with so many units.
fn with_units(units: u64) -> Cluster {
    let sectors = (units + 2) * UNIT;
    let add = AddDisk {
        medium: Medium::Block {
            path: "/dev/d".into(),
            wwid: None,
        },
        sectors,
        data_end: sectors - UNIT,
        ..disk("d", 100)
    };
    after(&Cluster::empty(), [init(1, "n", 2), Command::AddDisk(add)])
}

fn sized(text: &str, sectors: u64) -> Command {
    Command::CreateVolume(CreateVolume {
        sectors: Some(sectors),
        ..create(text)
    })
}

fn grown(text: &str, sectors: u64) -> Command {
    Command::GrowVolume(grow(text, sectors))
}

/// The units of a volume on `d`, each extent as its first unit and its sectors.
fn units(cluster: &Cluster, text: &str) -> Vec<(u64, u64)> {
    let extents = cluster.volumes[&name(text)].extents();
    extents
        .iter()
        .map(|extent| (extent.disk_lba / UNIT - 1, extent.sectors))
        .collect()
}

fn free(cluster: &Cluster) -> u64 {
    allocation::free_sectors(cluster, &name("d"))
}

/// A unit begun is a unit taken: of seven units with `a` on 0 and 1, `b` on 3 and a part of a fragment on 5.
#[test]
fn a_unit_belongs_to_one_and_what_is_left_of_it_is_for_its_owner_to_grow() {
    let cluster = after(
        &with_units(7),
        [sized("a", UNIT + 8), sized("x", UNIT), sized("b", 8)],
    );
    let mut cluster = then(&cluster, Command::DeleteVolume(delete("x", None)));
    let pieces = vec![piece(UNIT, "d", 6 * UNIT)];
    let fragment = Fragment {
        name: name("p"),
        sectors: 2 * UNIT,
        block_bytes: 512,
        pieces,
    };
    cluster.fragments.insert(Uuid(900), fragment);
    assert_eq!(free(&cluster), 3 * UNIT);
    for (sectors, expected, left) in [
        (UNIT + 9, vec![(0, UNIT + 9)], 3),
        (2 * UNIT, vec![(0, 2 * UNIT)], 3),
        (2 * UNIT + 1, vec![(0, 2 * UNIT + 1)], 2),
        (3 * UNIT, vec![(0, 3 * UNIT)], 2),
        (3 * UNIT + 1, vec![(0, 3 * UNIT), (4, 1)], 1),
        (5 * UNIT, vec![(0, 3 * UNIT), (4, UNIT), (6, UNIT)], 0),
    ] {
        let next = then(&cluster, grown("a", sectors));
        check(&next).unwrap();
        assert_eq!(
            (units(&next, "a"), free(&next)),
            (expected, left * UNIT),
            "{sectors}"
        );
    }
    let (disk, wanted_sectors, free_sectors) = (name("d"), 4 * UNIT - 7, 3 * UNIT);
    let refused = refusal(&cluster, grown("a", 5 * UNIT + 1));
    assert_eq!(
        refused,
        Refusal::NoSpace {
            disk,
            wanted_sectors,
            free_sectors
        }
    );
    // A new one takes the first run that holds it, or the fewest.
    for (sectors, expected) in [
        (1, vec![(2, 1)]),
        (UNIT, vec![(2, UNIT)]),
        (UNIT + 1, vec![(2, UNIT), (4, 1)]),
        (3 * UNIT, vec![(2, UNIT), (4, UNIT), (6, UNIT)]),
    ] {
        let next = then(&cluster, sized("y", sectors));
        assert_eq!(units(&next, "y"), expected, "{sectors}");
    }
    assert_eq!(outcome(&cluster, &sized("y", 3 * UNIT + 1)), "no_space");
    // What follows `b` is free, and what follows that is not.
    let next = then(&cluster, grown("b", 2 * UNIT + 1));
    assert_eq!(units(&next, "b"), [(3, 2 * UNIT), (2, 1)]);
}

#[test]
fn what_does_not_fill_a_unit_at_the_end_of_a_disk_is_nobodys() {
    let mut cluster = with_units(3);
    cluster.disks.get_mut(&name("d")).unwrap().data_end -= 8;
    assert_eq!(free(&cluster), 2 * UNIT);
    assert_eq!(outcome(&cluster, &sized("a", 2 * UNIT + 1)), "no_space");
    assert_eq!(outcome(&cluster, &sized("a", 2 * UNIT)), "created");
}

/// A disk with a hole of one unit between any two volumes of one.
fn with_holes(holes: u64) -> Cluster {
    let mut cluster = with_units(2 * holes);
    for number in 0..holes {
        let extents = vec![Extent {
            disk: name("d"),
            disk_lba: (2 * number + 2) * UNIT,
            sectors: UNIT,
        }];
        let volume = Volume {
            uuid: Uuid(1 << 64 | u128::from(number)),
            sectors: UNIT,
            block_bytes: 512,
            layout: Layout::Linear { extents },
            created: Generation(1),
            revision: Generation(1),
            layout_revision: None,
            clear: None,
            clearing: None,
            deleting: false,
            protected: false,
        };
        cluster.volumes.insert(name(&format!("more{number}")), volume);
    }
    cluster
}

#[test]
fn a_volume_is_of_as_many_pieces_as_may_be_and_no_more() {
    let most = EXTENTS_PER_VOLUME_MAX as u64;
    let cluster = with_holes(most + 1);
    let made = then(&cluster, sized("a", most * UNIT));
    assert_eq!(units(&made, "a").len(), EXTENTS_PER_VOLUME_MAX);
    let (disk, pieces_max) = (name("d"), EXTENTS_PER_VOLUME_MAX);
    assert_eq!(
        refusal(&cluster, sized("a", most * UNIT + 1)),
        Refusal::Fragmented { disk, pieces_max }
    );
    // What it has already counts.
    assert_eq!(outcome(&made, &grown("a", most * UNIT + 1)), "fragmented");
    let nearly = then(&cluster, sized("a", (most - 1) * UNIT));
    assert_eq!(outcome(&nearly, &grown("a", most * UNIT)), "changed");
}

/// Of a disk all volumes and all parts count, as many as its table has room for.
#[test]
fn a_disk_is_of_as_many_pieces_as_its_table_holds() {
    let mut cluster = with_holes(8);
    let large = (EXTENTS_PER_DISK_MAX as u64 + 40) * UNIT;
    let d = cluster.disks.get_mut(&name("d")).unwrap();
    (d.sectors, d.data_end) = (large + 2 * UNIT, large + UNIT);
    // All that lies behind the holes is one volume's that is not whole, in pieces.
    let count = EXTENTS_PER_DISK_MAX as u64 - 8 - 2;
    let mut pieces: Vec<Piece> = (0..count)
        .map(|at| piece(at * UNIT, "d", (at + 17) * UNIT))
        .collect();
    let taken = 17 + count;
    let rest = &mut pieces.last_mut().unwrap().extent;
    rest.sectors = large + UNIT - rest.disk_lba;
    assert!(taken * UNIT < large);
    let fragment = Fragment {
        name: name("p"),
        sectors: 1 << 40,
        block_bytes: 512,
        pieces,
    };
    cluster.fragments.insert(Uuid(900), fragment);
    assert_eq!(free(&cluster), 8 * UNIT);
    assert_eq!(outcome(&cluster, &sized("a", 2 * UNIT)), "created");
    let (disk, pieces_max) = (name("d"), 2);
    assert_eq!(
        refusal(&cluster, sized("a", 2 * UNIT + 1)),
        Refusal::Fragmented { disk, pieces_max }
    );
}
