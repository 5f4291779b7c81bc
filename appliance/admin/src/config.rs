//! What the server is told when it starts, and why it may refuse.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by those that lead to the one its clients trust.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How the server is to be reached.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where to listen. Port 0 lets the kernel choose; [`Server::address`](crate::Server::address) tells.
    pub listen: SocketAddr,
    /// With which certificate; absent: without encryption, on loopback only.
    pub tls: Option<Tls>,
    /// What clients must present as `Authorization: Bearer ...`; absent: nothing, on loopback only.
    pub token: Option<String>,
}

/// Characters of the shortest token: 32 hexadecimal digits carry 128 bits.
pub const TOKEN_CHARS_MIN: usize = 32;

impl AdminConfig {
    /// On an address, without a certificate or a token.
    pub fn plain(listen: SocketAddr) -> AdminConfig {
        AdminConfig {
            listen,
            tls: None,
            token: None,
        }
    }

    /// Whether the server may be started so. Pure; used by `--check-config` as well.
    pub fn check(&self) -> Result<(), StartError> {
        if !self.listen.ip().to_canonical().is_loopback() && (self.tls.is_none() || self.token.is_none()) {
            return Err(StartError::Exposed {
                listen: self.listen,
                certificate_missing: self.tls.is_none(),
                token_missing: self.token.is_none(),
            });
        }
        match &self.token {
            Some(token) if token.chars().count() < TOKEN_CHARS_MIN => Err(StartError::TokenShort {
                chars: token.chars().count(),
            }),
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(StartError::TokenCharacters)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for AdminConfig {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminConfig")
            .field("listen", &self.listen)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .finish()
    }
}

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// It would be reachable by others without a certificate or a token.
    Exposed {
        /// Where it was to listen.
        listen: SocketAddr,
        /// No certificate is configured.
        certificate_missing: bool,
        /// No token is configured.
        token_missing: bool,
    },
    /// The token can be guessed.
    TokenShort {
        /// Its characters.
        chars: usize,
    },
    /// The token cannot be sent in a header.
    TokenCharacters,
    /// A certificate or key cannot be read.
    CertificateRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or no key in PEM form.
    CertificateEmpty {
        /// The file.
        path: PathBuf,
        /// "certificate" or "private key".
        wanted: &'static str,
    },
    /// The certificate and the key do not fit each other, or are not usable.
    Certificate {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The address cannot be listened on.
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kernel gives no threads or no event queue.
    Runtime {
        /// Why.
        source: io::Error,
    },
}

impl StartError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            StartError::Exposed { .. } => {
                "listen on 127.0.0.1, or configure a certificate, its key and a token: a client \
                 without them could take or destroy every disk"
                    .to_owned()
            }
            StartError::TokenShort { .. } => {
                "make one of 64 hexadecimal digits: openssl rand -hex 32".to_owned()
            }
            StartError::TokenCharacters => "use letters and digits only: openssl rand -hex 32".to_owned(),
            StartError::CertificateRead { path, .. } => {
                format!(
                    "make {} readable for the daemon's user, or correct its path",
                    path.display()
                )
            }
            StartError::CertificateEmpty { wanted, .. } => {
                format!("give a PEM file with a {wanted}; one in DER form is converted by openssl")
            }
            StartError::Certificate { .. } => "give the key that belongs to the certificate".to_owned(),
            StartError::Listen { listen, source } if source.kind() == io::ErrorKind::AddrInUse => format!(
                "another program listens on {listen}, perhaps another palisade: stop it (ss -ltnp shows it) or choose another port"
            ),
            StartError::Listen { .. } => {
                "choose an address of this machine (ip address shows them)".to_owned()
            }
            StartError::Runtime { .. } => "raise the limits of threads and open files".to_owned(),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Exposed {
                listen,
                certificate_missing,
                token_missing,
            } => {
                let missing = match (certificate_missing, token_missing) {
                    (true, true) => "a certificate and a token",
                    (true, false) => "a certificate",
                    _ => "a token",
                };
                write!(
                    f,
                    "the administrative interface does not listen on {listen}, which others can reach, without {missing}"
                )
            }
            StartError::TokenShort { chars } => {
                write!(
                    f,
                    "the token has {chars} characters and needs at least {TOKEN_CHARS_MIN}"
                )
            }
            StartError::TokenCharacters => write!(f, "the token holds spaces or characters beyond ASCII"),
            StartError::CertificateRead { path, source } => {
                write!(f, "{} cannot be read: {source}", path.display())
            }
            StartError::CertificateEmpty { path, wanted } => {
                write!(f, "{} holds no {wanted}", path.display())
            }
            StartError::Certificate { path, source } => {
                write!(f, "the certificate {} cannot be used: {source}", path.display())
            }
            StartError::Listen { listen, source } => {
                write!(
                    f,
                    "the administrative interface cannot listen on {listen}: {source}"
                )
            }
            StartError::Runtime { source } => {
                write!(f, "the administrative interface got no threads: {source}")
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::CertificateRead { source, .. }
            | StartError::Listen { source, .. }
            | StartError::Runtime { source } => Some(source),
            StartError::Certificate { source, .. } => Some(source),
            StartError::Exposed { .. }
            | StartError::TokenShort { .. }
            | StartError::TokenCharacters
            | StartError::CertificateEmpty { .. } => None,
        }
    }
}
