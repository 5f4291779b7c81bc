//! The door's way into the house: queues to their reactors, memory to the devices.

use crate::effects;
use crate::message::ControlMessage;
use crate::node_source::NodeSource;
use crate::reactor_thread::GuestQueue;
use crate::shared::Shared;
use crate::write_cache;
use palisade_api::{FindingKind, Severity};
use palisade_block::mailbox::ReactorCommand;
use palisade_control::Offered;
use palisade_frontend::Host;
use palisade_memory::GuestMemory;
use palisade_sys::PeerEvent;
use palisade_words::{AttachmentIndex, Name, QueueId};
use std::sync::Arc;

/// Called by the attachments' threads and the door's supervisor.
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
        let subject = self.subject(attachment);
        self.shared.events.push(severity, kind, subject, message);
    }

    fn subject(&self, attachment: AttachmentIndex) -> String {
        let state = self.shared.state();
        let left = state.control.left.get(&attachment).map(|left| &left.name);
        let name = left.or_else(|| Some(state.control.attachment_of(attachment)?.0));
        let name = name.map_or_else(|| attachment.0.to_string(), Name::to_string);
        format!("attachment/{name}")
    }

    /// Whether it is what was left of an attachment whose name may be another's by now.
    fn is_left(&self, attachment: AttachmentIndex) -> bool {
        self.shared.state().control.left.contains_key(&attachment)
    }
}

impl Host for DoorHost {
    fn connected(&self, attachment: AttachmentIndex) {
        self.shared.state().control.set_connected(attachment, true);
        self.tell(
            attachment,
            Severity::Info,
            "attachment_connected",
            "a virtual machine has connected".into(),
        );
    }

    fn memory(&self, attachment: AttachmentIndex, memory: Option<Arc<GuestMemory>>) {
        let bytes = memory.as_ref().map_or(0, |memory| memory.bytes());
        self.shared.state().control.set_memory(attachment, bytes);
        self.shared
            .pinning
            .change(&self.shared.reactors, attachment, memory);
    }

    fn write_through(&self, attachment: AttachmentIndex, on: bool) {
        let mut state = self.shared.state();
        let effects = state.control.set_write_through(attachment, on);
        effects::tell_at_once(&self.shared, &mut state, effects);
    }

    fn write_cache(&self, attachment: AttachmentIndex, on: bool) {
        let state = self.shared.state();
        // The next of that name is another's.
        let stays = |(_, offered): &(&Name, &Offered)| offered.given_up.is_none();
        let Some((name, _)) = state.control.attachment_of(attachment).filter(stays) else {
            return;
        };
        let name = name.clone();
        drop(state);
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

    fn start_queue(&self, queue: QueueId, source: Box<GuestQueue>, kick: Option<PeerEvent>) {
        let mut state = self.shared.state();
        let placed = state.control.start_queue(queue).and_then(|(reactor, settings)| {
            let handle = self.shared.reactors.get(reactor.usize())?;
            Some((handle, settings))
        });
        match placed {
            Some((reactor, settings)) => reactor.send(ReactorCommand::AddQueue {
                queue,
                settings,
                source: NodeSource::Guest(*source),
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
        let mut state = self.shared.state();
        let reactor = state.control.stop_queue(queue);
        let reactor = reactor.and_then(|reactor| self.shared.reactors.get(reactor.usize()));
        match reactor {
            Some(reactor) => reactor.send(ReactorCommand::StopQueue { queue }),
            None => self.shared.door().queue_stopped(queue, None),
        }
    }

    fn leave_queue(&self, queue: QueueId) {
        // Whichever has it: the others know of no such queue.
        for reactor in &self.shared.reactors {
            reactor.send(ReactorCommand::LeaveQueue { queue });
        }
    }

    fn disconnected(&self, attachment: AttachmentIndex, reason: &str) {
        self.shared.state().control.set_connected(attachment, false);
        self.tell(
            attachment,
            Severity::Info,
            "attachment_disconnected",
            match self.is_left(attachment) {
                false => format!("the session ended: {reason}"),
                true => {
                    format!("the session that was left when the attachment was taken away ended: {reason}")
                }
            },
        );
    }

    fn stuck(&self, attachment: AttachmentIndex, reason: &str) {
        self.shared.state().control.set_connected(attachment, false);
        // What is left is over with that, which is told as its end.
        if self.is_left(attachment) {
            return;
        }
        let subject = self.subject(attachment);
        self.shared
            .findings
            .raise(FindingKind::GuestHangs, subject, reason.to_owned());
    }

    fn recovered(&self, attachment: AttachmentIndex) {
        let subject = self.subject(attachment);
        self.shared.findings.clear(FindingKind::GuestHangs, &subject);
    }

    fn given_up(&self, attachment: AttachmentIndex) {
        self.shared.send(ControlMessage::GivenUp(attachment));
    }

    fn detached(&self, attachment: AttachmentIndex) {
        self.shared.send(ControlMessage::Detached(attachment));
    }
}
