//! The machine that joins: what it sends, and what it makes of the answer. Pure.

use super::codec::JoinFrame;
use super::message::{JoinRefused, JoinRequest, KnownNode};
use crate::authority::{Authority, AuthorityError, fingerprint};
use crate::certificate::{CertificateUnreadable, NodeCertificate};
use crate::credentials::Credentials;
use crate::node_key::NodeKey;
use crate::token::TokenText;
use palisade_model::NodeRole;
use palisade_words::Uuid;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;

/// A machine that joins: it has asked, and waits for the answer.
#[derive(Debug)]
pub struct Joiner {
    token: TokenText,
    key: Arc<NodeKey>,
    node: Uuid,
}

/// What a machine has that was let in. All of it is kept in the state directory before it counts: the authority, then the
/// certificate.
#[derive(Debug)]
pub struct JoinedNode {
    /// What it shows to others from now on.
    pub credentials: Credentials,
    /// The authority with its key, of one that is to vote.
    pub authority: Option<Authority>,
    /// What it is to be, once it has caught up.
    pub meant_for: NodeRole,
    /// All nodes, itself included.
    pub nodes: Vec<KnownNode>,
}

/// Why it has not been let in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster has refused.
    #[error("{}", .0.sentence)]
    Refused(JoinRefused),
    /// The answer is one to another question.
    #[error("the node that was asked answers something else than was asked: it is of another version")]
    Unexpected,
    /// What was granted does not fit what was asked for.
    #[error("what the cluster granted cannot be used ({reason}): nothing has been kept; report it")]
    NotOurs {
        /// What does not fit.
        reason: &'static str,
    },
    /// A certificate in the answer is none.
    #[error("the certificate that the cluster granted cannot be used: {0}")]
    Certificate(#[from] CertificateUnreadable),
    /// Keys and certificates in the answer do not belong together.
    #[error("what the cluster granted cannot be used: {0}")]
    Authority(#[from] AuthorityError),
}

impl Joiner {
    /// Begins: the request that `about` makes is to be sent once the connection has recognised the token's authority. What
    /// `about` has as secret and certificate request is replaced.
    ///
    /// # Errors
    /// [`AuthorityError::Key`]: the kernel gives no random numbers.
    pub fn begin(
        token: TokenText,
        key: Arc<NodeKey>,
        about: JoinRequest,
    ) -> Result<(Joiner, JoinFrame), AuthorityError> {
        let request = JoinRequest {
            secret: token.secret().clone(),
            certificate_request: key.request()?,
            ..about
        };
        let node = request.node;
        Ok((Joiner { token, key, node }, JoinFrame::Join(request)))
    }

    /// What has become of it.
    ///
    /// # Errors
    /// [`JoinError`]; nothing is to be kept.
    pub fn answered(self, answer: JoinFrame) -> Result<JoinedNode, JoinError> {
        let grant = match answer {
            JoinFrame::Granted(grant) => grant,
            JoinFrame::Refused(refused) => return Err(JoinError::Refused(refused)),
            JoinFrame::Join(_) | JoinFrame::Renew(_) | JoinFrame::Renewed(_) => {
                return Err(JoinError::Unexpected);
            }
        };
        let not_ours = |reason| Err(JoinError::NotOurs { reason });
        let certificate_of_authority = CertificateDer::from(grant.authority);
        if fingerprint(&certificate_of_authority) != self.token.authority() {
            return not_ours("the authority is not the token's");
        }
        let certificate = NodeCertificate::from_der(grant.certificate)?;
        let identity = certificate.identity();
        if identity.node != self.node {
            return not_ours("the certificate is another node's");
        }
        if identity.cluster != grant.cluster {
            return not_ours("the certificate is of another cluster");
        }
        let key = grant.authority_key;
        let authority = key.map(|key| Authority::from_parts(certificate_of_authority.to_vec(), &key));
        Ok(JoinedNode {
            credentials: Credentials::new(self.key, certificate, certificate_of_authority)?,
            authority: authority.transpose()?,
            meant_for: grant.meant_for,
            nodes: grant.nodes,
        })
    }
}
