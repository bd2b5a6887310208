//! Tries the orders in which a scheduler may run the threads that meet in flat combining: shuttle, a model checker,
//! runs them one step at a time. Of two threads it tries every order, of three some thousands.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use shuttle::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

/// The primitives that `flat_combining` takes from its sibling module, as shuttle provides them.
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

/// Lets `threads` threads each request work, the third one twice, and asserts that the last request was executed.
fn requested_work_is_executed(threads: u32) {
    let (requested, combiner) = (Arc::new(AtomicU32::new(0)), Arc::new(FlatCombiner::new(0)));
    let threads: Vec<_> = (0..threads)
        .map(|n| {
            let (requested, combiner) = (requested.clone(), combiner.clone());
            thread::spawn(move || {
                for _ in 0..1 + n / 2 {
                    requested.fetch_add(1, SeqCst);
                    combiner.run(|executed| {
                        *executed = requested.load(SeqCst);
                        true
                    });
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut executed = 0;
    // This work only reads the result.
    combiner.run(|at_end| {
        executed = *at_end;
        true
    });
    assert_eq!(executed, requested.load(SeqCst), "the last request was not executed");
}

/// A flush that was requested while another one was about to finish was lost if the request flag was cleared after the
/// work.
#[test]
fn no_requested_work_is_lost() {
    shuttle::check_dfs(|| requested_work_is_executed(2), None);
    shuttle::check_pct(|| requested_work_is_executed(3), 2_000, 4);
}

/// A thread that sees that the work has begun, and then that no thread executes it, sees its result.
fn result_is_visible_when_idle() {
    let (begun, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let combiner = Arc::new(FlatCombiner::new(()));
    let worker = {
        let (begun, done, combiner) = (begun.clone(), done.clone(), combiner.clone());
        thread::spawn(move || {
            combiner.run(|()| {
                begun.store(1, SeqCst);
                done.store(1, SeqCst);
                true
            });
        })
    };
    if begun.load(SeqCst) == 1 && !combiner.is_busy() {
        assert_eq!(done.load(SeqCst), 1, "no thread executes the work, and it is not done");
    }
    worker.join().unwrap();
}

/// A channel's driver that reads the end of its connection while another thread's write fails with a reset.
#[test]
fn an_idle_combiner_has_completed_the_work() {
    shuttle::check_dfs(result_is_visible_when_idle, None);
}

/// A thread requests work as often as it is left to the other thread.
fn repeated_request_is_carried_out() {
    let (wanted, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let combiner = Arc::new(FlatCombiner::new(()));
    let work = {
        let (wanted, done) = (wanted.clone(), done.clone());
        move || done.store(wanted.load(SeqCst), SeqCst)
    };
    let worker = {
        let (work, combiner) = (work.clone(), combiner.clone());
        thread::spawn(move || {
            combiner.run(|()| {
                work();
                true
            });
        })
    };
    wanted.store(1, SeqCst);
    while !combiner.run(|()| {
        work();
        true
    }) || combiner.is_busy()
    {
        thread::yield_now();
    }
    assert_eq!(done.load(SeqCst), 1, "the request was left to a thread that has yet to carry it out");
    worker.join().unwrap();
}

/// A driver that ends: what was queued last must have been flushed before its channel is removed.
#[test]
fn a_request_that_is_repeated_is_carried_out_before_the_thread_goes_on() {
    shuttle::check_pct(repeated_request_is_carried_out, 1_000, 3);
    shuttle::check_random(repeated_request_is_carried_out, 1_000);
}
