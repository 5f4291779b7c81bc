//! Volumes, where they lie, what is left of those that are not whole, and who has them.

use crate::lab::{name, piece};
use crate::rich::{a_disk, attached, clearing, each, extents, fragment, volume};
use palisade_model::limits::SECTORS_MAX;
use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{FeatureLevel, Uuid};

#[test]
fn a_volume_lies_on_disks_of_its_node_from_a_unit_on_and_inside_the_data() {
    let nowhere = Some(BrokenRule::Reference {
        kind: Kind::Volume,
        name: name("w"),
    });
    let broken = |text, index| {
        Some(BrokenRule::Extent {
            volume: name(text),
            index,
        })
    };
    let sizes = |text| {
        Some(BrokenRule::Geometry {
            kind: Kind::Volume,
            name: name(text),
        })
    };
    each(&[
        (nowhere.clone(), |all| extents(all, "w")[0].disk = name("l")),
        // Its second extent on another node.
        (nowhere, |all| {
            let elsewhere = Extent {
                disk: name("o"),
                disk_lba: 5 * UNIT,
                sectors: UNIT,
            };
            extents(all, "w").push(elsewhere);
            volume(all, "w").sectors += UNIT;
        }),
        (broken("w", 0), |all| extents(all, "w")[0].disk_lba = 0),
        (None, |all| extents(all, "w")[0].disk_lba = 8 * UNIT),
        (broken("w", 0), |all| extents(all, "w")[0].disk_lba = 8 * UNIT + 8),
        (broken("w", 0), |all| extents(all, "w")[0].disk_lba = 9 * UNIT),
        (broken("w", 0), |all| {
            extents(all, "w")[0].disk_lba = u64::MAX - UNIT + 1
        }),
        (broken("w", 0), |all| extents(all, "w")[0].sectors = 0),
        (broken("v", 1), |all| extents(all, "v")[1].sectors = 0),
        // The last unit there is, to its last sector and one further.
        (None, |all| {
            (extents(all, "w")[0].disk_lba, extents(all, "w")[0].sectors) = (7 * UNIT, 2 * UNIT);
            volume(all, "w").sectors = 2 * UNIT;
        }),
        (broken("w", 0), |all| {
            (extents(all, "w")[0].disk_lba, extents(all, "w")[0].sectors) = (7 * UNIT, 2 * UNIT + 1);
            volume(all, "w").sectors = 2 * UNIT + 1;
        }),
        // A whole disk from its first sector.
        (broken("y", 0), |all| {
            (extents(all, "y")[0].disk_lba, extents(all, "y")[0].sectors) = (UNIT, 3 * UNIT);
            volume(all, "y").sectors = 3 * UNIT;
        }),
        (None, |all| {
            extents(all, "y")[0].sectors = 3 * UNIT;
            volume(all, "y").sectors = 3 * UNIT;
        }),
        // Nothing is between two extents on one disk but whole units; on two disks there may be.
        (broken("w", 1), |all| {
            extents(all, "w")[0].sectors = UNIT - 8;
            extents(all, "w").push(Extent {
                disk: name("d"),
                disk_lba: 5 * UNIT,
                sectors: 8,
            });
        }),
        (None, |all| {
            extents(all, "w")[0].sectors = UNIT - 8;
            extents(all, "w").push(Extent {
                disk: name("h"),
                disk_lba: 5 * UNIT,
                sectors: 8,
            });
        }),
        (None, |all| {
            extents(all, "w").push(Extent {
                disk: name("d"),
                disk_lba: 5 * UNIT,
                sectors: 8,
            });
            volume(all, "w").sectors += 8;
        }),
        // A block is no smaller than the disk's.
        (broken("x", 0), |all| volume(all, "x").block_bytes = 512),
        (None, |all| volume(all, "w").block_bytes = 4096),
        (sizes("w"), |all| volume(all, "w").block_bytes = 1024),
        (sizes("w"), |all| volume(all, "w").sectors += 8),
        (sizes("w"), |all| volume(all, "w").sectors -= 8),
        (sizes("w"), |all| {
            extents(all, "w")[0].sectors = UNIT - 4;
            (volume(all, "w").sectors, volume(all, "w").block_bytes) = (UNIT - 4, 4096);
        }),
        (sizes("w"), |all| {
            extents(all, "w").clear();
            volume(all, "w").sectors = 0;
        }),
    ]);
}

/// The largest volume there may be, on a disk that is larger than any.
#[test]
fn a_volume_has_at_most_as_many_sectors_as_fit() {
    let cluster = crate::rich::rich();
    for (sectors, fits) in [(SECTORS_MAX, true), (SECTORS_MAX + 8, false)] {
        let mut cluster = cluster.clone();
        let disk = a_disk(&mut cluster, "g");
        (disk.sectors, disk.data_end) = (SECTORS_MAX, SECTORS_MAX);
        extents(&mut cluster, "y")[0].sectors = sectors;
        volume(&mut cluster, "y").sectors = sectors;
        assert_eq!(check(&cluster).is_ok(), fits, "{sectors}");
    }
}

#[test]
fn what_is_to_be_cleared_lies_behind_what_guests_use() {
    let bad = |text| Some(BrokenRule::Clearing { volume: name(text) });
    each(&[
        (None, |all| clearing(all, "x").cleared = 8),
        (bad("x"), |all| clearing(all, "x").cleared = 12),
        (None, |all| clearing(all, "x").from = 16),
        (bad("x"), |all| clearing(all, "x").from = 24),
        (bad("x"), |all| clearing(all, "x").from = 4),
        (None, |all| clearing(all, "x").cleared = UNIT - 8),
        (bad("x"), |all| clearing(all, "x").cleared = UNIT),
        // One that is deleted has something to be cleared, and nobody uses it.
        (bad("w"), |all| volume(all, "w").deleting = true),
        (bad("z"), |all| volume(all, "z").clearing = None),
        (bad("z"), |all| {
            (clearing(all, "z").from, clearing(all, "z").cleared) = (8, 8)
        }),
        (None, |all| {
            (clearing(all, "x").from, volume(all, "x").deleting) = (0, true)
        }),
        (bad("z"), |all| {
            attached(all, "b").volume = name("z");
            attached(all, "b").node = name("n");
            attached(all, "b").socket = "/run/c.sock".into();
        }),
    ]);
}

#[test]
fn no_sector_is_two_volumes() {
    let over = |disk, first, second| {
        let [disk, first, second] = [disk, first, second].map(name);
        Some(BrokenRule::Overlap { disk, first, second })
    };
    each(&[
        (over("d", "v", "w"), |all| extents(all, "w")[0].disk_lba = UNIT),
        // A unit has one owner, to its last sector.
        (over("d", "v", "w"), |all| {
            extents(all, "v")[0].sectors = UNIT + 8;
            volume(all, "v").sectors += 8;
        }),
        (over("e", "part", "z"), |all| {
            extents(all, "z")[0].disk_lba = 5 * UNIT
        }),
        (over("e", "part", "part"), |all| {
            fragment(all).pieces[1].extent.disk_lba = 5 * UNIT
        }),
        (None, |all| fragment(all).pieces[1].extent.disk_lba = 6 * UNIT),
        // A whole disk is one volume's.
        (over("g", "w", "y"), |all| {
            extents(all, "w")[0] = Extent {
                disk: name("g"),
                disk_lba: 0,
                sectors: UNIT,
            };
        }),
    ]);
}

#[test]
fn the_parts_of_a_volume_that_is_not_whole_fit_together() {
    let bad = || Some(BrokenRule::Fragment { name: name("part") });
    each(&[
        (bad(), |all| {
            let part = fragment(all).clone();
            all.fragments.clear();
            all.fragments.insert(Uuid::NIL, part);
        }),
        (bad(), |all| {
            let (part, uuid) = (fragment(all).clone(), volume(all, "v").uuid);
            all.fragments.clear();
            all.fragments.insert(uuid, part);
        }),
        (bad(), |all| fragment(all).pieces.clear()),
        (bad(), |all| fragment(all).block_bytes = 0),
        (bad(), |all| fragment(all).block_bytes = 2048),
        (None, |all| fragment(all).block_bytes = 4096),
        (bad(), |all| {
            (fragment(all).block_bytes, fragment(all).sectors) = (4096, 4 * UNIT + 4)
        }),
        (None, |all| fragment(all).sectors = SECTORS_MAX),
        (bad(), |all| fragment(all).sectors = SECTORS_MAX + 8),
        // In order, none over another, inside the volume.
        (None, |all| fragment(all).pieces[1].volume_lba = UNIT),
        (bad(), |all| fragment(all).pieces[1].volume_lba = UNIT - 1),
        (bad(), |all| fragment(all).pieces.reverse()),
        (None, |all| fragment(all).sectors = 3 * UNIT),
        (bad(), |all| fragment(all).sectors = 3 * UNIT - 8),
        (bad(), |all| {
            fragment(all).pieces[1].volume_lba = u64::MAX - UNIT + 1
        }),
        (bad(), |all| fragment(all).pieces[0].extent.disk = name("l")),
        (bad(), |all| fragment(all).pieces[1].extent.disk_lba += 8),
        (bad(), |all| {
            fragment(all).pieces.push(piece(3 * UNIT, "e", 9 * UNIT))
        }),
    ]);
}

#[test]
fn an_attachment_is_where_its_volume_is_and_has_a_socket_of_its_own() {
    let nowhere = |text| {
        Some(BrokenRule::Reference {
            kind: Kind::Attachment,
            name: name(text),
        })
    };
    let shared = |text| {
        Some(BrokenRule::Socket {
            attachment: name(text),
        })
    };
    let beside = |text| Some(BrokenRule::Writers { volume: name(text) });
    each(&[
        (nowhere("a"), |all| attached(all, "a").volume = name("l")),
        (nowhere("a"), |all| {
            all.feature_level = FeatureLevel(4);
            attached(all, "a").node = name("m");
        }),
        // From level 5 on a node need not reach what it offers, but has to be one.
        (None, |all| {
            let a = attached(all, "a");
            (a.node, a.socket) = (name("m"), "/run/other.sock".into());
        }),
        (nowhere("a"), |all| attached(all, "a").node = name("zz")),
        (beside("q"), |all| attached(all, "a").volume = name("q")),
        // Of the two on one node; `a` and `b` have the same path on two.
        (shared("s"), |all| {
            attached(all, "s").socket = attached(all, "r").socket.clone()
        }),
        (None, |all| attached(all, "s").socket = "/run/b.sock".into()),
        (beside("y"), |all| attached(all, "r").read_only = false),
        (beside("y"), |all| attached(all, "s").read_only = false),
        (beside("v"), |all| attached(all, "r").volume = name("v")),
        (None, |all| attached(all, "a").read_only = true),
    ]);
}
