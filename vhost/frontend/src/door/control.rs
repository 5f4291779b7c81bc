//! The control thread: sleeps until a socket or another thread has something, then gives each attachment its turn.

use super::attachment::{Attachment, Turn, attachment_of};
use super::host::Host;
use super::report::Reports;
use super::{AttachError, AttachmentSpec, Command};
use crate::call::CallNotify;
use mio::{Events, Poll, Token};
use palisade_block::limits::{QUEUES_PER_ATTACHMENT, RING_ENTRIES_MAX};
use palisade_block::{AttachmentIndex, Doing, Progress, QueueId, Whom};
use palisade_virtio::BlkQueue;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// The token by which other threads wake this one; no attachment has it.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// How long to rest when the kernel refuses to say what has happened.
const POLL_FAILED_REST: Duration = Duration::from_millis(100);

/// Everything the control thread owns.
pub(super) struct Control<H> {
    host: H,
    poll: Poll,
    inbox: Receiver<Command>,
    reports: Reports,
    attachments: BTreeMap<AttachmentIndex, Attachment>,
    /// Those that want a turn.
    ready: BTreeSet<AttachmentIndex>,
    shutting: bool,
    progress: Arc<Progress>,
}

impl<H: Host> Control<H> {
    pub(super) fn new(
        host: H,
        poll: Poll,
        inbox: Receiver<Command>,
        reports: Reports,
        progress: Arc<Progress>,
    ) -> Control<H> {
        let (attachments, ready) = (BTreeMap::new(), BTreeSet::new());
        Control {
            host,
            poll,
            inbox,
            reports,
            attachments,
            ready,
            shutting: false,
            progress,
        }
    }

    /// Runs until it has been told to shut and everything is gone.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !(self.shutting && self.attachments.is_empty()) {
            self.sleep(&mut events);
            self.ready
                .extend(events.iter().filter_map(|event| attachment_of(event.token())));
            while let Ok(command) = self.inbox.try_recv() {
                self.progress.mark(Doing::Order, command.whom());
                self.obey(command);
            }
            for index in std::mem::take(&mut self.ready) {
                self.progress.mark(Doing::Message, Whom::Attachment(index));
                self.turn(index);
            }
        }
    }

    /// Sleeps until something happens or some attachment must be looked at.
    fn sleep(&mut self, events: &mut Events) {
        let look = self.attachments.values().filter_map(Attachment::next_look).min();
        let timeout = if self.ready.is_empty() {
            look.map(|at| at.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        self.progress.asleep();
        let polled = self.poll.poll(events, timeout);
        self.progress.mark(Doing::Event, Whom::Nobody);
        if let Err(error) = polled
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("the door cannot wait for its sockets, error={error}");
            std::thread::sleep(POLL_FAILED_REST);
        }
        let now = Instant::now();
        let due = |attachment: &Attachment| attachment.next_look().is_some_and(|at| at <= now);
        let due = self
            .attachments
            .iter()
            .filter(|(_, attachment)| due(attachment))
            .map(|(&index, _)| index);
        self.ready.extend(due);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Attach { spec, answer } => {
                let attached = self.attach(*spec);
                // Nobody listens any more only when the caller's thread has ended.
                let _ = answer.send(attached);
            }
            Command::Detach { index } => self.detach(index, "the attachment is being taken away"),
            Command::Resize { index, sectors } => {
                if let Some(attachment) = self.attachments.get_mut(&index) {
                    attachment.resize(sectors, &mut self.host, self.poll.registry());
                    self.ready.insert(index);
                }
            }
            Command::QueueStopped { queue, source } => self.queue_stopped(queue, source),
            Command::Shutdown => {
                self.shutting = true;
                let all: Vec<_> = self.attachments.keys().copied().collect();
                all.into_iter()
                    .for_each(|index| self.detach(index, "the daemon is stopping"));
            }
        }
    }

    fn attach(&mut self, spec: AttachmentSpec) -> Result<(), AttachError> {
        let (index, queues, queue_size_max) = (spec.index, spec.geometry.queues, spec.queue_size_max);
        if self.shutting {
            return Err(AttachError::Shut);
        }
        if self.attachments.contains_key(&index) {
            return Err(AttachError::Exists { index });
        }
        let queues_fit = (1..=QUEUES_PER_ATTACHMENT).contains(&usize::from(queues));
        if !queues_fit || !queue_size_max.is_power_of_two() || queue_size_max > RING_ENTRIES_MAX {
            return Err(AttachError::Queues {
                queues,
                queue_size_max,
            });
        }
        let attachment = Attachment::open(spec, self.poll.registry())?;
        self.reports.put(index, attachment.report());
        self.attachments.insert(index, attachment);
        self.ready.insert(index);
        Ok(())
    }

    fn detach(&mut self, index: AttachmentIndex, reason: &str) {
        match self.attachments.get_mut(&index) {
            Some(attachment) => {
                attachment.leave(reason, &mut self.host, self.poll.registry());
                self.ready.insert(index);
            }
            None => self.host.detached(index),
        }
    }

    /// The ring, and with it its hold on the guest's memory, ends here.
    fn queue_stopped(&mut self, queue: QueueId, source: Option<Box<BlkQueue<CallNotify>>>) {
        let next_avail = source.as_ref().map(|source| source.next_avail());
        drop(source);
        if let Some(attachment) = self.attachments.get_mut(&queue.attachment) {
            attachment.queue_stopped(queue.queue, next_avail, &mut self.host, self.poll.registry());
            self.ready.insert(queue.attachment);
        }
    }

    fn turn(&mut self, index: AttachmentIndex) {
        let Some(attachment) = self.attachments.get_mut(&index) else {
            return;
        };
        match attachment.turn(&mut self.host, self.poll.registry()) {
            Turn::Gone => {
                self.attachments.remove(&index);
                self.reports.remove(index);
                self.host.detached(index);
                return;
            }
            Turn::Again => {
                self.ready.insert(index);
            }
            Turn::Idle => {}
        }
        self.reports.put(index, attachment.report());
    }
}
