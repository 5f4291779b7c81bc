//! What the door does of its own accord, and asks: sessions that begin and end, queues that want a reactor. None of it calls for
//! a step, so none of it is followed by a plan.

use crate::begin::settings_again;
use crate::control::Control;
use crate::effect::Effect;
use palisade_block::mailbox::AttachmentSettings;
use palisade_words::{AttachmentIndex, QueueId, ReactorIndex};

impl Control {
    /// A virtual machine has connected to an attachment, or its session is over.
    pub fn set_connected(&mut self, attachment: AttachmentIndex, connected: bool) {
        if let Some(offered) = self.state.offered_of_mut(attachment) {
            offered.connected = connected;
        }
    }

    /// So much memory of a guest is mapped.
    pub fn set_memory(&mut self, attachment: AttachmentIndex, bytes: u64) {
        if let Some(offered) = self.state.offered_of_mut(attachment) {
            offered.memory_bytes = bytes;
        }
    }

    /// Whether every write of an attachment must be stable before it is answered.
    pub fn set_write_through(&mut self, attachment: AttachmentIndex, on: bool) -> Vec<Effect> {
        let offered = self.state.offered_of_mut(attachment);
        let Some(offered) = offered.filter(|offered| offered.write_through != on) else {
            return Vec::new();
        };
        offered.write_through = on;
        settings_again(offered)
    }

    /// A queue is to be served: by which reactor, and with what settings. `None`: its attachment has no place any more.
    pub fn start_queue(&mut self, queue: QueueId) -> Option<(ReactorIndex, AttachmentSettings)> {
        let count = usize::from(self.reactors).max(1);
        let offered = self.state.offered_of_mut(queue.attachment)?;
        let reactor = ReactorIndex(((offered.first_reactor + usize::from(queue.queue)) % count) as u16);
        offered.running.insert(queue.queue, reactor);
        Some((reactor, offered.settings(reactor)))
    }

    /// A queue is to be served no more: the reactor that serves it, if one does.
    pub fn stop_queue(&mut self, queue: QueueId) -> Option<ReactorIndex> {
        let offered = self.state.offered_of_mut(queue.attachment)?;
        offered.running.remove(&queue.queue)
    }
}
