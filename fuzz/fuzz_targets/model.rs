//! Any row of commands: the cluster stays in order, a change counts one generation, a refusal changes nothing, and
//! what is created twice is created once.
//!
//! An input that begins with `{` is a row of lines, each a command as the log keeps it. Any other is read byte by
//! byte: which command, then its arguments.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_fuzz::Bytes;
use palisade_model::limits::SECTORS_MAX;
use palisade_model::{
    Account, AddDisk, AddNode, AddPath, AdmitNode, ChangeAttachment, ChangeDisk, ChangeNode, ChangeVolume,
    Clear, Cluster, Command, CreateAttachment, CreateToken, CreateVolume, DeleteAttachment, DeleteVolume,
    EvictNodes, GrowDisk, GrowVolume, InitCluster, Limits, Medium, MediumRecord, NodeRole, NodeStarted,
    Outcome, RaiseFeatureLevel, ReadmitNode, RecordCleared, ReleaseDisk, RemoveDisk, RemoveNode, RemovePath,
    RevokeToken, Usage, check,
};
use palisade_words::{Epoch, FeatureLevel, Generation, Incarnation, Name, Sha256Sum, Uuid};
use std::net::SocketAddr;

fuzz_target!(|data: &[u8]| {
    let mut cluster = Cluster::empty();
    if data.first() == Some(&b'{') {
        for line in data.split(|byte| *byte == b'\n') {
            if let Ok(command) = serde_json::from_slice(line) {
                cluster = step(&cluster, &command);
            }
        }
    } else {
        let mut input = Bytes(data);
        while !input.is_empty() {
            cluster = step(&cluster, &command(&mut input));
        }
    }
    let kept = serde_json::to_vec(&cluster).expect("a cluster can be written");
    assert_eq!(serde_json::from_slice::<Cluster>(&kept).ok(), Some(cluster));
});

fn step(cluster: &Cluster, command: &Command) -> Cluster {
    let logged = serde_json::to_vec(command).expect("a command can be written");
    assert_eq!(
        serde_json::from_slice::<Command>(&logged).ok().as_ref(),
        Some(command)
    );
    let result = cluster.apply(command);
    assert_eq!(cluster.apply(command), result, "apply is pure");
    let (next, outcome) = match result {
        Ok(done) => done,
        Err(refusal) => {
            assert!(!refusal.to_string().is_empty());
            return cluster.clone();
        }
    };
    assert_eq!(check(&next), Ok(()), "after {command:?}");
    if let Outcome::Unchanged { .. } = outcome {
        assert_eq!(next, *cluster);
    } else {
        assert_eq!(next.generation, cluster.generation.next());
        assert_eq!(outcome.revision(), next.generation);
    }
    if let Outcome::Created { revision } = outcome {
        let again = next.apply(command);
        assert_eq!(
            again,
            Ok((next.clone(), Outcome::Unchanged { revision })),
            "{command:?} again"
        );
    }
    next
}

fn command(input: &mut Bytes<'_>) -> Command {
    match input.u8() % 28 {
        0 => Command::InitCluster(InitCluster {
            id: uuid(input),
            node: name(input),
            node_uuid: uuid(input),
        }),
        1 | 10 => add_disk(input),
        2 => Command::RemoveDisk(RemoveDisk {
            name: name(input),
            expected: expected(input),
            releases: input.u8() & 1 == 1,
        }),
        15 => Command::ReleaseDisk(ReleaseDisk {
            name: name(input),
            uuid: uuid(input),
        }),
        3 => Command::GrowDisk(GrowDisk {
            name: name(input),
            sectors: sectors(input),
            data_end: sectors(input),
            expected: expected(input),
        }),
        4 | 11 => Command::CreateVolume(CreateVolume {
            name: name(input),
            uuid: uuid(input),
            node: name(input),
            disk: maybe(input, name),
            sectors: maybe(input, sectors),
            block_bytes: maybe(input, block_bytes),
            clear: maybe(input, clear),
            clears: input.u8() & 1 == 1,
            clears_reused: false,
            clears_unknown_past: false,
        }),
        5 => Command::GrowVolume(GrowVolume {
            name: name(input),
            sectors: sectors(input),
            disk: maybe(input, name),
            expected: expected(input),
            clears: input.u8() & 1 == 1,
        }),
        6 => Command::DeleteVolume(DeleteVolume {
            name: name(input),
            expected: expected(input),
            clear: maybe(input, |input| input.u8() & 1 == 1),
            detaches: input.u8() & 1 == 1,
        }),
        12 => Command::RecordCleared(RecordCleared {
            name: name(input),
            uuid: uuid(input),
            sectors: sectors(input),
            start: sectors(input),
        }),
        13 => Command::ChangeVolume(ChangeVolume {
            name: name(input),
            protected: maybe(input, |input| input.u8() & 1 == 1),
            clear: maybe(input, clear),
            expected: expected(input),
        }),
        14 => Command::ChangeDisk(ChangeDisk {
            name: name(input),
            protected: maybe(input, |input| input.u8() & 1 == 1),
            expected: expected(input),
        }),
        16 => Command::AddNode(AddNode {
            name: name(input),
            uuid: uuid(input),
            addresses: addresses(input),
            failure_domain: maybe(input, name),
        }),
        17 => Command::ChangeNode(ChangeNode {
            name: name(input),
            addresses: maybe(input, addresses),
            failure_domain: maybe(input, name),
            role: maybe(input, |input| {
                [NodeRole::Learner, NodeRole::Voter][usize::from(input.u8() & 1)]
            }),
            expected: expected(input),
        }),
        18 => Command::RemoveNode(RemoveNode {
            name: name(input),
            expected: expected(input),
        }),
        21 => Command::AddPath(AddPath {
            disk: name(input),
            uuid: uuid(input),
            node: name(input),
            path: format!("/dev/{}", input.u8() % 4),
        }),
        22 => Command::RemovePath(RemovePath {
            disk: name(input),
            uuid: uuid(input),
            node: name(input),
        }),
        23 => Command::CreateToken(CreateToken {
            name: name(input),
            hash: sum(input),
            now_s: input.u8().into(),
            expires_at_s: input.u8().into(),
            admits: input.pick(&[NodeRole::Learner, NodeRole::Voter]),
        }),
        24 => Command::RevokeToken(RevokeToken {
            name: name(input),
            expected: expected(input),
        }),
        25 => Command::AdmitNode(AdmitNode {
            token: sum(input),
            key: sum(input),
            now_s: input.u8().into(),
            feature_level: FeatureLevel(u64::from(input.u8())),
            node: AddNode {
                name: name(input),
                uuid: uuid(input),
                addresses: addresses(input),
                failure_domain: maybe(input, name),
            },
        }),
        26 => Command::EvictNodes(EvictNodes {
            epoch: Epoch(u64::from(input.u8())),
            nodes: [uuid(input), uuid(input)].into(),
        }),
        27 => Command::ReadmitNode(ReadmitNode {
            epoch: Epoch(u64::from(input.u8())),
            node: uuid(input),
            incarnation: Incarnation(u64::from(input.u8())),
        }),
        20 => Command::RaiseFeatureLevel(RaiseFeatureLevel {
            to: FeatureLevel(u64::from(input.u8())),
        }),
        19 => Command::NodeStarted(NodeStarted {
            node: uuid(input),
            incarnation: Incarnation(u64::from(input.u8())),
            feature_level: FeatureLevel(u64::from(input.u8())),
        }),
        7 => create_attachment(input),
        8 => change_attachment(input),
        _ => Command::DeleteAttachment(DeleteAttachment {
            name: name(input),
            expected: expected(input),
        }),
    }
}

fn addresses(input: &mut Bytes<'_>) -> Vec<SocketAddr> {
    let count = input.u8() % 3;
    let address = |input: &mut Bytes<'_>| SocketAddr::from(([10, 0, 0, input.u8()], u16::from(input.u8())));
    (0..count).map(|_| address(input)).collect()
}

fn clear(input: &mut Bytes<'_>) -> Clear {
    input.pick(&[Clear::Now, Clear::OnDelete, Clear::Never])
}

fn add_disk(input: &mut Bytes<'_>) -> Command {
    let (name, uuid, node) = (name(input), uuid(input), name(input));
    let (sectors, data_start, data_end) = match input.u8() {
        // A disk that fits, so that most inputs get beyond it.
        units @ 1.. => {
            let sectors = u64::from(units) * 8192 + 4096;
            (sectors, 2048, sectors - 2048)
        }
        0 => (sectors(input), sectors(input), sectors(input)),
    };
    let bytes = sectors.wrapping_mul(512);
    let (medium, whole) = match input.u8() {
        0 => (Medium::Null { bytes }, true),
        1 => (Medium::Memory { bytes: sectors }, false),
        2 => (Medium::Memory { bytes }, false),
        3 => (
            Medium::Block {
                path: path(input),
                wwid: maybe(input, path),
            },
            false,
        ),
        4 => (
            Medium::Block {
                path: path(input),
                wwid: None,
            },
            true,
        ),
        choice => (
            Medium::File {
                path: path(input),
                bytes,
                created: choice & 1 == 1,
            },
            choice & 2 == 2,
        ),
    };
    let usage = if whole { Usage::Whole } else { Usage::Pooled };
    let (data_start, data_end) = if whole {
        (0, sectors)
    } else {
        (data_start, data_end)
    };
    let block_bytes = block_bytes(input);
    Command::AddDisk(AddDisk {
        name,
        uuid,
        node,
        medium,
        record: MediumRecord::default(),
        usage,
        block_bytes,
        sectors,
        data_start,
        data_end,
        superblock_pending: false,
    })
}

fn create_attachment(input: &mut Bytes<'_>) -> Command {
    Command::CreateAttachment(CreateAttachment {
        name: name(input),
        uuid: uuid(input),
        volume: name(input),
        node: name(input),
        socket: path(input),
        queues: input.pick(&[1, 2, 64, 0, 65]),
        queue_size: input.pick(&[256, 2, 1024, 0, 3, 32768, 65535]),
        owner: maybe(input, account),
        group: maybe(input, account),
        mode: input.pick(&[0o660, 0, 0o777, 0o1000, u32::MAX]),
        read_only: input.u8() & 1 == 1,
        serial: maybe(input, text),
        limits: limits(input),
        write_cache: input.u8() & 1 == 1,
    })
}

fn change_attachment(input: &mut Bytes<'_>) -> Command {
    Command::ChangeAttachment(ChangeAttachment {
        name: name(input),
        queues: maybe(input, |input| input.pick(&[1, 2, 64, 0, 65])),
        queue_size: maybe(input, |input| input.pick(&[256, 2, 1024, 0, 3])),
        owner: maybe(input, account),
        group: maybe(input, account),
        mode: maybe(input, |input| input.pick(&[0o660, 0o1000])),
        read_only: maybe(input, |input| input.u8() & 1 == 1),
        serial: maybe(input, text),
        limits: maybe(input, limits),
        write_cache: maybe(input, |input| input.u8() & 1 == 1),
        expected: expected(input),
    })
}

fn name(input: &mut Bytes<'_>) -> Name {
    Name::new(input.pick(&["a", "b", "c", "d"])).expect("a good name")
}

fn uuid(input: &mut Bytes<'_>) -> Uuid {
    Uuid(input.u8().into())
}

fn sum(input: &mut Bytes<'_>) -> Sha256Sum {
    Sha256Sum([input.u8(); 32])
}

fn expected(input: &mut Bytes<'_>) -> Option<Generation> {
    maybe(input, |input| Generation(input.u8().into()))
}

fn sectors(input: &mut Bytes<'_>) -> u64 {
    match input.u8() {
        255 => input.u64(),
        254 => SECTORS_MAX,
        253 => SECTORS_MAX + 8,
        252 => u64::MAX,
        units @ 128.. => u64::from(units - 128) * 8192,
        blocks => u64::from(blocks) * 8,
    }
}

fn block_bytes(input: &mut Bytes<'_>) -> u32 {
    input.pick(&[512, 4096, 512, 4096, 0, 1024, u32::MAX])
}

fn limits(input: &mut Bytes<'_>) -> Limits {
    match input.u8() {
        0 => Limits::default(),
        _ => Limits {
            iops: input.u64(),
            bytes_per_second: input.u64(),
            burst_ms: input.u32(),
        },
    }
}

fn account(input: &mut Bytes<'_>) -> Account {
    if input.u8() & 1 == 0 {
        Account::Id(input.u32())
    } else {
        Account::Name(text(input))
    }
}

fn path(input: &mut Bytes<'_>) -> String {
    format!("/{}", text(input))
}

/// Up to 31 bytes of text, as the input has them.
fn text(input: &mut Bytes<'_>) -> String {
    let count = input.u8() & 31;
    String::from_utf8_lossy(input.take(count.into())).into_owned()
}

fn maybe<'a, T>(input: &mut Bytes<'a>, some: impl FnOnce(&mut Bytes<'a>) -> T) -> Option<T> {
    (input.u8() & 1 == 1).then(|| some(input))
}
