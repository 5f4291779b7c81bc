//! Well-formed messages that make no sense here.

use crate::features;
use palisade_memory::{InflightError, MapError};
use palisade_virtio::ConfigWriteError;
use std::io;

/// Why a message was refused.
#[derive(Debug, thiserror::Error)]
pub enum SessionRefusal {
    /// A ring that the device does not have.
    #[error("there is no queue {index}, the device has {queues}")]
    NoSuchQueue {
        /// The ring.
        index: u32,
        /// How many there are.
        queues: u16,
    },
    /// Virtio features that were not offered, so that what the guest's driver relies on is not done.
    #[error("the features {} ({surplus:#x}) were not offered", features::describe_virtio(*.surplus))]
    Features {
        /// Those.
        surplus: u64,
    },
    /// Protocol features that were not offered.
    #[error("the protocol features {} ({surplus:#x}) were not offered", features::describe_protocol(*.surplus))]
    ProtocolFeatures {
        /// Those.
        surplus: u64,
    },
    /// A ring size that is no power of two, or too large.
    #[error("queue size {size} is not a power of two from 1 to {size_max}")]
    QueueSize {
        /// Entries asked for.
        size: u32,
        /// Most that are offered.
        size_max: u16,
    },
    /// A ring position that does not fit 16 bits.
    #[error("ring position {base} does not fit 16 bits")]
    Base {
        /// The position.
        base: u32,
    },
    /// Ring addresses that break the alignment of virtio 1.3, 2.7.
    #[error("the addresses of queue {index} are misaligned")]
    Alignment {
        /// The ring.
        index: u32,
    },
    /// Memory that cannot be mapped or found.
    #[error("guest memory: {0}")]
    Memory(#[source] MapError),
    /// A dirty log that cannot be mapped.
    #[error("dirty log: {0}")]
    Log(#[source] MapError),
    /// An in-flight region that cannot be made or mapped.
    #[error("{0}")]
    Inflight(#[source] InflightError),
    /// A write to the configuration space that is not allowed.
    #[error("{0}")]
    Config(#[source] ConfigWriteError),
    /// A descriptor for events that cannot be used.
    #[error("the descriptor for {purpose} cannot be used: {source}")]
    Descriptor {
        /// What it is for.
        purpose: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A descriptor of a kind whose closing may wait for somebody: it was not let in.
    #[error(
        "{file} is neither a memfd, a file of tmpfs or hugetlbfs, an eventfd nor a Unix socket: closing it could keep us \
         waiting; give the virtual machine memory of one of these kinds"
    )]
    KeptOut {
        /// How the kernel names it.
        file: String,
    },
}

impl SessionRefusal {
    /// Whether the session goes on although nobody asked to hear of the refusal. What was refused stays unset, so that no
    /// queue starts on it, and the operator is told; to a front-end a closed session is a crashed device, or it comes
    /// back with the same message for ever.
    pub(super) fn leaves_session(&self) -> bool {
        matches!(
            self,
            SessionRefusal::Features { .. }
                | SessionRefusal::QueueSize { .. }
                | SessionRefusal::Base { .. }
                | SessionRefusal::Alignment { .. }
                | SessionRefusal::Config(_)
        )
    }
}
