//! What the door needs from the rest of the house.

use crate::call::CallNotify;
use palisade_block::{AttachmentIndex, QueueId};
use palisade_memory::GuestMemory;
use palisade_sys::PeerEvent;
use palisade_virtio::BlkQueue;
use std::sync::Arc;

/// Who runs the queues. All calls come from the control thread, which serves every guest: none may block, and none
/// may call [`DoorHandle::attach`](super::DoorHandle::attach). The other methods of the handle may be called.
///
/// The order, for each attachment, is that of this expression, where `,` means "then", `|` "or", `*` "any number of
/// times":
///
/// ```text
/// ( connected, ( memory(Some), ( write_cache | write_through | start_queue | stop_queue )* )*, memory(None)?, disconnected )*,
/// detached
/// ```
///
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
pub trait Host: Send {
    /// A virtual machine has connected.
    fn connected(&mut self, attachment: AttachmentIndex);

    /// All memory of the guest from now on; `None` when it is over, and what was registered of it must go.
    fn memory(&mut self, attachment: AttachmentIndex, memory: Option<Arc<GuestMemory>>);

    /// Whether every write must be stable before it is answered.
    fn write_through(&mut self, attachment: AttachmentIndex, on: bool);

    /// The guest has switched its volatile write cache on or off (`writeback` of the configuration space). The door
    /// keeps it over resets and reconnects. A host that wants it to outlive the daemon keeps it, too, and gives it as
    /// `geometry.writeback` when it attaches again: a front-end that reconnects says nothing of it, and a guest that
    /// has switched the cache off relies on that.
    fn write_cache(&mut self, _attachment: AttachmentIndex, _on: bool) {}

    /// Serve a queue. Without `kick` the guest announces nothing, and the queue must be polled.
    fn start_queue(&mut self, queue: QueueId, source: Box<BlkQueue<CallNotify>>, kick: Option<PeerEvent>);

    /// Take nothing more from a queue, answer what was taken, and give it back.
    fn stop_queue(&mut self, queue: QueueId);

    /// The session is over.
    fn disconnected(&mut self, attachment: AttachmentIndex, reason: &str);

    /// The attachment is gone: socket, session and memory. Its index may be used again.
    fn detached(&mut self, attachment: AttachmentIndex);
}
