//! Memory of our own that the kernel is pointed at while an entry is in the ring. No Rust reference to it is there then: it is
//! reached by address, and made a reference only while nothing is outstanding.

use std::ptr::NonNull;

/// One value at an address of its own, which stays when this is moved.
#[derive(Debug)]
pub(super) struct Lent<T: ?Sized>(NonNull<T>);

impl<T: ?Sized> Lent<T> {
    pub(super) fn new(value: Box<T>) -> Lent<T> {
        Lent(NonNull::from(Box::leak(value)))
    }

    /// Where it is.
    #[inline]
    pub(super) fn pointer(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T: ?Sized> Drop for Lent<T> {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and goes with this, which its owner keeps while anything is outstanding.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
