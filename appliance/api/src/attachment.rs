//! Attachments: a volume offered to one virtual machine on one vhost-user socket.

use crate::state::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How fast an attachment may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests a second, at least 1. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u64>,
    /// Bytes a second, at least 4096. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How many milliseconds' worth of the limit may be used up at once after a rest: 0 for none, else no less than one
    /// request and one block of 4 KiB take. Absent: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_ms: Option<u32>,
}

/// Access rights of a socket, written as octal digits ("0660").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "0660", pattern = "^0?[0-7]{3}$")]
pub struct Mode(u16);

impl Mode {
    /// From the bits of chmod(2), of which only the lowest nine count.
    pub fn from_bits(bits: u32) -> Mode {
        Mode((bits & 0o777) as u16)
    }

    /// As chmod(2) takes it.
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> String {
        mode.to_string()
    }
}

/// A text that does not say access rights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no access mode: three octal digits (0 to 7), with or without a 0 before them, such as \"0660\", are"
)]
pub struct ModeError {
    /// The text.
    pub text: String,
}

impl std::str::FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Mode, ModeError> {
        let digits = match text.len() {
            4 => text.strip_prefix('0'),
            3 => Some(text),
            _ => None,
        };
        digits
            .filter(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')))
            .and_then(|digits| u16::from_str_radix(digits, 8).ok())
            .map(Mode)
            .ok_or_else(|| ModeError {
                text: text.to_owned(),
            })
    }
}

impl TryFrom<String> for Mode {
    type Error = ModeError;

    fn try_from(text: String) -> Result<Mode, ModeError> {
        text.parse()
    }
}

/// The request for an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentCreate {
    /// Chosen by the client; asking twice for the same is asking once.
    #[schema(example = "web1")]
    pub id: String,
    /// The volume to offer.
    #[schema(example = "v1")]
    pub volume: String,
    /// The node to offer it on: its id or name, or `self`. Absent: placement chooses one, which the answer names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Absolute path of the vhost-user socket. Absent: ID.sock in the daemon's socket folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// Virtqueues, 1 to 64. Absent: 1.
    #[schema(minimum = 1, maximum = 64)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Entries of one virtqueue, a power of two from 2 to 32768: what `qemu-args` and `libvirt-xml` tell the VMM to ask
    /// for. A VMM may choose any other power of two up to 32768; below 128 the guest is told to make its requests of
    /// fewer segments, so that they fit such a ring. Absent: 256.
    #[schema(minimum = 2, maximum = 32768)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_size: Option<u16>,
    /// User that owns the socket, by name or number. Absent: the daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Group of the socket, by name or number. Absent: the daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Access rights of the socket. Absent: "0660".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether the guest may only read.
    #[serde(default)]
    pub read_only: bool,
    /// What the guest reads as the disk's serial number, at most 20 bytes (virtio 1.3, 5.2.6: GET_ID). Absent:
    /// the first 20 hexadecimal digits of the volume's permanent id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Whether the guest is offered a volatile write cache: its writes are then stable after a flush only. Absent:
    /// true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_cache: Option<bool>,
    /// How fast it may go. Absent: as fast as it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// A change of an attachment; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentPatch {
    /// New limits, in place of all limits: an empty object takes them away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// New owner of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// New group of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// New access rights of the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// How far a virtual machine has come with an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// There is no socket (yet).
    #[default]
    Closed,
    /// The socket is there and nobody has come.
    Listening,
    /// A VMM is connected; the guest's driver has not started its queues.
    Connected,
    /// The guest's driver is using the disk.
    Running,
    /// The VMM is gone, or the daemon stops; what it asked for is being finished.
    Draining,
}

/// The session with a VMM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// How far it has come.
    pub state: ConnectionState,
    /// Virtio features that both sides agreed on, by their names in the standard.
    pub features: Vec<String>,
    /// Vhost-user protocol features that both sides agreed on.
    pub protocol_features: Vec<String>,
    /// Queues in use.
    pub queues_running: u16,
    /// Memory of the guest that is mapped, in bytes.
    pub memory_bytes: u64,
    /// How much of it is pinned, in bytes: of what the guest has in use, what the machine has room for.
    #[serde(default)]
    pub memory_pinned_bytes: u64,
    /// Connections taken since the daemon started.
    pub sessions: u64,
    /// Why the last session ended, as a sentence; absent when none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    /// What the VMM has had us spend of its attachment's shares (`[guests]` in the configuration).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    /// Virtqueues of the session that is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<Queue>,
    /// Sessions in a row that were refused something and ended before a queue ran.
    #[serde(default)]
    pub refused_sessions: u64,
    /// Why the first of these was refused, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_refusal: Option<String>,
}

/// What an attachment has of something, and may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// `mapped_bytes`, `mappings`, `pinned_bytes`, `hanging_processes`, `messages_per_s` or `connects_per_s`.
    pub of: String,
    /// How much it has; of what comes in a second, how many came in the last one. While a table of memory takes the place
    /// of another, up to three times as much may be mapped.
    pub used: u64,
    /// How much it may have; of what comes in a second, how many in the long run, ten times as many at once.
    pub limit: u64,
}

/// A virtqueue of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Its number.
    pub index: u16,
    /// Entries that the VMM has chosen; 0 before it has.
    pub size: u16,
    /// Whether it is served.
    pub running: bool,
    /// Whether requests in flight survive the end of the daemon without an error: the region that the VMM keeps for
    /// them has room for the ring.
    pub in_flight_tracked: bool,
    /// Why it does not start although the VMM has enabled it, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cannot_start: Option<String>,
    /// Why nothing more is taken from its ring, as a sentence: the guest's driver has broken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// Descriptor chains that were no valid request, since the daemon started.
    pub malformed: u64,
    /// Of these, chains without a status byte that could be written.
    pub unanswerable: u64,
    /// Requests of a type that is unknown or was not agreed on.
    pub unsupported: u64,
    /// Requests that would have changed a volume offered read-only.
    pub refused_writes: u64,
}

/// What an attachment has done of one operation since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationCounts {
    /// `read`, `write`, `flush`, `discard` or `write_zeroes`.
    pub operation: String,
    /// Requests answered.
    pub requests: u64,
    /// Of these, requests answered with an error.
    pub errors: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Of these, requests whose time from being taken to the answer is known. It is not for those that were answered in the
    /// same turn of the reactor that took them, as on disks of kind `memory` and `null`.
    #[serde(default)]
    pub timed: u64,
    /// Sum of these times, in nanoseconds.
    pub latency_ns_sum: u64,
    /// Half of the requests that were timed were answered faster, in nanoseconds; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns_p50: Option<u64>,
    /// 99 of 100 requests that were timed were answered faster, in nanoseconds; absent when none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns_p99: Option<u64>,
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// Chosen by who created it.
    pub id: String,
    /// Permanent id: another attachment of the name has another. Empty in a cluster that has nodes of before 2026-12.
    #[serde(default)]
    pub uuid: String,
    /// The volume it offers.
    pub volume: String,
    /// Name of the node that it is offered on.
    #[serde(default)]
    pub node: String,
    /// Absolute path of the vhost-user socket.
    pub socket: String,
    /// Virtqueues.
    pub queues: u16,
    /// Entries of one virtqueue.
    pub queue_size: u16,
    /// User that owns the socket, as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Group of the socket, as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Access rights of the socket.
    pub mode: Mode,
    /// Whether the guest may only read.
    pub read_only: bool,
    /// What the guest reads as the disk's serial number.
    pub serial: String,
    /// Whether the guest is offered a volatile write cache.
    pub write_cache: bool,
    /// How fast it may go.
    pub limits: Limits,
    /// The session with the VMM.
    pub connection: Connection,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Requests refused as malformed, of an unknown type, out of range, misaligned or writing to a read-only attachment.
    pub refused: u64,
    /// Requests whose start waited for the limits.
    pub throttled: u64,
    /// What was done, operation by operation.
    pub operations: Vec<OperationCounts>,
    /// Wanted and in force.
    pub state: State,
}
