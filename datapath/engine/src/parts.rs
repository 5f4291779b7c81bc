//! Requests that cannot go to one device as they are: they cross the border between two runs, are longer than the
//! device takes, lie in memory that the device cannot reach, flush several devices, or write zeroes to a device
//! that cannot do so by itself. They are cut into parts; each part is an operation with a slot of its own.

use crate::alignment::{Alignment, is_aligned};
use crate::books::{Part, Place, Use, Work};
use crate::pace;
use crate::rations::RangePiece;
use crate::reactor::{Reactor, broken};
use crate::touches;
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::{Devices, Fault, Op, Pool, Segment, SegmentList, Source, Started};
use palisade_words::{DeviceIndex, Lba, Sectors, SlotIndex};

/// Vain tries of one kind in one turn, so that a long list of those that wait does not slow down the rest.
const RESUME_TRIES: usize = 32;

/// Requests that rest of which one turn looks whether they may go on.
pub(crate) const RESTS_TRIED: usize = 64;

/// The next part of a cut request.
struct Piece {
    device: DeviceIndex,
    device_lba: Lba,
    op: Op,
    /// Sectors of the request before the part.
    skip: Sectors,
    sectors: Sectors,
    /// What the device asks of memory, for pieces that move the guest's data.
    alignment: Alignment,
    /// The device's block.
    block_sectors: u64,
    zeroes: bool,
    /// What it takes of a turn.
    turn_bytes: u64,
    /// What it takes of the ranges in flight on its device.
    range_bytes: u32,
}

/// What came of cutting off the next part.
enum Cut {
    /// It is on its way.
    Sent,
    /// It is done already.
    Done(SlotIndex, Result<(), Fault>),
    /// No slot or buffer just now.
    Short,
}

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Cuts off and sends as many parts of a request as there is room for and as may be begun now; answers it after the
    /// last.
    pub(crate) fn advance(&mut self, request: SlotIndex) {
        loop {
            let slot = self.books.slots.slot(request);
            let stop = slot.fault.is_some() || slot.again.is_some();
            match if stop { Ok(None) } else { self.next_piece(request) } {
                Ok(Some(_)) if self.is_left(request) => {
                    if self.books.slots.slot(request).outstanding() == 0 {
                        self.leave(request);
                    }
                    return;
                }
                // What is begun is waited for; the rest of it no more.
                Ok(Some(_)) if self.is_revoked(request) => {
                    self.books.slots.slot_mut(request).fault = Some(Fault::Gone);
                }
                Ok(Some(_)) if self.is_held(request) => {
                    if self.books.slots.slot(request).outstanding() == 0 {
                        self.park(request);
                    }
                    return;
                }
                Ok(Some(piece)) if !self.may_begin(request, &piece) => {
                    return self.books.rest(request, piece.range_bytes == 0);
                }
                Ok(Some(piece)) => match self.cut(request, &piece) {
                    Cut::Sent => {
                        self.step(request, &piece);
                        self.spend(request, &piece);
                        self.has_touched_enough();
                    }
                    Cut::Done(part, result) => {
                        self.step(request, &piece);
                        self.spend(request, &piece);
                        self.settle_part(part, result);
                        self.has_touched_enough();
                    }
                    Cut::Short => {
                        self.books.hold(request, piece.device);
                        return self.books.wait(request);
                    }
                },
                Ok(None) => {
                    if !self.round_ends(request) {
                        return;
                    }
                }
                Err(fault) => self.books.slots.slot_mut(request).fault = Some(fault),
            }
        }
    }

    /// Whether a piece may be begun now: whether there is any of this turn left, its attachment does not rest and has room
    /// for it in flight, and its limit lets it. One for which somebody waits, as its queue is to stop, is not held
    /// back by a limit; it is charged all the same.
    fn may_begin(&mut self, request: SlotIndex, piece: &Piece) -> bool {
        let (turn, now, index) = (
            self.stats.turns.get(),
            self.now,
            self.books.slots.slot(request).queue,
        );
        let (moves_data, bytes) = (piece.op.moves_data(), piece.turn_bytes);
        if piece.range_bytes != 0 {
            let range_bytes = piece.range_bytes.into();
            return self.books.may_fly_range(index, piece.device, range_bytes, now);
        }
        let queue = self.queues.at_mut(index);
        let has_turn = bytes == 0 || queue.ration.of_queue_allows(turn) && self.ration.of_all_allows(turn);
        if !has_turn || (moves_data && !self.books.may_fly(index, bytes)) {
            return false;
        }
        let rests = self.steps.has_rest(queue.id.attachment) && !queue.stopping;
        if bytes != 0 && (self.touches.are_over() || rests) {
            return false;
        }
        if !moves_data || piece.zeroes || queue.stopping || !pace::is_limited(&queue.settings.pace) {
            return true;
        }
        let throttled = !queue.allowance.admits_bytes(&queue.settings.pace, now);
        if throttled && !queue.throttled {
            queue.settings.stats.throttled.add(1);
        }
        queue.throttled = throttled;
        !throttled
    }

    /// Charges a piece that has been begun, which may have become shorter than it was to be.
    fn spend(&mut self, request: SlotIndex, piece: &Piece) {
        if piece.turn_bytes == 0 {
            return;
        }
        let (turn, now) = (self.stats.turns.get(), self.now);
        let slot = self.books.slots.slot(request);
        let (bytes, index) = (slot.cut_sectors.bytes(), slot.queue);
        self.ration.spend(turn, bytes);
        let queue = self.queues.at_mut(index);
        queue.ration.spend(turn, bytes);
        if piece.op.moves_data() && !piece.zeroes && pace::is_limited(&queue.settings.pace) {
            queue.allowance.spend_bytes(bytes);
            queue.allowance.settle(&queue.settings.pace, now);
        }
    }

    /// All parts of this round are handed out. True when another round begins; otherwise the request waits for its
    /// last parts, or is answered.
    fn round_ends(&mut self, request: SlotIndex) -> bool {
        let slot = self.books.slots.slot_mut(request);
        if slot.outstanding() > 0 {
            return false;
        }
        if let Some(work) = slot.again.take() {
            (slot.work, slot.place) = (work, Place::default());
            return true;
        }
        let result = slot.fault.map_or(Ok(()), Err);
        let (op, work, queue) = (slot.op, slot.work, slot.queue);
        let unflushed = matches!(work, Work::Ranges(_) | Work::Zeroes(_));
        let allocates = matches!(op, Op::Discard | Op::WriteZeroes { .. });
        if result.is_ok() && unflushed && allocates && self.queues.at(queue).settings.write_through {
            self.books.slots.slot_mut(request).work = Work::Flush(0);
            return true;
        }
        self.conclude(request, result);
        false
    }

    /// The part that comes next; `None` when all have been handed out.
    fn next_piece(&self, request: SlotIndex) -> Result<Option<Piece>, Fault> {
        let slot = self.books.slots.slot(request);
        let route = self.volumes.get(slot.volume).route.as_ref().ok_or(Fault::Gone)?;
        let (handed_out, zeroes) = match slot.work {
            Work::Whole => broken("an uncut request was cut"),
            Work::Flush(next) => {
                return Ok(route.devices().get(next).map(|&device| Piece {
                    device,
                    device_lba: Lba(0),
                    op: Op::Flush,
                    skip: Sectors::ZERO,
                    sectors: Sectors::ZERO,
                    alignment: Alignment::ANY,
                    block_sectors: 1,
                    zeroes: false,
                    turn_bytes: 0,
                    range_bytes: 0,
                }));
            }
            Work::Ranges(handed_out) => (handed_out, false),
            Work::Zeroes(handed_out) => (handed_out, true),
        };
        let Some(left) = slot.sectors.0.checked_sub(handed_out.0).map(Sectors) else {
            broken("more of a request was handed out than there is")
        };
        if left == Sectors::ZERO {
            return Ok(None);
        }
        let lba = Lba(slot.lba.0 + handed_out.0);
        let run = route.run_at(lba).ok_or(Fault::Gone)?;
        let limits = self.watched.get(run.device).ok_or(Fault::Gone)?.limits;
        let into_run = lba.since(run.volume);
        let mut sectors = left.0.min(run.sectors.0 - into_run.0);
        let device_lba = Lba(run.lba.0 + into_run.0);
        let (turn_bytes, range_bytes) = if zeroes || slot.op.moves_data() {
            sectors = sectors.min(Sectors::from_bytes(u64::from(limits.io_bytes_max)).0);
            (Sectors(sectors).bytes(), 0)
        } else {
            let step = self.books.range_step(run.device);
            let range = RangePiece::at(&limits, step, device_lba.bytes());
            sectors = sectors.min(Sectors::from_bytes(range.bytes_max).0);
            let bytes = Sectors(sectors).bytes();
            let turn_bytes = if range.takes_turn { bytes } else { 0 };
            let takes_flight = range
                .takes_flight
                .then(|| crate::ranges::flight_bytes(step, bytes));
            (turn_bytes, takes_flight.unwrap_or(0))
        };
        Ok(Some(Piece {
            device: run.device,
            device_lba,
            op: if zeroes { Op::Write } else { slot.op },
            skip: handed_out,
            sectors: Sectors(sectors),
            alignment: Alignment::of(&limits),
            block_sectors: Sectors::from_bytes(limits.block_bytes.into()).0.max(1),
            zeroes,
            turn_bytes,
            range_bytes,
        }))
    }

    /// Books a part as handed out. Its length may have been shortened by `cut`, which wrote it into the slot.
    fn step(&mut self, request: SlotIndex, piece: &Piece) {
        let slot = self.books.slots.slot_mut(request);
        match &mut slot.work {
            Work::Whole => broken("an uncut request was cut"),
            Work::Flush(next) => *next += 1,
            Work::Ranges(handed_out) | Work::Zeroes(handed_out) => {
                handed_out.0 = piece.skip.0 + slot.cut_sectors.0;
            }
        }
    }

    /// Makes the part and hands it to its device.
    fn cut(&mut self, request: SlotIndex, piece: &Piece) -> Cut {
        if !self.books.may_cut(piece.device) {
            return Cut::Short;
        }
        let Some(part) = self.books.slots.claim_part() else {
            return Cut::Short;
        };
        let mut sectors = piece.sectors;
        let (mut bounce, mut is_there) = (None, true);
        let whole = self.books.slots.slot(request);
        let (mut place, queue) = (whole.place, whole.queue);
        let segments_max = self.queues.at(queue).segments_max;
        let (list, whole) = self.books.slots.part_and_request(part, request);
        list.clear();
        if piece.op.moves_data() {
            place = place.advanced_to(whole.as_slice(), piece.skip.bytes());
            let mut aligned = false;
            if !piece.zeroes {
                slice(
                    whole.as_slice(),
                    place,
                    piece.skip.bytes(),
                    sectors.bytes(),
                    segments_max,
                    list,
                );
                let mut fitting = sectors;
                if list.bytes() < sectors.bytes() {
                    // What has many segments ends with the part's list, at a whole block.
                    let blocks = Sectors::from_bytes(list.bytes()).0 / piece.block_sectors;
                    fitting = Sectors(blocks * piece.block_sectors);
                    list.truncate(fitting.bytes());
                }
                aligned = fitting > Sectors::ZERO && is_aligned(list.as_slice(), piece.alignment);
                if aligned {
                    sectors = fitting;
                }
            }
            if !aligned {
                let buffers_free = self.pool.free() as u32;
                let may_take = self.books.may_bounce(piece.device, buffers_free);
                let Some(buffer) = may_take.then(|| self.pool.take()).flatten() else {
                    let parent = self.books.slots.slot_mut(request);
                    if !std::mem::replace(&mut parent.lacks_buffer, true) {
                        self.stats.pool_short.add(1);
                    }
                    self.books.slots.unclaim_part(part);
                    return Cut::Short;
                };
                sectors = sectors.min(Sectors::from_bytes(BOUNCE_BYTES as u64));
                let (list, whole) = self.books.slots.part_and_request(part, request);
                if !piece.zeroes {
                    let (from, skip) = rest(whole.as_slice(), place, piece.skip.bytes());
                    let few = from.iter().take(segments_max);
                    let few_bytes = few
                        .map(|segment| segment.bytes() as u64)
                        .sum::<u64>()
                        .saturating_sub(skip);
                    let blocks = (Sectors::from_bytes(few_bytes).0 / piece.block_sectors).max(1);
                    sectors = sectors.min(Sectors(blocks * piece.block_sectors));
                }
                let bytes = sectors.bytes() as usize;
                list.clear();
                list.push(buffer.first(bytes));
                if piece.zeroes {
                    self.pool.zero(buffer, bytes);
                } else if piece.op == Op::Write {
                    let (from, skip) = rest(whole.as_slice(), place, piece.skip.bytes());
                    self.touches.add(touches::count(from, skip, bytes as u64));
                    let lease = &self.queues.at(queue).lease;
                    is_there = self.pool.gather(lease, from, skip, buffer, bytes);
                }
                bounce = Some(buffer);
            }
        }

        self.books.enter_part(
            part,
            Part {
                parent: request,
                op: piece.op,
                device: piece.device,
                device_lba: piece.device_lba,
                sectors,
                skip: piece.skip.bytes(),
                place,
                bounce,
            },
        );
        let parent = self.books.slots.slot_mut(request);
        (parent.cut_sectors, parent.place, parent.lacks_buffer) = (sectors, place, false);
        if bounce.is_some() {
            self.count_buffers();
        }
        if bounce.is_some() && !piece.zeroes {
            self.queues.at(queue).settings.stats.bounced.add(1);
        }
        let started = match is_there {
            true => self.launch(part),
            false => Started::Done(Err(Fault::GuestMemory)),
        };
        if let Started::Done(result) = started {
            return Cut::Done(part, result);
        }
        let flight_bytes = match piece.op.moves_data() {
            true => sectors.bytes() as u32,
            false => piece.range_bytes,
        };
        if flight_bytes != 0 {
            // Nobody knows what a range took that was never on its device.
            if started == Started::Busy && !piece.op.moves_data() {
                self.books.slots.slot_mut(part).launched = self.now;
            }
            self.books.count_flight(part, flight_bytes, self.now);
        }
        if started == Started::Busy {
            self.books.lines.blocked.push_back(part);
        }
        Cut::Sent
    }

    /// Tells how many bounce buffers are in use.
    pub(crate) fn count_buffers(&self) {
        let used = self.buffers.checked_sub(self.pool.free());
        let used = used.unwrap_or_else(|| broken("more bounce buffers came back than there are"));
        self.stats.buffers_used.set(used as u64);
    }

    /// Takes the end of a part: data to the guest, buffer back, slot back, fault to the request.
    pub(crate) fn settle_part(&mut self, part: SlotIndex, result: Result<(), Fault>) {
        self.count_fault(part, result);
        let result = match result {
            Ok(()) => self.bring(part),
            Err(fault) => Err(fault),
        };
        let slot = self.books.slots.slot(part);
        let (parent, op, device) = (slot.parent, slot.op, slot.device);
        self.give_back_part(part, result);
        let request = self.books.slots.slot_mut(parent);
        match (op, result) {
            (_, Ok(())) | (Op::Discard, Err(Fault::Unsupported)) => {}
            (Op::WriteZeroes { .. }, Err(Fault::Unsupported)) => {
                request.again = Some(Work::Zeroes(Sectors::ZERO))
            }
            (_, Err(fault)) if request.fault.is_none() => {
                (request.fault, request.device) = (Some(fault), device);
            }
            _ => {}
        }
    }

    /// Brings what a part has read to the guest, if that went through a buffer.
    fn bring(&mut self, part: SlotIndex) -> Result<(), Fault> {
        let slot = self.books.slots.slot(part);
        let Some(buffer) = slot.bounce().filter(|_| slot.op == Op::Read) else {
            return Ok(());
        };
        let (queue, sectors) = (slot.queue, slot.sectors);
        let to = self.books.slots.list(slot.parent).as_slice();
        let (to, skip) = rest(to, slot.place, slot.skip);
        self.touches.add(touches::count(to, skip, sectors.bytes()));
        let lease = &self.queues.at(queue).lease;
        if self
            .pool
            .scatter(buffer, lease, to, skip, sectors.bytes() as usize)
        {
            return Ok(());
        }
        let result = Err(Fault::GuestMemory);
        self.count_fault(part, result);
        result
    }

    /// Gives back what a part had, which has ended so, or was never begun.
    pub(crate) fn give_back_part(&mut self, part: SlotIndex, result: Result<(), Fault>) {
        if self.books.is_range_in_flight(part) {
            self.took(part, result);
        }
        if let Some(buffer) = self.books.exit_part(part) {
            self.pool.give(buffer);
            self.count_buffers();
        }
    }

    /// Books the request of a part that is late on the part's device. An uncut request is booked there already.
    pub(crate) fn rebook_request_of(&mut self, index: SlotIndex) {
        let slot = self.books.slots.slot(index);
        if slot.used_for() == Use::Part {
            let (request, device) = (slot.parent, slot.device);
            self.books.hold(request, device);
        }
    }

    /// Goes on with what had to wait: operations that found their device busy, then requests that were short of a
    /// part slot or a buffer. Each gets its try; one that cannot go on makes way for those behind it, which may want
    /// another device. The count of those that moved.
    pub(crate) fn resume(&mut self) -> usize {
        let mut tries = 0;
        let mut moved = self.send_released();
        for _ in 0..self.books.lines.blocked.len() {
            let Some(index) = self.books.lines.blocked.pop_front() else {
                break;
            };
            let queue = self.books.slots.slot(index).queue;
            match self.launch(index) {
                Started::Busy => {
                    self.books.lines.blocked.push_back(index);
                    self.rebook_request_of(index);
                    tries += 1;
                    if tries == RESUME_TRIES {
                        break;
                    }
                    continue;
                }
                Started::Pending => {}
                Started::Done(result) => self.completed(index, result),
            }
            self.end_step(queue);
            moved += 1;
            if self.has_touched_enough() {
                break;
            }
        }
        moved + self.resume_waiting() + self.resume_resting()
    }

    /// Lets requests that rest go on, each as far as this turn lets it; who has had a turn stands behind the others then,
    /// also behind those that were tried after it and found that it had taken what there was.
    fn resume_resting(&mut self) -> usize {
        let mut moved = 0;
        let mut had_a_turn = [SlotIndex(0); RESTS_TRIED];
        let mut had_a_turn_count = 0;
        let turn = self.stats.turns.get();
        for _ in 0..self.books.lines.resting().min(RESTS_TRIED) {
            // Who gets nothing because this turn is full is the first of the next.
            if !self.ration.of_all_allows(turn) || self.touches.are_over() {
                break;
            }
            let Some(request) = self.books.lines.first_resting() else {
                break;
            };
            let slot = self.books.slots.slot(request);
            let (before, queue) = (slot.work, slot.queue);
            if self.clocks.stopwatch.is_some() && self.rests_now(queue) {
                self.books.lines.pass_over_resting();
                continue;
            }
            self.books.next_resting();
            self.advance(request);
            self.end_step(queue);
            let slot = self.books.slots.slot(request);
            let (ended, rests) = (slot.used_for() != Use::Request, slot.rests());
            if !ended && slot.work == before {
                continue;
            }
            moved += 1;
            if !ended
                && rests
                && let Some(place) = had_a_turn.get_mut(had_a_turn_count)
            {
                self.books.lines.take_last_resting();
                *place = request;
                had_a_turn_count += 1;
            }
        }
        self.books
            .lines
            .put_last(had_a_turn.get(..had_a_turn_count).unwrap_or(&[]));
        moved
    }

    /// Lets requests that were short of a part slot or a buffer try again: the first in line in their order, so that
    /// nobody waits for ever, then some of the others in turns, as the first may all want a device that hangs.
    fn resume_waiting(&mut self) -> usize {
        let mut moved = 0;
        let mut kept = [SlotIndex(0); RESUME_TRIES];
        let mut kept_count = 0;
        let waiting = self.books.lines.waiting();
        for position in 0..waiting.min(2 * RESUME_TRIES) {
            if self.touches.are_over() {
                break;
            }
            let Some(request) = self.books.next_waiting() else {
                break;
            };
            let slot = self.books.slots.slot(request);
            let (before, queue) = (slot.work, slot.queue);
            self.advance(request);
            self.end_step(queue);
            let slot = self.books.slots.slot(request);
            let ended = slot.used_for() != Use::Request;
            let waits = slot.waits() && !slot.rests();
            if ended || slot.work != before {
                // Done, or a part further: then it stands at the end of the line now.
                moved += 1;
            } else if !waits {
                // It stands in another line now, or waits for its parts alone.
            } else if position < RESUME_TRIES {
                self.books.lines.take_last_waiting();
                if let Some(place) = kept.get_mut(kept_count) {
                    *place = request;
                    kept_count += 1;
                }
            }
        }
        self.books.lines.keep_first(kept.get(..kept_count).unwrap_or(&[]));
        moved
    }

    /// Goes on with a request after one of its parts: at once, or behind those that wait for what the part gave back.
    pub(crate) fn go_on(&mut self, request: SlotIndex) {
        let slot = self.books.slots.slot(request);
        let slot_rests = slot.rests();
        let wants_more =
            slot.fault.is_none() && slot.again.is_none() && matches!(self.next_piece(request), Ok(Some(_)));
        if wants_more && self.is_held(request) {
            self.advance(request);
        } else if wants_more && slot_rests {
            // It has its turn when those before it have had theirs.
        } else if wants_more && self.books.lines.waiting() > 0 {
            self.books.wait(request);
        } else {
            self.advance(request);
        }
    }
}

/// The segments from a place on, and how many of their bytes come before byte `skip`.
fn rest(segments: &[Segment], place: Place, skip: u64) -> (&[Segment], u64) {
    (
        segments.get(place.segment..).unwrap_or(&[]),
        skip.saturating_sub(place.before),
    )
}

/// Takes `bytes` of the segments, from byte `skip` on, into `list`, as far as there is room and not from more than so many.
/// The place is that byte's.
fn slice(
    segments: &[Segment],
    place: Place,
    skip: u64,
    mut bytes: u64,
    segments_max: usize,
    list: &mut SegmentList,
) {
    let (segments, mut skip) = rest(segments, place, skip);
    for segment in segments.iter().take(segments_max) {
        if bytes == 0 {
            return;
        }
        let take = (segment.bytes() as u64 - skip).min(bytes);
        let Some(part) = segment.part(skip as usize, take as usize) else {
            broken("a part begins behind the segment in which it begins")
        };
        if !list.push(part) {
            return;
        }
        skip = 0;
        bytes -= take;
    }
}
