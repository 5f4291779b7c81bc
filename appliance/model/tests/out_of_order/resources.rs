//! Numbers, permanent ids and disks.

use crate::lab::{name, piece};
use crate::rich::{a_disk, attached, clearing, each, node, rich, volume};
use palisade_model::limits::{SECTORS_MAX, VOLUMES_MAX};
use palisade_model::*;
use palisade_words::limits::{
    ALLOCATION_UNIT_SECTORS as UNIT, ATTACHMENTS_MAX, DISKS_MAX, HISTORY_MAX, NODES_MAX,
};
use palisade_words::{Ancestor, Epoch, FeatureLevel, Generation, Incarnation, LineageId, Name, Uuid};

#[test]
fn a_cluster_begins_with_all_of_its_numbers() {
    assert_eq!(check(&Cluster::empty()), Ok(()));
    let mut counted = Cluster::empty();
    counted.generation = Generation(1);
    assert_eq!(check(&counted), Err(BrokenRule::Beginning));
    let beginning = || Some(BrokenRule::Beginning);
    each(&[
        (beginning(), |all| all.id = Uuid::NIL),
        (beginning(), |all| all.generation = Generation(0)),
        (beginning(), |all| all.epoch = Epoch(0)),
        (None, |all| all.epoch = Epoch(u64::MAX)),
        (beginning(), |all| all.nodes.clear()),
    ]);
}

/// As many as there may be are not too many: what is wrong then is something else, as all are one and the same.
#[test]
fn there_are_no_more_than_there_may_be() {
    fn fill<T: Clone>(of: &mut std::collections::BTreeMap<Name, T>, count: usize) {
        let one = of.values().next().cloned().unwrap();
        for number in 0.. {
            if of.len() >= count {
                return;
            }
            of.insert(name(&format!("more{number}")), one.clone());
        }
    }
    type Fill = fn(&mut Cluster, usize);
    let kinds: [(Kind, usize, Fill); 4] = [
        (Kind::Node, NODES_MAX, |all, count| fill(&mut all.nodes, count)),
        (Kind::Disk, DISKS_MAX, |all, count| fill(&mut all.disks, count)),
        (Kind::Volume, VOLUMES_MAX, |all, count| {
            fill(&mut all.volumes, count)
        }),
        (Kind::Attachment, ATTACHMENTS_MAX, |all, count| {
            fill(&mut all.attachments, count)
        }),
    ];
    for (kind, max, fill) in kinds {
        let mut cluster = rich();
        fill(&mut cluster, max);
        assert!(
            !matches!(check(&cluster), Ok(()) | Err(BrokenRule::Count { .. })),
            "{kind}"
        );
        fill(&mut cluster, max + 1);
        assert_eq!(check(&cluster), Err(BrokenRule::Count { kind }));
    }
}

#[test]
fn nothing_is_older_than_its_creation_or_newer_than_the_cluster() {
    let of = |kind, text| {
        Some(BrokenRule::Revision {
            kind,
            name: name(text),
        })
    };
    fn newest(all: &Cluster) -> Generation {
        all.generation
    }
    fn beyond(all: &Cluster) -> Generation {
        all.generation.next()
    }
    each(&[
        (of(Kind::Node, "m"), |all| node(all, "m").created = Generation(0)),
        (of(Kind::Node, "m"), |all| {
            node(all, "m").created = node(all, "m").revision.next()
        }),
        (of(Kind::Node, "m"), |all| node(all, "m").revision = beyond(all)),
        (None, |all| node(all, "m").revision = newest(all)),
        (of(Kind::Disk, "g"), |all| {
            a_disk(all, "g").created = Generation(0)
        }),
        (of(Kind::Disk, "g"), |all| {
            a_disk(all, "g").created = a_disk(all, "g").revision.next()
        }),
        (of(Kind::Disk, "g"), |all| a_disk(all, "g").revision = beyond(all)),
        (of(Kind::Disk, "g"), |all| {
            a_disk(all, "g").extents_revision = beyond(all)
        }),
        (of(Kind::Disk, "g"), |all| {
            a_disk(all, "g").extents_revision = Generation(1)
        }),
        (None, |all| a_disk(all, "g").extents_revision = newest(all)),
        (of(Kind::Volume, "w"), |all| {
            volume(all, "w").created = Generation(0)
        }),
        (of(Kind::Volume, "w"), |all| {
            volume(all, "w").created = volume(all, "w").revision.next()
        }),
        (of(Kind::Volume, "w"), |all| {
            volume(all, "w").revision = beyond(all)
        }),
        (of(Kind::Volume, "w"), |all| {
            volume(all, "w").layout_revision = Some(beyond(all))
        }),
        (of(Kind::Volume, "w"), |all| {
            volume(all, "w").layout_revision = Some(Generation(1))
        }),
        (None, |all| volume(all, "w").layout_revision = Some(newest(all))),
        (of(Kind::Volume, "w"), |all| {
            volume(all, "w").layout_revision = Some(volume(all, "w").revision);
            volume(all, "w").revision = beyond(all);
        }),
        (of(Kind::Volume, "x"), |all| {
            clearing(all, "x").since = beyond(all)
        }),
        (of(Kind::Volume, "x"), |all| {
            clearing(all, "x").since = Generation(1)
        }),
        (None, |all| clearing(all, "x").since = newest(all)),
        (of(Kind::Attachment, "a"), |all| {
            attached(all, "a").created = Generation(0)
        }),
        (of(Kind::Attachment, "a"), |all| {
            attached(all, "a").revision = beyond(all)
        }),
        (of(Kind::Attachment, "a"), |all| {
            attached(all, "a").revision = Generation(1)
        }),
        (None, |all| attached(all, "a").revision = newest(all)),
    ]);
}

#[test]
fn a_permanent_id_belongs_to_one_of_its_kind() {
    let of = |kind, text| {
        Some(BrokenRule::Uuid {
            kind,
            name: name(text),
        })
    };
    each(&[
        (of(Kind::Node, "m"), |all| node(all, "m").uuid = Uuid::NIL),
        (of(Kind::Disk, "g"), |all| a_disk(all, "g").uuid = Uuid::NIL),
        (of(Kind::Volume, "w"), |all| volume(all, "w").uuid = Uuid::NIL),
        (of(Kind::Node, "n"), |all| {
            node(all, "n").uuid = node(all, "m").uuid
        }),
        (of(Kind::Disk, "g"), |all| {
            a_disk(all, "g").uuid = a_disk(all, "d").uuid
        }),
        (of(Kind::Volume, "w"), |all| {
            volume(all, "w").uuid = volume(all, "v").uuid
        }),
        (of(Kind::Attachment, "a"), |all| {
            attached(all, "a").uuid = Uuid::NIL
        }),
        (of(Kind::Attachment, "b"), |all| {
            attached(all, "b").uuid = attached(all, "a").uuid
        }),
        // Those of different kinds are different things.
        (None, |all| attached(all, "a").uuid = node(all, "n").uuid),
        (None, |all| a_disk(all, "g").uuid = node(all, "n").uuid),
        (None, |all| volume(all, "w").uuid = a_disk(all, "d").uuid),
    ]);
}

/// Who joins is no member before it has started, and nothing counts on it until then.
#[test]
fn a_node_is_what_others_can_count_on() {
    let bad = |text| Some(BrokenRule::Node { node: name(text) });
    let address = |port| std::net::SocketAddr::from(([10, 0, 0, 1], port));
    let of_a_joiner = Some(BrokenRule::Reference {
        kind: Kind::Disk,
        name: name("o"),
    });
    let has_joined = |all: &mut Cluster| {
        node(all, "m").membership = Membership::Joining;
        node(all, "m").incarnation = Incarnation(0);
    };
    let mut joining = rich();
    has_joined(&mut joining);
    assert_eq!(check(&joining).err(), of_a_joiner);
    each(&[
        (bad("m"), |all| node(all, "m").membership = Membership::Joining),
        (bad("m"), |all| {
            node(all, "m").membership = Membership::Joining;
            node(all, "m").incarnation = Incarnation(0);
            node(all, "m").role = NodeRole::Voter;
        }),
        (None, |all| node(all, "m").role = NodeRole::Voter),
        (Some(BrokenRule::Voters), |all| {
            node(all, "n").role = NodeRole::Learner
        }),
        (Some(BrokenRule::FeatureLevel { node: name("m") }), |all| {
            node(all, "m").feature_level = FeatureLevel(0);
        }),
        (Some(BrokenRule::FeatureLevel { node: name("m") }), |all| {
            all.feature_level = FEATURE_LEVEL.next();
        }),
        (None, |all| all.feature_level = FeatureLevel(0)),
        (bad("n"), |all| {
            node(all, "n").addresses = vec![([0, 0, 0, 0], 7).into()];
        }),
        (bad("n"), |all| {
            node(all, "n").addresses = vec![([10, 0, 0, 1], 0).into()];
        }),
        (bad("n"), |all| {
            node(all, "n").addresses = vec![([10, 0, 0, 1], 7).into(), ([10, 0, 0, 1], 7).into()];
        }),
        (None, |all| {
            node(all, "n").addresses = vec![([10, 0, 0, 1], 7).into(), ([10, 0, 0, 1], 8).into()];
        }),
        (bad("n"), |all| {
            node(all, "m").addresses = vec![([10, 0, 0, 1], 7).into()];
            node(all, "n").addresses = vec![([10, 0, 0, 1], 7).into()];
        }),
    ]);
    let mut many = rich();
    node(&mut many, "n").addresses = (1..=16).map(address).collect();
    assert_eq!(check(&many), Ok(()));
    node(&mut many, "n").addresses.push(address(17));
    assert_eq!(check(&many).err(), bad("n"));
}

#[test]
fn a_path_leads_from_another_member() {
    fn reaches(all: &mut Cluster, disk: &str, node: &str, path: &str, since: u64) {
        let path = DiskPath {
            path: path.into(),
            since: Generation(since),
        };
        a_disk(all, disk).other_paths.insert(name(node), path);
    }
    let bad = |disk, node| {
        Some(BrokenRule::Path {
            disk: name(disk),
            node: name(node),
        })
    };
    each(&[
        (None, |all| reaches(all, "d", "m", "/x", 1)),
        (bad("d", "n"), |all| reaches(all, "d", "n", "/x", 1)),
        (bad("d", "l"), |all| reaches(all, "d", "l", "/x", 1)),
        (bad("d", "m"), |all| reaches(all, "d", "m", "x", 1)),
        (bad("d", "m"), |all| reaches(all, "d", "m", "/x", 0)),
        (bad("d", "m"), |all| reaches(all, "d", "m", "/x", 10_000)),
        (bad("h", "m"), |all| reaches(all, "h", "m", "/x", 1)),
    ]);
}

#[test]
fn a_disks_sizes_fit_together() {
    let bad = |text| {
        Some(BrokenRule::Geometry {
            kind: Kind::Disk,
            name: name(text),
        })
    };
    let nowhere = Some(BrokenRule::Reference {
        kind: Kind::Disk,
        name: name("h"),
    });
    each(&[
        (nowhere, |all| a_disk(all, "h").node = name("l")),
        (bad("h"), |all| a_disk(all, "h").block_bytes = 0),
        (bad("h"), |all| a_disk(all, "h").block_bytes = 1024),
        (None, |all| a_disk(all, "h").block_bytes = 4096),
        // A whole disk is all data.
        (bad("g"), |all| a_disk(all, "g").data_start = 8),
        (bad("g"), |all| a_disk(all, "g").data_end -= 8),
        (bad("g"), |all| a_disk(all, "g").sectors += 8),
        (None, |all| {
            (a_disk(all, "g").sectors, a_disk(all, "g").data_end) = (SECTORS_MAX, SECTORS_MAX)
        }),
        (bad("g"), |all| {
            (a_disk(all, "g").sectors, a_disk(all, "g").data_end) = (SECTORS_MAX + 8, SECTORS_MAX + 8);
        }),
        // A pooled one has some, inside.
        (bad("h"), |all| a_disk(all, "h").data_start = 9 * UNIT),
        (None, |all| a_disk(all, "h").data_start = 9 * UNIT - 1),
        (None, |all| a_disk(all, "h").data_end = 10 * UNIT),
        (bad("h"), |all| a_disk(all, "h").data_end = 10 * UNIT + 1),
        // Whole blocks.
        (bad("f"), |all| a_disk(all, "f").data_start -= 1),
        (bad("f"), |all| a_disk(all, "f").data_end += 4),
        (bad("f"), |all| {
            a_disk(all, "f").sectors += 4;
            a_disk(all, "f").medium = Medium::Block {
                path: "/f".into(),
                wwid: None,
            };
        }),
        // As long as the medium is.
        (bad("h"), |all| {
            a_disk(all, "h").medium = Medium::Memory {
                bytes: 10 * UNIT * 512 + 512,
            }
        }),
        (bad("h"), |all| {
            a_disk(all, "h").medium = Medium::Null {
                bytes: 10 * UNIT * 512 - 512,
            }
        }),
        (bad("d"), |all| {
            a_disk(all, "d").medium = Medium::File {
                path: "/d".into(),
                bytes: 512,
                created: true,
            };
        }),
        (None, |all| {
            a_disk(all, "h").medium = Medium::Null {
                bytes: 10 * UNIT * 512,
            }
        }),
    ]);
}

#[test]
fn a_disk_that_leaves_is_empty_and_one_that_stays_knows_its_present() {
    let leaving = |text| Some(BrokenRule::Leaving { disk: name(text) });
    let past = |text| Some(BrokenRule::History { disk: name(text) });
    fn history(points: impl Iterator<Item = u64>, last: Generation) -> History {
        let numbers = points.chain([last.0]);
        let list: Vec<_> = numbers
            .map(|number| Ancestor {
                generation: Generation(number),
                id: LineageId(1),
            })
            .collect();
        serde_json::from_str(&serde_json::to_string(&list).unwrap()).unwrap()
    }
    fn of(all: &mut Cluster, text: &str, before: usize) {
        let last = a_disk(all, text).superblock_generation();
        a_disk(all, text).history = history((0..before as u64).map(|_| 1), last);
    }
    each(&[
        (None, |all| a_disk(all, "h").leaving = true),
        (leaving("d"), |all| a_disk(all, "d").leaving = true),
        // Of the fragment alone.
        (leaving("h"), |all| {
            let piece = piece(0, "h", UNIT);
            let pieces = vec![piece];
            let fragment = Fragment {
                name: name("p"),
                sectors: UNIT,
                block_bytes: 512,
                pieces,
            };
            all.fragments.insert(Uuid(901), fragment);
            a_disk(all, "h").leaving = true;
        }),
        (past("d"), |all| a_disk(all, "d").history = History::default()),
        (None, |all| of(all, "d", HISTORY_MAX - 1)),
        (past("d"), |all| of(all, "d", HISTORY_MAX)),
        (past("d"), |all| {
            a_disk(all, "d").history = history([].into_iter(), Generation(1))
        }),
        // What keeps no superblock has none to tell of; nor has a database from before there were lineages.
        (past("h"), |all| of(all, "h", 0)),
        (past("g"), |all| of(all, "g", 0)),
        (None, |all| *all = all.clone().unrooted()),
        (past("d"), |all| all.lineage = LineageId::NIL),
    ]);
}
