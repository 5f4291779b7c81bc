//! The nodes of its cluster.

use palisade_api::{Member, Membership, NodeRole, NodeSummary};

/// The permanent id of the one that is asked.
pub const NODE_ID: &str = "6f1c5a52-3d0e-4b0a-9d9c-3f4c2f1d9a11";

/// That of another one.
pub const OTHER_NODE_ID: &str = "7a2d6b63-4e1f-4c1b-8eac-4a5d3a2eab22";

pub fn both() -> Vec<NodeSummary> {
    vec![
        NodeSummary {
            id: NODE_ID.to_owned(),
            name: "host-a".to_owned(),
            answers: true,
            addresses: vec![],
            member: member(),
        },
        NodeSummary {
            id: OTHER_NODE_ID.to_owned(),
            name: "host-b".to_owned(),
            answers: false,
            addresses: vec!["https://192.0.2.2:7780".to_owned()],
            member: Member {
                membership: Membership::Joining,
                role: NodeRole::Learner,
                ..Member::default()
            },
        },
    ]
}

/// What the one that is asked is in the cluster.
pub fn member() -> Member {
    Member {
        incarnation: 7,
        feature_level: 3,
        peer_addresses: vec!["192.0.2.1:7781".to_owned(), "198.51.100.1:7781".to_owned()],
        failure_domain: Some("rack-3".to_owned()),
        ..Member::default()
    }
}
