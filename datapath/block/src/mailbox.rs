//! What the control plane tells a reactor between two turns, and what the reactor answers. Nothing else crosses a
//! reactor's border.

use crate::route::Route;
use crate::stats::{AttachmentStats, DeviceStats};
use crate::time::Nanos;
use palisade_words::{AttachmentIndex, DeviceIndex, Generation, QueueId, VolumeIndex};
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
    /// The volume it offers.
    pub volume: VolumeIndex,
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

/// A change for one reactor. `S` is the source of requests.
#[derive(Debug)]
pub enum Command<S> {
    /// Serve a queue from now on.
    AddQueue {
        /// Its name.
        queue: QueueId,
        /// Its attachment, new or known.
        settings: AttachmentSettings,
        /// Its ring.
        source: S,
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
    /// Take a new route into use once no request of the old one is in flight: [`Notice::RouteInUse`]. A route of
    /// an older generation than the present one changes nothing and is answered with the present generation.
    SetRoute {
        /// Which volume.
        volume: VolumeIndex,
        /// Its new route; `None` ends the volume.
        route: Option<Route>,
        /// The configuration that the change belongs to.
        generation: Generation,
    },
    /// Watch a device's operations.
    AddDevice {
        /// Which.
        device: DeviceIndex,
        /// Where this reactor counts.
        stats: Arc<DeviceStats>,
        /// Age at which an operation counts as stalled.
        deadline: Nanos,
    },
    /// Say when nothing of the device is in flight: [`Notice::DeviceIdle`]. Requests to it fail from now on.
    DropDevice {
        /// Which.
        device: DeviceIndex,
    },
}

/// What a reactor reports.
#[derive(Debug)]
pub enum Notice<S> {
    /// The queue's last request is answered; the ring is no longer touched.
    QueueStopped {
        /// Its name.
        queue: QueueId,
        /// Its ring; `None` when the reactor had no such queue.
        source: Option<S>,
    },
    /// No request of the attachment is on its volume any more, and none will be. One for each [`Command::Revoke`].
    Revoked {
        /// Which.
        attachment: AttachmentIndex,
    },
    /// The route in use is now of this generation.
    RouteInUse {
        /// Which volume.
        volume: VolumeIndex,
        /// Its generation.
        generation: Generation,
    },
    /// The device has nothing in flight here and gets nothing more.
    DeviceIdle {
        /// Which.
        device: DeviceIndex,
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
    /// An operation of the device is older than its deadline, or no longer is.
    DeviceStalled {
        /// Which.
        device: DeviceIndex,
        /// Age of its oldest operation; zero when it moves again.
        oldest: Nanos,
    },
}
