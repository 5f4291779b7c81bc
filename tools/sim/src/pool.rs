//! A reactor's bounce buffers: few, so that they run short.

use crate::array::Array;
use crate::finding::{Findings, Invariant};
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::{Lease, Pool, Segment};
use palisade_memory::GuestMemory;
use palisade_sys::counting_allocator::uncounted;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// The pool of one reactor.
#[derive(Debug)]
pub struct SimPool {
    array: Rc<RefCell<Array>>,
    findings: Findings,
    memory: Arc<GuestMemory>,
    free: Vec<Segment>,
    given: Vec<Segment>,
    out: Rc<Cell<usize>>,
}

impl SimPool {
    /// A pool of some buffers, which the array knows of.
    ///
    /// # Panics
    /// When there is no memory for it.
    pub fn new(buffers: usize, array: Rc<RefCell<Array>>, findings: Findings) -> SimPool {
        let bytes = (buffers.max(1) * BOUNCE_BYTES) as u64;
        let Ok(memory) = GuestMemory::anonymous(&[(0, bytes)]) else {
            unreachable!("there is no memory for {buffers} bounce buffers");
        };
        array.borrow_mut().memories.learn(&memory);
        let buffer = |index: usize| memory.slice((index * BOUNCE_BYTES) as u64, BOUNCE_BYTES as u64);
        SimPool {
            array,
            findings,
            free: (0..buffers).filter_map(buffer).collect(),
            given: Vec::with_capacity(buffers),
            out: Rc::default(),
            memory,
        }
    }

    /// How many buffers are in use, for a look from outside.
    pub fn out(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.out)
    }

    fn wrong(&self, what: &str) {
        self.findings.add(
            Invariant::DataPath,
            self.array.borrow().now,
            format!("bounce buffers: {what}"),
        );
    }

    fn copy(&self, (lent, from): (&Lease, &[Segment]), (due, to): (&Lease, &[Segment]), bytes: usize) {
        let array = self.array.borrow();
        let mut data = vec![0; bytes];
        let mut rest = &mut data[..];
        for segment in from {
            let (part, after) = rest.split_at_mut(segment.bytes().min(rest.len()));
            if !part.is_empty() && !array.memories.read(lent, segment.address(), part) {
                self.findings.add(
                    Invariant::ForeignBytes,
                    array.now,
                    format!("copied from {segment:?}"),
                );
            }
            rest = after;
        }
        let mut rest = &data[..];
        for segment in to {
            let (part, after) = rest.split_at(segment.bytes().min(rest.len()));
            if !part.is_empty() && !array.memories.write(due, segment.address(), part) {
                self.findings.add(
                    Invariant::ForeignBytes,
                    array.now,
                    format!("copied to {segment:?}"),
                );
            }
            rest = after;
        }
    }

    fn inside(&self, buffer: Segment, bytes: usize) -> bool {
        let fits = self.given.contains(&buffer) && bytes <= BOUNCE_BYTES;
        if !fits {
            self.wrong("one is used that was not taken, or beyond its end");
        }
        fits
    }
}

impl Pool for SimPool {
    fn lease(&self) -> Lease {
        self.memory.lease().clone()
    }

    fn free(&self) -> usize {
        self.free.len()
    }

    fn take(&mut self) -> Option<Segment> {
        let buffer = self.free.pop()?;
        self.given.push(buffer);
        self.out.set(self.given.len());
        Some(buffer)
    }

    fn give(&mut self, buffer: Segment) {
        match self.given.iter().position(|given| *given == buffer) {
            Some(index) => {
                self.given.swap_remove(index);
                self.free.push(buffer);
                self.out.set(self.given.len());
            }
            None => uncounted(|| self.wrong("one came back that had not been taken")),
        }
    }

    fn gather(&mut self, lease: &Lease, from: &[Segment], skip: u64, buffer: Segment, bytes: usize) -> bool {
        uncounted(|| {
            if self.inside(buffer, bytes) {
                let own = self.memory.lease();
                self.copy((lease, &after(from, skip as usize)), (own, &[buffer]), bytes);
            }
        });
        true
    }

    fn scatter(&mut self, buffer: Segment, lease: &Lease, to: &[Segment], skip: u64, bytes: usize) -> bool {
        uncounted(|| {
            if self.inside(buffer, bytes) {
                let own = self.memory.lease();
                self.copy((own, &[buffer]), (lease, &after(to, skip as usize)), bytes);
            }
        });
        true
    }

    fn zero(&mut self, buffer: Segment, bytes: usize) {
        uncounted(|| {
            if self.inside(buffer, bytes) {
                let array = self.array.borrow();
                array
                    .memories
                    .write(self.memory.lease(), buffer.address(), &vec![0; bytes]);
            }
        });
    }
}

/// The segments from `skip` bytes on.
pub(crate) fn after(segments: &[Segment], mut skip: usize) -> Vec<Segment> {
    let mut rest = Vec::new();
    for segment in segments {
        let cut = skip.min(segment.bytes());
        skip -= cut;
        rest.extend(segment.part(cut, segment.bytes() - cut));
    }
    rest
}
