//! What a superblock may tell, value by value at each border.

#![cfg(test)]

mod lab;

use lab::imported::{begun, found, import, taken};
use lab::{after, create, disk, name, outcome, piece, remove_disk, then};
use palisade_model::limits::{FRAGMENTS_MAX, GENERATION_MAX, SECTORS_MAX, VOLUMES_MAX};
use palisade_model::*;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS as UNIT, DISKS_MAX, HISTORY_MAX};
use palisade_words::{Ancestor, Epoch, Generation, LineageId, Uuid};

#[test]
fn what_a_disk_tells_of_an_extent_is_held_against_the_rules() {
    type Change = fn(&mut ImportedExtent);
    let cases: [(&str, Change); 17] = [
        ("changed", |_| {}),
        ("uuid", |x| x.volume = Uuid::NIL),
        ("block_bytes", |x| x.block_bytes = 0),
        ("block_bytes", |x| x.block_bytes = 1024),
        ("changed", |x| x.block_bytes = 4096),
        ("sectors", |x| x.sectors = 0),
        ("sectors", |x| x.volume_sectors = 0),
        ("sectors", |x| {
            (x.block_bytes, x.volume_sectors) = (4096, 2 * UNIT + 4)
        }),
        ("changed", |x| x.volume_sectors = SECTORS_MAX),
        ("sectors", |x| x.volume_sectors = SECTORS_MAX + 1),
        ("changed", |x| x.volume_lba = UNIT),
        ("volume_lba", |x| x.volume_lba = UNIT + 1),
        ("volume_lba", |x| x.volume_lba = u64::MAX),
        ("changed", |x| x.disk_lba = 8 * UNIT),
        ("import_overlaps", |x| x.disk_lba = 9 * UNIT),
        ("import_overlaps", |x| x.disk_lba = 0),
        ("import_overlaps", |x| x.disk_lba = UNIT + 8),
    ];
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        let mut disk = found("d", 100, &[("x", 2 * UNIT, 0, UNIT, UNIT)]);
        change(&mut disk.extents[0]);
        assert_eq!(outcome(&begun(), &import(&[disk])), expected, "case {number}");
    }
    // Both parts of one volume have one size of blocks.
    let mut two = found(
        "d",
        100,
        &[
            ("x", 2 * UNIT, 0, UNIT, UNIT),
            ("x", 2 * UNIT, UNIT, 4 * UNIT, UNIT),
        ],
    );
    assert_eq!(outcome(&begun(), &import(std::slice::from_ref(&two))), "changed");
    two.extents[1].block_bytes = 4096;
    assert_eq!(outcome(&begun(), &import(&[two])), "block_bytes");
}

#[test]
fn what_is_imported_is_a_pooled_disk_that_is_nobody_elses() {
    type Change = fn(&mut AddDisk);
    let cases: [(&str, Change); 13] = [
        ("changed", |_| {}),
        ("node_not_found", |x| x.node = name("l")),
        ("uuid", |x| x.uuid = Uuid::NIL),
        ("block_bytes", |x| x.block_bytes = 1),
        ("usage", |x| {
            (x.usage, x.data_start, x.data_end) = (Usage::Whole, 0, x.sectors)
        }),
        ("usage", |x| {
            x.medium = Medium::Memory {
                bytes: x.sectors * 512,
            }
        }),
        ("usage", |x| {
            x.medium = Medium::Null {
                bytes: x.sectors * 512,
            }
        }),
        ("uuid_taken", |x| x.uuid = Uuid(100)),
        ("disk_exists", |x| x.name = name("d")),
        ("medium_taken", |x| x.medium = disk("d", 1).medium),
        ("changed", |x| {
            (x.name, x.uuid, x.medium) = (name("d"), Uuid(100), disk("d", 1).medium)
        }),
        ("disk_going", |x| {
            (x.name, x.uuid, x.medium) = (name("e"), Uuid(101), disk("e", 1).medium)
        }),
        ("data_end", |x| x.data_end = x.data_start),
    ];
    let cluster = after(
        &begun(),
        [Command::AddDisk(disk("d", 100)), Command::AddDisk(disk("e", 101))],
    );
    let cluster = then(&cluster, remove_disk("e", true));
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        let mut wanted = found("x", 109, &[]);
        change(&mut wanted.disk);
        assert_eq!(outcome(&cluster, &import(&[wanted])), expected, "case {number}");
    }
    // A cluster with disks keeps its id; one without takes that of the disks, and its own is no other.
    let with = |id| {
        Command::ImportDisks(ImportDisks {
            disks: vec![found("x", 109, &[])],
            cluster: Some(Uuid(id)),
            holds_clearings: false,
            regards_protection: false,
        })
    };
    for (cluster, id, expected) in [
        (&cluster, 1, "changed"),
        (&cluster, 9, "cluster_has_disks"),
        (&begun(), 9, "changed"),
    ] {
        assert_eq!(outcome(cluster, &with(id)), expected);
    }
    assert_eq!(then(&begun(), with(9)).id, Uuid(9));
}

#[test]
fn there_is_room_for_as_much_as_may_be_and_no_more() {
    let mut disks = then(&begun(), Command::AddDisk(disk("d", 100)));
    let one = disks.disks[&name("d")].clone();
    for number in 0..DISKS_MAX as u128 - 2 {
        let medium = Medium::Block {
            path: format!("/more/{number}"),
            wwid: None,
        };
        let disk = Disk {
            uuid: Uuid(1000 + number),
            medium,
            ..one.clone()
        };
        disks.disks.insert(name(&format!("more{number}")), disk);
    }
    assert_eq!(outcome(&disks, &import(&[found("x", 109, &[])])), "changed");
    let two = [found("x", 109, &[]), found("y", 110, &[])];
    assert_eq!(outcome(&disks, &import(&two)), "too_many");
    // One that is there takes no more room.
    let again = [found("x", 109, &[]), found("d", 100, &[])];
    assert_eq!(outcome(&disks, &import(&again)), "changed");

    let mut parts = begun();
    let large = AddDisk {
        sectors: SECTORS_MAX,
        data_end: SECTORS_MAX - UNIT,
        ..disk("d", 100)
    };
    let medium = Medium::Block {
        path: "/dev/d".into(),
        wwid: None,
    };
    parts = then(&parts, Command::AddDisk(AddDisk { medium, ..large }));
    for number in 0..FRAGMENTS_MAX as u64 - 1 {
        let pieces = vec![piece(UNIT, "d", (number + 1) * UNIT)];
        let fragment = Fragment {
            name: name("p"),
            sectors: 2 * UNIT,
            block_bytes: 512,
            pieces,
        };
        parts
            .fragments
            .insert(Uuid(1 << 64 | u128::from(number)), fragment);
    }
    let half = |text, at| (text, 2 * UNIT, UNIT, at, UNIT);
    assert_eq!(
        outcome(&parts, &import(&[found("x", 109, &[half("p", UNIT)])])),
        "changed"
    );
    let two = found("x", 109, &[half("p", UNIT), half("q", 2 * UNIT)]);
    assert_eq!(outcome(&parts, &import(&[two])), "parts");

    let mut volumes = then(&parts, Command::CreateVolume(create("v")));
    let one = volumes.volumes[&name("v")].clone();
    volumes.fragments.clear();
    for number in 0..VOLUMES_MAX as u64 - 2 {
        let extents = vec![Extent {
            disk: name("d"),
            disk_lba: (number + 8000) * UNIT,
            sectors: UNIT,
        }];
        let layout = Layout::Linear { extents };
        let volume = Volume {
            uuid: Uuid(1 << 64 | u128::from(number)),
            layout,
            ..one.clone()
        };
        volumes.volumes.insert(name(&format!("more{number}")), volume);
    }
    let whole = |text, at| (text, UNIT, 0, at, UNIT);
    assert_eq!(
        outcome(&volumes, &import(&[found("x", 109, &[whole("p", UNIT)])])),
        "changed"
    );
    let two = found("x", 109, &[whole("p", UNIT), whole("q", 2 * UNIT)]);
    assert_eq!(outcome(&volumes, &import(&[two])), "too_many");
}

/// What each side knows of the disk itself: where it comes from is the disk's to tell, how it is treated the cluster's.
#[test]
fn a_disk_that_was_known_keeps_what_only_the_cluster_knows() {
    let protect = ChangeDisk {
        name: name("d"),
        protected: Some(true),
        expected: None,
    };
    let known = after(
        &begun(),
        [Command::AddDisk(disk("d", 100)), Command::ChangeDisk(protect)],
    );
    let next = taken(&known, &[found("d", 100, &[])]);
    let (before, now) = (&known.disks[&name("d")], &next.disks[&name("d")]);
    assert!(now.protected && now.created == before.created && now.revision == next.generation);
    let numbers: Vec<u64> = now.history.iter().map(|point| point.generation.0).collect();
    assert_eq!(numbers, [2, 3, 38, 39, 40, 41]);
    assert_eq!((next.generation, next.epoch), (Generation(41), Epoch(3)));
    // The furthest of several is gone beyond, and no history is longer than it may be.
    let mut far = found("x", 109, &[]);
    far.seen.point.generation = Generation(500);
    far.seen.epoch = Epoch(2);
    far.seen.ancestors = (0..2 * HISTORY_MAX as u64)
        .map(|generation| Ancestor {
            generation: Generation(generation),
            id: LineageId(7),
        })
        .collect();
    let next = taken(&known, &[far.clone(), found("y", 110, &[])]);
    assert_eq!((next.generation, next.epoch), (Generation(501), Epoch(3)));
    assert_eq!(next.disks[&name("x")].history.iter().len(), HISTORY_MAX);
    far.seen.point.generation = Generation(GENERATION_MAX + 1);
    assert_eq!(
        outcome(&known, &import(&[found("y", 110, &[]), far])),
        "generation"
    );
}
