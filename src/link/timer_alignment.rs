//! Alignment of the timers of idle channels.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How distant a timer must be to be aligned with those of other channels, which delays it by up to a second.
const MIN_ALIGNED_DELAY: Duration = Duration::from_secs(3);

/// Returns `at`, or if that is seconds away the next full second of a clock that all channels share: then the timers of
/// many idle channels fire together, and wake the process once.
pub(super) fn align_if_distant(at: Instant, now: Instant) -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let epoch = *EPOCH.get_or_init(|| now);
    let since_epoch = at.saturating_duration_since(epoch);
    if at.saturating_duration_since(now) < MIN_ALIGNED_DELAY || since_epoch.is_zero() {
        return at;
    }
    epoch + Duration::from_secs(since_epoch.as_secs() + 1)
}
