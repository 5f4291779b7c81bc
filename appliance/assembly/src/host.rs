//! The door's way into the house: queues to their reactors, memory to the devices.

use crate::event::Event;
use crate::node::Shared;
use crate::orders::{Order, Queue};
use crate::write_cache;
use palisade_api::Severity;
use palisade_block::mailbox::Command;
use palisade_block::{AttachmentIndex, MemoryId, QueueId, ReactorIndex};
use palisade_frontend::Host;
use palisade_memory::GuestMemory;
use palisade_sys::{EventFd, MemoryRegistration};
use std::sync::Arc;

/// Called by the door's control thread.
#[derive(Debug)]
pub struct DoorHost {
    shared: Arc<Shared>,
}

impl DoorHost {
    /// For a node.
    pub fn new(shared: Arc<Shared>) -> DoorHost {
        DoorHost { shared }
    }

    fn tell(&self, attachment: AttachmentIndex, severity: Severity, kind: &str, message: String) {
        let name = self
            .shared
            .plant()
            .attachment_of(attachment)
            .map(|(name, _)| name.to_string());
        let subject = format!("attachment/{}", name.unwrap_or_else(|| attachment.0.to_string()));
        self.shared.events.push(severity, kind, subject, message);
    }
}

impl Host for DoorHost {
    fn connected(&mut self, attachment: AttachmentIndex) {
        self.tell(
            attachment,
            Severity::Info,
            "attachment_connected",
            "a virtual machine has connected".into(),
        );
    }

    fn memory(&mut self, attachment: AttachmentIndex, memory: Option<Arc<GuestMemory>>) {
        let id = MemoryId(attachment.0);
        for reactor in &self.shared.reactors {
            reactor.send(Order::RemoveMemory { memory: id });
        }
        let bytes = memory
            .as_ref()
            .map_or(0, |memory| memory.host_segments().map(|s| s.bytes as u64).sum());
        if let Some((_, offered)) = self.shared.plant().attachment_of_mut(attachment) {
            offered.memory_bytes = bytes;
        }
        let Some(memory) = memory else { return };
        let regions: Vec<_> = memory.host_segments().collect();
        // Pinning takes time with many small pages; no reactor waits for it, they only take over the result.
        let registration = Arc::new(MemoryRegistration::prepare(&regions));
        let coverage = registration.coverage();
        if coverage.unpinned_bytes > 0 {
            let mib = coverage.unpinned_bytes >> 20;
            let message = format!("{mib} MiB of the guest's memory cannot be pinned; I/O on it is slower");
            self.tell(attachment, Severity::Warning, "memory_not_pinned", message);
        }
        for reactor in &self.shared.reactors {
            reactor.send(Order::AddMemory {
                memory: id,
                registration: Arc::clone(&registration),
            });
        }
    }

    fn write_through(&mut self, attachment: AttachmentIndex, on: bool) {
        let mut plant = self.shared.plant();
        let Some((_, offered)) = plant.attachment_of_mut(attachment) else {
            return;
        };
        if offered.write_through != on {
            offered.write_through = on;
            self.shared.retell(offered);
        }
    }

    fn write_cache(&mut self, attachment: AttachmentIndex, on: bool) {
        let mut plant = self.shared.plant();
        let Some((name, _)) = plant.attachment_of_mut(attachment) else {
            return;
        };
        let name = name.clone();
        drop(plant);
        if let Err(error) = write_cache::remember(&self.shared.settings.run_dir, &name, on) {
            let message =
                format!("the state of the guest's write cache would be forgotten by a restart: {error}");
            self.tell(attachment, Severity::Warning, "write_cache_not_kept", message);
        }
    }

    fn start_queue(&mut self, queue: QueueId, source: Box<Queue>, kick: Option<EventFd>) {
        let mut plant = self.shared.plant();
        let count = self.shared.reactors.len();
        let placed = plant
            .attachment_of_mut(queue.attachment)
            .and_then(|(_, offered)| {
                let reactor =
                    ReactorIndex(((offered.first_reactor + usize::from(queue.queue)) % count) as u16);
                offered.running.insert(queue.queue, reactor);
                let handle = self.shared.reactors.get(reactor.usize())?;
                Some((handle, offered.settings(reactor)))
            });
        match placed {
            Some((reactor, settings)) => reactor.send(Order::AddQueue {
                queue,
                settings,
                source,
                kick,
            }),
            // It is kept nowhere; `stop_queue` says that it never ran.
            None => log::error!(
                "attachment {} has no place for queue {}",
                queue.attachment.0,
                queue.queue
            ),
        }
    }

    fn stop_queue(&mut self, queue: QueueId) {
        let mut plant = self.shared.plant();
        let reactor = plant
            .attachment_of_mut(queue.attachment)
            .and_then(|(_, offered)| offered.running.remove(&queue.queue))
            .and_then(|reactor| self.shared.reactors.get(reactor.usize()));
        match reactor {
            Some(reactor) => reactor.send(Order::Engine(Command::StopQueue { queue })),
            None => self.shared.door().queue_stopped(queue, None),
        }
    }

    fn disconnected(&mut self, attachment: AttachmentIndex, reason: &str) {
        self.tell(
            attachment,
            Severity::Info,
            "attachment_disconnected",
            format!("the session ended: {reason}"),
        );
    }

    fn detached(&mut self, attachment: AttachmentIndex) {
        self.shared.send(Event::Detached(attachment));
    }
}
