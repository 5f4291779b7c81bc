//! What one queue has counted. One reactor writes, anyone reads.

use crate::split::Broken;
use palisade_block::stats::Count;

/// Counters of one queue. They live on when the queue is rebuilt.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Chains taken from the ring.
    pub taken: Count,
    /// Chains returned to the ring.
    pub returned: Count,
    /// Chains that were no valid request: answered with an error, or returned unanswered.
    pub malformed: Count,
    /// Of those, the ones without a usable status byte, returned with length 0.
    pub unanswerable: Count,
    /// Of those, the ones that were longer than a chain may be, or turned in a circle.
    pub too_long: Count,
    /// Descriptors followed of chains that had not the usual shape of a request, whatever came of them.
    pub followed: Count,
    /// Requests of unknown or not negotiated type.
    pub unsupported: Count,
    /// Requests that change a volume offered read-only.
    pub refused_writes: Count,
    /// Requests for the device id.
    pub get_id: Count,
    /// Requests found in flight when the queue was made, and carried out again.
    pub resubmitted: Count,
    /// Notifications sent.
    pub notified: Count,
    /// Notifications the driver did not want.
    pub suppressed: Count,
    /// Times the ring was found broken.
    pub broken: Count,
    /// What is wrong with the ring now, encoded; 0 for nothing.
    broken_now: Count,
}

impl QueueStats {
    /// Chains that ended without being carried out because of what they were: malformed, of a type that is not served,
    /// or changing a volume that is offered read-only.
    pub fn refused(&self) -> u64 {
        self.malformed.get() + self.unsupported.get() + self.refused_writes.get()
    }

    /// All counters by name, in a fixed order; the names are the label values of metrics.
    pub fn by_name(&self) -> [(&'static str, u64); 13] {
        [
            ("taken", self.taken.get()),
            ("returned", self.returned.get()),
            ("malformed", self.malformed.get()),
            ("unanswerable", self.unanswerable.get()),
            ("unsupported", self.unsupported.get()),
            ("refused_write", self.refused_writes.get()),
            ("get_id", self.get_id.get()),
            ("resubmitted", self.resubmitted.get()),
            ("notified", self.notified.get()),
            ("suppressed", self.suppressed.get()),
            ("broken", self.broken.get()),
            ("too_long", self.too_long.get()),
            ("followed", self.followed.get()),
        ]
    }

    /// Why nothing more is taken from the ring, until it is set up anew.
    pub fn broken_now(&self) -> Option<Broken> {
        Broken::decode(self.broken_now.get())
    }

    /// Remembers that the ring is broken, or that it is in order. Only the reactor that has the queue may.
    pub(crate) fn set_broken(&self, broken: Option<Broken>) {
        if broken.is_some() {
            self.broken.add(1);
        }
        self.broken_now.set(broken.map_or(0, Broken::encode));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_is_told_and_forgotten_with_the_next_ring() {
        let stats = QueueStats::default();
        assert_eq!(stats.broken_now(), None);
        for broken in [
            Broken::AvailJumped {
                avail_idx: 0,
                next_avail: u16::MAX,
            },
            Broken::AvailJumped {
                avail_idx: 5000,
                next_avail: 0,
            },
            Broken::HeadOutside { head: u16::MAX },
            Broken::HeadOutside { head: 0 },
            Broken::MemoryLost,
            Broken::NoPage,
        ] {
            stats.set_broken(Some(broken));
            assert_eq!(stats.broken_now(), Some(broken));
        }
        stats.set_broken(None);
        assert_eq!((stats.broken_now(), stats.broken.get()), (None, 6));
    }

    #[test]
    fn each_counter_goes_by_its_own_name() {
        let stats = QueueStats::default();
        let counters = [
            ("taken", &stats.taken),
            ("returned", &stats.returned),
            ("malformed", &stats.malformed),
            ("unanswerable", &stats.unanswerable),
            ("unsupported", &stats.unsupported),
            ("refused_write", &stats.refused_writes),
            ("get_id", &stats.get_id),
            ("resubmitted", &stats.resubmitted),
            ("notified", &stats.notified),
            ("suppressed", &stats.suppressed),
            ("broken", &stats.broken),
            ("too_long", &stats.too_long),
            ("followed", &stats.followed),
        ];
        for (place, (_, count)) in (0..).zip(&counters) {
            count.add(1 << place);
        }
        let expected = counters.map(|(name, count)| (name, count.get()));
        assert_eq!(stats.by_name(), expected);
        // What ended for what it was: malformed, unsupported, a change of what is read-only.
        assert_eq!(stats.refused(), 1 << 2 | 1 << 4 | 1 << 5);
    }
}
