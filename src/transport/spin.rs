//! What a worker does before it sleeps.

use std::{
    cell::Cell,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    task::yield_now,
};

/// For how long a thread looks for more before it sleeps. To be woken from sleep takes about as long.
const SPIN: Duration = Duration::from_micros(50);

/// How many chances to spin are let pass after one that brought nothing: at first, and at most, having grown fourfold each
/// time.
const REST: (u32, u32) = (4, 1024);

thread_local! {
    static SPINNING: Spinning = const { Spinning::new() };
}

/// Whether this thread should look for more before it sleeps, as adaptive mutexes and `halt_poll_ns` of KVM do: only as
/// long as nearly always something comes within that time, so that it never costs more than what comes does.
#[derive(Debug)]
struct Spinning {
    /// How often bytes have come to this thread, and how often they had when it was about to sleep.
    came: Cell<u64>,
    seen: Cell<u64>,
    /// It looks for more just now.
    on: Cell<bool>,
    /// How many chances are let pass next time, and still are.
    rest: Cell<u32>,
    resting: Cell<u32>,
}

impl Spinning {
    const fn new() -> Self {
        Self {
            came: Cell::new(0),
            seen: Cell::new(0),
            on: Cell::new(false),
            rest: Cell::new(REST.0),
            resting: Cell::new(0),
        }
    }

    /// The thread has nothing to do. Whether to look for more.
    fn may_begin(&self) -> bool {
        let news = self.seen.replace(self.came.get()) != self.came.get();
        if !news || self.on.get() {
            return false;
        }
        match self.resting.get() {
            0 => true,
            left => {
                self.resting.set(left - 1);
                false
            }
        }
    }

    fn ended(&self, found: bool) {
        if found {
            self.rest.set(self.rest.get().saturating_sub(1).max(REST.0));
        } else {
            self.resting.set(self.rest.get());
            self.rest.set((self.rest.get() * 4).min(REST.1));
        }
    }
}

/// Bytes have come.
pub(super) fn note() {
    SPINNING.with(|spinning| spinning.came.set(spinning.came.get() + 1));
}

/// A runtime for one thread that spins before it sleeps.
///
/// # Errors
/// The system has no room for it.
pub(super) fn runtime() -> io::Result<Runtime> {
    let begin = Arc::new(Notify::new());
    let begins = begin.clone();
    let idle = move || {
        if SPINNING.with(Spinning::may_begin) {
            begins.notify_one();
        }
    };
    let runtime = Builder::new_current_thread().enable_all().on_thread_park(idle).build()?;
    // It ends with the runtime.
    drop(runtime.spawn(spin(begin)));
    Ok(runtime)
}

async fn spin(begin: Arc<Notify>) {
    loop {
        begin.notified().await;
        let before = SPINNING.with(|spinning| {
            spinning.on.set(true);
            spinning.came.get()
        });
        let since = Instant::now();
        let found = loop {
            // Whoever else has something to do on this processor does it first.
            thread::yield_now();
            // The runtime asks the kernel for news, without waiting, before it goes on here.
            yield_now().await;
            if SPINNING.with(|spinning| spinning.came.get()) != before {
                break true;
            }
            if since.elapsed() >= SPIN {
                break false;
            }
        };
        SPINNING.with(|spinning| {
            spinning.on.set(false);
            spinning.ended(found);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chances(spinning: &Spinning, many: u32, found: bool) -> u32 {
        let chance = |_: &u32| {
            spinning.came.set(spinning.came.get() + 1);
            let begins = spinning.may_begin();
            if begins {
                spinning.ended(found);
            }
            begins
        };
        (0..many).filter(chance).count() as u32
    }

    #[test]
    fn it_spins_as_long_as_more_comes() {
        let spinning = Spinning::new();
        assert_eq!(chances(&spinning, 1000, true), 1000);
    }

    #[test]
    fn it_hardly_spins_where_nothing_comes() {
        let spinning = Spinning::new();
        let spins = chances(&spinning, 100_000, false);
        assert!((90..150).contains(&spins), "{spins}");
        // And comes back to it once it is good again.
        chances(&spinning, REST.1, true);
        assert!(chances(&spinning, 1000, true) > 900);
    }

    #[test]
    fn a_thread_that_nothing_came_to_sleeps_at_once() {
        let spinning = Spinning::new();
        assert!(!spinning.may_begin());
        spinning.came.set(1);
        assert!(spinning.may_begin());
        assert!(!spinning.may_begin());
    }
}
