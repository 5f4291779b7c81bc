//! For whom a turn took long.
//!
//! What a reactor does for a queue touches that guest's memory: its ring, its data, and inside of a submission the pages
//! that the kernel takes hold of. Each such touch may be a page fault, and a front-end can make one last: a fault of a
//! page in a file in memory waits until the hole is there that somebody is just punching around it, about a second for a
//! GiB (`shmem_fault`, Linux 3.16 and later); and a page that is not there has to be found and cleared, which takes long for
//! a hugepage. All queues of the reactor wait with it.
//!
//! Nobody is told beforehand what a page will cost, and to look at a clock after each step would cost more than a
//! hundredth of the usual request. So steps are timed only while somebody wants to know, which is when turns have become
//! slow. A step is all that one turn does for one queue at a time; what it hands to the devices is submitted within it.
//!
//! Then a step that becomes long ends with the request at which that is seen ([`touches`](crate::touches)), and its attachment rests for [`REST_TIMES`] as
//! long: nothing is taken from its queues, and what has been begun of its long requests waits. So whatever a guest's memory
//! costs, the others have most of the reactor's time, and nobody is accused of anything: a guest that touches fresh
//! hugepages is honest, and rests as well. Where no other attachment has a queue there is nobody to rest for.

use crate::reactor::Reactor;
use palisade_block::limits::{REST_MAX, REST_TIMES, SEGMENTS_PER_SLOT, SEGMENTS_SLOW_MAX, STEP_LONG};
use palisade_block::mailbox::Notice;
use palisade_block::{Devices, Lap, Nanos, Pool, Source, Stopwatch};
use palisade_words::AttachmentIndex;
use std::mem;

/// Long steps and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// Of this turn, and not told yet: the queue's place, and what its steps took.
    long: Vec<(u16, Lap)>,
    /// Attachments that rest, and until when.
    resting: Vec<(AttachmentIndex, Nanos)>,
}

impl Steps {
    fn add(&mut self, index: u16, lap: Lap) {
        match self.long.iter_mut().find(|(of, _)| *of == index) {
            Some((_, sum)) => {
                sum.held = sum.held.after(lap.held);
                sum.waited = sum.waited.after(lap.waited);
            }
            None => self.long.push((index, lap)),
        }
    }

    fn rest(&mut self, attachment: AttachmentIndex, until: Nanos) {
        match self.resting.iter_mut().find(|(of, _)| *of == attachment) {
            Some((_, before)) => *before = until.max(*before),
            None => self.resting.push((attachment, until)),
        }
    }

    pub(crate) fn begin_turn(&mut self, now: Nanos) {
        self.resting.retain(|(_, until)| *until > now);
    }

    /// Whether the attachment rests.
    pub(crate) fn has_rest(&self, attachment: AttachmentIndex) -> bool {
        self.resting.iter().any(|(of, _)| *of == attachment)
    }

    /// When the first rest ends.
    pub(crate) fn due(&self) -> Option<Nanos> {
        self.resting.iter().map(|(_, until)| *until).min()
    }
}

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Has the steps of each turn timed from now on, or no longer: one that takes long is told with the queue that it was
    /// done for ([`Notice::QueueStalled`]), whose attachment rests.
    pub fn time_steps(&mut self, stopwatch: Option<Box<dyn Stopwatch>>) {
        self.clocks.stopwatch = stopwatch;
        self.steps = Steps::default();
        for (_, queue) in self.queues.iter_mut() {
            queue.segments_max = SEGMENTS_PER_SLOT;
        }
    }

    /// Asks the sources to notify, one step each; to do so twice changes nothing.
    #[cold]
    pub(crate) fn arm_timed(&mut self) {
        self.end_step_of_nobody();
        for position in 0..self.active.len() {
            if let Some(&index) = self.active.get(position)
                && let Some(queue) = self.queues.get_mut(index)
            {
                queue.source.arm();
                self.end_step(index);
            }
        }
    }

    /// Whether nothing is to be taken from the queue just now. The backlog of one that is to stop is, as somebody waits for
    /// the queue.
    #[cold]
    pub(crate) fn rests_now(&self, index: u16) -> bool {
        let queue = self.queues.get(index);
        queue.is_some_and(|queue| !queue.stopping && self.steps.has_rest(queue.id.attachment))
    }

    /// What was done since the last step was done for this queue, if steps are timed.
    #[inline]
    pub(crate) fn end_step(&mut self, index: u16) {
        if self.clocks.stopwatch.is_some() {
            self.note_step(index);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_step(&mut self, index: u16) {
        // The kernel takes hold of the pages of what is submitted: not later, with what is others'.
        self.devices.submit();
        self.touches.begin();
        let stopwatch = self.clocks.stopwatch.as_mut();
        let lap = stopwatch.and_then(|stopwatch| stopwatch.lap(STEP_LONG));
        let Some(lap) = lap else { return };
        if let Some(queue) = self.queues.get(index) {
            let rest = Nanos(lap.held.0.saturating_mul(REST_TIMES)).min(REST_MAX);
            let attachment = queue.id.attachment;
            let is_alone = self
                .queues
                .iter()
                .all(|(_, other)| other.id.attachment == attachment);
            if !is_alone {
                self.steps.rest(attachment, lap.ended.after(rest));
            }
            self.steps.add(index, lap);
            for (_, queue) in self.queues.iter_mut() {
                if queue.id.attachment == attachment {
                    queue.segments_max = SEGMENTS_SLOW_MAX;
                }
            }
        }
    }

    /// It was done for no queue in particular.
    pub(crate) fn end_step_of_nobody(&mut self) {
        self.touches.begin();
        if let Some(stopwatch) = &mut self.clocks.stopwatch {
            stopwatch.lap(STEP_LONG);
        }
    }

    /// Tells what has been noted.
    pub(crate) fn tell_long_steps(&mut self) {
        for (index, Lap { held, waited, .. }) in mem::take(&mut self.steps.long) {
            if let Some(queue) = self.queues.get(index) {
                let queue = queue.id;
                self.notices
                    .push_back(Notice::QueueStalled { queue, held, waited });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: AttachmentIndex = AttachmentIndex(1);
    const OTHER: AttachmentIndex = AttachmentIndex(2);

    #[test]
    fn each_attachment_rests_until_its_longest_rest_ends() {
        let mut steps = Steps::default();
        assert_eq!(steps.due(), None);
        steps.rest(ONE, Nanos(10));
        steps.rest(ONE, Nanos(30));
        steps.rest(OTHER, Nanos(20));
        steps.rest(ONE, Nanos(25));
        assert_eq!(steps.due(), Some(Nanos(20)), "the first that ends");
        steps.begin_turn(Nanos(20));
        assert!(steps.has_rest(ONE) && !steps.has_rest(OTHER));
        assert_eq!(steps.due(), Some(Nanos(30)));
        steps.begin_turn(Nanos(30));
        assert!(!steps.has_rest(ONE));
    }

    #[test]
    fn what_the_long_steps_of_a_queue_took_is_told_as_one() {
        let lap = |held, waited| Lap {
            held: Nanos(held),
            waited: Nanos(waited),
            ended: Nanos(0),
        };
        let mut steps = Steps::default();
        steps.add(3, lap(10, 1));
        steps.add(4, lap(100, 50));
        steps.add(3, lap(7, 2));
        let told = steps.long.iter().map(|(of, lap)| (*of, lap.held.0, lap.waited.0));
        assert_eq!(told.collect::<Vec<_>>(), [(3, 17, 3), (4, 100, 50)]);
    }
}
