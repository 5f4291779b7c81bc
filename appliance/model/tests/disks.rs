//! Commands on disks, each argument at its borders: the last value that is taken, and the first that is not.

#![cfg(test)]

mod lab;

use lab::{
    after, delete, disk, grow, lab, lab_of_two_nodes, name, outcome, piece, refusal, remove_disk, then,
    whole_disk,
};
use palisade_model::limits::{PATH_BYTES_MAX, SECTORS_MAX, WWID_BYTES_MAX};
use palisade_model::*;
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS as UNIT, DISKS_MAX};
use palisade_words::{Generation, Uuid};

fn add(disk: &AddDisk) -> Command {
    Command::AddDisk(disk.clone())
}

/// A block device instead of the file.
fn block(path: &str, wwid: Option<&str>) -> Medium {
    let (path, wwid) = (path.to_owned(), wwid.map(str::to_owned));
    Medium::Block { path, wwid }
}

fn file(path: &str) -> Medium {
    let (path, bytes) = (path.to_owned(), 10 * UNIT * 512);
    Medium::File {
        path,
        bytes,
        created: true,
    }
}

#[test]
fn a_disk_is_added_with_arguments_that_fit_together() {
    type Change = fn(&mut AddDisk);
    fn long(bytes: usize) -> String {
        format!("/{}", "x".repeat(bytes - 1))
    }
    fn as_block(disk: &mut AddDisk) {
        disk.medium = block("/dev/x", None);
    }
    fn whole(disk: &mut AddDisk, sectors: u64) {
        as_block(disk);
        (disk.usage, disk.data_start, disk.sectors, disk.data_end) = (Usage::Whole, 0, sectors, sectors);
    }
    let cases: [(&str, Change); 46] = [
        ("created", |_| {}),
        ("uuid", |disk| disk.uuid = Uuid::NIL),
        ("uuid_taken", |disk| disk.uuid = Uuid(100)),
        ("node_not_found", |disk| disk.node = name("l")),
        ("block_bytes", |disk| disk.block_bytes = 0),
        ("block_bytes", |disk| disk.block_bytes = 1024),
        ("created", |disk| disk.block_bytes = 4096),
        ("sectors", |disk| whole(disk, 0)),
        ("created", |disk| whole(disk, 1)),
        ("created", |disk| whole(disk, SECTORS_MAX)),
        ("sectors", |disk| whole(disk, SECTORS_MAX + 1)),
        ("sectors", |disk| (whole(disk, 12), disk.block_bytes = 4096).0),
        ("created", |disk| (whole(disk, 16), disk.block_bytes = 4096).0),
        ("bytes", |disk| {
            disk.medium = Medium::Null {
                bytes: disk.sectors * 512 + 512,
            }
        }),
        ("bytes", |disk| {
            disk.medium = Medium::Memory {
                bytes: disk.sectors * 512 - 512,
            }
        }),
        ("bytes", |disk| disk.sectors -= 8),
        ("created", |disk| {
            disk.medium = Medium::Null {
                bytes: disk.sectors * 512,
            }
        }),
        // The data area of a whole disk is all of it.
        ("data_end", |disk| (whole(disk, UNIT), disk.data_start = 8).0),
        ("data_end", |disk| (whole(disk, UNIT), disk.data_end -= 8).0),
        // That of a pooled one is inside, a unit or more, and of whole blocks.
        ("created", |disk| disk.data_end = 10 * UNIT),
        ("data_end", |disk| disk.data_end = 10 * UNIT + 1),
        ("created", |disk| disk.data_end = 2 * UNIT),
        ("data_end", |disk| disk.data_end = 2 * UNIT - 1),
        ("data_end", |disk| {
            (disk.data_start, disk.data_end) = (3 * UNIT, 2 * UNIT)
        }),
        ("data_end", |disk| {
            (disk.block_bytes, disk.data_start) = (4096, UNIT + 4)
        }),
        ("data_end", |disk| {
            (disk.block_bytes, disk.data_end) = (4096, 9 * UNIT + 4)
        }),
        ("path", |disk| disk.medium = file("disks/x")),
        ("path", |disk| disk.medium = file("")),
        ("path", |disk| disk.medium = block("/dev/../x", None)),
        ("created", |disk| disk.medium = block(&long(PATH_BYTES_MAX), None)),
        ("path", |disk| {
            disk.medium = block(&long(PATH_BYTES_MAX + 1), None)
        }),
        // The same path is another medium on another node, and the same WWID is the same medium everywhere.
        ("medium_taken", |disk| disk.medium = file("/disks/d")),
        ("medium_taken", |disk| disk.medium = block("/dev/w", None)),
        ("created", |disk| {
            (disk.medium, disk.node) = (block("/dev/w", None), name("m"))
        }),
        ("medium_taken", |disk| {
            disk.medium = block("/dev/x", Some("naa.1"))
        }),
        ("medium_taken", |disk| {
            (disk.medium, disk.node) = (block("/dev/x", Some("naa.1")), name("m"))
        }),
        ("created", |disk| disk.medium = block("/dev/x", Some("naa.2"))),
        ("wwid", |disk| disk.medium = block("/dev/x", Some(""))),
        ("created", |disk| {
            disk.medium = block("/dev/x", Some(&"x".repeat(WWID_BYTES_MAX)))
        }),
        ("wwid", |disk| {
            disk.medium = block("/dev/x", Some(&"x".repeat(WWID_BYTES_MAX + 1)))
        }),
        ("created", |disk| disk.record.serial = Some(" ~".into())),
        ("serial", |disk| disk.record.serial = Some(String::new())),
        ("serial", |disk| disk.record.serial = Some("\u{7f}".into())),
        ("created", |disk| disk.record.fingerprint = Some("x".repeat(2048))),
        ("fingerprint", |disk| {
            disk.record.fingerprint = Some("x".repeat(2049))
        }),
        ("fingerprint", |disk| {
            disk.record.fingerprint = Some("x\ny".into())
        }),
    ];
    let with_wwid = AddDisk {
        medium: block("/dev/w", Some("naa.1")),
        ..whole_disk("w", 101)
    };
    let memory = AddDisk {
        medium: Medium::Memory {
            bytes: 10 * UNIT * 512,
        },
        ..disk("ram", 102)
    };
    let cluster = after(&lab_of_two_nodes(), [add(&with_wwid), add(&memory)]);
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        let mut wanted = disk("x", 109);
        change(&mut wanted);
        assert_eq!(
            outcome(&cluster, &add(&wanted)),
            expected,
            "case {number}: {wanted:?}"
        );
        if expected == "created" {
            let next = then(&cluster, add(&wanted));
            check(&next).unwrap();
            let made = &next.disks[&name("x")];
            assert_eq!(made.created, next.generation);
            assert!(!made.protected && !made.leaving);
        }
    }
    // Memory has no path to meet at.
    let other = AddDisk {
        medium: Medium::Memory {
            bytes: 10 * UNIT * 512,
        },
        ..disk("x", 109)
    };
    assert_eq!(outcome(&cluster, &add(&other)), "created");
}

#[test]
fn a_first_superblock_is_to_come_where_one_belongs() {
    let pending = |medium| {
        let add = AddDisk {
            medium,
            superblock_pending: true,
            ..disk("x", 109)
        };
        let next = then(&lab(), Command::AddDisk(add));
        !next.disks[&name("x")].first_superblock.is_on_medium()
    };
    assert!(pending(file("/x")));
    assert!(!pending(Medium::Memory {
        bytes: 10 * UNIT * 512
    }));
}

#[test]
fn there_are_as_many_disks_as_may_be_and_no_more() {
    let mut cluster = lab();
    let one = cluster.disks[&name("d")].clone();
    for number in 0..DISKS_MAX as u128 - 2 {
        let disk = Disk {
            uuid: Uuid(1000 + number),
            medium: file(&format!("/more/{number}")),
            usage: Usage::Pooled,
            ..one.clone()
        };
        cluster.disks.insert(name(&format!("more{number}")), disk);
    }
    let cluster = then(&cluster, Command::AddDisk(disk("last", 109)));
    assert_eq!(cluster.disks.len(), DISKS_MAX);
    let refused = refusal(&cluster, Command::AddDisk(disk("x", 110)));
    let (kind, max) = (Kind::Disk, DISKS_MAX);
    assert_eq!(refused, Refusal::TooMany { kind, max });
}

#[test]
fn a_disk_asked_for_again_is_the_same_in_each_part_or_another() {
    let cluster = lab_of_two_nodes();
    let differs = |change: fn(&mut AddDisk)| {
        let mut again = disk("d", 999);
        change(&mut again);
        match cluster.apply(&add(&again)) {
            Ok((next, _)) => {
                assert_eq!(next, cluster);
                ""
            }
            Err(refusal) => refusal.field().unwrap(),
        }
    };
    assert_eq!(differs(|_| {}), "", "its id was drawn anew");
    assert_eq!(differs(|again| again.node = name("m")), "node");
    assert_eq!(differs(|again| again.usage = Usage::Whole), "usage");
    assert_eq!(differs(|again| again.block_bytes = 4096), "block_bytes");
    assert_eq!(differs(|again| again.sectors += 8), "sectors");
    // Who made a file is no part of what it is; where it lies and how long it is are.
    let made = |path: &str, bytes: u64, created| Medium::File {
        path: path.into(),
        bytes,
        created,
    };
    assert_eq!(differs(|again| again.medium = block("/disks/d", None)), "medium");
    for (medium, expected) in [
        (made("/disks/d", 10 * UNIT * 512, false), ""),
        (made("/disks/e", 10 * UNIT * 512, true), "medium"),
        (made("/disks/d", 9 * UNIT * 512, true), "medium"),
    ] {
        let again = AddDisk {
            medium,
            ..disk("d", 100)
        };
        let found = cluster
            .apply(&add(&again))
            .err()
            .and_then(|refusal| refusal.field());
        assert_eq!(found.unwrap_or_default(), expected);
    }
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    let sized = |sectors, data_end| {
        Command::GrowDisk(GrowDisk {
            name: name("d"),
            sectors,
            data_end,
            expected: None,
        })
    };
    let cluster = lab();
    for (sectors, data_end, expected) in [
        (10 * UNIT, 9 * UNIT, "unchanged"),
        (10 * UNIT - 1, 9 * UNIT, "cannot_shrink"),
        (10 * UNIT, 9 * UNIT - 1, "cannot_shrink"),
        (12 * UNIT, 9 * UNIT - 1, "cannot_shrink"),
        (10 * UNIT, 9 * UNIT + 1, "changed"),
        (10 * UNIT + 1, 9 * UNIT, "changed"),
        (10 * UNIT, 10 * UNIT, "changed"),
        (10 * UNIT, 10 * UNIT + 1, "data_end"),
        (SECTORS_MAX, 9 * UNIT, "changed"),
        (SECTORS_MAX + 1, 9 * UNIT, "sectors"),
    ] {
        let command = sized(sectors, data_end);
        assert_eq!(outcome(&cluster, &command), expected, "{sectors}, {data_end}");
        if expected == "changed" {
            let next = then(&cluster, command);
            let grown = &next.disks[&name("d")];
            assert_eq!((grown.sectors, grown.data_end), (sectors, data_end));
            assert_eq!(
                (grown.medium.bytes(), grown.revision),
                (Some(sectors * 512), next.generation)
            );
        }
    }
    let stale = Command::GrowDisk(GrowDisk {
        name: name("d"),
        sectors: 12 * UNIT,
        data_end: 11 * UNIT,
        expected: Some(Generation(1)),
    });
    assert_eq!(outcome(&cluster, &stale), "revision_mismatch");
    // Whatever has a size of its own keeps it true; a block device is asked for it.
    let more = sized(12 * UNIT, 11 * UNIT);
    for (medium, bytes) in [
        (
            Medium::Null {
                bytes: 10 * UNIT * 512,
            },
            Some(12 * UNIT * 512),
        ),
        (
            Medium::Memory {
                bytes: 10 * UNIT * 512,
            },
            Some(12 * UNIT * 512),
        ),
        (block("/dev/d", None), None),
    ] {
        let begun = then(&Cluster::empty(), lab::init(1, "n", 2));
        let added = then(
            &begun,
            Command::AddDisk(AddDisk {
                medium,
                ..disk("d", 100)
            }),
        );
        assert_eq!(then(&added, more.clone()).disks[&name("d")].medium.bytes(), bytes);
    }
    let large = AddDisk {
        block_bytes: 4096,
        ..disk("d", 100)
    };
    let begun = then(&Cluster::empty(), lab::init(1, "n", 2));
    let added = then(&begun, Command::AddDisk(large));
    assert_eq!(outcome(&added, &sized(10 * UNIT + 4, 9 * UNIT)), "sectors");
    assert_eq!(outcome(&added, &sized(10 * UNIT + 8, 9 * UNIT + 4)), "data_end");
    assert_eq!(outcome(&added, &sized(10 * UNIT + 8, 9 * UNIT + 8)), "changed");
}

fn protect(text: &str, protected: Option<bool>, expected: Option<Generation>) -> Command {
    Command::ChangeDisk(ChangeDisk {
        name: name(text),
        protected,
        expected,
    })
}

#[test]
fn a_disk_that_is_protected_stays_until_that_is_lifted() {
    let cluster = then(&lab(), Command::AddDisk(disk("e", 101)));
    assert_eq!(
        outcome(&cluster, &protect("l", Some(true), None)),
        "disk_not_found"
    );
    assert_eq!(
        outcome(&cluster, &protect("e", Some(true), Some(Generation(1)))),
        "revision_mismatch"
    );
    assert_eq!(outcome(&cluster, &protect("e", None, None)), "unchanged");
    assert_eq!(outcome(&cluster, &protect("e", Some(false), None)), "unchanged");
    let protected = then(&cluster, protect("e", Some(true), None));
    assert_eq!(protected.disks[&name("e")].revision, protected.generation);
    assert_eq!(outcome(&protected, &protect("e", Some(true), None)), "unchanged");
    assert_eq!(outcome(&protected, &protect("e", None, None)), "unchanged");
    for releases in [false, true] {
        assert_eq!(outcome(&protected, &remove_disk("e", releases)), "protected");
    }
    let lifted = then(&protected, protect("e", Some(false), None));
    assert_eq!(outcome(&lifted, &remove_disk("e", false)), "removed");
    assert_eq!(outcome(&lifted, &remove_disk("e", true)), "changed");
}

#[test]
fn a_disk_on_which_something_lies_stays() {
    let cluster = then(&lab(), Command::AddDisk(disk("e", 101)));
    assert_eq!(outcome(&cluster, &remove_disk("l", false)), "disk_not_found");
    assert_eq!(outcome(&cluster, &remove_disk("d", false)), "disk_in_use");
    assert_eq!(outcome(&cluster, &remove_disk("e", false)), "removed");
    let stale = Command::RemoveDisk(RemoveDisk {
        name: name("e"),
        expected: Some(Generation(1)),
        releases: false,
    });
    assert_eq!(outcome(&cluster, &stale), "revision_mismatch");
    // Its second extent lies there.
    let spread = then(
        &cluster,
        Command::GrowVolume(GrowVolume {
            disk: Some(name("e")),
            ..grow("w", 2 * UNIT)
        }),
    );
    assert_eq!(outcome(&spread, &remove_disk("e", false)), "disk_in_use");
    let going = then(&spread, Command::DeleteVolume(delete("w", Some(true))));
    assert_eq!(outcome(&going, &remove_disk("e", false)), "volume_going");
    assert_eq!(
        outcome(&going, &remove_disk("d", false)),
        "disk_in_use",
        "v lies there too"
    );
    let mut part = cluster.clone();
    let pieces = vec![piece(UNIT, "e", 5 * UNIT)];
    let fragment = Fragment {
        name: name("p"),
        sectors: 2 * UNIT,
        block_bytes: 512,
        pieces,
    };
    part.fragments.insert(Uuid(900), fragment);
    assert_eq!(outcome(&part, &remove_disk("e", true)), "disk_holds_fragment");
}
