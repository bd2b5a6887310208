use std::time::{Duration, Instant};

/// The shortest time that a rate is taken over: below it, it is noise.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// By how much a doubled window must raise the rate to be kept.
const WORTH: f64 = 1.25;

/// How many round trips of what comes over several channels their windows hold: one is under way, one waits for what
/// a slower channel brings, and as much again is for channels that could carry more.
const WIDE: f64 = 4.0;

/// From this round trip on it is the line that takes the time, and not the tasks that wait to be woken: what it carries
/// in a round trip is known, and a window is twice that, as with TCP's receivers. A trial that has to bring a quarter
/// more left one stream with four fifths of 100 Mbit/s over 40 ms.
const FAR: (Duration, f64) = (Duration::from_millis(5), 2.0);

/// How long a window is left alone after a larger one had not helped, at first and at most.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(16));

/// Up to this size a window is doubled without a trial where a reader is [`QUICK`].
const EASY: u32 = 2 << 20;

/// A reader that takes a whole window in this time waits for the next acknowledgement with every one of them.
const QUICK: Duration = Duration::from_millis(2);

/// Finds out how large a stream's window should be. On a near link it is doubled on trial, and the larger one is kept
/// only if the reader was given more by it.
///
/// Taking twice what arrives in a round trip was tried there first. The round trip that can be measured is mostly the
/// time that tasks take to be woken, so the window grew without need, and what is on the way fell out of the cache. What
/// counts is what left this process: a slow reader's window never grows.
#[derive(Debug, Default)]
pub(super) struct Tuner {
    since: Option<Instant>,
    delivered: u64,
    /// How far the bytes had come when that began.
    came: u64,
    /// The rate before the window was doubled, in bytes a second, and the window.
    trial: Option<(f64, u32)>,
    rest: Duration,
    rested: Option<Instant>,
    /// Bytes came over several channels.
    wide: bool,
}

impl Tuner {
    /// Bytes came over another channel than the stream's own: a larger window may carry more only after a while, when
    /// the other channels have been found to take it, so that no trial is long enough.
    pub(super) fn widen(&mut self) {
        self.wide = true;
    }

    /// The reader has passed `bytes` on, of those that have come up to the offset `came`. The window to have from now on,
    /// if it should change.
    pub(super) fn delivered(
        &mut self,
        bytes: u64,
        came: u64,
        round_trip: Duration,
        now: Instant,
        window: u32,
    ) -> Option<u32> {
        let Some(since) = self.since else {
            (self.since, self.came) = (Some(now), came);
            return None;
        };
        self.delivered += bytes;
        let elapsed = now.saturating_duration_since(since);
        if elapsed < (round_trip * 2).max(SHORTEST_LOOK) {
            return None;
        }
        let rate = self.delivered as f64 / elapsed.as_secs_f64();
        // What had waited for the reader says nothing of the line.
        let carried = self.delivered.min(came - self.came) as f64 / elapsed.as_secs_f64();
        (self.since, self.came) = (Some(now), came);
        self.delivered = 0;
        if window < EASY && rate * QUICK.as_secs_f64() > f64::from(window) {
            self.trial = None;
            return Some(window * 2);
        }
        if self.wide || round_trip >= FAR.0 {
            self.trial = None;
            let trips = if self.wide { WIDE } else { FAR.1 };
            let wanted = (carried * round_trip.as_secs_f64() * trips) as u32;
            return (wanted > window).then_some(wanted);
        }
        // A window that could not grow, at its bound or for want of budget, has not been tried.
        match self.trial.take().filter(|&(_, small)| small < window) {
            Some((before, small)) if rate < before * WORTH => {
                self.rest = (self.rest * 2).clamp(REST.0, REST.1);
                self.rested = Some(now + self.rest);
                return Some(small);
            }
            Some(_) => self.rest = Duration::ZERO,
            None if self.rested.is_some_and(|rested| now < rested) => return None,
            None => {}
        }
        // A reader that takes far less than the window in a round trip has no use for more.
        if rate * round_trip.as_secs_f64() < f64::from(window) / 8.0 {
            return None;
        }
        self.trial = Some((rate, window));
        Some(window.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = 256 * 1024;
    const MOST: u32 = 16 << 20;

    /// The largest window that stays, for a path that carries at most `capacity` bytes a second.
    fn settles_at(capacity: f64, round_trip: Duration) -> u32 {
        let begin = Instant::now();
        let (mut tuner, mut window, mut came) = (Tuner::default(), FIRST, 0);
        for ms in 0..20_000 {
            let rate = capacity.min(f64::from(window) / round_trip.as_secs_f64());
            let now = begin + Duration::from_millis(ms);
            let bytes = (rate / 1000.0) as u64;
            came += bytes;
            let wanted = tuner.delivered(bytes, came, round_trip, now, window);
            window = wanted.unwrap_or(window).clamp(FIRST, MOST);
        }
        tuner.trial.map_or(window, |(_, small)| small.min(window))
    }

    /// A reader that stalls and then takes at once all that has waited was taken for a line as fast as it.
    #[test]
    fn what_waited_for_its_reader_widens_no_window() {
        let (begin, round_trip) = (Instant::now(), Duration::from_millis(50));
        let (mut tuner, mut window, mut came) = (Tuner::default(), FIRST, 0);
        for second in 0..60 {
            let at = |ms| begin + Duration::from_secs(second) + Duration::from_millis(ms);
            // All that fits comes while the reader stalls; then it takes that, and what the line brings meanwhile.
            came += u64::from(window);
            let mut waits = u64::from(window);
            for ms in 900..1000 {
                came += 12_500;
                let bytes = (waits + 12_500).min(125_000);
                waits = waits + 12_500 - bytes;
                window = tuner.delivered(bytes, came, round_trip, at(ms), window).unwrap_or(window).min(MOST);
            }
        }
        assert!(window <= 2 << 20, "{window}: twice 100 Mbit/s in 50 ms are 1.25 MB");
    }

    #[test]
    fn a_window_grows_as_long_as_it_carries_more() {
        let far = settles_at(125e6, Duration::from_millis(50));
        assert!((12_400_000..=12_500_000).contains(&far), "1 Gbit/s over 50 ms is 6.25 MB, of {far}");
        assert_eq!(settles_at(125e6, Duration::from_millis(4)), 512 * 1024, "500 KB");
        assert_eq!(settles_at(0.1e9, Duration::from_micros(100)), FIRST, "a near link needs no more");
        assert_eq!(settles_at(1.5e9, Duration::from_micros(100)), EASY, "a quick one a little");
        assert_eq!(
            settles_at(125e6, Duration::from_millis(250)),
            MOST,
            "more would help, and may not be had"
        );
        assert_eq!(settles_at(1e3, Duration::from_millis(50)), FIRST, "nor does a slow reader");
    }
}
