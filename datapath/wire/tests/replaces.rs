//! What may be written over what: a disk's superblock gives way to one that has grown out of it, and to no other.

#![cfg(test)]

mod disk;

use disk::{DISK_SECTORS, superblock};
use palisade_wire::{EncodeError, Kinship, Lineage, Superblock, update};
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Uuid};

/// A superblock that has come this way: generations by number and id, the oldest first.
fn at(path: &[(u64, u128)]) -> Superblock {
    let mut points = path.iter().rev().map(|&(generation, id)| Ancestor {
        generation: Generation(generation),
        id: LineageId(id),
    });
    let own = points.next().unwrap();
    let lineage = Lineage {
        id: own.id,
        ancestors: points.collect(),
    };
    Superblock {
        generation: own.generation,
        sequence: 6,
        lineage: Some(lineage),
        ..superblock(DISK_SECTORS)
    }
}

/// One from before there were lineages.
fn plain(generation: u64) -> Superblock {
    Superblock {
        generation: Generation(generation),
        sequence: 6,
        ..superblock(DISK_SECTORS)
    }
}

/// The one that names `before` as what it has grown out of.
fn grown_out_of(before: &Superblock) -> Superblock {
    let point = before.point();
    at(&[(point.generation.0, point.id.0), (point.generation.0 + 5, 99)])
}

fn refused(before: &Superblock, after: &Superblock) -> Option<EncodeError> {
    let result = update(before, after, &[]);
    if let Ok(update) = &result {
        assert_eq!(update.superblock.sequence, before.sequence + 1);
    }
    result.err()
}

#[test]
fn a_superblock_gives_way_to_what_has_grown_out_of_it_alone() {
    let root = [(10, 1)];
    let (left, right) = ([(10, 1), (11, 2)], [(10, 1), (11, 3), (12, 4)]);
    let stranger = [(10, 7), (20, 8)];
    let wrong = |kinship, found, wanted| {
        Some(EncodeError::NotDescended {
            kinship,
            found,
            wanted,
        })
    };
    let cases = [
        ("itself", at(&left), at(&left), None),
        ("its child", at(&root), at(&left), None),
        ("its grandchild", at(&root), at(&right), None),
        (
            "its parent",
            at(&left),
            at(&root),
            wrong(Kinship::Descendant, Generation(11), Generation(10)),
        ),
        (
            "its cousin",
            at(&left),
            at(&right),
            wrong(
                Kinship::Apart {
                    since: Generation(10),
                },
                Generation(11),
                Generation(12),
            ),
        ),
        (
            "a stranger",
            at(&left),
            at(&stranger),
            wrong(Kinship::Unknown, Generation(11), Generation(20)),
        ),
        // What has no lineage is believed by its number, by what has none or does not go back as far.
        ("no lineage over none", plain(10), plain(11), None),
        ("the same without lineage", plain(10), plain(10), None),
        ("a lineage over none", plain(10), at(&left), None),
        (
            "none over a lineage",
            at(&left),
            plain(20),
            wrong(Kinship::Unknown, Generation(11), Generation(20)),
        ),
        ("what names it", plain(10), grown_out_of(&plain(10)), None),
        (
            "what it was, after it was named",
            grown_out_of(&plain(10)),
            plain(10),
            wrong(Kinship::Descendant, Generation(15), Generation(10)),
        ),
    ];
    for (what, before, after, expected) in cases {
        assert_eq!(refused(&before, &after), expected, "{what}");
    }
    let told = |before: &Superblock, after: &Superblock| refused(before, after).unwrap().to_string();
    assert!(told(&at(&left), &at(&root)).contains("the disk's is the later one"));
    assert!(told(&at(&left), &at(&right)).contains("the two went on apart"));
}

/// Neither number goes back, whatever the ids say.
#[test]
fn epoch_and_generation_do_not_go_back() {
    for (generation, epoch, is_older) in [
        (10, 1, false),
        (11, 1, false),
        (10, 2, false),
        (9, 1, true),
        (10, 0, true),
        (9, 2, true),
        (11, 0, true),
    ] {
        let (before, mut after) = (plain(10), plain(generation));
        after.epoch = Epoch(epoch);
        let found = (Epoch(1), Generation(10));
        let wanted = (after.epoch, after.generation);
        let expected = is_older.then_some(EncodeError::Older { found, wanted });
        assert_eq!(
            refused(&before, &after),
            expected,
            "epoch {epoch}, generation {generation}"
        );
    }
}

/// Another disk's never; another cluster's only where somebody has decided it and the change names what it replaces.
#[test]
fn another_disk_or_cluster_is_not_written_over_unless_it_was_decided() {
    let before = at(&[(10, 1)]);
    let heirs = [
        ("it has grown out of it", grown_out_of(&before), true),
        ("it is the same", before.clone(), false),
        ("nothing is known", at(&[(20, 8)]), false),
    ];
    for (what, heir, decided) in heirs {
        let (disk, cluster) = (Uuid(before.disk.0 + 1), Uuid(before.cluster.0 + 1));
        let other_disk = Superblock { disk, ..heir.clone() };
        let (found, wanted) = (before.disk, disk);
        let expected = Some(EncodeError::OtherDisk { found, wanted });
        assert_eq!(refused(&before, &other_disk), expected, "another disk, {what}");
        let other_both = Superblock {
            cluster,
            ..other_disk
        };
        assert_eq!(
            refused(&before, &other_both),
            expected,
            "another disk and cluster, {what}"
        );
        let other_cluster = Superblock { cluster, ..heir };
        let (found, wanted) = (before.cluster, cluster);
        let expected = (!decided).then_some(EncodeError::OtherDisk { found, wanted });
        assert_eq!(
            refused(&before, &other_cluster),
            expected,
            "another cluster, {what}"
        );
    }
}
