//! A cluster with one of everything, and the way to each part of it.

use crate::lab::{
    after, attachment, cleared, create, delete, disk, grow, lab_of_two_nodes, name, piece, uuid_of,
    whole_disk,
};
use palisade_model::*;
use palisade_words::Uuid;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;

/// One of everything: `v` on `d` and `e`, `x` on `f` with blocks of 4096 bytes and half cleared, `y` on the whole disk `g`
/// with two readers, `z` being deleted, memory `h`, and `q` on node `m` with the socket's path of `a`.
pub fn rich() -> Cluster {
    let block = AddDisk {
        block_bytes: 4096,
        ..disk("f", 102)
    };
    let memory = AddDisk {
        medium: Medium::Memory {
            bytes: 10 * UNIT * 512,
        },
        ..disk("h", 104)
    };
    let of_m = AddDisk {
        node: name("m"),
        ..disk("o", 105)
    };
    let on = |text, disk| CreateVolume {
        disk: Some(name(disk)),
        ..create(text)
    };
    let reader = |text: &str| CreateAttachment {
        name: name(text),
        uuid: uuid_of(text),
        volume: name("y"),
        socket: format!("/run/{text}.sock"),
        read_only: true,
        ..attachment()
    };
    let mut cluster = after(
        &lab_of_two_nodes(),
        [
            Command::AddDisk(disk("e", 101)),
            Command::AddDisk(block),
            Command::AddDisk(whole_disk("g", 103)),
            Command::AddDisk(memory),
            Command::AddDisk(of_m),
            Command::GrowVolume(GrowVolume {
                disk: Some(name("e")),
                ..grow("v", 2 * UNIT)
            }),
            Command::CreateVolume(CreateVolume {
                clears: true,
                ..on("x", "f")
            }),
            cleared("x", 16),
            Command::CreateVolume(CreateVolume {
                sectors: None,
                ..on("y", "g")
            }),
            Command::CreateVolume(on("z", "e")),
            Command::DeleteVolume(delete("z", Some(true))),
            Command::CreateVolume(CreateVolume {
                node: name("m"),
                ..on("q", "o")
            }),
            Command::CreateAttachment(reader("r")),
            Command::CreateAttachment(reader("s")),
            Command::CreateAttachment(CreateAttachment {
                name: name("b"),
                uuid: uuid_of("b"),
                volume: name("q"),
                node: name("m"),
                ..attachment()
            }),
        ],
    );
    let fragment = Fragment {
        name: name("part"),
        sectors: 4 * UNIT,
        block_bytes: 512,
        pieces: vec![piece(0, "e", 5 * UNIT), piece(2 * UNIT, "e", 7 * UNIT)],
    };
    cluster.fragments.insert(Uuid(900), fragment);
    cluster
}

pub type Change = fn(&mut Cluster);

/// Each change alone: what it breaks, or nothing.
pub fn each(cases: &[(Option<BrokenRule>, Change)]) {
    assert_eq!(check(&rich()), Ok(()));
    for (number, (expected, change)) in cases.iter().enumerate() {
        let mut cluster = rich();
        change(&mut cluster);
        assert_ne!(cluster, rich(), "case {number} changes nothing");
        assert_eq!(check(&cluster).err(), *expected, "case {number}");
    }
}

pub fn node<'a>(cluster: &'a mut Cluster, text: &str) -> &'a mut Node {
    cluster.nodes.get_mut(&name(text)).unwrap()
}

pub fn a_disk<'a>(cluster: &'a mut Cluster, text: &str) -> &'a mut Disk {
    cluster.disks.get_mut(&name(text)).unwrap()
}

pub fn volume<'a>(cluster: &'a mut Cluster, text: &str) -> &'a mut Volume {
    cluster.volumes.get_mut(&name(text)).unwrap()
}

pub fn attached<'a>(cluster: &'a mut Cluster, text: &str) -> &'a mut Attachment {
    cluster.attachments.get_mut(&name(text)).unwrap()
}

pub fn extents<'a>(cluster: &'a mut Cluster, text: &str) -> &'a mut Vec<Extent> {
    match &mut volume(cluster, text).layout {
        Layout::Linear { extents } => extents,
    }
}

pub fn clearing<'a>(cluster: &'a mut Cluster, text: &str) -> &'a mut Clearing {
    volume(cluster, text).clearing.as_mut().unwrap()
}

pub fn fragment(cluster: &mut Cluster) -> &mut Fragment {
    cluster.fragments.get_mut(&Uuid(900)).unwrap()
}
