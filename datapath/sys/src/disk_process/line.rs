//! A queue from one thread to another that neither can leave in a state the other has to wait for: a thread that is
//! killed in the middle of putting something in has not put it in.

use crossbeam::utils::CachePadded;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// A bounded queue with one thread at each end.
pub(super) struct Line<T> {
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// How many were taken out, ever.
    taken: CachePadded<AtomicUsize>,
    /// How many were put in, ever.
    put: CachePadded<AtomicUsize>,
}

// SAFETY: a place is touched by the putting thread until `put` says that it is filled, and by the taking thread from
// then on until `taken` says that it is empty; that there is one of each is what `push` and `pop` demand.
unsafe impl<T: Send> Sync for Line<T> {}

impl<T> Line<T> {
    pub(super) fn new(places: usize) -> Line<T> {
        Line {
            places: (0..places)
                .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                .collect(),
            taken: CachePadded::default(),
            put: CachePadded::default(),
        }
    }

    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.load(Acquire) == self.put.load(Acquire)
    }

    /// Puts something in, or gives it back when there is no room.
    ///
    /// # Safety
    /// No other thread pushes meanwhile.
    pub(super) unsafe fn push(&self, value: T) -> Result<(), T> {
        let put = self.put.load(Relaxed);
        if put.wrapping_sub(self.taken.load(Acquire)) == self.places.len() {
            return Err(value);
        }
        let Some(place) = self.places.get(put % self.places.len()) else {
            return Err(value);
        };
        // SAFETY: the place is empty, and nobody looks at it before `put` is stored.
        unsafe { (*place.get()).write(value) };
        self.put.store(put.wrapping_add(1), Release);
        Ok(())
    }

    /// Takes out what has been in longest.
    ///
    /// # Safety
    /// No other thread pops meanwhile.
    pub(super) unsafe fn pop(&self) -> Option<T> {
        let taken = self.taken.load(Relaxed);
        if taken == self.put.load(Acquire) {
            return None;
        }
        let place = self.places.get(taken % self.places.len())?;
        // SAFETY: the place is filled, and nobody touches it before `taken` is stored.
        let value = unsafe { (*place.get()).assume_init_read() };
        self.taken.store(taken.wrapping_add(1), Release);
        Some(value)
    }
}

impl<T> Drop for Line<T> {
    fn drop(&mut self) {
        // SAFETY: whoever drops it is the only one left.
        while unsafe { self.pop() }.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comes_out_once_and_in_order() {
        let line = Line::new(8);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..5_000u64 {
                    let mut value = Box::new(number);
                    // SAFETY: only this thread pushes.
                    while let Err(back) = unsafe { line.push(value) } {
                        value = back;
                        std::thread::yield_now();
                    }
                }
            });
            for number in 0..5_000u64 {
                loop {
                    // SAFETY: only this thread pops.
                    match unsafe { line.pop() } {
                        Some(value) => break assert_eq!(*value, number),
                        None => std::thread::yield_now(),
                    }
                }
            }
        });
        assert!(line.is_empty());
    }
}
