//! A small pool that is looked at from outside while a reactor owns it.

use super::MEMORY;
use palisade_block::{Lease, Pool, Segment};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// A pool of a few buffers that counts what passes.
#[derive(Debug)]
pub struct Buffers {
    pub free: Vec<Segment>,
    pub gathered: usize,
    pub scattered: usize,
    /// There is no page behind what is to be copied from or to.
    pub lacks_pages: bool,
    /// A clock, and how far each segment moves it on that is copied from or to.
    pub fresh: Option<(Rc<Cell<u64>>, u64)>,
}

impl Buffers {
    fn touch(&self, segments: &[Segment], skip: u64, bytes: usize) {
        let Some((now, takes)) = &self.fresh else { return };
        let (mut at, end) = (0, skip + bytes as u64);
        for segment in segments {
            let next = at + segment.bytes() as u64;
            if next > skip && at < end {
                now.set(now.get() + takes);
            }
            at = next;
        }
    }
}

impl Pool for Buffers {
    fn lease(&self) -> Lease {
        MEMORY.clone()
    }
    fn free(&self) -> usize {
        self.free.len()
    }
    fn take(&mut self) -> Option<Segment> {
        self.free.pop()
    }
    fn give(&mut self, buffer: Segment) {
        self.free.push(buffer);
    }
    fn gather(&mut self, lease: &Lease, from: &[Segment], skip: u64, _: Segment, bytes: usize) -> bool {
        self.touch(from, skip, bytes);
        assert!(lease.holds_all(from));
        self.gathered += bytes;
        !self.lacks_pages
    }
    fn scatter(&mut self, _: Segment, lease: &Lease, to: &[Segment], skip: u64, bytes: usize) -> bool {
        self.touch(to, skip, bytes);
        assert!(lease.holds_all(to));
        self.scattered += bytes;
        !self.lacks_pages
    }
    fn zero(&mut self, _: Segment, _: usize) {}
}

/// The same for both.
#[derive(Clone, Debug)]
pub struct BuffersRef(pub Rc<RefCell<Buffers>>);

impl Pool for BuffersRef {
    fn lease(&self) -> Lease {
        self.0.borrow().lease()
    }
    fn free(&self) -> usize {
        self.0.borrow().free()
    }
    fn take(&mut self) -> Option<Segment> {
        self.0.borrow_mut().take()
    }
    fn give(&mut self, buffer: Segment) {
        self.0.borrow_mut().give(buffer);
    }
    fn gather(&mut self, lease: &Lease, from: &[Segment], skip: u64, buffer: Segment, bytes: usize) -> bool {
        self.0.borrow_mut().gather(lease, from, skip, buffer, bytes)
    }
    fn scatter(&mut self, buffer: Segment, lease: &Lease, to: &[Segment], skip: u64, bytes: usize) -> bool {
        self.0.borrow_mut().scatter(buffer, lease, to, skip, bytes)
    }
    fn zero(&mut self, _: Segment, _: usize) {}
}
