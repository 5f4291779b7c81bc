//! Which piece of a cut request is the next.

use crate::alignment::Alignment;
use crate::books::Work;
use crate::rations::RangePiece;
use crate::reactor::{Reactor, broken};
use palisade_block::{Devices, Fault, Op, Pool, Source};
use palisade_words::{DeviceIndex, Lba, Sectors, SlotIndex};

/// The next part of a cut request.
pub(super) struct Piece {
    pub(super) device: DeviceIndex,
    pub(super) device_lba: Lba,
    pub(super) op: Op,
    /// Sectors of the request before the part.
    pub(super) skip: Sectors,
    pub(super) sectors: Sectors,
    /// What the device asks of memory, for pieces that move the guest's data.
    pub(super) alignment: Alignment,
    /// The device's block.
    pub(super) block_sectors: u64,
    pub(super) zeroes: bool,
    /// What it takes of a turn.
    pub(super) turn_bytes: u64,
    /// What it takes of the ranges in flight on its device.
    pub(super) range_bytes: u32,
}

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// The part that comes next; `None` when all have been handed out.
    pub(super) fn next_piece(&self, request: SlotIndex) -> Result<Option<Piece>, Fault> {
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
}
