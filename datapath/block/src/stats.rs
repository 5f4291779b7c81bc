//! Counters and latency histograms. One reactor writes, anyone reads: plain relaxed loads and stores, no
//! read-modify-write, so that counting costs a reactor no bus lock.

use crate::device::Fault;
use crate::request::{Op, Status};
use crate::time::Nanos;
use palisade_words::AttachmentIndex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; only the owning reactor may.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// Takes away what was added before; only the owning reactor may.
    #[inline]
    pub fn sub(&self, less: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(less), Relaxed);
    }

    /// Replaces the value; only the owning reactor may.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Four buckets to each power of two of nanoseconds, from below 256 ns to above 68 s.
pub const LATENCY_BUCKETS: usize = 116;

/// A latency histogram with a relative error below 1/4.
#[derive(Debug)]
pub struct Latency {
    buckets: [Count; LATENCY_BUCKETS],
    sum_ns: Count,
}

impl Default for Latency {
    fn default() -> Self {
        Latency {
            buckets: std::array::from_fn(|_| Count::default()),
            sum_ns: Count::default(),
        }
    }
}

impl Latency {
    /// Counts one operation.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Counts `times` operations of the same latency.
    #[inline]
    pub fn record_many(&self, ns: u64, times: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(ns)) {
            bucket.add(times);
        }
        self.sum_ns.add(ns.wrapping_mul(times));
    }

    /// All buckets as (upper bound in ns, count); the last bound is `u64::MAX`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets
            .iter()
            .enumerate()
            .map(|(index, count)| (bound_of(index), count.get()))
    }

    /// The sum of all latencies in ns.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.get()
    }
}

/// The bucket that counts `ns`.
#[inline]
fn bucket_of(ns: u64) -> usize {
    if ns < 256 {
        return 0;
    }
    let exponent = 63 - ns.leading_zeros();
    let quarter = (ns >> (exponent - 2)) & 3;
    let index = 1 + (exponent as usize - 8) * 4 + quarter as usize;
    index.min(LATENCY_BUCKETS - 1)
}

/// The smallest latency that is too long for the bucket.
fn bound_of(index: usize) -> u64 {
    match index {
        0 => 256,
        index if index >= LATENCY_BUCKETS - 1 => u64::MAX,
        index => {
            let (exponent, quarter) = ((index - 1) / 4 + 8, (index - 1) as u64 % 4);
            (1u64 << exponent) + ((quarter + 1) << (exponent - 2))
        }
    }
}

/// What one reactor has done for one attachment.
#[derive(Debug, Default)]
pub struct AttachmentStats {
    /// Requests answered, by [`Op::kind`] and [`Status`].
    pub answered: [[Count; 3]; Op::KINDS],
    /// Bytes moved, by [`Op::kind`].
    pub bytes: [Count; Op::KINDS],
    /// Time from taking a request to its answer, by [`Op::kind`], of those whose time is known. The clock is read once a
    /// turn, so a request that is answered in the turn that took it has none: it would count as 0, which no request takes.
    pub latency: [Latency; Op::KINDS],
    /// Faults of devices, by [`Fault::kind`].
    pub faults: [Count; Fault::KINDS],
    /// Writes that had been answered well when a fault of a kind last came, by [`Fault::kind`].
    pub written_at_fault: [Count; Fault::KINDS],
    /// Requests that lay outside the volume, were misaligned or wrote to a read-only attachment.
    pub refused: Count,
    /// Requests whose start waited for the attachment's limit.
    pub throttled: Count,
    /// Operations that went through a bounce buffer.
    pub bounced: Count,
    /// Requests in flight now, of all its queues here.
    pub in_flight: Count,
    /// Those of them that are parked: on no device before somebody has decided about their volume, or about a fault.
    pub parked: Count,
    /// Time in ns for which its discards and write-zeroes were on kernel devices.
    pub ranges_ns: Count,
}

impl AttachmentStats {
    /// Counts good answers to requests of one kind, given in the turn in which they were taken.
    #[inline]
    pub fn answered_at_once(&self, op: Op, requests: u64, bytes: u64) {
        self.count(op, Status::Ok, requests, bytes, 0);
    }

    /// Counts an answer.
    #[inline]
    pub fn answered(&self, op: Op, status: Status, bytes: u64, ns: u64) {
        self.count(op, status, 1, bytes, ns);
    }

    /// Counts answers of the same kind, status and latency; the bytes are those of all. A time of 0 is none.
    #[inline]
    fn count(&self, op: Op, status: Status, requests: u64, bytes: u64, ns: u64) {
        let kind = op.kind();
        if let Some(count) = self.answered.get(kind).and_then(|by| by.get(status as usize)) {
            count.add(requests);
        }
        if let Some(count) = self.bytes.get(kind) {
            count.add(bytes);
        }
        if ns > 0
            && let Some(latency) = self.latency.get(kind)
        {
            latency.record_many(ns, requests);
        }
    }
}

/// What one reactor has done for one device.
#[derive(Debug, Default)]
pub struct DeviceStats {
    /// Operations finished.
    pub finished: Count,
    /// Faults, by [`Fault::kind`].
    pub faults: [Count; Fault::KINDS],
    /// Operations that had ended well when a fault of a kind last came, by [`Fault::kind`]: what has ended well since
    /// then tells whether the device works again.
    pub sound_at_fault: [Count; Fault::KINDS],
    /// Operations in flight now.
    pub in_flight: Count,
    /// Age in ns of the oldest operation in flight at the last look of the stall watch; 0 when none.
    pub oldest_ns: Count,
    /// Times the stall watch found the device past its deadline.
    pub stalls: Count,
    /// Discards and write-zeroes that kept it for long.
    pub slow_ranges: SlowRanges,
}

/// Discards and write-zeroes that took long on a device. Whoever waits for it is to know for whom.
#[derive(Debug, Default)]
pub struct SlowRanges {
    /// How often one was seen that takes long, or has.
    pub seen: Count,
    /// How long the last one takes, or has taken.
    pub last_ns: Count,
    /// Of which attachment that one is.
    pub of: Count,
}

impl SlowRanges {
    /// One of this attachment takes so long.
    #[cold]
    pub fn note(&self, attachment: AttachmentIndex, took: Nanos) {
        self.of.set(attachment.0.into());
        self.last_ns.set(took.0);
        self.seen.add(1);
    }
}

impl AttachmentStats {
    /// Counts a fault that a request met.
    #[cold]
    pub fn failed(&self, fault: Fault) {
        let kind = fault.kind();
        if let (Some(count), Some(mark)) = (self.faults.get(kind), self.written_at_fault.get(kind)) {
            count.add(1);
            mark.set(self.written());
        }
    }

    /// Writes answered well.
    pub fn written(&self) -> u64 {
        let of_kind = self.answered.get(Op::Write.kind());
        of_kind
            .and_then(|by| by.get(Status::Ok as usize))
            .map_or(0, Count::get)
    }
}

impl DeviceStats {
    /// Counts a fault of an operation that has been counted as finished.
    #[cold]
    pub fn failed(&self, fault: Fault) {
        let kind = fault.kind();
        if let (Some(count), Some(mark)) = (self.faults.get(kind), self.sound_at_fault.get(kind)) {
            count.add(1);
            mark.set(self.sound());
        }
    }

    /// Operations that have ended well.
    pub fn sound(&self) -> u64 {
        let failed: u64 = self.faults.iter().map(Count::get).sum();
        self.finished.get().saturating_sub(failed)
    }
}

/// What one reactor has done in all.
#[derive(Debug, Default)]
pub struct ReactorStats {
    /// Turns of the loop.
    pub turns: Count,
    /// Turns that found work.
    pub busy_turns: Count,
    /// Times it went to sleep.
    pub sleeps: Count,
    /// Slots in use now.
    pub slots_used: Count,
    /// Turns in which a queue had to wait because no slot was free.
    pub slots_short: Count,
    /// Bounce buffers in use now.
    pub buffers_used: Count,
    /// Waits of an operation for a bounce buffer, each counted once however often it is tried again.
    pub pool_short: Count,
    /// Requests parked now: on no device until somebody has decided about their volume.
    pub parked: Count,
    /// Times a device was stopped because it had refused this node.
    pub fenced_devices: Count,
    /// Commands on volumes that were older than what was known, and changed nothing.
    pub stale_commands: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_below_its_bound_and_not_below_the_bound_before() {
        for ns in (0..40).flat_map(|shift| [1u64 << shift, (1 << shift) + 1, (3 << shift) >> 1]) {
            let index = bucket_of(ns);
            assert!(ns < bound_of(index), "{ns} in {index}");
            if index > 0 {
                assert!(ns >= bound_of(index - 1), "{ns} in {index}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn an_answer_whose_time_is_not_known_is_counted_and_not_timed() {
        let stats = AttachmentStats::default();
        stats.answered_at_once(Op::Read, 3, 3 * 4096);
        stats.answered(Op::Read, Status::Ok, 4096, 0);
        stats.answered(Op::Read, Status::Ok, 4096, 700);
        let kind = Op::Read.kind();
        assert_eq!(stats.answered[kind][Status::Ok as usize].get(), 5);
        assert_eq!(stats.bytes[kind].get(), 5 * 4096);
        let timed: Vec<_> = stats.latency[kind]
            .buckets()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            (timed.len(), timed[0].1, stats.latency[kind].sum_ns()),
            (1, 1, 700)
        );
    }
}
