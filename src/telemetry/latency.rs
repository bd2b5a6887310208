use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// The longest that is told from what is longer still, in microseconds: ten minutes. No open waits as long.
const LONGEST: u64 = 600_000_000;

/// How many digits of a time are kept. A screen shows no more, and the third would take 80 KiB for each [`LatencyHistogram`]
/// where two take 12.
const DIGITS: u8 = 2;

/// For how long a histogram is filled; then the next one is, and the one before is still counted. What an operator wants
/// to know is how things are: of a service that has run for a month, no percentile of all times moves any more.
const PERIOD: Duration = Duration::from_secs(300);

/// How old a summary may be: making one looks at a few thousand counts.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// How long something took of late: within the last five minutes, and up to five before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// How often it was measured.
    pub count: u64,
    /// Half of them were at most this long.
    pub p50: Duration,
    /// Nine of ten.
    pub p90: Duration,
    /// Ninety-nine of a hundred.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
    /// How often it fell between two powers of two of microseconds: less than 128 µs, less than 256 µs, … in the last
    /// one whatever took longer than the one before.
    pub bars: [u64; Self::BARS],
}

impl LatencySummary {
    /// How many [`bars`](Self::bars) there are: the last one begins at 2 s.
    pub const BARS: usize = 16;

    /// Where a bar ends; nothing for the last one.
    pub fn bar_end(bar: usize) -> Option<Duration> {
        (bar + 1 < Self::BARS).then(|| Duration::from_micros(128 << bar))
    }
}

/// The latencies of a service or of a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latencies {
    /// From giving a stream to a proxy until the proxy said that its target is there.
    pub connect: LatencySummary,
    /// From the user's first byte until the target's first byte went to the user; where the target speaks first, from
    /// giving the stream to a proxy. A connection that a client opens ahead and uses later says nothing bad of anybody.
    pub time_to_first_byte: LatencySummary,
    /// How long a user's bytes waited in this process before they were handed to the writer of their channel: some
    /// pieces of each stream, not all.
    pub queue_wait: LatencySummary,
}

/// Counts how long something took, each time it is done.
///
/// A histogram whose buckets grow with what is in them (HDR): any percentile is right to two digits, however long the
/// tail is. There is none before the first time, because many things are never timed, and there are two at the most: of
/// these five minutes and of the five before.
#[derive(Debug, Default)]
pub struct LatencyHistogram(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    now: Option<Histogram<u32>>,
    before: Option<Histogram<u32>>,
    /// When `now` was begun.
    since: Option<Instant>,
}

impl Recent {
    /// Forgets what is too long ago at `now`.
    fn turn(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let age = now.saturating_duration_since(since);
        if age >= PERIOD {
            let next = age < 2 * PERIOD;
            self.before = self.now.take().filter(|_| next);
            self.since = next.then(|| since + PERIOD);
        }
    }
}

impl LatencyHistogram {
    /// Notes one time. Whatever is too short or too long counts as the shortest or the longest there is.
    pub fn note(&self, took: Duration) {
        self.note_at(took, Instant::now());
    }

    fn note_at(&self, took: Duration, now: Instant) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, LONGEST);
        let mut recent = self.0.lock();
        recent.turn(now);
        recent.since.get_or_insert(now);
        if recent.now.is_none() {
            // The bounds are constants, and right.
            recent.now = Histogram::new_with_max(LONGEST, DIGITS).ok();
        }
        if let Some(histogram) = &mut recent.now {
            histogram.saturating_record(us);
        }
    }

    /// How long it took of late.
    pub fn summary(&self, now: Instant) -> LatencySummary {
        let mut recent = self.0.lock();
        recent.turn(now);
        let both;
        let histogram = match (&recent.now, &recent.before) {
            (Some(now), Some(before)) => {
                let mut sum = now.clone();
                // Their bounds are the same.
                _ = sum.add(before);
                both = sum;
                &both
            }
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return LatencySummary::default(),
        };
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        let mut bars = [0; LatencySummary::BARS];
        for step in histogram.iter_recorded() {
            let octave = (step.value_iterated_to() / 128).checked_ilog2().map_or(0, |octave| octave + 1);
            bars[(octave as usize).min(LatencySummary::BARS - 1)] += u64::from(step.count_at_value());
        }
        LatencySummary {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: Duration::from_micros(histogram.max()),
            bars,
        }
    }
}

/// What is timed for a service or for a proxy.
#[derive(Debug, Default)]
pub struct LatencyHistograms {
    /// See [`Latencies::connect`].
    pub connect: LatencyHistogram,
    /// See [`Latencies::time_to_first_byte`].
    pub time_to_first_byte: LatencyHistogram,
    /// See [`Latencies::queue_wait`].
    pub queue_wait: LatencyHistogram,
    known: Summary<Latencies>,
}

impl LatencyHistograms {
    /// How long things took of late, as of a second before `now` at the latest.
    pub(super) fn summary(&self, now: Instant) -> Arc<Latencies> {
        self.known.at(now, || Latencies {
            connect: self.connect.summary(now),
            time_to_first_byte: self.time_to_first_byte.summary(now),
            queue_wait: self.queue_wait.summary(now),
        })
    }
}

/// A summary that is made anew once a second at the most, when somebody asks for it.
#[derive(Debug, Default)]
pub(super) struct Summary<T>(Mutex<(Option<Instant>, Arc<T>)>);

impl<T: PartialEq> Summary<T> {
    pub(super) fn at(&self, now: Instant, make: impl FnOnce() -> T) -> Arc<T> {
        let (made, summary) = &mut *self.0.lock();
        if made.is_none_or(|made| now.saturating_duration_since(made) >= SUMMARY_EVERY) {
            *made = Some(now);
            let new = make();
            // Where nothing is new, nobody has to look.
            if **summary != new {
                *summary = Arc::new(new);
            }
        }
        summary.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the numbers themselves, in order, which is what a percentile means.
    #[test]
    fn percentiles_are_right_to_two_digits() {
        let timing = LatencyHistogram::default();
        assert_eq!(timing.summary(Instant::now()), LatencySummary::default());
        // From 40 µs to 4 s, most of them short, in no order.
        let mut all: Vec<u64> = (0..10_000u64).map(|n| 40 + (n * 7919 % 10_000).pow(3) / 250_000).collect();
        all.iter().for_each(|&us| timing.note(Duration::from_micros(us)));
        all.sort_unstable();
        let latency = timing.summary(Instant::now());
        assert_eq!(latency.count, 10_000);
        for (measured, at) in
            [(latency.p50, 4999), (latency.p90, 8999), (latency.p99, 9899), (latency.max, 9999)]
        {
            let (measured, exact) = (measured.as_secs_f64(), all[at] as f64 / 1e6);
            assert!((measured / exact - 1.0).abs() <= 0.01, "{measured} s, not {exact} s");
        }
        for (bar, count) in latency.bars.iter().enumerate() {
            let from = bar.checked_sub(1).and_then(LatencySummary::bar_end).unwrap_or_default();
            let until = LatencySummary::bar_end(bar).unwrap_or(Duration::MAX);
            let of = |us: &&u64| (from..until).contains(&Duration::from_micros(**us));
            assert_eq!(*count, all.iter().filter(of).count() as u64, "{from:?} to {until:?}");
        }
    }

    /// Clocks differ, machines sleep, and nobody may pay for it.
    #[test]
    fn what_cannot_be_is_bounded() {
        let timing = LatencyHistogram::default();
        _ = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX, Duration::from_secs(u64::MAX)]
            .map(|took| timing.note(took));
        let latency = timing.summary(Instant::now());
        assert_eq!((latency.count, latency.p50), (4, Duration::from_micros(1)));
        let longest = Duration::from_micros(LONGEST);
        assert!((longest..longest.mul_f64(1.01)).contains(&latency.max), "{:?}", latency.max);
        assert_eq!((latency.bars[0], latency.bars[LatencySummary::BARS - 1]), (2, 2));
    }

    #[test]
    fn a_histogram_takes_twelve_kib_and_only_once_it_is_needed() {
        let timing = LatencyHistogram::default();
        assert!(timing.0.lock().now.is_none());
        timing.note(Duration::from_millis(1));
        let counts = timing.0.lock().now.as_ref().unwrap().distinct_values();
        assert!(counts * size_of::<u32>() <= 12 * 1024, "{counts} counts");
    }

    /// After a bad hour a service looked bad for ever, and after a good month a bad minute did not show.
    #[test]
    fn what_is_long_ago_does_not_count() {
        let (timing, begin, ms) = (LatencyHistogram::default(), Instant::now(), Duration::from_millis);
        let at = |seconds| begin + Duration::from_secs(seconds);
        (0..1000).for_each(|_| timing.note_at(ms(1), at(0)));
        timing.note_at(ms(100), at(299));
        assert_eq!(timing.summary(at(299)).count, 1001);
        (0..10).for_each(|_| timing.note_at(ms(10), at(301)));
        let both = timing.summary(at(599));
        assert_eq!((both.count, both.bars.iter().sum::<u64>()), (1011, 1011));
        assert!(both.max >= ms(100) && both.p50 < ms(2), "{both:?}");
        // What was before the last period goes when that is over, whether anything comes or not.
        let later = timing.summary(at(601));
        assert_eq!(later.count, 10);
        assert!(later.p50 > ms(9) && later.max < ms(11), "{later:?}");
        timing.note_at(ms(20), at(700));
        assert_eq!(timing.summary(at(700)).count, 11);
        assert_eq!(timing.summary(at(1300)), LatencySummary::default(), "nothing for two periods");
        timing.note_at(ms(1), at(1350));
        assert_eq!([1649, 1651, 1949, 1951].map(|second| timing.summary(at(second)).count), [1, 1, 1, 0]);
        // A clock that goes back takes nothing away.
        timing.note_at(ms(1), at(2400));
        timing.note_at(ms(1), at(2000));
        assert_eq!(timing.summary(at(1900)).count, 2);
    }

    #[test]
    fn a_summary_is_made_once_a_second_and_kept_where_nothing_is_new() {
        let (latencies, begin) = (LatencyHistograms::default(), Instant::now());
        let at = |ms| latencies.summary(begin + Duration::from_millis(ms));
        assert_eq!(at(0).connect.count, 0);
        latencies.connect.note(Duration::from_millis(1));
        assert_eq!(at(999).connect.count, 0);
        let known = at(1000);
        assert_eq!(known.connect.count, 1);
        assert!(Arc::ptr_eq(&known, &at(5000)));
        // A clock that went back is no reason to fail.
        assert!(Arc::ptr_eq(&known, &latencies.summary(begin)));
    }
}
