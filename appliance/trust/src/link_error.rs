//! Why a connection between nodes does not come about, in a sentence that helps and a code that stays.

use crate::purpose::Purpose;
use palisade_words::Uuid;
use rustls::{AlertDescription, CertificateError, OtherError};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Why a connection does not come about.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end is not who it should be.
    #[error("{0}")]
    Peer(PeerVerdict),
    /// The other end does not take us for who we are, and says so in one word of TLS (RFC 8446, 6.2).
    #[error("the other node refuses us: {}", alert_words(*alert))]
    RefusedByPeer {
        /// The word.
        alert: AlertDescription,
    },
    /// The other end wants a connection for something else than is served here, or serves not what we want.
    #[error(
        "the other end does not speak {wanted} here: it is another program, or one whose version is too far from ours"
    )]
    Purpose {
        /// What the connection was to be for; of several the first.
        wanted: Purpose,
    },
    /// The handshake took too long.
    #[error(
        "the handshake of TLS was not done within {} ms: the other end is overloaded, or no node",
        deadline.as_millis()
    )]
    TimedOut {
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The other end does not speak TLS 1.3 as it should.
    #[error("the handshake of TLS failed: {source}")]
    Tls {
        /// What is wrong.
        source: rustls::Error,
    },
    /// The connection itself failed.
    #[error("the connection failed: {source}")]
    Io {
        /// How.
        source: io::Error,
    },
    /// Our own configuration is not one that TLS takes.
    #[error("TLS cannot be set up with this node's key and certificate: {source}")]
    Setup {
        /// Why.
        source: rustls::Error,
    },
}

/// What is wrong with who is at the other end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PeerVerdict {
    /// It shows no certificate.
    #[error("the other end shows no certificate: it is no node of a cluster, or has not joined yet")]
    NoCertificate,
    /// Its certificate is none of ours, or names no node.
    #[error("the certificate of the other end names no node of a Palisade cluster")]
    NamesNoNode,
    /// It is a node of another cluster.
    #[error(
        "the other end is node {node} of cluster {theirs}, and this is cluster {ours}: check the address, or let that node \
         leave its cluster and join this one"
    )]
    OtherCluster {
        /// Its cluster.
        theirs: Uuid,
        /// Our cluster.
        ours: Uuid,
        /// The node that it says it is.
        node: Uuid,
    },
    /// Another authority than the cluster's has signed its certificate.
    #[error(
        "the certificate of the other end says that it is one of our nodes, and our cluster's authority has not signed it: \
         somebody pretends, or the node has joined a cluster that was made anew since; let it join again with a new token"
    )]
    Foreign,
    /// Its certificate has ended.
    #[error(
        "the certificate of node {node} ended {ago_s} s ago, by the clock of this node: check both clocks; a node that was \
         away for so long joins again with a new token and keeps its id"
    )]
    Expired {
        /// Which node.
        node: Uuid,
        /// How long ago, in seconds.
        ago_s: u64,
    },
    /// Its certificate has not begun.
    #[error(
        "the certificate of node {node} begins in {in_s} s, by the clock of this node: set the clocks right"
    )]
    NotValidYet {
        /// Which node.
        node: Uuid,
        /// In how long, in seconds.
        in_s: u64,
    },
    /// Another node answers where one is asked for.
    #[error(
        "node {found} answers, and node {expected} was to: two nodes have exchanged addresses, or the address is another's now"
    )]
    WrongNode {
        /// Who was to be there.
        expected: Uuid,
        /// Who is.
        found: Uuid,
    },
    /// It shows another key than the node is known by.
    #[error(
        "the other end says that it is node {node} and shows another key than the cluster knows that node by: its state \
         directory was made anew, or somebody pretends to be it; remove the node and let it join as a new one"
    )]
    OtherKey {
        /// Which node.
        node: Uuid,
    },
    /// The cluster that answers a machine that joins is not the one that its token was made by.
    #[error(
        "the node that answers is not of the cluster that made the token: check the address, and that the token was copied \
         whole from a node of the cluster that is to be joined"
    )]
    OtherAuthority,
}

impl LinkError {
    /// The codes of all errors, as they are counted.
    pub const CODES: [&str; 15] = [
        "peer_no_certificate",
        "peer_names_no_node",
        "peer_other_cluster",
        "peer_foreign",
        "peer_expired",
        "peer_not_valid_yet",
        "peer_wrong_node",
        "peer_other_key",
        "peer_other_authority",
        "refused_by_peer",
        "purpose",
        "timed_out",
        "tls",
        "connection",
        "setup",
    ];

    /// The stable code for programs, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            LinkError::Peer(verdict) => verdict.code(),
            LinkError::RefusedByPeer { .. } => "refused_by_peer",
            LinkError::Purpose { .. } => "purpose",
            LinkError::TimedOut { .. } => "timed_out",
            LinkError::Tls { .. } => "tls",
            LinkError::Io { .. } => "connection",
            LinkError::Setup { .. } => "setup",
        }
    }

    /// Of what TLS says, on a connection for a purpose.
    pub(crate) fn of_tls(error: rustls::Error, wanted: Purpose) -> LinkError {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(verdict))) => {
                match verdict.downcast_ref::<PeerVerdict>() {
                    Some(verdict) => LinkError::Peer(verdict.clone()),
                    None => LinkError::Tls {
                        source: CertificateError::Other(OtherError(verdict)).into(),
                    },
                }
            }
            rustls::Error::NoCertificatesPresented => LinkError::Peer(PeerVerdict::NoCertificate),
            rustls::Error::NoApplicationProtocol
            | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                LinkError::Purpose { wanted }
            }
            rustls::Error::AlertReceived(alert) => LinkError::RefusedByPeer { alert },
            source => LinkError::Tls { source },
        }
    }

    /// Of what reading or writing says on a connection for a purpose. With TLS 1.3 the end that has connected hears only with
    /// its first read that the other has refused it.
    pub fn of_io(error: io::Error, wanted: Purpose) -> LinkError {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(tls) => LinkError::of_tls(tls.clone(), wanted),
            None => LinkError::Io { source: error },
        }
    }
}

impl PeerVerdict {
    /// The stable code for programs, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            PeerVerdict::NoCertificate => "peer_no_certificate",
            PeerVerdict::NamesNoNode => "peer_names_no_node",
            PeerVerdict::OtherCluster { .. } => "peer_other_cluster",
            PeerVerdict::Foreign => "peer_foreign",
            PeerVerdict::Expired { .. } => "peer_expired",
            PeerVerdict::NotValidYet { .. } => "peer_not_valid_yet",
            PeerVerdict::WrongNode { .. } => "peer_wrong_node",
            PeerVerdict::OtherKey { .. } => "peer_other_key",
            PeerVerdict::OtherAuthority => "peer_other_authority",
        }
    }

    /// As rustls carries it.
    pub(crate) fn into_tls(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }
}

/// What a word of TLS means between nodes. Whoever refuses knows more than it says to somebody it does not trust: it is in its
/// own events.
fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it asks for a certificate, and we have none yet: join first".into()
        }
        AlertDescription::CertificateUnknown | AlertDescription::BadCertificate => {
            "it does not take our certificate; which node of which cluster it saw, and why it refused, is in its own events"
                .into()
        }
        AlertDescription::CertificateExpired => {
            "it takes our certificate for one that has ended: check both clocks".into()
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it belongs to a cluster with another authority".into()
        }
        AlertDescription::ProtocolVersion => "it does not speak TLS 1.3: it is no node, or a very old one".into(),
        other => format!("{other:?} (its own events say why)"),
    }
}
