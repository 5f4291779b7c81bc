//! The authority of a cluster: it signs who is one of its nodes.

use crate::certificate::{
    CERTIFICATE_LIFE_S, CLOCK_DIFFERENCE_S, CertificateUnreadable, NodeCertificate, authority_of,
};
use crate::identity::{NodeUri, authority_uri};
use crate::node_key::NodeKey;
use crate::random::random;
use palisade_words::{Sha256Sum, Uuid};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;

/// How long an authority is valid, in seconds: longer than any appliance is in use. It is bound to a cluster, and a cluster
/// that outlives it is made anew.
const AUTHORITY_LIFE_S: u64 = 30 * 365 * 86_400;

/// The latest time that a clock is believed: in the year 2200. Later ones do not fit a certificate (RFC 5280, 4.1.2.5), as
/// soon as an authority's life is added to them.
const CLOCK_S_MAX: u64 = 230 * 365 * 86_400;

/// Longest request for a certificate, in bytes. One of ours has 200.
pub const CERTIFICATE_REQUEST_BYTES_MAX: usize = 1_024;

/// The authority of a cluster, with its key.
pub struct Authority {
    cluster: Uuid,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// Why an authority cannot be made, read, or does not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A private key cannot be made or read.
    #[error("the private key cannot be used: {source}")]
    Key {
        /// Why.
        source: rcgen::Error,
    },
    /// It is not the certificate of an authority.
    #[error("the certificate of the authority cannot be used: {source}")]
    Certificate {
        /// What is wrong with it.
        source: CertificateUnreadable,
    },
    /// The key belongs to another certificate.
    #[error("the private key is not the one of the authority's certificate")]
    KeyOfAnother,
    /// The authority is another cluster's.
    #[error("the authority is that of cluster {found}, and this is cluster {expected}")]
    OtherCluster {
        /// Whose it is.
        found: Uuid,
        /// Whose it should be.
        expected: Uuid,
    },
    /// A request is none, or who sent it does not have the private key.
    #[error("the request for a certificate cannot be granted: {reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// The clock shows a time that no certificate can have.
    #[error(
        "the clock of this node is at {now_s} s since 1970, which is no time for a certificate: set it right"
    )]
    Clock {
        /// What it shows, in seconds since 1970.
        now_s: u64,
    },
    /// What is signed cannot be written.
    #[error("a certificate cannot be signed: {source}")]
    Sign {
        /// Why.
        source: rcgen::Error,
    },
    /// The kernel gives no random numbers.
    #[error("the kernel gives no random numbers")]
    Random,
}

impl Authority {
    /// A new one for a cluster. `now_s`: seconds since 1970.
    ///
    /// # Errors
    /// [`AuthorityError::Key`], [`AuthorityError::Clock`], [`AuthorityError::Sign`], [`AuthorityError::Random`].
    pub fn create(cluster: Uuid, now_s: u64) -> Result<Authority, AuthorityError> {
        let NodeKey { pair: key } = NodeKey::generate()?;
        let mut of = named(&format!("Palisade cluster {cluster}"), &authority_uri(cluster))?;
        of.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        of.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        valid(&mut of, now_s, AUTHORITY_LIFE_S)?;
        let certificate = of
            .self_signed(&key)
            .map_err(|source| AuthorityError::Sign { source })?;
        Ok(Authority {
            cluster,
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// Reads one: its certificate in DER and its key as PKCS#8 in DER.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`], [`AuthorityError::Key`], [`AuthorityError::KeyOfAnother`].
    pub fn from_parts(certificate: Vec<u8>, key: &[u8]) -> Result<Authority, AuthorityError> {
        let certificate = CertificateDer::from(certificate);
        let read = authority_of(&certificate);
        let (cluster, sum) = read.map_err(|source| AuthorityError::Certificate { source })?;
        let key = KeyPair::try_from(key).map_err(|source| AuthorityError::Key { source })?;
        if key_sum(&key) != sum {
            return Err(AuthorityError::KeyOfAnother);
        }
        Ok(Authority {
            cluster,
            certificate,
            key,
        })
    }

    /// The cluster that it is of.
    pub fn cluster(&self) -> Uuid {
        self.cluster
    }

    /// Its certificate (DER), which everybody may know.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate: by this a machine that joins knows it.
    pub fn fingerprint(&self) -> Sha256Sum {
        fingerprint(&self.certificate)
    }

    /// Its private key (PKCS#8, DER): for another node that is to vote, over a connection that knows it, and for our own state
    /// directory.
    pub(crate) fn key_der(&self) -> Vec<u8> {
        self.key.serialize_der()
    }

    /// Its private key in PEM.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Signs that whoever sent a request (PKCS#10, DER) is a node of the cluster: valid for a year, and from an hour before
    /// `now_s` (seconds since 1970). Of the request the public key is taken, and nothing else.
    ///
    /// # Errors
    /// [`AuthorityError::Request`], [`AuthorityError::Clock`], [`AuthorityError::Sign`], [`AuthorityError::Random`].
    pub fn sign(&self, request: &[u8], node: Uuid, now_s: u64) -> Result<NodeCertificate, AuthorityError> {
        let request = requested_key(request)?;
        let uri = NodeUri {
            cluster: self.cluster,
            node,
        };
        let mut of = named(&format!("Palisade node {node}"), &uri.to_string())?;
        of.is_ca = IsCa::ExplicitNoCa;
        of.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        of.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        of.use_authority_key_identifier_extension = true;
        valid(&mut of, now_s, CERTIFICATE_LIFE_S)?;
        let sign = |source| AuthorityError::Sign { source };
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(sign)?;
        let signed = of.signed_by(&request.public_key, &issuer).map_err(sign)?;
        NodeCertificate::from_der(signed.der().to_vec())
            .map_err(|source| AuthorityError::Certificate { source })
    }
}

impl fmt::Debug for Authority {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Authority");
        shown.field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// The sum of the public key in a request, of which who sent it has proved to have the private one.
///
/// # Errors
/// [`AuthorityError::Request`].
pub fn request_key_sum(request: &[u8]) -> Result<Sha256Sum, AuthorityError> {
    Ok(key_sum(&requested_key(request)?.public_key))
}

/// SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Sha256Sum {
    Sha256Sum(Sha256::digest(certificate).into())
}

fn requested_key(request: &[u8]) -> Result<CertificateSigningRequestParams, AuthorityError> {
    let refused = |reason: String| AuthorityError::Request { reason };
    if request.len() > CERTIFICATE_REQUEST_BYTES_MAX {
        let bytes = request.len();
        return Err(refused(format!(
            "it has {bytes} bytes, at most {CERTIFICATE_REQUEST_BYTES_MAX} are read"
        )));
    }
    // This verifies its signature, by the public key in it.
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request));
    let request = request.map_err(|error| refused(error.to_string()))?;
    match *request.public_key.algorithm() == PKCS_ECDSA_P256_SHA256 {
        true => Ok(request),
        false => Err(refused("its key is not one of ECDSA on P-256".into())),
    }
}

fn key_sum(key: &impl PublicKeyData) -> Sha256Sum {
    Sha256Sum(Sha256::digest(key.subject_public_key_info()).into())
}

/// What every certificate of ours has: a name for people, one for programs, and a serial number that is never used again
/// (RFC 5280, 4.1.2.2), since a renewed one is of the same key.
fn named(name: &str, uri: &str) -> Result<CertificateParams, AuthorityError> {
    let mut of = CertificateParams::default();
    of.distinguished_name = DistinguishedName::new();
    of.distinguished_name.push(DnType::CommonName, name);
    let uri = uri.try_into().map_err(|source| AuthorityError::Sign { source })?;
    of.subject_alt_names = vec![SanType::URI(uri)];
    let mut serial: [u8; 16] = random().map_err(|_| AuthorityError::Random)?;
    // Positive, and of one length.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    of.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(of)
}

/// From a little before now on.
fn valid(of: &mut CertificateParams, now_s: u64, life_s: u64) -> Result<(), AuthorityError> {
    if !(CLOCK_DIFFERENCE_S..=CLOCK_S_MAX).contains(&now_s) {
        return Err(AuthorityError::Clock { now_s });
    }
    let epoch = date_time_ymd(1970, 1, 1);
    of.not_before = epoch + Duration::from_secs(now_s - CLOCK_DIFFERENCE_S);
    of.not_after = epoch + Duration::from_secs(now_s + life_s);
    Ok(())
}
