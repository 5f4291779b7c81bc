//! The cluster as this node knows it, for operators.

use crate::cluster::sensing::{Sensed, called};
use crate::findings::members;
use crate::shared::Shared;
use palisade_api::{ClusterMember, ClusterPart, ClusterStatus, MemberCondition};
use palisade_consensus::raft::{MemberRole, MemberStanding, VoterId};
use palisade_membership::PeerState;
use palisade_model::{Cluster, Node};
use palisade_sys::clock::boot_time;
use palisade_words::Name;

/// What is known now. Nobody is waited for.
pub(crate) fn status(shared: &Shared) -> ClusterStatus {
    let cluster = shared.cluster();
    let standing = shared.agreed.as_member().map(|member| member.standing());
    let leader = standing.as_ref().and_then(|standing| standing.leader);
    let name_of = |id: VoterId| cluster.node_by_id(id.0).map(|(name, _)| name.to_string());
    let members = cluster.nodes.iter();
    let seen = shared
        .site
        .get()
        .map(|site| site.sensing().seen())
        .unwrap_or_default();
    let waits_at = shared
        .site
        .get()
        .and_then(|site| site.door().open().first().copied());
    ClusterStatus {
        id: cluster.id.to_string(),
        node: shared.name.to_string(),
        part: standing.as_ref().map_or(ClusterPart::Alone, part),
        leader: match &standing {
            None => Some(shared.name.to_string()),
            Some(_) => leader.and_then(name_of),
        },
        has_majority: standing.as_ref().is_none_or(|standing| standing.has_majority),
        term: standing.as_ref().map_or(0, |standing| standing.term),
        applied: standing
            .as_ref()
            .and_then(|standing| standing.applied)
            .unwrap_or_default(),
        agreed: standing
            .as_ref()
            .and_then(|standing| standing.agreed)
            .unwrap_or_default(),
        generation: cluster.generation.0,
        epoch: cluster.epoch.0,
        feature_level: cluster.feature_level.0,
        waits_at: waits_at.map(|address| address.to_string()),
        members: members
            .map(|(name, node)| member(&cluster, name, node, standing.as_ref(), (shared, &seen)))
            .collect(),
    }
}

fn part(standing: &MemberStanding) -> ClusterPart {
    match standing.role {
        MemberRole::Leader => ClusterPart::Leader,
        MemberRole::Follower => ClusterPart::Follower,
        MemberRole::Candidate => ClusterPart::Candidate,
        // One that has stopped is told as a finding, and starts anew.
        MemberRole::Learner | MemberRole::Stopped => ClusterPart::Learner,
    }
}

fn condition(state: &PeerState) -> MemberCondition {
    match state {
        PeerState::Alive => MemberCondition::Alive,
        PeerState::Limping(_) => MemberCondition::Limping,
        PeerState::OneWay { .. } => MemberCondition::OneWay,
        PeerState::Silent { .. } => MemberCondition::Silent,
    }
}

fn member(
    cluster: &Cluster,
    name: &Name,
    node: &Node,
    standing: Option<&MemberStanding>,
    (shared, seen): (&Shared, &Sensed),
) -> ClusterMember {
    let id = VoterId(node.uuid);
    let peer = standing.and_then(|standing| standing.members.iter().find(|peer| peer.id == id));
    let leads = match standing {
        None => *name == shared.name,
        Some(standing) => standing.leader == Some(id),
    };
    let this = cluster.nodes.get(&shared.name);
    let own = this.map(|node| node.uuid) == Some(node.uuid);
    let (sensed, now) = (seen.peers.get(&node.uuid), boot_time());
    let judged = sensed.filter(|_| seen.is_settled);
    let called = this.map_or(node, |this| called(this, node));
    let is_leader = standing.is_some_and(|standing| standing.role == MemberRole::Leader);
    let logged = standing.and_then(|standing| standing.logged).unwrap_or_default();
    let matches = peer.and_then(|peer| peer.matches);
    let summary = crate::views::member(node);
    ClusterMember {
        name: name.to_string(),
        id: node.uuid.to_string(),
        membership: summary.membership,
        role: summary.role,
        votes: standing.is_none() || peer.is_some_and(|peer| peer.votes),
        leads,
        behind: is_leader.then(|| match own {
            true => 0,
            false => logged.saturating_sub(matches.unwrap_or_default()),
        }),
        heard_ms: match own {
            true => Some(0),
            false => sensed
                .and_then(|sensed| sensed.heard)
                .map(|heard| now.since(heard).0 / 1_000_000),
        },
        condition: judged.map(|sensed| condition(&sensed.state)),
        unwell: judged.and_then(|sensed| members::words(&sensed.state, called, now)),
        addresses: summary.peer_addresses,
        failure_domain: summary.failure_domain,
    }
}
