//! How discards and write-zeroes go to a kernel device: how long a piece is, how many are in flight, and when the next follows.
//!
//! A file system or a disk may do such an operation at once, or be locked for seconds: it depends on the pieces in which
//! the space lies there, which nobody knows before. Whoever reads or writes there waits meanwhile. So each device has a
//! *step*, the bytes of one piece at most, and each piece that comes back is judged by how long it was there.
//!
//! ```text
//!              up to QUICK                 up to SLOW                 longer
//!   step       doubled, up to the ceiling  as it was                  so that it would have taken AIM
//!   ceiling    -                           -                          the new step; doubled after each CALM without this
//!   in flight  what each may have          one piece of all           one piece of all
//!   next       at once                     after a pause as long      after a pause as long
//! ```
//!
//! It begins with a short step, and a device that was slow is found to be quick again by and by: who has room that is
//! given back at once cannot lead up to a long piece where it is not, more than once in a while. After a pause the next
//! piece is of the attachment that has waited longest, so that one who waits with many requests does not keep others from theirs.

use crate::books::Flight;
use palisade_block::limits::{
    RANGE_AIM, RANGE_BYTES_FILE_MAX, RANGE_BYTES_FIRST, RANGE_BYTES_MAX, RANGE_BYTES_MIN, RANGE_CALM,
    RANGE_GRACE, RANGE_PAUSE_MAX, RANGE_QUICK, RANGE_SLOW, RANGES_ALL, RANGES_EACH, RANGES_SHORT,
};
use palisade_block::{DeviceKind, DeviceLimits, Nanos, ledger};
use palisade_words::{AttachmentIndex, DeviceIndex};
use std::collections::BTreeMap;

/// The pace of discards and write-zeroes on one device, and the books of what is in flight.
#[derive(Debug)]
pub(crate) struct Ranges {
    flight: Flight,
    pieces: u32,
    /// Bytes of a piece, and between which they may be; powers of two.
    step: u64,
    shortest: u64,
    longest: u64,
    /// Longest ones that an attachment may have in flight.
    each: u64,
    /// How far the step may grow, and since when that has been so.
    ceiling: u64,
    ceiling_since: Nanos,
    /// Bytes that went quickly since the step was last changed, or a piece was not quick.
    quick_bytes: u64,
    /// One piece is in flight at most.
    one_by_one: bool,
    /// The end of the pause.
    ready_at: Nanos,
    /// When the last piece of each attachment was begun.
    served: Vec<Nanos>,
    /// The attachment that was refused and has waited longest.
    next: Option<AttachmentIndex>,
}

impl Ranges {
    /// For the attachments of other books, and no device yet.
    pub(crate) fn new(others: &Flight) -> Ranges {
        Ranges {
            flight: Flight::of_ranges(others),
            pieces: 0,
            step: u64::from(RANGE_BYTES_FIRST),
            shortest: u64::from(RANGE_BYTES_MIN),
            longest: u64::from(RANGE_BYTES_FILE_MAX),
            each: 1,
            ceiling: u64::from(RANGE_BYTES_FILE_MAX),
            ceiling_since: Nanos(0),
            quick_bytes: 0,
            one_by_one: false,
            ready_at: Nanos(0),
            served: vec![Nanos(0); others.attachments()],
            next: None,
        }
    }

    /// A device comes, of which nothing is known; what is in flight of the one before stays in the books.
    pub(crate) fn serve(&mut self, limits: &DeviceLimits) {
        (self.longest, self.each) = match limits.kind {
            DeviceKind::Block => (u64::from(RANGE_BYTES_MAX), RANGES_EACH),
            _ => (u64::from(RANGE_BYTES_FILE_MAX), 1),
        };
        let granularity = u64::from(limits.discard_granularity).next_power_of_two();
        self.shortest = granularity.clamp(RANGE_BYTES_MIN.into(), self.longest);
        self.ceiling = self.longest;
        self.ceiling_since = Nanos(0);
        (self.one_by_one, self.ready_at, self.next) = (false, Nanos(0), None);
        self.set_step(u64::from(RANGE_BYTES_FIRST).max(self.shortest));
    }

    /// An attachment comes into use.
    pub(crate) fn open(&mut self, attachment: AttachmentIndex) {
        self.flight.open(attachment);
        self.served.resize(self.flight.attachments(), Nanos(0));
    }

    /// Bytes of the next piece at most, which ends at a multiple of them.
    #[inline]
    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    /// Whether a piece that counts for so many bytes may be begun.
    pub(crate) fn may_take(&mut self, attachment: AttachmentIndex, bytes: u64, now: Nanos) -> bool {
        let may = match self.one_by_one {
            true => self.pieces == 0 && now >= self.ready_at && self.is_next(attachment, now),
            false => now >= self.ready_at && self.flight.may_take(attachment, bytes),
        };
        if !may {
            let waits_longest = self
                .next
                .is_none_or(|next| self.served_at(attachment) < self.served_at(next));
            if waits_longest {
                self.next = Some(attachment);
            }
        }
        may
    }

    fn is_next(&self, attachment: AttachmentIndex, now: Nanos) -> bool {
        let next = self.next.is_none_or(|next| next == attachment);
        next || now >= self.ready_at.after(RANGE_GRACE)
    }

    fn served_at(&self, attachment: AttachmentIndex) -> Nanos {
        let served = self.served.get(usize::from(attachment.0));
        served.copied().unwrap_or_default()
    }

    pub(crate) fn take(&mut self, attachment: AttachmentIndex, bytes: u32, now: Nanos) {
        self.flight.take(attachment, bytes);
        ledger::enter(&mut self.pieces, "ranges in flight");
        self.next = None;
        if let Some(served) = self.served.get_mut(usize::from(attachment.0)) {
            *served = now;
        }
    }

    pub(crate) fn give(&mut self, attachment: AttachmentIndex, bytes: u32) {
        self.flight.give(attachment, bytes);
        ledger::leave(&mut self.pieces, "ranges in flight");
    }

    /// When those who were refused are to ask again, unless a piece comes back before.
    pub(crate) fn due(&self, now: Nanos) -> Option<Nanos> {
        self.next?;
        let moments = match (self.one_by_one, self.pieces) {
            (true, 0) => [self.ready_at, self.ready_at.after(RANGE_GRACE)],
            _ => [self.ready_at; 2],
        };
        moments.into_iter().find(|&moment| moment > now)
    }

    /// A piece of so many bytes has come back after so long.
    pub(crate) fn judge(&mut self, bytes: u64, took: Nanos, now: Nanos) {
        if took <= RANGE_QUICK {
            return self.was_quick(flight_bytes(self.step, bytes).into(), now);
        }
        self.one_by_one = true;
        self.quick_bytes = 0;
        let pause = took.min(RANGE_PAUSE_MAX);
        self.ready_at = self.ready_at.max(now.after(pause));
        if took > RANGE_SLOW {
            self.was_slow(bytes, took, now);
        }
    }

    fn was_quick(&mut self, bytes: u64, now: Nanos) {
        let calm = now.since(self.ceiling_since).0 / RANGE_CALM.0;
        if self.ceiling < self.longest && calm > 0 {
            self.ceiling = (self.ceiling << calm.min(16)).min(self.longest);
            self.ceiling_since = now;
        }
        self.quick_bytes += bytes;
        if self.quick_bytes >= self.step {
            self.one_by_one = false;
            self.set_step((self.step * 2).min(self.ceiling));
        }
    }

    /// A short one may have waited for something else, so it tells nothing of how long a longer one takes.
    fn was_slow(&mut self, bytes: u64, took: Nanos, now: Nanos) {
        let half = self.step / 2;
        let fitting = u128::from(bytes) * u128::from(RANGE_AIM.0) / u128::from(took.0);
        let fitting = match fitting as u64 {
            _ if bytes < half => half,
            0 => 1,
            fitting => 1 << fitting.ilog2(),
        };
        self.ceiling = fitting.min(half).max(self.shortest);
        self.ceiling_since = now;
        self.set_step(self.ceiling);
    }

    fn set_step(&mut self, step: u64) {
        self.step = step;
        self.quick_bytes = 0;
        let each = match step == self.longest {
            true => self.each,
            false => 1,
        };
        self.flight.bound(step * each * RANGES_ALL, step * each);
    }

    /// Holds what is in flight against what is found to be: bytes and pieces by device and attachment.
    ///
    /// # Panics
    /// When that is not the same: our own bug.
    pub(crate) fn check(
        &self,
        device: DeviceIndex,
        found: &BTreeMap<(DeviceIndex, AttachmentIndex), (u64, u32)>,
    ) {
        let here = found.iter().filter(|((on, _), _)| *on == device);
        let (mut bytes, mut pieces) = (0, 0);
        for (&(_, attachment), &found) in here {
            assert!(
                self.flight.bytes_of(attachment) == found.0,
                "{found:?} of {attachment:?} are in flight on {device:?}: {self:?}"
            );
            (bytes, pieces) = (bytes + found.0, pieces + found.1);
        }
        assert!(
            (self.flight.bytes(), self.pieces) == (bytes, pieces),
            "{pieces} ranges of {bytes} bytes are in flight on {device:?}: {self:?}"
        );
    }
}

/// What a piece of so many bytes counts for in flight, while the longest has a step's bytes.
pub(crate) fn flight_bytes(step: u64, bytes: u64) -> u32 {
    bytes.clamp(step / u64::from(RANGES_SHORT), step) as u32
}

#[cfg(test)]
mod tests;
