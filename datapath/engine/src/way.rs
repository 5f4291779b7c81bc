//! Where a request goes: to one device as it is, in pieces, or nowhere. What it asks for is checked here against its
//! volume, once and never again.

use crate::alignment::is_reached;
use crate::books::{Slot, Work};
use crate::rations::whole_range_bytes_max;
use crate::watched::Watched;
use palisade_block::mailbox::AttachmentSettings;
use palisade_block::{Fault, Op, Request, Route, Segment};
use palisade_words::{DeviceIndex, Lba, SECTOR_BYTES, Sectors};

/// Where a request goes.
pub(crate) enum Way {
    /// To one device as it is.
    Whole(DeviceIndex, Lba),
    /// In pieces, the first of them to this device.
    Cut(Work, DeviceIndex),
    /// Nowhere: there is nothing to do.
    Done,
}

impl Way {
    /// The same in pieces.
    pub(crate) fn in_pieces(self, op: Op) -> Way {
        match self {
            Way::Whole(device, _) if op == Op::Flush => Way::Cut(Work::Flush(0), device),
            Way::Whole(device, _) => Way::Cut(Work::Ranges(Sectors::ZERO), device),
            way => way,
        }
    }
}

/// What a request asks of its volume.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    op: Op,
    lba: Lba,
    sectors: Sectors,
}

impl Asked {
    #[inline(always)]
    pub(crate) fn by(request: &Request) -> Asked {
        let Request { op, lba, sectors, .. } = *request;
        Asked { op, lba, sectors }
    }

    /// By the request in a slot, once more.
    pub(crate) fn again(slot: &Slot) -> Asked {
        let Slot { op, lba, sectors, .. } = *slot;
        Asked { op, lba, sectors }
    }
}

/// The same as [`way`], for requests that are not the usual ones: that is inlined where they are taken, and nowhere
/// else.
#[inline(never)]
pub(crate) fn way_of_other(
    settings: &AttachmentSettings,
    route: Option<&Route>,
    watched: &Watched,
    segments: &[Segment],
    asked: Asked,
) -> Result<Way, Option<Fault>> {
    way(settings, route, watched, segments, asked)
}

/// Decides how a request is carried out. `Err(None)`: it does not fit the volume or may not be done.
#[inline(always)]
pub(crate) fn way(
    settings: &AttachmentSettings,
    route: Option<&Route>,
    watched: &Watched,
    segments: &[Segment],
    asked: Asked,
) -> Result<Way, Option<Fault>> {
    let Asked { op, lba, sectors } = asked;
    if settings.read_only && op.changes() {
        return Err(None);
    }
    let route = route.ok_or(Some(Fault::Gone))?;
    if matches!(op, Op::Flush) {
        return Ok(match *route.devices() {
            [] => Way::Done,
            [device] => Way::Whole(device, Lba(0)),
            [first, ..] => Way::Cut(Work::Flush(0), first),
        });
    }
    let end = lba.checked_add(sectors).ok_or(None)?;
    if end.0 > route.sectors().0 {
        return Err(None);
    }
    // There is a run but behind the last sector, of which nothing can be asked.
    let Some(run) = route.run_at(lba) else {
        return Ok(Way::Done);
    };
    let device = watched.get(run.device);
    let limits = &device.ok_or(Some(Fault::Gone))?.limits;
    let block_mask = u64::from(limits.block_bytes) / SECTOR_BYTES - 1;
    if (lba.0 | sectors.0) & block_mask != 0 {
        return Err(None);
    }
    let into_run = lba.since(run.volume);
    let one_run = into_run.0 + sectors.0 <= run.sectors.0;
    let whole = match op {
        Op::Read | Op::Write => {
            one_run && sectors.bytes() <= u64::from(limits.io_bytes_max) && is_reached(segments, limits)
        }
        // A write-through guest counts on stable storage after these too: a flush follows the last part.
        _ => one_run && !settings.write_through && sectors.bytes() <= whole_range_bytes_max(limits),
    };
    if whole {
        return Ok(Way::Whole(run.device, Lba(run.lba.0 + into_run.0)));
    }
    if !one_run && !has_whole_blocks(route, watched, lba, end) {
        return Err(None);
    }
    Ok(Way::Cut(Work::Ranges(Sectors::ZERO), run.device))
}

/// Whether a range over several runs has whole blocks of each of their devices, which may differ. One that has not is
/// refused as a whole: it would be written in part, and the refusal of the device counted with a disk that others
/// share.
#[cold]
fn has_whole_blocks(route: &Route, watched: &Watched, mut lba: Lba, end: Lba) -> bool {
    while lba.0 < end.0 {
        let Some(run) = route.run_at(lba) else { return true };
        let into_run = lba.since(run.volume).0;
        let sectors = (run.sectors.0 - into_run).min(end.0 - lba.0);
        let device = watched.get(run.device);
        let block_bytes = device.map_or(0, |device| device.limits.block_bytes);
        let block_sectors = Sectors::from_bytes(block_bytes.into()).0.max(1);
        if !(run.lba.0 + into_run).is_multiple_of(block_sectors) || !sectors.is_multiple_of(block_sectors) {
            return false;
        }
        lba = Lba(lba.0 + sectors);
    }
    true
}
