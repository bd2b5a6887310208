//! Mutexes of tables that every connection needs: nothing that takes time may happen while one is locked.
//!
//! While a thread holds the lock of such a table, all worker threads that need it wait, and with them every stream that
//! they serve. So under it no code may emit an event (which is formatted for the log), write a log line, make a system
//! call, wake a task or call a link; what follows from a change is collected, and executed after unlocking. Debug
//! builds, and so all tests, check this where it is likely to be violated: [`Telemetry::emit`](super::Telemetry::emit),
//! the functions of `link` that make system calls or wake tasks, and opening a port call [`assert_no_table_locked`]. In
//! a release build a [`TableMutex`] is a `parking_lot::Mutex` and nothing else.
//!
//! It is here because this is the lowest module that must not be called under such a lock.

#[cfg(test)]
mod tests;

use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};

/// Mutex around a table, under which no event is emitted and no system call is made.
#[derive(Debug, Default)]
pub struct TableMutex<T>(Mutex<T>);

impl<T> TableMutex<T> {
    /// Creates an unlocked mutex around `table`.
    pub const fn new(table: T) -> Self {
        Self(Mutex::new(table))
    }

    /// Locks the mutex, and blocks while another thread holds it.
    pub fn lock(&self) -> TableGuard<'_, T> {
        TableGuard { guard: self.0.lock(), _held: held::HeldTable::acquired() }
    }
}

/// Guard of a [`TableMutex`]; dropping it unlocks the mutex.
#[derive(Debug)]
pub struct TableGuard<'a, T> {
    /// The locked mutex.
    guard: MutexGuard<'a, T>,
    /// Counts the held lock for this thread in debug builds, until it is dropped.
    _held: held::HeldTable,
}

impl<T> Deref for TableGuard<'_, T> {
    type Target = T;

    /// Returns the protected table.
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for TableGuard<'_, T> {
    /// Returns the protected table.
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

/// Panics in debug builds if the current thread holds the lock of a table. Called by functions that emit an event, make
/// a system call or wake a task.
#[track_caller]
pub fn assert_no_table_locked() {
    held::assert_none();
}

/// Per-thread count of held locks. Release builds count nothing.
mod held {
    #[cfg(debug_assertions)]
    thread_local! {
        /// How many tables the current thread has locked.
        static HELD: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    /// One counted lock that the current thread holds; dropping it ends the count.
    #[derive(Debug)]
    pub(super) struct HeldTable(());

    impl HeldTable {
        /// Counts a lock that the current thread has acquired, until the returned value is dropped.
        pub(super) fn acquired() -> Self {
            #[cfg(debug_assertions)]
            HELD.set(HELD.get() + 1);
            Self(())
        }
    }

    #[cfg(debug_assertions)]
    impl Drop for HeldTable {
        fn drop(&mut self) {
            HELD.set(HELD.get() - 1);
        }
    }

    /// Panics in debug builds if the current thread holds the lock of a table.
    #[track_caller]
    pub(super) fn assert_none() {
        #[cfg(debug_assertions)]
        assert_eq!(HELD.get(), 0, "an event, a system call or a wake while the lock of a table is held");
    }
}
