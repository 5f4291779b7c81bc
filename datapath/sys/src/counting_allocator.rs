//! An allocator that counts: the proof that a piece of code does not allocate. Installed by the simulator, never by
//! the daemon.
//!
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Constant and without a destructor, so that reaching them never allocates.
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what one thread takes from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

// SAFETY: every call goes unchanged to the system's allocator, which keeps the contract of `GlobalAlloc`; the
// counting in between touches two thread-local cells and neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: `pointer` came from this allocator, that is from `System`, with this layout.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from this allocator, that is from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count() {
    // A thread on its way out has no cells any more; it is not being counted either.
    let _ = COUNTING.try_with(|counting| {
        if counting.get() {
            let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        }
    });
}

/// Runs `work` and tells how often this thread allocated or grew an allocation meanwhile.
pub fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    let outer = Switch::set(true);
    let result = work();
    drop(outer);
    (result, COUNT.get() - before)
}

/// Runs `work` without counting, inside of [`counted`]: for the parts of a test that stand in for a kernel.
pub fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let _outer = Switch::set(false);
    work()
}

/// Puts the switch back, on the way of a panic too.
struct Switch(bool);

impl Switch {
    fn set(on: bool) -> Switch {
        Switch(COUNTING.replace(on))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        COUNTING.set(self.0);
    }
}
