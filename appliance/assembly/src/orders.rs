//! What crosses a reactor's border: orders in, reports out, both through channels in which nobody waits and only
//! between two turns.

use palisade_block::mailbox::{AttachmentSettings, Command, Notice};
use palisade_block::stats::DeviceStats;
use palisade_block::{Nanos, Whom};
use palisade_frontend::CallNotify;
use palisade_sys::{MemoryRegistration, Opened, PeerEvent};
use palisade_virtio::BlkQueue;
use palisade_words::{AttachmentIndex, DeviceIndex, QueueId, ReactorIndex};
use std::sync::Arc;

/// A guest's virtqueue as reactors own it.
pub type Queue = BlkQueue<CallNotify>;

/// An order to one reactor.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "orders are rare and short-lived; a box each would gain nothing"
)]
pub enum Order {
    /// A change of the engine's own.
    Engine(Command<Queue>),
    /// Serve a virtqueue; its kick wakes the reactor.
    AddQueue {
        /// Its name.
        queue: QueueId,
        /// Its attachment.
        settings: AttachmentSettings,
        /// Its ring.
        source: Box<Queue>,
        /// The guest's doorbell; `None` for a driver that never kicks.
        kick: Option<PeerEvent>,
    },
    /// Use a device.
    OpenDevice {
        /// Its number.
        device: DeviceIndex,
        /// The open device, shared by all reactors.
        opened: Arc<Opened>,
        /// Where this reactor counts.
        stats: Arc<DeviceStats>,
        /// Age at which an operation counts as stalled.
        deadline: Nanos,
    },
    /// Finish what is in flight on a device and let go of it: [`Report::DeviceClosed`].
    CloseDevice {
        /// Its number.
        device: DeviceIndex,
    },
    /// A device has grown.
    GrowDevice {
        /// Its number.
        device: DeviceIndex,
    },
    /// Guest memory whose pages are pinned already.
    AddMemory {
        /// Whose guest's.
        attachment: AttachmentIndex,
        /// The pinned pages.
        registration: Arc<MemoryRegistration>,
    },
    /// Go on without the pinned pages of a guest's memory.
    RemoveMemory {
        /// Whose guest's.
        attachment: AttachmentIndex,
    },
    /// End the thread. Requests in flight are finished first.
    Stop,
}

impl Order {
    /// For whom it is.
    pub fn whom(&self) -> Whom {
        match self {
            Order::AddQueue { queue, .. } => Whom::Attachment(queue.attachment),
            Order::OpenDevice { device, .. }
            | Order::CloseDevice { device }
            | Order::GrowDevice { device } => Whom::Device(*device),
            Order::AddMemory { attachment, .. } | Order::RemoveMemory { attachment } => {
                Whom::Attachment(*attachment)
            }
            Order::Engine(command) => match command {
                Command::AddQueue { queue, .. }
                | Command::StopQueue { queue }
                | Command::LeaveQueue { queue } => Whom::Attachment(queue.attachment),
                Command::SetAttachment { attachment, .. } | Command::Revoke { attachment } => {
                    Whom::Attachment(*attachment)
                }
                Command::AddDevice { device, .. } | Command::DropDevice { device } => Whom::Device(*device),
                Command::SetRoute { .. } => Whom::Nobody,
            },
            Order::Stop => Whom::Nobody,
        }
    }
}

/// What a reactor reports.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "reports are rare and short-lived; a box each would gain nothing"
)]
pub enum Report {
    /// A notice of the engine.
    Notice(ReactorIndex, Notice<Queue>),
    /// The device is no longer used by this reactor.
    DeviceClosed(ReactorIndex, DeviceIndex),
    /// Pinned memory that the reactor no longer uses, to be let go by the receiver. Each [`Order::RemoveMemory`] is
    /// answered so.
    MemoryReleased {
        /// Whose guest's.
        attachment: AttachmentIndex,
        /// What was pinned, if it was there.
        registration: Option<Arc<MemoryRegistration>>,
    },
    /// The reactor has ended.
    Ended(ReactorIndex),
}
