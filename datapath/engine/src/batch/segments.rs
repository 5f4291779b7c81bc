//! Requests with more segments than the usual ones: those that still fit a slot's list, and those that are lent a long
//! one.

use super::intake::{Intake, Long, count_followed, paid_at_once};
use super::{BATCH_DESCRIPTORS, BATCH_PIECE_SHIFT, Batch, Other, Stop, Whole};
use crate::reactor::broken;
use crate::way::{Asked, Way, way_of_other};
use palisade_block::{Devices, Pulled, Request, Route, Source};

impl<S: Source, D: Devices> Intake<'_, S, D> {
    /// Decides where a request with many segments goes, and hands it over. More than its queue may have in one
    /// operation go in pieces.
    #[cold]
    #[inline(never)]
    pub(super) fn take_many(&mut self, request: Request, batch: &mut Batch) -> Option<Stop> {
        let Some(list) = self.books.slots.next_list() else {
            broken("a request without a list")
        };
        let (bytes, segments) = (request.sectors.bytes(), list.len());
        batch.taken += 1;
        batch.budget = batch.budget.saturating_sub(1 + (bytes >> BATCH_PIECE_SHIFT));
        self.touches.add(segments);
        batch.watched = true;
        let way = way_of_other(
            &self.queue.settings,
            self.route,
            self.watched,
            list.own_slice(),
            Asked::by(&request),
        );
        let Some(slot) = self.books.slots.next() else {
            broken("a list without a slot")
        };
        self.books.slots.claim(slot);
        match way {
            Ok(Way::Whole(device, device_lba)) if segments <= self.queue.segments_max => {
                batch.allowance.spend(bytes);
                let whole = Whole {
                    slot,
                    request,
                    device,
                    device_lba,
                };
                self.hand_over::<true>(whole, false, batch)
            }
            way => {
                let way = way.map(|way| way.in_pieces(request.op));
                batch.allowance.spend(paid_at_once(&request));
                batch.other = Some(Other { slot, request, way });
                None
            }
        }
    }

    /// Takes the request for which there was no room in a slot's own list, if it may have a long one. It goes to its
    /// device in pieces, since no device takes so many segments at once.
    #[cold]
    pub(super) fn take_long(&mut self, batch: &mut Batch) -> Long {
        let queue = self.owner.queue;
        self.books.wants_long(queue, true);
        // What told that a list is needed counts, and is to be followed once more: as far as it has been allowed to.
        let may_follow = self.walks.left(self.turn);
        count_followed(self.queue, self.walks, self.turn, batch);
        if !self.books.has_long(queue, self.route.map_or(&[], Route::devices)) {
            batch.short = true;
            return Long::Nothing;
        }
        let Some(list) = self.books.slots.next_list_lent() else {
            return Long::Nothing;
        };
        self.queue.source.may_follow(may_follow);
        let pulled = self.queue.source.pull(list);
        let (segments, is_long) = (list.len(), list.is_long());
        self.books.wants_long(queue, matches!(pulled, Pulled::Later));
        let Pulled::Request(request) = pulled else {
            self.books.slots.take_back_next();
            return match pulled {
                Pulled::Answered => {
                    batch.count_answered();
                    count_followed(self.queue, self.walks, self.turn, batch);
                    Long::Answered
                }
                Pulled::Later => {
                    self.leave_chain(batch);
                    Long::Nothing
                }
                _ => Long::Nothing,
            };
        };
        count_followed(self.queue, self.walks, self.turn, batch);
        let bytes = request.sectors.bytes();
        batch.taken += 1;
        let pieces = (bytes >> BATCH_PIECE_SHIFT) + segments as u64 / BATCH_DESCRIPTORS;
        batch.budget = batch.budget.saturating_sub(1 + pieces);
        batch.allowance.spend(paid_at_once(&request));
        if !is_long {
            self.books.slots.take_back_next();
        }
        let list = self
            .books
            .slots
            .next_list()
            .map_or(&[][..], |list| list.as_slice());
        let way = way_of_other(
            &self.queue.settings,
            self.route,
            self.watched,
            list,
            Asked::by(&request),
        );
        let Some(slot) = self.books.slots.next() else {
            broken("a list without a slot")
        };
        self.books.slots.claim(slot);
        // Also one that the guest has made short meanwhile, or that moves no data.
        let way = way.map(|way| way.in_pieces(request.op));
        Long::Other(Other { slot, request, way })
    }
}
