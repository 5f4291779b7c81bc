//! What the door needs from the rest of the house.

use crate::call::CallNotify;
use palisade_memory::GuestMemory;
use palisade_sys::PeerEvent;
use palisade_virtio::BlkQueue;
use palisade_words::{AttachmentIndex, QueueId};
use std::sync::Arc;

/// Who runs the queues. Calls for one attachment come one after the other, mostly from its own thread, and from the
/// door's supervisor when that hangs; calls for different attachments come at the same time. None may block, and none may
/// call [`DoorHandle::attach`](super::DoorHandle::attach). The other methods of the handle may be called.
///
/// The order, for each attachment, is that of this expression, where `,` means "then", `|` "or", `*` "any number of
/// times":
///
/// ```text
/// ( connected, ( memory(Some), ( write_cache | write_through | start_queue | stop_queue )* )*, memory(None)?, disconnected
///   | stuck, recovered? )*,
/// detached
/// ```
///
/// - `given_up` comes at most once, at any time while a virtual machine is connected; nothing that begins with `connected`
///   follows.
/// - `memory` is called only while no queue of the attachment runs: none was started, or each one stopped has been
///   answered with [`DoorHandle::queue_stopped`](super::DoorHandle::queue_stopped).
/// - `write_through` is called before the first `start_queue` of a session, and at each change.
/// - Each `start_queue` is followed by exactly one `stop_queue` of the same queue before it is started again, before
///   the memory changes and before the session ends. Each `stop_queue` is to be answered with exactly one
///   `queue_stopped`, however long the drain takes; until then the guest's memory stays mapped and the door waits
///   (it goes on serving all others).
/// - A queue that has been given back is never touched again by the host; the same ring comes back, if at all, in a
///   new `start_queue`.
/// - A queue that breaks (the guest's fault) or a reactor that cannot take it changes nothing in this: the host
///   keeps it, does nothing with it, and gives it back when it is told to stop it.
pub trait Host: Send + Sync {
    /// A virtual machine has connected.
    fn connected(&self, attachment: AttachmentIndex);

    /// All memory of the guest from now on; `None` when it is over, and what was registered of it must go.
    fn memory(&self, attachment: AttachmentIndex, memory: Option<Arc<GuestMemory>>);

    /// Whether every write must be stable before it is answered.
    fn write_through(&self, attachment: AttachmentIndex, on: bool);

    /// The guest has switched its volatile write cache on or off (`writeback` of the configuration space). The door
    /// keeps it over resets and reconnects. A host that wants it to outlive the daemon keeps it, too, and gives it as
    /// `geometry.writeback` when it attaches again: a front-end that reconnects says nothing of it, and a guest that
    /// has switched the cache off relies on that.
    fn write_cache(&self, _attachment: AttachmentIndex, _on: bool) {}

    /// Serve a queue. Without `kick` the guest announces nothing, and the queue must be polled.
    fn start_queue(&self, queue: QueueId, source: Box<BlkQueue<CallNotify>>, kick: Option<PeerEvent>);

    /// Take nothing more from a queue, answer what was taken, and give it back.
    fn stop_queue(&self, queue: QueueId);

    /// Of a queue that is to be stopped begin nothing more either, and give it back when what is in flight has come back:
    /// the session ends, and what its source remembers comes again with the next.
    fn leave_queue(&self, _queue: QueueId) {}

    /// The session is over.
    fn disconnected(&self, attachment: AttachmentIndex, reason: &str);

    /// The attachment's thread hangs in something that the virtual machine monitor gave us. Its session is cut off: what
    /// is left of it is ended in the order above, and no socket is on offer until the thread comes back.
    fn stuck(&self, _attachment: AttachmentIndex, _reason: &str) {}

    /// The thread has come back, and the volume is offered anew.
    fn recovered(&self, _attachment: AttachmentIndex) {}

    /// The attachment was taken back by [`DoorHandle::give_up`](super::DoorHandle::give_up) while a virtual machine is
    /// connected: its socket and its name are free, its session goes on until the virtual machine leaves, and is followed by
    /// [`Host::detached`]. Without a virtual machine there is that only.
    fn given_up(&self, _attachment: AttachmentIndex) {}

    /// The attachment is gone: socket, session and memory. Its index may be used again.
    fn detached(&self, attachment: AttachmentIndex);
}
