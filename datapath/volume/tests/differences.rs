//! What is shown to an operator who has to choose between a medium and a database, and what may be written over without
//! asking: each extent counts, in each of its three numbers.

#![cfg(test)]

use palisade_volume::{VolumePart, difference, emptied, level, overlaps, unheld};
use palisade_wire::{ExtentRecord, ExtentRole, Label};
use palisade_words::{Lba, Uuid};

/// An extent: sector of the volume, sector of the disk, sectors.
type Place = (u64, u64, u64);

/// The extents of a volume.
fn extents(volume: u128, places: &[Place]) -> Vec<ExtentRecord> {
    let extent = |&(volume_lba, disk_lba, sectors): &Place| ExtentRecord {
        volume: Uuid(volume),
        // A name of its own for each extent, to see which of them speaks for the volume.
        volume_name: Label::new(format!("v{volume}-{volume_lba}").as_str()).unwrap(),
        role: ExtentRole::Linear,
        part: 0,
        block_bytes: 512,
        volume_lba: Lba(volume_lba),
        disk_lba: Lba(disk_lba),
        sectors,
        volume_sectors: 1_000,
    };
    places.iter().map(extent).collect()
}

fn loses_nothing(medium: &[Place], database: &[Place]) -> bool {
    difference(&extents(1, medium), &extents(1, database)).loses_nothing()
}

#[test]
fn what_both_have_alike_is_no_difference() {
    let both = extents(1, &[(0, 100, 10), (10, 300, 10)]);
    let found = difference(&both, &both);
    assert!(found.is_empty() && found.loses_nothing());
    assert_eq!(found.elsewhere, []);
    // In whatever order a table has them.
    let turned: Vec<ExtentRecord> = both.iter().rev().cloned().collect();
    assert!(difference(&turned, &both).is_empty());
}

#[test]
fn what_only_one_side_has_is_named_with_its_size() {
    let (medium, database) = (
        extents(1, &[(0, 100, 10), (10, 300, 5)]),
        extents(2, &[(0, 500, 7)]),
    );
    let found = difference(&medium, &database);
    let part = |volume, name: &str, sectors| VolumePart {
        volume,
        name: name.to_owned(),
        sectors,
    };
    assert_eq!(found.only_on_medium, [part(Uuid(1), "v1-0", 15)]);
    assert_eq!(found.only_in_database, [part(Uuid(2), "v2-0", 7)]);
    assert_eq!(found.elsewhere, []);
    // Each of the three alone is a difference.
    assert!(!difference(&medium, &[]).is_empty());
    assert!(!difference(&[], &database).is_empty());
    assert!(!difference(&medium, &extents(1, &[(0, 100, 10)])).is_empty());
}

#[test]
fn a_volume_that_has_grown_loses_nothing() {
    let before = [(0, 100, 10), (10, 300, 10)];
    let longer = [(0, 100, 10), (10, 300, 20)];
    assert!(loses_nothing(&before, &longer));
    assert!(loses_nothing(
        &before,
        &[(0, 100, 10), (10, 300, 10), (20, 500, 10)]
    ));
    let found = difference(&extents(1, &before), &extents(1, &longer));
    assert_eq!(found.elsewhere.len(), 1, "it is shown all the same");
    assert_eq!(found.elsewhere[0].sectors, 20, "as the medium has it");
}

#[test]
fn an_extent_in_another_place_or_shorter_is_a_loss() {
    let before = [(0, 100, 10), (10, 300, 10)];
    for (what, after) in [
        ("shorter", vec![(0, 100, 10), (10, 300, 9)]),
        ("elsewhere on the disk", vec![(0, 100, 10), (10, 301, 10)]),
        ("elsewhere in the volume", vec![(0, 100, 10), (11, 300, 10)]),
        ("gone", vec![(0, 100, 10)]),
        ("one of two", vec![(0, 101, 10), (10, 300, 10), (20, 500, 1)]),
    ] {
        assert!(!loses_nothing(&before, &after), "{what}");
    }
    // One volume that has only grown does not speak for another that has not.
    let both = |first: &[Place], second: &[Place]| [extents(1, first), extents(2, second)].concat();
    let (medium, database) = (
        both(&[(0, 100, 10)], &[(0, 300, 10)]),
        both(&[(0, 100, 20)], &[(0, 301, 20)]),
    );
    assert!(!difference(&medium, &database).loses_nothing());
}

#[test]
fn what_lies_where_another_volume_lies_is_counted_to_the_sector() {
    let ours = extents(1, &[(0, 100, 10), (10, 300, 10)]);
    let shared = |theirs: &[Place]| {
        let found = overlaps(&extents(2, theirs), &ours);
        found.iter().map(|one| one.database.sectors).sum::<u64>()
    };
    assert_eq!(shared(&[(0, 105, 10)]), 5);
    assert_eq!(shared(&[(0, 95, 6)]), 1);
    assert_eq!(shared(&[(0, 102, 3), (3, 300, 10)]), 13);
    assert_eq!(shared(&[(0, 90, 300)]), 20);
    // Side by side is nothing in common, and the volume itself is no other.
    assert_eq!(overlaps(&extents(2, &[(0, 110, 190), (190, 310, 5)]), &ours), []);
    assert_eq!(overlaps(&ours, &ours), []);
    let found = overlaps(&extents(2, &[(0, 105, 1)]), &ours);
    assert_eq!(
        (found[0].database.volume, found[0].medium.as_str()),
        (Uuid(1), "v2-0")
    );
}

/// What a copy does not hold of a volume is counted to the sector, whoever has it there, or nobody.
#[test]
fn what_a_medium_does_not_hold_of_a_volume_is_told() {
    let held = |medium: &[ExtentRecord], database: &[Place]| -> Vec<u64> {
        let parts = unheld(medium, &extents(1, database));
        parts.iter().map(|part| part.sectors).collect()
    };
    let copy = extents(1, &[(0, 100, 10), (10, 300, 10)]);
    assert_eq!(held(&copy, &[(0, 100, 10), (10, 300, 10)]), [0_u64; 0]);
    assert_eq!(held(&copy, &[(0, 100, 10)]), [0_u64; 0], "it has more");
    assert_eq!(held(&copy, &[(0, 100, 10), (10, 300, 25)]), [15], "it has grown");
    assert_eq!(
        held(&copy, &[(0, 100, 10), (10, 400, 10)]),
        [10],
        "it is elsewhere"
    );
    assert_eq!(
        held(&copy, &[(1, 100, 10)]),
        [10],
        "each sector is in another place"
    );
    assert_eq!(
        held(&copy, &[(5, 105, 3), (8, 108, 4)]),
        [2],
        "cut in another way"
    );
    assert_eq!(
        held(&[], &[(0, 100, 10), (10, 300, 10)]),
        [20],
        "it is not there at all"
    );
    assert_eq!(
        held(&extents(2, &[(0, 100, 10)]), &[(0, 100, 10)]),
        [10],
        "it is another's"
    );
    let [part] = &unheld(&[], &extents(7, &[(0, 100, 10)]))[..] else {
        panic!("one volume")
    };
    assert_eq!((part.volume, part.name.as_str()), (Uuid(7), "v7-0"));
}

/// What is kept ends before the first sector that is not the volume's own on both sides, or is another's.
#[test]
fn a_volume_is_level_up_to_the_first_sector_that_is_not_its_own_on_both_sides() {
    let up_to = |medium: &[ExtentRecord], database: &[Place]| level(medium, &extents(1, database), Uuid(1));
    let copy = extents(1, &[(0, 100, 10), (10, 300, 10)]);
    let same = [(0, 100, 10), (10, 300, 10)];
    assert_eq!(up_to(&copy, &same), None, "all of it");
    assert_eq!(up_to(&copy, &[(0, 100, 10)]), None, "the medium has more");
    assert_eq!(
        up_to(&copy, &[(0, 100, 10), (10, 300, 25)]),
        Some(20),
        "it has grown"
    );
    assert_eq!(
        up_to(&copy, &[(0, 100, 10), (10, 300, 10), (20, 500, 5)]),
        Some(20)
    );
    assert_eq!(
        up_to(&copy, &[(0, 100, 10), (10, 400, 10)]),
        Some(10),
        "it is elsewhere"
    );
    assert_eq!(
        up_to(&copy, &[(0, 99, 10), (10, 300, 10)]),
        Some(0),
        "from its beginning"
    );
    assert_eq!(
        up_to(&copy, &[(10, 300, 10), (0, 100, 12)]),
        Some(10),
        "in whatever order"
    );
    assert_eq!(up_to(&[], &same), Some(0), "it is not there at all");
    let moved = extents(1, &[(10, 100, 10)]);
    assert_eq!(up_to(&moved, &[(0, 100, 10)]), Some(0), "other sectors of it are");
    // Cut in another way, in whatever order.
    let cut = extents(1, &[(15, 305, 5), (0, 100, 10), (10, 300, 5)]);
    assert_eq!(up_to(&cut, &same), None);
    let gap = extents(1, &[(0, 100, 10), (13, 303, 7)]);
    assert_eq!(
        up_to(&gap, &same),
        Some(10),
        "what lies behind a gap is behind it"
    );
    // A part on another disk is not asked about here.
    assert_eq!(up_to(&copy, &[(10, 300, 15)]), Some(20));
    // Another's in its place ends it, also where both say that it is theirs.
    let both = [copy.clone(), extents(2, &[(0, 304, 2), (2, 307, 1), (3, 900, 1)])].concat();
    assert_eq!(up_to(&both, &same), Some(14));
    let touching = [copy.clone(), extents(2, &[(0, 90, 10), (10, 310, 5)])].concat();
    assert_eq!(up_to(&touching, &same), None);
    // Whole blocks of the volume.
    let large = |places: &[Place]| -> Vec<ExtentRecord> {
        let of_4096 = |one| ExtentRecord {
            block_bytes: 4096,
            ..one
        };
        extents(1, places).into_iter().map(of_4096).collect()
    };
    assert_eq!(
        level(&large(&[(0, 100, 20)]), &large(&[(0, 100, 32)]), Uuid(1)),
        Some(16)
    );
}

#[test]
fn what_is_emptied_of_a_volume_depends_on_whether_the_medium_is_an_older_copy() {
    let medium = [extents(1, &[(0, 100, 10)]), extents(2, &[(0, 200, 10)])].concat();
    let database = [
        extents(1, &[(0, 100, 10), (10, 195, 10)]),
        extents(3, &[(0, 400, 10)]),
        extents(4, &[(0, 500, 10)]),
    ]
    .concat();
    let gone_on_apart = emptied(&medium, &database, false);
    assert_eq!(Vec::from_iter(gone_on_apart), [(Uuid(1), 10)]);
    // Space that was nobody's on the copy has not been cleared there.
    let copy = emptied(&medium, &database, true);
    assert_eq!(Vec::from_iter(copy), [(Uuid(1), 10), (Uuid(3), 0), (Uuid(4), 0)]);
    assert!(emptied(&database, &database, true).is_empty());
}
