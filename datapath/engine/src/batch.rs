//! What one queue hands over in one turn.
//!
//! Nearly every request goes to one device as it is, and many devices answer at once. Such a request lives in local
//! variables from its ring and back to it; only one that its device keeps gets a slot, and only what is rare is left
//! to [`carry`](crate::carry). Everything that a batch cannot change is looked at once, before it.

use crate::books::{Books, Owner};
use crate::carry::{Asked, Way, way};
use crate::pace::{self, Allowance};
use crate::queue::Queue;
use crate::reactor::{Portion, Reactor, broken};
use crate::touches::{Clocks, Touches};
use crate::walks::Walks;
use crate::watched::Watched;
use palisade_block::limits::{LARGE_BYTES_MIN, PIECE_BYTES_MAX, PULL_BATCH, STEP_LONG};
use palisade_block::{
    Answer, Devices, Fault, Io, Nanos, Op, Pool, Pulled, Request, Route, Source, Started, Status, Stopwatch,
};
use palisade_words::{DeviceIndex, Lba, Sectors, SlotIndex, VolumeIndex};

mod segments;

/// A long request counts in a batch for as many more as it has pieces of 16 KiB.
const BATCH_PIECE_SHIFT: u32 = 14;

/// And one that was put together of many descriptors, for as many more as it has times this many.
const BATCH_DESCRIPTORS: u64 = 64;

/// A request of more segments is not the usual one: what it touches is counted when it is taken, and not with its batch, and it
/// is handed over at once, also to a device that looks ahead.
const SEGMENTS_FEW: usize = 2;

/// What one queue hands over in one turn, so far.
struct Batch {
    /// Of which volume the requests are that are taken now.
    volume: VolumeIndex,
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

/// A request for one device, whose segments are in the list of a claimed slot.
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
                Stop::Blocked(slot) => self.books.lines.blocked.push_back(slot),
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
                None if batch.taken > turned_at && self.turns_to_another(index, &mut batch) => {
                    turned_at = batch.taken;
                }
                None => break,
            }
            batch.room = self.room_of(index, batch.volume);
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
                Taken::Whole(whole) => intake.hand_over(whole, false, batch),
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
        intake.hand_over_late(None, batch).unwrap_or(Stop::End)
    }

    /// Requests of a volume that the devices may keep for the queue now.
    fn room_of(&mut self, index: u16, volume: VolumeIndex) -> u32 {
        let Some(queue) = self.queues.get(index) else {
            return 0;
        };
        let owner = Owner { queue: index, volume };
        let carries_many = queue.settings.volume.is_none();
        let devices = self.volumes.of(&queue.settings, volume).devices();
        self.books.room_for(owner, carries_many, devices)
    }

    /// Goes on with another volume of a source that carries many, if there is one.
    #[inline]
    fn turns_to_another(&mut self, index: u16, batch: &mut Batch) -> bool {
        let Some(queue) = self.queues.get_mut(index) else {
            return false;
        };
        if queue.settings.volume.is_some() || batch.budget == 0 || self.touches.are_over() {
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

/// The parts of a reactor that a batch works with, each borrowed by itself.
struct Intake<'a, S, D> {
    owner: Owner,
    now: Nanos,
    queue: &'a mut Queue<S>,
    /// Where the requests go.
    route: Option<&'a Route>,
    watched: &'a mut Watched,
    books: &'a mut Books,
    walks: &'a mut Walks,
    touches: &'a mut Touches,
    turn: u64,
    devices: &'a mut D,
}

/// What was taken by [`Intake::take_long`]. It is no [`Taken`], so that the usual requests need no place in memory to meet
/// these.
enum Long {
    Nothing,
    Answered,
    Other(Other),
}

/// What was taken from a ring.
enum Taken {
    Nothing,
    Answered,
    /// To be handed over at once.
    Whole(Whole),
    /// To be handed over when the next one is known, since its device looks ahead.
    Late(Whole),
    Other(Other),
    /// One with many segments, whose list is that of the slot to be claimed next.
    Many(Request),
}

impl<S: Source, D: Devices> Intake<'_, S, D> {
    /// Whether the attachment's limit lets nothing more start just now.
    fn is_throttled(&mut self, batch: &mut Batch) -> bool {
        let settings = &self.queue.settings;
        let throttled = !batch.allowance.admits(&settings.pace, self.now);
        // Who has got all it wanted waits for nothing.
        let waits = throttled && self.queue.source.has_more();
        if waits && !self.queue.throttled {
            settings.stats.throttled.add(1);
        }
        self.queue.throttled = waits;
        throttled
    }

    /// Takes one thing from the ring and decides where it goes.
    #[inline(always)]
    fn take(&mut self, batch: &mut Batch) -> Taken {
        let Some(list) = self.books.slots.next_list() else {
            return Taken::Nothing;
        };
        let request = match self.queue.source.pull(list) {
            Pulled::Empty => return Taken::Nothing,
            Pulled::Answered => {
                batch.count_answered();
                count_followed(self.queue, self.walks, self.turn, batch);
                return Taken::Answered;
            }
            Pulled::Later => {
                self.leave_chain(batch);
                return Taken::Nothing;
            }
            Pulled::NoRoom => {
                return match self.take_long(batch) {
                    Long::Nothing => Taken::Nothing,
                    Long::Answered => Taken::Answered,
                    Long::Other(other) => Taken::Other(other),
                };
            }
            Pulled::Request(request) => request,
        };
        count_followed(self.queue, self.walks, self.turn, batch);
        if list.len() > SEGMENTS_FEW {
            return Taken::Many(request);
        }
        let bytes = request.sectors.bytes();
        batch.taken += 1;
        batch.budget = batch.budget.saturating_sub(1 + (bytes >> BATCH_PIECE_SHIFT));
        let asked = Asked::by(&request);
        let way = way(
            &self.queue.settings,
            self.route,
            self.watched,
            list.own_slice(),
            asked,
        );
        let Some(slot) = self.books.slots.claim_request() else {
            broken("a list without a slot")
        };
        match way {
            Ok(Way::Whole(device, device_lba)) => {
                batch.allowance.spend(bytes);
                let late = self.devices.looks_ahead(device);
                let whole = Whole {
                    slot,
                    request,
                    device,
                    device_lba,
                };
                match late {
                    true => Taken::Late(whole),
                    false => Taken::Whole(whole),
                }
            }
            way => {
                batch.allowance.spend(paid_at_once(&request));
                Taken::Other(Other { slot, request, way })
            }
        }
    }

    /// Whether the batch is to end since the turn or the step has become long.
    #[cold]
    #[inline(never)]
    fn are_over(&mut self, clocks: &Clocks, batch: &mut Batch) -> bool {
        if self.touches.are_many() {
            self.touches.look(self.devices, clocks, self.now);
        }
        batch.watched = clocks.stopwatch.is_some();
        let is_long = |stopwatch: &dyn Stopwatch| stopwatch.passed() >= STEP_LONG;
        self.touches.are_over() || clocks.stopwatch.as_deref().is_some_and(is_long)
    }

    /// The next request is left for a turn in which its chain may be followed to its end.
    #[cold]
    fn leave_chain(&mut self, batch: &mut Batch) {
        count_followed(self.queue, self.walks, self.turn, batch);
        self.walks.leave(self.owner.queue);
    }

    /// Hands over the request that was held back, and holds back the next one.
    #[inline(never)]
    fn hand_over_late(&mut self, next: Option<Whole>, batch: &mut Batch) -> Option<Stop> {
        if let (Some(held), Some(next)) = (&batch.held, &next) {
            if !batch.expecting {
                self.devices
                    .expect(held.device, held.device_lba, held.request.sectors);
            }
            self.devices
                .expect(next.device, next.device_lba, next.request.sectors);
            batch.expecting = true;
        }
        let before = std::mem::replace(&mut batch.held, next)?;
        let alone = !batch.expecting;
        batch.expecting &= batch.held.is_some();
        self.hand_over(before, alone, batch)
    }

    /// Hands a request to its device. For one that is not done then its slot has been filled.
    #[inline(always)]
    fn hand_over(&mut self, whole: Whole, alone: bool, batch: &mut Batch) -> Option<Stop> {
        let Whole {
            slot,
            request,
            device,
            device_lba,
        } = whole;
        let settings = &self.queue.settings;
        let watched = self.watched.get_mut(device);
        let Some(watched) = watched.filter(|device| device.refuses.is_none()) else {
            self.keep(slot, request, device, device_lba);
            return Some(Stop::Failed(slot, self.watched.refusal(device)));
        };
        let Some(route) = self.route else {
            broken("an operation is started by no route")
        };
        let (op, sectors) = (request.op, request.sectors);
        let list = self.books.slots.list(slot).own_slice();
        let started = self.devices.start(Io {
            device,
            slot,
            mapping: route.mapping(),
            deadline: self.now.after(watched.deadline),
            op,
            lba: device_lba,
            sectors,
            durable: settings.write_through && matches!(op, Op::Write),
            alone,
            memory: self.queue.memory,
            segments: if op.moves_data() { list } else { &[] },
        });
        match started {
            Started::Done(Ok(())) => {
                watched.stats.finished.add(1);
                self.queue.source.finish(Answer {
                    token: request.token,
                    status: Status::Ok,
                    fault: None,
                    dirtied: if matches!(op, Op::Read) { list } else { &[] },
                });
                self.books.slots.unclaim(slot);
                batch.answered = true;
                match op {
                    Op::Read => batch.reads.add(sectors),
                    Op::Write => batch.writes.add(sectors),
                    _ => self.queue.settings.stats.answered_at_once(op, 1, sectors.bytes()),
                }
            }
            Started::Done(Err(fault)) => {
                watched.stats.finished.add(1);
                self.keep(slot, request, device, device_lba);
                return Some(Stop::Failed(slot, fault));
            }
            Started::Pending => {
                batch.room = batch.room.saturating_sub(1);
                self.keep_begun(slot, request, device, device_lba);
                if sectors > LARGE {
                    self.keep_large(slot, batch);
                }
            }
            Started::Busy => {
                self.keep(slot, request, device, device_lba);
                if sectors > LARGE {
                    self.keep_large(slot, batch);
                }
                return Some(Stop::Blocked(slot));
            }
        }
        None
    }

    /// Counts a large operation as in flight. The batch ends when its attachment has its share there.
    #[cold]
    fn keep_large(&mut self, index: SlotIndex, batch: &mut Batch) {
        let slot = self.books.slots.slot(index);
        if !slot.op.moves_data() {
            return;
        }
        let bytes = slot.sectors.bytes() as u32;
        self.books.count_flight(index, bytes, self.now);
        if !self.books.may_fly(self.owner.queue, PIECE_BYTES_MAX.into()) {
            batch.room = 0;
        }
    }

    /// Books a request that its device has begun.
    #[inline(never)]
    fn keep_begun(&mut self, index: SlotIndex, request: Request, device: DeviceIndex, device_lba: Lba) {
        self.keep(index, request, device, device_lba);
        let in_flight = self.books.start(index, self.now);
        if let Some(watched) = self.watched.get_mut(device)
            && let Some(two) = watched.began(self.queue.id.attachment, in_flight)
        {
            self.books.meet(two);
        }
    }

    /// Fills the slot of a request that is not done yet, and books it on its device.
    #[inline]
    fn keep(&mut self, index: SlotIndex, request: Request, device: DeviceIndex, device_lba: Lba) {
        let stats = &self.queue.settings.stats;
        self.books.enter(index, self.owner, request, self.now, stats);
        self.books.hold(index, device);
        let slot = self.books.slots.slot_mut(index);
        (slot.device, slot.device_lba) = (device, device_lba);
    }
}

/// Counts what a queue's source has followed.
#[inline(always)]
fn count_followed<S: Source>(queue: &mut Queue<S>, walks: &mut Walks, turn: u64, batch: &mut Batch) {
    let followed = queue.source.followed();
    if followed > 0 {
        charge(queue, walks, turn, followed, batch);
    }
}

/// Charges descriptors that a queue has followed.
#[cold]
fn charge<S: Source>(queue: &mut Queue<S>, walks: &mut Walks, turn: u64, followed: u32, batch: &mut Batch) {
    batch.budget = batch
        .budget
        .saturating_sub(u64::from(followed) / BATCH_DESCRIPTORS);
    walks.spend(turn, followed);
    queue.source.may_follow(walks.left(turn));
}

/// Longer operations are in the books of what is in flight.
const LARGE: Sectors = Sectors::from_bytes(LARGE_BYTES_MIN);

/// The bytes that a request in pieces is charged when it is taken: data is charged piece by piece.
fn paid_at_once(request: &Request) -> u64 {
    match request.op.moves_data() {
        true => 0,
        false => request.sectors.bytes(),
    }
}
