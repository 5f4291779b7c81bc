//! What one queue hands over in one turn.
//!
//! Nearly every request goes to one device as it is, and many devices answer at once. Such a request lives in local
//! variables from its ring and back to it: [`intake`] takes it, [`start`] hands it over. Only one that its device keeps
//! gets a slot, and only what is rare is left to [`carry`](crate::carry). Everything that a batch cannot change is
//! looked at once, before it.

use crate::books::Owner;
use crate::pace::{self, Allowance};
use crate::reactor::{Portion, Reactor};
use crate::way::Way;
use palisade_block::limits::PULL_BATCH;
use palisade_block::{Devices, Fault, Op, Pool, Request, Source};
use palisade_words::{DeviceIndex, Lba, Sectors, SlotIndex, VolumeIndex};

mod intake;
mod segments;
mod start;

use intake::{Intake, Taken};

/// A long request counts in a batch for as many more as it has pieces of 16 KiB.
const BATCH_PIECE_SHIFT: u32 = 14;

/// And one that was put together of many descriptors, for as many more as it has times this many.
const BATCH_DESCRIPTORS: u64 = 64;

/// What one queue hands over in one turn, so far.
struct Batch {
    /// Of which volume the requests are that are taken now.
    volume: VolumeIndex,
    /// Its source carries more than that one.
    carries_many: bool,
    /// Things taken from the ring.
    taken: usize,
    /// Short requests that may still be taken.
    budget: u64,
    /// Requests that devices may still keep.
    room: u32,
    /// What the queue may still take of its attachment's limits.
    allowance: Allowance,
    /// It ended because there was no more room.
    short: bool,
    /// Answers were given.
    answered: bool,
    /// Reads answered at once.
    reads: Done,
    /// Writes answered at once.
    writes: Done,
    /// The request that is handed over when the one behind it is known, so that the device can fetch that one's data
    /// meanwhile.
    held: Option<Whole>,
    /// The device of the one held back has been told of it.
    expecting: bool,
    /// A request that interrupts the batch.
    other: Option<Other>,
    /// There is a reason to look after each request whether the batch is to end.
    watched: bool,
}

/// Requests answered at once, of one kind.
#[derive(Clone, Copy, Default)]
struct Done {
    requests: u64,
    bytes: u64,
}

impl Done {
    #[inline]
    fn add(&mut self, sectors: Sectors) {
        self.requests += 1;
        self.bytes += sectors.bytes();
    }
}

impl Batch {
    /// Whose the requests are that are taken now.
    fn owner(&self, queue: u16) -> Owner {
        let volume = self.volume;
        Owner { queue, volume }
    }

    /// Counts what its source has answered by itself.
    #[inline]
    fn count_answered(&mut self) {
        self.taken += 1;
        self.budget = self.budget.saturating_sub(1);
        self.answered = true;
    }
}

/// A request for one device, whose segments are in the list of a slot: of one that is claimed, or of the next.
struct Whole {
    slot: SlotIndex,
    request: Request,
    device: DeviceIndex,
    device_lba: Lba,
}

/// A request that is more than one operation, or none, whose segments are in the list of a claimed slot.
struct Other {
    slot: SlotIndex,
    request: Request,
    way: Result<Way, Option<Fault>>,
}

/// Why a batch is interrupted.
enum Stop {
    /// There is nothing more, or no more may be taken, or what was taken last is another kind of request.
    End,
    /// An operation whose slot has been filled was not taken by its device.
    Blocked(SlotIndex),
    /// An operation whose slot has been filled failed at once.
    Failed(SlotIndex, Fault),
}

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Takes what a queue has, as much as one turn allows.
    pub(crate) fn pull_from(&mut self, index: u16) -> Portion {
        let Some(mut batch) = self.begin_batch(index) else {
            return Portion::Nothing;
        };
        let mut turned_at = batch.taken;
        loop {
            let stop = self.pull_some(index, &mut batch);
            match stop {
                Stop::End => {}
                Stop::Blocked(slot) => self.books.lines.block(slot),
                Stop::Failed(slot, fault) => self.completed(slot, Err(fault)),
            }
            match batch.other.take() {
                Some(Other { slot, request, way }) => {
                    self.queues.at_mut(index).allowance = batch.allowance;
                    self.admit(batch.owner(index), slot, request, way);
                    batch.allowance = self.queues.at(index).allowance;
                    if self.books.is_kept_from(index) || self.touches.are_over() {
                        break;
                    }
                }
                None if !matches!(stop, Stop::End) => {}
                // Each that is turned to gives something, or it is the last.
                None if batch.carries_many
                    && batch.taken > turned_at
                    && self.turns_to_another(index, &mut batch) =>
                {
                    turned_at = batch.taken;
                }
                None => break,
            }
            batch.room = self.room_of(index, &batch);
        }
        self.end_batch(index, &batch);
        self.touches.add(2 * batch.taken);
        if self.touches.are_many() {
            self.touches.look(&mut self.devices, &self.clocks, self.now);
        }
        match batch.taken {
            0 if batch.short => Portion::Starved,
            0 => Portion::Nothing,
            taken => Portion::Served(taken),
        }
    }

    /// `None` when nothing may be taken from the queue.
    #[inline]
    fn begin_batch(&mut self, index: u16) -> Option<Batch> {
        let queue = self.queues.get_mut(index)?;
        let budget = match queue.stopping {
            false => PULL_BATCH as u64,
            true if queue.leaving => 0,
            // It is taken until its backlog is empty: its place in the ring lies behind that.
            true => queue.source.backlog().min(PULL_BATCH) as u64,
        };
        if budget == 0 {
            return None;
        }
        let volume = self.volumes.next_of(queue, &self.books)?;
        let owner = Owner { queue: index, volume };
        let carries_many = queue.settings.volume.is_none();
        let now_of = self.volumes.of(&queue.settings, volume);
        if now_of.is_held() {
            return None;
        }
        let room = self.books.room_for(owner, carries_many, now_of.devices());
        queue.source.may_follow(self.walks.left(self.stats.turns.get()));
        Some(Batch {
            volume,
            carries_many,
            taken: 0,
            budget,
            room,
            allowance: queue.allowance,
            short: false,
            answered: false,
            reads: Done::default(),
            writes: Done::default(),
            held: None,
            expecting: false,
            other: None,
            watched: self.clocks.stopwatch.is_some(),
        })
    }

    /// Takes requests and hands them to their device until there are no more, or one wants more than that.
    fn pull_some(&mut self, index: u16, batch: &mut Batch) -> Stop {
        let Some(queue) = self.queues.get_mut(index) else {
            return Stop::End;
        };
        // The backlog of a queue that is to stop is not held back by a limit: somebody waits for the queue.
        let limited = pace::is_limited(&queue.settings.pace) && !queue.stopping;
        let clocks = &self.clocks;
        let mut intake = Intake {
            owner: batch.owner(index),
            now: self.now,
            route: self.volumes.of(&queue.settings, batch.volume).route.as_ref(),
            queue,
            watched: &mut self.watched,
            books: &mut self.books,
            walks: &mut self.walks,
            touches: &mut self.touches,
            turn: self.stats.turns.get(),
            devices: &mut self.devices,
        };
        while batch.budget > 0 && !(limited && intake.is_throttled(batch)) {
            if batch.room <= u32::from(batch.held.is_some()) {
                // Who has got all it wanted waits for nothing.
                if intake.queue.source.has_more() {
                    self.stats.slots_short.add(1);
                    batch.short = true;
                }
                break;
            }
            let unlucky = match intake.take(batch) {
                Taken::Nothing => break,
                Taken::Answered => None,
                Taken::Whole(whole) => intake.hand_over::<false>(whole, false, batch),
                Taken::Late(whole) => intake.hand_over_late(Some(whole), batch),
                Taken::Other(other) => {
                    batch.other = Some(other);
                    break;
                }
                Taken::Many(request) => {
                    let unlucky = intake.take_many(request, batch);
                    if batch.other.is_some() {
                        break;
                    }
                    unlucky
                }
            };
            if let Some(stop) = unlucky {
                return stop;
            }
            if batch.watched && intake.are_over(clocks, batch) {
                break;
            }
        }
        match batch.held {
            None => Stop::End,
            Some(_) => intake.hand_over_late(None, batch).unwrap_or(Stop::End),
        }
    }

    /// Requests of a volume that the devices may keep for the queue now.
    fn room_of(&mut self, index: u16, batch: &Batch) -> u32 {
        let Some(queue) = self.queues.get(index) else {
            return 0;
        };
        let volume = self.volumes.of(&queue.settings, batch.volume);
        self.books
            .room_for(batch.owner(index), batch.carries_many, volume.devices())
    }

    /// Goes on with another volume of a source that carries many, if there is one.
    #[cold]
    fn turns_to_another(&mut self, index: u16, batch: &mut Batch) -> bool {
        let Some(queue) = self.queues.get_mut(index) else {
            return false;
        };
        if batch.budget == 0 || self.touches.are_over() {
            return false;
        }
        let next = self.volumes.next_of(queue, &self.books);
        batch.volume = next.unwrap_or(batch.volume);
        next.is_some()
    }

    /// Books what has been answered at once.
    fn end_batch(&mut self, index: u16, batch: &Batch) {
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        let settings = &queue.settings;
        for (op, done) in [(Op::Read, batch.reads), (Op::Write, batch.writes)] {
            if done.requests > 0 {
                settings.stats.answered_at_once(op, done.requests, done.bytes);
            }
        }
        if pace::is_limited(&settings.pace) {
            queue.allowance = batch.allowance;
            queue.allowance.settle(&settings.pace, self.now);
        }
        if batch.answered {
            queue.mark(index, &mut self.touched);
        }
    }
}
