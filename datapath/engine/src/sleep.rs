//! When a reactor has to be awake: what it is to be woken by, and when it has something to do in any case.

use crate::books::Owner;
use crate::reactor::Reactor;
use crate::resume::RESTS_TRIED;
use palisade_block::{Devices, Nanos, Pool, Source};

/// How long a sleeping reactor lets an operation rest whose device was busy. Usually a completion wakes it sooner.
pub const RETRY_AFTER: Nanos = Nanos::from_millis(1);

impl<S: Source, D: Devices, P: Pool> Reactor<S, D, P> {
    /// Asks every source to notify. True when one of them has work already, so that the reactor must not sleep.
    pub fn arm(&mut self) -> bool {
        self.armed = true;
        if self.clocks.stopwatch.is_some() {
            self.arm_timed();
        }
        let mut work = self.is_behind || self.books.lines.released() > 0;
        for &index in &self.active {
            let Some(queue) = self.queues.get_mut(index) else {
                continue;
            };
            // Of a queue that is to stop only the backlog is taken, whatever its ring holds.
            if !queue.source.arm() || (queue.stopping && (queue.leaving || queue.source.backlog() == 0)) {
                continue;
            }
            // A queue short of slots waits for a completion, which wakes the reactor: a device that hangs must not
            // keep it spinning.
            let Some(volume) = self.volumes.next_of(queue, &self.books) else {
                continue;
            };
            let owner = Owner { queue: index, volume };
            let carries_many = queue.settings.volume.is_none();
            let volume = self.volumes.of(&queue.settings, volume);
            let has_room =
                !volume.is_held() && self.books.room_for(owner, carries_many, volume.devices()) > 0;
            let is_paid = queue.stopping || queue.allowance.ready_at(&queue.settings.pace) <= self.now;
            work |= has_room && is_paid && !self.steps.has_rest(queue.id.attachment);
        }
        self.stats.sleeps.add(1);
        work
    }

    /// Tells every source that it is polled again, if it has been armed.
    #[inline]
    pub fn disarm(&mut self) {
        if self.armed {
            self.disarm_all();
        }
    }

    fn disarm_all(&mut self) {
        self.armed = false;
        for position in 0..self.active.len() {
            let Some(&index) = self.active.get(position) else {
                continue;
            };
            if let Some(queue) = self.queues.get_mut(index) {
                queue.source.disarm();
            }
            self.end_step(index);
        }
    }

    /// The moment at which a turn is due even if nothing wakes the reactor: a limit that runs out, an operation
    /// whose device was busy, or the stall watch while operations are in flight. `None` when nothing is due.
    pub fn due(&self) -> Option<Nanos> {
        let paced = self.active.iter().filter_map(|&index| {
            let queue = self.queues.get(index)?;
            let ready = queue.allowance.ready_at(&queue.settings.pace);
            (ready > self.now).then_some(ready)
        });
        // A device that was reported as stalled is looked at until it is reported as well again, also when nothing
        // is in flight any more.
        let stalled = || self.watched.iter().any(|(_, device)| device.stalled);
        let watch = (self.books.slots.requests_used() > 0 || stalled()).then_some(self.watch_next);
        // What rests waits for a completion, its limit or the end of a pause, unless there are more than one turn looks
        // at.
        let retries = self.books.lines.are_trying() || self.books.lines.resting() > RESTS_TRIED;
        let retry = retries.then(|| self.now.after(RETRY_AFTER));
        let ranges = self.books.ranges_due(self.now);
        let rested = self.steps.due().filter(|due| *due > self.now);
        let devices = self.devices.due();
        let mine = paced.chain(watch).chain(retry).chain(ranges);
        mine.chain(rested).chain(devices).min()
    }
}
