//! Commands on volumes, each argument at its borders: the last value that is taken, and the first that is not.

#![cfg(test)]

mod lab;

use lab::{
    after, create, disk, furnished, grow, lab, lab_of_two_nodes, name, on, outcome, piece, refusal, then,
    uuid_of, whole_disk,
};
use palisade_model::limits::{SECTORS_MAX, VOLUMES_MAX};
use palisade_model::*;
use palisade_words::Uuid;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;

type Change = fn(&mut CreateVolume);

#[test]
fn a_volume_is_created_with_arguments_that_fit_together() {
    let cases: [(&str, Change); 35] = [
        ("created", |_| {}),
        ("uuid", |x| x.uuid = Uuid::NIL),
        ("uuid_taken", |x| x.uuid = uuid_of("v")),
        ("uuid_taken", |x| x.uuid = Uuid(900)),
        ("block_bytes", |x| x.block_bytes = Some(0)),
        ("block_bytes", |x| x.block_bytes = Some(1024)),
        ("created", |x| x.block_bytes = Some(4096)),
        ("node_not_found", |x| x.node = name("l")),
        ("disk_not_found", |x| x.disk = Some(name("l"))),
        ("disk_elsewhere", |x| x.disk = Some(name("o"))),
        ("disk_elsewhere", |x| x.node = name("m")),
        ("created", |x| (x.node, x.disk) = (name("m"), None)),
        ("superblock_pending", |x| x.disk = Some(name("p"))),
        // A block is no smaller than the disk's; without a word it is the disk's.
        ("block_too_small", |x| {
            (x.disk, x.block_bytes) = (Some(name("f")), Some(512))
        }),
        ("created", |x| {
            (x.disk, x.block_bytes) = (Some(name("f")), Some(4096))
        }),
        ("created", |x| (x.disk, x.block_bytes) = (Some(name("f")), None)),
        ("sectors", |x| (x.disk, x.sectors) = (Some(name("f")), Some(12))),
        ("created", |x| (x.disk, x.sectors) = (Some(name("f")), Some(16))),
        ("created", |x| (x.disk, x.block_bytes) = (None, Some(512))),
        ("created", |x| (x.disk, x.sectors) = (None, Some(8 * UNIT))),
        ("sectors", |x| x.sectors = Some(0)),
        ("created", |x| x.sectors = Some(1)),
        ("sectors", |x| x.sectors = None),
        ("created", |x| x.sectors = Some(6 * UNIT)),
        ("no_space", |x| x.sectors = Some(6 * UNIT + 1)),
        ("no_space", |x| x.sectors = Some(SECTORS_MAX)),
        ("sectors", |x| x.sectors = Some(SECTORS_MAX + 1)),
        // A whole disk, or some of it.
        ("created", |x| (x.disk, x.sectors) = (Some(name("e")), None)),
        ("created", |x| (x.disk, x.sectors) = (Some(name("e")), Some(8))),
        ("created", |x| {
            (x.disk, x.sectors) = (Some(name("e")), Some(4 * UNIT))
        }),
        ("no_space", |x| {
            (x.disk, x.sectors) = (Some(name("e")), Some(4 * UNIT + 8))
        }),
        ("created", |x| x.disk = Some(name("h"))),
        ("created", |x| x.clear = Some(Clear::Never)),
        ("volume_exists", |x| {
            (x.name, x.uuid, x.sectors) = (name("v"), Uuid(9), Some(8))
        }),
        ("unchanged", |x| (x.name, x.uuid) = (name("v"), Uuid(9))),
    ];
    let mut cluster = furnished();
    let pieces = vec![piece(UNIT, "o", 5 * UNIT)];
    let fragment = Fragment {
        name: name("x"),
        sectors: 2 * UNIT,
        block_bytes: 512,
        pieces,
    };
    cluster.fragments.insert(Uuid(900), fragment);
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        let mut wanted = on("d", UNIT);
        change(&mut wanted);
        let command = Command::CreateVolume(wanted.clone());
        assert_eq!(outcome(&cluster, &command), expected, "case {number}");
        if expected == "created" {
            let next = then(&cluster, command);
            check(&next).unwrap();
            let made = &next.volumes[&name("x")];
            let lies_on = &next.disks[&made.all_extents()[0].disk];
            assert_eq!(
                made.block_bytes,
                wanted.block_bytes.unwrap_or(lies_on.block_bytes)
            );
            assert_eq!(made.sectors, wanted.sectors.unwrap_or(lies_on.sectors));
            assert_eq!(
                (made.clear, made.created, made.revision),
                (wanted.clear, next.generation, next.generation)
            );
            assert_eq!(lies_on.extents_revision, next.generation);
        }
    }
}

#[test]
fn a_volume_that_exists_differs_in_what_it_is_said_to_differ() {
    let cluster = lab_of_two_nodes();
    let differs = |change: Change| {
        let mut again = create("w");
        change(&mut again);
        refusal(&cluster, Command::CreateVolume(again)).field()
    };
    assert_eq!(differs(|again| again.node = name("m")), Some("node"));
    assert_eq!(differs(|again| again.disk = Some(name("e"))), Some("disk"));
    assert_eq!(differs(|again| again.sectors = Some(UNIT + 1)), Some("sectors"));
    assert_eq!(
        differs(|again| again.block_bytes = Some(4096)),
        Some("block_bytes")
    );
    assert_eq!(
        differs(|again| again.clear = Some(Clear::OnDelete)),
        Some("clear")
    );
    // What it is without having been asked for is the same.
    let same = CreateVolume {
        clear: Some(Clear::Now),
        block_bytes: Some(512),
        ..create("w")
    };
    assert_eq!(outcome(&cluster, &Command::CreateVolume(same)), "unchanged");
}

/// A volume on two disks is asked for by the one that it began on, and grows on the one that it ends on.
#[test]
fn a_volume_begins_on_one_disk_and_ends_on_another() {
    let on_e = GrowVolume {
        disk: Some(name("e")),
        ..grow("w", 2 * UNIT)
    };
    let cluster = after(
        &lab(),
        [Command::AddDisk(disk("e", 101)), Command::GrowVolume(on_e)],
    );
    let again = |disk: &str| {
        let wanted = CreateVolume {
            disk: Some(name(disk)),
            sectors: None,
            ..create("w")
        };
        outcome(&cluster, &Command::CreateVolume(wanted))
    };
    assert_eq!((again("d"), again("e")), ("unchanged", "volume_exists"));
    let grown = then(&cluster, Command::GrowVolume(grow("w", 3 * UNIT)));
    let disks: Vec<_> = grown.volumes[&name("w")]
        .all_extents()
        .iter()
        .map(|extent| extent.disk.as_str())
        .collect();
    assert_eq!(disks, ["d", "e"]);
    // A size is asked for where there is none by itself, and that is said.
    let unsized_one = CreateVolume {
        sectors: None,
        ..create("x")
    };
    let said = refusal(&cluster, Command::CreateVolume(unsized_one)).to_string();
    assert!(said.contains("must be given"), "{said}");
}

/// Why there is no disk for a volume that names none.
#[test]
fn a_disk_that_is_only_waited_for_is_told_apart_from_none() {
    let begun = then(&Cluster::empty(), lab::init(1, "n", 2));
    let anywhere = Command::CreateVolume(CreateVolume {
        disk: None,
        ..create("x")
    });
    assert_eq!(outcome(&begun, &anywhere), "no_disk");
    let pending = AddDisk {
        superblock_pending: true,
        ..disk("p", 105)
    };
    let waiting = then(&begun, Command::AddDisk(pending.clone()));
    let disk_is = Refusal::SuperblockPending { disk: name("p") };
    assert_eq!(refusal(&waiting, anywhere.clone()), disk_is);
    let mut elsewhere = waiting.clone();
    elsewhere.disks.get_mut(&name("p")).unwrap().node = name("m");
    let mut leaving = waiting.clone();
    leaving.disks.get_mut(&name("p")).unwrap().leaving = true;
    let mut whole = waiting.clone();
    whole.disks.get_mut(&name("p")).unwrap().first_superblock = FirstSuperblock::OnMedium;
    whole.disks.get_mut(&name("p")).unwrap().usage = Usage::Whole;
    for cluster in [elsewhere, leaving, whole] {
        assert_eq!(outcome(&cluster, &anywhere), "no_disk");
    }
    // One with larger blocks than are asked for does not fit.
    let large = AddDisk {
        block_bytes: 4096,
        ..disk("f", 102)
    };
    let large = then(&begun, Command::AddDisk(large));
    let of = |block_bytes| {
        Command::CreateVolume(CreateVolume {
            disk: None,
            block_bytes,
            ..create("x")
        })
    };
    for (block_bytes, expected) in [(Some(512), "no_disk"), (Some(4096), "created"), (None, "created")] {
        assert_eq!(outcome(&large, &of(block_bytes)), expected);
    }
}

#[test]
fn of_equal_disks_the_first_by_name_is_taken_and_of_others_the_one_with_most_room() {
    let begun = then(&Cluster::empty(), lab::init(1, "n", 2));
    let larger = AddDisk {
        data_end: 10 * UNIT,
        ..disk("h", 103)
    };
    let two = after(&begun, [disk("g", 101), disk("f", 102)].map(Command::AddDisk));
    let three = then(&two, Command::AddDisk(larger));
    let anywhere = Command::CreateVolume(CreateVolume {
        disk: None,
        ..create("x")
    });
    let lies_on = |cluster: &Cluster| {
        then(cluster, anywhere.clone()).volumes[&name("x")].all_extents()[0]
            .disk
            .clone()
    };
    assert_eq!((lies_on(&two), lies_on(&three)), (name("f"), name("h")));
    let used = then(
        &three,
        Command::CreateVolume(CreateVolume {
            disk: Some(name("h")),
            ..create("y")
        }),
    );
    assert_eq!(lies_on(&used), name("f"), "as much as on h");
    // What is free, of whole disks too.
    let whole = then(&three, Command::AddDisk(whole_disk("w", 104)));
    let free = |cluster: &Cluster, disk: &str| allocation::free_sectors(cluster, &name(disk));
    assert_eq!(
        (free(&whole, "w"), free(&whole, "h"), free(&whole, "l")),
        (4 * UNIT, 9 * UNIT, 0)
    );
    let taken = then(&whole, Command::CreateVolume(on("w", 8)));
    assert_eq!(free(&taken, "w"), 0);
}

#[test]
fn there_are_as_many_volumes_as_may_be_and_no_more() {
    let mut cluster = lab();
    let one = cluster.volumes[&name("w")].clone();
    let large = (VOLUMES_MAX as u64 + 2) * UNIT;
    let d = cluster.disks.get_mut(&name("d")).unwrap();
    (d.sectors, d.data_end) = (large + 2 * UNIT, large + UNIT);
    d.medium = Medium::Block {
        path: "/dev/d".into(),
        wwid: None,
    };
    for number in 0..VOLUMES_MAX as u64 - 3 {
        let extents = vec![Extent {
            disk: name("d"),
            disk_lba: (number + 5) * UNIT,
            sectors: UNIT,
        }];
        let volume = Volume {
            uuid: Uuid(1 << 64 | u128::from(number)),
            layout: Layout::Linear { extents },
            ..one.clone()
        };
        cluster.volumes.insert(name(&format!("more{number}")), volume);
    }
    let full = then(&cluster, Command::CreateVolume(create("x")));
    assert_eq!(full.volumes.len(), VOLUMES_MAX);
    let (kind, max) = (Kind::Volume, VOLUMES_MAX);
    assert_eq!(
        refusal(&full, Command::CreateVolume(create("y"))),
        Refusal::TooMany { kind, max }
    );
}

#[test]
fn a_volume_grows_where_it_may() {
    let cluster = furnished();
    let of = |sectors, disk: Option<&str>| {
        Command::GrowVolume(GrowVolume {
            disk: disk.map(name),
            ..grow("w", sectors)
        })
    };
    for (sectors, on, expected) in [
        (UNIT, None, "unchanged"),
        (UNIT - 1, None, "cannot_shrink"),
        (UNIT + 1, None, "changed"),
        (7 * UNIT, None, "changed"),
        (7 * UNIT + 1, None, "no_space"),
        (SECTORS_MAX, None, "no_space"),
        (SECTORS_MAX + 1, None, "sectors"),
        (2 * UNIT, Some("l"), "disk_not_found"),
        (2 * UNIT, Some("o"), "disk_elsewhere"),
        (2 * UNIT, Some("f"), "block_too_small"),
        (2 * UNIT, Some("e"), "disk"),
        (2 * UNIT, Some("p"), "superblock_pending"),
        (9 * UNIT, Some("h"), "changed"),
        (9 * UNIT + 1, Some("h"), "no_space"),
    ] {
        let command = of(sectors, on);
        assert_eq!(outcome(&cluster, &command), expected, "{sectors} on {on:?}");
        if expected == "changed" {
            let next = then(&cluster, command);
            check(&next).unwrap();
            let grown = &next.volumes[&name("w")];
            assert_eq!((grown.sectors, grown.revision), (sectors, next.generation));
        }
    }
    // A whole disk is filled, and nothing else is added to it or from it.
    let whole = then(&cluster, Command::CreateVolume(on("e", 16)));
    let of = |sectors, disk: Option<&str>| {
        Command::GrowVolume(GrowVolume {
            disk: disk.map(name),
            ..grow("x", sectors)
        })
    };
    for (sectors, on, expected) in [
        (24, None, "changed"),
        (4 * UNIT, Some("e"), "changed"),
        (4 * UNIT + 1, None, "no_space"),
        (24, Some("d"), "disk"),
    ] {
        assert_eq!(outcome(&whole, &of(sectors, on)), expected, "{sectors} on {on:?}");
    }
    let full = then(&whole, of(4 * UNIT, None));
    assert_eq!(full.volumes[&name("x")].all_extents().len(), 1);
    let second = CreateVolume {
        name: name("y"),
        uuid: Uuid(9),
        ..on("e", 8)
    };
    assert_eq!(outcome(&whole, &Command::CreateVolume(second)), "disk_taken");
}
