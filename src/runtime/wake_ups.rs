//! Counts how often a worker thread has woken up.

use std::cell::Cell;

thread_local! {
    /// How often the current thread has woken up.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Counts one more. For the runtime of a worker thread.
pub(super) fn record() {
    COUNT.set(COUNT.get() + 1);
}

/// Returns how often the current thread has woken up; 0 on a thread that is not a worker.
pub(crate) fn count() -> u64 {
    COUNT.get()
}
