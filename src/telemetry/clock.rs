//! The wall clock: the one place that reads it for events and log records.
//!
//! The wall clock may be set at any time, so it is only shown, and compared with the dates on which tokens expire, which are
//! those of a calendar. Intervals and deadlines use the monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the wall-clock time in milliseconds since the Unix epoch; 0 if the clock is set before it.
pub fn epoch_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
