//! The rates of the last seconds of one row, for a sparkline.

/// How many seconds each row keeps: what the shortest chart covers (30 s), and a little more.
const SECONDS: usize = 32;

/// Download and upload in bytes per second for each of the last seconds. A ring, because up to 100,000 rows have one:
/// a new second overwrites the oldest and moves nothing.
#[derive(Debug, Clone)]
pub(crate) struct RateTrend {
    /// Bytes per second to the user and to the target, for each of the last seconds: second `n` is at index `n %
    /// SECONDS`.
    ring: [(f32, f32); SECONDS],
    /// The number of seconds that have been recorded so far, those that are overwritten included.
    seconds: u32,
}

impl Default for RateTrend {
    fn default() -> Self {
        Self { ring: [(0.0, 0.0); SECONDS], seconds: 0 }
    }
}

impl RateTrend {
    /// Records the rates of one more second: bytes per second to the user and to the target.
    pub(crate) fn push(&mut self, down: f32, up: f32) {
        self.ring[self.seconds as usize % SECONDS] = (down, up);
        self.seconds += 1;
    }

    /// Returns the number of seconds whose rates are kept, at most [`SECONDS`].
    pub(crate) fn len(&self) -> usize {
        SECONDS.min(self.seconds as usize)
    }

    /// Returns the download and upload rates of the last `count` seconds, the oldest first; zero for seconds before
    /// the first one.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = (f32, f32)> + Clone + '_ {
        let missing = count.saturating_sub(self.len());
        let from = self.seconds as usize - (count - missing);
        let known = (from..self.seconds as usize).map(|second| self.ring[second % SECONDS]);
        std::iter::repeat_n((0.0, 0.0), missing).chain(known)
    }
}

#[cfg(test)]
mod tests;
