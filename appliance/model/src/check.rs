//! Whether a cluster is in order. `apply` keeps it so; this says it independently, after each change in debug builds,
//! in tests, and when a cluster is read back from stable storage.

use crate::allocation::units_of;
use crate::apply::{addresses_are_good, path_is_good};
use crate::cluster::Cluster;
use crate::disk::{Disk, Usage};
use crate::feature::{ATTACHMENT_IDS, FORWARDING};
use crate::fragment::Fragment;
use crate::limits::{SECTORS_MAX, TOKENS_MAX, VOLUMES_MAX};
use crate::node::{Node, NodeRole};
use crate::refusal::Kind;
use crate::volume::{Extent, Layout, Volume};
use palisade_words::limits::{ALLOCATION_UNIT_SECTORS, ATTACHMENTS_MAX, DISKS_MAX, HISTORY_MAX, NODES_MAX};
use palisade_words::{Generation, Incarnation, Name, Uuid};
use std::collections::BTreeSet;

/// What is out of order.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BrokenRule {
    /// There are resources, or a generation, before the first command; or none of the numbers after it.
    #[error("the cluster's id, epoch and generation do not fit together")]
    Beginning,
    /// There are more of a kind than there may be.
    #[error("there are more {kind}s than there may be")]
    Count {
        /// Which kind.
        kind: Kind,
    },
    /// A resource is newer than the cluster, or older than its own creation.
    #[error("{kind} {name} has an impossible revision")]
    Revision {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// Two resources of a kind have the same permanent id.
    #[error("{kind} {name} shares its uuid with another, or has none")]
    Uuid {
        /// Which kind.
        kind: Kind,
        /// One of the two.
        name: Name,
    },
    /// A resource names another that does not exist, or that lies on another node.
    #[error("{kind} {name} names something that is not there")]
    Reference {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// A disk's or volume's sizes do not fit together.
    #[error("the sizes of {kind} {name} do not fit together")]
    Geometry {
        /// Kind of the resource.
        kind: Kind,
        /// Its name.
        name: Name,
    },
    /// An extent is empty, reaches out of its disk's data area or does not begin on a unit.
    #[error("extent {index} of volume {volume} is not on its disk")]
    Extent {
        /// The volume.
        volume: Name,
        /// Its position in the volume.
        index: usize,
    },
    /// Two extents have the same sectors.
    #[error("volumes {first} and {second} have the same sectors of disk {disk}")]
    Overlap {
        /// The disk.
        disk: Name,
        /// The volume of the earlier extent.
        first: Name,
        /// The volume of the later one.
        second: Name,
    },
    /// Something lies on a disk that has been given up.
    #[error("disk {disk} has been given up, and something lies on it")]
    Leaving {
        /// The disk.
        disk: Name,
    },
    /// What is left to be cleared of a volume does not fit the volume.
    #[error("what is left to be cleared of volume {volume} does not fit it")]
    Clearing {
        /// The volume.
        volume: Name,
    },
    /// A volume has a writer with somebody beside it.
    #[error("volume {volume} has a writer with somebody beside it")]
    Writers {
        /// The volume.
        volume: Name,
    },
    /// What a disk remembers of its past does not end where it is now.
    #[error("the history of disk {disk} does not end at its latest change")]
    History {
        /// The disk.
        disk: Name,
    },
    /// A part of a volume that is not whole does not fit its disk, its volume or the other parts.
    #[error("the parts of the incomplete volume {name} do not fit together")]
    Fragment {
        /// The volume's name.
        name: Name,
    },
    /// A node is none that others can count on: two have one address, or it has a vote, or has started, and is no member.
    #[error("what is known of node {node} does not fit together")]
    Node {
        /// Which.
        node: Name,
    },
    /// A token has another's secret, or has let in a node that is not there.
    #[error("what is known of token {token} does not fit together")]
    Token {
        /// Which.
        token: Name,
    },
    /// Something is switched on that a member cannot.
    #[error("node {node} cannot what the cluster has switched on")]
    FeatureLevel {
        /// The member.
        node: Name,
    },
    /// A disk's path leads from no other member, or is none.
    #[error("the path from node {node} to disk {disk} is none")]
    Path {
        /// The disk.
        disk: Name,
        /// The node.
        node: Name,
    },
    /// Nobody has a vote.
    #[error("no node has a vote")]
    Voters,
    /// Two attachments of a node have the same socket.
    #[error("attachment {attachment} shares its socket with another")]
    Socket {
        /// One of the two.
        attachment: Name,
    },
}

/// Whether a cluster is in order; the first thing that is not.
pub fn check(cluster: &Cluster) -> Result<(), BrokenRule> {
    let Cluster {
        id,
        generation,
        epoch,
        nodes,
        ..
    } = cluster;
    if id.is_nil() {
        let untouched = *cluster == Cluster::empty();
        return untouched.then_some(()).ok_or(BrokenRule::Beginning);
    }
    if generation.0 == 0 || epoch.0 == 0 || nodes.is_empty() {
        return Err(BrokenRule::Beginning);
    }
    counts(cluster)?;
    revisions(cluster)?;
    uuids(cluster)?;
    nodes_fit(cluster)?;
    tokens_fit(cluster)?;
    for (name, disk) in &cluster.disks {
        disk_is_whole(cluster, name, disk)?;
        history_is_whole(cluster, name, disk)?;
    }
    for (uuid, fragment) in &cluster.fragments {
        fragment_fits(cluster, *uuid, fragment)?;
    }
    for (name, volume) in &cluster.volumes {
        volume_is_whole(cluster, name, volume)?;
    }
    for name in cluster.disks.keys() {
        no_overlap(cluster, name)?;
    }
    attachments(cluster)
}

fn counts(cluster: &Cluster) -> Result<(), BrokenRule> {
    let counts = [
        (Kind::Node, cluster.nodes.len(), NODES_MAX),
        (Kind::Disk, cluster.disks.len(), DISKS_MAX),
        (Kind::Volume, cluster.volumes.len(), VOLUMES_MAX),
        (Kind::Attachment, cluster.attachments.len(), ATTACHMENTS_MAX),
        (Kind::Token, cluster.tokens.len(), TOKENS_MAX),
    ];
    match counts.into_iter().find(|(_, count, max)| count > max) {
        None => Ok(()),
        Some((kind, ..)) => Err(BrokenRule::Count { kind }),
    }
}

fn revisions(cluster: &Cluster) -> Result<(), BrokenRule> {
    let fits = |kind, name: &Name, created: Generation, revision: Generation| {
        let ordered = Generation(0) < created && created <= revision && revision <= cluster.generation;
        ordered.then_some(()).ok_or_else(|| BrokenRule::Revision {
            kind,
            name: name.clone(),
        })
    };
    for (name, node) in &cluster.nodes {
        fits(Kind::Node, name, node.created, node.revision)?;
    }
    for (name, disk) in &cluster.disks {
        fits(Kind::Disk, name, disk.created, disk.revision)?;
        fits(Kind::Disk, name, disk.created, disk.extents_revision)?;
    }
    for (name, volume) in &cluster.volumes {
        fits(Kind::Volume, name, volume.created, volume.revision)?;
        fits(Kind::Volume, name, volume.created, volume.route_generation())?;
        if let Some(clearing) = volume.clearing {
            fits(Kind::Volume, name, volume.created, clearing.since)?;
        }
    }
    for (name, attachment) in &cluster.attachments {
        fits(Kind::Attachment, name, attachment.created, attachment.revision)?;
    }
    for (name, token) in &cluster.tokens {
        fits(Kind::Token, name, token.created, token.revision)?;
    }
    Ok(())
}

fn uuids(cluster: &Cluster) -> Result<(), BrokenRule> {
    let mut seen = BTreeSet::new();
    let nodes = cluster
        .nodes
        .iter()
        .map(|(name, node)| (Kind::Node, name, node.uuid));
    let disks = cluster
        .disks
        .iter()
        .map(|(name, disk)| (Kind::Disk, name, disk.uuid));
    let volumes = cluster
        .volumes
        .iter()
        .map(|(name, volume)| (Kind::Volume, name, volume.uuid));
    // Before a certain feature level attachments have none.
    let has_ids = cluster.feature_level >= ATTACHMENT_IDS;
    let attachments = cluster.attachments.iter();
    let attachments = attachments
        .filter(|(_, attachment)| has_ids || !attachment.uuid.is_nil())
        .map(|(name, attachment)| (Kind::Attachment, name, attachment.uuid));
    for (kind, name, uuid) in nodes.chain(disks).chain(volumes).chain(attachments) {
        if uuid.is_nil() || !seen.insert((kind, uuid)) {
            return Err(BrokenRule::Uuid {
                kind,
                name: name.clone(),
            });
        }
    }
    Ok(())
}

fn nodes_fit(cluster: &Cluster) -> Result<(), BrokenRule> {
    let mut addresses = BTreeSet::new();
    for (name, node) in &cluster.nodes {
        let has_begun = node.has_joined() || node.incarnation == Incarnation(0);
        let may_vote = node.has_joined() || node.role == NodeRole::Learner;
        let reached = addresses_are_good(&node.addresses);
        let apart = node.addresses.iter().all(|address| addresses.insert(*address));
        if !(has_begun && may_vote && reached && apart) {
            return Err(BrokenRule::Node { node: name.clone() });
        }
    }
    let mut members = cluster.nodes.iter().filter(|(_, node)| node.has_joined());
    if let Some((name, _)) = members.find(|(_, node)| node.feature_level < cluster.feature_level) {
        return Err(BrokenRule::FeatureLevel { node: name.clone() });
    }
    let mut members = cluster.nodes.values().filter(|node| node.is_active());
    let votes = members.any(Node::votes);
    votes.then_some(()).ok_or(BrokenRule::Voters)
}

/// No two tokens have one secret, and one that was used has let somebody in who is there and has a key.
fn tokens_fit(cluster: &Cluster) -> Result<(), BrokenRule> {
    let (mut hashes, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for (name, token) in &cluster.tokens {
        let node = token.used_by.map(|user| cluster.node_by_id(user));
        let is_used_well = node.is_none_or(|node| node.is_some_and(|(_, node)| node.key.is_some()));
        let is_one = !token.hash.is_nil() && hashes.insert(token.hash);
        if !(is_used_well && is_one) {
            return Err(BrokenRule::Token { token: name.clone() });
        }
    }
    let mut keyed = cluster
        .nodes
        .iter()
        .filter_map(|(name, node)| Some((name, node.key?)));
    match keyed.find(|(_, key)| key.is_nil() || !keys.insert(*key)) {
        None => Ok(()),
        Some((node, _)) => Err(BrokenRule::Node { node: node.clone() }),
    }
}

fn disk_is_whole(cluster: &Cluster, name: &Name, disk: &Disk) -> Result<(), BrokenRule> {
    let kind = Kind::Disk;
    if !cluster.nodes.get(&disk.node).is_some_and(Node::has_joined) {
        return Err(BrokenRule::Reference {
            kind,
            name: name.clone(),
        });
    }
    for (node, path) in &disk.other_paths {
        let is_member = cluster.nodes.get(node).is_some_and(Node::has_joined);
        let is_other = node != disk.custodian() && disk.medium.path().is_some();
        let of_present = Generation(0) < path.since && path.since <= cluster.generation;
        if !(is_member && is_other && of_present && path_is_good(&path.path)) {
            return Err(BrokenRule::Path {
                disk: name.clone(),
                node: node.clone(),
            });
        }
    }
    let block = u64::from(disk.block_bytes / 512);
    let area = match disk.usage {
        Usage::Whole => disk.data_start == 0 && disk.data_end == disk.sectors,
        Usage::Pooled => disk.data_start < disk.data_end && disk.data_end <= disk.sectors,
    };
    let fits = matches!(disk.block_bytes, 512 | 4096)
        && disk.sectors <= SECTORS_MAX
        && [disk.sectors, disk.data_start, disk.data_end]
            .iter()
            .all(|at| at.is_multiple_of(block))
        && disk
            .medium
            .bytes()
            .is_none_or(|bytes| bytes.checked_div(512) == Some(disk.sectors));
    if !(area && fits) {
        return Err(BrokenRule::Geometry {
            kind,
            name: name.clone(),
        });
    }
    let is_used = cluster.extents_on(name).next().is_some() || cluster.fragments_on(name).next().is_some();
    match disk.leaving && is_used {
        true => Err(BrokenRule::Leaving { disk: name.clone() }),
        false => Ok(()),
    }
}

/// Once a database has lineages, each disk with a superblock knows its present.
fn history_is_whole(cluster: &Cluster, name: &Name, disk: &Disk) -> Result<(), BrokenRule> {
    let latest = disk.history.latest().map(|point| point.generation);
    let expected = (!cluster.lineage.is_nil() && disk.has_superblock()).then(|| disk.superblock_generation());
    let fits = latest == expected && disk.history.iter().len() <= HISTORY_MAX;
    fits.then_some(())
        .ok_or_else(|| BrokenRule::History { disk: name.clone() })
}

fn fragment_fits(cluster: &Cluster, uuid: Uuid, fragment: &Fragment) -> Result<(), BrokenRule> {
    let block = u64::from(fragment.block_bytes / 512);
    let taken = cluster.volumes.values().any(|volume| volume.uuid == uuid);
    let whole_blocks = matches!(fragment.block_bytes, 512 | 4096)
        && fragment.sectors <= SECTORS_MAX
        && fragment.sectors.is_multiple_of(block);
    let mut at = 0;
    let pieces_fit = fragment.pieces.iter().all(|piece| {
        let begins = piece.volume_lba >= at;
        let end = piece.volume_lba.checked_add(piece.extent.sectors);
        at = end.unwrap_or(u64::MAX);
        let disk = cluster.disks.get(&piece.extent.disk);
        begins && at <= fragment.sectors && disk.is_some_and(|disk| extent_is_on(disk, &piece.extent))
    });
    let fits = !uuid.is_nil() && !taken && whole_blocks && pieces_fit && !fragment.pieces.is_empty();
    fits.then_some(()).ok_or_else(|| BrokenRule::Fragment {
        name: fragment.name.clone(),
    })
}

fn volume_is_whole(cluster: &Cluster, name: &Name, volume: &Volume) -> Result<(), BrokenRule> {
    let kind = Kind::Volume;
    let mut sectors = 0u64;
    let mut before: Option<&Extent> = None;
    let Layout::Linear { extents } = &volume.layout;
    for (index, extent) in extents.iter().enumerate() {
        let broken = || BrokenRule::Extent {
            volume: name.clone(),
            index,
        };
        let Some(disk) = cluster.disks.get(&extent.disk) else {
            return Err(BrokenRule::Reference {
                kind,
                name: name.clone(),
            });
        };
        if Some(&disk.node) != cluster.node_of(name) {
            return Err(BrokenRule::Reference {
                kind,
                name: name.clone(),
            });
        }
        // Growth fills the last unit of a disk before it goes on elsewhere on it, or leaves it for another disk.
        let leaves_some = before.is_some_and(|before| {
            before.disk == extent.disk && !before.sectors.is_multiple_of(ALLOCATION_UNIT_SECTORS)
        });
        if !extent_is_on(disk, extent) || leaves_some || volume.block_bytes < disk.block_bytes {
            return Err(broken());
        }
        before = Some(extent);
        sectors = sectors.checked_add(extent.sectors).ok_or_else(broken)?;
    }
    let block = u64::from(volume.block_bytes / 512);
    if !clearing_fits(cluster, name, volume, block) {
        return Err(BrokenRule::Clearing { volume: name.clone() });
    }
    let fits = matches!(volume.block_bytes, 512 | 4096)
        && (1..=SECTORS_MAX).contains(&volume.sectors)
        && volume.sectors.is_multiple_of(block)
        && volume.sectors == sectors;
    fits.then_some(()).ok_or_else(|| BrokenRule::Geometry {
        kind,
        name: name.clone(),
    })
}

/// What is still to be cleared lies behind what guests use; nobody uses a volume that is being deleted.
fn clearing_fits(cluster: &Cluster, name: &Name, volume: &Volume, block: u64) -> bool {
    let Some(clearing) = volume.clearing else {
        return !volume.deleting;
    };
    let in_order = clearing.from <= clearing.cleared && clearing.cleared < volume.sectors;
    let whole = [clearing.from, clearing.cleared]
        .iter()
        .all(|at| at.is_multiple_of(block.max(1)));
    let unused = clearing.from == 0 && cluster.attachments_of(name).next().is_none();
    in_order && whole && (unused || !volume.deleting)
}

fn extent_is_on(disk: &Disk, extent: &Extent) -> bool {
    let end = extent.disk_lba.checked_add(extent.sectors);
    let inside = extent.disk_lba >= disk.data_start && end.is_some_and(|end| end <= disk.data_end);
    let begins = match disk.usage {
        Usage::Whole => extent.disk_lba == 0,
        Usage::Pooled => {
            (extent.disk_lba - disk.data_start.min(extent.disk_lba)).is_multiple_of(ALLOCATION_UNIT_SECTORS)
        }
    };
    extent.sectors > 0 && inside && begins
}

/// The first extent, by disk and volume, that is not on its disk or lies over another.
pub(crate) fn check_extents(cluster: &Cluster) -> Option<(Name, Name)> {
    for (name, disk) in &cluster.disks {
        let volumes = cluster
            .extents_on(name)
            .map(|(volume, _, extent)| (volume, extent));
        let pieces = cluster
            .fragments_on(name)
            .map(|(_, fragment, piece)| (&fragment.name, &piece.extent));
        let mut outside = volumes
            .chain(pieces)
            .filter(|(_, extent)| !extent_is_on(disk, extent));
        if let Some((volume, _)) = outside.next() {
            return Some((name.clone(), volume.clone()));
        }
        if let Err(BrokenRule::Overlap { disk, second, .. }) = no_overlap(cluster, name) {
            return Some((disk, second));
        }
    }
    for fragment in cluster.fragments.values() {
        let mut at = 0;
        for piece in &fragment.pieces {
            if piece.volume_lba < at {
                return Some((piece.extent.disk.clone(), fragment.name.clone()));
            }
            at = piece.volume_lba.saturating_add(piece.extent.sectors);
        }
    }
    None
}

fn no_overlap(cluster: &Cluster, name: &Name) -> Result<(), BrokenRule> {
    let Some(disk) = cluster.disks.get(name) else {
        return Ok(());
    };
    let mut owned: Vec<_> = cluster
        .extents_on(name)
        .map(|(volume, _, extent)| match disk.usage {
            Usage::Pooled => (units_of(disk, extent), volume),
            Usage::Whole => ((0, u64::MAX), volume),
        })
        .chain(
            cluster
                .fragments_on(name)
                .map(|(_, fragment, piece)| (units_of(disk, &piece.extent), &fragment.name)),
        )
        .collect();
    owned.sort_unstable();
    let pairs = owned.iter().zip(owned.iter().skip(1));
    for (((_, end), first), ((start, _), second)) in pairs {
        if start < end {
            return Err(BrokenRule::Overlap {
                disk: name.clone(),
                first: (*first).clone(),
                second: (*second).clone(),
            });
        }
    }
    Ok(())
}

fn attachments(cluster: &Cluster) -> Result<(), BrokenRule> {
    let kind = Kind::Attachment;
    let mut sockets = BTreeSet::new();
    for (name, attachment) in &cluster.attachments {
        let known = match cluster.node_of(&attachment.volume) {
            Some(node) if cluster.feature_level < FORWARDING => *node == attachment.node,
            Some(_) => cluster.nodes.contains_key(&attachment.node),
            None => false,
        };
        if !known {
            return Err(BrokenRule::Reference {
                kind,
                name: name.clone(),
            });
        }
        if !sockets.insert((&attachment.node, &attachment.socket)) {
            return Err(BrokenRule::Socket {
                attachment: name.clone(),
            });
        }
        let mut of_volume = cluster.attachments_of(&attachment.volume);
        if !attachment.read_only && of_volume.any(|(other, _)| other != name) {
            let volume = attachment.volume.clone();
            return Err(BrokenRule::Writers { volume });
        }
    }
    Ok(())
}
