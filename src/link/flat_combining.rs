//! Flat combining: one thread at a time executes the work that all threads request, and no thread waits for another.
//!
//! This file must use the synchronisation primitives of its sibling module `sync` only: `tests/interleavings.rs`
//! compiles it with those of a model checker, and tries every order in which two threads can meet here.

use super::sync::{AtomicBool, Mutex, SeqCst};

/// Work on a `T` that one thread executes at a time and that a call never waits for.
///
/// A thread that requests the work while another executes it sets a flag and returns; the executing thread then
/// executes the work once more (flat combining, Hendler et al. 2010). So a request that was made is always carried
/// out, and no task is delayed by another task's system call. Flushing a channel's socket and notifying a link's
/// owner work this way.
#[derive(Debug, Default)]
pub(super) struct FlatCombiner<T> {
    /// The state that the work uses; locked while a thread executes the work.
    work: Mutex<T>,
    /// Whether the work was requested since its last execution began.
    is_requested: AtomicBool,
}

impl<T> FlatCombiner<T> {
    /// Creates a combiner around the state that the work uses. No work is requested.
    pub(super) fn new(work: T) -> Self {
        Self { work: Mutex::new(work), is_requested: AtomicBool::new(false) }
    }

    /// Requests the work, and executes it unless another thread is doing so, which then executes it again.
    ///
    /// `work` returns whether it is complete. If it returns false, it has arranged for a later call of `run`, and
    /// requests that arrived meanwhile are left to that call. Returns false if the request was left to another thread,
    /// which may have yet to begin: even if none [is busy](Self::is_busy), it may be about to begin. After true, the
    /// request was carried out once no thread is busy.
    pub(super) fn run(&self, mut work: impl FnMut(&mut T) -> bool) -> bool {
        self.is_requested.store(true, SeqCst);
        while self.is_requested.load(SeqCst) {
            let Some(mut target) = self.work.try_lock() else { return false };
            // Cleared before the work: a request that arrives while the work runs may have come too late to be seen
            // by it, and must cause another round.
            self.is_requested.store(false, SeqCst);
            if !work(&mut target) {
                return true;
            }
        }
        true
    }

    /// Returns whether a thread is executing the work now.
    pub(super) fn is_busy(&self) -> bool {
        self.work.is_locked()
    }
}
