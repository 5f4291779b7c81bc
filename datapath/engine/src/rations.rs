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

use palisade_block::limits::{PIECE_BYTES_MAX, TURN_BYTES_ALL, TURN_BYTES_EACH};
use palisade_block::{DeviceKind, DeviceLimits};

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
        DeviceKind::File | DeviceKind::Block | DeviceKind::Peer => 0,
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
        let is_kernels = matches!(
            limits.kind,
            DeviceKind::File | DeviceKind::Block | DeviceKind::Peer
        );
        RangePiece {
            bytes_max: match limits.kind {
                DeviceKind::Memory => u64::from(PIECE_BYTES_MAX),
                DeviceKind::Null => u64::MAX,
                DeviceKind::File | DeviceKind::Block | DeviceKind::Peer => step - device_byte % step,
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
