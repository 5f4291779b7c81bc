//! What an operator asks for: some command over a few names, so that they meet.

use super::name;
use crate::rng::Rng;
use palisade_model::{
    AddDisk, AddNode, AddPath, ChangeNode, ChangeVolume, Cluster, Command, CreateAttachment, CreateVolume,
    DeleteAttachment, DeleteVolume, EvictNodes, FEATURE_LEVEL, GrowVolume, InitCluster, Limits, Medium,
    MediumRecord, Membership, NodeRole, NodeStarted, RaiseFeatureLevel, ReadmitNode, RecordCleared,
    RemoveDisk, RemoveNode, RemovePath, Usage,
};
use palisade_wire::Geometry;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Epoch, Incarnation, Uuid};
use std::net::SocketAddr;

/// Size of each disk, in sectors: room for a few volumes.
pub(super) const DISK_SECTORS: u64 = Geometry::LEAST_SECTORS + 5 * ALLOCATION_UNIT_SECTORS;

/// How many disks there are.
pub(super) const DISKS: u64 = 2;

/// How an operator begins: a cluster and its disks.
pub(super) const OPENING: [u64; 4] = [0, 1, 1, 1];

/// Draws one of any kind, for the first node.
pub(super) fn draw(rng: &mut Rng) -> Result<Command, String> {
    let kind = rng.below(15);
    draw_one(rng, kind)
}

/// The permanent id of a node.
pub(super) fn id_of(node: u64) -> Uuid {
    Uuid(u128::from(node) + 2)
}

/// Draws what is said of another node, which has no disks of its own and may reach those of the first, or of the run of some
/// node.
pub(super) fn draw_of_node(rng: &mut Rng, cluster: &Cluster) -> Result<Command, String> {
    let other = name("node", 1)?;
    let addresses = vec![SocketAddr::from(([192, 0, 2, 1], rng.between(1, 3) as u16))];
    Ok(match rng.below(14) {
        12 | 13 => draw_membership(rng, cluster, 1),
        7..=11 => return draw_of_path(rng, cluster),
        6 => Command::RaiseFeatureLevel(RaiseFeatureLevel { to: FEATURE_LEVEL }),
        0 => Command::AddNode(AddNode {
            name: other,
            uuid: id_of(1),
            addresses: Vec::new(),
            failure_domain: None,
        }),
        1 => Command::ChangeNode(ChangeNode {
            name: other,
            addresses: Some(addresses),
            failure_domain: None,
            role: Some([NodeRole::Learner, NodeRole::Voter][rng.index(2)]),
            expected: None,
        }),
        2 => Command::RemoveNode(RemoveNode {
            name: other,
            expected: None,
        }),
        _ => Command::NodeStarted(NodeStarted {
            node: Uuid(u128::from(rng.between(2, 3))),
            incarnation: Incarnation(rng.below(20)),
            feature_level: FEATURE_LEVEL,
        }),
    })
}

/// Draws that a node is given up, or taken back when it was; at times as was judged of other members, or not as things are.
pub(super) fn draw_membership(rng: &mut Rng, cluster: &Cluster, node: u64) -> Command {
    let (epoch, id) = (judged(rng, cluster), id_of(node));
    let known = cluster.node_by_id(id).map(|(_, node)| node);
    let is_out = known.is_some_and(|node| node.membership == Membership::Evicted);
    match is_out != rng.one_in(8) {
        true => Command::ReadmitNode(ReadmitNode {
            epoch,
            node: id,
            incarnation: known.map(|node| node.incarnation).unwrap_or_default(),
        }),
        false => Command::EvictNodes(EvictNodes {
            epoch,
            nodes: [id].into(),
        }),
    }
}

fn judged(rng: &mut Rng, cluster: &Cluster) -> Epoch {
    match rng.one_in(4) {
        true => Epoch(cluster.epoch.0 + rng.below(3)),
        false => cluster.epoch,
    }
}

/// Draws what is said of a path to a disk: mostly by the node that can have one, and sometimes by one that is no member, by the
/// custodian, of a disk that is gone, or with a path that is none or leads to another disk.
fn draw_of_path(rng: &mut Rng, cluster: &Cluster) -> Result<Command, String> {
    let reached = cluster
        .disks
        .iter()
        .filter(|(_, disk)| !disk.other_paths.is_empty());
    let reached: Vec<_> = reached.map(|(name, _)| name.clone()).collect();
    let is_removed = rng.one_in(2) && !reached.is_empty();
    let disk = match is_removed && !rng.one_in(4) {
        true => reached[rng.index(reached.len())].clone(),
        false => name("disk", rng.below(DISKS))?,
    };
    let known = cluster.disks.get(&disk).map(|disk| disk.uuid);
    let uuid = known.filter(|_| !rng.one_in(8)).unwrap_or(Uuid(7));
    let node = name("node", if rng.one_in(6) { rng.below(3) } else { 1 })?;
    let path = match rng.below(8) {
        0 => "dev/disk".to_owned(),
        1 => "/dev/disk".to_owned(),
        _ => format!("/dev/{disk}"),
    };
    Ok(match is_removed {
        true => Command::RemovePath(RemovePath { disk, uuid, node }),
        false => Command::AddPath(AddPath {
            disk,
            uuid,
            node,
            path,
        }),
    })
}

/// Draws one of a kind, for the first node.
pub(super) fn draw_one(rng: &mut Rng, kind: u64) -> Result<Command, String> {
    draw_for(rng, kind, 0)
}

/// Draws one of a kind, for a node.
pub(super) fn draw_for(rng: &mut Rng, kind: u64, node: u64) -> Result<Command, String> {
    let node_uuid = id_of(node);
    let node = name("node", node)?;
    let disk = name("disk", rng.below(DISKS))?;
    let volume_number = rng.below(4);
    let volume = name("volume", volume_number)?;
    let attachment_number = rng.below(4);
    let attachment = name("attachment", attachment_number)?;
    let sectors = rng.between(1, 10) * 2048;
    Ok(match kind {
        0 => Command::InitCluster(InitCluster {
            id: Uuid(1),
            node,
            node_uuid,
        }),
        1 | 2 => {
            let path = format!("/disks/{}", disk.as_str());
            let geometry = Geometry::of(DISK_SECTORS).map_err(|error| error.to_string())?;
            let bytes = DISK_SECTORS * 512;
            let uuid = Uuid(u128::from(rng.bits()) + 1);
            Command::AddDisk(AddDisk {
                name: disk,
                uuid,
                node,
                medium: Medium::File {
                    path,
                    bytes,
                    created: true,
                },
                record: MediumRecord::default(),
                usage: Usage::Pooled,
                block_bytes: 512,
                sectors: DISK_SECTORS,
                data_start: geometry.data_start.0,
                data_end: geometry.data_end.0,
                superblock_pending: true,
            })
        }
        3 => Command::RemoveDisk(RemoveDisk {
            name: disk,
            expected: None,
            releases: true,
        }),
        4 | 5 => Command::CreateVolume(CreateVolume {
            name: volume,
            uuid: Uuid(1000 + u128::from(volume_number)),
            node,
            disk: rng.one_in(2).then_some(disk),
            sectors: Some(sectors),
            block_bytes: None,
            clear: rng.one_in(3).then_some(palisade_model::Clear::OnDelete),
            clears: rng.one_in(2),
            clears_reused: false,
            clears_unknown_past: false,
        }),
        6 | 13 => Command::GrowVolume(GrowVolume {
            name: volume,
            sectors: 2 * sectors,
            disk: None,
            expected: None,
            clears: rng.one_in(2),
        }),
        7 => Command::DeleteVolume(DeleteVolume {
            name: volume,
            expected: None,
            clear: None,
            detaches: false,
        }),
        9 => Command::RecordCleared(RecordCleared {
            name: volume,
            uuid: Uuid(1000 + u128::from(volume_number)),
            sectors,
            start: 0,
        }),
        10 | 11 => Command::ChangeVolume(ChangeVolume {
            name: volume,
            protected: Some(rng.one_in(4)),
            clear: rng.one_in(8).then_some(palisade_model::Clear::Never),
            expected: None,
        }),
        8 | 12 => Command::CreateAttachment(CreateAttachment {
            name: attachment,
            uuid: Uuid(2000 + u128::from(attachment_number)),
            volume,
            node,
            socket: format!("/run/palisade/{attachment_number}.sock"),
            queues: 2,
            queue_size: 128,
            owner: None,
            group: None,
            mode: 0o660,
            read_only: rng.one_in(3),
            serial: None,
            limits: Limits::default(),
            write_cache: true,
        }),
        _ => Command::DeleteAttachment(DeleteAttachment {
            name: attachment,
            expected: None,
        }),
    })
}
