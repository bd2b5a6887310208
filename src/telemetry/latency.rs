use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// The longest that is told from what is longer still, in microseconds: ten minutes. No open waits as long.
const LONGEST: u64 = 600_000_000;

/// How many digits of a time are kept. A screen shows no more, and the third would take 80 KiB for each [`Timing`]
/// where two take 12.
const DIGITS: u8 = 2;

/// How old a summary may be: making one looks at a few thousand counts.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// How long something took, over all the times it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
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

impl Latency {
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
    pub open: Latency,
    /// From the user's first byte until the target's first byte went to the user; where the target speaks first, from
    /// giving the stream to a proxy. A connection that a client opens ahead and uses later says nothing bad of anybody.
    pub first_byte: Latency,
    /// How long a user's bytes waited in this process before they were handed to the writer of their channel: some
    /// pieces of each stream, not all.
    pub queue: Latency,
}

/// Counts how long something took, each time it is done.
///
/// A histogram whose buckets grow with what is in them (HDR): any percentile is right to two digits, however long the
/// tail is. There is none before the first time, because many things are never timed.
#[derive(Debug, Default)]
pub struct Timing(Mutex<Option<Histogram<u32>>>);

impl Timing {
    /// Notes one time. Whatever is too short or too long counts as the shortest or the longest there is.
    pub fn note(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, LONGEST);
        let mut histogram = self.0.lock();
        if histogram.is_none() {
            // The bounds are constants, and right.
            *histogram = Histogram::new_with_max(LONGEST, DIGITS).ok();
        }
        if let Some(histogram) = &mut *histogram {
            histogram.saturating_record(us);
        }
    }

    /// How long it took so far.
    pub fn summary(&self) -> Latency {
        let histogram = self.0.lock();
        let Some(histogram) = &*histogram else { return Latency::default() };
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        let mut bars = [0; Latency::BARS];
        for step in histogram.iter_recorded() {
            let octave = (step.value_iterated_to() / 128).checked_ilog2().map_or(0, |octave| octave + 1);
            bars[(octave as usize).min(Latency::BARS - 1)] += u64::from(step.count_at_value());
        }
        Latency {
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
pub struct Timings {
    /// See [`Latencies::open`].
    pub open: Timing,
    /// See [`Latencies::first_byte`].
    pub first_byte: Timing,
    /// See [`Latencies::queue`].
    pub queue: Timing,
    known: Summary<Latencies>,
}

impl Timings {
    /// How long things took so far, as of a second before `now` at the latest.
    pub(super) fn summary(&self, now: Instant) -> Arc<Latencies> {
        self.known.at(now, || Latencies {
            open: self.open.summary(),
            first_byte: self.first_byte.summary(),
            queue: self.queue.summary(),
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
        let timing = Timing::default();
        assert_eq!(timing.summary(), Latency::default());
        // From 40 µs to 4 s, most of them short, in no order.
        let mut all: Vec<u64> = (0..10_000u64).map(|n| 40 + (n * 7919 % 10_000).pow(3) / 250_000).collect();
        all.iter().for_each(|&us| timing.note(Duration::from_micros(us)));
        all.sort_unstable();
        let latency = timing.summary();
        assert_eq!(latency.count, 10_000);
        for (measured, at) in
            [(latency.p50, 4999), (latency.p90, 8999), (latency.p99, 9899), (latency.max, 9999)]
        {
            let (measured, exact) = (measured.as_secs_f64(), all[at] as f64 / 1e6);
            assert!((measured / exact - 1.0).abs() <= 0.01, "{measured} s, not {exact} s");
        }
        for (bar, count) in latency.bars.iter().enumerate() {
            let from = bar.checked_sub(1).and_then(Latency::bar_end).unwrap_or_default();
            let until = Latency::bar_end(bar).unwrap_or(Duration::MAX);
            let of = |us: &&u64| (from..until).contains(&Duration::from_micros(**us));
            assert_eq!(*count, all.iter().filter(of).count() as u64, "{from:?} to {until:?}");
        }
    }

    /// Clocks differ, machines sleep, and nobody may pay for it.
    #[test]
    fn what_cannot_be_is_bounded() {
        let timing = Timing::default();
        _ = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX, Duration::from_secs(u64::MAX)]
            .map(|took| timing.note(took));
        let latency = timing.summary();
        assert_eq!((latency.count, latency.p50), (4, Duration::from_micros(1)));
        let longest = Duration::from_micros(LONGEST);
        assert!((longest..longest.mul_f64(1.01)).contains(&latency.max), "{:?}", latency.max);
        assert_eq!((latency.bars[0], latency.bars[Latency::BARS - 1]), (2, 2));
    }

    #[test]
    fn a_histogram_takes_twelve_kib_and_only_once_it_is_needed() {
        let timing = Timing::default();
        assert!(timing.0.lock().is_none());
        timing.note(Duration::from_millis(1));
        let counts = timing.0.lock().as_ref().unwrap().distinct_values();
        assert!(counts * size_of::<u32>() <= 12 * 1024, "{counts} counts");
    }

    #[test]
    fn a_summary_is_made_once_a_second_and_kept_where_nothing_is_new() {
        let (timings, begin) = (Timings::default(), Instant::now());
        let at = |ms| timings.summary(begin + Duration::from_millis(ms));
        assert_eq!(at(0).open.count, 0);
        timings.open.note(Duration::from_millis(1));
        assert_eq!(at(999).open.count, 0);
        let known = at(1000);
        assert_eq!(known.open.count, 1);
        assert!(Arc::ptr_eq(&known, &at(5000)));
        // A clock that went back is no reason to fail.
        assert!(Arc::ptr_eq(&known, &timings.summary(begin)));
    }
}
