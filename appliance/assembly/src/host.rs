//! The door's way into the house: queues to their reactors, memory to the devices.

use crate::event::Event;
use crate::orders::{Order, Queue};
use crate::shared::Shared;
use crate::watch::LONE_BOUND;
use crate::write_cache;
use palisade_api::{FindingKind, Severity};
use palisade_block::mailbox::Command;
use palisade_block::{AttachmentIndex, Doing, MemoryId, QueueId, ReactorIndex, Whom};
use palisade_frontend::Host;
use palisade_memory::GuestMemory;
use palisade_sys::{MemoryRegistration, PeerEvent};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Called by the attachments' threads and the door's supervisor.
#[derive(Debug)]
pub struct DoorHost {
    shared: Arc<Shared>,
    /// Counts changes of any guest's memory, so that what was pinned for an earlier one is not taken into use.
    rounds: AtomicU64,
}

impl DoorHost {
    /// For a node.
    pub fn new(shared: Arc<Shared>) -> DoorHost {
        DoorHost {
            shared,
            rounds: AtomicU64::new(0),
        }
    }

    fn tell(&self, attachment: AttachmentIndex, severity: Severity, kind: &str, message: String) {
        let subject = self.subject(attachment);
        self.shared.events.push(severity, kind, subject, message);
    }

    fn subject(&self, attachment: AttachmentIndex) -> String {
        let name = self
            .shared
            .plant()
            .attachment_of(attachment)
            .map(|(name, _)| name.to_string());
        format!("attachment/{}", name.unwrap_or_else(|| attachment.0.to_string()))
    }
}

/// Pins a guest's memory and gives it to all reactors. With many small pages this takes long, so it has a thread of its
/// own: the door and the guest go on meanwhile, with I/O on unpinned memory.
fn pin(shared: &Shared, attachment: AttachmentIndex, round: u64, memory: &GuestMemory) {
    let watched = shared
        .watch
        .enrol("node/pin", "the thread that pins a guest's memory", LONE_BOUND);
    watched.progress.mark(Doing::Memory, Whom::Attachment(attachment));
    let regions: Vec<_> = memory.host_segments().collect();
    let registration = Arc::new(MemoryRegistration::prepare(&regions));
    let plant = shared.plant();
    let Some((name, _)) = plant
        .attachment_of(attachment)
        .filter(|(_, offered)| offered.memory_round == round)
    else {
        return;
    };
    let unpinned = registration.coverage().unpinned_bytes;
    let subject = format!("attachment/{name}");
    if unpinned > 0 {
        let mib = unpinned >> 20;
        let message = format!("{mib} MiB of the guest's memory cannot be pinned; I/O on it is slower");
        shared
            .findings
            .raise(FindingKind::MemoryNotPinned, subject, message);
    } else {
        shared.findings.clear(FindingKind::MemoryNotPinned, &subject);
    }
    // Under the lock: the next change of this memory is sent after this one.
    for reactor in &shared.reactors {
        reactor.send(Order::AddMemory {
            memory: MemoryId(attachment.0),
            registration: Arc::clone(&registration),
        });
    }
}

impl Host for DoorHost {
    fn connected(&self, attachment: AttachmentIndex) {
        self.tell(
            attachment,
            Severity::Info,
            "attachment_connected",
            "a virtual machine has connected".into(),
        );
    }

    fn memory(&self, attachment: AttachmentIndex, memory: Option<Arc<GuestMemory>>) {
        let id = MemoryId(attachment.0);
        let round = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = memory
            .as_ref()
            .map_or(0, |memory| memory.host_segments().map(|s| s.bytes as u64).sum());
        let mut plant = self.shared.plant();
        if let Some((_, offered)) = plant.attachment_of_mut(attachment) {
            offered.memory_bytes = bytes;
            offered.memory_round = round;
        }
        for reactor in &self.shared.reactors {
            reactor.send(Order::RemoveMemory { memory: id });
        }
        drop(plant);
        let Some(memory) = memory else { return };
        let shared = Arc::clone(&self.shared);
        let pin = move || pin(&shared, attachment, round, &memory);
        if let Err(error) = std::thread::Builder::new().name("pin".into()).spawn(pin) {
            log::warn!("no thread to pin a guest's memory, its I/O stays slower: {error}");
        }
    }

    fn write_through(&self, attachment: AttachmentIndex, on: bool) {
        let mut plant = self.shared.plant();
        let Some((_, offered)) = plant.attachment_of_mut(attachment) else {
            return;
        };
        if offered.write_through != on {
            offered.write_through = on;
            self.shared.retell(offered);
        }
    }

    fn write_cache(&self, attachment: AttachmentIndex, on: bool) {
        let mut plant = self.shared.plant();
        let Some((name, _)) = plant.attachment_of_mut(attachment) else {
            return;
        };
        let name = name.clone();
        drop(plant);
        let (findings, subject) = (&self.shared.findings, format!("attachment/{name}"));
        match write_cache::remember(&self.shared.settings.run_dir, &name, on) {
            Ok(()) => findings.clear(FindingKind::WriteCacheNotKept, &subject),
            Err(error) => {
                let message =
                    format!("the state of the guest's write cache would be forgotten by a restart: {error}");
                findings.raise(FindingKind::WriteCacheNotKept, subject, message);
            }
        }
    }

    fn start_queue(&self, queue: QueueId, source: Box<Queue>, kick: Option<PeerEvent>) {
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

    fn stop_queue(&self, queue: QueueId) {
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

    fn disconnected(&self, attachment: AttachmentIndex, reason: &str) {
        self.tell(
            attachment,
            Severity::Info,
            "attachment_disconnected",
            format!("the session ended: {reason}"),
        );
    }

    fn stuck(&self, attachment: AttachmentIndex, reason: &str) {
        let subject = self.subject(attachment);
        self.shared
            .findings
            .raise(FindingKind::GuestHangs, subject, reason.to_owned());
    }

    fn recovered(&self, attachment: AttachmentIndex) {
        let subject = self.subject(attachment);
        self.shared.findings.clear(FindingKind::GuestHangs, &subject);
    }

    fn detached(&self, attachment: AttachmentIndex) {
        self.shared.send(Event::Detached(attachment));
    }
}
