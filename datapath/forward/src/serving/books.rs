//! What is there of another node's requests, for operators and for whoever checks it.

use super::{Serving, ServingCounters, Waits};
use palisade_block::Nanos;

impl Serving {
    pub(crate) fn counters(&self) -> &ServingCounters {
        &self.counters
    }

    /// How many wait for a mapping.
    pub(crate) fn held(&self) -> u32 {
        self.early.len() as u32
    }

    /// Since when the oldest of them does.
    pub(crate) fn held_since(&self) -> Option<Nanos> {
        let oldest = *self.early.front()?;
        let place = self.places.get(oldest as usize).copied().flatten()?;
        Some(place.since)
    }

    /// Changes that may land yet, as far as anybody knows.
    pub(crate) fn doubts(&self) -> u32 {
        self.doubts + self.unproved.len() as u32
    }

    /// Whether nothing of another node is here.
    pub(crate) fn is_idle(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Whether the books agree with themselves, and how many buffers are in use; what does not, in words.
    pub(crate) fn check(&self) -> Result<usize, String> {
        let in_use = || self.places.iter().flatten();
        let of = |state| in_use().filter(|place| place.state == state).count();
        let counted = (self.early.len(), self.short.len(), self.unproved.len());
        let found = (of(Waits::Early), of(Waits::Buffer), of(Waits::Proof));
        if counted != found || self.free.len() + in_use().count() != self.places.len() {
            return Err(format!(
                "requests of another node are counted as {counted:?}, and {found:?} are there; {} places are free",
                self.free.len()
            ));
        }
        let buffers = in_use().filter(|place| place.message.buffer.is_some());
        let reads = buffers.clone().filter(|place| place.is_read).count();
        match reads == self.read_buffers {
            true => Ok(buffers.count()),
            false => Err(format!(
                "{reads} reads have a buffer, {} are counted",
                self.read_buffers
            )),
        }
    }
}
