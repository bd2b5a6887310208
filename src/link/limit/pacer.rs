use std::time::Instant;

use super::{StreamRateLimits, bucket::Bucket};
use crate::ids::Direction;

/// One direction of one stream before its limits.
///
/// [`ask`](Self::ask), move at most as many bytes as it says, and tell how many [passed](Self::passed).
#[derive(Debug)]
pub(crate) struct Pacer {
    /// None where nothing is ever limited.
    limits: Option<StreamRateLimits>,
    direction: Direction,
    turn: Option<Grant>,
}

/// Bytes that were bought in every limit.
#[derive(Debug)]
struct Grant {
    bytes: u64,
    /// When all limits let them pass.
    at: Instant,
    epochs: [u64; StreamRateLimits::ALL],
}

impl Pacer {
    pub(crate) fn new(limits: Option<StreamRateLimits>, direction: Direction) -> Self {
        Self { limits, direction, turn: None }
    }

    /// Whether there is no need to ask.
    pub(crate) fn is_free(&self) -> bool {
        self.turn.is_none() && self.limits.as_ref().is_none_or(|limits| !limits.any())
    }

    /// How many of `wanted` bytes may pass now, or when to ask again.
    pub(crate) fn ask(&mut self, wanted: u64, now: Instant) -> Result<u64, Instant> {
        if self.turn.as_ref().is_some_and(|turn| !turn.is_good(self.buckets())) {
            self.passed(0);
        }
        if self.turn.is_none() {
            let Some(most) = self.buckets().filter_map(Bucket::turn).min() else { return Ok(wanted) };
            let (bytes, mut at, mut epochs) = (most.min(wanted), now, [0; StreamRateLimits::ALL]);
            for (bucket, epoch) in self.buckets().zip(&mut epochs) {
                let bought = bucket.buy(bytes, now);
                *epoch = bought.epoch;
                at = at.max(bought.at.unwrap_or(now));
            }
            self.turn = Some(Grant { bytes, at, epochs });
        }
        match &self.turn {
            Some(turn) if turn.at > now => Err(turn.at),
            Some(turn) => Ok(turn.bytes.min(wanted)),
            None => Ok(wanted),
        }
    }

    /// So many bytes passed. The turn is over, and what is left of it goes to others.
    pub(crate) fn passed(&mut self, bytes: u64) {
        let Some(turn) = self.turn.take() else { return };
        let left = turn.bytes.saturating_sub(bytes);
        if left > 0 {
            self.buckets().zip(turn.epochs).for_each(|(bucket, epoch)| bucket.give_back(left, epoch));
        }
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.limits.iter().flat_map(|limits| limits.all.iter()).map(|limit| limit.of(self.direction))
    }
}

impl Grant {
    /// Whether all limits are still those that it was bought under.
    fn is_good<'a>(&self, buckets: impl Iterator<Item = &'a Bucket>) -> bool {
        buckets.zip(self.epochs).all(|(bucket, epoch)| bucket.epoch() == epoch)
    }
}

impl Drop for Pacer {
    /// A stream that ends while it waits leaves no gap in the queue.
    fn drop(&mut self) {
        self.passed(0);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{
        super::{RateLimit, RateLimitCount},
        *,
    };
    use crate::ids::Rate;

    /// A stream's limits where it shares its proxy's with others.
    struct SharedLimitFixture {
        count: RateLimitCount,
        shared: Arc<RateLimit>,
    }

    impl SharedLimitFixture {
        fn new() -> Self {
            let count = RateLimitCount::default();
            Self { shared: RateLimit::new(&count), count }
        }

        fn stream(&self) -> (Pacer, Arc<RateLimit>) {
            let own = RateLimit::new(&self.count);
            let others = [RateLimit::new(&self.count), self.shared.clone(), RateLimit::new(&self.count)];
            let [user, proxy, service] = others;
            let limits = StreamRateLimits::new([own.clone(), user, proxy, service]);
            (Pacer::new(Some(limits), Direction::Down), own)
        }
    }

    /// What each of `streams` gets through in `time`, all of them always wanting more, by a clock of whole
    /// milliseconds, as timers have.
    fn run(streams: &mut [Pacer], begin: Instant, time: Duration) -> Vec<u64> {
        let mut passed = vec![0; streams.len()];
        let mut now = begin;
        while now < begin + time {
            for (stream, passed) in streams.iter_mut().zip(&mut passed) {
                while let Ok(bytes) = stream.ask(u64::MAX, now) {
                    stream.passed(bytes);
                    *passed += bytes;
                }
            }
            now += Duration::from_millis(1);
        }
        passed
    }

    fn near(passed: u64, expected: u64) {
        assert!(passed.abs_diff(expected) <= expected / 40, "{passed} bytes, not about {expected}");
    }

    #[test]
    fn without_limits_nobody_has_to_ask() {
        let lab = SharedLimitFixture::new();
        let (mut stream, own) = lab.stream();
        let begin = Instant::now();
        assert!(stream.is_free() && Pacer::new(None, Direction::Up).is_free());
        own.set(Direction::Up, Rate::new(1), begin);
        assert!(!stream.is_free());
        assert_eq!(stream.ask(7, begin), Ok(7), "the other direction is free");
        own.set(Direction::Up, None, begin);
        assert!(stream.is_free());
        lab.shared.set(Direction::Down, Rate::new(1), begin);
        drop((stream, own));
        assert_eq!(lab.count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        drop(lab.shared);
        assert_eq!(
            lab.count.0.load(std::sync::atomic::Ordering::Relaxed),
            0,
            "a limit goes with what had it"
        );
    }

    #[test]
    fn the_strictest_limit_holds() {
        let lab = SharedLimitFixture::new();
        let (stream, own) = lab.stream();
        let begin = Instant::now();
        lab.shared.set(Direction::Down, Rate::new(20_000_000), begin);
        own.set(Direction::Down, Rate::new(10_000_000), begin);
        let mut streams = [stream];
        near(run(&mut streams, begin, Duration::from_secs(5))[0], 50_000_000);
    }

    #[test]
    fn a_shared_limit_is_shared_alike_and_its_rest_is_used() {
        let lab = SharedLimitFixture::new();
        let begin = Instant::now();
        lab.shared.set(Direction::Down, Rate::new(10_000_000), begin);
        let (mut streams, owns): (Vec<_>, Vec<_>) = (0..20).map(|_| lab.stream()).unzip();
        // One that may take less than its share leaves the rest to the others.
        owns[0].set(Direction::Down, Rate::new(100_000), begin);
        let passed = run(&mut streams, begin, Duration::from_secs(5));
        near(passed[0], 500_000);
        near(passed.iter().sum(), 50_000_000);
        for &passed in &passed[1..] {
            near(passed, 49_500_000 / 19);
        }
    }

    #[test]
    fn another_rate_holds_for_those_who_wait() {
        let lab = SharedLimitFixture::new();
        let (mut stream, own) = lab.stream();
        let begin = Instant::now();
        own.set(Direction::Down, Rate::new(1), begin);
        assert!(stream.ask(1000, begin).is_err());
        own.set(Direction::Down, Rate::new(1_000_000), begin);
        near(run(std::slice::from_mut(&mut stream), begin, Duration::from_secs(1))[0], 1_000_000);
        assert!(stream.ask(1000, begin).is_err());
        own.set(Direction::Down, None, begin);
        assert_eq!(stream.ask(1000, begin), Ok(1000));
    }

    #[test]
    fn who_ends_while_it_waits_holds_up_nobody() {
        let lab = SharedLimitFixture::new();
        let begin = Instant::now();
        lab.shared.set(Direction::Down, Rate::new(1000), begin);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let (mut stream, _) = lab.stream();
                stream.ask(u64::MAX, begin).unwrap_err();
                stream
            })
            .collect();
        drop(waiting);
        let (mut stream, _) = lab.stream();
        assert!(stream.ask(50, begin).unwrap_err() <= begin + Duration::from_millis(51));
    }
}
