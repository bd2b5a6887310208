//! The rate limit of events that unauthenticated peers can cause.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

#[cfg(test)]
mod tests;

/// How many events of one kind are emitted in a second. Further ones are only counted.
const MAX_PER_SECOND: u32 = 100;

/// Limits the rate of one kind of event, so that a flood of connections does not become a flood of log lines.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<ThrottleState>);

/// The current second of a [`Throttle`], and its counts.
#[derive(Debug, Default)]
struct ThrottleState {
    /// When the present second began; `None` before the first event.
    second_began: Option<Instant>,
    /// Events emitted in the present second.
    emitted_this_second: u32,
    /// Events suppressed since the last one that was emitted.
    suppressed: u64,
}

impl Throttle {
    /// Returns `None` if the event must be suppressed, and counts it. Otherwise returns how many events were suppressed
    /// since the last one that was emitted.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        let is_over = |began| now.saturating_duration_since(began) >= Duration::from_secs(1);
        if state.second_began.is_none_or(is_over) {
            (state.second_began, state.emitted_this_second) = (Some(now), 0);
        }
        if state.emitted_this_second >= MAX_PER_SECOND {
            state.suppressed += 1;
            return None;
        }
        state.emitted_this_second += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}
