//! Attachments: volumes offered to VMs.

use crate::limits::BURST_MS_DEFAULT;
use palisade_words::{Generation, Name, Uuid};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A volume offered on one node to one VM, on one vhost-user socket, with its permissions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// Permanent id: another attachment of the name has another. Nil while attachments have none
    /// ([`FEATURE_LEVEL`](crate::FEATURE_LEVEL) 2).
    #[serde(default, skip_serializing_if = "has_none")]
    pub uuid: Uuid,
    /// Which volume.
    pub volume: Name,
    /// On which node.
    pub node: Name,
    /// Absolute path of the socket.
    pub socket: String,
    /// Virtqueues offered, 1 to 64.
    pub queues: u16,
    /// Entries of each ring, a power of two from 2 to 32768.
    pub queue_size: u16,
    /// Who owns the socket; `None` for the daemon's own user.
    pub owner: Option<Account>,
    /// The socket's group; `None` for the daemon's own.
    pub group: Option<Account>,
    /// Permission bits of the socket, as chmod(2) takes them, up to 0o777.
    pub mode: u32,
    /// Whether writes are refused.
    pub read_only: bool,
    /// What the guest reads with VIRTIO_BLK_T_GET_ID: up to 20 printable ASCII characters.
    pub serial: String,
    /// How fast it may go.
    pub limits: Limits,
    /// Whether a volatile write cache is offered: writes are then stable after a flush only.
    pub write_cache: bool,
    /// The generation at which it was created.
    pub created: Generation,
    /// The generation at which it last changed.
    pub revision: Generation,
}

/// How fast an attachment may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Requests a second; 0 for no limit.
    pub iops: u64,
    /// Bytes a second; 0 for no limit.
    pub bytes_per_second: u64,
    /// After a rest, this many milliseconds' worth may pass at any speed.
    pub burst_ms: u32,
}

impl Limits {
    /// Whether anything is limited.
    pub fn is_limited(&self) -> bool {
        self.iops > 0 || self.bytes_per_second > 0
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            iops: 0,
            bytes_per_second: 0,
            burst_ms: BURST_MS_DEFAULT,
        }
    }
}

/// A user or group of the node: by number, or by name, which the node looks up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Account {
    /// The numeric id.
    Id(u32),
    /// The name.
    Name(String),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Id(id) => id.fmt(f),
            Account::Name(name) => f.write_str(name),
        }
    }
}

/// Whether a permanent id is none: attachments had none once.
pub(crate) fn has_none(uuid: &Uuid) -> bool {
    uuid.is_nil()
}
