//! What a connection between nodes is for. It is agreed on in the handshake (ALPN, RFC 7301), so that one port serves all of
//! them, and bytes of one protocol never reach another.

use std::fmt;

/// What a connection is for. A later version of a protocol is another name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// Messages of Raft.
    Raft,
    /// A link of a data port.
    Port,
    /// Heartbeats.
    Heartbeat,
    /// A machine joins, or a node renews its certificate.
    Join,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Purpose; 4] = [Purpose::Raft, Purpose::Port, Purpose::Heartbeat, Purpose::Join];

    /// The protocol's name in the handshake.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Raft => "palisade-raft/1",
            Purpose::Port => "palisade-port/1",
            Purpose::Heartbeat => "palisade-heartbeat/1",
            Purpose::Join => "palisade-join/1",
        }
    }

    /// The purpose of a protocol's name.
    pub fn of(name: &[u8]) -> Option<Purpose> {
        let mut all = Purpose::ALL.into_iter();
        all.find(|purpose| purpose.as_str().as_bytes() == name)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
