//! What becomes of volumes of which disks that are imported tell: all of them, a part, or more than the database knows.

#![cfg(test)]

mod lab;

use lab::imported::{Told, begun, found, import, layout, taken, told};
use lab::{
    after, attachment, change_volume, create, disk, grow, lab, lab_of_two_nodes, name, outcome, piece,
    refusal, then,
};
use palisade_model::*;
use palisade_words::Uuid;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;

/// A volume is its parts, one behind the other: no gap, nothing twice, nothing beyond; else it waits as a fragment.
#[test]
fn parts_make_a_volume_when_they_are_exactly_all_of_it() {
    let both = |first: Told, second: Told| vec![found("d", 100, &[first]), found("e", 101, &[second])];
    let head = ("x", 3 * UNIT, 0, UNIT, UNIT);
    let cases = [
        (true, both(head, ("x", 3 * UNIT, UNIT, UNIT, 2 * UNIT))),
        (true, both(("x", 3 * UNIT, UNIT, UNIT, 2 * UNIT), head)),
        (false, both(head, ("x", 3 * UNIT, UNIT, UNIT, 2 * UNIT - 8))),
        (false, both(head, ("x", 3 * UNIT, 2 * UNIT, UNIT, UNIT))),
        (false, vec![found("d", 100, &[head])]),
        // Two sizes are told: the larger is the later, if it is all there; else the smaller is, if nothing is beyond.
        (
            true,
            both(("x", UNIT, 0, UNIT, UNIT), ("x", 2 * UNIT, UNIT, UNIT, UNIT)),
        ),
        (true, both(("x", UNIT, 0, UNIT, UNIT), ("y", UNIT, 0, UNIT, UNIT))),
        // Growth fills the last unit on a disk first.
        (
            true,
            vec![found(
                "d",
                100,
                &[
                    ("x", 2 * UNIT, 0, UNIT, UNIT),
                    ("x", 2 * UNIT, UNIT, 4 * UNIT, UNIT),
                ],
            )],
        ),
        (
            false,
            vec![found(
                "d",
                100,
                &[("x", UNIT, 0, UNIT, UNIT - 8), ("x", UNIT, UNIT - 8, 4 * UNIT, 8)],
            )],
        ),
        (
            true,
            both(("x", UNIT, 0, UNIT, UNIT - 8), ("x", UNIT, UNIT - 8, UNIT, 8)),
        ),
    ];
    for (number, (whole, disks)) in cases.into_iter().enumerate() {
        let next = taken(&begun(), &disks);
        let is_part = next.fragments.contains_key(&lab::uuid_of("x"));
        assert_eq!(
            (next.volumes.contains_key(&name("x")), is_part),
            (whole, !whole),
            "case {number}"
        );
        for disk in next.disks.values() {
            assert_eq!(disk.extents_revision, next.generation);
        }
    }
    // One over the other is nobody's.
    let over = both(head, ("x", 3 * UNIT, UNIT - 8, UNIT, UNIT));
    assert_eq!(outcome(&begun(), &import(&over)), "import_overlaps");
}

/// On disks of two nodes, with blocks too small, or in too many pieces: it can be told, and not served.
#[test]
fn what_no_node_can_serve_stays_a_fragment() {
    let parts = || {
        [
            found("d", 100, &[("x", 2 * UNIT, 0, UNIT, UNIT)]),
            found("e", 101, &[("x", 2 * UNIT, UNIT, UNIT, UNIT)]),
        ]
    };
    let mut two_nodes = lab_of_two_nodes();
    (two_nodes.disks, two_nodes.volumes, two_nodes.attachments) = Default::default();
    let is_whole = |disks: &[ImportedDisk]| !taken(&two_nodes, disks).volumes.is_empty();
    assert!(is_whole(&parts()));
    let mut apart = parts();
    apart[1].disk.node = name("m");
    assert!(!is_whole(&apart));
    let mut blocks = parts();
    blocks[1].disk.block_bytes = 4096;
    assert!(!is_whole(&blocks));
    blocks
        .iter_mut()
        .for_each(|disk| disk.extents[0].block_bytes = 4096);
    assert!(is_whole(&blocks));
    for (pieces, whole) in [(64, true), (65, false)] {
        let mut many = found("d", 100, &[]);
        let sectors = 1000 * UNIT;
        (many.disk.sectors, many.disk.data_end) = (sectors, sectors - UNIT);
        many.disk.medium = Medium::Block {
            path: "/dev/d".into(),
            wwid: None,
        };
        many.extents = (0..pieces)
            .map(|at| told(&("x", pieces * UNIT, at * UNIT, (2 * at + 1) * UNIT, UNIT)))
            .collect();
        assert_eq!(is_whole(&[many]), whole, "{pieces}");
    }
}

/// What the cluster knows of a volume whose disks are told of anew.
#[test]
fn a_known_volume_goes_on_with_what_is_told_of_it() {
    let on_two = [disk("d", 100), disk("e", 101)].map(Command::AddDisk);
    let known = after(&begun(), on_two);
    let mut known = after(
        &known,
        [
            Command::CreateVolume(CreateVolume {
                clear: Some(Clear::OnDelete),
                ..create("x")
            }),
            Command::GrowVolume(GrowVolume {
                disk: Some(name("e")),
                ..grow("x", 2 * UNIT)
            }),
            Command::ChangeVolume(ChangeVolume {
                protected: Some(true),
                ..lab::change_volume("x")
            }),
            Command::CreateVolume(CreateVolume {
                disk: Some(name("e")),
                ..create("y")
            }),
        ],
    );
    let head = ("x", 2 * UNIT, 0, UNIT, UNIT);
    let next = taken(&known, &[found("d", 100, &[head])]);
    assert_eq!(
        layout(&next, "x"),
        [("d".into(), UNIT, UNIT), ("e".into(), UNIT, UNIT)]
    );
    let volume = &next.volumes[&name("x")];
    assert!(volume.protected && volume.clear == Some(Clear::OnDelete) && volume.uuid == lab::uuid_of("x"));
    assert_eq!(volume.created, known.volumes[&name("x")].created);
    assert_eq!(
        next.volumes[&name("y")],
        known.volumes[&name("y")],
        "it does not lie there, nor is it told of"
    );
    // What is said of it has changed on the other disk too.
    assert_eq!(next.disks[&name("e")].extents_revision, next.generation);
    // A size that is told and not all there is that of a change which did not get to its end.
    let larger = taken(&known, &[found("d", 100, &[("x", 3 * UNIT, 0, UNIT, UNIT)])]);
    assert_eq!(larger.volumes[&name("x")].sectors, 2 * UNIT);
    // Longer than what follows it leaves room for, and shorter, so that something is missing in between.
    let longer = import(&[found("d", 100, &[("x", 3 * UNIT, 0, UNIT, 2 * UNIT)])]);
    assert_eq!(outcome(&known, &longer), "import_overlaps");
    let next = taken(&known, &[found("d", 100, &[("x", 2 * UNIT, 0, UNIT, UNIT - 8)])]);
    assert_eq!(next.fragments[&lab::uuid_of("x")].pieces.len(), 2);
    // Of two sizes the larger is what it is to be.
    let next = taken(&known, &[found("d", 100, &[("x", 3 * UNIT, 0, UNIT, UNIT - 8)])]);
    assert_eq!(next.fragments[&lab::uuid_of("x")].sectors, 3 * UNIT);
    // Nothing is told of it any more: what is left is a fragment of its size; or it is gone.
    let next = taken(&known, &[found("d", 100, &[])]);
    let fragment = &next.fragments[&lab::uuid_of("x")];
    assert_eq!(
        (fragment.sectors, fragment.pieces.as_slice()),
        (2 * UNIT, &[piece(UNIT, "e", UNIT)][..])
    );
    let next = taken(&known, &[found("d", 100, &[]), found("e", 101, &[])]);
    assert!(next.fragments.is_empty() && next.volumes.is_empty());
    // All of it is told of anew, and smaller: what the database said counts no longer.
    let smaller = [
        found("d", 100, &[("x", UNIT, 0, UNIT, UNIT)]),
        found("e", 101, &[]),
    ];
    assert_eq!(layout(&taken(&known, &smaller), "x"), [("d".into(), UNIT, UNIT)]);
    // A fragment that is told of further, and one that is not.
    let part = |text: &str, at| {
        let pieces = vec![piece(UNIT, "e", at)];
        Fragment {
            name: name(text),
            sectors: 2 * UNIT,
            block_bytes: 512,
            pieces,
        }
    };
    known.fragments = [
        (lab::uuid_of("p"), part("p", 5 * UNIT)),
        (lab::uuid_of("q"), part("q", 7 * UNIT)),
    ]
    .into();
    let next = taken(
        &known,
        &[found("d", 100, &[head, ("p", 2 * UNIT, 0, 3 * UNIT, UNIT)])],
    );
    assert_eq!(
        layout(&next, "p"),
        [("d".into(), 3 * UNIT, UNIT), ("e".into(), 5 * UNIT, UNIT)]
    );
    assert!(next.fragments.keys().eq([&lab::uuid_of("q")]));
    assert_eq!(next.volumes[&name("p")].created, next.generation);
}

/// A guest has the volume: it is not made another one under it, and not taken away.
#[test]
fn an_attached_volume_is_not_taken_apart() {
    let cluster = then(&lab(), Command::AddDisk(disk("e", 101)));
    let with = |extents: &[Told]| import(&[found("d", 100, extents)]);
    let (v, w) = (("v", UNIT, 0, UNIT, UNIT), ("w", UNIT, 0, 2 * UNIT, UNIT));
    for (extents, expected) in [
        (&[v, w][..], "changed"),
        (&[v], "changed"),
        (&[w], "volume_in_use"),
        (&[("v", 2 * UNIT, 0, UNIT, UNIT)], "volume_in_use"),
    ] {
        assert_eq!(outcome(&cluster, &with(extents)), expected, "{extents:?}");
    }
    let (volume, attached) = (name("v"), name("a"));
    assert_eq!(
        refusal(&cluster, with(&[])),
        Refusal::VolumeInUse {
            volume,
            attachment: attached
        }
    );
    // Another one's part of that name is nobody's attachment.
    let mut other = found("x", 109, &[("v", 2 * UNIT, 0, UNIT, UNIT)]);
    other.extents[0].volume = Uuid(77);
    assert_eq!(outcome(&cluster, &import(&[other])), "changed");
    assert_eq!(
        outcome(&cluster, &Command::CreateAttachment(attachment())),
        "unchanged"
    );
}

#[test]
fn a_volume_gets_its_own_name_or_one_that_tells_it_apart() {
    let id = Uuid(0xabcd_ef01 << 96 | 5);
    let with = |text: &str| {
        let mut disk = found("x", 109, &[("v", UNIT, 0, UNIT, UNIT)]);
        (disk.extents[0].volume, disk.extents[0].name) = (id, name(text));
        disk
    };
    let long = "l".repeat(63);
    let dashed = format!("{}-y{}", "l".repeat(53), "l".repeat(8));
    let own = |cluster: &Cluster, text: &str| {
        let next = taken(cluster, &[with(text)]);
        let mut volumes = next.volumes.iter();
        volumes
            .find(|(_, volume)| volume.uuid == id)
            .unwrap()
            .0
            .to_string()
    };
    let holds = |names: &[&str]| {
        let begun = then(&begun(), Command::AddDisk(disk("d", 100)));
        let create = |text: &&str| {
            let uuid = Uuid(text.bytes().fold(7, |sum: u128, byte| {
                sum.wrapping_mul(31).wrapping_add(byte.into())
            }));
            Command::CreateVolume(CreateVolume { uuid, ..create(text) })
        };
        after(&begun, names.iter().map(create))
    };
    assert_eq!(own(&holds(&[]), "v"), "v");
    assert_eq!(own(&holds(&["v"]), "v"), "v-abcdef01");
    let all = format!("v-{id}");
    assert_eq!(own(&holds(&["v", "v-abcdef01"]), "v"), all);
    assert_eq!(own(&holds(&["v", "v-abcdef01", &all]), "v"), id.to_string());
    // A name of 63 bytes has room for no more.
    assert_eq!(
        own(&holds(&[&long]), &long),
        format!("{}-abcdef01", "l".repeat(54))
    );
    assert_eq!(
        own(&holds(&[&dashed]), &dashed),
        format!("{}-abcdef01", "l".repeat(53))
    );
    let fits = "l".repeat(54);
    assert_eq!(own(&holds(&[&fits]), &fits), format!("{fits}-abcdef01"));
}

/// What a disk told of a part of a volume is told anew by the same disk, and counts once.
#[test]
fn a_part_that_is_told_of_again_is_that_part() {
    let half = ("x", 2 * UNIT, UNIT, UNIT, UNIT);
    let once = taken(&begun(), &[found("d", 100, &[half])]);
    let again = taken(&once, &[found("d", 100, &[half])]);
    assert_eq!(once.fragments, again.fragments);
    let moved = taken(
        &once,
        &[found("d", 100, &[("x", 3 * UNIT, UNIT, 4 * UNIT, UNIT)])],
    );
    let fragment = &moved.fragments[&lab::uuid_of("x")];
    assert_eq!(
        (fragment.sectors, fragment.pieces.as_slice()),
        (3 * UNIT, &[piece(UNIT, "d", 4 * UNIT)][..])
    );
    let gone = taken(&once, &[found("d", 100, &[])]);
    assert!(gone.fragments.is_empty());
}

/// What a disk says may not take away what an operator has protected, be it a part of it; commands of earlier versions did.
#[test]
fn a_protected_volume_is_not_taken_away_by_what_a_disk_says() {
    let protect = |protected| {
        Command::ChangeVolume(ChangeVolume {
            protected: Some(protected),
            ..change_volume("x")
        })
    };
    let told = |extents: &[Told]| {
        let disks = vec![found("d", 100, extents)];
        move |regards_protection| {
            Command::ImportDisks(ImportDisks {
                disks: disks.clone(),
                cluster: None,
                holds_clearings: false,
                regards_protection,
            })
        }
    };
    let x = ("x", 2 * UNIT, 0, UNIT, 2 * UNIT);
    let before = then(&taken(&begun(), &[found("d", 100, &[x])]), protect(true));
    assert!(before.volumes[&name("x")].protected);
    for (says, extents) in [
        ("nothing of it", vec![]),
        ("something else", vec![("y", UNIT, 0, UNIT, UNIT)]),
        ("a part of it", vec![("x", 2 * UNIT, 0, UNIT, UNIT)]),
        ("a smaller one", vec![("x", UNIT, 0, UNIT, UNIT)]),
    ] {
        let import = told(&extents);
        let refused = refusal(&before, import(true));
        let expected = Refusal::Protected {
            kind: Kind::Volume,
            name: name("x"),
        };
        assert_eq!(refused, expected, "{says}");
        assert_eq!(outcome(&before, &import(false)), "changed", "{says}");
        let lifted = then(&before, protect(false));
        assert_eq!(outcome(&lifted, &import(true)), "changed", "{says}");
    }
    // All of it, elsewhere on the disk and larger, beside others that come and go.
    for extents in [
        vec![x],
        vec![("x", 3 * UNIT, 0, 4 * UNIT, 3 * UNIT), ("y", UNIT, 0, UNIT, UNIT)],
    ] {
        let next = then(&before, told(&extents)(true));
        assert!(next.volumes[&name("x")].protected);
    }
}
