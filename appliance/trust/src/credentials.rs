//! What a node shows to others, and by what it knows them.

use crate::authority::AuthorityError;
use crate::certificate::{NodeCertificate, authority_of};
use crate::identity::PeerIdentity;
use crate::node_key::NodeKey;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// A node's key and certificate, with that of the authority. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(crate) key: Arc<NodeKey>,
    pub(crate) certificate: NodeCertificate,
    pub(crate) authority: CertificateDer<'static>,
}

impl Credentials {
    /// Puts the parts together.
    ///
    /// # Errors
    /// They do not belong together: [`AuthorityError::Certificate`], [`AuthorityError::OtherCluster`],
    /// [`AuthorityError::KeyOfAnother`]; [`AuthorityError::Request`]: the authority has not signed the certificate.
    pub fn new(
        key: Arc<NodeKey>,
        certificate: NodeCertificate,
        authority: CertificateDer<'static>,
    ) -> Result<Credentials, AuthorityError> {
        let read = authority_of(&authority);
        let (cluster, _) = read.map_err(|source| AuthorityError::Certificate { source })?;
        let identity = certificate.identity();
        if identity.cluster != cluster {
            return Err(AuthorityError::OtherCluster {
                found: identity.cluster,
                expected: cluster,
            });
        }
        if identity.key != key.sum() {
            return Err(AuthorityError::KeyOfAnother);
        }
        // Whether it is valid now is asked by those to whom it is shown.
        let begins = UnixTime::since_unix_epoch(Duration::from_secs(certificate.validity().from_s));
        let is_signed = anchor_from_trusted_cert(&authority).and_then(|anchor| {
            let own = EndEntityCert::try_from(certificate.der())?;
            let provider = rustls::crypto::ring::default_provider();
            let algorithms = provider.signature_verification_algorithms.all;
            let usage = KeyUsage::server_auth();
            own.verify_for_usage(algorithms, &[anchor], &[], begins, usage, None, None)
                .map(|_| ())
        });
        is_signed.map_err(|error| AuthorityError::Request {
            reason: format!("the authority has not signed the certificate ({error})"),
        })?;
        Ok(Credentials {
            key,
            certificate,
            authority,
        })
    }

    /// Who this is.
    pub fn identity(&self) -> PeerIdentity {
        self.certificate.identity()
    }

    /// The certificate that is shown.
    pub fn certificate(&self) -> &NodeCertificate {
        &self.certificate
    }

    /// The certificate of the authority (DER).
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }
}
