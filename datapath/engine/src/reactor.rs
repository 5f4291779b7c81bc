//! The reactor and its one loop: finish old work, take new work, submit once, notify once.

use crate::books::Books;
use crate::order::Order;
use crate::queue::Queues;
use crate::rations::Ration;
use crate::steps::Steps;
use crate::touches::{Clocks, Touches};
use crate::volumes::Volumes;
use crate::walks::Walks;
use crate::watched::Watched;
use palisade_block::mailbox::Notice;
use palisade_block::stats::ReactorStats;
use palisade_block::{Devices, Fault, Nanos, Pool, Source};
use palisade_words::{AttachmentIndex, Epoch, SlotIndex};
use std::collections::VecDeque;
use std::sync::Arc;

/// Sizes of a reactor's tables, fixed at its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReactorConfig {
    /// Requests in flight at most.
    pub slots: u32,
    /// Pieces of cut requests in flight at most.
    pub parts: u32,
    /// Requests with more than [`SEGMENTS_PER_SLOT`](palisade_block::limits::SEGMENTS_PER_SLOT) segments in flight at
    /// most. Each has room for [`SEGMENTS_LONG_MAX`](palisade_block::limits::SEGMENTS_LONG_MAX), half a mebibyte, of
    /// which only what has been used takes memory.
    pub long: u32,
    /// How often the stall watch looks.
    pub watch_every: Nanos,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        ReactorConfig {
            slots: 2048,
            parts: 256,
            long: 64,
            watch_every: Nanos::from_millis(100),
        }
    }
}

/// What a queue got in one turn.
pub(crate) enum Portion {
    /// It had nothing, or nothing may be taken from it.
    Nothing,
    /// There was no slot for what it may have.
    Starved,
    /// So many things, at least one.
    Served(usize),
}

/// One reactor. `S` are its sources, `D` its devices, `P` its buffer pool.
pub struct Reactor<S, D: Devices, P> {
    pub(crate) devices: D,
    pub(crate) pool: P,
    /// What is in flight.
    pub(crate) books: Books,
    pub(crate) queues: Queues<S>,
    /// Places of the queues that are in use.
    pub(crate) active: Vec<u16>,
    pub(crate) volumes: Volumes,
    pub(crate) watched: Watched,
    /// Bounce buffers in all.
    pub(crate) buffers: usize,
    /// The newest membership that a route was of.
    pub(crate) epoch: Epoch,
    /// What has been begun of requests in pieces.
    pub(crate) ration: Ration,
    /// Descriptors followed.
    pub(crate) walks: Walks,
    /// Queues with answers to be published.
    pub(crate) touched: Vec<u16>,
    /// Queues that asked to stop, and attachments whose volume is taken away, that may be idle by now.
    pub(crate) stopping: u32,
    /// The latter.
    pub(crate) revoking: Vec<AttachmentIndex>,
    pub(crate) notices: VecDeque<Notice<S, D>>,
    pub(crate) stats: Arc<ReactorStats>,
    pub(crate) now: Nanos,
    pub(crate) watch_every: Nanos,
    pub(crate) watch_next: Nanos,
    pub(crate) clocks: Clocks,
    /// What the stopwatch has found.
    pub(crate) steps: Steps,
    /// What the present turn has touched.
    pub(crate) touches: Touches,
    /// The sources notify; they go on to do so while one sleep follows the other.
    pub(crate) armed: bool,
    /// What the devices have finished, and how much of that has been taken note of.
    finished: Vec<(SlotIndex, Result<(), Fault>)>,
    noted: usize,
    /// Some of it has not.
    pub(crate) is_behind: bool,
    /// It was told to end.
    pub(crate) is_ending: bool,
    pub(crate) order: Order,
}

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Allocates everything that turns will need.
    pub fn new(config: ReactorConfig, mut devices: D, pool: P, stats: Arc<ReactorStats>) -> Self {
        devices.keep_pool(&pool.lease());
        let books = Books::new(config, pool.free() as u32);
        let all = books.slots.len();
        Reactor {
            buffers: pool.free(),
            devices,
            pool,
            books,
            queues: Queues::new(),
            active: Vec::new(),
            volumes: Volumes::default(),
            watched: Watched::default(),
            epoch: Epoch::default(),
            ration: Ration::default(),
            walks: Walks::default(),
            touched: Vec::new(),
            stopping: 0,
            revoking: Vec::new(),
            notices: VecDeque::new(),
            stats,
            now: Nanos(0),
            watch_every: config.watch_every,
            watch_next: Nanos(0),
            clocks: Clocks::default(),
            steps: Steps::default(),
            touches: Touches::default(),
            armed: false,
            finished: Vec::with_capacity(all),
            noted: 0,
            is_behind: false,
            is_ending: false,
            order: Order::default(),
        }
    }

    /// One turn at the moment `now`: the number of things done, 0 when there was nothing to do.
    pub fn turn(&mut self, now: Nanos) -> usize {
        match self.clocks.stopwatch.is_some() {
            false => self.turn_as::<false>(now),
            true => self.turn_timed(now),
        }
    }

    #[cold]
    #[inline(never)]
    fn turn_timed(&mut self, now: Nanos) -> usize {
        if let Some(stopwatch) = &mut self.clocks.stopwatch {
            stopwatch.start();
        }
        self.steps.begin_turn(now);
        self.turn_as::<true>(now)
    }

    /// The same, whoever calls: `TIMED` when each step is timed by itself.
    #[inline(always)]
    fn turn_as<const TIMED: bool>(&mut self, now: Nanos) -> usize {
        self.now = now;
        self.touches = Touches::default();
        self.books.begin_turn(now);
        self.devices.begin_turn(now);
        let finished = self.reap::<TIMED>();
        let taken = self.pull::<TIMED>();
        self.submit();
        self.notify::<TIMED>();
        if self.now >= self.watch_next {
            self.watch();
        }
        self.stats.turns.add(1);
        if finished + taken != 0 {
            self.stats.busy_turns.add(1);
            self.stats.slots_used.set(u64::from(self.in_flight()));
        }
        finished + taken
    }

    /// Whether anything waits for what another turn may find to be free: a device, a part, a buffer, or the turn
    /// itself; or is to be sent again.
    #[inline]
    pub fn is_held_up(&self) -> bool {
        !self.books.lines.are_empty() || self.is_behind
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.books.slots.requests_used()
    }

    /// Whether it was told to end, and nothing is in flight any more.
    pub fn has_ended(&self) -> bool {
        self.is_ending && self.in_flight() == 0
    }

    /// The oldest notice not yet fetched. Not part of a turn: a device that has come to rest is let go of before that is told.
    pub fn next_notice(&mut self) -> Option<Notice<S, D>> {
        let Some(notice) = self.notices.pop_front() else {
            return self.devices.next_report().map(Notice::Peers);
        };
        if let Notice::DeviceClosed { device } = notice {
            self.devices.close(device);
        }
        Some(notice)
    }

    /// The devices.
    pub fn devices(&self) -> &D {
        &self.devices
    }

    /// The devices, for changes between two turns.
    pub fn devices_mut(&mut self) -> &mut D {
        &mut self.devices
    }

    /// Holds the books of all that is in flight against what there is. Between two turns; not part of one: this allocates.
    ///
    /// # Panics
    /// When they are not true: our own bug.
    pub fn check(&self) {
        let used = self.buffers.checked_sub(self.pool.free());
        let used = used.unwrap_or_else(|| broken("more bounce buffers came back than there are"));
        self.books.check(used);
    }

    /// Ends the reactor as a crash would: requests in flight stay unanswered, for a successor to find in the
    /// in-flight region. Gives the devices back, which may still be reading and writing: they are not told to let go of
    /// any memory, and keep what they need.
    pub fn abandon(mut self) -> D {
        for (_, slot) in self.books.slots.iter_mut() {
            if let Some(token) = slot.token.take() {
                token.spend();
            }
        }
        self.devices
    }

    /// Finishes what the devices have finished: as much as a turn allows, the rest in the next before anything else.
    fn reap<const TIMED: bool>(&mut self) -> usize {
        if !self.is_behind {
            let finished = &mut self.finished;
            finished.clear();
            self.devices.reap(|slot, result| finished.push((slot, result)));
            self.noted = 0;
        }
        if TIMED {
            self.end_step_of_nobody();
        }
        match self.finished.is_empty() {
            true => 0,
            false => self.note_finished::<TIMED>(),
        }
    }

    fn note_finished<const TIMED: bool>(&mut self) -> usize {
        let before = self.noted;
        while let Some(&(slot, result)) = self.finished.get(self.noted) {
            self.noted += 1;
            let queue = if TIMED {
                self.books.slots.slot(slot).queue
            } else {
                0
            };
            self.left_device(slot);
            self.completed(slot, result);
            if TIMED {
                self.end_step(queue);
            }
            self.touches.add(0);
            if self.has_turn_touched_enough() {
                break;
            }
        }
        self.is_behind = self.noted < self.finished.len();
        self.noted - before
    }

    /// Goes on with what had to wait, then takes new requests from each queue in turn ([`crate::order`]). A queue whose chain
    /// has waited to be followed comes before all others, whatever their order.
    fn pull<const TIMED: bool>(&mut self) -> usize {
        let mut taken = 0;
        if self.is_held_up() {
            taken = self.resume();
            if !TIMED && self.touches.are_over() {
                return taken;
            }
        }
        let (mut served, mut is_any_short) = (None, false);
        let count = self.active.len();
        let first = self.walks.first();
        if let Some(index) = first
            && !(TIMED && self.rests_now(index))
        {
            taken += self.pull_first(index);
            if TIMED {
                self.end_step(index);
            }
        }
        let had_its_turn = first.map_or(u32::MAX, u32::from);
        // No queue comes or goes meanwhile.
        let active = std::mem::take(&mut self.active);
        let mut position = self.order.first();
        for _ in 0..count {
            if position >= count {
                position = 0;
            }
            if let Some(&index) = active.get(position)
                && u32::from(index) != had_its_turn
            {
                if self.has_more(index) && !(TIMED && self.rests_now(index)) {
                    match self.pull_queue(index, count) {
                        Portion::Nothing => {}
                        Portion::Starved => {
                            self.note_short(index);
                            is_any_short = true;
                        }
                        Portion::Served(here) => {
                            served = Some(position);
                            taken += here;
                        }
                    }
                    if !TIMED && self.touches.are_over() {
                        break;
                    }
                }
                if TIMED {
                    self.end_step(index);
                }
            }
            position += 1;
        }
        self.active = active;
        match served {
            _ if is_any_short => self.line_up(served),
            Some(served) => self.order.begins_behind(served),
            None => {}
        }
        taken
    }

    /// Serves the queue whose chain has waited to be followed, out of its order.
    #[cold]
    #[inline(never)]
    fn pull_first(&mut self, index: u16) -> usize {
        let portion = self.pull_from(index);
        self.publish(index);
        match portion {
            Portion::Served(here) => here,
            Portion::Nothing | Portion::Starved => 0,
        }
    }

    /// Whether a queue may have something to give.
    #[inline(always)]
    fn has_more(&self, index: u16) -> bool {
        let queue = self.queues.get(index);
        queue.is_some_and(|queue| queue.source.has_more())
    }

    /// Takes what a queue has. It is inlined into turns that are timed and into those that are not.
    #[inline(always)]
    fn pull_queue(&mut self, index: u16, count: usize) -> Portion {
        let portion = self.pull_from(index);
        // What was answered at once does not wait for the other queues' batches.
        if count > 1 {
            self.publish_early(index);
        }
        portion
    }

    /// Not a part of the loop over all queues: most have nothing, and the fewer registers that loop needs the sooner it has
    /// looked at those.
    #[inline(never)]
    fn publish_early(&mut self, index: u16) {
        self.publish(index);
    }

    fn submit(&mut self) {
        self.devices.submit();
    }

    /// Publishes answers, one notification per queue, and gives back queues that have come to rest.
    fn notify<const TIMED: bool>(&mut self) {
        while let Some(index) = self.touched.pop() {
            self.publish(index);
            if TIMED {
                self.end_step(index);
            }
        }
        if TIMED {
            self.tell_long_steps();
        }
        if self.stopping != 0 {
            self.settle();
        }
    }

    /// Shows a queue's answers, if it has any, and notifies its guest once.
    #[inline]
    fn publish(&mut self, index: u16) {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.publish();
        }
    }
}

/// Stops this node: one of our own invariants does not hold, and going on could damage data.
#[cold]
#[expect(
    clippy::panic,
    reason = "a broken invariant of our own stops the node; others take over"
)]
pub(crate) fn broken(what: &str) -> ! {
    panic!("invariant broken in the engine: {what}")
}
