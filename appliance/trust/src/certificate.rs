//! A node's certificate, and when it is to be renewed.

use crate::identity::{NodeUri, PeerIdentity, cluster_of_authority};
use palisade_words::{Sha256Sum, Uuid};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;

/// How long a node's certificate is valid, in seconds: a year. Long enough for a node that is switched off for months to come
/// back by itself.
pub const CERTIFICATE_LIFE_S: u64 = 365 * 86_400;

/// How much clocks of nodes may differ without one refusing a certificate that another has just signed, in seconds. A
/// certificate begins so long before it is made.
pub const CLOCK_DIFFERENCE_S: u64 = 3_600;

/// With which part of a certificate's time left it is renewed: a third, as programs that renew certificates mostly do. Four
/// months in which somebody with the authority's key has to be there once.
const RENEWED_PART: u64 = 3;

const _: () = assert!(CERTIFICATE_LIFE_S / RENEWED_PART > 30 * 86_400);

/// A certificate that names a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeCertificate {
    der: CertificateDer<'static>,
    identity: PeerIdentity,
    validity: CertificateValidity,
}

/// From when until when a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CertificateValidity {
    /// The first second.
    pub from_s: u64,
    /// The last one.
    pub until_s: u64,
}

/// The bytes are no certificate of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateUnreadable {
    /// They are no certificate (RFC 5280, 4.1).
    #[error("it is no X.509 certificate")]
    NotX509,
    /// It names neither node nor authority.
    #[error("it does not name one node of one cluster")]
    NamesNoNode,
    /// It names no authority.
    #[error("it does not name the authority of one cluster")]
    NamesNoAuthority,
}

impl NodeCertificate {
    /// Reads what a certificate says. Who has signed it is not asked.
    ///
    /// # Errors
    /// [`CertificateUnreadable::NotX509`], [`CertificateUnreadable::NamesNoNode`].
    pub fn from_der(der: Vec<u8>) -> Result<NodeCertificate, CertificateUnreadable> {
        let der = CertificateDer::from(der);
        let identity = identity_of(&der)?;
        let validity = CertificateValidity::of(&der)?;
        Ok(NodeCertificate {
            der,
            identity,
            validity,
        })
    }

    /// Its bytes (DER).
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Whom it names, and by which key.
    pub fn identity(&self) -> PeerIdentity {
        self.identity
    }

    /// From when until when it is valid.
    pub fn validity(&self) -> CertificateValidity {
        self.validity
    }

    /// From when on it should be replaced by a new one, in seconds since 1970. The old one goes on to be valid: links that use
    /// it are closed once new ones are open, and no key is updated on a live one.
    pub fn renew_when_s(&self) -> u64 {
        let CertificateValidity { from_s, until_s } = self.validity;
        until_s.saturating_sub(until_s.saturating_sub(from_s) / RENEWED_PART)
    }
}

impl CertificateValidity {
    /// Of a certificate in DER.
    ///
    /// # Errors
    /// [`CertificateUnreadable::NotX509`].
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<CertificateValidity, CertificateUnreadable> {
        let parsed = x509_parser::parse_x509_certificate(der);
        let (_, parsed) = parsed.map_err(|_| CertificateUnreadable::NotX509)?;
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Ok(CertificateValidity {
            from_s: seconds(parsed.validity().not_before),
            until_s: seconds(parsed.validity().not_after),
        })
    }
}

/// Whom a certificate names: exactly one node.
pub(crate) fn identity_of(der: &CertificateDer<'_>) -> Result<PeerIdentity, CertificateUnreadable> {
    let parsed = EndEntityCert::try_from(der).map_err(|_| CertificateUnreadable::NotX509)?;
    let uri: NodeUri = only(parsed.valid_uri_names())
        .and_then(|uri| uri.parse().ok())
        .ok_or(CertificateUnreadable::NamesNoNode)?;
    Ok(PeerIdentity {
        cluster: uri.cluster,
        node: uri.node,
        key: key_sum(&parsed),
    })
}

/// The cluster whose authority a certificate names, and the sum of its key.
pub(crate) fn authority_of(der: &CertificateDer<'_>) -> Result<(Uuid, Sha256Sum), CertificateUnreadable> {
    let parsed = EndEntityCert::try_from(der).map_err(|_| CertificateUnreadable::NotX509)?;
    let cluster = only(parsed.valid_uri_names()).and_then(cluster_of_authority);
    let cluster = cluster.ok_or(CertificateUnreadable::NamesNoAuthority)?;
    Ok((cluster, key_sum(&parsed)))
}

/// SHA-256 of the public key of a certificate.
fn key_sum(certificate: &EndEntityCert<'_>) -> Sha256Sum {
    Sha256Sum(Sha256::digest(certificate.subject_public_key_info()).into())
}

/// What there is one of.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next();
    first.filter(|_| items.next().is_none())
}
