//! What several threads do without waiting for each other, in the orders that a scheduler may choose: shuttle runs them
//! one step at a time. Of two threads it tries every order, of three some thousands.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use shuttle::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

/// What `solo` takes from its own crate, as shuttle has it.
mod sync {
    use shuttle::sync::MutexGuard;
    pub(crate) use shuttle::sync::atomic::{AtomicBool, Ordering::SeqCst};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn is_locked(&self) -> bool {
            self.0.try_lock().is_err()
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }
}

#[path = "../src/link/flat_combining.rs"]
mod flat_combining;

use flat_combining::FlatCombiner;

/// So many threads each ask for something and see that it is done; the third one asks twice.
fn asked_for_is_done(threads: u32) {
    let (asked, solo) = (Arc::new(AtomicU32::new(0)), Arc::new(FlatCombiner::new(0)));
    let threads: Vec<_> = (0..threads)
        .map(|n| {
            let (asked, solo) = (asked.clone(), solo.clone());
            thread::spawn(move || {
                for _ in 0..1 + n / 2 {
                    asked.fetch_add(1, SeqCst);
                    solo.run(|done| {
                        *done = asked.load(SeqCst);
                        true
                    });
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut done = 0;
    // Looks, and changes nothing.
    solo.run(|at_the_end| {
        done = *at_the_end;
        true
    });
    assert_eq!(done, asked.load(SeqCst), "the last one went without seeing to it");
}

/// A flush that came while another was at its end was lost, if the note was taken back after the work.
#[test]
fn nothing_that_was_asked_for_stays_undone() {
    shuttle::check_dfs(|| asked_for_is_done(2), None);
    shuttle::check_pct(|| asked_for_is_done(3), 2_000, 4);
}

/// Whoever has seen a trace of the work, and then that nobody is at it, knows what came of it.
fn what_came_of_it_is_known() {
    let (begun, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let solo = Arc::new(FlatCombiner::new(()));
    let worker = {
        let (begun, done, solo) = (begun.clone(), done.clone(), solo.clone());
        thread::spawn(move || {
            solo.run(|()| {
                begun.store(1, SeqCst);
                done.store(1, SeqCst);
                true
            });
        })
    };
    if begun.load(SeqCst) == 1 && !solo.is_busy() {
        assert_eq!(done.load(SeqCst), 1, "nobody was at it, and it was not done");
    }
    worker.join().unwrap();
}

/// A channel's driver that reads the end of it while a writer is being told of a reset.
#[test]
fn nobody_at_it_means_that_it_is_done() {
    shuttle::check_dfs(what_came_of_it_is_known, None);
}
