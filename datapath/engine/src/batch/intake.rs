//! What is taken from a ring, one request after the other, and where it is found to go.

use super::{BATCH_DESCRIPTORS, BATCH_PIECE_SHIFT, Batch, Other, Whole};
use crate::books::{Books, Owner};
use crate::queue::Queue;
use crate::touches::{Clocks, Touches};
use crate::walks::Walks;
use crate::watched::Watched;
use crate::way::{Asked, Way, way};
use palisade_block::limits::STEP_LONG;
use palisade_block::{Devices, Nanos, Pulled, Request, Route, Source, Stopwatch};

/// A request of more segments is not the usual one: what it touches is counted when it is taken, and not with its
/// batch, and it is handed over at once, also to a device that looks ahead.
const SEGMENTS_FEW: usize = 2;

/// The parts of a reactor that a batch works with, each borrowed by itself.
pub(super) struct Intake<'a, S, D> {
    pub(super) owner: Owner,
    pub(super) now: Nanos,
    pub(super) queue: &'a mut Queue<S>,
    /// Where the requests go.
    pub(super) route: Option<&'a Route>,
    pub(super) watched: &'a mut Watched,
    pub(super) books: &'a mut Books,
    pub(super) walks: &'a mut Walks,
    pub(super) touches: &'a mut Touches,
    pub(super) turn: u64,
    pub(super) devices: &'a mut D,
}

/// What was taken by [`Intake::take_long`]. It is no [`Taken`], so that the usual requests need no place in memory to
/// meet these.
pub(super) enum Long {
    Nothing,
    Answered,
    Other(Other),
}

/// What was taken from a ring.
pub(super) enum Taken {
    Nothing,
    Answered,
    /// To be handed over at once; its slot is not claimed yet.
    Whole(Whole),
    /// To be handed over when the next one is known, since its device looks ahead.
    Late(Whole),
    Other(Other),
    /// One with many segments, whose list is that of the slot to be claimed next.
    Many(Request),
}

impl<S: Source, D: Devices> Intake<'_, S, D> {
    /// Takes one thing from the ring and decides where it goes.
    #[inline(always)]
    pub(super) fn take(&mut self, batch: &mut Batch) -> Taken {
        let Some(slot) = self.books.slots.next() else {
            return Taken::Nothing;
        };
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
        match way {
            Ok(Way::Whole(device, device_lba)) => {
                batch.allowance.spend(bytes);
                let whole = Whole {
                    slot,
                    request,
                    device,
                    device_lba,
                };
                match self.devices.looks_ahead(device) {
                    true => {
                        self.books.slots.claim(slot);
                        Taken::Late(whole)
                    }
                    false => Taken::Whole(whole),
                }
            }
            way => {
                self.books.slots.claim(slot);
                batch.allowance.spend(paid_at_once(&request));
                Taken::Other(Other { slot, request, way })
            }
        }
    }

    /// Whether the attachment's limit lets nothing more start just now.
    pub(super) fn is_throttled(&mut self, batch: &mut Batch) -> bool {
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

    /// Whether the batch is to end since the turn or the step has become long.
    #[cold]
    #[inline(never)]
    pub(super) fn are_over(&mut self, clocks: &Clocks, batch: &mut Batch) -> bool {
        if self.touches.are_many() {
            self.touches.look(self.devices, clocks, self.now);
        }
        batch.watched = clocks.stopwatch.is_some();
        let is_long = |stopwatch: &dyn Stopwatch| stopwatch.passed() >= STEP_LONG;
        self.touches.are_over() || clocks.stopwatch.as_deref().is_some_and(is_long)
    }

    /// The next request is left for a turn in which its chain may be followed to its end.
    #[cold]
    pub(super) fn leave_chain(&mut self, batch: &mut Batch) {
        count_followed(self.queue, self.walks, self.turn, batch);
        self.walks.leave(self.owner.queue);
    }
}

/// Counts what a queue's source has followed.
#[inline(always)]
pub(super) fn count_followed<S: Source>(
    queue: &mut Queue<S>,
    walks: &mut Walks,
    turn: u64,
    batch: &mut Batch,
) {
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

/// The bytes that a request in pieces is charged when it is taken: data is charged piece by piece.
pub(super) fn paid_at_once(request: &Request) -> u64 {
    match request.op.moves_data() {
        true => 0,
        false => request.sectors.bytes(),
    }
}
