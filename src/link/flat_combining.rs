use super::sync::{AtomicBool, Mutex, SeqCst};

/// Work that one does at a time while nobody waits: who comes meanwhile leaves a note, and whoever is at it does it once
/// more. So nothing that was there when somebody [came](Self::run) stays undone, and no task is held up by another's
/// system call.
///
/// Every order in which two threads can meet here is tried in `tests/interleavings.rs`.
#[derive(Debug, Default)]
pub(super) struct FlatCombiner<T> {
    work: Mutex<T>,
    note: AtomicBool,
}

impl<T> FlatCombiner<T> {
    pub(super) fn new(work: T) -> Self {
        Self { work: Mutex::new(work), note: AtomicBool::new(false) }
    }

    /// Has the work done, here or by whoever is at it. `work` says whether it is done; where it is not, it has seen to it
    /// that somebody comes again, and notes are left to them.
    pub(super) fn run(&self, mut work: impl FnMut(&mut T) -> bool) {
        self.note.store(true, SeqCst);
        while self.note.load(SeqCst) {
            let Some(mut at_it) = self.work.try_lock() else { return };
            // Before the work, so that what is noted while it goes on is not taken for what it has seen.
            self.note.store(false, SeqCst);
            if !work(&mut at_it) {
                return;
            }
        }
    }

    /// Whether somebody is at it now.
    pub(super) fn is_busy(&self) -> bool {
        self.work.is_locked()
    }
}
