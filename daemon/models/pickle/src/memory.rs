//! Measures what a test allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts the bytes that this thread has allocated and not freed, and their maximum.
struct Counting;

thread_local! {
    static HELD: Cell<[usize; 2]> = const { Cell::new([0; 2]) };
}

// SAFETY: the system's allocator does all the work; the counting beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let [now, most] = HELD.get();
        let now = now.saturating_add(layout.size());
        HELD.set([now, most.max(now)]);
        // SAFETY: the caller's guarantees hold for this call too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let [now, most] = HELD.get();
        HELD.set([now.saturating_sub(layout.size()), most]);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that this thread holds at one time while it runs this, beyond what it holds before.
pub fn held(run: impl FnOnce()) -> usize {
    let [before, _] = HELD.get();
    HELD.set([before; 2]);
    run();
    HELD.get()[1] - before
}
