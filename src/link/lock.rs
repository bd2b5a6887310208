//! Mutexes with a rank that debug builds check, so that a wrong lock order fails an assertion instead of deadlocking.
//!
//! The rank of a [`RankedMutex`] is part of its type. A debug build counts for every thread how many locks of each
//! rank the thread holds; acquiring a lock while the thread holds one of the same or a higher rank panics. In a
//! release build a `RankedMutex` is a `parking_lot::Mutex` and nothing else. The order itself is documented in
//! [`super`].
//!
//! This module must not know what the locks protect.

#[cfg(test)]
mod tests;

use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};

use crate::telemetry::assert_no_table_locked;

/// Rank of the locks that are acquired before the link state: on the delivery half of one stream's endpoint, on a
/// channel's write queue, and on the notification of a link's owner.
const OUTER: usize = 0;

/// Rank of the lock on a link's state.
const LINK_STATE: usize = 1;

/// Rank of locks under which no other lock is acquired.
const LEAF: usize = 2;

/// Lock on the delivery half of an endpoint: acquired before the link state, never while the link state is locked.
pub(super) type DeliveryMutex<T> = RankedMutex<T, OUTER>;

/// Guard of a [`DeliveryMutex`].
pub(super) type DeliveryGuard<'a, T> = RankedGuard<'a, T, OUTER>;

/// Lock of a `FlatCombiner`: the flush lock of a channel, or the lock on the notification of a link's owner. It is only
/// tried, never blocked on, and not while the link state is locked.
pub(super) type CombinerMutex<T> = RankedMutex<T, OUTER>;

/// Lock on the state of a link.
pub(super) type LinkStateMutex<T> = RankedMutex<T, LINK_STATE>;

/// Lock that may be acquired while the link state is locked, and under which no other lock is acquired.
pub(super) type LeafMutex<T> = RankedMutex<T, LEAF>;

/// Guard of a [`LeafMutex`].
pub(super) type LeafGuard<'a, T> = RankedGuard<'a, T, LEAF>;

/// Mutex with a rank in the lock order.
#[derive(Debug, Default)]
pub(super) struct RankedMutex<T, const RANK: usize>(Mutex<T>);

impl<T, const RANK: usize> RankedMutex<T, RANK> {
    /// Creates an unlocked mutex around `value`.
    pub(super) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Locks the mutex, and blocks while another thread holds it. Panics in debug builds if the current thread already
    /// holds a lock of the same or a higher rank.
    #[track_caller]
    pub(super) fn lock(&self) -> RankedGuard<'_, T, RANK> {
        held::assert_none_from(RANK);
        let guard = self.0.lock();
        RankedGuard { guard, _held: held::HeldLock::acquired() }
    }

    /// Locks the mutex unless it is locked, and returns without blocking. Because it cannot deadlock, the current
    /// thread may hold another lock of the same rank; one of a higher rank still panics in debug builds.
    #[track_caller]
    pub(super) fn try_lock(&self) -> Option<RankedGuard<'_, T, RANK>> {
        held::assert_none_from(RANK + 1);
        let guard = self.0.try_lock()?;
        Some(RankedGuard { guard, _held: held::HeldLock::acquired() })
    }

    /// Returns whether any thread holds the lock now.
    pub(super) fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

/// Guard of a [`RankedMutex`]; dropping it unlocks the mutex.
#[derive(Debug)]
pub(super) struct RankedGuard<'a, T, const RANK: usize> {
    /// The locked mutex.
    guard: MutexGuard<'a, T>,
    /// Counts the held lock for this thread in debug builds, until it is dropped.
    _held: held::HeldLock<RANK>,
}

impl<T, const RANK: usize> Deref for RankedGuard<'_, T, RANK> {
    type Target = T;

    /// Returns the protected value.
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T, const RANK: usize> DerefMut for RankedGuard<'_, T, RANK> {
    /// Returns the protected value.
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Panics in debug builds if the current thread holds a link-state lock, a leaf lock, or the lock of a table of the
/// link's owner. Called by every function that makes a system call, wakes a task, encodes or decodes: none of these may
/// run while other threads wait for the lock.
#[track_caller]
pub(super) fn assert_link_state_unlocked() {
    assert_no_table_locked();
    held::assert_none_from(LINK_STATE);
}

/// Per-thread count of held locks. Release builds count nothing.
mod held {
    #[cfg(debug_assertions)]
    use std::cell::Cell;

    #[cfg(debug_assertions)]
    use super::LEAF;

    #[cfg(debug_assertions)]
    thread_local! {
        /// How many locks of each rank the current thread holds.
        static HELD_BY_RANK: Cell<[u32; LEAF + 1]> = const { Cell::new([0; LEAF + 1]) };
    }

    /// One counted lock of this rank that the current thread holds; dropping it ends the count.
    #[derive(Debug)]
    pub(super) struct HeldLock<const RANK: usize>(());

    impl<const RANK: usize> HeldLock<RANK> {
        /// Counts a lock of this rank that the current thread has acquired, until the returned value is dropped.
        pub(super) fn acquired() -> Self {
            #[cfg(debug_assertions)]
            change_count(RANK, 1);
            Self(())
        }
    }

    #[cfg(debug_assertions)]
    impl<const RANK: usize> Drop for HeldLock<RANK> {
        fn drop(&mut self) {
            change_count(RANK, -1);
        }
    }

    /// Adds `change` to the number of locks of this rank that the current thread holds.
    #[cfg(debug_assertions)]
    fn change_count(rank: usize, change: i32) {
        let mut counts = HELD_BY_RANK.get();
        counts[rank] = counts[rank].wrapping_add_signed(change);
        HELD_BY_RANK.set(counts);
    }

    /// Panics in debug builds if the current thread holds a lock of this or a higher rank.
    #[track_caller]
    pub(super) fn assert_none_from(rank: usize) {
        #[cfg(not(debug_assertions))]
        let _ = rank;
        #[cfg(debug_assertions)]
        {
            let held = HELD_BY_RANK.get();
            assert!(
                held[rank.min(held.len())..].iter().all(|&count| count == 0),
                "lock order violated: no lock of rank {rank} or higher may be held here, and this thread holds {held:?} \
                 by rank (0: delivery, flush or notification, 1: link state, 2: leaf)"
            );
        }
    }
}
