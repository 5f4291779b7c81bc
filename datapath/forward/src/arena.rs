//! Buffers for payloads: what is written elsewhere is copied into one before it is sent, so that it stays as it is however often
//! it has to be sent and whatever a guest does to its memory; what arrives to be written, and what was read to be answered with,
//! lies in one.

use palisade_block::{Lease, Segment};
use palisade_port::BufferIndex;
use palisade_words::MemoryId;

/// Bytes of one buffer, which is the longest operation that goes to another node in one piece.
pub const PAYLOAD_BUFFER_BYTES: u32 = 128 << 10;

/// Buffers of one size.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: MemoryId,
    buffers: Box<[Segment]>,
    is_free: Box<[bool]>,
    free: Vec<u32>,
}

impl Arena {
    /// How many find room in memory.
    pub(crate) fn count(lease: &Lease) -> usize {
        segments(lease).count()
    }

    /// As many as find room in each region of memory that the devices keep.
    pub(crate) fn new(lease: &Lease, memory: MemoryId) -> Arena {
        let buffers: Box<[Segment]> = segments(lease).collect();
        let all = 0..buffers.len() as u32;
        Arena {
            memory,
            is_free: vec![true; buffers.len()].into(),
            free: all.rev().collect(),
            buffers,
        }
    }

    /// As what the devices keep it.
    pub(crate) fn memory(&self) -> MemoryId {
        self.memory
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.buffers.len()
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.buffers.len() - self.free.len()
    }

    /// Takes one.
    pub(crate) fn take(&mut self) -> Option<BufferIndex> {
        let index = self.free.pop()?;
        if let Some(is_free) = self.is_free.get_mut(index as usize) {
            *is_free = false;
        }
        Some(BufferIndex(index))
    }

    /// Gives one back.
    ///
    /// # Panics
    /// When it is not in use: two would write to it.
    pub(crate) fn give(&mut self, buffer: BufferIndex) {
        let is_free = self.is_free.get_mut(buffer.0 as usize);
        let was_taken = is_free.is_some_and(|is_free| !std::mem::replace(is_free, true));
        assert!(was_taken, "payload buffer {} is given back twice", buffer.0);
        self.free.push(buffer.0);
    }

    /// The first bytes of one: not more than it has.
    pub(crate) fn segment(&self, buffer: BufferIndex, bytes: u32) -> Segment {
        let whole = self.buffers.get(buffer.0 as usize).copied().unwrap_or_default();
        assert!(
            bytes as usize <= whole.bytes(),
            "a payload of {bytes} bytes in a buffer of {}",
            whole.bytes()
        );
        whole.first(bytes as usize)
    }
}

fn segments(lease: &Lease) -> impl Iterator<Item = Segment> {
    let bytes = PAYLOAD_BUFFER_BYTES as usize;
    lease.regions().iter().flat_map(move |region| {
        let skips = (0..region.bytes() / bytes).map(move |at| at * bytes);
        skips.filter_map(move |skip| region.part(skip, bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn a_buffer_is_taken_by_one_and_given_back_once() {
        let words: Arc<[AtomicU64]> = (0..40 << 10).map(|_| AtomicU64::new(0)).collect();
        let mut arena = Arena::new(&Lease::of_words(words), MemoryId(3));
        assert_eq!((arena.len(), arena.memory()), (2, MemoryId(3)));
        let (one, two) = (arena.take().unwrap(), arena.take().unwrap());
        assert_eq!((one, two, arena.take()), (BufferIndex(0), BufferIndex(1), None));
        let (first, second) = (arena.segment(one, 512), arena.segment(two, PAYLOAD_BUFFER_BYTES));
        assert_eq!(second.address() - first.address(), PAYLOAD_BUFFER_BYTES as usize);
        assert_eq!(first.bytes(), 512);
        arena.give(one);
        assert_eq!(arena.take(), Some(one));
        arena.give(two);
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| arena.give(two)));
        assert!(again.is_err(), "given back twice");
    }
}
