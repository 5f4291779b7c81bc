//! Virtqueues as REST and metrics show them: what the session says of each, and what was counted at its ring.

use super::View;
use crate::samples::sum;
use palisade_api as api;
use palisade_control::Offered;
use palisade_frontend::QueueReport;
use palisade_virtio::QueueStats;
use std::sync::Arc;

impl View<'_> {
    /// Requests that were not carried out because of what they asked: those that did not fit the volume, and those that
    /// were none already at the ring.
    pub(crate) fn refused(&self, offered: Option<&Offered>) -> u64 {
        let at_the_rings = self.queue_stats(offered);
        let at_the_rings = at_the_rings.iter().map(|stats| stats.refused()).sum::<u64>();
        sum(offered, |stats| stats.refused.get()) + at_the_rings
    }

    /// What was counted at the rings of an attachment, over all of them.
    pub(crate) fn ring_events(&self, offered: Option<&Offered>) -> Vec<(&'static str, u64)> {
        let mut events = QueueStats::default().by_name();
        for stats in self.queue_stats(offered).iter() {
            for (total, (_, count)) in events.iter_mut().zip(stats.by_name()) {
                total.1 += count;
            }
        }
        events.into()
    }

    fn queue_stats(&self, offered: Option<&Offered>) -> Arc<[Arc<QueueStats>]> {
        let report = offered.and_then(|offered| self.shared.door().report(offered.index));
        report.map(|report| report.queue_stats).unwrap_or_default()
    }
}

/// One virtqueue, as its session and its ring tell.
pub(super) fn queue((report, stats): (&QueueReport, &Arc<QueueStats>)) -> api::Queue {
    api::Queue {
        index: report.index,
        size: report.size,
        running: report.running,
        in_flight_tracked: !report.untracked,
        cannot_start: report.cannot_start.clone(),
        broken: stats.broken_now().map(|broken| broken.to_string()),
        malformed: stats.malformed.get(),
        unanswerable: stats.unanswerable.get(),
        unsupported: stats.unsupported.get(),
        refused_writes: stats.refused_writes.get(),
    }
}
