use std::{collections::VecDeque, time::Instant};

use crate::telemetry::RateWindow;

/// How many samples are kept: a second of them at ten a second, and some to spare for a late tick.
const SAMPLES: usize = 16;

/// When the last samples were taken. One clock serves every [`RateMeter`] of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct SampleClock {
    times: VecDeque<Instant>,
    newest: u64,
    base: u64,
    /// What turns units since a sample into units a second, by the sample's slot.
    per_second: [f64; SAMPLES],
}

impl SampleClock {
    /// A sample is being taken at `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.times.len() == SAMPLES {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.newest += 1;
        let covers = |time: &Instant| now.duration_since(*time) >= RateWindow::SECOND;
        let back = self.times.iter().rev().position(covers).unwrap_or(self.times.len() - 1);
        self.base = self.newest - back as u64;
        for (back, time) in self.times.iter().rev().enumerate() {
            let seconds = now.duration_since(*time).as_secs_f64();
            let sample = self.newest - back as u64;
            self.per_second[slot(sample)] = if seconds > 0.0 { seconds.recip() } else { 0.0 };
        }
    }
}

/// The rate of one counter over the last second. Zero once a second has passed without progress.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateMeter {
    ring: [u64; SAMPLES],
    first: u64,
    last: u64,
}

impl RateMeter {
    /// Notes where the counter stands at the clock's newest sample. A counter that fell has started anew.
    pub(crate) fn note(&mut self, clock: &SampleClock, value: u64) {
        let missed_one = self.last + 1 != clock.newest;
        if missed_one || value < self.ring[slot(self.last)] {
            self.first = clock.newest;
        }
        self.last = clock.newest;
        self.ring[slot(clock.newest)] = value;
    }

    /// Units a second.
    pub(crate) fn per_second(&self, clock: &SampleClock) -> f64 {
        let base = clock.base.max(self.first);
        if self.last != clock.newest || base >= self.last {
            return 0.0;
        }
        let units = self.ring[slot(self.last)].saturating_sub(self.ring[slot(base)]);
        units as f64 * clock.per_second[slot(base)]
    }
}

/// The rates of many pairs of counters over the last second, each known by its place.
///
/// Of each sample all counters stand side by side: a tick writes one column and reads another from end to end, where
/// ten thousand [`RateMeter`]s would each be waited for.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateMeters {
    columns: [Vec<(u64, u64)>; SAMPLES],
    /// The first sample that each place has noted without missing one since.
    first: Vec<u64>,
}

impl RateMeters {
    /// Makes room for as many places.
    pub(crate) fn reserve(&mut self, places: usize) {
        if self.first.len() < places {
            self.first.resize(places, 0);
            self.columns.iter_mut().for_each(|column| column.resize(places, (0, 0)));
        }
    }

    /// Notes where two counters stand at the clock's newest sample, and gives units a second of each. `anew` where the
    /// place did not note the sample before: there is nothing to compare with.
    pub(crate) fn note(
        &mut self,
        clock: &SampleClock,
        place: usize,
        anew: bool,
        values: (u64, u64),
    ) -> (f32, f32) {
        let newest = clock.newest;
        if anew {
            self.first[place] = newest;
        }
        self.columns[slot(newest)][place] = values;
        let base = clock.base.max(self.first[place]);
        if base >= newest {
            return (0.0, 0.0);
        }
        let before = self.columns[slot(base)][place];
        let scale = clock.per_second[slot(base)];
        let rate = |value: u64, before: u64| (value.saturating_sub(before) as f64 * scale) as f32;
        (rate(values.0, before.0), rate(values.1, before.1))
    }
}

fn slot(sample: u64) -> usize {
    (sample % SAMPLES as u64) as usize
}

#[cfg(test)]
mod tests;
