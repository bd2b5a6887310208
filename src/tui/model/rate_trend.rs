/// How many seconds of its past everything that is listed remembers: what the shortest chart covers, and a little more.
const SECONDS: usize = 32;

/// Bytes a second to and from users in each of the last seconds. One is kept for each of a hundred thousand rows, so a
/// second more overwrites the oldest and moves nothing.
#[derive(Debug, Clone)]
pub(crate) struct RateTrend {
    ring: [(f32, f32); SECONDS],
    /// How many seconds were noted so far.
    seconds: u32,
}

impl Default for RateTrend {
    fn default() -> Self {
        Self { ring: [(0.0, 0.0); SECONDS], seconds: 0 }
    }
}

impl RateTrend {
    /// A second has passed with these rates.
    pub(crate) fn push(&mut self, down: f32, up: f32) {
        self.ring[self.seconds as usize % SECONDS] = (down, up);
        self.seconds += 1;
    }

    /// How many seconds are remembered.
    pub(crate) fn known(&self) -> usize {
        SECONDS.min(self.seconds as usize)
    }

    /// The last `count` seconds, the oldest first; before it was there, nothing.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = (f32, f32)> + Clone + '_ {
        let missing = count.saturating_sub(self.known());
        let from = self.seconds as usize - (count - missing);
        let known = (from..self.seconds as usize).map(|second| self.ring[second % SECONDS]);
        std::iter::repeat_n((0.0, 0.0), missing).chain(known)
    }
}

#[cfg(test)]
mod tests;
