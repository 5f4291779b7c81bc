//! Why the server did not start, or did not take new keys.

use crate::limits::{TOKEN_CHARS_MAX, TOKEN_CHARS_MIN, TOKEN_DISTINCT_MIN};
use rustls::CertificateError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the server did not start, or did not take new keys.
#[derive(Debug, thiserror::Error)]
pub enum AdminStartError {
    /// It would be reachable by others without a certificate or a token.
    #[error(
        "the administrative interface does not listen on {listen}, which others can reach, without {}",
        missing(*.certificate_missing, *.token_missing)
    )]
    Exposed {
        /// Where it was to listen.
        listen: SocketAddr,
        /// No certificate is configured.
        certificate_missing: bool,
        /// No token is configured.
        token_missing: bool,
    },
    /// A token or key lies where others can read or change it.
    #[error("the {what} in {path} is not private: {why}")]
    SecretExposed {
        /// The file.
        path: PathBuf,
        /// "token" or "private key".
        what: &'static str,
        /// What is wrong with it, such as "its mode is 0644".
        why: String,
    },
    /// A token can be guessed.
    #[error("the token in {path} {why}")]
    TokenWeak {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, such as "has 5 characters and needs at least 32".
        why: String,
    },
    /// Reading and changing ask for the same token.
    #[error("the token in {path} is for reading only and is the same as the one for changing everything")]
    TokensEqual {
        /// The file with the token for reading.
        path: PathBuf,
    },
    /// A token, certificate or key cannot be read.
    #[error("{path} cannot be read: {source}")]
    FileRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A token could not be made.
    #[error("no token can be made in {path}: {source}")]
    TokenMake {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or no key in PEM form.
    #[error("{path} holds no {wanted}")]
    CertificateEmpty {
        /// The file.
        path: PathBuf,
        /// "certificate" or "private key".
        wanted: &'static str,
    },
    /// The certificate and the key do not fit each other, or are not usable.
    #[error("the certificate {path} cannot be used: {}", what_is_wrong(.source))]
    Certificate {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The certificate is not valid now, and the one in force is.
    #[error("the certificate {path} {why}")]
    CertificateNotValid {
        /// The certificate.
        path: PathBuf,
        /// From when, or until when, such as "has expired, on 2026-03-01 12:00:00 UTC".
        why: String,
    },
    /// The address cannot be listened on.
    #[error("the administrative interface cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another process answers on the Unix socket.
    #[error("another process answers on {path}")]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The Unix socket cannot be made.
    #[error("the administrative socket {path}: cannot {step}: {source}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel gives no threads or no event queue.
    #[error("the administrative interface got no threads: {source}")]
    Runtime {
        /// Why.
        source: io::Error,
    },
}

impl AdminStartError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            AdminStartError::Exposed { .. } => {
                "listen on 127.0.0.1, or configure a certificate, its key and a token: a client \
                 without them could take or destroy every disk"
                    .to_owned()
            }
            AdminStartError::SecretExposed { path, what, .. } => format!(
                "make it the daemon's own: chown root: {0} && chmod 600 {0}; if others have had the time to read it, \
                 make a new {what}",
                path.display()
            ),
            AdminStartError::TokenWeak { path, .. } | AdminStartError::TokensEqual { path } => format!(
                "make one of 64 hexadecimal digits: (umask 077; openssl rand -hex 32 > {})",
                path.display()
            ),
            AdminStartError::FileRead { path, .. } => {
                format!(
                    "make {} readable for the daemon's user, or correct its path",
                    path.display()
                )
            }
            AdminStartError::TokenMake { path, .. } => format!(
                "make room and rights for {}, or name another file in admin.token_file",
                path.display()
            ),
            AdminStartError::CertificateEmpty { wanted, .. } => {
                format!("give a PEM file with a {wanted}; one in DER form is converted by openssl")
            }
            AdminStartError::Certificate { .. } => {
                "give a certificate for servers, first in its file, with the key that belongs to it".to_owned()
            }
            AdminStartError::CertificateNotValid { .. } => {
                "give one that is valid now; one that will be is taken by itself when it is. See whether the clock of this \
                 machine is right: date"
                    .to_owned()
            }
            AdminStartError::Listen { listen, source } if source.kind() == io::ErrorKind::AddrInUse => format!(
                "another program listens on {listen}, perhaps another palisade: stop it (ss -ltnp shows it) or choose another port"
            ),
            AdminStartError::Listen { .. } => {
                "choose an address of this machine (ip address shows them)".to_owned()
            }
            AdminStartError::SocketInUse { .. } => {
                "stop the other daemon, or give this one a run_dir of its own".to_owned()
            }
            AdminStartError::Socket { path, source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                format!(
                    "choose a shorter path than {} (107 bytes fit) with admin.socket",
                    path.display()
                )
            }
            AdminStartError::Socket { path, .. } => {
                format!(
                    "make its folder writable for the daemon, or choose another path than {} with admin.socket",
                    path.display()
                )
            }
            AdminStartError::Runtime { .. } => "raise the limits of threads and open files".to_owned(),
        }
    }
}

/// What the TLS library has against a certificate or its key, in a sentence. Its own words are those of its source text.
fn what_is_wrong(error: &rustls::Error) -> String {
    let invalid = match error {
        rustls::Error::InconsistentKeys(_) => {
            return "the private key that is configured with it does not belong to it".to_owned();
        }
        rustls::Error::InvalidCertificate(invalid) => invalid,
        other => return other.to_string(),
    };
    let words = match invalid {
        CertificateError::BadEncoding => "it is no X.509 certificate that can be read",
        CertificateError::Expired => "it ends before it begins",
        CertificateError::BadSignature | CertificateError::UnknownIssuer => {
            "the certificate behind it in that file is not the one that has signed it"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it was made for something else than servers (its extended key usage lacks serverAuth)"
        }
        // webpki names its reason and has no sentence for it.
        CertificateError::Other(reason) if reason.to_string().contains("CaUsedAsEndEntity") => {
            "it is one that signs others, of an authority, and none for a server"
        }
        CertificateError::Other(reason) => return format!("the TLS library refuses it ({reason})"),
        other => return other.to_string(),
    };
    words.to_owned()
}

fn missing(certificate: bool, token: bool) -> &'static str {
    match (certificate, token) {
        (true, true) => "a certificate and a token",
        (true, false) => "a certificate",
        _ => "a token",
    }
}

/// What is wrong with a token, in words that follow "the token in FILE".
pub(crate) fn token_weakness(token: &str) -> Option<String> {
    let chars = token.chars().count();
    if chars < TOKEN_CHARS_MIN {
        return Some(format!(
            "has {chars} characters and needs at least {TOKEN_CHARS_MIN}"
        ));
    }
    if chars > TOKEN_CHARS_MAX {
        return Some(format!("has {chars} characters; {TOKEN_CHARS_MAX} are enough"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("holds spaces, line breaks or characters beyond ASCII".to_owned());
    }
    let mut bytes: Vec<u8> = token.bytes().collect();
    bytes.sort_unstable();
    bytes.dedup();
    (bytes.len() < TOKEN_DISTINCT_MIN).then(|| {
        format!(
            "consists of {} different characters and can be guessed",
            bytes.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{InconsistentKeys, OtherError};
    use std::sync::Arc;

    #[test]
    fn what_the_library_says_is_told_in_sentences() {
        #[derive(Debug)]
        struct Reason(&'static str);
        impl std::error::Error for Reason {}
        impl std::fmt::Display for Reason {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }
        let other = |reason| CertificateError::Other(OtherError(Arc::new(Reason(reason)))).into();
        let all: [(rustls::Error, &str); 5] = [
            (InconsistentKeys::KeyMismatch.into(), "does not belong to it"),
            (other("CaUsedAsEndEntity"), "signs others"),
            (other("Strange"), "refuses it (Strange)"),
            (CertificateError::BadEncoding.into(), "no X.509 certificate"),
            (CertificateError::InvalidPurpose.into(), "serverAuth"),
        ];
        for (source, words) in all {
            let path = "/etc/cert.pem".into();
            let said = AdminStartError::Certificate { path, source }.to_string();
            assert!(
                said.starts_with("the certificate /etc/cert.pem cannot be used: "),
                "{said}"
            );
            assert!(said.contains(words), "{said}");
            for internal in ["KeyMismatch", "CaUsedAsEndEntity", "OtherError", "BadEncoding"] {
                assert!(!said.contains(internal), "{said}");
            }
        }
    }
}
