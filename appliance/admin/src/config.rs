//! What the server is told when it starts: by which doors it may be reached, and what each asks for.

use std::net::SocketAddr;
use std::path::PathBuf;

pub use crate::start_error::AdminStartError;

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, followed by those that lead to the one its clients trust.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How the server is to be reached. At least one door is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// The Unix socket.
    pub socket: Option<SocketDoor>,
    /// The TCP port.
    pub tcp: Option<TcpDoor>,
    /// Whether anybody who reaches the port may read the metrics, without a token.
    pub metrics_open: bool,
}

/// A Unix socket. Who connects is told by the kernel (SO_PEERCRED): root and the daemon's own user may change everything,
/// members of the groups as much as their group may, and everybody else nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketDoor {
    /// Where. What a daemon that is gone has left there is replaced.
    pub path: PathBuf,
    /// Number of the group whose members may change everything.
    pub admin_group: Option<u32>,
    /// Number of the group whose members may look at everything.
    pub read_group: Option<u32>,
}

/// A TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpDoor {
    /// Where. Port 0 lets the kernel choose; [`Server::address`](crate::Server::address) tells.
    pub listen: SocketAddr,
    /// With which certificate; absent: without encryption, on loopback only.
    pub tls: Option<Tls>,
    /// What clients must show.
    pub access: TcpAccess,
}

/// What clients of the TCP port must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpAccess {
    /// `Authorization: Bearer ...` with the content of one of these files.
    Tokens {
        /// Who shows this one may change everything.
        admin: PathBuf,
        /// Make it when it is not there.
        make: bool,
        /// Who shows this one may look at everything.
        read: Option<PathBuf>,
    },
    /// Nothing: everybody who can reach loopback, which is every user of this machine, may change everything. For labs.
    Nothing,
}

impl AdminConfig {
    /// A port that asks for nothing, for tests and labs.
    pub fn plain(listen: SocketAddr) -> AdminConfig {
        AdminConfig {
            socket: None,
            tcp: Some(TcpDoor {
                listen,
                tls: None,
                access: TcpAccess::Nothing,
            }),
            metrics_open: false,
        }
    }

    /// Whether the server may be started so. Pure; used by `--check-config` as well.
    ///
    /// # Errors
    /// [`AdminStartError::Exposed`]: others could reach a port without a certificate or a token.
    pub fn check(&self) -> Result<(), AdminStartError> {
        let Some(door) = &self.tcp else { return Ok(()) };
        let token_missing = door.access == TcpAccess::Nothing;
        if !door.is_loopback() && (door.tls.is_none() || token_missing) {
            return Err(AdminStartError::Exposed {
                listen: door.listen,
                certificate_missing: door.tls.is_none(),
                token_missing,
            });
        }
        Ok(())
    }

    /// Reads all tokens, certificates and keys that are there, as a start would. A token that a start makes may be absent. A
    /// certificate that ends soon or is not valid keeps nobody from starting, and is told in a sentence.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn try_keys(&self) -> Result<Option<String>, AdminStartError> {
        match &self.tcp {
            Some(door) => crate::keys::try_out(door),
            None => Ok(None),
        }
    }
}

impl TcpDoor {
    /// Whether only this machine reaches it.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}
