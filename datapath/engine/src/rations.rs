//! How much of large requests is begun in one turn, and how much of them is in flight.
//!
//! A request may carry 4 GiB, and its data be copied, or a hole of a file be zeroed, before the call that begins it
//! returns. So it is cut into pieces of [`PIECE_BYTES_MAX`] at most, and a piece is begun when its queue has not had its
//! bytes of this turn, its attachment has room for it in flight, and its limit on bytes a second lets it. What has to
//! wait for one of these *rests*, and meanwhile nothing more is taken from its queue: so a guest has one such request
//! begun on each queue, and those that rest take turns. Nothing of this is asked for requests that go to their device as
//! they are and are answered at once, or are short.
//!
//! Discards and write-zeroes of kernel devices have a pace of their own ([`crate::ranges`]). They move no data and take
//! nothing of a turn; what has to wait there rests, too, but keeps nothing from its queue, as it may wait for a disk that
//! has much to give back.

use palisade_block::limits::{
    FLIGHT_BYTES_ALL, FLIGHT_BYTES_EACH, FLIGHT_BYTES_SHARED, FLIGHT_SHARED_FOR, PIECE_BYTES_MAX,
    TURN_BYTES_ALL, TURN_BYTES_EACH,
};
use palisade_block::{DeviceKind, DeviceLimits, Nanos};
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

    /// Of discards and write-zeroes on one device, for the attachments of other books. Nothing may be begun before it is
    /// said how much.
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

/// Bytes of one discard or write-zeroes operation that goes to its device as it is: memory is zeroed before the call
/// returns, and what a kernel device has in flight is in the books of its pieces.
pub(crate) fn whole_range_bytes_max(limits: &DeviceLimits) -> u64 {
    match limits.kind {
        DeviceKind::Memory => u64::from(PIECE_BYTES_MAX),
        DeviceKind::Null => u64::MAX,
        DeviceKind::File | DeviceKind::Block => 0,
    }
}

/// How a discard or write-zeroes request is cut for its device.
pub(crate) struct RangePiece {
    /// Bytes of the next piece at most.
    pub(crate) bytes_max: u64,
    /// They count in a turn.
    pub(crate) takes_turn: bool,
    /// They count in flight on the device.
    pub(crate) takes_flight: bool,
}

impl RangePiece {
    /// The piece that begins at this byte of the device, of a kernel device one of so many bytes at most.
    pub(crate) fn at(limits: &DeviceLimits, step: u64, device_byte: u64) -> RangePiece {
        let is_kernels = matches!(limits.kind, DeviceKind::File | DeviceKind::Block);
        RangePiece {
            bytes_max: match limits.kind {
                DeviceKind::Memory => u64::from(PIECE_BYTES_MAX),
                DeviceKind::Null => u64::MAX,
                DeviceKind::File | DeviceKind::Block => step - device_byte % step,
            },
            takes_turn: limits.kind == DeviceKind::Memory,
            takes_flight: is_kernels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_range_of_a_kernel_device_ends_where_a_multiple_of_the_longest_does() {
        let longest: u64 = 32 << 20;
        let mut limits = DeviceLimits {
            kind: DeviceKind::Block,
            sectors: palisade_words::Sectors(1 << 40),
            block_bytes: 512,
            memory_alignment: 1,
            length_alignment: 512,
            io_bytes_max: 1 << 20,
            discard_granularity: 512,
            discard: true,
            write_zeroes: true,
            read_only: false,
        };
        for (at, bytes) in [
            (0, longest),
            (512, longest - 512),
            (longest - 512, 512),
            (7 * longest, longest),
        ] {
            assert_eq!(RangePiece::at(&limits, longest, at).bytes_max, bytes);
        }
        let seen = |limits: &DeviceLimits| {
            let piece = RangePiece::at(limits, longest, 512);
            (
                piece.bytes_max,
                piece.takes_turn,
                piece.takes_flight,
                whole_range_bytes_max(limits),
            )
        };
        let memory = u64::from(PIECE_BYTES_MAX);
        for (kind, expected) in [
            (DeviceKind::File, (longest - 512, false, true, 0)),
            (DeviceKind::Block, (longest - 512, false, true, 0)),
            (DeviceKind::Memory, (memory, true, false, memory)),
            (DeviceKind::Null, (u64::MAX, false, false, u64::MAX)),
        ] {
            limits.kind = kind;
            assert_eq!(seen(&limits), expected, "{kind:?}");
        }
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
