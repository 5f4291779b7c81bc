//! What rustls asks of a certificate that a peer shows. No host name is looked at: the ids in the certificate are compared.
//!
//! The order decides what is said: first whom the certificate names, since "a node of another cluster" helps more than
//! "another authority"; then whether our authority says so; then when; then whether it is the node that was wanted, and the
//! key that it is known by. Nothing of what it names is believed before the signature has been verified: until then it is
//! only said.

use crate::authority::fingerprint;
use crate::certificate::{authority_of, identity_of};
use crate::identity::PeerIdentity;
use crate::link_error::PeerVerdict;
use crate::roster::{PeerStanding, Roster};
use palisade_words::{Sha256Sum, Uuid};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use std::fmt;
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// By what a peer is known.
#[derive(Debug)]
pub(crate) enum Trusted {
    /// Our cluster's authority.
    Authority(CertificateDer<'static>),
    /// The authority of this sum, which the peer shows beside its own certificate.
    Fingerprint(Sha256Sum),
}

/// Verifies that a peer is a node.
pub(crate) struct NodeVerifier {
    pub(crate) trusted: Trusted,
    /// Our cluster; that of the authority shown, if we have none.
    pub(crate) cluster: Option<Uuid>,
    /// Who is to be there; anybody of the cluster, if nobody is named.
    pub(crate) expected: Option<Uuid>,
    pub(crate) roster: Arc<Roster>,
    /// Whether a peer may show nothing at all.
    pub(crate) may_be_nobody: bool,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl NodeVerifier {
    /// Who has shown a certificate.
    fn identify(
        &self,
        shown: &CertificateDer<'_>,
        beside: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<PeerIdentity, PeerVerdict> {
        let identity = identity_of(shown).map_err(|_| PeerVerdict::NamesNoNode)?;
        let authority = match &self.trusted {
            Trusted::Authority(certificate) => certificate,
            Trusted::Fingerprint(wanted) => {
                let mut beside = beside.iter();
                let shown = beside.find(|shown| fingerprint(shown) == *wanted);
                shown.ok_or(PeerVerdict::OtherAuthority)?
            }
        };
        let ours = match self.cluster {
            Some(cluster) => cluster,
            None => {
                authority_of(authority)
                    .map_err(|_| PeerVerdict::OtherAuthority)?
                    .0
            }
        };
        if identity.cluster != ours {
            return Err(PeerVerdict::OtherCluster {
                theirs: identity.cluster,
                ours,
                node: identity.node,
            });
        }
        self.signed(shown, authority, usage, now, identity.node)?;
        if let Some(expected) = self.expected.filter(|expected| *expected != identity.node) {
            return Err(PeerVerdict::WrongNode {
                expected,
                found: identity.node,
            });
        }
        match self.roster.standing(identity.node, identity.key) {
            PeerStanding::OtherKey => Err(PeerVerdict::OtherKey { node: identity.node }),
            PeerStanding::Known | PeerStanding::Unknown => Ok(identity),
        }
    }

    /// Whether the authority says so, for this use and now (RFC 5280, 6).
    fn signed(
        &self,
        shown: &CertificateDer<'_>,
        authority: &CertificateDer<'_>,
        usage: KeyUsage,
        now: UnixTime,
        node: Uuid,
    ) -> Result<(), PeerVerdict> {
        let anchors = [anchor_from_trusted_cert(authority).map_err(|_| PeerVerdict::Foreign)?];
        let certificate = EndEntityCert::try_from(shown).map_err(|_| PeerVerdict::NamesNoNode)?;
        let verified =
            certificate.verify_for_usage(self.algorithms.all, &anchors, &[], now, usage, None, None);
        match verified {
            Ok(_) => Ok(()),
            Err(webpki::Error::CertExpired { time, not_after }) => Err(PeerVerdict::Expired {
                node,
                ago_s: time.as_secs().saturating_sub(not_after.as_secs()),
            }),
            Err(webpki::Error::CertNotValidYet { time, not_before }) => Err(PeerVerdict::NotValidYet {
                node,
                in_s: not_before.as_secs().saturating_sub(time.as_secs()),
            }),
            Err(_) => Err(PeerVerdict::Foreign),
        }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        beside: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let identified = self.identify(shown, beside, KeyUsage::server_auth(), now);
        identified.map_err(PeerVerdict::into_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.may_be_nobody
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        beside: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let identified = self.identify(shown, beside, KeyUsage::client_auth(), now);
        identified.map_err(PeerVerdict::into_tls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for NodeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NodeVerifier");
        shown.field("trusted", &self.trusted);
        shown
            .field("cluster", &self.cluster)
            .field("expected", &self.expected);
        shown
            .field("may_be_nobody", &self.may_be_nobody)
            .finish_non_exhaustive()
    }
}
