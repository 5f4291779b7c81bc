//! Well-formed messages that make no sense here.

use crate::features;
use palisade_memory::{InflightError, MapError};
use palisade_virtio::ConfigWriteError;
use std::fmt;
use std::io;

/// Why a message was refused.
#[derive(Debug)]
pub enum Refusal {
    /// A ring that the device does not have.
    NoSuchQueue {
        /// The ring.
        index: u32,
        /// How many there are.
        queues: u16,
    },
    /// Virtio features that were not offered, so that what the guest's driver relies on is not done.
    Features {
        /// Those.
        surplus: u64,
    },
    /// Protocol features that were not offered.
    ProtocolFeatures {
        /// Those.
        surplus: u64,
    },
    /// A ring size that is no power of two, or too large.
    QueueSize {
        /// Entries asked for.
        size: u32,
        /// Most that are offered.
        size_max: u16,
    },
    /// A ring position that does not fit 16 bits.
    Base {
        /// The position.
        base: u32,
    },
    /// Ring addresses that break the alignment of virtio 1.3, 2.7.
    Alignment {
        /// The ring.
        index: u32,
    },
    /// Memory that cannot be mapped or found.
    Memory(MapError),
    /// A dirty log that cannot be mapped.
    Log(MapError),
    /// An in-flight region that cannot be made or mapped.
    Inflight(InflightError),
    /// A write to the configuration space that is not allowed.
    Config(ConfigWriteError),
    /// A descriptor for events that cannot be used.
    Descriptor {
        /// What it is for.
        purpose: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Refusal {
    /// Whether the session goes on although nobody asked to hear of the refusal. What was refused stays unset, so that no
    /// queue starts on it, and the operator is told; to a front-end a closed session is a crashed device, or it comes
    /// back with the same message for ever.
    pub(super) fn leaves_session(&self) -> bool {
        matches!(
            self,
            Refusal::Features { .. }
                | Refusal::QueueSize { .. }
                | Refusal::Base { .. }
                | Refusal::Alignment { .. }
                | Refusal::Config(_)
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuchQueue { index, queues } => {
                write!(f, "there is no queue {index}, the device has {queues}")
            }
            Refusal::Features { surplus } => {
                let names = features::describe_virtio(*surplus);
                write!(f, "the features {names} ({surplus:#x}) were not offered")
            }
            Refusal::ProtocolFeatures { surplus } => {
                let names = features::describe_protocol(*surplus);
                write!(f, "the protocol features {names} ({surplus:#x}) were not offered")
            }
            Refusal::QueueSize { size, size_max } => {
                write!(f, "queue size {size} is not a power of two from 1 to {size_max}")
            }
            Refusal::Base { base } => write!(f, "ring position {base} does not fit 16 bits"),
            Refusal::Alignment { index } => write!(f, "the addresses of queue {index} are misaligned"),
            Refusal::Memory(error) => write!(f, "guest memory: {error}"),
            Refusal::Log(error) => write!(f, "dirty log: {error}"),
            Refusal::Inflight(error) => write!(f, "{error}"),
            Refusal::Config(error) => write!(f, "{error}"),
            Refusal::Descriptor { purpose, source } => {
                write!(f, "the descriptor for {purpose} cannot be used: {source}")
            }
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Refusal::Memory(error) | Refusal::Log(error) => Some(error),
            Refusal::Inflight(error) => Some(error),
            Refusal::Config(error) => Some(error),
            Refusal::Descriptor { source, .. } => Some(source),
            _ => None,
        }
    }
}
