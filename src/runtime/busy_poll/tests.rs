//! Tests of when a thread busy-polls, with injected times.

use super::*;

/// Returns how long a thread busy-polls in total if it works for `work` in each of `rounds` rounds, and the next
/// message arrives `gap` after it becomes idle.
fn total_poll_time(gap: Duration, work: Duration, rounds: u32) -> Duration {
    let (budget, mut now, mut total) = (BusyPollBudget::new(), Instant::now(), Duration::ZERO);
    for _ in 0..rounds {
        budget.work_started(now);
        now += work;
        if budget.work_finished(now) {
            let has_received = gap < MAX_POLL_TIME;
            let poll_time = gap.min(MAX_POLL_TIME);
            now += poll_time;
            budget.poll_finished(poll_time, has_received, now);
            total += poll_time;
            assert!(has_received || !budget.work_finished(now), "the thread sleeps then");
        }
        now += gap;
    }
    total
}

#[test]
fn busy_polling_is_proportional_to_work() {
    let micros = Duration::from_micros;
    // Each response arrives at once: once the load was measured, the thread never sleeps.
    let near = total_poll_time(micros(15), micros(10), 10_000);
    assert!(near > micros(14) * 9_500, "{near:?}");
    // No response arrives in time: polling costs twice the work, and no more.
    let far = total_poll_time(micros(150), micros(50), 10_000);
    assert!((micros(950_000)..=micros(1_000_000)).contains(&far), "{far:?}");
    // Half of the work pays for a poll every second time.
    let seldom = total_poll_time(micros(100), micros(25), 10_000);
    assert!((micros(475_000)..=micros(500_000)).contains(&seldom), "{seldom:?}");
}

#[test]
fn a_thread_with_little_work_sleeps_at_once() {
    let (micros, none) = (Duration::from_micros, Duration::ZERO);
    // As many small messages, and as large bursts, as come close to the load that is polled for.
    assert_eq!(total_poll_time(micros(95), micros(10), 10_000), none);
    assert_eq!(total_poll_time(micros(2_100), micros(200), 1_000), none);
    // The pings of idle channels.
    assert_eq!(total_poll_time(micros(9_000), micros(40), 1_000), none);
    // The load is that of the last moments: a burst after a pause does not count with its own time only.
    let (budget, begin) = (BusyPollBudget::new(), Instant::now());
    let at = |millis| begin + Duration::from_millis(millis);
    budget.work_started(at(0));
    assert!(budget.work_finished(at(20)), "it has worked all the time");
    budget.poll_finished(MAX_POLL_TIME, false, at(20));
    budget.work_started(at(1_000));
    assert!(!budget.work_finished(at(1_005)));
}

#[test]
fn cpu_contention_doubles_the_backoff() {
    let budget = BusyPollBudget::new();
    let begin = Instant::now();
    let at = |millis| begin + Duration::from_millis(millis);
    // Whether the thread busy-polls after it has worked for a millisecond until `now`.
    let polls = |now: Instant| {
        budget.is_loaded.set(true);
        budget.load_measured_since.set(Some(now));
        budget.work_started(now - MAX_CREDIT);
        budget.work_finished(now)
    };
    assert!(polls(at(1)));
    budget.contention_met(MAX_POLL_TIME, at(3));
    assert!(!budget.work_finished(at(13)), "polling was no work");
    assert!(!polls(at(12)) && polls(at(13)));
    budget.contention_met(MAX_POLL_TIME, at(15));
    assert!(!polls(at(34)) && polls(at(35)));
    (0..10).for_each(|_| budget.contention_met(MAX_POLL_TIME, at(40)));
    assert!(!polls(at(1039)) && polls(at(1040)));
    // A poll without contention resets the backoff.
    budget.poll_finished(MAX_POLL_TIME, false, at(1040));
    assert!(polls(at(1041)));
    budget.contention_met(MAX_POLL_TIME, at(1043));
    assert!(polls(at(1053)));
}

#[test]
fn saved_credit_is_bounded() {
    let budget = BusyPollBudget::new();
    let begin = Instant::now();
    budget.work_started(begin);
    let now = begin + Duration::from_secs(100);
    assert!(budget.work_finished(now));
    budget.poll_finished(MAX_CREDIT, true, now);
    assert!(!budget.work_finished(now), "although it worked for minutes");
}
