//! The registry of live users and streams.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

#[cfg(test)]
mod tests;

/// All live objects of one kind, by serial number.
///
/// A sampler that reads ten times a second keeps its own list and asks only for newer entries: walking ten thousand
/// entries again would cost more than reading their counters. There is one lock, because an entry is added and removed
/// once in the life of an object, and because with several locks a sampler could miss an entry whose number was
/// assigned before a larger one was inserted.
#[derive(Debug)]
pub(super) struct Registry<T>(Mutex<RegistryEntries<T>>);

/// The entries of a [`Registry`], and the next serial number.
#[derive(Debug)]
struct RegistryEntries<T> {
    /// The serial number that the next registered object gets.
    next_number: u64,
    /// The live entries, by serial number.
    by_number: BTreeMap<u64, Arc<T>>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self(Mutex::new(RegistryEntries { next_number: 0, by_number: BTreeMap::new() }))
    }
}

impl<T> Registry<T> {
    /// Adds an entry and returns its serial number, which is never used again.
    pub(super) fn insert(&self, entry: Arc<T>) -> u64 {
        let mut entries = self.0.lock();
        let number = entries.next_number;
        entries.next_number += 1;
        entries.by_number.insert(number, entry);
        number
    }

    /// Removes the entry with this serial number.
    pub(super) fn remove(&self, number: u64) {
        // The entry, and all that it owns, is dropped after the lock is released.
        let _removed = self.0.lock().by_number.remove(&number);
    }

    /// Returns the entry with this serial number, if it is still registered.
    pub(super) fn get(&self, number: u64) -> Option<Arc<T>> {
        self.0.lock().by_number.get(&number).cloned()
    }

    /// Returns the number of live objects.
    pub(super) fn len(&self) -> usize {
        self.0.lock().by_number.len()
    }

    /// Passes every entry whose serial number is at least `next` to `visit`, in ascending order, and advances `next`
    /// beyond all numbers assigned so far. `visit` runs under the registry's lock.
    pub(super) fn visit_since(&self, next: &mut u64, mut visit: impl FnMut(u64, &Arc<T>)) {
        let entries = self.0.lock();
        for (number, entry) in entries.by_number.range(*next..) {
            visit(*number, entry);
        }
        *next = entries.next_number;
    }
}
