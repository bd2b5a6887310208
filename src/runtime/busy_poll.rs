//! Busy-polling: before a worker thread sleeps, it polls its sockets for a bounded time.

#[cfg(test)]
mod tests;

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

use super::wake_ups;

/// How long a thread busy-polls before it sleeps. A sender whose bytes arrive in that time need not wake the thread.
/// Half of this gained less.
const MAX_POLL_TIME: Duration = Duration::from_micros(100);

/// How much busy-polling a thread may do, as a multiple of the time that it works. With 1, the round-trip time over
/// loopback with little other traffic improved half as much.
const POLL_TIME_PER_WORK_TIME: u32 = 2;

/// A thread busy-polls only while it works for at least 1 in this number of the time.
///
/// Below that there is no hurry that would be worth the processor time. A paced download of 500 Mbit/s and a thousand
/// requests per second keep a thread at work for a twentieth of the time, and busy-polling made the one cost a quarter
/// more and the other a twelfth. At 3 Gbit/s, where a thread works for a fifth of the time, busy-polling *saves* up to
/// a quarter, because the data is handled in larger portions; and a ping over loopback, which keeps a thread at work
/// for a quarter of the time, is answered sooner. The pings of a thousand idle channels would otherwise make a thread
/// poll for twice the time that they cost.
const WORK_TIME_SHARE: u32 = 8;

/// The time over which the share of work is measured.
const LOAD_INTERVAL: Duration = Duration::from_millis(10);

/// The most busy-polling time that a thread can save up.
const MAX_CREDIT: Duration = Duration::from_millis(1);

/// If another thread keeps the processor for this long while this one yields it, there is CPU contention: the other
/// thread is not one of the peers of this process, which wait for this one themselves. A compiler uses the whole of
/// its time slice, which is longer.
const CONTENTION_TIME: Duration = Duration::from_millis(1);

/// How long a thread does not busy-poll after the first CPU contention. Doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);

/// The longest time for which a thread does not busy-poll after CPU contention.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

thread_local! {
    /// The busy-polling budget of the current thread.
    static BUDGET: BusyPollBudget = const { BusyPollBudget::new() };
}

/// Decides when the current thread busy-polls before it sleeps.
///
/// Busy-polling uses processor time that would otherwise be idle, as `halt_poll_ns` of KVM and adaptive mutexes do:
/// every other thread that is ready on the processor runs first. It is proportional to the work, so that no process
/// takes more than three times its own processor time; and a thread that has little work does not poll at all.
///
/// Under CPU contention yielding is expensive: a thread that wakes up runs before one that computes, but one that has
/// yielded waits for the other's time slice to end. HTTP requests beside two busy loops on two cores were served at a
/// fifth of the rate. So a thread that meets contention stops busy-polling for a while.
#[derive(Debug)]
struct BusyPollBudget {
    /// How often bytes were received on this thread.
    receive_count: Cell<u64>,
    /// Since when the thread works; `None` after it has become idle.
    working_since: Cell<Option<Instant>>,
    /// When the current measurement of the thread's load began; `None` before the first.
    load_measured_since: Cell<Option<Instant>>,
    /// How long the thread has worked since then.
    work_time: Cell<Duration>,
    /// Whether the thread has worked for its [share](WORK_TIME_SHARE) of the last [`LOAD_INTERVAL`].
    is_loaded: Cell<bool>,
    /// How long the thread may still busy-poll before it has to work again.
    credit: Cell<Duration>,
    /// The backoff in force after CPU contention; `None` after a poll without contention.
    backoff: Cell<Option<PollBackoff>>,
}

/// A time without busy-polling after CPU contention.
#[derive(Debug, Clone, Copy)]
struct PollBackoff {
    /// When the thread may busy-poll again after CPU contention.
    until: Instant,
    /// The length of this backoff, which the next contention doubles.
    duration: Duration,
}

impl BusyPollBudget {
    /// Creates a budget without credit and without backoff.
    const fn new() -> Self {
        Self {
            receive_count: Cell::new(0),
            working_since: Cell::new(None),
            load_measured_since: Cell::new(None),
            work_time: Cell::new(Duration::ZERO),
            is_loaded: Cell::new(false),
            credit: Cell::new(Duration::ZERO),
            backoff: Cell::new(None),
        }
    }

    /// Records that the thread starts to work at `now`.
    fn work_started(&self, now: Instant) {
        self.working_since.set(Some(now));
    }

    /// Records that the thread has no work left at `now`, and adds credit for the work done. Returns whether to
    /// busy-poll before sleeping: the thread has to be loaded, and have credit, and no backoff may be in force.
    fn work_finished(&self, now: Instant) -> bool {
        // A thread that has not worked since its last poll sleeps.
        let Some(since) = self.working_since.take() else { return false };
        let work_time = now.saturating_duration_since(since);
        self.update_load(since, work_time, now);
        let credit = self.credit.get() + work_time * POLL_TIME_PER_WORK_TIME;
        self.credit.set(credit.min(MAX_CREDIT));
        self.is_loaded.get()
            && credit >= MAX_POLL_TIME
            && self.backoff.get().is_none_or(|backoff| now >= backoff.until)
    }

    /// Adds `work_time` that began at `since` and ended at `now` to the measurement of the load, and ends the
    /// measurement after [`LOAD_INTERVAL`].
    fn update_load(&self, since: Instant, work_time: Duration, now: Instant) {
        let measured_since = self.load_measured_since.get().unwrap_or(since);
        let total = self.work_time.get() + work_time;
        let elapsed = now.saturating_duration_since(measured_since);
        if elapsed < LOAD_INTERVAL {
            self.load_measured_since.set(Some(measured_since));
            self.work_time.set(total);
        } else {
            self.is_loaded.set(total * WORK_TIME_SHARE >= elapsed);
            self.load_measured_since.set(Some(now));
            self.work_time.set(Duration::ZERO);
        }
    }

    /// Records that busy-polling was ended by CPU contention at `now`, after `poll_time`. Starts the backoff, or
    /// doubles it.
    fn contention_met(&self, poll_time: Duration, now: Instant) {
        let previous = self.backoff.get().map(|backoff| backoff.duration);
        let duration = previous.map_or(FIRST_BACKOFF, |previous| (previous * 2).min(MAX_BACKOFF));
        self.poll_finished(poll_time, false, now);
        self.backoff.set(Some(PollBackoff { until: now + duration, duration }));
    }

    /// Records that busy-polling has ended at `now` without contention, after `poll_time`, and whether bytes were
    /// received, from `now` on. What follows from them is work.
    fn poll_finished(&self, poll_time: Duration, has_received: bool, now: Instant) {
        self.credit.set(self.credit.get().saturating_sub(poll_time));
        self.backoff.set(None);
        // If nothing was received, the time of the poll must not count as work.
        self.working_since.set(has_received.then_some(now));
    }
}

/// Records that bytes were received on this thread: a busy-poll has succeeded.
pub(crate) fn record_activity() {
    BUDGET.with(|budget| budget.receive_count.set(budget.receive_count.get() + 1));
}

/// Creates a runtime for one thread, which busy-polls before it sleeps if `busy_poll` is set.
///
/// # Errors
/// The system has no descriptors or memory for the runtime.
pub(super) fn runtime(busy_poll: bool) -> io::Result<Runtime> {
    if !busy_poll {
        return Builder::new_current_thread().enable_all().on_thread_unpark(wake_ups::record).build();
    }
    let start = Arc::new(Notify::new());
    let notify_start = start.clone();
    let on_park = move || {
        if BUDGET.with(|budget| budget.work_finished(Instant::now())) {
            notify_start.notify_one();
        }
    };
    let on_unpark = || {
        wake_ups::record();
        BUDGET.with(|budget| budget.work_started(Instant::now()));
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .on_thread_park(on_park)
        .on_thread_unpark(on_unpark)
        .build()?;
    // The task is not joined: it ends with the runtime, and touches nothing outside this module.
    drop(runtime.spawn(poll_when_notified(start)));
    Ok(runtime)
}

/// Task that busy-polls each time it is notified: it yields to the runtime, which polls the sockets without waiting,
/// until bytes are received, [`MAX_POLL_TIME`] has passed, or there is CPU contention.
async fn poll_when_notified(start: Arc<Notify>) {
    loop {
        start.notified().await;
        let count_before = BUDGET.with(|budget| budget.receive_count.get());
        let since = Instant::now();
        loop {
            // Threads that are ready on this processor run first.
            let before = Instant::now();
            thread::yield_now();
            let now = Instant::now();
            if now - before >= CONTENTION_TIME {
                BUDGET.with(|budget| budget.contention_met(now - since, now));
                break;
            }
            // The runtime polls the sockets, and runs the tasks that are ready, before it runs this task again.
            yield_now().await;
            let has_received = BUDGET.with(|budget| budget.receive_count.get()) != count_before;
            if has_received {
                BUDGET.with(|budget| budget.poll_finished(now - since, true, now));
                break;
            }
            let now = Instant::now();
            if now - since >= MAX_POLL_TIME {
                BUDGET.with(|budget| budget.poll_finished(now - since, false, now));
                break;
            }
        }
    }
}
