use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::ids::Rate;

/// What may pass at once after a pause, as the time in which it comes together. It makes up for timers that are late;
/// what a user gets above its rate is never more than this.
pub(super) const BURST: Duration = Duration::from_millis(100);

/// What is bought at once, at the most: what is read and written at once without a limit.
const LARGEST: u64 = 64 * 1024;

/// Below this the cost of a turn, which is a timer and a system call, shows; smaller turns are for slow rates.
const SMALL: u64 = 4096;

/// One direction of one limit, without a clock: a token bucket, kept as the time at which it will be full again.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Changes with the rate: what was bought before is void.
    epoch: AtomicU64,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    rate: Option<Rate>,
    full_at: Instant,
}

/// What a purchase comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reservation {
    /// Under which rate; see [`Bucket::epoch`].
    pub(super) epoch: u64,
    /// When it may be used. It may lie before now.
    pub(super) at: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(now: Instant) -> Self {
        Self { epoch: AtomicU64::new(0), state: Mutex::new(BucketState { rate: None, full_at: now }) }
    }

    /// Sets another rate, and says which was before. It begins empty: setting one again and again gives nothing away.
    pub(super) fn set(&self, rate: Option<Rate>, now: Instant) -> Option<Rate> {
        let mut state = self.state.lock();
        self.epoch.fetch_add(1, Relaxed);
        state.full_at = now + BURST;
        std::mem::replace(&mut state.rate, rate)
    }

    /// What a purchase must have been made under to be good still.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// How much should be bought at once, if there is a limit: enough to be worth its cost, and so little that a
    /// queue of streams moves on quickly.
    pub(super) fn turn(&self) -> Option<u64> {
        let rate = self.state.lock().rate?.bytes_per_second();
        Some((rate / 640).max(SMALL.min(rate / 20)).clamp(1, LARGEST))
    }

    /// Buys `bytes`, behind all who did before.
    pub(super) fn buy(&self, bytes: u64, now: Instant) -> Reservation {
        let mut state = self.state.lock();
        let epoch = self.epoch.load(Relaxed);
        let Some(rate) = state.rate else { return Reservation { epoch, at: None } };
        state.full_at = state.full_at.max(now) + time_for(bytes, rate);
        let wait = state.full_at.saturating_duration_since(now).saturating_sub(BURST);
        Reservation { epoch, at: Some(now + wait) }
    }

    /// Gives back `bytes` that were bought and not used.
    pub(super) fn give_back(&self, bytes: u64, epoch: u64) {
        let mut state = self.state.lock();
        if let Some(rate) = state.rate.filter(|_| epoch == self.epoch.load(Relaxed)) {
            let sooner = state.full_at.checked_sub(time_for(bytes, rate));
            state.full_at = sooner.unwrap_or(state.full_at);
        }
    }
}

fn time_for(bytes: u64, rate: Rate) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.bytes_per_second());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bucket(rate: u64, now: Instant) -> Bucket {
        let bucket = Bucket::new(now);
        bucket.set(Rate::new(rate), now);
        bucket
    }

    #[test]
    fn what_is_bought_comes_at_the_rate() {
        let begin = Instant::now();
        let bucket = bucket(1000, begin);
        for second in 1..=5 {
            let bought = bucket.buy(1000, begin);
            assert_eq!(bought.at, Some(begin + Duration::from_secs(second)));
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let begin = Instant::now();
        let bucket = bucket(1000, begin);
        let later = begin + Duration::from_secs(3600);
        assert_eq!(bucket.buy(100, later).at, Some(later), "100 ms of it are there at once");
        assert_eq!(bucket.buy(100, later).at, Some(later + Duration::from_millis(100)));
    }

    #[test]
    fn what_is_given_back_can_be_had_by_the_next() {
        let begin = Instant::now();
        let bucket = bucket(1000, begin);
        let first = bucket.buy(1000, begin);
        bucket.give_back(900, first.epoch);
        assert_eq!(bucket.buy(100, begin).at, Some(begin + Duration::from_millis(200)));
    }

    #[test]
    fn another_rate_begins_anew() {
        let begin = Instant::now();
        let bucket = bucket(1, begin);
        let slow = bucket.buy(1000, begin);
        assert_eq!(bucket.set(Rate::new(1000), begin), Rate::new(1));
        assert_ne!(bucket.epoch(), slow.epoch);
        bucket.give_back(1000, slow.epoch);
        assert_eq!(bucket.buy(1000, begin).at, Some(begin + Duration::from_secs(1)));
        bucket.set(None, begin);
        assert_eq!((bucket.buy(1000, begin).at, bucket.turn()), (None, None));
    }

    proptest! {
        /// However it is asked, however late whoever waits wakes up, and whatever is given back: in no time does more
        /// pass than the rate allows, beside one burst.
        #[test]
        fn no_more_than_the_rate_passes(
            rate in 1u64..10_000_000_000,
            asks in prop::collection::vec((1u64..100_000, 0u64..50_000_000, 0u64..3), 1..200),
        ) {
            let begin = Instant::now();
            let bucket = bucket(rate, begin);
            let (mut now, mut passed) = (begin, 0u64);
            for (bytes, late, part) in asks {
                let bought = bucket.buy(bytes, now);
                now = now.max(bought.at.unwrap()) + Duration::from_nanos(late);
                let used = bytes * part / 2;
                bucket.give_back(bytes - used, bought.epoch);
                passed += used;
                let allowed = rate as f64 * (now - begin + BURST).as_secs_f64();
                // Times are whole nanoseconds.
                prop_assert!(passed as f64 <= allowed * 1.000_001 + 400.0 * (1.0 + rate as f64 * 1e-9));
            }
        }

        #[test]
        fn a_turn_is_never_long(rate in 1u64..1_000_000_000_000) {
            let now = Instant::now();
            let turn = bucket(rate, now).turn().unwrap();
            prop_assert!((1..=LARGEST).contains(&turn));
            prop_assert!(turn == 1 || time_for(turn, Rate::new(rate).unwrap()) <= BURST);
        }
    }
}
