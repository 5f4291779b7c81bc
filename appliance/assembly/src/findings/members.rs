//! Other nodes that are not heard or not well, and nodes that were given up.

use crate::cluster::sensing::{Sensed, called};
use palisade_api::FindingKind;
use palisade_block::Nanos;
use palisade_membership::{Limp, PeerState};
use palisade_model::{Cluster, Membership, Node};
use palisade_words::{LinkIndex, Name};

/// A kind, the node that it is about, and what is said of it.
pub type About = (FindingKind, Name, String);

/// What is wrong with members, as a node sees it by which heartbeats have come to this.
pub fn findings(cluster: &Cluster, own: &Name, sensed: &Sensed, now: Nanos) -> Vec<About> {
    let about = |(name, node): (&Name, &Node)| {
        let (kind, said) = match node.membership {
            Membership::Joining => return None,
            Membership::Evicted => (
                FindingKind::ClusterMemberEvicted,
                evicted(name, node, own, sensed, now),
            ),
            Membership::Active if name == own => left_out(sensed)?,
            Membership::Active => unwell(name, node, cluster, own, sensed, now)?,
        };
        Some((kind, name.clone(), said))
    };
    let copied = sensed.copied.iter().filter_map(|(node, said)| {
        let (name, _) = cluster.node_by_id(*node)?;
        let said = format!("node {name} is there twice: {said}");
        Some((FindingKind::ClusterIdentityCopied, name.clone(), said))
    });
    cluster.nodes.iter().filter_map(about).chain(copied).collect()
}

fn evicted(name: &Name, node: &Node, own: &Name, sensed: &Sensed, now: Nanos) -> String {
    if name == own {
        return "the other nodes have given this one up, as they did not hear it".to_owned();
    }
    let heard = sensed.peers.get(&node.uuid).and_then(|peer| peer.heard);
    match heard {
        Some(heard) => format!(
            "node {name} was given up by the others; this one last heard it {} ago",
            span(now.since(heard))
        ),
        None => format!("node {name} was given up by the others; this one has not heard it since its start"),
    }
}

fn left_out(sensed: &Sensed) -> Option<(FindingKind, String)> {
    let is_left_out = sensed.is_settled && sensed.is_left_out;
    let said = "no other node is heard that hears this one: they may give it up".to_owned();
    is_left_out.then_some((FindingKind::ClusterMemberSilent, said))
}

fn unwell(
    name: &Name,
    node: &Node,
    cluster: &Cluster,
    own: &Name,
    sensed: &Sensed,
    now: Nanos,
) -> Option<(FindingKind, String)> {
    let peer = sensed.peers.get(&node.uuid).filter(|_| sensed.is_settled)?;
    let own = cluster.nodes.get(own)?;
    let said = words(&peer.state, called(own, node), now)?;
    let kind = match peer.state {
        PeerState::Alive | PeerState::Limping(_) => FindingKind::ClusterMemberLimps,
        PeerState::OneWay { .. } | PeerState::Silent { .. } => FindingKind::ClusterMemberSilent,
    };
    Some((kind, format!("node {name} {said}")))
}

/// What is wrong with a node, to follow its name. `called` has the addresses by which links are numbered. None of one that is well.
pub fn words(state: &PeerState, called: &Node, now: Nanos) -> Option<String> {
    Some(match state {
        PeerState::Alive => return None,
        PeerState::Silent { since } => format!("has not been heard for {}", span(now.since(*since))),
        PeerState::OneWay { since: Some(since) } => format!(
            "is heard and shows nothing that it has heard of this one since {} ago",
            span(now.since(*since))
        ),
        PeerState::OneWay { since: None } => {
            "is heard and has shown nothing that it has heard of this one".to_owned()
        }
        PeerState::Limping(Limp::LinksLost(links)) => {
            let at = |link: &LinkIndex| match called.addresses.get(usize::from(link.0)) {
                Some(address) => address.to_string(),
                None => format!("link {}", link.0),
            };
            let lost: Vec<String> = links.iter().map(at).collect();
            format!("is heard, and not at {}", lost.join(", "))
        }
        PeerState::Limping(Limp::Late { gap }) => {
            format!("is heard late: {} between two signs of life", span(*gap))
        }
        PeerState::Limping(Limp::Slow { round_trip }) => {
            format!("is slow to answer: {} at best", span(*round_trip))
        }
    })
}

/// A length of time, in the unit that a reader needs.
fn span(span: Nanos) -> String {
    match span.0 / 1_000_000 {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..120_000 => format!("{} s", ms / 1000),
        ms => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests;
