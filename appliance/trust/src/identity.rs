//! What a certificate says of who has it: the permanent ids of a node and of its cluster, as a URI (RFC 5280, 4.2.1.6).
//!
//! ```text
//!   palisade:cluster:0192f3a4-…-…:node:5b6c7d8e-…-…      a node
//!   palisade:cluster:0192f3a4-…-…                        the authority of a cluster
//! ```

use palisade_words::{Sha256Sum, Uuid};
use std::fmt;
use std::str::FromStr;

/// Who is at the other end of a connection: as its certificate says, which has been verified.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeerIdentity {
    /// The permanent id of its cluster, which is ours.
    pub cluster: Uuid,
    /// Its permanent id.
    pub node: Uuid,
    /// SHA-256 of its public key (the DER of its SubjectPublicKeyInfo).
    pub key: Sha256Sum,
}

/// The ids in the certificate of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NodeUri {
    pub(crate) cluster: Uuid,
    pub(crate) node: Uuid,
}

/// The text names no node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a node is named as palisade:cluster:UUID:node:UUID")]
pub struct IdentityTextError;

impl fmt::Display for NodeUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "palisade:cluster:{}:node:{}", self.cluster, self.node)
    }
}

impl FromStr for NodeUri {
    type Err = IdentityTextError;

    fn from_str(text: &str) -> Result<NodeUri, IdentityTextError> {
        let ids = text.strip_prefix("palisade:cluster:").ok_or(IdentityTextError)?;
        let (cluster, node) = ids.split_once(":node:").ok_or(IdentityTextError)?;
        let id = |text: &str| text.parse::<Uuid>().map_err(|_| IdentityTextError);
        let read = NodeUri {
            cluster: id(cluster)?,
            node: id(node)?,
        };
        // One identity has one text.
        let is_it = read.to_string() == text && !read.cluster.is_nil() && !read.node.is_nil();
        is_it.then_some(read).ok_or(IdentityTextError)
    }
}

/// The name of the authority of a cluster.
pub(crate) fn authority_uri(cluster: Uuid) -> String {
    format!("palisade:cluster:{cluster}")
}

/// The cluster of an authority, by its name.
pub(crate) fn cluster_of_authority(uri: &str) -> Option<Uuid> {
    let cluster: Uuid = uri.strip_prefix("palisade:cluster:")?.parse().ok()?;
    (authority_uri(cluster) == uri && !cluster.is_nil()).then_some(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_text_and_nothing_else_is_one() {
        let uri = NodeUri {
            cluster: Uuid(0xa1),
            node: Uuid(0xb2),
        };
        let text =
            "palisade:cluster:00000000-0000-0000-0000-0000000000a1:node:00000000-0000-0000-0000-0000000000b2";
        assert_eq!(uri.to_string(), text);
        assert_eq!(text.parse(), Ok(uri));
        let no_hyphens = format!("palisade:cluster:{:032x}:node:{:032x}", 0xa1, 0xb2);
        let nil = NodeUri {
            node: Uuid::NIL,
            ..uri
        };
        for wrong in [
            "palisade:cluster:00000000-0000-0000-0000-0000000000a1",
            &text.to_uppercase(),
            &format!("{text}:node:00000000-0000-0000-0000-0000000000b2"),
            &format!("{text} "),
            &no_hyphens,
            &nil.to_string(),
            &text.replace("palisade", "spiffe"),
        ] {
            assert_eq!(wrong.parse::<NodeUri>(), Err(IdentityTextError), "{wrong}");
        }
        assert_eq!(cluster_of_authority(&authority_uri(Uuid(7))), Some(Uuid(7)));
        assert_eq!(cluster_of_authority(text), None);
        assert_eq!(cluster_of_authority(&authority_uri(Uuid::NIL)), None);
    }
}
