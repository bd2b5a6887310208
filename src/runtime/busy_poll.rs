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

/// For how long a thread looks for more before it sleeps: whoever sends it something then need not wake it. Half of this
/// gained less.
const SPIN: Duration = Duration::from_micros(100);

/// How many times as long as it works it may look for more. With 1 a round trip over loopback with little else gained half
/// as much.
const SHARE: u32 = 2;

/// What of that can be saved up.
const SAVED: Duration = Duration::from_millis(1);

/// Whoever keeps a processor for so long while this thread lets others go first has more to do than those that it serves,
/// who wait for it in turn: a compiler takes the whole of its slice, which is longer.
const HOGGED: Duration = Duration::from_millis(1);

/// For how long a thread does not look for more after that: at first, and the longest, as it doubles each time.
const SHY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

thread_local! {
    static BUSY_POLL_BUDGET: BusyPollBudget = const { BusyPollBudget::new() };
}

/// How this thread divides its time between working, looking for more and sleeping.
///
/// Looking costs what would be idle otherwise, as with `halt_poll_ns` of KVM and adaptive mutexes: whoever else has
/// something to do on this processor goes before. And it is in proportion to the work: a process that is hardly used hardly
/// looks, and none takes more than three times its processor time for it.
///
/// Where there is always somebody else, going last is dear: a thread that is woken goes before one that computes, one that
/// has yielded waits for that one's slice to end. HTTP requests beside two busy loops on two cores were answered at a fifth
/// of the rate so.
#[derive(Debug)]
struct BusyPollBudget {
    /// How often bytes have come.
    came: Cell<u64>,
    /// Since when it works.
    works: Cell<Option<Instant>>,
    /// For how long it may still look for more.
    credit: Cell<Duration>,
    /// Until when it does not look, and for how long at a time.
    shy: Cell<Option<(Instant, Duration)>>,
}

impl BusyPollBudget {
    const fn new() -> Self {
        Self {
            came: Cell::new(0),
            works: Cell::new(None),
            credit: Cell::new(Duration::ZERO),
            shy: Cell::new(None),
        }
    }

    /// There is something to do.
    fn begins_to_work(&self, now: Instant) {
        self.works.set(Some(now));
    }

    /// There is nothing to do. Whether to look for more before it sleeps.
    fn is_idle(&self, now: Instant) -> bool {
        // Without having worked since it looked last it sleeps.
        let Some(since) = self.works.take() else { return false };
        let credit = self.credit.get() + now.saturating_duration_since(since) * SHARE;
        self.credit.set(credit.min(SAVED));
        credit >= SPIN && self.shy.get().is_none_or(|(until, _)| now >= until)
    }

    /// Somebody else has kept the processor while it looked, which took so long.
    fn was_kept_waiting(&self, time: Duration, now: Instant) {
        let (first, longest) = SHY;
        let shy = self.shy.get().map_or(first, |(_, before)| (before * 2).min(longest));
        self.has_looked(time, false, now);
        self.shy.set(Some((now + shy, shy)));
    }

    /// It has looked for so long, and whether it found something.
    fn has_looked(&self, time: Duration, found: bool, now: Instant) {
        self.credit.set(self.credit.get().saturating_sub(time));
        self.shy.set(None);
        // Without that the time would count as work.
        self.works.set(found.then_some(now));
    }
}

/// Bytes have come.
pub(crate) fn record_activity() {
    BUSY_POLL_BUDGET.with(|spinning| spinning.came.set(spinning.came.get() + 1));
}

/// A runtime for one thread that spins before it sleeps.
///
/// # Errors
/// The system has no room for it.
pub(crate) fn runtime() -> io::Result<Runtime> {
    let begin = Arc::new(Notify::new());
    let begins = begin.clone();
    let idle = move || {
        if BUSY_POLL_BUDGET.with(|spinning| spinning.is_idle(Instant::now())) {
            begins.notify_one();
        }
    };
    let woken = || BUSY_POLL_BUDGET.with(|spinning| spinning.begins_to_work(Instant::now()));
    let runtime =
        Builder::new_current_thread().enable_all().on_thread_park(idle).on_thread_unpark(woken).build()?;
    // It ends with the runtime.
    drop(runtime.spawn(spin(begin)));
    Ok(runtime)
}

async fn spin(begin: Arc<Notify>) {
    loop {
        begin.notified().await;
        let came = BUSY_POLL_BUDGET.with(|spinning| spinning.came.get());
        let since = Instant::now();
        loop {
            // Whoever else has something to do on this processor does it first.
            let before = Instant::now();
            thread::yield_now();
            let now = Instant::now();
            if now - before >= HOGGED {
                BUSY_POLL_BUDGET.with(|spinning| spinning.was_kept_waiting(now - since, now));
                break;
            }
            // The runtime asks the kernel for news, without waiting, before it goes on here.
            yield_now().await;
            let now = Instant::now();
            let found = BUSY_POLL_BUDGET.with(|spinning| spinning.came.get()) != came;
            if found || now - since >= SPIN {
                BUSY_POLL_BUDGET.with(|spinning| spinning.has_looked(now - since, found, now));
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For how long a thread looks that a message comes to every `gap` for `rounds` rounds, each of which is `work`.
    fn looks(gap: Duration, work: Duration, rounds: u32) -> Duration {
        let (spinning, mut now, mut looked) = (BusyPollBudget::new(), Instant::now(), Duration::ZERO);
        for _ in 0..rounds {
            spinning.begins_to_work(now);
            now += work;
            if spinning.is_idle(now) {
                let found = gap < SPIN;
                let time = gap.min(SPIN);
                now += time;
                spinning.has_looked(time, found, now);
                looked += time;
                assert!(found || !spinning.is_idle(now), "it sleeps then");
            }
            now += gap;
        }
        looked
    }

    #[test]
    fn it_looks_in_proportion_to_its_work() {
        let micros = Duration::from_micros;
        // An answer comes at once: nobody ever sleeps.
        let near = looks(micros(15), micros(10), 10_000);
        assert!(near > micros(14) * 9_900, "{near:?}");
        // Nothing comes in time: it costs twice the work, and no more.
        let far = looks(micros(1000), micros(10), 10_000);
        assert!((micros(190_000)..=micros(200_000)).contains(&far), "{far:?}");
    }

    #[test]
    fn it_looks_less_and_less_often_where_another_takes_the_processor() {
        let spinning = BusyPollBudget::new();
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        // Whether it looks, having worked for a millisecond until then.
        let looks = |now: Instant| {
            spinning.begins_to_work(now - SAVED);
            spinning.is_idle(now)
        };
        assert!(looks(at(1)));
        spinning.was_kept_waiting(SPIN, at(3));
        assert!(!spinning.is_idle(at(13)), "that was no work");
        assert!(!looks(at(12)) && looks(at(13)));
        spinning.was_kept_waiting(SPIN, at(15));
        assert!(!looks(at(34)) && looks(at(35)));
        (0..10).for_each(|_| spinning.was_kept_waiting(SPIN, at(40)));
        assert!(!looks(at(1039)) && looks(at(1040)));
        // Once nobody did, it is as at first.
        spinning.has_looked(SPIN, false, at(1040));
        assert!(looks(at(1041)));
        spinning.was_kept_waiting(SPIN, at(1043));
        assert!(looks(at(1053)));
    }

    #[test]
    fn what_was_saved_up_is_soon_used_up() {
        let spinning = BusyPollBudget::new();
        let begin = Instant::now();
        spinning.begins_to_work(begin);
        let now = begin + Duration::from_secs(100);
        assert!(spinning.is_idle(now));
        spinning.has_looked(SAVED, true, now);
        assert!(!spinning.is_idle(now), "though it worked for minutes");
    }
}
