//! The cluster over REST: it begins, nodes join it, and tokens let them in.

use super::{Rest, known, name};
use crate::cluster::join::{self, Applicant};
use crate::cluster::{init, status};
use crate::unix_time::now_s;
use crate::views::{node_role, node_summary};
use palisade_api as api;
use palisade_api::{ClusterJoined, ClusterStatus, JoinTokenMade, JoinTokenSummary, NodeSummary};
use palisade_api::{Problem, ProblemKind, Removal, RemovalOptions};
use palisade_model::{ChangeNode, Command, CreateToken, NodeRole, RemoveNode, RevokeToken};
use palisade_trust::{KeyDirectory, TokenText};
use palisade_words::{Generation, Name};
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

impl Rest {
    pub(super) fn cluster_status(&self) -> ClusterStatus {
        status::status(&self.shared)
    }

    pub(super) fn begin_cluster(&self, request: &api::ClusterInit) -> Result<ClusterStatus, Problem> {
        let addresses = addresses(&request.addresses)?;
        let domain = domain(request.failure_domain.as_deref())?;
        init::run(&self.shared, addresses, domain)?;
        Ok(self.cluster_status())
    }

    pub(super) fn join_cluster(&self, request: &api::ClusterJoin) -> Result<ClusterJoined, Problem> {
        let shared = &self.shared;
        let _one = shared.becoming.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shared.cluster();
        if shared.site.get().is_some() || own.nodes.len() > 1 {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "member_already",
                "this node is in a cluster of several already",
                "see which: palisade cluster status",
            ));
        }
        let token: TokenText = request.token.trim().parse().map_err(|error| {
            Problem::new(
                ProblemKind::Invalid,
                "invalid_argument",
                format!("the token is none: {error}"),
                "paste all of what `palisade cluster token create` has printed on a node of the cluster",
            )
            .about("token")
        })?;
        let peers: Vec<SocketAddr> = addresses_in("peers", &request.peers)?;
        let applicant = Applicant {
            node: own
                .nodes
                .get(&shared.name)
                .map(|node| node.uuid)
                .unwrap_or_default(),
            name: match &request.name {
                Some(text) => name("name", text)?,
                None => shared.name.clone(),
            },
            addresses: addresses(&request.addresses)?,
            failure_domain: domain(request.failure_domain.as_deref())?,
        };
        // From here on nothing is agreed on alone: what comes between would be forgotten.
        let file = join::run(&shared.settings, &own, &peers, &token, applicant)?;
        shared.agreed.freeze();
        shared.begins_anew.store(true, Relaxed);
        log::info!(
            "this node has joined cluster {} as {}, and starts anew",
            file.cluster,
            file.name
        );
        Ok(ClusterJoined {
            cluster: file.cluster.to_string(),
            node: file.name.to_string(),
            next: "the daemon starts anew as a node of the cluster, and is a member once it has heard of everything: see \
                   `palisade cluster status`"
                .to_owned(),
        })
    }

    pub(super) fn tokens(&self) -> Vec<JoinTokenSummary> {
        let cluster = self.shared.cluster();
        let tokens = cluster.tokens.iter();
        let summary = |(id, token): (&Name, &palisade_model::JoinToken)| JoinTokenSummary {
            id: id.to_string(),
            role: node_role(token.admits),
            expires_unix_s: token.expires_at_s,
            used_by: token.used_by.map(|user| match cluster.node_by_id(user) {
                Some((name, _)) => name.to_string(),
                None => user.to_string(),
            }),
        };
        tokens.map(summary).collect()
    }

    pub(super) fn make_token(&self, request: &api::JoinTokenCreate) -> Result<JoinTokenMade, Problem> {
        let id = name("id", &request.id)?;
        let cluster = self.shared.cluster();
        let keys = KeyDirectory::open(&self.shared.settings.state_dir);
        let authority = keys.and_then(|keys| keys.authority_certificate(cluster.id));
        let Ok(Some(authority)) = authority else {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "cluster_alone",
                "this node is in no cluster that others could join",
                "begin one: palisade cluster init --address ADDRESS:PORT",
            ));
        };
        if cluster.tokens.contains_key(&id) {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "token_exists",
                format!("there is a token {id} already, whose text was told to whoever has made it, and to nobody else"),
                format!("choose another id, or take that one back: palisade cluster token revoke {id}"),
            )
            .about("id"));
        }
        let token = TokenText::generate(palisade_trust::authority::fingerprint(&authority));
        let token = token.map_err(|error| {
            Problem::new(
                ProblemKind::Internal,
                "token_not_made",
                format!("no token can be made: {error}"),
                "ask again",
            )
        })?;
        let now_s = now_s();
        let expires_at_s = now_s.saturating_add(request.valid_s);
        self.propose(Command::CreateToken(CreateToken {
            name: id.clone(),
            hash: token.secret().hash(),
            now_s,
            expires_at_s,
            admits: wanted(request.role),
        }))?;
        let nodes = cluster.nodes.values().filter(|node| node.votes());
        let peers = nodes.flat_map(|node| &node.addresses);
        Ok(JoinTokenMade {
            id: id.to_string(),
            token: token.to_string(),
            role: request.role,
            expires_unix_s: expires_at_s,
            peers: peers.map(ToString::to_string).collect(),
        })
    }

    pub(super) fn revoke_token(&self, id: &str) -> Result<(), Problem> {
        let name = known("token", id)?;
        self.propose(Command::RevokeToken(RevokeToken { name, expected: None }))?;
        Ok(())
    }

    pub(super) fn change_node(
        &self,
        node: &str,
        patch: &api::NodePatch,
        expected: Option<u64>,
    ) -> Result<NodeSummary, Problem> {
        let name = self.node_called(node)?;
        let addresses = match &patch.peer_addresses {
            Some(given) => Some(addresses_in("peer_addresses", given)?),
            None => None,
        };
        self.propose(Command::ChangeNode(ChangeNode {
            name: name.clone(),
            addresses,
            failure_domain: domain(patch.failure_domain.as_deref())?,
            role: patch.role.map(wanted),
            expected: expected.map(Generation),
        }))?;
        let cluster = self.shared.cluster();
        let found = cluster.nodes.get(&name).ok_or_else(super::gone_again)?;
        Ok(node_summary(&name, found, name == self.shared.name))
    }

    pub(super) fn remove_node(
        &self,
        node: &str,
        expected: Option<u64>,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        let name = self.node_called(node)?;
        let cluster = self.shared.cluster();
        let found = cluster.nodes.get(&name).ok_or_else(super::gone_again)?;
        let command = Command::RemoveNode(RemoveNode {
            name: name.clone(),
            expected: expected.map(Generation),
        });
        let removal = Removal {
            subject: format!("node {name}"),
            generation: found.revision.0,
            effects: vec![format!(
                "node {name} is told nothing of the cluster any more; its certificate is refused, and it comes back with a new \
                 token and an empty state directory only"
            )],
        };
        match how.dry_run {
            true => cluster
                .apply(&command)
                .map(drop)
                .map_err(|refusal| crate::problem::of_refusal(&refusal))?,
            false => drop(self.propose(command)?),
        }
        Ok(removal)
    }

    /// The node of this name or id.
    pub(super) fn node_called(&self, node: &str) -> Result<Name, Problem> {
        let cluster = self.shared.cluster();
        if node == api::routes::SELF {
            return Ok(self.shared.name.clone());
        }
        let mut nodes = cluster.nodes.iter();
        let found = nodes.find(|(name, known)| name.as_str() == node || known.uuid.to_string() == node);
        match found {
            Some((name, _)) => Ok(name.clone()),
            None => Err(Problem::not_found("node", node)),
        }
    }
}

fn addresses(given: &[String]) -> Result<Vec<SocketAddr>, Problem> {
    addresses_in("addresses", given)
}

fn addresses_in(field: &'static str, given: &[String]) -> Result<Vec<SocketAddr>, Problem> {
    let read = |text: &String| {
        text.parse().map_err(|_| {
            let message = format!("{text:?} is no address with a port, as 192.0.2.7:7781");
            Problem::new(
                ProblemKind::Invalid,
                "invalid_argument",
                message,
                "correct it and ask again",
            )
            .about(field)
        })
    };
    given.iter().map(read).collect()
}

fn domain(given: Option<&str>) -> Result<Option<Name>, Problem> {
    given.map(|text| name("failure_domain", text)).transpose()
}

fn wanted(role: api::NodeRole) -> NodeRole {
    match role {
        api::NodeRole::Voter => NodeRole::Voter,
        api::NodeRole::Learner => NodeRole::Learner,
    }
}
