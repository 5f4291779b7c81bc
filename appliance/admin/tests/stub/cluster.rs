//! What the stand-in says of a cluster of two nodes, and what it keeps of the changes that are asked for.

use super::{NODE_ID, OTHER_NODE_ID, Stub};
use palisade_admin::Appliance;
use palisade_api::*;

/// The generation at which each node last changed.
pub const REVISION: u64 = 41;

/// The text of each token that it makes.
pub const TOKEN: &str = "palisade-join-aeydcmrtgq2tmnzyhfqwey3emvtkljnfuws2ljnfuws2ljnf";

/// A change of the cluster that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Init(ClusterInit),
    Join(ClusterJoin),
    Token(JoinTokenCreate),
    Revoke(String),
    Change(String, NodePatch, Option<u64>),
    Remove(String, Option<u64>),
}

/// A cluster of two, asked by the node that leads it.
pub fn of_two() -> ClusterStatus {
    let member = |name: &str, id: &str, leads: bool| ClusterMember {
        name: name.to_owned(),
        id: id.to_owned(),
        membership: Membership::Active,
        role: NodeRole::Voter,
        votes: true,
        leads,
        behind: (!leads).then_some(0),
        heard_ms: (!leads).then_some(40),
        condition: (!leads).then_some(MemberCondition::Limping),
        unwell: (!leads).then(|| "is slow to answer: 90 ms at best".to_owned()),
        addresses: vec![format!("192.0.2.{}:7781", if leads { 1 } else { 2 })],
        failure_domain: Some("rack-3".to_owned()),
    };
    ClusterStatus {
        id: "0a1b2c3d-0000-4000-8000-000000000001".to_owned(),
        node: "host-a".to_owned(),
        part: ClusterPart::Leader,
        leader: Some("host-a".to_owned()),
        has_majority: true,
        term: 3,
        applied: 100,
        agreed: 100,
        generation: 50,
        epoch: 2,
        feature_level: 4,
        waits_at: Some("192.0.2.1:7781".to_owned()),
        // Not in the order of names: the server sorts.
        members: vec![
            member("host-b", OTHER_NODE_ID, false),
            member("host-a", NODE_ID, true),
        ],
    }
}

impl Stub {
    /// Keeps what was asked for, unless it is to be refused.
    fn note(&self, asked: Asked) -> Result<(), Problem> {
        self.asked.lock().unwrap().push(asked);
        self.refusal.lock().unwrap().take().map_or(Ok(()), Err)
    }

    pub(super) fn init(&self, request: ClusterInit) -> Result<ClusterStatus, Problem> {
        self.note(Asked::Init(request))?;
        Ok(self.cluster())
    }

    pub(super) fn join(&self, request: ClusterJoin) -> Result<ClusterJoined, Problem> {
        let node = request.name.clone().unwrap_or_else(|| "host-a".to_owned());
        self.note(Asked::Join(request))?;
        Ok(ClusterJoined {
            cluster: of_two().id,
            node,
            next: "it starts anew as a member".to_owned(),
        })
    }

    pub(super) fn token(&self, request: JoinTokenCreate) -> Result<JoinTokenMade, Problem> {
        self.note(Asked::Token(request.clone()))?;
        let mut tokens = self.tokens.lock().unwrap();
        if tokens.iter().any(|token| token.id == request.id) {
            return Err(Problem::join_token_exists(&request.id));
        }
        let expires_unix_s = 1_800_000_000;
        tokens.push(JoinTokenSummary {
            id: request.id.clone(),
            role: request.role,
            expires_unix_s,
            used_by: None,
        });
        Ok(JoinTokenMade {
            id: request.id,
            token: TOKEN.to_owned(),
            role: request.role,
            expires_unix_s,
            peers: vec!["192.0.2.1:7781".to_owned(), "[2001:db8::1]:7781".to_owned()],
        })
    }

    pub(super) fn revoke(&self, id: &str) -> Result<(), Problem> {
        self.note(Asked::Revoke(id.to_owned()))?;
        let mut tokens = self.tokens.lock().unwrap();
        let before = tokens.len();
        tokens.retain(|token| token.id != id);
        match tokens.len() < before {
            true => Ok(()),
            false => Err(Problem::not_found("token", id)),
        }
    }

    fn known(&self, name: &str, expected: Option<u64>) -> Result<NodeSummary, Problem> {
        let found = self.nodes().into_iter().find(|node| node.name == name);
        let node = found.ok_or_else(|| Problem::not_found("node", name))?;
        match expected {
            Some(expected) if expected != REVISION => Err(Problem::changed("node", name, expected, REVISION)),
            _ => Ok(node),
        }
    }

    pub(super) fn change(
        &self,
        name: &str,
        patch: NodePatch,
        expected: Option<u64>,
    ) -> Result<NodeSummary, Problem> {
        self.note(Asked::Change(name.to_owned(), patch.clone(), expected))?;
        let node = self.known(name, expected)?;
        let member = Member {
            role: patch.role.unwrap_or(node.member.role),
            peer_addresses: patch.peer_addresses.unwrap_or(node.member.peer_addresses),
            failure_domain: patch.failure_domain.or(node.member.failure_domain),
            revision: REVISION + 1,
            ..node.member
        };
        Ok(NodeSummary { member, ..node })
    }

    pub(super) fn remove(
        &self,
        name: &str,
        expected: Option<u64>,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        if !how.dry_run {
            self.note(Asked::Remove(name.to_owned(), expected))?;
        }
        self.known(name, expected)?;
        Ok(Removal {
            subject: format!("node {name}"),
            generation: REVISION,
            effects: vec![format!("node {name} is a member no more")],
        })
    }
}
