//! What the nodes have agreed on of each of them, and which have to do with a resource.

use crate::views::View;
use palisade_api as api;
use palisade_model::{Kind, Membership, Node, NodeRole};
use palisade_words::Name;
use std::collections::BTreeSet;

impl View<'_> {
    /// The nodes that have to do with a resource.
    pub(super) fn nodes_of(&self, kind: Kind, name: &Name) -> BTreeSet<Name> {
        let disk = |disk: &Name| self.cluster.disks.get(disk).map(|disk| disk.custodian().clone());
        match kind {
            Kind::Disk => disk(name).into_iter().collect(),
            Kind::Volume => {
                let extents = self.cluster.volumes.get(name).map(|volume| volume.all_extents());
                let below = extents
                    .into_iter()
                    .flatten()
                    .filter_map(|extent| disk(&extent.disk));
                let above = self
                    .cluster
                    .attachments_of(name)
                    .map(|(_, attachment)| attachment.node.clone());
                below.chain(above).collect()
            }
            _ => (self
                .cluster
                .attachments
                .get(name)
                .map(|attachment| attachment.node.clone()))
            .into_iter()
            .collect(),
        }
    }
}

/// A node in a list. `answers`: it is the one that is asked.
pub fn node_summary(name: &Name, node: &Node, answers: bool) -> api::NodeSummary {
    api::NodeSummary {
        id: node.uuid.to_string(),
        name: name.to_string(),
        answers,
        addresses: Vec::new(),
        member: member(node),
    }
}

/// Whether it votes.
pub fn node_role(role: NodeRole) -> api::NodeRole {
    match role {
        NodeRole::Voter => api::NodeRole::Voter,
        NodeRole::Learner => api::NodeRole::Learner,
    }
}

/// What a node is in the cluster.
pub fn member(node: &Node) -> api::Member {
    api::Member {
        revision: node.revision.0,
        membership: match node.membership {
            Membership::Active => api::Membership::Active,
            Membership::Joining => api::Membership::Joining,
            Membership::Evicted => api::Membership::Evicted,
        },
        role: node_role(node.role),
        incarnation: node.incarnation.0,
        feature_level: node.feature_level.0,
        peer_addresses: node.addresses.iter().map(ToString::to_string).collect(),
        failure_domain: node.failure_domain.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_words::{FeatureLevel, Generation, Incarnation, Uuid};

    #[test]
    fn all_that_is_agreed_on_of_a_node_is_shown() {
        let node = Node {
            incarnation: Incarnation(7),
            membership: Membership::Joining,
            role: NodeRole::Learner,
            feature_level: FeatureLevel(3),
            addresses: vec!["[2001:db8::7]:7781".parse().unwrap()],
            failure_domain: Some(Name::new("rack-3").unwrap()),
            ..Node::of(Uuid(1), Generation(1))
        };
        let shown = serde_json::to_value(member(&node)).unwrap();
        let expected = serde_json::json!({
            "revision": 1, "membership": "joining", "role": "learner", "incarnation": 7, "feature_level": 3,
            "peer_addresses": ["[2001:db8::7]:7781"], "failure_domain": "rack-3",
        });
        assert_eq!(shown, expected);
        let alone = member(&Node::of(Uuid(1), Generation(1)));
        let expected = api::Member {
            revision: 1,
            ..api::Member::default()
        };
        assert_eq!(alone, expected);
    }
}
