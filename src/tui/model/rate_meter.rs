//! Rates of counters over the last second, from samples at irregular times.

use std::{collections::VecDeque, time::Instant};

use crate::telemetry::RateWindow;

/// How many samples are kept: one second at 10 samples per second, and some to spare for late ones.
const SAMPLES: usize = 16;

/// The times of the last samples. All [`RateMeter`]s of a list share one clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct SampleClock {
    /// The times of the last [`SAMPLES`] samples, the oldest first.
    times: VecDeque<Instant>,
    /// The number of the newest sample; the first is 1.
    newest_sample: u64,
    /// The number of the sample that rates compare the newest one with: the newest that is at least one second older,
    /// else the oldest kept.
    base_sample: u64,
    /// For each sample in the ring, by [`slot`]: the factor from an increase since that sample to an increase per
    /// second (1 / age in seconds).
    per_second: [f64; SAMPLES],
}

impl SampleClock {
    /// Records that a new sample is taken at `now`, and determines the earlier sample with which it is compared.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.times.len() == SAMPLES {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.newest_sample += 1;
        let covers = |time: &Instant| now.duration_since(*time) >= RateWindow::SECOND;
        let back = self.times.iter().rev().position(covers).unwrap_or(self.times.len() - 1);
        self.base_sample = self.newest_sample - back as u64;
        for (back, time) in self.times.iter().rev().enumerate() {
            let seconds = now.duration_since(*time).as_secs_f64();
            let sample = self.newest_sample - back as u64;
            self.per_second[slot(sample)] = if seconds > 0.0 { seconds.recip() } else { 0.0 };
        }
    }
}

/// The rate of one counter over the last second; 0 after a second without progress.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateMeter {
    /// The counter's value at each of the last [`SAMPLES`] samples, by [`slot`] of the sample.
    ring: [u64; SAMPLES],
    /// The number of the sample from which on the meter has a value for every sample, without a gap.
    first_sample: u64,
    /// The number of the last sample for which the meter has a value; 0 before the first.
    last_sample: u64,
}

impl RateMeter {
    /// Records the counter's value at the clock's newest sample. A value below the last one restarts the meter.
    pub(crate) fn record(&mut self, clock: &SampleClock, value: u64) {
        let missed_one = self.last_sample + 1 != clock.newest_sample;
        if missed_one || value < self.ring[slot(self.last_sample)] {
            self.first_sample = clock.newest_sample;
        }
        self.last_sample = clock.newest_sample;
        self.ring[slot(clock.newest_sample)] = value;
    }

    /// Returns the increase of the counter per second, over the last second.
    pub(crate) fn per_second(&self, clock: &SampleClock) -> f64 {
        let base = clock.base_sample.max(self.first_sample);
        if self.last_sample != clock.newest_sample || base >= self.last_sample {
            return 0.0;
        }
        let units = self.ring[slot(self.last_sample)].saturating_sub(self.ring[slot(base)]);
        units as f64 * clock.per_second[slot(base)]
    }
}

/// The rates of many pairs of counters over the last second, each pair at an index.
///
/// The values of one sample are adjacent: a sample writes one array and reads another from end to end, while 10,000
/// separate [`RateMeter`]s would cost a cache miss each.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateMeters {
    /// The values of all pairs at each of the last [`SAMPLES`] samples: by [`slot`] of the sample, then by index of
    /// the pair.
    samples: [Vec<(u64, u64)>; SAMPLES],
    /// By index of the pair: the number of the sample from which on it has a value for every sample, without a gap.
    first: Vec<u64>,
}

impl RateMeters {
    /// Makes room for this many pairs of counters.
    pub(crate) fn reserve(&mut self, pairs: usize) {
        if self.first.len() < pairs {
            self.first.resize(pairs, 0);
            self.samples.iter_mut().for_each(|column| column.resize(pairs, (0, 0)));
        }
    }

    /// Records two counters at the clock's newest sample. Returns their rates in units per second. `is_first` says
    /// that the pair was not recorded at the previous sample, so that there is nothing to compare with.
    pub(crate) fn record(
        &mut self,
        clock: &SampleClock,
        pair: usize,
        is_first: bool,
        values: (u64, u64),
    ) -> (f32, f32) {
        let newest = clock.newest_sample;
        if is_first {
            self.first[pair] = newest;
        }
        self.samples[slot(newest)][pair] = values;
        let base = clock.base_sample.max(self.first[pair]);
        if base >= newest {
            return (0.0, 0.0);
        }
        let before = self.samples[slot(base)][pair];
        let scale = clock.per_second[slot(base)];
        let rate = |value: u64, before: u64| (value.saturating_sub(before) as f64 * scale) as f32;
        (rate(values.0, before.0), rate(values.1, before.1))
    }
}

/// Returns the index of a sample in a ring of [`SAMPLES`] entries.
fn slot(sample: u64) -> usize {
    (sample % SAMPLES as u64) as usize
}

#[cfg(test)]
mod tests;
