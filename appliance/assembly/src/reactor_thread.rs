//! One reactor on one core: the engine with real hands, and sleep.

use crate::message::ControlMessage;
use crate::node_source::NodeSource;
use crate::slow_turns::SlowTurns;
use crate::turn_watch::{Timing, TurnWatch};
use crate::watch::PendingWork;
use crossbeam::channel::{Receiver, Sender};
use palisade_block::mailbox::{Notice, ReactorCommand};
use palisade_block::stats::ReactorStats;
use palisade_block::{Clock, Doing, Nanos, Pool, Progress, Whom};
use palisade_engine::idle::Next;
use palisade_engine::{Idle, IdlePolicy, Reactor, ReactorConfig};
use palisade_forward::PeerDevices;
use palisade_frontend::{CallNotify, DoorHandle};
use palisade_sys::{
    HugePool, LocalDevices, LocalSettings, MemoryRegistration, MonotonicClock, PageBacking, PeerEvent,
    Pending, ThreadStopwatch, Waker,
};
use palisade_virtio::BlkQueue;
use palisade_words::{QueueId, ReactorIndex};
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A guest's virtqueue as reactors own it.
pub type GuestQueue = BlkQueue<CallNotify>;

/// What a reactor is told.
pub type GuestCommand = ReactorCommand<NodeSource, NodeDevices>;

/// What a reactor tells.
pub type ReactorNotice = Notice<NodeSource, NodeDevices>;

/// The devices of a reactor: disks of this node, and those behind others.
pub type NodeDevices = PeerDevices<LocalDevices>;

/// Whom a reactor tells. None of them is waited for.
#[derive(Clone, Debug)]
pub struct NoticeSink {
    /// The control loop.
    pub control: Sender<ControlMessage>,
    /// The door, once it is open: nobody comes in before. What it waits for does not go by a thread that may be busy.
    pub door: Arc<OnceLock<DoorHandle>>,
}

impl NoticeSink {
    /// Tells whoever is concerned. Nobody is left to care when that one has gone first.
    pub fn tell(&self, reactor: ReactorIndex, notice: ReactorNotice) {
        match (notice, self.door.get()) {
            (Notice::QueueStopped { queue, source }, Some(door)) => match source {
                Some(NodeSource::Guest(source)) => door.queue_stopped(queue, Some(Box::new(source))),
                // What another node has asked is over with its session.
                Some(NodeSource::Peer(_)) => {}
                None => door.queue_stopped(queue, None),
            },
            (Notice::QueueStalled { queue, held, waited }, Some(door)) => {
                door.stalled(queue.attachment, held.duration(), waited.duration());
            }
            (notice, _) => {
                let message = ControlMessage::Notice(reactor, Box::new(notice));
                let _ = self.control.send(message);
            }
        }
    }
}

/// How long a reactor sleeps at most while it serves a queue whose kick it does not hear.
const UNHEARD_LOOK: Duration = Duration::from_millis(1);

/// What a reactor is made from.
#[derive(Clone, Debug)]
pub struct ReactorPlan {
    /// Its number.
    pub index: ReactorIndex,
    /// Its core.
    pub core: usize,
    /// How it waits.
    pub idle: IdlePolicy,
    /// Sizes of its tables.
    pub config: ReactorConfig,
    /// Bounce buffers.
    pub pool_buffers: u32,
}

/// A running reactor, as the control plane holds it.
#[derive(Debug)]
pub struct ReactorHandle {
    /// Its plan.
    pub plan: ReactorPlan,
    /// Its counters.
    pub stats: Arc<ReactorStats>,
    /// What pages its pool is made of.
    pub backing: PageBacking,
    /// What it does.
    pub progress: Arc<Progress>,
    /// Its turns that lasted too long.
    pub slow: Arc<SlowTurns>,
    orders: Sender<GuestCommand>,
    ordered: Arc<AtomicBool>,
    sleeping: Arc<AtomicBool>,
    waker: Waker,
    pending: Pending,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ReactorHandle {
    /// Starts a reactor on its core; an error names what could not be had.
    pub fn start(plan: ReactorPlan, told: NoticeSink) -> io::Result<ReactorHandle> {
        // Nobody waits for a reactor, with or without a lock in hand: so the mailbox has no bound of its own. What can
        // be in it is bounded by its senders: a queue is started again only after it was given back, a guest's memory is
        // sent again only after the former one was (`pinning`), and what operators change is acknowledged step by step.
        let (orders, mailbox) = crossbeam::channel::unbounded();
        let (ready, started) = crossbeam::channel::bounded(1);
        let stats = Arc::new(ReactorStats::default());
        let (ordered, sleeping) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (for_thread, counters) = (plan.clone(), Arc::clone(&stats));
        let mailbox = Mailbox {
            orders: mailbox,
            ordered: Arc::clone(&ordered),
        };
        let (asleep, progress) = (Arc::clone(&sleeping), Arc::new(Progress::default()));
        let marks = Arc::clone(&progress);
        let slow = Arc::new(SlowTurns::default());
        let slow_turns = Arc::clone(&slow);
        let thread = std::thread::Builder::new()
            .name(format!("reactor-{}", plan.index.0))
            .spawn(move || {
                // The ring must be made on the thread that uses it (IORING_SETUP_SINGLE_ISSUER).
                let watch = TurnWatch::new(slow_turns);
                match ReactorThread::new(&for_thread, mailbox, told, counters, asleep, marks, watch) {
                    Ok((thread, backing)) => {
                        let devices = thread.reactor.devices().inner();
                        let _ = ready.send(Ok((devices.waker(), devices.pending(), backing)));
                        thread.run();
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            })?;
        let gone = || io::Error::other("the reactor's thread ended before it was ready");
        let (waker, pending, backing) = started.recv().map_err(|_| gone())??;
        Ok(ReactorHandle {
            plan,
            stats,
            backing,
            progress,
            slow,
            orders,
            ordered,
            sleeping,
            waker,
            pending,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Gives a command. It is carried out between two turns, in the order of sending.
    pub fn send(&self, command: impl Into<GuestCommand>) {
        // The thread outlives every handle but its own `join`; after that commands have no addressee and no effect.
        if self.orders.send(command.into()).is_err() {
            return;
        }
        self.ordered.store(true, Release);
        if self.waker.wake().is_err() {
            log::error!("reactor {}: cannot be woken", self.plan.index.0);
        }
    }

    /// Asks the reactor to end once nothing is in flight.
    pub fn stop(&self) {
        self.send(ReactorCommand::Stop);
    }

    /// Waits for the end of a reactor that was asked to; false when it has not ended by then.
    pub fn join_until(&self, deadline: Instant) -> bool {
        // The lock is held for looks alone: who watches over the reactors wants it, too.
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = self.thread().take();
        if let Some(thread) = ended
            && thread.join().is_err()
        {
            log::error!("reactor {} ended by a panic", self.plan.index.0);
        }
        true
    }

    /// Whether the thread runs.
    pub fn is_alive(&self) -> bool {
        self.thread().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Whether something waits for it that ends its sleep. What its devices and guests bring is asked of the kernel, which
    /// has it until the thread wakes.
    pub fn waiting(&self) -> PendingWork {
        let (ordered, pending) = (Arc::clone(&self.ordered), self.pending.clone());
        PendingWork::asks(move || match (ordered.load(Acquire), pending.has_come()) {
            (true, _) => Some("an order of the control loop"),
            (false, true) => Some("a kick or a completion"),
            (false, false) => None,
        })
    }

    /// Whether it sleeps just now.
    pub fn sleeps_now(&self) -> bool {
        self.sleeping.load(Relaxed)
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Orders for one reactor. Asking a channel whether it is empty takes a full fence, which is a tenth of what a request
/// at depth 1 costs; so its senders raise a flag, and the channel is asked only then.
struct Mailbox {
    orders: Receiver<GuestCommand>,
    ordered: Arc<AtomicBool>,
}

impl Mailbox {
    /// Whether orders have come since the last call; all of them are to be taken then.
    #[inline]
    fn has_orders(&self) -> bool {
        // Whoever sends raises the flag after his order is in the channel: taken back before the channel is emptied,
        // it cannot hide an order.
        self.ordered.load(Relaxed) && self.ordered.swap(false, AcqRel)
    }

    fn next(&self) -> Option<GuestCommand> {
        self.orders.try_recv().ok()
    }
}

struct ReactorThread {
    index: ReactorIndex,
    reactor: Reactor<NodeSource, NodeDevices, HugePool>,
    clock: MonotonicClock,
    idle: Idle,
    mailbox: Mailbox,
    told: NoticeSink,
    kicks: HashMap<QueueId, PeerEvent>,
    /// Queues without a kick (the front-end asks for polling), or whose kick cannot be listened to.
    unheard: HashSet<QueueId>,
    sleeping: Arc<AtomicBool>,
    progress: Arc<Progress>,
    watch: TurnWatch,
}

impl ReactorThread {
    fn new(
        plan: &ReactorPlan,
        mailbox: Mailbox,
        told: NoticeSink,
        stats: Arc<ReactorStats>,
        sleeping: Arc<AtomicBool>,
        progress: Arc<Progress>,
        watch: TurnWatch,
    ) -> io::Result<(ReactorThread, PageBacking)> {
        palisade_sys::affinity::pin_current_thread(plan.core)?;
        let pool = HugePool::new(plan.pool_buffers)?;
        let backing = pool.backing();
        // As many operations may be in the kernel as there are slots, whose shares the engine watches over: with fewer,
        // one device that hangs could use up all of them and stop its neighbours.
        let slots = plan.config.slots + plan.config.parts;
        let mut devices = LocalDevices::new(LocalSettings {
            slots,
            in_flight_max: slots,
            ..LocalSettings::default()
        })?;
        let pool_memory = devices.add_pool_memory(Arc::new(MemoryRegistration::prepare(&pool.lease())));
        log::info!(
            "reactor {}: the kernel grants {:?}; {} KiB of buffers are pinned, {} KiB are not",
            plan.index.0,
            devices.abilities(),
            pool_memory.pinned_bytes >> 10,
            pool_memory.unpinned_bytes >> 10
        );
        let clock = MonotonicClock::new();
        let idle = Idle::new(plan.idle, clock.now());
        let mut reactor = Reactor::new(plan.config, PeerDevices::new(devices), pool, stats);
        reactor.bound_turns(Box::new(clock));
        let (kicks, unheard) = (HashMap::new(), HashSet::new());
        let thread = ReactorThread {
            index: plan.index,
            reactor,
            clock,
            idle,
            mailbox,
            told,
            kicks,
            unheard,
            sleeping,
            progress,
            watch,
        };
        Ok((thread, backing))
    }

    fn run(mut self) {
        loop {
            if self.mailbox.has_orders() {
                while let Some(order) = self.mailbox.next() {
                    self.progress.mark(Doing::Order, order.whom());
                    self.obey(order);
                }
            }
            self.progress.mark(Doing::Turn, Whom::Nobody);
            let now = self.clock.now();
            let timing = self.watch.begins(now);
            self.time_steps(timing);
            if self.idle.sleeps_at_once() && self.watch.may_hold(now) {
                self.reactor.devices_mut().inner_mut().hold();
            }
            let work = self.reactor.turn(now);
            self.watch.ended(now, work > 0);
            self.report();
            if self.reactor.has_ended() {
                break;
            }
            let in_flight = self.reactor.in_flight() > 0;
            match self.idle.after_turn(work, in_flight, now) {
                // What this turn has freed may let go on what had to wait before.
                Next::Sleep if work == 0 || !self.reactor.is_held_up() => {
                    self.sleep(now);
                }
                _ => {
                    self.reactor.disarm();
                    if work == 0 && in_flight {
                        self.reactor.devices_mut().inner_mut().pause();
                    }
                }
            }
        }
        self.progress.asleep();
        log::info!("reactor {} has ended", self.index.0);
    }

    /// Sleeps until a kick, a completion, an order, or the moment something is due.
    fn sleep(&mut self, now: Nanos) {
        // Sources and devices look for work once more after they have asked to be told of it; and an order whose waking
        // has been taken note of raised its flag before that.
        let devices = self.reactor.devices_mut();
        let there = devices.inner_mut().arm_wakeup();
        let work = self.reactor.arm() | there;
        if !work && !self.mailbox.ordered.load(Acquire) {
            let timeout = self
                .reactor
                .due()
                .map(|due| Duration::from_nanos(due.since(now).0));
            let timeout = match self.unheard.is_empty() {
                true => timeout,
                false => Some(timeout.map_or(UNHEARD_LOOK, |timeout| timeout.min(UNHEARD_LOOK))),
            };
            // A turn with work ends here: it may have been long, and so may the arming.
            let ready = self.clock.now();
            let wakes_at = timeout.map(|timeout| ready.after(Nanos(timeout.as_nanos() as u64)));
            let timing = self.watch.sleeps(ready, wakes_at);
            self.time_steps(timing);
            self.sleeping.store(true, Relaxed);
            self.progress.asleep_for(timeout);
            if let Err(error) = self.reactor.devices_mut().inner_mut().sleep(timeout) {
                log::error!("reactor {}: cannot sleep: {error}", self.index.0);
            }
            self.progress.mark(Doing::Turn, Whom::Nobody);
            self.sleeping.store(false, Relaxed);
        }
        self.reactor.devices_mut().inner_mut().disarm_wakeup();
    }

    /// Whether it is told from now on whom a turn is kept waiting for.
    #[inline]
    fn time_steps(&mut self, timing: Timing) {
        match timing {
            Timing::Same => {}
            Timing::Begin => self.reactor.time_steps(Some(Box::new(ThreadStopwatch::new()))),
            Timing::End => self.reactor.time_steps(None),
        }
    }

    fn obey(&mut self, mut command: GuestCommand) {
        if let ReactorCommand::AddQueue { queue, kick, .. } = &mut command {
            match kick.take() {
                Some(kick) => self.listen(*queue, kick),
                None => drop(self.unheard.insert(*queue)),
            }
        }
        self.reactor.apply(command);
        self.idle.ordered(self.clock.now());
    }

    fn listen(&mut self, queue: QueueId, kick: PeerEvent) {
        if !self.idle.may_sleep() {
            return;
        }
        match self.reactor.devices_mut().inner_mut().listen(kick.as_raw_fd()) {
            Ok(()) => drop(self.kicks.insert(queue, kick)),
            Err(error) => {
                log::error!(
                    "reactor {}: attachment {} queue {}: the kick cannot be listened to, the queue is polled: {error}",
                    self.index.0,
                    queue.attachment.0,
                    queue.queue
                );
                self.unheard.insert(queue);
            }
        }
    }

    fn stop_listening(&mut self, queue: QueueId) {
        self.unheard.remove(&queue);
        if let Some(kick) = self.kicks.remove(&queue)
            && let Err(error) = self
                .reactor
                .devices_mut()
                .inner_mut()
                .stop_listening(kick.as_raw_fd())
        {
            log::warn!("reactor {}: a kick could not be let go: {error}", self.index.0);
        }
    }

    fn report(&mut self) {
        while let Some(notice) = self.reactor.next_notice() {
            if let Notice::QueueStopped { queue, .. } = &notice {
                self.stop_listening(*queue);
            }
            self.told.tell(self.index, notice);
        }
    }
}
