//! How often a connection was refused, and why.

use crate::link_error::LinkError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts refusals by their code, over the life of the process. Shared between connections.
#[derive(Debug, Default)]
pub struct RefusalCounters {
    counts: [AtomicU64; LinkError::CODES.len()],
}

impl RefusalCounters {
    /// Counts one.
    pub fn count(&self, error: &LinkError) {
        let place = LinkError::CODES.iter().position(|code| *code == error.code());
        if let Some(count) = place.and_then(|place| self.counts.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each code with how often it was counted.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        LinkError::CODES.into_iter().zip(counts)
    }
}
