//! How much of large requests is begun in one turn, and how much of them is in flight.
//!
//! A request may carry 4 GiB, and its data be copied, or a hole of a file be zeroed, before the call that begins it
//! returns. So it is cut into pieces of [`PIECE_BYTES_MAX`] at most, and a piece is begun when its queue has not had its
//! bytes of this turn, its attachment has room for it in flight, and its limit on bytes a second lets it. What has to
//! wait for one of these *rests*, and meanwhile nothing more is taken from its queue: so a guest has one such request
//! begun on each queue, and those that rest take turns. Nothing of this is asked for requests that go to their device as
//! they are and are answered at once, or are short.

use palisade_block::AttachmentIndex;
use palisade_block::limits::{
    FLIGHT_BYTES_ALL, FLIGHT_BYTES_EACH, PIECE_BYTES_MAX, TURN_BYTES_ALL, TURN_BYTES_EACH,
};
use palisade_block::{DeviceKind, DeviceLimits};

/// Bytes of large operations in flight on the devices of one reactor.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    all: u64,
    each: Vec<u64>,
}

impl Flight {
    /// An attachment comes into use. What it had in flight under this number before is still in the books.
    pub(crate) fn open(&mut self, attachment: AttachmentIndex) {
        let needed = usize::from(attachment.0) + 1;
        if self.each.len() < needed {
            self.each.resize(needed, 0);
        }
    }

    fn of(&self, attachment: AttachmentIndex) -> u64 {
        self.each.get(usize::from(attachment.0)).copied().unwrap_or(0)
    }

    /// Whether an operation of so many bytes may be begun.
    pub(crate) fn may_take(&self, attachment: AttachmentIndex, bytes: u64) -> bool {
        let held = self.of(attachment);
        held == 0 || (held + bytes <= FLIGHT_BYTES_EACH && self.all + bytes <= FLIGHT_BYTES_ALL)
    }

    /// Whether nothing large of an attachment is in flight.
    pub(crate) fn is_idle(&self, attachment: AttachmentIndex) -> bool {
        self.of(attachment) == 0
    }

    pub(crate) fn take(&mut self, attachment: AttachmentIndex, bytes: u32) {
        self.all += u64::from(bytes);
        if let Some(held) = self.each.get_mut(usize::from(attachment.0)) {
            *held += u64::from(bytes);
        }
    }

    pub(crate) fn give(&mut self, attachment: AttachmentIndex, bytes: u32) {
        let held = self.each.get_mut(usize::from(attachment.0));
        for held in [Some(&mut self.all), held].into_iter().flatten() {
            let Some(left) = held.checked_sub(u64::from(bytes)) else {
                crate::reactor::broken("more bytes came back than were in flight")
            };
            *held = left;
        }
    }
}

/// Bytes begun in one turn, by a queue or by all of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ration {
    turn: u64,
    bytes: u64,
}

impl Ration {
    fn begun(self, turn: u64) -> u64 {
        match self.turn == turn {
            true => self.bytes,
            false => 0,
        }
    }

    /// Whether a queue may begin another piece in a turn, which may be the one that leads beyond its bytes.
    pub(crate) fn of_queue_allows(self, turn: u64) -> bool {
        self.begun(turn) < TURN_BYTES_EACH
    }

    /// Whether all queues together may.
    pub(crate) fn of_all_allows(self, turn: u64) -> bool {
        self.begun(turn) < TURN_BYTES_ALL
    }

    pub(crate) fn spend(&mut self, turn: u64, bytes: u64) {
        self.bytes = self.begun(turn) + bytes;
        self.turn = turn;
    }
}

/// What a device takes at once, as far as we let it.
pub(crate) fn bounded(mut limits: DeviceLimits) -> DeviceLimits {
    limits.io_bytes_max = limits.io_bytes_max.min(PIECE_BYTES_MAX);
    limits
}

/// Bytes of one discard or write-zeroes operation: memory is zeroed before the call returns.
pub(crate) fn range_bytes_max(limits: &DeviceLimits) -> u64 {
    match limits.kind {
        DeviceKind::Memory => u64::from(PIECE_BYTES_MAX),
        DeviceKind::Null | DeviceKind::File | DeviceKind::Block => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u32 = PIECE_BYTES_MAX;

    #[test]
    fn an_attachment_has_its_share_in_flight_and_all_of_them_theirs() {
        let mut flight = Flight::default();
        let hungry: Vec<_> = (0..8).map(AttachmentIndex).collect();
        hungry.iter().for_each(|&attachment| flight.open(attachment));
        let mut held = [0; 8];
        for (&attachment, held) in hungry.iter().zip(&mut held) {
            while flight.may_take(attachment, PIECE.into()) {
                flight.take(attachment, PIECE);
                *held += 1;
            }
        }
        assert_eq!(held, [16, 16, 16, 16, 1, 1, 1, 1]);
        assert!(!flight.may_take(hungry[0], 1));
        flight.give(hungry[0], PIECE);
        assert!(
            !flight.may_take(hungry[0], PIECE.into()),
            "the others have too much"
        );
        for &attachment in &hungry[4..] {
            flight.give(attachment, PIECE);
            assert!(flight.is_idle(attachment) && flight.may_take(attachment, PIECE.into()));
        }
        assert!(flight.may_take(hungry[0], PIECE.into()));
        assert!(!flight.may_take(hungry[0], u64::from(PIECE) + 1));
        assert!(!flight.is_idle(hungry[0]));
    }

    #[test]
    fn a_ration_lasts_for_a_turn() {
        let mut ration = Ration::default();
        let piece = u64::from(PIECE);
        assert!(ration.of_queue_allows(7) && ration.of_all_allows(7));
        ration.spend(7, piece - 1);
        assert!(ration.of_queue_allows(7));
        ration.spend(7, 1);
        assert!(!ration.of_queue_allows(7) && ration.of_all_allows(7));
        ration.spend(7, 3 * piece - 1);
        assert!(ration.of_all_allows(7));
        ration.spend(7, 1);
        assert!(!ration.of_all_allows(7));
        assert!(ration.of_queue_allows(8) && ration.of_all_allows(8));
        ration.spend(8, piece);
        assert!(!ration.of_queue_allows(8) && ration.of_all_allows(8));
    }
}
