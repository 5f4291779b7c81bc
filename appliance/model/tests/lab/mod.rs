#![allow(dead_code, reason = "not every test that includes this file uses all of it")]

//! A small cluster to try commands on, and commands to begin from: a test changes what it is about, and nothing else.

pub mod imported;

use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{FeatureLevel, Incarnation, Name, Uuid};

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The cluster after a command that is accepted.
pub fn then(cluster: &Cluster, command: Command) -> Cluster {
    match cluster.apply(&command) {
        Ok((next, _)) => next,
        Err(refusal) => panic!("{command:?} is refused: {refusal}"),
    }
}

/// The cluster after several.
pub fn after(cluster: &Cluster, commands: impl IntoIterator<Item = Command>) -> Cluster {
    let apply = |cluster, command| then(&cluster, command);
    commands.into_iter().fold(cluster.clone(), apply)
}

pub fn refusal(cluster: &Cluster, command: Command) -> Refusal {
    match cluster.apply(&command) {
        Ok(_) => panic!("{command:?} is accepted"),
        Err(refusal) => refusal,
    }
}

/// What comes of a command in a word: what it did, or the field it was refused for, or else the refusal's code.
pub fn outcome(cluster: &Cluster, command: &Command) -> &'static str {
    match cluster.apply(command) {
        Ok((next, outcome)) => {
            let revision = outcome.revision();
            match outcome {
                Outcome::Unchanged { .. } => assert_eq!(next, *cluster),
                _ => assert_eq!(revision, next.generation),
            }
            match outcome {
                Outcome::Created { .. } => "created",
                Outcome::Changed { .. } => "changed",
                Outcome::Removed { .. } => "removed",
                Outcome::Unchanged { .. } => "unchanged",
            }
        }
        Err(Refusal::Invalid { field, .. }) => field.as_str(),
        Err(refusal) => refusal.code(),
    }
}

pub fn init(id: u128, node: &str, node_uuid: u128) -> Command {
    Command::InitCluster(InitCluster {
        id: Uuid(id),
        node: name(node),
        node_uuid: Uuid(node_uuid),
    })
}

/// A pooled file of eight units on node `n`.
pub fn disk(text: &str, uuid: u128) -> AddDisk {
    let sectors = 10 * UNIT;
    AddDisk {
        name: name(text),
        uuid: Uuid(uuid),
        node: name("n"),
        medium: Medium::File {
            path: format!("/disks/{text}"),
            bytes: sectors * 512,
            created: true,
        },
        record: MediumRecord::default(),
        usage: Usage::Pooled,
        block_bytes: 512,
        sectors,
        data_start: UNIT,
        data_end: 9 * UNIT,
        superblock_pending: false,
    }
}

/// A whole block device of four units.
pub fn whole_disk(text: &str, uuid: u128) -> AddDisk {
    AddDisk {
        medium: Medium::Block {
            path: format!("/dev/{text}"),
            wwid: None,
        },
        usage: Usage::Whole,
        sectors: 4 * UNIT,
        data_start: 0,
        data_end: 4 * UNIT,
        ..disk(text, uuid)
    }
}

/// The id that a volume of this name gets.
pub fn uuid_of(text: &str) -> Uuid {
    Uuid(text.bytes().fold(0, |sum, byte| sum << 8 | u128::from(byte)))
}

/// A volume of one unit on `d`.
pub fn create(text: &str) -> CreateVolume {
    CreateVolume {
        name: name(text),
        uuid: uuid_of(text),
        node: name("n"),
        disk: Some(name("d")),
        sectors: Some(UNIT),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    }
}

pub fn grow(text: &str, sectors: u64) -> GrowVolume {
    GrowVolume {
        name: name(text),
        sectors,
        disk: None,
        expected: None,
        clears: false,
    }
}

pub fn delete(text: &str, clear: Option<bool>) -> DeleteVolume {
    DeleteVolume {
        name: name(text),
        expected: None,
        clear,
        detaches: false,
    }
}

pub fn cleared(text: &str, sectors: u64) -> Command {
    Command::RecordCleared(RecordCleared {
        name: name(text),
        uuid: uuid_of(text),
        sectors,
        start: 0,
    })
}

pub fn change_volume(text: &str) -> ChangeVolume {
    ChangeVolume {
        name: name(text),
        protected: None,
        clear: None,
        expected: None,
    }
}

pub fn remove_disk(text: &str, releases: bool) -> Command {
    Command::RemoveDisk(RemoveDisk {
        name: name(text),
        expected: None,
        releases,
    })
}

/// `a`, a writer on `v`.
pub fn attachment() -> CreateAttachment {
    CreateAttachment {
        name: name("a"),
        uuid: uuid_of("a"),
        volume: name("v"),
        node: name("n"),
        socket: "/run/a.sock".to_owned(),
        queues: 2,
        queue_size: 256,
        owner: Some(Account::Name("qemu".to_owned())),
        group: Some(Account::Name("kvm".to_owned())),
        mode: 0o600,
        read_only: false,
        serial: Some("S1".to_owned()),
        limits: Limits::default(),
        write_cache: true,
    }
}

/// `b`, a writer on `w`.
pub fn attachment_of_w() -> CreateAttachment {
    CreateAttachment {
        name: name("b"),
        uuid: uuid_of("b"),
        volume: name("w"),
        socket: "/run/b.sock".to_owned(),
        ..attachment()
    }
}

pub fn detach(text: &str) -> Command {
    Command::DeleteAttachment(DeleteAttachment {
        name: name(text),
        expected: None,
    })
}

/// A node with the disk `d`, and the volumes `v` and `w` on it, of which `v` is attached as `a`.
pub fn lab() -> Cluster {
    after(
        &Cluster::empty(),
        [
            init(1, "n", 2),
            Command::AddDisk(disk("d", 100)),
            Command::CreateVolume(create("v")),
            Command::CreateVolume(create("w")),
            Command::CreateAttachment(attachment()),
        ],
    )
}

/// Lets a node in.
pub fn add_node(text: &str, uuid: u128) -> AddNode {
    AddNode {
        name: name(text),
        uuid: Uuid(uuid),
        addresses: Vec::new(),
        failure_domain: None,
    }
}

/// A node of an id says that it has started.
pub fn started(uuid: u128, incarnation: u64) -> NodeStarted {
    NodeStarted {
        node: Uuid(uuid),
        incarnation: Incarnation(incarnation),
        feature_level: FEATURE_LEVEL,
    }
}

pub fn raise(to: FeatureLevel) -> Command {
    Command::RaiseFeatureLevel(RaiseFeatureLevel { to })
}

/// The cluster once its node `n` has started and all that this program can is switched on.
pub fn switched_on(cluster: &Cluster) -> Cluster {
    let incarnation = cluster.nodes[&name("n")].incarnation.next();
    let commands = [
        Command::NodeStarted(started(2, incarnation.0)),
        raise(FEATURE_LEVEL),
    ];
    after(cluster, commands)
}

/// The same with a second node `m`, which has no vote.
pub fn lab_of_two_nodes() -> Cluster {
    let joins = [
        Command::AddNode(add_node("m", 3)),
        Command::NodeStarted(started(3, 1)),
    ];
    after(&switched_on(&lab()), joins)
}

/// A part of a volume that is not whole, of one unit at a place of a disk.
pub fn piece(volume_lba: u64, on: &str, disk_lba: u64) -> Piece {
    let extent = Extent {
        disk: name(on),
        disk_lba,
        sectors: UNIT,
    };
    Piece { volume_lba, extent }
}

/// Beside the disk `d`, on node `n`: `e` whole, `f` with blocks of 4096 bytes, `h` that keeps nothing, `p` whose first
/// superblock is to come. On node `m`: `o`.
pub fn furnished() -> Cluster {
    let block = AddDisk {
        block_bytes: 4096,
        ..disk("f", 102)
    };
    let null = AddDisk {
        medium: Medium::Null {
            bytes: 10 * UNIT * 512,
        },
        ..disk("h", 104)
    };
    let pending = AddDisk {
        superblock_pending: true,
        ..disk("p", 105)
    };
    let of_m = AddDisk {
        node: name("m"),
        ..disk("o", 106)
    };
    let disks = [whole_disk("e", 101), block, null, pending, of_m];
    after(&lab_of_two_nodes(), disks.map(Command::AddDisk))
}

/// The volume `x` on a disk.
pub fn on(disk: &str, sectors: u64) -> CreateVolume {
    CreateVolume {
        disk: Some(name(disk)),
        sectors: Some(sectors),
        ..create("x")
    }
}
