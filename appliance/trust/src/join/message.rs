//! What is said when a machine joins or a node renews its certificate.

use crate::token::TokenSecret;
use palisade_model::NodeRole;
use palisade_words::{FeatureLevel, Name, Sha256Sum, Uuid};
use std::fmt;
use std::net::SocketAddr;

/// A machine asks to be let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRequest {
    /// What it was given.
    pub secret: TokenSecret,
    /// Its permanent id, of its own making.
    pub node: Uuid,
    /// What it is to be called.
    pub name: Name,
    /// Where other nodes reach it, the preferred one first.
    pub addresses: Vec<SocketAddr>,
    /// What it fails together with.
    pub failure_domain: Option<Name>,
    /// What its program can.
    pub feature_level: FeatureLevel,
    /// Its public key, and the proof that it has the private one: a PKCS#10 request (RFC 2986) in DER.
    pub certificate_request: Vec<u8>,
    /// How many disks it has in a database of its own.
    pub disks: u32,
    /// How many volumes.
    pub volumes: u32,
    /// How many attachments.
    pub attachments: u32,
}

/// It is let in.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinGrant {
    /// The cluster's permanent id.
    pub cluster: Uuid,
    /// What the machine is to be, once it has caught up.
    pub meant_for: NodeRole,
    /// Its certificate (DER).
    pub certificate: Vec<u8>,
    /// The authority's certificate (DER).
    pub authority: Vec<u8>,
    /// The authority's key (PKCS#8, DER), for one that is to vote.
    pub authority_key: Option<Vec<u8>>,
    /// All nodes, itself included.
    pub nodes: Vec<KnownNode>,
}

/// A node as one that joins is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownNode {
    /// Its permanent id.
    pub node: Uuid,
    /// What the cluster calls it.
    pub name: Name,
    /// SHA-256 of its public key, if it is known.
    pub key: Option<Sha256Sum>,
    /// Where it is reached, the preferred one first.
    pub addresses: Vec<SocketAddr>,
}

/// It is not let in, or gets no new certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinRefused {
    /// The stable code for programs, in snake case.
    pub code: String,
    /// What is in the way and what to do.
    pub sentence: String,
}

/// A node, which its certificate has told, asks for a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenewRequest {
    /// As in [`JoinRequest`], with the node's own key.
    pub certificate_request: Vec<u8>,
    /// Whether it has no key of the authority and wants it: one that has been given a vote since it joined.
    pub wants_authority_key: bool,
}

/// It gets one.
#[derive(Clone, PartialEq, Eq)]
pub struct RenewGrant {
    /// Its new certificate (DER).
    pub certificate: Vec<u8>,
    /// The authority's key (PKCS#8, DER), if it has asked and is to vote.
    pub authority_key: Option<Vec<u8>>,
}

impl fmt::Debug for JoinGrant {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JoinGrant");
        shown
            .field("cluster", &self.cluster)
            .field("meant_for", &self.meant_for);
        shown.field("has_authority_key", &self.authority_key.is_some());
        shown.field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl fmt::Debug for RenewGrant {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RenewGrant");
        shown.field("has_authority_key", &self.authority_key.is_some());
        shown.finish_non_exhaustive()
    }
}
