use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Everything of one kind that is there, by the number of its coming.
///
/// Whoever samples ten times a second keeps a list of its own and asks only for what came since: to look through ten
/// thousand entries again would cost more than to read their counters. One lock, because a place is taken and left once
/// in the life of a stream, and because with numbers given under several of them a sampler could miss one that was
/// given before a larger one was entered.
#[derive(Debug)]
pub(super) struct Registry<T>(Mutex<RegistryEntries<T>>);

#[derive(Debug)]
struct RegistryEntries<T> {
    next: u64,
    taken: BTreeMap<u64, Arc<T>>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self(Mutex::new(RegistryEntries { next: 0, taken: BTreeMap::new() }))
    }
}

impl<T> Registry<T> {
    /// Takes a place; the number is never given again.
    pub(super) fn enter(&self, new: Arc<T>) -> u64 {
        let mut places = self.0.lock();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, new);
        number
    }

    /// Leaves it.
    pub(super) fn leave(&self, number: u64) {
        // Whatever hangs on it is dropped after the lock.
        let _left = self.0.lock().taken.remove(&number);
    }

    /// Returns the entry with this number, if it is still registered.
    pub(super) fn get(&self, number: u64) -> Option<Arc<T>> {
        self.0.lock().taken.get(&number).cloned()
    }

    /// How many are there.
    pub(super) fn len(&self) -> usize {
        self.0.lock().taken.len()
    }

    /// Gives all that came at or after number `seen` and are still there, in that order, and moves `seen` on.
    pub(super) fn since(&self, seen: &mut u64, mut give: impl FnMut(u64, &Arc<T>)) {
        let places = self.0.lock();
        for (number, there) in places.taken.range(*seen..) {
            give(*number, there);
        }
        *seen = places.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_again_is_told_only_what_came_since() {
        let (registry, mut seen) = (Registry::default(), 0);
        let news = |seen: &mut u64| {
            let mut news = Vec::new();
            registry.since(seen, |_, there| news.push(**there));
            news
        };
        let first = registry.enter(Arc::new('a'));
        registry.enter(Arc::new('b'));
        assert_eq!((news(&mut seen), news(&mut seen)), (vec!['a', 'b'], vec![]));
        registry.leave(first);
        let gone = registry.enter(Arc::new('c'));
        registry.enter(Arc::new('d'));
        registry.leave(gone);
        assert_eq!((news(&mut seen), registry.len()), (vec!['d'], 2));
        assert_eq!(news(&mut 0), ['b', 'd']);
    }
}
