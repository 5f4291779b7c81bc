//! How often a connection was refused, and why.

use crate::join::JoinVerdict;
use crate::link_error::LinkError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts refusals by their code, over the life of the process, and machines that were not let in. Shared between connections.
#[derive(Debug, Default)]
pub struct RefusalCounters {
    counts: [AtomicU64; LinkError::CODES.len()],
    joins: AtomicU64,
}

impl RefusalCounters {
    /// Counts one.
    pub fn count(&self, error: &LinkError) {
        let place = LinkError::CODES.iter().position(|code| *code == error.code());
        if let Some(count) = place.and_then(|place| self.counts.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a machine that was not let in, or a node that got no new certificate: tokens that are tried out show here.
    pub fn count_join(&self, _verdict: &JoinVerdict) {
        self.joins.fetch_add(1, Ordering::Relaxed);
    }

    /// Each code with how often it was counted; those of joining as `join_refused`.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let joins = ("join_refused", self.joins.load(Ordering::Relaxed));
        LinkError::CODES.into_iter().zip(counts).chain([joins])
    }
}
