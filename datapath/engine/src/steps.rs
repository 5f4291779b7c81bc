//! For whom a turn was kept waiting.
//!
//! What a reactor does for a queue touches that guest's memory: its ring, its data, and inside of a submission the pages
//! that the kernel takes hold of. Each such touch may be a page fault, and a front-end can make one last: a fault of a
//! page in a file in memory waits until the hole is there that somebody is just punching around it, about a second for a
//! GiB (`shmem_fault`, Linux 3.16 and later). All queues of the reactor wait with it.
//!
//! Nobody is told beforehand that a page will make us wait, and to look at a clock after each step would cost more than a
//! hundredth of the usual request. So steps are timed only while somebody wants to know, which is when turns have become
//! slow. A step is all that one turn does for one queue at a time; what it hands to the devices is submitted within it.

use crate::reactor::Reactor;
use palisade_block::limits::STALL_MIN;
use palisade_block::mailbox::Notice;
use palisade_block::{Devices, Nanos, Pool, Source, Stopwatch};
use std::mem;

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Has the steps of each turn timed from now on, or no longer: what keeps the thread waiting in one of them is told
    /// with the queue that it was done for ([`Notice::QueueStalled`]).
    pub fn time_steps(&mut self, stopwatch: Option<Box<dyn Stopwatch>>) {
        self.stopwatch = stopwatch;
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn turn_timed(&mut self, now: Nanos) -> usize {
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.start();
        }
        self.turn_as::<true>(now)
    }

    /// Asks the sources to notify, one step each; to do so twice changes nothing.
    #[cold]
    pub(crate) fn arm_timed(&mut self) {
        self.end_step_of_nobody();
        for position in 0..self.active.len() {
            if let Some(&index) = self.active.get(position)
                && let Some(Some(queue)) = self.queues.get_mut(index as usize)
            {
                queue.source.arm();
                self.end_step(index);
            }
        }
    }

    /// What was done since the last step was done for this queue, if steps are timed.
    #[inline]
    pub(crate) fn end_step(&mut self, index: u16) {
        if self.stopwatch.is_some() {
            self.note_step(index);
        }
    }

    #[cold]
    #[inline(never)]
    fn note_step(&mut self, index: u16) {
        // The kernel takes hold of the pages of what is submitted: not later, with what is others'.
        self.devices.submit();
        let Some(stopwatch) = &mut self.stopwatch else {
            return;
        };
        let waited = stopwatch.lap(STALL_MIN);
        if waited > Nanos(0)
            && let Some(Some(queue)) = self.queues.get_mut(index as usize)
        {
            let waited_us = u32::try_from(waited.0 / 1000).unwrap_or(u32::MAX);
            queue.waited_us = queue.waited_us.saturating_add(waited_us);
        }
    }

    /// It was done for no queue in particular.
    pub(crate) fn end_step_of_nobody(&mut self) {
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.lap(STALL_MIN);
        }
    }

    /// Tells what has been noted.
    pub(crate) fn tell_stalls(&mut self) {
        for queue in self.queues.iter_mut().flatten() {
            let waited = Nanos::from_micros(mem::take(&mut queue.waited_us).into());
            if waited > Nanos(0) {
                let queue = queue.id;
                self.notices.push_back(Notice::QueueStalled { queue, waited });
            }
        }
    }
}
