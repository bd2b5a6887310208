use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Everything of one kind that is there, by the number of its coming.
///
/// Whoever samples ten times a second keeps a list of its own and asks only for what came since: to look through ten
/// thousand entries again would cost more than to read their counters. One lock, because a place is taken and left once
/// in the life of a stream, and because with numbers given under several of them a sampler could miss one that was
/// given before a larger one was entered.
#[derive(Debug)]
pub(super) struct Register<T>(Mutex<Places<T>>);

#[derive(Debug)]
struct Places<T> {
    next: u64,
    taken: BTreeMap<u64, Arc<T>>,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self(Mutex::new(Places { next: 0, taken: BTreeMap::new() }))
    }
}

impl<T> Register<T> {
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
        let (register, mut seen) = (Register::default(), 0);
        let news = |seen: &mut u64| {
            let mut news = Vec::new();
            register.since(seen, |_, there| news.push(**there));
            news
        };
        let first = register.enter(Arc::new('a'));
        register.enter(Arc::new('b'));
        assert_eq!((news(&mut seen), news(&mut seen)), (vec!['a', 'b'], vec![]));
        register.leave(first);
        let gone = register.enter(Arc::new('c'));
        register.enter(Arc::new('d'));
        register.leave(gone);
        assert_eq!((news(&mut seen), register.len()), (vec!['d'], 2));
        assert_eq!(news(&mut 0), ['b', 'd']);
    }
}
