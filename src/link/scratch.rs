//! Lists whose allocation is reused: one per thread and purpose, for work that runs once for every chunk.

use std::{cell::Cell, thread::LocalKey};

/// The largest capacity, in elements, that is kept for the next use. A list that a burst has made longer is freed.
const MAX_KEPT_CAPACITY: usize = 512;

/// Thread-local slot with the empty list that the next [`with_scratch`] uses.
pub(super) type Scratch<T> = Cell<Vec<T>>;

/// Calls `work` with an empty list whose allocation is reused afterwards. A nested call for the same slot gets a new
/// list.
pub(super) fn with_scratch<T, R>(
    slot: &'static LocalKey<Scratch<T>>,
    work: impl FnOnce(&mut Vec<T>) -> R,
) -> R {
    let mut list = slot.take();
    let result = work(&mut list);
    list.clear();
    if list.capacity() <= MAX_KEPT_CAPACITY {
        slot.set(list);
    }
    result
}
