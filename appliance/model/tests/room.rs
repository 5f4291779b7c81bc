//! Where a volume lies, unit by unit: on a disk with holes, at the end of one, and in as many pieces as may be.

#![cfg(test)]

mod lab;

use lab::{after, create, delete, disk, grow, init, name, outcome, piece, refusal, then};
use palisade_model::limits::EXTENTS_PER_VOLUME_MAX;
use palisade_model::*;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS as UNIT, EXTENTS_PER_DISK_MAX};
use palisade_words::{Generation, Uuid};

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
    let extents = cluster.volumes[&name(text)].all_extents();
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

/// What lies under a stretch of a volume, sector by sector, for a volume on two disks.
#[test]
fn each_stretch_of_a_volume_lies_where_its_extents_say() {
    let mut cluster = with_units(8);
    cluster = then(&cluster, Command::AddDisk(disk("e", 101)));
    let on_e = GrowVolume {
        disk: Some(name("e")),
        ..grow("a", UNIT + 24)
    };
    cluster = after(
        &cluster,
        [sized("a", UNIT), Command::GrowVolume(on_e), sized("b", UNIT)],
    );
    let volume = &cluster.volumes[&name("a")];
    let lies = |start, end| {
        let extents = volume.extents_between(start, end).into_iter();
        let told = extents.map(|extent| (extent.disk.to_string(), extent.disk_lba - UNIT, extent.sectors));
        told.collect::<Vec<_>>()
    };
    let (d, e) = (
        |at, sectors| ("d".to_owned(), at, sectors),
        |at, sectors| ("e".to_owned(), at, sectors),
    );
    for (start, end, expected) in [
        (0, UNIT + 24, vec![d(0, UNIT), e(0, 24)]),
        (0, UNIT, vec![d(0, UNIT)]),
        (0, UNIT + 1, vec![d(0, UNIT), e(0, 1)]),
        (8, 16, vec![d(8, 8)]),
        (UNIT - 1, UNIT + 1, vec![d(UNIT - 1, 1), e(0, 1)]),
        (UNIT, UNIT + 24, vec![e(0, 24)]),
        (UNIT + 8, u64::MAX, vec![e(8, 16)]),
        (UNIT + 24, u64::MAX, vec![]),
        (16, 16, vec![]),
        (16, 8, vec![]),
    ] {
        assert_eq!(lies(start, end), expected, "{start}..{end}");
    }
    let begins: Vec<u64> = volume.placed_extents().map(|(at, _)| at).collect();
    assert_eq!(begins, [0, UNIT]);
    let on = |volume: &str, disk: &str| cluster.volumes[&name(volume)].lies_on(&name(disk));
    assert!(on("a", "d") && on("a", "e") && on("b", "d") && !on("b", "e"));
    let of = |disk: &str| {
        let disk = name(disk);
        let extents = cluster.extents_on(&disk);
        extents
            .map(|(volume, _, extent)| (volume.to_string(), extent.sectors))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("d"), [("a".into(), UNIT), ("b".into(), UNIT)]);
    assert_eq!(of("e"), [("a".into(), 24)]);
    assert_eq!(cluster.node_of(&name("a")), Some(&name("n")));
    assert_eq!(
        (cluster.node_of(&name("l")), cluster.clear_of(&name("l"))),
        (None, None)
    );
}
