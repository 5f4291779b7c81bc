//! What the control plane tells a reactor between two turns, and what the reactor answers. Nothing else crosses a
//! reactor's border: one list of commands, and one of notices.
//!
//! A command that is a plain value is a [`ReactorChange`]: who decides has nothing else to give. The others come with
//! what their sender holds, a ring, an open device or pinned memory.

use crate::device::{Devices, Fault};
use crate::progress::Whom;
use crate::route::Route;
use crate::stats::{AttachmentStats, DeviceStats};
use crate::time::Nanos;
use palisade_words::{AttachmentIndex, DeviceIndex, Epoch, Generation, PinnedId, QueueId, VolumeIndex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How fast one attachment may go. The pace is kept in two shared words, so that an attachment served by several
/// reactors keeps one limit in all (the one thing reactors share, and only where a limit is set).
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Requests a second; 0 for no limit.
    pub iops: u64,
    /// Bytes a second; 0 for no limit.
    pub bytes_per_second: u64,
    /// How long a burst at any speed may last after a rest, in terms of the limit: `burst` nanoseconds' worth.
    pub burst: Nanos,
    /// Theoretical arrival time of the next request, in ns (generic cell rate algorithm).
    pub next_request_ns: Arc<AtomicU64>,
    /// Theoretical arrival time of the next byte, in ns.
    pub next_byte_ns: Arc<AtomicU64>,
}

/// What a reactor must know of an attachment besides its queues.
#[derive(Clone, Debug)]
pub struct AttachmentSettings {
    /// The volume it offers, or `None` where its sources carry many and say of which one the next requests are
    /// ([`Source::turn_to`](crate::Source::turn_to)): each is told of, by its route, before a request of it comes.
    pub volume: Option<VolumeIndex>,
    /// Whether that has been taken away from it: each of its requests ends with an error, whatever the volume's number
    /// stands for by now. A queue that has once been told so stays so.
    pub revoked: bool,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether every write is made stable before it is answered (the guest has switched the write cache off).
    pub write_through: bool,
    /// How fast it may go.
    pub pace: Pace,
    /// Where this reactor counts.
    pub stats: Arc<AttachmentStats>,
}

/// A command to a reactor. `S` is the source of requests, `D` are the devices.
#[derive(Debug)]
pub enum ReactorCommand<S, D: Devices> {
    /// What has been decided of a volume, an attachment or a device.
    Change(ReactorChange),
    /// Serve a queue from now on.
    AddQueue {
        /// Its name.
        queue: QueueId,
        /// Its attachment, new or known.
        settings: AttachmentSettings,
        /// Its ring.
        source: S,
        /// The guest's doorbell, which wakes the reactor; `None` for a driver that never kicks. A reactor that is at work
        /// does not need it.
        kick: Option<D::Kick>,
    },
    /// Take no more from a queue, answer what was taken, give the ring back: [`Notice::QueueStopped`].
    StopQueue {
        /// Its name.
        queue: QueueId,
    },
    /// Of a queue that is to stop, take nothing more at all, begin nothing more of a request in pieces, and leave such a
    /// request unanswered when what is in flight of it has come back, if its source says that it comes again. It has no
    /// effect on a queue that is not to stop.
    LeaveQueue {
        /// Its name.
        queue: QueueId,
    },
    /// Use a device. One that has refused this node is given another try.
    AddDevice {
        /// Which.
        device: DeviceIndex,
        /// What is open, shared by all reactors.
        opened: D::Opened,
        /// Where this reactor counts.
        stats: Arc<DeviceStats>,
        /// Age at which an operation counts as stalled.
        deadline: Nanos,
    },
    /// Memory whose pages are pinned already.
    AddMemory {
        /// Its number, under which the reactor has none yet.
        id: PinnedId,
        /// Who has it.
        of: Whom,
        /// The pinned pages.
        pinned: D::Pinned,
    },
    /// Go on without the pinned pages of a memory: [`Notice::MemoryReleased`].
    RemoveMemory {
        /// Its number.
        id: PinnedId,
        /// Who has it.
        of: Whom,
    },
    /// What the devices are told of other nodes.
    Peers(D::Order),
    /// End once what is in flight is finished.
    Stop,
}

/// A command that is a plain value.
#[derive(Clone, Debug)]
pub enum ReactorChange {
    /// Change an attachment's settings from the next request on.
    SetAttachment {
        /// Which.
        attachment: AttachmentIndex,
        /// To what.
        settings: AttachmentSettings,
    },
    /// Take an attachment's volume away, and leave it its queues: operations that were begun before go on to their end, of
    /// a request in pieces the rest is not begun, and it ends with an error, as does each that is taken from now on. Said
    /// when the last of those taken before has been answered: [`Notice::Revoked`].
    Revoke {
        /// Which.
        attachment: AttachmentIndex,
    },
    /// A change of the volume's mapping is about to be agreed on: start nothing more of it, and say when no device has
    /// anything of it: [`Notice::Suspended`]. What no device has is parked, with all that it takes to be sent again; what has
    /// not been taken stays in its ring. It lasts until [`Resume`](Self::Resume), [`EndVolume`](Self::EndVolume) or
    /// [`Cancel`](Self::Cancel): who sends it owns the wait.
    Suspend {
        /// Which volume.
        volume: VolumeIndex,
        /// The configuration that the change would make, newer than the one in force.
        generation: Generation,
    },
    /// The mapping is agreed on, or is the first: take its route into use once no device has anything of the volume, and
    /// send what is parked on it: [`Notice::RouteInUse`]. It may come without [`Suspend`](Self::Suspend) where nobody else
    /// has to be waited for. Whoever sends it answers for it that nothing of what was sent before can still reach a medium
    /// (invariant 4).
    Resume {
        /// Which volume.
        volume: VolumeIndex,
        /// Its route, with the configuration and the membership that it belongs to.
        route: Route,
    },
    /// The change is not agreed on: the route in force goes on, with what is parked: [`Notice::Cancelled`]. What is said of
    /// that generation later on changes nothing.
    Cancel {
        /// Which volume.
        volume: VolumeIndex,
        /// The configuration that there will not be.
        generation: Generation,
    },
    /// Nobody heals what the volume's requests have met: answer those that are parked by a fault with it, and from now on each
    /// as it comes, until the next [`Resume`](Self::Resume).
    Fail {
        /// Which volume.
        volume: VolumeIndex,
        /// The configuration in which that was decided.
        generation: Generation,
    },
    /// The volume has no route any more once no device has anything of it: [`Notice::VolumeEnded`]. Its requests end with an
    /// error from then on. Its number may be given to another volume, whose generations are not older: they are those of the
    /// cluster.
    EndVolume {
        /// Which volume.
        volume: VolumeIndex,
        /// The configuration in which there is none.
        generation: Generation,
    },
    /// Finish what is in flight on a device and let go of it: [`Notice::DeviceClosed`]. Requests to it fail from now on.
    CloseDevice {
        /// Which.
        device: DeviceIndex,
    },
    /// A device has grown.
    GrowDevice {
        /// Which.
        device: DeviceIndex,
    },
}

impl<S, D: Devices> From<ReactorChange> for ReactorCommand<S, D> {
    fn from(change: ReactorChange) -> Self {
        ReactorCommand::Change(change)
    }
}

impl<S, D: Devices> ReactorCommand<S, D> {
    /// For whom it is.
    pub fn whom(&self) -> Whom {
        match self {
            ReactorCommand::Change(change) => change.whom(),
            ReactorCommand::AddQueue { queue, .. }
            | ReactorCommand::StopQueue { queue }
            | ReactorCommand::LeaveQueue { queue } => Whom::Attachment(queue.attachment),
            ReactorCommand::AddDevice { device, .. } => Whom::Device(*device),
            ReactorCommand::AddMemory { of, .. } | ReactorCommand::RemoveMemory { of, .. } => *of,
            ReactorCommand::Peers(_) | ReactorCommand::Stop => Whom::Nobody,
        }
    }
}

impl ReactorChange {
    /// For whom it is.
    pub fn whom(&self) -> Whom {
        match self {
            ReactorChange::SetAttachment { attachment, .. } | ReactorChange::Revoke { attachment } => {
                Whom::Attachment(*attachment)
            }
            ReactorChange::CloseDevice { device } | ReactorChange::GrowDevice { device } => {
                Whom::Device(*device)
            }
            ReactorChange::Suspend { .. }
            | ReactorChange::Resume { .. }
            | ReactorChange::Cancel { .. }
            | ReactorChange::Fail { .. }
            | ReactorChange::EndVolume { .. } => Whom::Nobody,
        }
    }
}

/// What a reactor reports.
#[derive(Debug)]
pub enum Notice<S, D: Devices> {
    /// The queue's last request is answered; the ring is no longer touched.
    QueueStopped {
        /// Its name.
        queue: QueueId,
        /// Its ring; `None` when the reactor had no such queue.
        source: Option<S>,
    },
    /// No request of the attachment is on its volume any more, and none will be. One for each [`ReactorChange::Revoke`].
    Revoked {
        /// Which.
        attachment: AttachmentIndex,
    },
    /// No device has anything of the volume, and none gets anything before the change is decided on.
    Suspended {
        /// Which volume.
        volume: VolumeIndex,
        /// The change.
        generation: Generation,
    },
    /// The route in use is now of this generation.
    RouteInUse {
        /// Which volume.
        volume: VolumeIndex,
        /// Its generation.
        generation: Generation,
    },
    /// The change is given up, and the route in force goes on, unless another change is still to be decided on: then
    /// [`Notice::Suspended`] is told of that one.
    Cancelled {
        /// Which volume.
        volume: VolumeIndex,
        /// The change.
        generation: Generation,
    },
    /// Requests of the volume are parked by a fault of a device, and wait for [`ReactorChange::Resume`] or
    /// [`ReactorChange::Fail`]. Told once for each device, until one of these comes.
    Parked {
        /// Which volume.
        volume: VolumeIndex,
        /// Which device.
        device: DeviceIndex,
        /// What the first of them has met.
        fault: Fault,
    },
    /// The volume has no route any more.
    VolumeEnded {
        /// Which volume.
        volume: VolumeIndex,
        /// The configuration in which there is none.
        generation: Generation,
    },
    /// A command on a volume was older than what is known here, has changed nothing (invariant 6) and is counted
    /// ([`stale_commands`](crate::stats::ReactorStats::stale_commands)).
    Stale {
        /// Which volume.
        volume: VolumeIndex,
        /// The configuration in force here.
        generation: Generation,
        /// The newest membership heard of here.
        epoch: Epoch,
    },
    /// The device has refused this node ([`Fault::Fenced`]): it gets nothing more here until it is added again, and its
    /// requests end with that fault. Told once.
    DeviceFenced {
        /// Which.
        device: DeviceIndex,
    },
    /// The device could not be taken into use: requests to it fail.
    DeviceUnusable {
        /// Which.
        device: DeviceIndex,
        /// Why.
        error: io::Error,
    },
    /// The device has nothing in flight here, and this reactor has let go of it.
    DeviceClosed {
        /// Which.
        device: DeviceIndex,
    },
    /// Pinned memory that the reactor no longer uses, to be let go of by the receiver: unpinning takes long. One for each
    /// [`ReactorCommand::RemoveMemory`].
    MemoryReleased {
        /// Its number.
        id: PinnedId,
        /// What was pinned, if it was there.
        pinned: Option<D::Pinned>,
    },
    /// What one turn did for this queue alone took long. Told while its [steps are timed](crate::Stopwatch).
    QueueStalled {
        /// Its name.
        queue: QueueId,
        /// For how long it had hold of the reactor's thread.
        held: Nanos,
        /// For how long it kept the thread waiting, as a part of that.
        waited: Nanos,
    },
    /// What the devices tell of other nodes.
    Peers(D::Report),
    /// An operation of the device is older than its deadline, or no longer is.
    DeviceStalled {
        /// Which.
        device: DeviceIndex,
        /// Age of its oldest operation; zero when it moves again.
        oldest: Nanos,
    },
}
