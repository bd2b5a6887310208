use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many events of one kind that strangers can cause are told in a second. What is beyond is only counted.
const PER_SECOND: u32 = 100;

/// Keeps a flood of strangers from becoming a flood of events and log lines.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Throttle {
    /// Whether one more may be told, and how many were not since the last that was.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            (state.since, state.told) = (Some(now), 0);
        }
        if state.told >= PER_SECOND {
            state.untold += 1;
            return None;
        }
        state.told += 1;
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_part_and_counted_whole() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let told = (0..1000).filter(|_| throttle.admit(now).is_some()).count();
        assert_eq!(told, PER_SECOND as usize);
        assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(1000 - u64::from(PER_SECOND)));
        assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(0));
    }
}
