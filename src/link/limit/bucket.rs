//! One direction of one rate limit: a token bucket whose tokens are reserved in advance, without a clock of its own.

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::ids::Rate;

/// Size of a bucket, as the time in which it fills: the burst that may pass after a pause. It makes up for timers
/// that fire late; a user never gets more than this above its rate.
pub(super) const BURST: Duration = Duration::from_millis(100);

/// The largest grant: as much as is read and written at once without a limit.
const MAX_GRANT_BYTES: u64 = 64 * 1024;

/// Grants below this size show their cost, which is a timer and a system call each; they are for slow rates only.
const SMALL_GRANT_BYTES: u64 = 4096;

/// Token bucket, kept as the time at which it will be full again.
#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Increments with every change of the rate, which voids earlier reservations.
    epoch: AtomicU64,
    state: Mutex<BucketState>,
}

#[derive(Debug)]
struct BucketState {
    /// The rate at which the bucket fills; `None` while nothing is limited.
    rate: Option<Rate>,
    full_at: Instant,
}

/// Tokens that were taken from a bucket, possibly before they are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reservation {
    /// The epoch in which it was made; see [`TokenBucket::epoch`].
    pub(super) epoch: u64,
    /// When the reserved bytes may pass, which may be in the past. `None` if the bucket has no rate.
    pub(super) usable_at: Option<Instant>,
}

impl TokenBucket {
    /// Creates a bucket without a rate.
    pub(super) fn new(now: Instant) -> Self {
        Self { epoch: AtomicU64::new(0), state: Mutex::new(BucketState { rate: None, full_at: now }) }
    }

    /// Sets the rate, empties the bucket and voids all reservations. Returns the previous rate. Because the bucket
    /// starts empty, setting a rate again and again lets nothing additional pass.
    pub(super) fn set_rate(&self, rate: Option<Rate>, now: Instant) -> Option<Rate> {
        let mut state = self.state.lock();
        self.epoch.fetch_add(1, Relaxed);
        state.full_at = now + BURST;
        std::mem::replace(&mut state.rate, rate)
    }

    /// Returns the current epoch. A reservation of another epoch is void.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// Returns how many bytes should be reserved at once, if there is a rate: enough to be worth the cost of a grant,
    /// and so few that a queue of streams advances quickly.
    pub(super) fn grant_bytes(&self) -> Option<u64> {
        let rate = self.state.lock().rate?.bytes_per_second();
        Some((rate / 640).max(SMALL_GRANT_BYTES.min(rate / 20)).clamp(1, MAX_GRANT_BYTES))
    }

    /// Reserves `bytes` behind all earlier reservations.
    pub(super) fn reserve(&self, bytes: u64, now: Instant) -> Reservation {
        let mut state = self.state.lock();
        let epoch = self.epoch.load(Relaxed);
        let Some(rate) = state.rate else { return Reservation { epoch, usable_at: None } };
        state.full_at = state.full_at.max(now) + fill_time(bytes, rate);
        let wait = state.full_at.saturating_duration_since(now).saturating_sub(BURST);
        Reservation { epoch, usable_at: Some(now + wait) }
    }

    /// Returns `bytes` of a reservation that were not used. Without effect if the reservation is void.
    pub(super) fn refund(&self, bytes: u64, epoch: u64) {
        let mut state = self.state.lock();
        if let Some(rate) = state.rate.filter(|_| epoch == self.epoch.load(Relaxed)) {
            let sooner = state.full_at.checked_sub(fill_time(bytes, rate));
            state.full_at = sooner.unwrap_or(state.full_at);
        }
    }
}

/// Returns how long a bucket takes to gain `bytes` at `rate`.
fn fill_time(bytes: u64, rate: Rate) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.bytes_per_second());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
