//! A reactor's bounce buffers: few, so that they run short.

use crate::finding::{Findings, Invariant};
use crate::memory::PlainArea;
use crate::rack::Rack;
use palisade_block::limits::BOUNCE_BYTES;
use palisade_block::{MemoryId, Pool, Segment};
use palisade_sys::counting_allocator::uncounted;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Where made-up addresses of pools begin; each reactor's lie [`POOL_STRIDE`] further on.
const POOL_BASE: usize = 0x7000_0000_0000;
const POOL_STRIDE: usize = 1 << 32;

/// The pool of one reactor.
#[derive(Debug)]
pub struct SimPool {
    reactor: u16,
    rack: Rc<RefCell<Rack>>,
    findings: Findings,
    free: Vec<usize>,
    given: Vec<usize>,
    out: Rc<Cell<usize>>,
}

impl SimPool {
    /// A pool of some buffers, registered with the rack.
    pub fn new(reactor: u16, buffers: usize, rack: Rc<RefCell<Rack>>, findings: Findings) -> SimPool {
        let base = POOL_BASE + usize::from(reactor) * POOL_STRIDE;
        let area = PlainArea::new(base, buffers * BOUNCE_BYTES);
        rack.borrow_mut().memories.register(reactor, MemoryId::POOL, area);
        SimPool {
            reactor,
            rack,
            findings,
            free: (0..buffers).map(|index| base + index * BOUNCE_BYTES).collect(),
            given: Vec::with_capacity(buffers),
            out: Rc::default(),
        }
    }

    /// How many buffers are in use, for a look from outside.
    pub fn out(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.out)
    }

    fn wrong(&self, what: &str) {
        self.findings.add(
            Invariant::DataPath,
            self.rack.borrow().now,
            format!("bounce buffers: {what}"),
        );
    }

    fn copy(&self, from: &[Segment], to: &[Segment], bytes: usize) {
        let rack = self.rack.borrow();
        let mut data = vec![0; bytes];
        let mut rest = &mut data[..];
        for segment in from {
            let (part, after) = rest.split_at_mut(segment.bytes.min(rest.len()));
            if !part.is_empty() && !rack.memories.read_any(self.reactor, segment.address, part) {
                self.findings.add(
                    Invariant::ForeignBytes,
                    rack.now,
                    format!("copied from {segment:?}"),
                );
            }
            rest = after;
        }
        let mut rest = &data[..];
        for segment in to {
            let (part, after) = rest.split_at(segment.bytes.min(rest.len()));
            if !part.is_empty() && !rack.memories.write_any(self.reactor, segment.address, part) {
                self.findings.add(
                    Invariant::ForeignBytes,
                    rack.now,
                    format!("copied to {segment:?}"),
                );
            }
            rest = after;
        }
    }

    fn inside(&self, buffer: Segment, bytes: usize) -> bool {
        let fits = self.given.contains(&buffer.address) && bytes <= BOUNCE_BYTES;
        if !fits {
            self.wrong("one is used that was not taken, or beyond its end");
        }
        fits
    }
}

impl Pool for SimPool {
    fn free(&self) -> usize {
        self.free.len()
    }

    fn take(&mut self) -> Option<Segment> {
        let address = self.free.pop()?;
        self.given.push(address);
        self.out.set(self.given.len());
        Some(Segment {
            address,
            bytes: BOUNCE_BYTES,
        })
    }

    fn give(&mut self, buffer: Segment) {
        match self.given.iter().position(|given| *given == buffer.address) {
            Some(index) => {
                self.given.swap_remove(index);
                self.free.push(buffer.address);
                self.out.set(self.given.len());
            }
            None => uncounted(|| self.wrong("one came back that had not been taken")),
        }
    }

    fn gather(&mut self, from: &[Segment], skip: u64, buffer: Segment, bytes: usize) {
        uncounted(|| {
            if self.inside(buffer, bytes) {
                self.copy(&after(from, skip), &[buffer], bytes);
            }
        });
    }

    fn scatter(&mut self, buffer: Segment, to: &[Segment], skip: u64, bytes: usize) {
        uncounted(|| {
            if self.inside(buffer, bytes) {
                self.copy(&[buffer], &after(to, skip), bytes);
            }
        });
    }

    fn zero(&mut self, buffer: Segment, bytes: usize) {
        uncounted(|| {
            if self.inside(buffer, bytes) {
                let rack = self.rack.borrow();
                rack.memories
                    .write_any(self.reactor, buffer.address, &vec![0; bytes]);
            }
        });
    }
}

/// The segments from `skip` bytes on.
fn after(segments: &[Segment], skip: u64) -> Vec<Segment> {
    let mut skip = skip as usize;
    let mut rest = Vec::new();
    for segment in segments {
        let cut = skip.min(segment.bytes);
        skip -= cut;
        if cut < segment.bytes {
            rest.push(Segment {
                address: segment.address + cut,
                bytes: segment.bytes - cut,
            });
        }
    }
    rest
}
