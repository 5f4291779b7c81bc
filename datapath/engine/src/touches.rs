//! How much of guests' memory a turn has touched since a clock was looked at.
//!
//! Nobody is told beforehand what a page will cost: one that is not there has to be found and cleared, 0.1 to 6 ms for a
//! hugepage of 2 MiB. A clock asked after each request would cost a twentieth of the usual one, and be asked for nothing: what
//! is handed to a device in the kernel touches its pages only when it is submitted. So places are counted, one for each
//! request and one for each of its segments, and after so many ([`TOUCHES_UNSEEN_MAX`]) what there is is submitted and the
//! clock is asked. A turn that has become long takes no more then, and what it has not begun of requests in pieces, or not
//! taken note of from the devices, waits for the next.
//!
//! What one request touches at once is the least that a turn touches. It is bounded by the segments of one operation
//! ([`SEGMENTS_PER_SLOT`](palisade_block::limits::SEGMENTS_PER_SLOT)), and of guests whose memory was found to be slow by far
//! fewer ([`SEGMENTS_SLOW_MAX`](palisade_block::limits::SEGMENTS_SLOW_MAX)).

use crate::reactor::Reactor;
use palisade_block::limits::{STEP_LONG, TOUCHES_UNSEEN_MAX, TURN_SUSPICIOUS};
use palisade_block::{Clock, Devices, Nanos, Segment, Stopwatch};

/// Places touched.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    /// Since the clock was looked at.
    unseen: u32,
    /// The turn, or the step if steps are timed, has been seen to be long.
    over: bool,
}

impl Touches {
    /// Counts those of one request, or of one operation.
    #[inline(always)]
    pub(crate) fn add(&mut self, segments: usize) {
        self.unseen = self.unseen.saturating_add(1 + segments as u32);
    }

    /// Whether the clock is to be looked at.
    #[inline(always)]
    pub(crate) fn are_many(&self) -> bool {
        self.unseen >= TOUCHES_UNSEEN_MAX
    }

    /// Whether no more is to be begun.
    #[inline(always)]
    pub(crate) fn are_over(&self) -> bool {
        self.over
    }

    /// Looks at the clocks, if there are any: what has been begun is submitted before.
    #[cold]
    #[inline(never)]
    pub(crate) fn look(&mut self, devices: &mut impl Devices, clocks: &Clocks, began: Nanos) {
        self.unseen = 0;
        devices.submit();
        self.over |= match &clocks.stopwatch {
            Some(stopwatch) => stopwatch.passed() >= STEP_LONG,
            None => clocks.has_turn_become_long(began),
        };
    }

    /// Another step begins.
    pub(crate) fn begin(&mut self) {
        self.over = false;
    }
}

/// What a reactor may ask for the time.
#[derive(Default)]
pub(crate) struct Clocks {
    /// Times the steps of each turn, while somebody wants to know.
    pub(crate) stopwatch: Option<Box<dyn Stopwatch>>,
    /// The clock by which turns begin.
    pub(crate) clock: Option<Box<dyn Clock>>,
}

impl Clocks {
    /// Whether a turn that began then has become long.
    pub(crate) fn has_turn_become_long(&self, began: Nanos) -> bool {
        let lasts = |clock: &dyn Clock| clock.now().since(began);
        self.clock
            .as_deref()
            .is_some_and(|clock| lasts(clock) > TURN_SUSPICIOUS)
    }
}

impl<S, D: Devices, P> Reactor<S, D, P> {
    /// Has turns end early that become long, by the clock by which they are told when they begin. Without one, turns do what
    /// there is to do.
    pub fn bound_turns(&mut self, clock: Box<dyn Clock>) {
        self.clocks.clock = Some(clock);
    }

    /// Whether no more is to be begun in this turn, or this step of it, which is looked at when there is reason to.
    #[inline]
    pub(crate) fn has_touched_enough(&mut self) -> bool {
        if self.touches.are_many() {
            self.touches.look(&mut self.devices, &self.clocks, self.now);
        }
        self.touches.are_over()
    }

    /// The same of a whole turn, whether its steps are timed or not.
    #[inline]
    pub(crate) fn has_turn_touched_enough(&mut self) -> bool {
        if !self.touches.are_many() {
            return false;
        }
        self.touches.look(&mut self.devices, &self.clocks, self.now);
        self.clocks.has_turn_become_long(self.now)
    }
}

/// How many of the segments hold `bytes` bytes from byte `skip` on, which lies in the first.
pub(crate) fn count(segments: &[Segment], skip: u64, bytes: u64) -> usize {
    let mut left = skip.saturating_add(bytes);
    let holds = |segment: &&Segment| {
        let before = left;
        left = left.saturating_sub(segment.bytes() as u64);
        before > 0
    };
    segments.iter().take_while(holds).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_up_to_the_last_byte() {
        let three = [Segment::EMPTY; 3];
        assert_eq!(count(&three, 0, 0), 0);
        let words = (0..3 * 64).map(|_| std::sync::atomic::AtomicU64::new(0));
        let lease = palisade_block::Lease::of_words(words.collect());
        let first = lease.regions()[0].address();
        let three = [0, 1, 2].map(|at| lease.segment(first + at * 512, 512).expect("in its memory"));
        for (skip, bytes, segments) in [
            (0, 0, 0),
            (0, 1, 1),
            (0, 512, 1),
            (0, 513, 2),
            (511, 1, 1),
            (511, 2, 2),
            (1, 1023, 2),
            (1, 1024, 3),
            (0, 1536, 3),
            (u64::MAX, 1, 3),
        ] {
            assert_eq!(count(&three, skip, bytes), segments, "{bytes} from {skip} on");
        }
    }

    #[test]
    fn so_many_places_are_many() {
        let most = TOUCHES_UNSEEN_MAX as usize;
        for (segments, many) in [(most - 2, false), (most - 1, true)] {
            let mut touches = Touches::default();
            touches.add(segments);
            assert_eq!(touches.are_many(), many, "{segments} segments of one request");
        }
    }
}
