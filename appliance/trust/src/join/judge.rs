//! What a node of the cluster says to a machine that wants to join, and to a node that wants a new certificate. Pure: the
//! cluster, the request and the time decide.

use super::message::{JoinGrant, JoinRefused, JoinRequest, KnownNode, RenewGrant, RenewRequest};
use crate::authority::{Authority, AuthorityError, request_key_sum};
use crate::identity::PeerIdentity;
use palisade_model::{AddNode, AdmitNode, Cluster, Command, NodeRole, Refusal};
use palisade_words::Uuid;

/// Why a machine is not let in, or a node gets no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinVerdict {
    /// It has something of its own, which would be lost or taken for the cluster's.
    #[error(
        "this machine has {disks} disks, {volumes} volumes and {attachments} attachments in a database of its own, and joining \
         would forget them: take them away there, or keep them by joining with an empty state directory and importing the \
         disks then"
    )]
    NotEmpty {
        /// How many disks.
        disks: u32,
        /// How many volumes.
        volumes: u32,
        /// How many attachments.
        attachments: u32,
    },
    /// It cannot be called back.
    #[error(
        "this machine names no address under which other nodes reach it: set one in its configuration and join again"
    )]
    NoAddress,
    /// The cluster refuses.
    #[error("{refusal}; {}", remedy(refusal))]
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// The request for a certificate is none, or the certificate cannot be signed.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// The node that was asked has no key of the authority.
    #[error(
        "the node that was asked cannot sign certificates, as it does not vote: ask one that does ({voters})"
    )]
    NoAuthority {
        /// The names of those that do.
        voters: String,
    },
    /// No majority has agreed on it in time.
    #[error(
        "the cluster has not agreed on it in time, as no majority of its voters answers at the moment: ask again, the token stays \
         good for this machine"
    )]
    NotAgreed,
    /// The node that asks is none of the cluster's, or is known by another key.
    #[error(
        "the node that asks is not in the cluster any more, or is known by another key: let it join again with a new token"
    )]
    NoSuchNode,
}

impl JoinVerdict {
    /// The stable code for programs, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            JoinVerdict::NotEmpty { .. } => "join_not_empty",
            JoinVerdict::NoAddress => "join_no_address",
            JoinVerdict::Refused { refusal } => refusal.code(),
            JoinVerdict::Authority(AuthorityError::Request { .. }) => "join_request_invalid",
            JoinVerdict::Authority(_) => "join_cannot_sign",
            JoinVerdict::NoAuthority { .. } => "join_no_authority",
            JoinVerdict::NotAgreed => "join_not_agreed",
            JoinVerdict::NoSuchNode => "join_no_such_node",
        }
    }

    /// As the other end is told.
    pub fn told(&self) -> JoinRefused {
        JoinRefused {
            code: self.code().into(),
            sentence: self.to_string(),
        }
    }
}

/// Judges a request: the command that lets the machine in, to be agreed on; or why not. `now_s`: seconds since 1970, by the
/// clock of the node that was asked. The token is looked for first: who has none hears nothing of the cluster.
///
/// # Errors
/// [`JoinVerdict::Refused`], [`JoinVerdict::NotEmpty`], [`JoinVerdict::NoAddress`], [`JoinVerdict::Authority`].
pub fn judge(request: &JoinRequest, cluster: &Cluster, now_s: u64) -> Result<Command, JoinVerdict> {
    if request.secret.find(cluster).is_none() {
        return Err(JoinVerdict::Refused {
            refusal: Refusal::TokenUnknown,
        });
    }
    let (disks, volumes, attachments) = (request.disks, request.volumes, request.attachments);
    if disks > 0 || volumes > 0 || attachments > 0 {
        return Err(JoinVerdict::NotEmpty {
            disks,
            volumes,
            attachments,
        });
    }
    if request.addresses.is_empty() {
        return Err(JoinVerdict::NoAddress);
    }
    let command = Command::AdmitNode(AdmitNode {
        token: request.secret.hash(),
        key: request_key_sum(&request.certificate_request)?,
        now_s,
        feature_level: request.feature_level,
        node: AddNode {
            name: request.name.clone(),
            uuid: request.node,
            addresses: request.addresses.clone(),
            failure_domain: request.failure_domain.clone(),
        },
    });
    // As it is agreed on is what counts; what is refused now already costs nobody a turn of the log.
    cluster
        .apply(&command)
        .map_err(|refusal| JoinVerdict::Refused { refusal })?;
    Ok(command)
}

/// What a machine gets whose [`AdmitNode`] has been agreed on, by the cluster as it is after that.
///
/// # Errors
/// [`JoinVerdict::NoSuchNode`]: it has been taken away meanwhile; [`JoinVerdict::Authority`].
pub fn grant(
    request: &JoinRequest,
    cluster: &Cluster,
    authority: &Authority,
    now_s: u64,
) -> Result<JoinGrant, JoinVerdict> {
    let key = request_key_sum(&request.certificate_request)?;
    let found = cluster.node_by_id(request.node);
    let found = found.filter(|(_, node)| node.key == Some(key));
    let (_, node) = found.ok_or(JoinVerdict::NoSuchNode)?;
    of_cluster(cluster, authority)?;
    let certificate = authority.sign(&request.certificate_request, request.node, now_s)?;
    let nodes = cluster.nodes.iter().map(|(name, node)| KnownNode {
        node: node.uuid,
        name: name.clone(),
        key: node.key,
        addresses: node.addresses.clone(),
    });
    Ok(JoinGrant {
        cluster: cluster.id,
        meant_for: node.meant_for,
        certificate: certificate.der().to_vec(),
        authority: authority.certificate().to_vec(),
        authority_key: (node.meant_for == NodeRole::Voter).then(|| authority.key_der()),
        nodes: nodes.collect(),
    })
}

/// What a node gets that asks for a new certificate, over a connection that knows it. It keeps its key: another would be
/// another node. The authority's key goes to one that votes, or is meant to.
///
/// # Errors
/// [`JoinVerdict::NoSuchNode`], [`JoinVerdict::Authority`].
pub fn renew(
    request: &RenewRequest,
    peer: PeerIdentity,
    cluster: &Cluster,
    authority: &Authority,
    now_s: u64,
) -> Result<RenewGrant, JoinVerdict> {
    let key = request_key_sum(&request.certificate_request)?;
    let found = cluster.node_by_id(peer.node);
    let found = found.filter(|(_, node)| node.key.is_none_or(|known| known == key));
    let (_, node) = found
        .filter(|_| key == peer.key && peer.cluster == cluster.id)
        .ok_or(JoinVerdict::NoSuchNode)?;
    of_cluster(cluster, authority)?;
    let certificate = authority.sign(&request.certificate_request, peer.node, now_s)?;
    let may_sign = node.votes() || node.meant_for == NodeRole::Voter;
    Ok(RenewGrant {
        certificate: certificate.der().to_vec(),
        authority_key: (request.wants_authority_key && may_sign).then(|| authority.key_der()),
    })
}

/// What a node says that was asked and has no key of the authority.
pub fn no_authority(cluster: &Cluster) -> JoinVerdict {
    let voters = cluster.nodes.iter().filter(|(_, node)| node.votes());
    let voters: Vec<&str> = voters.map(|(name, _)| name.as_str()).collect();
    JoinVerdict::NoAuthority {
        voters: voters.join(", "),
    }
}

/// A database that was imported may have taken over another cluster's id: its authority has to be made anew.
fn of_cluster(cluster: &Cluster, authority: &Authority) -> Result<(), JoinVerdict> {
    let (found, expected): (Uuid, Uuid) = (authority.cluster(), cluster.id);
    match found == expected {
        true => Ok(()),
        false => Err(AuthorityError::OtherCluster { found, expected }.into()),
    }
}

/// What who stands at the machine that joins can do.
fn remedy(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TokenUnknown | Refusal::TokenExpired { .. } | Refusal::TokenUsed { .. } => {
            "make a new token on a node of the cluster, and join with that"
        }
        Refusal::NodeKeyDiffers { .. } => {
            "bring back the state directory with which this node was in the cluster; or remove it there, and join with an empty \
             state directory"
        }
        Refusal::KeyTaken { .. } => "the state directory was copied from that node: join with an empty one",
        Refusal::Exists { .. } | Refusal::UuidTaken { .. } => {
            "choose another name, or remove that node first"
        }
        Refusal::AddressTaken { .. } => "choose another address",
        Refusal::TooMany { .. } => "remove a node first",
        Refusal::FeatureLevelTooLow { .. } => "install the cluster's version here",
        Refusal::FeatureOff { .. } => "finish the upgrade of the cluster's nodes first",
        _ => "see the configuration of this machine",
    }
}

#[cfg(test)]
mod tests;
