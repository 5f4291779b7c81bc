//! The certificate and key, made ready for connections.

use crate::certificate::Validity;
use crate::config::{AdminStartError, Tls};
use crate::secret::{self, NOT_FOR_OTHERS};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// A certificate with its key.
pub(crate) struct Certified {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) validity: Validity,
    /// Where it was read from.
    pub(crate) path: PathBuf,
}

/// Reads both files. TLS 1.2 and 1.3, HTTP/1.1. Whether the certificate is valid now is not asked here.
pub(crate) fn certified(tls: &Tls) -> Result<Certified, AdminStartError> {
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&secret::read(&tls.cert)?)
            .collect::<Result<_, _>>()
            .map_err(|_| empty(&tls.cert, "certificate"))?;
    if certificates.is_empty() {
        return Err(empty(&tls.cert, "certificate"));
    }
    let unusable = |source| AdminStartError::Certificate {
        path: tls.cert.clone(),
        source,
    };
    let validity = Validity::of(&certificates).map_err(unusable)?;
    acceptable(&certificates).map_err(unusable)?;
    let key = secret::read_private(&tls.key, "private key", NOT_FOR_OTHERS)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| empty(&tls.key, "private key"))?;
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Certified {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        validity,
        path: tls.cert.clone(),
    })
}

/// Refuses what no client would ever take: one that is not for servers, or not signed by the one after it. Who signed the
/// last one is the clients' business.
fn acceptable(chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
    let Some((own, rest)) = chain.split_first() else {
        return Ok(());
    };
    let parsed = ParsedCertificate::try_from(own)?;
    let in_its_time = Validity::of(std::slice::from_ref(own))?.until;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain.iter().cloned());
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let verified = verify_server_cert_signed_by_trust_anchor(&parsed, &roots, rest, in_its_time, known.all);
    match verified {
        // One that may sign others, as `openssl req -x509` makes them: accepted by clients that were given itself.
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(_))) if rest.is_empty() => Ok(()),
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Ok(()),
        // Its signer has the same name as itself and is not in the file.
        Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) if rest.is_empty() => Ok(()),
        other => other,
    }
}

fn empty(path: &Path, wanted: &'static str) -> AdminStartError {
    AdminStartError::CertificateEmpty {
        path: path.to_owned(),
        wanted,
    }
}
