//! One direction of one rate limit: a token bucket whose tokens are reserved in advance, without a clock of its own.

#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{ids::Rate, link::lock::LeafMutex};

/// Capacity of a token bucket, as the time in which it fills at its rate: the burst of bytes that may pass after a
/// pause. It makes up for timers that fire late; a user never gets more than this above its rate.
pub(super) const BURST: Duration = Duration::from_millis(100);

/// The most bytes that a stream reserves from a rate limit at once: as many as are read and written at once without a
/// limit.
const MAX_GRANT_BYTES: u64 = 64 * 1024;

/// Bytes below which a reservation is only made at slow rates: each costs a timer and a system call.
const SMALL_GRANT_BYTES: u64 = 4096;

/// Token bucket, kept as the time at which it will be full again.
#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Increments with every change of the rate, which voids earlier reservations.
    epoch: AtomicU64,
    /// The rate, and when the bucket will be full of tokens.
    state: LeafMutex<BucketState>,
}

/// Rate and fill level of a [`TokenBucket`].
#[derive(Debug)]
struct BucketState {
    /// The rate at which the bucket fills, in bytes per second; `None` if this direction is unlimited.
    rate: Option<Rate>,
    /// When the bucket will be full again; in the past if it is full now. Each reservation moves it into the future.
    full_at: Instant,
}

/// Tokens that were taken from a bucket, possibly before they are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reservation {
    /// The epoch of the bucket in which the reservation was made; after a change of the rate it is void.
    pub(super) epoch: u64,
    /// When the reserved bytes may pass, which may be in the past. `None` if the bucket has no rate.
    pub(super) usable_at: Option<Instant>,
}

impl TokenBucket {
    /// Creates a bucket without a rate.
    pub(super) fn new(now: Instant) -> Self {
        Self { epoch: AtomicU64::new(0), state: LeafMutex::new(BucketState { rate: None, full_at: now }) }
    }

    /// Returns the rate.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.state.lock().rate
    }

    /// Sets the rate, empties the bucket and voids all reservations. Returns the previous rate. Because the bucket
    /// starts empty, no additional bytes pass if a rate is set again and again.
    pub(super) fn set_rate(&self, rate: Option<Rate>, now: Instant) -> Option<Rate> {
        let mut state = self.state.lock();
        self.epoch.fetch_add(1, Relaxed);
        state.full_at = now + BURST;
        std::mem::replace(&mut state.rate, rate)
    }

    /// Returns the current epoch, which increments with every change of the rate. A reservation of an earlier epoch
    /// is void.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// Returns how many bytes should be reserved at once, if there is a rate: enough to be worth the cost of a timer
    /// and a system call, and so few that all streams which share the limit advance quickly. `None` without a rate.
    pub(super) fn grant_bytes(&self) -> Option<u64> {
        let rate = self.state.lock().rate?.bytes_per_second();
        Some((rate / 640).max(SMALL_GRANT_BYTES.min(rate / 20)).clamp(1, MAX_GRANT_BYTES))
    }

    /// Takes tokens for `bytes` behind all earlier reservations, and returns when they may pass.
    pub(super) fn reserve(&self, bytes: u64, now: Instant) -> Reservation {
        let mut state = self.state.lock();
        let epoch = self.epoch.load(Relaxed);
        let Some(rate) = state.rate else { return Reservation { epoch, usable_at: None } };
        state.full_at = state.full_at.max(now) + fill_time(bytes, rate);
        let wait = state.full_at.saturating_duration_since(now).saturating_sub(BURST);
        Reservation { epoch, usable_at: Some(now + wait) }
    }

    /// Puts back the tokens of `bytes` that were reserved in `epoch` and not transferred. Without effect if the rate
    /// has changed since.
    pub(super) fn refund(&self, bytes: u64, epoch: u64) {
        let mut state = self.state.lock();
        if let Some(rate) = state.rate.filter(|_| epoch == self.epoch.load(Relaxed)) {
            let sooner = state.full_at.checked_sub(fill_time(bytes, rate));
            state.full_at = sooner.unwrap_or(state.full_at);
        }
    }
}

/// Returns how long a token bucket takes to gain tokens for `bytes` bytes at `rate`.
fn fill_time(bytes: u64, rate: Rate) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.bytes_per_second());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
