//! The supervisor: knows every attachment's thread and touches nothing but channels. It hands each what is meant for it,
//! and sees to it that one whose thread hangs ends for all others.

use super::admission::Admission;
use super::attachment::Attachment;
use super::gate::Gate;
use super::host::Host;
use super::receiving::Limits;
use super::report::Reports;
use super::thread::{self, Line, Order};
use super::{AttachError, AttachmentSpec, Command, DoorSettings};
use crate::call::CallNotify;
use crate::socket_file::SocketOwner;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use palisade_block::{Doing, Progress, Whom};
use palisade_virtio::BlkQueue;
use palisade_words::limits::{QUEUE_SIZE_MAX, QUEUES_MAX};
use palisade_words::{AttachmentIndex, QueueId, Sectors};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Looks at the threads in the time that one step may take.
const LOOKS_PER_DEADLINE: u32 = 4;

/// A process that receives descriptors has so long to answer, however short a step may be.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// While the door shuts a thread may be in one step for so long at most: the others' guests wait for the successor.
const SHUT_DEADLINE: Duration = Duration::from_secs(2);

/// Everything the supervisor owns.
pub(super) struct Supervisor {
    settings: DoorSettings,
    host: Arc<dyn Host>,
    inbox: Receiver<Command>,
    /// For the threads, to answer.
    commands: Sender<Command>,
    reports: Reports,
    admission: Admission,
    attachments: BTreeMap<AttachmentIndex, Entry>,
    /// Threads that hung when their attachment was taken away, and have not ended since.
    abandoned: Vec<JoinHandle<()>>,
    /// Counts the threads there ever were.
    lives: u64,
    shutting: bool,
    next_look: Instant,
    progress: Arc<Progress>,
}

/// One attachment.
struct Entry {
    life: u64,
    gate: Arc<Gate>,
    line: Line,
    /// `None` once it has ended as it should, and what it has said of that is still to be read.
    thread: Option<JoinHandle<()>>,
    leaving: bool,
    /// The thread hung, was cut off, and has come back.
    back: bool,
    /// The size that the volume has got while nobody could be told.
    sectors: Option<Sectors>,
    /// Who may connect, when that was changed since it was attached.
    owner: Option<SocketOwner>,
    unheard: Unheard,
}

/// The sleep in which a thread was first seen although it had been told something, and when that was.
///
/// Looks fall right behind commands, and a command is often passed on as an order: at each look an order may wait that
/// the thread takes a moment later. So it is not enough that look after look finds it asleep with an order; it must be
/// the same sleep.
#[derive(Debug, Default)]
struct Unheard(Option<(u64, Instant)>);

impl Unheard {
    /// For how long the thread has slept although it was told something; `None` when it does not. `sleep` is the number of
    /// its sleep while it sleeps.
    fn look(&mut self, sleep: Option<u64>, has_orders: bool, now: Instant) -> Option<Duration> {
        let sleep = sleep.filter(|_| has_orders);
        let before = self.0.filter(|&(number, _)| sleep == Some(number));
        self.0 = sleep.map(|number| before.unwrap_or((number, now)));
        self.0.map(|(_, since)| now.duration_since(since))
    }
}

impl Entry {
    /// Whether the thread has ended by a fault of ours. One that has left may be found ended before its word of that has
    /// been read.
    fn has_panicked(&mut self) -> bool {
        let ended = self.thread.take_if(|thread| thread.is_finished());
        ended.is_some_and(|thread| thread.join().is_err())
    }
}

impl Supervisor {
    pub(super) fn new(
        settings: DoorSettings,
        host: Arc<dyn Host>,
        inbox: Receiver<Command>,
        commands: Sender<Command>,
        (reports, admission): (Reports, Admission),
        progress: Arc<Progress>,
    ) -> Supervisor {
        Supervisor {
            settings,
            host,
            inbox,
            commands,
            reports,
            admission,
            attachments: BTreeMap::new(),
            abandoned: Vec::new(),
            lives: 0,
            shutting: false,
            next_look: Instant::now(),
            progress,
        }
    }

    /// Runs until it has been told to shut and everything is gone.
    pub(super) fn run(mut self) {
        while !(self.shutting && self.attachments.is_empty()) {
            self.progress.asleep_for(self.patience());
            match self.next() {
                Ok(Some(command)) => {
                    self.progress.mark(Doing::Order, command.whom());
                    self.obey(command);
                }
                Ok(None) => self.progress.mark(Doing::Event, Whom::Nobody),
                // It holds a sender itself; this cannot be.
                Err(()) => return,
            }
            // Also when commands come without end.
            if Instant::now() >= self.next_look {
                self.look();
                self.next_look = Instant::now() + self.deadline() / LOOKS_PER_DEADLINE;
            }
        }
    }

    /// The next command, or `None` when it is time to look at the threads.
    fn next(&self) -> Result<Option<Command>, ()> {
        let Some(patience) = self.patience() else {
            return self.inbox.recv().map(Some).map_err(drop);
        };
        match self.inbox.recv_timeout(patience) {
            Ok(command) => Ok(Some(command)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// The time until the threads are to be looked at, if there are any.
    fn patience(&self) -> Option<Duration> {
        (!self.attachments.is_empty()).then(|| self.deadline() / LOOKS_PER_DEADLINE)
    }

    /// How long a thread may be in one step.
    fn deadline(&self) -> Duration {
        match self.shutting {
            true => self.settings.deadline.min(SHUT_DEADLINE),
            false => self.settings.deadline,
        }
    }

    /// Cuts off those whose thread has been in one step for too long, sleeps although it was told something, or has ended
    /// by a fault of ours.
    fn look(&mut self) {
        self.abandoned.retain(|thread| !thread.is_finished());
        let mut over = Vec::new();
        let (now, deadline) = (Instant::now(), self.deadline());
        for (&index, entry) in &mut self.attachments {
            if let Some((step, age)) = entry.gate.overdue(deadline) {
                let reason = format!(
                    "the virtual machine's side keeps us waiting in {step} for {} s: it is cut off",
                    age.as_secs()
                );
                log::warn!("attachment={} {reason}", entry.gate.name());
                entry.gate.close(step, &reason);
                over.push(index);
            } else if let Some(age) = entry
                .unheard
                .look(entry.gate.sleep(), entry.line.has_orders(), now)
                && age >= self.settings.deadline
            {
                let reason = format!(
                    "the attachment's thread has slept for {} s although it was told something, by a fault of ours",
                    age.as_secs()
                );
                log::error!("attachment={} {reason}", entry.gate.name());
                entry.gate.close("its sleep", &reason);
                over.push(index);
            } else if entry.has_panicked() && entry.gate.is_open() {
                log::error!(
                    "attachment={} its thread has ended by a fault of ours",
                    entry.gate.name()
                );
                entry
                    .gate
                    .close("a panic", "the attachment's thread has ended by a fault of ours");
                over.push(index);
            }
        }
        over.into_iter().for_each(|index| self.settle(index));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Attach { spec, answer } => self.attach(*spec, answer),
            Command::Detach { index } => self.detach(index, "the attachment is being taken away"),
            Command::GiveUp { index } => self.take_away(index, Order::GiveUp),
            Command::Resize { index, sectors } => {
                if let Some(entry) = self.attachments.get_mut(&index) {
                    entry.sectors = Some(sectors);
                    entry.line.give(Order::Resize { sectors });
                }
            }
            Command::ChangeOwner { index, owner } => {
                if let Some(entry) = self.attachments.get_mut(&index) {
                    entry.owner = Some(owner);
                    entry.line.give(Order::ChangeOwner { owner });
                }
            }
            Command::Restore { index } => {
                if let Some(entry) = self.attachments.get(&index) {
                    entry.line.give(Order::Restore);
                }
            }
            Command::Stalled { index, held, waited } => {
                if let Some(entry) = self.attachments.get(&index) {
                    entry.line.give(Order::Stalled { held, waited });
                }
            }
            Command::QueueStopped { queue, source } => self.queue_stopped(queue, source),
            Command::Shutdown => {
                self.shutting = true;
                self.next_look = Instant::now();
                let all: Vec<_> = self.attachments.keys().copied().collect();
                all.into_iter()
                    .for_each(|index| self.detach(index, "the daemon is stopping"));
            }
            Command::Left { index, life, offered } => self.left(index, life, offered),
            Command::Back { index, life } => {
                if let Some(entry) = self.attachments.get_mut(&index)
                    && entry.life == life
                {
                    entry.back = true;
                    self.settle(index);
                }
            }
        }
    }

    fn attach(&mut self, spec: AttachmentSpec, answer: SyncSender<Result<(), AttachError>>) {
        // Nobody listens any more only when the caller's thread has ended.
        let refuse = |answer: &SyncSender<_>, error| drop(answer.send(Err(error)));
        let (index, queues, queue_size_max) = (spec.index, spec.geometry.queues, spec.queue_size_max);
        if self.shutting {
            return refuse(&answer, AttachError::Shut);
        }
        if self.attachments.contains_key(&index) {
            return refuse(&answer, AttachError::Exists { index });
        }
        let queues_fit = (1..=QUEUES_MAX).contains(&queues);
        if !queues_fit || !queue_size_max.is_power_of_two() || queue_size_max > QUEUE_SIZE_MAX {
            return refuse(
                &answer,
                AttachError::Queues {
                    queues,
                    queue_size_max,
                },
            );
        }
        self.abandoned.retain(|thread| !thread.is_finished());
        if self.abandoned.len() >= self.settings.hanging_max {
            let hanging = self.abandoned.len();
            return refuse(&answer, AttachError::Hanging { hanging });
        }
        let gate = Arc::new(Gate::new(
            index,
            spec.name.clone(),
            Arc::clone(&self.host),
            self.reports.clone(),
            self.admission.clone(),
        ));
        let (line, end) = match thread::line() {
            Ok(both) => both,
            Err(error) => return refuse(&answer, AttachError::Watch(error)),
        };
        let limits = Limits {
            // Half of what a step may take: the attachment's thread is not cut off for it.
            patience: (self.settings.deadline / 2).max(PATIENCE_MIN),
            hanging_each: self.settings.hanging_each_max,
            hanging_all: self.settings.hanging_max,
        };
        let mut attachment = Attachment::new(spec, Arc::clone(&gate), limits, &self.settings);
        self.reports.put(index, attachment.report());
        self.lives += 1;
        let started = thread::start(
            attachment,
            self.lives,
            Arc::clone(&gate),
            end,
            self.commands.clone(),
            answer.clone(),
        );
        match started {
            Ok(thread) => {
                let entry = Entry {
                    life: self.lives,
                    gate,
                    line,
                    thread: Some(thread),
                    leaving: false,
                    back: false,
                    sectors: None,
                    owner: None,
                    unheard: Unheard::default(),
                };
                self.attachments.insert(index, entry);
            }
            Err(error) => {
                self.reports.remove(index);
                refuse(&answer, AttachError::Thread(error));
            }
        }
    }

    fn detach(&mut self, index: AttachmentIndex, reason: &'static str) {
        self.take_away(index, Order::Leave { reason });
    }

    /// One that is cut off, or is later, is not offered anew.
    fn take_away(&mut self, index: AttachmentIndex, order: Order) {
        match self.attachments.get_mut(&index) {
            Some(entry) => {
                entry.leaving = true;
                entry.line.give(order);
                self.settle(index);
            }
            None => self.host.detached(index),
        }
    }

    /// The ring, and with it its hold on the guest's memory, ends on the attachment's thread: letting go may take long.
    fn queue_stopped(&mut self, queue: QueueId, source: Option<Box<BlkQueue<CallNotify>>>) {
        match self.attachments.get(&queue.attachment) {
            Some(entry) => {
                entry.gate.given_back(queue.queue);
                entry.line.give(Order::QueueStopped {
                    queue: queue.queue,
                    source,
                });
                self.settle(queue.attachment);
            }
            None => thread::dispose(source),
        }
    }

    /// A thread has ended: nothing of its attachment remains, or it never was on offer.
    fn left(&mut self, index: AttachmentIndex, life: u64, offered: bool) {
        let mine = self
            .attachments
            .get(&index)
            .is_some_and(|entry| entry.life == life);
        if mine && let Some(entry) = self.attachments.remove(&index) {
            self.reports.remove(index);
            if offered || entry.leaving {
                self.host.detached(index);
            }
        }
    }

    /// What follows when an attachment was cut off and the host has given everything back.
    fn settle(&mut self, index: AttachmentIndex) {
        let Some(entry) = self.attachments.get_mut(&index) else {
            return;
        };
        if !entry.gate.is_over() {
            return;
        }
        if entry.leaving {
            if let Some(Entry { thread, .. }) = self.attachments.remove(&index) {
                // With its line gone it ends when it comes back.
                self.abandoned.extend(thread);
            }
            self.reports.remove(index);
            self.host.detached(index);
        } else if std::mem::take(&mut entry.back) {
            entry.gate.reopen();
            self.host.recovered(index);
            let (sectors, owner) = (entry.sectors, entry.owner);
            entry.line.give(Order::Reopen { sectors, owner });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_memory::GuestMemory;
    use palisade_sys::PeerEvent;
    use palisade_virtio::VolumeGeometry;
    use std::path::Path;
    use std::sync::{Mutex, mpsc};

    const WEB1: AttachmentIndex = AttachmentIndex(3);

    /// Notes which attachments are said to be stuck or gone.
    #[derive(Default)]
    struct Notes {
        stuck: Mutex<Vec<AttachmentIndex>>,
        detached: Mutex<Vec<AttachmentIndex>>,
    }

    impl Host for Notes {
        fn connected(&self, _: AttachmentIndex) {}
        fn memory(&self, _: AttachmentIndex, _: Option<Arc<GuestMemory>>) {}
        fn write_through(&self, _: AttachmentIndex, _: bool) {}
        fn start_queue(&self, _: QueueId, _: Box<BlkQueue<CallNotify>>, _: Option<PeerEvent>) {}
        fn stop_queue(&self, _: QueueId) {}
        fn disconnected(&self, _: AttachmentIndex, _: &str) {}
        fn stuck(&self, attachment: AttachmentIndex, _: &str) {
            self.stuck.lock().unwrap().push(attachment);
        }
        fn detached(&self, attachment: AttachmentIndex) {
            self.detached.lock().unwrap().push(attachment);
        }
    }

    fn spec(path: &Path) -> AttachmentSpec {
        AttachmentSpec {
            index: WEB1,
            name: "web1".to_owned(),
            path: path.to_owned(),
            owner: crate::SocketOwner {
                user: None,
                group: None,
                mode: 0o600,
            },
            geometry: VolumeGeometry {
                sectors: Sectors(64),
                block_bytes: 512,
                physical_block_bytes: 512,
                optimal_io_bytes: 0,
                read_only: false,
                queues: 1,
                discard: false,
                discard_alignment_bytes: 512,
                write_zeroes: false,
                writeback: false,
            },
            queue_size_max: 256,
            volume: 7,
            serial: [0; 20],
            share: palisade_memory::Shares::new(palisade_memory::ShareLimits::default()).join(),
        }
    }

    /// With one attachment on offer.
    fn begun(folder: &Path) -> (Supervisor, Arc<Notes>) {
        let (commands, inbox) = crossbeam::channel::unbounded();
        let notes = Arc::new(Notes::default());
        let host = Arc::clone(&notes) as Arc<dyn Host>;
        let (settings, both) = (DoorSettings::default(), Default::default());
        let mut supervisor = Supervisor::new(settings, host, inbox, commands, both, Arc::default());
        let (answer, answered) = mpsc::sync_channel(1);
        let spec = Box::new(spec(&folder.join("web1.sock")));
        supervisor.obey(Command::Attach { spec, answer });
        answered.recv().unwrap().unwrap();
        (supervisor, notes)
    }

    /// The looks fall right behind commands, so that a thread may be found ended before its word of that has been read.
    #[test]
    fn a_thread_that_has_left_is_no_fault_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (mut supervisor, notes) = begun(folder.path());
        supervisor.obey(Command::Detach { index: WEB1 });
        let has_ended = |supervisor: &Supervisor| {
            let thread = supervisor.attachments[&WEB1].thread.as_ref();
            thread.is_some_and(JoinHandle::is_finished)
        };
        while !has_ended(&supervisor) {
            std::thread::yield_now();
        }
        supervisor.look();
        supervisor.look();
        assert_eq!(*notes.stuck.lock().unwrap(), [], "it has left as it was told");
        let left = supervisor.inbox.try_recv().unwrap();
        supervisor.obey(left);
        assert!(supervisor.attachments.is_empty());
        assert_eq!(*notes.detached.lock().unwrap(), [WEB1]);
    }

    #[test]
    fn a_thread_that_has_panicked_is_a_fault_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let (mut supervisor, notes) = begun(folder.path());
        let panicked = std::thread::spawn(|| std::panic::resume_unwind(Box::new("as by a fault of ours")));
        while !panicked.is_finished() {
            std::thread::yield_now();
        }
        let entry = supervisor.attachments.get_mut(&WEB1).unwrap();
        entry.line.give(Order::Leave { reason: "the test" });
        let own = entry.thread.replace(panicked).unwrap();
        own.join().unwrap();
        supervisor.look();
        assert_eq!(*notes.stuck.lock().unwrap(), [WEB1]);
    }

    /// Looks one second apart: the number of the sleep, if it sleeps, and whether an order waits.
    fn looks(seen: &[(Option<u64>, bool)]) -> Vec<Option<u64>> {
        let begin = Instant::now();
        let mut unheard = Unheard::default();
        let mut after = 0..;
        seen.iter()
            .map(|&(sleep, has_orders)| {
                let now = begin + Duration::from_secs(after.next().unwrap_or(0));
                unheard.look(sleep, has_orders, now).map(|age| age.as_secs())
            })
            .collect()
    }

    #[test]
    fn one_sleep_with_an_order_is_as_long_as_it_lasts() {
        let one = (Some(7), true);
        assert_eq!(looks(&[one, one, one]), [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn sleeps_between_which_it_was_awake_are_not_one() {
        let sleeps = [1, 2, 3, 3].map(|number| (Some(number), true));
        assert_eq!(looks(&sleeps), [Some(0), Some(0), Some(0), Some(1)]);
    }

    #[test]
    fn awake_or_without_orders_nothing_is_unheard_and_the_time_begins_anew() {
        let one = (Some(7), true);
        for between in [(None, true), (Some(7), false), (None, false)] {
            assert_eq!(
                looks(&[one, between, one, one]),
                [Some(0), None, Some(0), Some(1)]
            );
        }
    }
}
