//! How a part is made of a piece, with a buffer where the device cannot reach the guest's memory, and sent off.

use super::piece::Piece;
use crate::alignment::is_aligned;
use crate::books::{Part, Place};
use crate::reactor::{Reactor, broken};
use crate::touches;
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::{Devices, Fault, Op, Pool, Segment, SegmentList, Source, Started};
use palisade_words::{Sectors, SlotIndex};

/// What came of cutting off the next part.
pub(super) enum Cut {
    /// It is on its way.
    Sent,
    /// It is done already.
    Done(SlotIndex, Result<(), Fault>),
    /// No slot or buffer just now.
    Short,
}

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Makes the part and hands it to its device.
    pub(super) fn cut(&mut self, request: SlotIndex, piece: &Piece) -> Cut {
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
            self.books.lines.block(part);
        }
        Cut::Sent
    }
}

/// The segments from a place on, and how many of their bytes come before byte `skip`.
pub(super) fn rest(segments: &[Segment], place: Place, skip: u64) -> (&[Segment], u64) {
    (
        segments.get(place.segment..).unwrap_or(&[]),
        skip.saturating_sub(place.before),
    )
}

/// Takes `bytes` of the segments, from byte `skip` on, into `list`, as far as there is room and not from more than so
/// many. The place is that byte's.
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
