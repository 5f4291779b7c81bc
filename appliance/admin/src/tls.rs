//! The certificate and key, made ready for connections.

use crate::config::{StartError, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Reads both files. TLS 1.2 and 1.3, HTTP/1.1.
pub(crate) fn acceptor(tls: &Tls) -> Result<TlsAcceptor, StartError> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&tls.cert)?)
        .collect::<Result<_, _>>()
        .map_err(|_| empty(&tls.cert, "certificate"))?;
    if certificates.is_empty() {
        return Err(empty(&tls.cert, "certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&tls.key)?).map_err(|_| empty(&tls.key, "private key"))?;
    let unusable = |source| StartError::Certificate {
        path: tls.cert.clone(),
        source,
    };
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|source| StartError::CertificateRead {
        path: path.to_owned(),
        source,
    })
}

fn empty(path: &Path, wanted: &'static str) -> StartError {
    StartError::CertificateEmpty {
        path: path.to_owned(),
        wanted,
    }
}
