//! The key of a node: made on it, and never anywhere else.
//!
//! ECDSA on P-256: `ring` signs and verifies it faster than Ed25519 on our processors, every TLS stack has it, and a handshake
//! costs one signature at each end.

use crate::authority::AuthorityError;
use palisade_words::Sha256Sum;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::fmt;

/// A node's private key.
pub struct NodeKey {
    pub(crate) pair: KeyPair,
}

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    /// [`AuthorityError::Key`]: the kernel gives no random numbers.
    pub fn generate() -> Result<NodeKey, AuthorityError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        Ok(NodeKey {
            pair: pair.map_err(|source| AuthorityError::Key { source })?,
        })
    }

    /// Reads one from its PKCS#8 (RFC 5958), in PEM.
    ///
    /// # Errors
    /// [`AuthorityError::Key`]: it is none, or one of another kind than we make.
    pub fn from_pem(pem: &[u8]) -> Result<NodeKey, AuthorityError> {
        let pem = str::from_utf8(pem).map_err(|_| AuthorityError::Key {
            source: rcgen::Error::CouldNotParseKeyPair,
        })?;
        let pair =
            KeyPair::from_pem(pem).and_then(|pair| match pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
                true => Ok(pair),
                false => Err(rcgen::Error::UnsupportedSignatureAlgorithm),
            });
        Ok(NodeKey {
            pair: pair.map_err(|source| AuthorityError::Key { source })?,
        })
    }

    /// Its PKCS#8, in PEM, for the node's own state directory.
    pub(crate) fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// SHA-256 of the public key: the DER of its SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
    pub fn sum(&self) -> Sha256Sum {
        Sha256Sum(Sha256::digest(self.pair.subject_public_key_info()).into())
    }

    /// A request for a certificate (PKCS#10, RFC 2986, in DER): the public key, signed by the private one, and nothing else.
    /// What the certificate says is decided by who signs it.
    ///
    /// # Errors
    /// [`AuthorityError::Key`]: the kernel gives no random numbers.
    pub fn request(&self) -> Result<Vec<u8>, AuthorityError> {
        let mut empty = CertificateParams::default();
        empty.distinguished_name = DistinguishedName::new();
        let request = empty.serialize_request(&self.pair);
        let request = request.map_err(|source| AuthorityError::Key { source })?;
        Ok(request.der().to_vec())
    }

    /// For rustls.
    pub(crate) fn private(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pair.serialize_der()).into()
    }
}

impl fmt::Debug for NodeKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey")
            .field("sum", &self.sum())
            .finish_non_exhaustive()
    }
}
