//! The keys and certificates in a node's state directory.
//!
//! ```text
//!   trust/                  0700
//!     node-key.pem          0600   made here, never leaves
//!     node.der              0600   signed by the authority, replaced when it is renewed
//!     authority.der         0600   certificate of the cluster's authority
//!     authority-key.pem     0600   its key, on nodes that vote or are meant to
//! ```
//!
//! Each file is replaced as a whole and is on stable storage before anybody is told. They are no part of a backup: a backup is
//! carried about.

use crate::authority::{Authority, AuthorityError};
use crate::certificate::{NodeCertificate, authority_of};
use crate::credentials::Credentials;
use crate::node_key::NodeKey;
use palisade_sys::stable_file;
use palisade_words::Uuid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory in the state directory.
pub const TRUST: &str = "trust";

const NODE_KEY: &str = "node-key.pem";
const NODE: &str = "node.der";
const AUTHORITY: &str = "authority.der";
const AUTHORITY_KEY: &str = "authority-key.pem";

/// Longest file that is read, in bytes. Ours have less than 2 KiB.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// open(2), on Linux for every architecture this runs on: a FIFO in the place of a file must not stop the daemon.
const O_NONBLOCK: i32 = 0o4000;

/// The `trust` directory of a node.
#[derive(Clone, Debug)]
pub struct KeyDirectory {
    path: PathBuf,
}

/// Why a key or certificate cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeyDirectoryError {
    /// The file system refused.
    #[error("{path} cannot be {tried}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        tried: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Others may open it.
    #[error(
        "{path} is open to others (its mode is {mode:04o}): its keys may be known to somebody. If nobody else has been on this \
         machine, `chmod go= {path}`; otherwise remove this node from the cluster and let it join as a new one"
    )]
    NotPrivate {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not what it should be.
    #[error(
        "{path} cannot be used: {reason}. Bring it back as it was; without it this node joins again with a new token, and with \
         its old id only if {NODE_KEY} is still there"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file belongs to another cluster.
    #[error(
        "{path} is of cluster {found}, and the database here is of cluster {expected}: the state directory was put together \
         from two. Bring back the one that belongs to the database"
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Its cluster.
        found: Uuid,
        /// The cluster of the database.
        expected: Uuid,
    },
    /// The certificate is another node's.
    #[error(
        "{path} is the certificate of node {found}, and this is node {expected}: the state directory was put together from \
         two. Bring back the one that belongs to this node"
    )]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Uuid,
        /// Who this is.
        expected: Uuid,
    },
    /// Key and certificate do not belong together, or cannot be made.
    #[error("the keys in {path} cannot be used: {source}")]
    Keys {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: AuthorityError,
    },
}

impl KeyDirectory {
    /// In a state directory; made if it is not there.
    ///
    /// # Errors
    /// [`KeyDirectoryError::Io`], [`KeyDirectoryError::NotPrivate`].
    pub fn open(state_directory: &Path) -> Result<KeyDirectory, KeyDirectoryError> {
        let path = state_directory.join(TRUST);
        let io_error = |tried: &'static str| {
            let path = path.clone();
            move |source| KeyDirectoryError::Io { path, tried, source }
        };
        match DirBuilder::new().mode(0o700).create(&path) {
            // The name itself has to survive a power cut.
            Ok(()) => File::open(state_directory)
                .and_then(|folder| folder.sync_all())
                .map_err(io_error("made"))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("made")(error)),
        }
        let about = fs::symlink_metadata(&path).map_err(io_error("looked at"))?;
        if !about.is_dir() {
            return Err(io_error("opened")(io::Error::other("it is no directory")));
        }
        is_private(&path, &about)?;
        Ok(KeyDirectory { path })
    }

    /// The node's key; made if there is none.
    ///
    /// # Errors
    /// [`KeyDirectoryError`].
    pub fn node_key(&self) -> Result<NodeKey, KeyDirectoryError> {
        if let Some(pem) = self.read(NODE_KEY)? {
            return NodeKey::from_pem(&pem).map_err(|error| self.damaged(NODE_KEY, &error));
        }
        let key = NodeKey::generate().map_err(|source| self.keys(source))?;
        self.write(NODE_KEY, key.to_pem().as_bytes())?;
        Ok(key)
    }

    /// Keeps the authority of the cluster: its key is here from now on.
    ///
    /// # Errors
    /// [`KeyDirectoryError::Io`].
    pub fn keep_authority(&self, authority: &Authority) -> Result<(), KeyDirectoryError> {
        // The key first: a certificate alone says that the key was never here.
        self.write(AUTHORITY_KEY, authority.key_pem().as_bytes())?;
        self.keep_authority_certificate(authority.certificate())
    }

    /// Keeps the certificate of the authority alone, on a node that is not to vote.
    ///
    /// # Errors
    /// [`KeyDirectoryError::Io`].
    pub fn keep_authority_certificate(
        &self,
        certificate: &CertificateDer<'_>,
    ) -> Result<(), KeyDirectoryError> {
        self.write(AUTHORITY, certificate)
    }

    /// Keeps the node's certificate.
    ///
    /// # Errors
    /// [`KeyDirectoryError::Io`].
    pub fn keep_certificate(&self, certificate: &NodeCertificate) -> Result<(), KeyDirectoryError> {
        self.write(NODE, certificate.der())
    }

    /// The authority with its key, if the key is here.
    ///
    /// # Errors
    /// [`KeyDirectoryError`]; the authority of another cluster is [`KeyDirectoryError::OtherCluster`].
    pub fn authority(&self, cluster: Uuid) -> Result<Option<Authority>, KeyDirectoryError> {
        let Some(key) = self.read(AUTHORITY_KEY)? else {
            return Ok(None);
        };
        let Some(certificate) = self.authority_certificate(cluster)? else {
            return Ok(None);
        };
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(&key).map_err(|error| self.damaged(AUTHORITY_KEY, &error))?;
        let authority = Authority::from_parts(certificate.to_vec(), key.secret_pkcs8_der());
        authority
            .map(Some)
            .map_err(|error| self.damaged(AUTHORITY_KEY, &error))
    }

    /// The certificate of the authority, if it is here.
    ///
    /// # Errors
    /// As [`KeyDirectory::authority`].
    pub fn authority_certificate(
        &self,
        cluster: Uuid,
    ) -> Result<Option<CertificateDer<'static>>, KeyDirectoryError> {
        let Some(certificate) = self.certificate_in(AUTHORITY)? else {
            return Ok(None);
        };
        let read = authority_of(&certificate);
        let (found, _) = read.map_err(|error| self.damaged(AUTHORITY, &error))?;
        match found == cluster {
            true => Ok(Some(certificate)),
            false => Err(KeyDirectoryError::OtherCluster {
                path: self.path.join(AUTHORITY),
                found,
                expected: cluster,
            }),
        }
    }

    /// All that this node shows, if it has a certificate. Whether that is valid now is asked by those to whom it is shown.
    ///
    /// # Errors
    /// [`KeyDirectoryError`].
    pub fn credentials(&self, cluster: Uuid, node: Uuid) -> Result<Option<Credentials>, KeyDirectoryError> {
        let (Some(certificate), Some(authority)) =
            (self.certificate_in(NODE)?, self.authority_certificate(cluster)?)
        else {
            return Ok(None);
        };
        let certificate = NodeCertificate::from_der(certificate.to_vec());
        let certificate = certificate.map_err(|error| self.damaged(NODE, &error))?;
        let found = certificate.identity();
        let path = || self.path.join(NODE);
        if found.cluster != cluster {
            return Err(KeyDirectoryError::OtherCluster {
                path: path(),
                found: found.cluster,
                expected: cluster,
            });
        }
        if found.node != node {
            return Err(KeyDirectoryError::OtherNode {
                path: path(),
                found: found.node,
                expected: node,
            });
        }
        let Some(key) = self.read(NODE_KEY)? else {
            let reason = "it is missing, and the certificate beside it is worth nothing without it".into();
            let path = self.path.join(NODE_KEY);
            return Err(KeyDirectoryError::Damaged { path, reason });
        };
        let key = NodeKey::from_pem(&key).map_err(|error| self.damaged(NODE_KEY, &error))?;
        let credentials = Credentials::new(Arc::new(key), certificate, authority);
        credentials.map(Some).map_err(|source| self.keys(source))
    }

    fn certificate_in(&self, name: &str) -> Result<Option<CertificateDer<'static>>, KeyDirectoryError> {
        Ok(self.read(name)?.map(CertificateDer::from))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, KeyDirectoryError> {
        let path = self.path.join(name);
        let io_error = |source| KeyDirectoryError::Io {
            path: path.clone(),
            tried: "read",
            source,
        };
        let mut options = OpenOptions::new();
        let file = match options.read(true).custom_flags(O_NONBLOCK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io_error)?,
        };
        let about = file.metadata().map_err(io_error)?;
        if !about.is_file() || about.len() > FILE_BYTES_MAX {
            let reason = format!("it is no file of at most {FILE_BYTES_MAX} bytes");
            return Err(KeyDirectoryError::Damaged { path, reason });
        }
        is_private(&path, &about)?;
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(io_error)?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeyDirectoryError> {
        let path = self.path.join(name);
        let beside = path.with_added_extension("new");
        let written = stable_file::replace(&path, &beside, bytes);
        written.map_err(|source| KeyDirectoryError::Io {
            path,
            tried: "written",
            source,
        })
    }

    fn damaged(&self, name: &str, reason: &dyn std::error::Error) -> KeyDirectoryError {
        KeyDirectoryError::Damaged {
            path: self.path.join(name),
            reason: reason.to_string(),
        }
    }

    fn keys(&self, source: AuthorityError) -> KeyDirectoryError {
        KeyDirectoryError::Keys {
            path: self.path.clone(),
            source,
        }
    }
}

/// Certificates are no secret, and yet all files are looked at alike: who could change one could change all.
fn is_private(path: &Path, about: &fs::Metadata) -> Result<(), KeyDirectoryError> {
    let mode = about.permissions().mode() & 0o7777;
    match about.mode() & 0o077 {
        0 => Ok(()),
        _ => Err(KeyDirectoryError::NotPrivate {
            path: path.into(),
            mode,
        }),
    }
}

#[cfg(test)]
mod tests;
