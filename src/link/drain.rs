//! Draining of a list whose elements must all be handled, also if handling one of them panics.

use std::vec::Drain;

/// Removes all elements of `list` and calls `execute` for each in order. If a call panics, the panic continues after
/// `after_panic` was called for each remaining element. `after_panic` must not panic: that would abort the process.
pub(super) fn drain_despite_panic<T>(
    list: &mut Vec<T>,
    mut execute: impl FnMut(T),
    after_panic: impl FnMut(T),
) {
    let mut batch = Batch { remaining: list.drain(..), after_panic };
    for element in batch.remaining.by_ref() {
        execute(element);
    }
}

/// Elements of a list that is being drained. Dropping the batch calls `after_panic` for those that remain, which are
/// none unless handling an earlier element has panicked.
struct Batch<'a, T, F: FnMut(T)> {
    /// The elements that were not handled yet.
    remaining: Drain<'a, T>,
    /// Called with each element that remains when handling an earlier one has panicked.
    after_panic: F,
}

impl<T, F: FnMut(T)> Drop for Batch<'_, T, F> {
    fn drop(&mut self) {
        self.remaining.by_ref().for_each(&mut self.after_panic);
    }
}
