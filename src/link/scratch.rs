//! Lists whose allocation is reused, for work that runs once for every chunk.

#[cfg(test)]
mod tests;

use std::{cell::Cell, thread::LocalKey};

/// The largest capacity, in elements, that is kept for the next use unless a slot sets another. A list that a burst has
/// made longer is freed.
pub(super) const MAX_KEPT_CAPACITY: usize = 512;

/// Thread-local slot with the empty list that the next [`with_scratch`] uses. A list whose capacity exceeds `MAX_KEPT`
/// elements is freed after its use.
pub(super) struct Scratch<T, const MAX_KEPT: usize = MAX_KEPT_CAPACITY>(Cell<Vec<T>>);

impl<T, const MAX_KEPT: usize> Scratch<T, MAX_KEPT> {
    /// Creates a slot without an allocation.
    pub(super) const fn new() -> Self {
        Self(Cell::new(Vec::new()))
    }
}

/// Calls `work` with an empty list whose allocation is reused afterwards. A nested call for the same slot gets a new
/// list.
pub(super) fn with_scratch<T, R, const MAX_KEPT: usize>(
    slot: &'static LocalKey<Scratch<T, MAX_KEPT>>,
    work: impl FnOnce(&mut Vec<T>) -> R,
) -> R {
    let mut list = slot.with(|slot| slot.0.take());
    let result = work(&mut list);
    if let Some(list) = emptied(list, MAX_KEPT) {
        slot.with(|slot| slot.0.set(list));
    }
    result
}

/// Returns `list` without its elements for the next use, or `None` if its capacity exceeds `max_kept` elements.
pub(super) fn emptied<T>(mut list: Vec<T>, max_kept: usize) -> Option<Vec<T>> {
    list.clear();
    (list.capacity() <= max_kept).then_some(list)
}
