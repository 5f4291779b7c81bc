//! How many bytes are in flight: of large operations on the devices of one reactor, or of discards and write-zeroes on
//! one device.

use crate::reactor::broken;
use palisade_block::Nanos;
use palisade_block::limits::{FLIGHT_BYTES_ALL, FLIGHT_BYTES_EACH, FLIGHT_BYTES_SHARED, FLIGHT_SHARED_FOR};
use palisade_words::AttachmentIndex;

/// Bytes of large operations in flight on the devices of one reactor, or of discards and write-zeroes on one device.
#[derive(Debug)]
pub(crate) struct Flight {
    all: u64,
    each: Vec<Held>,
    all_max: u64,
    each_max: u64,
    /// The moment of the present turn.
    now: Nanos,
}

/// What one attachment has.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: u64,
    /// Until then it is taken to share a disk with another.
    shares_until: Nanos,
}

impl Flight {
    /// Of operations that move data.
    pub(crate) fn of_data() -> Flight {
        Flight {
            all: 0,
            each: Vec::new(),
            all_max: FLIGHT_BYTES_ALL,
            each_max: FLIGHT_BYTES_EACH,
            now: Nanos(0),
        }
    }

    /// Of discards and write-zeroes on one device, for the attachments of other books. Nothing may be begun before it
    /// is said how much.
    pub(crate) fn of_ranges(others: &Flight) -> Flight {
        Flight {
            all: 0,
            each: vec![Held::default(); others.each.len()],
            all_max: 0,
            each_max: 0,
            now: Nanos(0),
        }
    }

    /// From now on so much may be in flight, of all attachments and of each.
    pub(crate) fn bound(&mut self, all_max: u64, each_max: u64) {
        (self.all_max, self.each_max) = (all_max, each_max);
    }

    /// Attachments that there are books for.
    pub(crate) fn attachments(&self) -> usize {
        self.each.len()
    }

    /// An attachment comes into use. What it had in flight under this number before is still in the books.
    pub(crate) fn open(&mut self, attachment: AttachmentIndex) {
        let needed = usize::from(attachment.0) + 1;
        if self.each.len() < needed {
            self.each.resize(needed, Held::default());
        }
    }

    /// Bytes of an attachment.
    pub(crate) fn bytes_of(&self, attachment: AttachmentIndex) -> u64 {
        self.of(attachment).bytes
    }

    /// Bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        self.all
    }

    fn of(&self, attachment: AttachmentIndex) -> Held {
        let held = self.each.get(usize::from(attachment.0));
        held.copied().unwrap_or_default()
    }

    /// A turn begins.
    #[inline]
    pub(crate) fn begin_turn(&mut self, now: Nanos) {
        self.now = now;
    }

    /// Two attachments have asked the same disk for something, one behind the other.
    #[cold]
    pub(crate) fn meet(&mut self, attachments: [AttachmentIndex; 2]) {
        for attachment in attachments {
            if let Some(held) = self.each.get_mut(usize::from(attachment.0)) {
                held.shares_until = self.now.after(FLIGHT_SHARED_FOR);
            }
        }
    }

    /// Whether an operation of so many bytes may be begun.
    pub(crate) fn may_take(&self, attachment: AttachmentIndex, bytes: u64) -> bool {
        let held = self.of(attachment);
        let each_max = match held.shares_until > self.now {
            true => self.each_max.min(FLIGHT_BYTES_SHARED),
            false => self.each_max,
        };
        held.bytes == 0 || (held.bytes + bytes <= each_max && self.all + bytes <= self.all_max)
    }

    /// Whether nothing large of an attachment is in flight.
    pub(crate) fn is_idle(&self, attachment: AttachmentIndex) -> bool {
        self.of(attachment).bytes == 0
    }

    pub(crate) fn take(&mut self, attachment: AttachmentIndex, bytes: u32) {
        self.all += u64::from(bytes);
        if let Some(held) = self.each.get_mut(usize::from(attachment.0)) {
            held.bytes += u64::from(bytes);
        }
    }

    pub(crate) fn give(&mut self, attachment: AttachmentIndex, bytes: u32) {
        let held = self.each.get_mut(usize::from(attachment.0));
        let held = held.map(|held| &mut held.bytes);
        for held in [Some(&mut self.all), held].into_iter().flatten() {
            let Some(left) = held.checked_sub(u64::from(bytes)) else {
                broken("more bytes came back than were in flight")
            };
            *held = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_block::limits::PIECE_BYTES_MAX;

    const PIECE: u32 = PIECE_BYTES_MAX;

    #[test]
    fn who_shares_a_disk_has_less_in_flight_until_the_other_asks_no_more() {
        let mut flight = Flight::of_data();
        let [hungry, other, third] = [0, 1, 2].map(AttachmentIndex);
        for attachment in [hungry, other, third] {
            flight.open(attachment);
        }
        let fill = |flight: &mut Flight, attachment| {
            while flight.may_take(attachment, PIECE.into()) {
                flight.take(attachment, PIECE);
            }
            flight.of(attachment).bytes
        };
        let begin = Nanos::from_secs(1);
        flight.begin_turn(begin);
        flight.meet([hungry, other]);
        assert_eq!(fill(&mut flight, hungry), FLIGHT_BYTES_SHARED);
        assert_eq!(fill(&mut flight, other), FLIGHT_BYTES_SHARED);
        assert_eq!(fill(&mut flight, third), FLIGHT_BYTES_EACH);
        let end = begin.after(FLIGHT_SHARED_FOR);
        flight.begin_turn(Nanos(end.0 - 1));
        assert_eq!(fill(&mut flight, hungry), FLIGHT_BYTES_SHARED);
        flight.begin_turn(end);
        assert_eq!(fill(&mut flight, hungry), FLIGHT_BYTES_EACH);
        flight.meet([hungry, other]);
        flight.give(hungry, PIECE);
        assert!(!flight.may_take(hungry, 1), "what it has more is not replaced");
    }

    #[test]
    fn an_attachment_has_its_share_in_flight_and_all_of_them_theirs() {
        let mut flight = Flight::of_data();
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
}
