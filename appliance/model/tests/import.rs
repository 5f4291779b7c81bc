//! Disks come back with what their superblocks tell.

#![cfg(test)]

mod lab;

use lab::{init, name, then};
use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Uuid};

fn fresh() -> Cluster {
    then(&Cluster::empty(), init(77, "n0", 2))
}

fn point(generation: u64) -> Ancestor {
    Ancestor {
        generation: Generation(generation),
        id: LineageId(9000 + u128::from(generation)),
    }
}

/// A disk of 8 units with these extents: volume, its size, where on it, where on the disk, how long; in units.
fn disk(number: u64, generation: u64, extents: &[(u64, u64, u64, u64, u64)]) -> ImportedDisk {
    let sectors = 10 * UNIT;
    let extent = |&(volume, size, at, disk_at, length): &(u64, u64, u64, u64, u64)| ImportedExtent {
        volume: Uuid(500 + u128::from(volume)),
        name: name(&format!("v{volume}")),
        volume_sectors: size * UNIT,
        block_bytes: 512,
        volume_lba: at * UNIT,
        disk_lba: (disk_at + 1) * UNIT,
        sectors: length * UNIT,
    };
    ImportedDisk {
        disk: AddDisk {
            name: name(&format!("d{number}")),
            uuid: Uuid(100 + u128::from(number)),
            node: name("n0"),
            medium: Medium::File {
                path: format!("/d{number}"),
                bytes: sectors * 512,
                created: false,
            },
            record: MediumRecord::default(),
            usage: Usage::Pooled,
            block_bytes: 512,
            sectors,
            data_start: UNIT,
            data_end: 9 * UNIT,
            superblock_pending: false,
        },
        seen: OnMedium {
            point: point(generation),
            epoch: Epoch(3),
            ancestors: vec![point(generation - 1)],
        },
        extents: extents.iter().map(extent).collect(),
    }
}

fn import(cluster: &Cluster, disks: Vec<ImportedDisk>, id: Option<u128>) -> Result<Cluster, Refusal> {
    let command = Command::ImportDisks(ImportDisks {
        disks,
        cluster: id.map(Uuid),
        holds_clearings: false,
        regards_protection: false,
    });
    let (next, _) = cluster.apply(&command)?;
    check(&next).expect("it is in order");
    Ok(next)
}

fn layout(cluster: &Cluster, volume: &str) -> Vec<(String, u64, u64)> {
    let extents = cluster.volumes[&name(volume)].all_extents();
    extents
        .iter()
        .map(|extent| {
            (
                extent.disk.to_string(),
                extent.disk_lba / UNIT,
                extent.sectors / UNIT,
            )
        })
        .collect()
}

#[test]
fn a_lost_database_is_made_anew_from_its_disks() {
    let one = disk(1, 40, &[(1, 2, 0, 0, 2), (2, 3, 0, 4, 1)]);
    let two = disk(2, 41, &[(2, 3, 1, 5, 2)]);
    let cluster = import(&fresh(), vec![one, two], Some(1)).expect("it should be taken");
    assert_eq!(cluster.id, Uuid(1), "the cluster is the one that it was");
    assert!(cluster.generation > Generation(41) && cluster.epoch == Epoch(3));
    assert_eq!(layout(&cluster, "v1"), [("d1".into(), 1, 2)]);
    assert_eq!(layout(&cluster, "v2"), [("d1".into(), 5, 1), ("d2".into(), 6, 2)]);
    assert!(cluster.fragments.is_empty());
    let history: Vec<_> = cluster.disks[&name("d1")]
        .history
        .iter()
        .map(|point| point.id)
        .collect();
    assert_eq!(history, [point(39).id, point(40).id, cluster.lineage]);
    assert!(
        cluster
            .disks
            .values()
            .all(|disk| disk.first_superblock.is_on_medium())
    );
}

#[test]
fn a_volume_waits_for_its_missing_disk_and_keeps_its_place() {
    let two = disk(2, 41, &[(2, 3, 1, 5, 2)]);
    let half = import(&fresh(), vec![two.clone()], None).expect("it should be taken");
    assert!(half.volumes.is_empty());
    let fragment = &half.fragments[&Uuid(502)];
    assert_eq!(
        (fragment.sectors, fragment.present_sectors()),
        (3 * UNIT, 2 * UNIT)
    );
    // Its space is nobody else's, and the disk stays.
    let free = allocation::free_sectors(&half, &name("d2"));
    assert_eq!(free, 6 * UNIT);
    let remove = Command::RemoveDisk(RemoveDisk {
        name: name("d2"),
        expected: None,
        releases: false,
    });
    assert_eq!(
        half.apply(&remove).expect_err("it should be refused").code(),
        "disk_holds_fragment"
    );
    let one = disk(1, 40, &[(2, 3, 0, 4, 1)]);
    let whole = import(&half, vec![one], None).expect("it should be taken");
    assert_eq!(layout(&whole, "v2"), [("d1".into(), 5, 1), ("d2".into(), 6, 2)]);
    assert!(whole.fragments.is_empty());
    // Or it is given up, once.
    let delete = Command::DeleteFragment(DeleteFragment { uuid: Uuid(502) });
    let (without, _) = half.apply(&delete).expect("it should be accepted");
    check(&without).expect("it is in order");
    assert_eq!(without.disks[&name("d2")].extents_revision, without.generation);
    let (again, outcome) = without.apply(&delete).expect("it should be accepted");
    assert!(matches!(outcome, Outcome::Unchanged { .. }) && again == without);
    assert_eq!(allocation::free_sectors(&without, &name("d2")), 8 * UNIT);
    assert!(without.apply(&remove).is_ok());
}

#[test]
fn a_name_that_is_taken_and_an_id_that_is_taken() {
    let first = import(&fresh(), vec![disk(1, 40, &[(1, 2, 0, 0, 2)])], None).expect("it should be taken");
    let mut other = disk(2, 7, &[(1, 1, 0, 0, 1)]);
    other.extents[0].volume = Uuid(0xabcd_ef01 << 96 | 5);
    let both = import(&first, vec![other.clone()], None).expect("it should be taken");
    assert_eq!(
        layout(&both, "v1"),
        [("d1".into(), 1, 2)],
        "the one there is stays"
    );
    assert_eq!(layout(&both, "v1-abcdef01"), [("d2".into(), 1, 1)]);
    other.disk.name = name("d1");
    assert_eq!(
        import(&first, vec![other], None)
            .expect_err("it should be refused")
            .code(),
        "disk_exists"
    );
    let again = import(&first, vec![disk(3, 7, &[])], Some(5));
    assert_eq!(
        again.expect_err("it should be refused").code(),
        "cluster_has_disks"
    );
}

/// An old copy of the database, and the operator takes the disk's side.
#[test]
fn a_known_disk_is_told_of_anew() {
    let old = import(
        &fresh(),
        vec![disk(1, 40, &[(1, 2, 0, 0, 2), (3, 1, 0, 6, 1)])],
        None,
    )
    .expect("taken");
    let now = disk(1, 60, &[(1, 4, 0, 0, 4), (2, 1, 0, 5, 1)]);
    let new = import(&old, vec![now], None).expect("it should be taken");
    assert_eq!(layout(&new, "v1"), [("d1".into(), 1, 4)], "it has grown");
    assert_eq!(layout(&new, "v2"), [("d1".into(), 6, 1)]);
    assert!(!new.volumes.contains_key(&name("v3")), "it was deleted");
    assert_eq!(new.disks[&name("d1")].created, old.disks[&name("d1")].created);
    let taken_at = |cluster: &Cluster| cluster.disks[&name("d1")].taken_at;
    assert_eq!(
        (taken_at(&old), taken_at(&new)),
        (Some(Generation(40)), Some(Generation(60)))
    );
}

#[test]
fn a_superblock_that_lies_is_not_believed() {
    let over = disk(1, 40, &[(1, 2, 0, 0, 2), (2, 1, 0, 1, 1)]);
    assert_eq!(
        import(&fresh(), vec![over], None).expect_err("refused").code(),
        "import_overlaps"
    );
    let outside = disk(1, 40, &[(1, 2, 0, 7, 2)]);
    assert_eq!(
        import(&fresh(), vec![outside], None).expect_err("refused").code(),
        "import_overlaps"
    );
    let twice = disk(1, 40, &[(1, 2, 0, 0, 2), (1, 2, 0, 4, 2)]);
    assert!(import(&fresh(), vec![twice], None).is_err());
    let beyond = disk(1, 40, &[(1, 2, 1, 0, 2)]);
    assert_eq!(
        import(&fresh(), vec![beyond], None).expect_err("refused").code(),
        "invalid_argument"
    );
}

#[test]
fn a_medium_does_not_take_the_generation_to_its_end() {
    let far = |generation, epoch| {
        let mut far = disk(1, 40, &[(1, 2, 0, 0, 2)]);
        (far.seen.point.generation, far.seen.epoch) = (Generation(generation), Epoch(epoch));
        far
    };
    for (generation, epoch) in [(u64::MAX, 3), ((1 << 62) + 1, 3), (40, u64::MAX)] {
        let refusal = import(&fresh(), vec![far(generation, epoch)], None).expect_err("refused");
        assert_eq!(refusal.field(), Some("generation"), "{refusal}");
    }
    let cluster = import(&fresh(), vec![far(1 << 62, 3)], None).expect("it should be taken");
    let known = &cluster.disks[&name("d1")];
    let adopt = |generation| {
        let command = Command::AdoptDisk(AdoptDisk {
            name: name("d1"),
            uuid: known.uuid,
            seen: Some(far(generation, 3).seen),
            empties: Vec::new(),
            keeps: Default::default(),
            older: false,
        });
        cluster.apply(&command).map(|(next, _)| next.generation)
    };
    let refusal = adopt(u64::MAX).expect_err("refused");
    assert_eq!(refusal.field(), Some("generation"), "{refusal}");
    let next = adopt((1 << 62) - 1).expect("it should be taken");
    assert_eq!(next, cluster.generation.next());
}

#[test]
fn a_database_with_sizes_that_no_command_gives_is_not_in_order() {
    let cluster = import(
        &fresh(),
        vec![disk(1, 40, &[(1, 2, 0, 0, 2), (2, 3, 0, 4, 1)])],
        None,
    )
    .expect("a start");
    let broken = |change: &dyn Fn(&mut Cluster)| {
        let mut next = cluster.clone();
        change(&mut next);
        check(&next).expect_err("it is not in order")
    };
    // 2^53 sectors and a block, so that their bytes still fit 64 bits: by the bytes alone they would pass.
    let beyond = limits::SECTORS_MAX + 8;
    let of_disk = broken(&|next| {
        let disk = next.disks.get_mut(&name("d1")).expect("it is there");
        disk.sectors = beyond;
        disk.medium = Medium::File {
            path: "/d1".into(),
            bytes: beyond * 512,
            created: false,
        };
    });
    assert!(
        matches!(of_disk, BrokenRule::Geometry { kind: Kind::Disk, .. }),
        "{of_disk}"
    );
    let of_fragment = broken(&|next| {
        let fragment = next.fragments.values_mut().next().expect("a part of v2 is there");
        fragment.sectors = u64::MAX - 7;
    });
    assert!(
        matches!(of_fragment, BrokenRule::Fragment { .. }),
        "{of_fragment}"
    );
}
