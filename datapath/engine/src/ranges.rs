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
use crate::reactor::Reactor;
use palisade_block::limits::{
    RANGE_AIM, RANGE_BYTES_FILE_MAX, RANGE_BYTES_FIRST, RANGE_BYTES_MAX, RANGE_BYTES_MIN, RANGE_CALM,
    RANGE_GRACE, RANGE_PAUSE_MAX, RANGE_QUICK, RANGE_SLOW, RANGE_TOLD, RANGES_ALL, RANGES_EACH, RANGES_SHORT,
};
use palisade_block::{DeviceKind, DeviceLimits, Devices, Fault, Nanos, Pool, Source, ledger};
use palisade_words::{AttachmentIndex, DeviceIndex, SlotIndex};
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

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// A range has come back, or was taken back, that was in the books: how long it took.
    pub(crate) fn took(&mut self, part: SlotIndex, result: Result<(), Fault>) {
        let slot = self.books.slots.slot(part);
        let (bytes, device) = (slot.sectors.bytes(), slot.device);
        let took = self.now.since(slot.launched);
        let queue = self.queues.at(slot.queue);
        queue.settings.stats.ranges_ns.add(took.0);
        if took >= RANGE_TOLD
            && let Some(watched) = self.watched.get(device)
        {
            watched.stats.slow_ranges.note(queue.id.attachment, took);
        }
        // Of one that failed nobody knows how far it came.
        if result.is_ok() {
            self.books.judge_range(device, bytes, took, self.now);
        }
    }
}

/// What a piece of so many bytes counts for in flight, while the longest has a step's bytes.
pub(crate) fn flight_bytes(step: u64, bytes: u64) -> u32 {
    bytes.clamp(step / u64::from(RANGES_SHORT), step) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_words::Sectors;

    const MS: u64 = 1_000_000;
    const MIB: u64 = 1 << 20;

    fn limits(kind: DeviceKind, discard_granularity: u32) -> DeviceLimits {
        DeviceLimits {
            kind,
            sectors: Sectors(1 << 40),
            block_bytes: 512,
            memory_alignment: 1,
            length_alignment: 512,
            io_bytes_max: 1 << 20,
            discard_granularity,
            discard: true,
            write_zeroes: true,
            read_only: false,
        }
    }

    fn ranges(kind: DeviceKind) -> Ranges {
        let mut data = Flight::of_data();
        (0..8)
            .map(AttachmentIndex)
            .for_each(|attachment| data.open(attachment));
        let mut ranges = Ranges::new(&data);
        ranges.serve(&limits(kind, 4096));
        ranges
    }

    /// One after the other, each of a whole step, that take so long for each MiB; what the steps were.
    fn steps(ranges: &mut Ranges, now: &mut u64, count: usize, took: impl Fn(u64) -> u64) -> Vec<u64> {
        let one = AttachmentIndex(0);
        let mut steps = Vec::new();
        for _ in 0..count {
            let step = ranges.step();
            steps.push(step >> 10);
            let bytes = flight_bytes(step, step);
            *now = (*now).max(ranges.ready_at.0);
            assert!(ranges.may_take(one, bytes.into(), Nanos(*now)));
            ranges.take(one, bytes, Nanos(*now));
            let took = took(step);
            *now += took;
            ranges.give(one, bytes);
            ranges.judge(step, Nanos(took), Nanos(*now));
        }
        steps
    }

    #[test]
    fn what_goes_quickly_becomes_as_long_as_it_may_and_what_does_not_as_short_as_helps() {
        for (kind, longest) in [(DeviceKind::Block, 32 << 10), (DeviceKind::File, 8 << 10)] {
            let (mut ranges, mut now) = (ranges(kind), 0);
            let grown = steps(&mut ranges, &mut now, 7, |_| RANGE_QUICK.0);
            let expected = [1, 2, 4, 8, 16, 32, 32].map(|mib: u64| (mib << 10).min(longest));
            assert_eq!(grown, expected, "{kind:?}");
            // 20 ms for each MiB: the longest takes 640 or 160, and what follows 20, which is neither quick nor slow.
            let fell = steps(&mut ranges, &mut now, 4, |step| 20 * MS * step / MIB);
            assert_eq!(fell, [longest, 1024, 1024, 1024]);
            // However slow, it is not cut to nothing.
            let fell = steps(&mut ranges, &mut now, 3, |step| 1000 * MS * step / MIB);
            assert_eq!(fell, [1024, 256, 256]);
        }
    }

    #[test]
    fn what_a_device_gives_back_as_one_is_not_cut() {
        for (granularity, first, least) in [(4096, 1024, 256), (1 << 20, 1024, 1024), (3 << 20, 4096, 4096)] {
            let (mut ranges, mut now) = (ranges(DeviceKind::Block), 0);
            ranges.serve(&limits(DeviceKind::Block, granularity));
            let fell = steps(&mut ranges, &mut now, 4, |_| 3000 * MS);
            assert_eq!((fell[0], fell[3]), (first, least));
        }
    }

    #[test]
    fn a_device_that_was_slow_is_trusted_again_by_and_by() {
        let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
        steps(&mut ranges, &mut now, 1, |_| 450 * MS);
        let slow_at = now;
        let mut seen = Vec::new();
        while ranges.step() < ranges.longest {
            let step = steps(&mut ranges, &mut now, 1, |_| MS)[0];
            if seen.last().is_none_or(|&(last, _)| last != step) {
                seen.push((step, (now - slow_at) / RANGE_CALM.0));
            }
        }
        assert_eq!(seen, [(256, 0), (512, 1), (1024, 2), (2048, 3), (4096, 4)]);
        // After a long rest it is as at the beginning.
        steps(&mut ranges, &mut now, 1, |_| 4000 * MS);
        now += 600_000 * MS;
        assert_eq!(
            steps(&mut ranges, &mut now, 6, |_| MS),
            [256, 512, 1024, 2048, 4096, 8192]
        );
    }

    #[test]
    fn after_one_that_is_not_quick_there_is_a_pause_as_long() {
        for (took, pause) in [
            (RANGE_QUICK.0, 0),
            (RANGE_QUICK.0 + 1, RANGE_QUICK.0 + 1),
            (RANGE_SLOW.0, RANGE_SLOW.0),
            (300 * MS, 300 * MS),
            (9000 * MS, RANGE_PAUSE_MAX.0),
        ] {
            let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
            steps(&mut ranges, &mut now, 1, |_| took);
            let mut may_at = |at| ranges.may_take(AttachmentIndex(0), 4096, Nanos(at));
            assert!(
                may_at(now + pause) && (pause == 0 || !may_at(now + pause - 1)),
                "{took}"
            );
            assert_eq!(
                ranges.step(),
                if took > RANGE_SLOW.0 {
                    256 << 10
                } else if pause > 0 {
                    MIB
                } else {
                    2 * MIB
                }
            );
        }
    }

    #[test]
    fn a_short_one_that_is_slow_halves_the_step_and_no_more() {
        let mut ranges = ranges(DeviceKind::File);
        ranges.judge(4096, Nanos(800 * MS), Nanos(0));
        assert_eq!(ranges.step(), MIB / 2);
        // Eight that are quick count for one of the longest.
        (0..7).for_each(|_| ranges.judge(4096, Nanos(MS), Nanos(RANGE_CALM.0 * 9)));
        assert!(ranges.one_by_one && ranges.step() == MIB / 2);
        ranges.judge(4096, Nanos(MS), Nanos(RANGE_CALM.0 * 9));
        assert!(!ranges.one_by_one && ranges.step() == MIB);
    }

    /// How many each of eight attachments gets, one after the other, as long as it gets any.
    fn hoard(ranges: &mut Ranges, bytes: u64) -> Vec<u32> {
        let bytes = flight_bytes(ranges.step(), bytes);
        let mut held = vec![0; 8];
        for (attachment, held) in (0..8).map(AttachmentIndex).zip(&mut held) {
            while ranges.may_take(attachment, bytes.into(), Nanos(u64::MAX)) {
                ranges.take(attachment, bytes, Nanos(0));
                *held += 1;
            }
        }
        let all: Vec<_> = (0..8).map(AttachmentIndex).zip(held.clone()).collect();
        for (attachment, held) in all {
            (0..held).for_each(|_| ranges.give(attachment, bytes));
        }
        held
    }

    #[test]
    fn an_attachment_has_one_long_one_or_eight_short_ones_in_flight_and_four_times_as_many_where_the_longest_go_quickly()
     {
        let mut ranges = ranges(DeviceKind::Block);
        assert_eq!(hoard(&mut ranges, MIB), [1; 8]);
        assert_eq!(hoard(&mut ranges, 512), [8, 8, 8, 8, 1, 1, 1, 1]);
        steps(&mut ranges, &mut 0, 5, |_| MS);
        assert_eq!(hoard(&mut ranges, 32 * MIB), [4, 4, 4, 4, 1, 1, 1, 1]);
        assert_eq!(hoard(&mut ranges, 512), [32, 32, 32, 32, 1, 1, 1, 1]);
        assert_eq!(hoard(&mut ranges, 5 * MIB), [25, 25, 25, 25, 2, 1, 1, 1]);
        // All of them one, once one was not quick.
        ranges.judge(32 * MIB, Nanos(20 * MS), Nanos(0));
        assert_eq!(hoard(&mut ranges, 512).iter().sum::<u32>(), 1);
    }

    #[test]
    fn after_the_pause_comes_who_has_waited_longest() {
        let mut ranges = ranges(DeviceKind::File);
        let [hungry, other, late] = [0, 1, 2].map(AttachmentIndex);
        let bytes = flight_bytes(ranges.step(), MIB);
        steps(&mut ranges, &mut 0, 1, |_| 20 * MS);
        let mut now = ranges.ready_at;
        let mut order = Vec::new();
        for round in 0..6 {
            // The hungry one asks first and last.
            for attachment in [hungry, hungry, other, late, hungry] {
                if attachment == late && round < 3 {
                    continue;
                }
                if ranges.may_take(attachment, bytes.into(), now) {
                    ranges.take(attachment, bytes, now);
                    order.push(attachment.0);
                    break;
                }
            }
            assert_eq!(order.len(), round + 1, "somebody has its turn");
            let began = now;
            for attachment in [hungry, other, late] {
                if attachment != late || round >= 3 {
                    assert!(!ranges.may_take(attachment, bytes.into(), now));
                }
            }
            now = now.after(Nanos(30 * MS));
            ranges.give(AttachmentIndex(order[round]), bytes);
            ranges.judge(MIB, now.since(began), now);
            assert_eq!(ranges.due(now), Some(ranges.ready_at));
            now = ranges.ready_at;
        }
        assert_eq!(order, [0, 1, 0, 1, 2, 0]);
    }

    #[test]
    fn who_does_not_come_when_it_is_its_turn_is_not_waited_for() {
        let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
        steps(&mut ranges, &mut now, 1, |_| 20 * MS);
        let [gone, other] = [1, 0].map(AttachmentIndex);
        assert!(!ranges.may_take(gone, 4096, Nanos(now)));
        let ready = ranges.ready_at;
        assert!(!ranges.may_take(other, 4096, ready));
        let over = ready.after(RANGE_GRACE);
        assert_eq!(ranges.due(ready), Some(over));
        assert!(!ranges.may_take(other, 4096, Nanos(over.0 - 1)) && ranges.may_take(other, 4096, over));
        assert_eq!(ranges.due(over), None);
        ranges.take(other, 4096, over);
        assert_eq!(ranges.due(ready), None, "nobody waits");
    }

    #[test]
    fn so_much_has_to_go_quickly_without_a_break() {
        let mut ranges = ranges(DeviceKind::File);
        let mut judge = |bytes, took| {
            ranges.judge(bytes, Nanos(took), Nanos(0));
            (ranges.step(), ranges.one_by_one)
        };
        assert_eq!(judge(MIB / 2, MS), (MIB, false));
        assert_eq!(judge(MIB / 2, 20 * MS), (MIB, true), "neither quick nor slow");
        assert_eq!(judge(MIB / 2, MS), (MIB, true), "what went before is forgotten");
        assert_eq!(judge(MIB / 2, MS), (2 * MIB, false));
        // And for each step anew.
        assert_eq!(judge(MIB, MS), (2 * MIB, false));
        assert_eq!(judge(MIB, MS), (4 * MIB, false));
    }

    #[test]
    fn one_of_half_a_step_tells_how_long_it_should_have_been() {
        let mut ranges = ranges(DeviceKind::File);
        ranges.judge(MIB / 2, Nanos(200 * MS), Nanos(0));
        assert_eq!(ranges.step(), MIB / 4);
    }

    #[test]
    fn another_device_in_the_place_of_a_slow_one_is_not_waited_for() {
        let mut ranges = ranges(DeviceKind::File);
        let mut now = 0;
        steps(&mut ranges, &mut now, 1, |_| 20 * MS);
        let now = Nanos(now);
        assert!(!ranges.may_take(AttachmentIndex(0), MIB, now));
        ranges.serve(&limits(DeviceKind::File, 4096));
        assert_eq!(ranges.due(now), None, "nobody was refused there");
        for attachment in [1, 0].map(AttachmentIndex) {
            assert!(ranges.may_take(attachment, MIB, now));
            ranges.take(attachment, MIB as u32, now);
        }
    }

    #[test]
    fn an_attachment_that_comes_later_has_its_turns_like_the_others() {
        let mut ranges = ranges(DeviceKind::File);
        let late = AttachmentIndex(8);
        ranges.open(late);
        ranges.take(late, 4096, Nanos(7));
        assert_eq!(ranges.served_at(late), Nanos(7));
    }

    #[test]
    fn who_was_refused_and_did_not_come_back_is_forgotten_with_the_next_piece() {
        let (mut ranges, mut now) = (ranges(DeviceKind::File), 0);
        steps(&mut ranges, &mut now, 1, |_| 20 * MS);
        let [gone, other] = [1, 0].map(AttachmentIndex);
        assert!(!ranges.may_take(gone, 4096, Nanos(now)));
        let over = ranges.ready_at.after(RANGE_GRACE);
        ranges.take(other, 4096, over);
        ranges.give(other, 4096);
        assert_eq!(ranges.due(Nanos(now)), None);
    }
}
