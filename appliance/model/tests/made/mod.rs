//! Commands as careless operators send them: few names, small disks, so that they get in each other's way.

use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Epoch, FeatureLevel, Generation, Incarnation, Name, Sha256Sum, Uuid};
use proptest::prelude::*;
use std::net::SocketAddr;

pub fn name(prefix: &str, number: u8) -> Name {
    Name::new(format!("{prefix}{number}")).expect("a good name")
}

/// A cluster of one node, `n0`.
pub fn init() -> Command {
    Command::InitCluster(InitCluster {
        id: Uuid(1),
        node: name("n", 0),
        node_uuid: Uuid(2),
    })
}

/// Sizes around the borders of units and blocks, some of them wrong.
fn sectors() -> impl Strategy<Value = u64> {
    prop_oneof![
        (1u64..12).prop_map(|units| units * UNIT),
        (1u64..12, 1u64..40).prop_map(|(units, more)| units * UNIT + more),
        (1u64..64).prop_map(|blocks| blocks * 8),
        Just(0),
        Just(u64::MAX),
    ]
}

fn expected() -> impl Strategy<Value = Option<Generation>> {
    prop_oneof![4 => Just(None), 1 => (0u64..20).prop_map(|at| Some(Generation(at)))]
}

fn block() -> impl Strategy<Value = u32> {
    prop_oneof![6 => Just(512u32), 3 => Just(4096), 1 => any::<u32>()]
}

fn add_disk() -> impl Strategy<Value = Command> {
    let medium = (0u8..6, 0u8..4);
    (
        0u8..4,
        3u128..20,
        medium,
        any::<bool>(),
        block(),
        1u64..16,
        0u64..3,
    )
        .prop_map(|(disk, uuid, (kind, place), pooled, block_bytes, units, start)| {
            let sectors = units * UNIT + 16;
            let bytes = sectors * 512;
            let path = format!("/disks/{place}");
            let medium = match kind {
                0 => Medium::Null { bytes },
                1 => Medium::Memory { bytes },
                2 | 3 => Medium::File {
                    path,
                    bytes,
                    created: kind == 2,
                },
                _ => Medium::Block {
                    path,
                    wwid: (kind == 4).then(|| format!("naa.{place}")),
                },
            };
            let (usage, data_start, data_end) = match pooled {
                true => (Usage::Pooled, start * 8, sectors - 8),
                false => (Usage::Whole, 0, sectors),
            };
            Command::AddDisk(AddDisk {
                name: name("d", disk),
                uuid: Uuid(uuid),
                node: name("n", u8::from(place == 3 && !pooled)),
                medium,
                record: MediumRecord::default(),
                usage,
                block_bytes,
                sectors,
                data_start,
                data_end,
                superblock_pending: false,
            })
        })
}

fn grow_disk() -> impl Strategy<Value = Command> {
    (0u8..4, 1u64..20, 0u64..16, expected()).prop_map(|(disk, units, less, expected)| {
        let sectors = units * UNIT + 16;
        let data_end = sectors - less / 8 * 8;
        Command::GrowDisk(GrowDisk {
            name: name("d", disk),
            sectors,
            data_end,
            expected,
        })
    })
}

fn identify_disk() -> impl Strategy<Value = Command> {
    let path = proptest::option::of((0u8..5).prop_map(|place| format!("/disks/{place}")));
    let wwid = proptest::option::of((0u8..5).prop_map(|place| format!("naa.{place}")));
    let serial = proptest::option::of("[ -~]{0,3}");
    (0u8..4, path, wwid, serial, any::<bool>(), expected()).prop_map(
        |(disk, path, wwid, serial, confirmed, expected)| {
            Command::IdentifyDisk(IdentifyDisk {
                name: name("d", disk),
                path,
                wwid,
                record: MediumRecord {
                    serial,
                    ..MediumRecord::default()
                },
                confirmed,
                expected,
            })
        },
    )
}

fn relocate_disks() -> impl Strategy<Value = Command> {
    let wwid = proptest::option::of((0u8..5).prop_map(|place| format!("naa.{place}")));
    let serial = proptest::option::of("[ -~]{0,3}");
    let medium = (wwid, serial).prop_map(|(wwid, serial)| FoundMedium {
        wwid,
        record: MediumRecord {
            serial,
            ..MediumRecord::default()
        },
    });
    let found = proptest::option::of(medium);
    let one = (0u8..4, 3u128..20, 0u8..5, found, any::<bool>(), expected()).prop_map(
        |(disk, uuid, place, found, confirmed, expected)| Relocation {
            name: name("d", disk),
            uuid: Uuid(uuid),
            path: format!("/disks/{place}"),
            found,
            confirmed,
            expected,
        },
    );
    proptest::collection::vec(one, 0..4).prop_map(|disks| Command::RelocateDisks(RelocateDisks { disks }))
}

fn create_volume() -> impl Strategy<Value = Command> {
    let disk = proptest::option::of(0u8..5);
    let size = proptest::option::weighted(0.9, sectors());
    let clear = proptest::option::weighted(0.3, clear());
    let clears = (clear, any::<bool>());
    (
        0u8..5,
        3u128..30,
        disk,
        size,
        proptest::option::of(block()),
        clears,
    )
        .prop_map(|(volume, uuid, disk, sectors, block_bytes, (clear, clears))| {
            Command::CreateVolume(CreateVolume {
                name: name("v", volume),
                uuid: Uuid(uuid),
                node: name("n", 0),
                disk: disk.map(|disk| name("d", disk)),
                sectors,
                block_bytes,
                clear,
                clears,
                clears_reused: clears,
                clears_unknown_past: clears,
            })
        })
}

fn clear() -> impl Strategy<Value = Clear> {
    prop_oneof![Just(Clear::Now), Just(Clear::OnDelete), Just(Clear::Never)]
}

fn change() -> impl Strategy<Value = Command> {
    let protected = proptest::option::of(any::<bool>());
    let clear = proptest::option::of(clear());
    (0u8..5, protected, clear, expected(), any::<bool>()).prop_map(
        |(number, protected, clear, expected, disk)| match disk {
            true => Command::ChangeDisk(ChangeDisk {
                name: name("d", number),
                protected,
                expected,
            }),
            false => Command::ChangeVolume(ChangeVolume {
                name: name("v", number),
                protected,
                clear,
                expected,
            }),
        },
    )
}

fn record_cleared() -> impl Strategy<Value = Command> {
    (0u8..5, 3u128..30, sectors()).prop_map(|(volume, uuid, sectors)| {
        Command::RecordCleared(RecordCleared {
            name: name("v", volume),
            uuid: Uuid(uuid),
            sectors,
            start: 0,
        })
    })
}

fn grow_volume() -> impl Strategy<Value = Command> {
    (
        0u8..5,
        sectors(),
        proptest::option::weighted(0.3, 0u8..4),
        expected(),
        any::<bool>(),
    )
        .prop_map(|(volume, sectors, disk, expected, clears)| {
            let disk = disk.map(|disk| name("d", disk));
            Command::GrowVolume(GrowVolume {
                name: name("v", volume),
                sectors,
                disk,
                expected,
                clears,
            })
        })
}

fn create_attachment() -> impl Strategy<Value = Command> {
    let of = (0u8..5, 3u128..9);
    (of, 0u8..5, 0u8..4, 0u16..66, any::<bool>(), any::<bool>()).prop_map(
        |((attachment, uuid), volume, socket, queues, read_only, write_cache)| {
            Command::CreateAttachment(CreateAttachment {
                name: name("a", attachment),
                uuid: Uuid(uuid),
                volume: name("v", volume),
                node: name("n", 0),
                socket: format!("/run/{socket}.sock"),
                queues,
                queue_size: 128,
                owner: None,
                group: Some(Account::Name("kvm".into())),
                mode: 0o660,
                read_only,
                serial: None,
                limits: Limits::default(),
                write_cache,
            })
        },
    )
}

fn change_attachment() -> impl Strategy<Value = Command> {
    let limits = proptest::option::of(0u64..3).prop_map(|iops| {
        iops.map(|iops| Limits {
            iops,
            ..Limits::default()
        })
    });
    let queues = proptest::option::of(1u16..4);
    let mode = proptest::option::of(0u32..0o1100);
    (
        0u8..5,
        limits,
        queues,
        mode,
        proptest::option::of(any::<bool>()),
        expected(),
    )
        .prop_map(|(attachment, limits, queues, mode, read_only, expected)| {
            Command::ChangeAttachment(ChangeAttachment {
                limits,
                queues,
                mode,
                read_only,
                expected,
                ..ChangeAttachment::of(name("a", attachment))
            })
        })
}

fn removal() -> impl Strategy<Value = Command> {
    (0u8..5, 0u8..5, expected()).prop_map(|(kind, number, expected)| match kind {
        0 | 3 => Command::RemoveDisk(RemoveDisk {
            name: name("d", number),
            expected,
            releases: kind == 3,
        }),
        4 => Command::ReleaseDisk(ReleaseDisk {
            name: name("d", number),
            uuid: Uuid(u128::from(number) + 3),
        }),
        1 => Command::DeleteVolume(DeleteVolume {
            name: name("v", number),
            expected,
            clear: [None, Some(true), Some(false)][usize::from(number) % 3],
            detaches: number == 4,
        }),
        _ => Command::DeleteAttachment(DeleteAttachment {
            name: name("a", number),
            expected,
        }),
    })
}

/// Nodes `n0` and `n1`, which has the id 3 or 4.
fn of_node() -> impl Strategy<Value = Command> {
    let ports = proptest::option::of(proptest::collection::vec(0u16..4, 0..3));
    let of = (0u8..3, 2u128..5, 0u64..6, 0u64..3);
    (0u8..10, of, ports, any::<bool>(), expected()).prop_map(
        |(kind, (node, uuid, incarnation, level), ports, votes, expected)| {
            let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
            let addresses: Option<Vec<_>> = ports.map(|ports| ports.into_iter().map(address).collect());
            let failure_domain = votes.then(|| name("rack", node));
            match kind {
                0 => Command::AddNode(AddNode {
                    name: name("n", node),
                    uuid: Uuid(uuid),
                    addresses: addresses.unwrap_or_default(),
                    failure_domain,
                }),
                1 => Command::ChangeNode(ChangeNode {
                    name: name("n", node),
                    addresses,
                    failure_domain,
                    role: Some([NodeRole::Learner, NodeRole::Voter][usize::from(votes)]),
                    expected,
                }),
                5 => Command::RaiseFeatureLevel(RaiseFeatureLevel {
                    to: FeatureLevel(level),
                }),
                6 => Command::AddPath(AddPath {
                    disk: name("d", node),
                    uuid: Uuid(uuid + 1),
                    node: name("n", 1),
                    path: format!("/disks/{level}"),
                }),
                7 => Command::RemovePath(RemovePath {
                    disk: name("d", node),
                    uuid: Uuid(uuid + 1),
                    node: name("n", 1),
                }),
                8 => Command::EvictNodes(EvictNodes {
                    epoch: Epoch(incarnation),
                    nodes: [Uuid(uuid), Uuid(uuid + u128::from(votes))].into(),
                }),
                9 => Command::ReadmitNode(ReadmitNode {
                    epoch: Epoch(incarnation),
                    node: Uuid(uuid),
                    incarnation: Incarnation(level),
                }),
                2 => Command::RemoveNode(RemoveNode {
                    name: name("n", node),
                    expected,
                }),
                _ => Command::NodeStarted(NodeStarted {
                    node: Uuid(uuid),
                    incarnation: Incarnation(incarnation),
                    feature_level: FeatureLevel(level),
                }),
            }
        },
    )
}

/// Tokens `t0` to `t2`, and nodes that show them at times before and after they expire, each with one of two keys.
fn of_token() -> impl Strategy<Value = Command> {
    let sum = |number: u8| Sha256Sum([number; 32]);
    let times = (0u64..60, 0u64..40);
    (0u8..6, 0u8..3, 0u8..4, times, 2u128..6, any::<bool>(), expected()).prop_map(
        move |(kind, token, secret, (now_s, life_s), uuid, votes, expected)| match kind {
            0 | 1 => Command::CreateToken(CreateToken {
                name: name("t", token),
                hash: sum(secret),
                now_s,
                expires_at_s: now_s + life_s,
                admits: [NodeRole::Learner, NodeRole::Voter][usize::from(votes)],
            }),
            2 => Command::RevokeToken(RevokeToken {
                name: name("t", token),
                expected,
            }),
            _ => Command::AdmitNode(AdmitNode {
                token: sum(secret),
                key: sum(10 + u8::from(votes) + uuid as u8),
                now_s,
                feature_level: [FEATURE_LEVEL, FeatureLevel(life_s)][usize::from(life_s < 6)],
                node: AddNode {
                    name: name("n", token),
                    uuid: Uuid(uuid),
                    addresses: Vec::new(),
                    failure_domain: None,
                },
            }),
        },
    )
}

/// One command, likely to be refused about every second time.
pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => Just(init()),
        6 => add_disk(),
        2 => grow_disk(),
        2 => identify_disk(),
        2 => relocate_disks(),
        8 => create_volume(),
        5 => grow_volume(),
        5 => create_attachment(),
        4 => change_attachment(),
        5 => removal(),
        2 => change(),
        3 => record_cleared(),
        6 => of_node(),
        4 => of_token(),
    ]
}

pub fn commands() -> impl Strategy<Value = Vec<Command>> {
    let is_switched_on = any::<bool>();
    (proptest::collection::vec(command(), 0..60), is_switched_on).prop_map(
        |(mut commands, is_switched_on)| {
            if is_switched_on {
                let started = NodeStarted {
                    node: Uuid(2),
                    incarnation: Incarnation(1),
                    feature_level: FEATURE_LEVEL,
                };
                let to = FEATURE_LEVEL;
                commands.insert(0, Command::RaiseFeatureLevel(RaiseFeatureLevel { to }));
                commands.insert(0, Command::NodeStarted(started));
            }
            commands.insert(0, init());
            commands
        },
    )
}
