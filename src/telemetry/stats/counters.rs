//! The atomics that all counters are made of. All accesses are relaxed: each value is read alone.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::ids::{Direction, Rate, RateLimits};

/// Byte counters of both directions since the object was registered. They only grow.
#[derive(Debug, Default)]
pub struct ByteCounters {
    /// Bytes written to users' sockets.
    down: AtomicU64,
    /// Bytes read from users' sockets.
    up: AtomicU64,
}

impl ByteCounters {
    /// Returns the bytes written to users' sockets (downloads).
    pub fn down(&self) -> u64 {
        self.down.load(Relaxed)
    }

    /// Returns the bytes read from users' sockets (uploads).
    pub fn up(&self) -> u64 {
        self.up.load(Relaxed)
    }

    /// Counts bytes written to a user's socket.
    pub(in crate::telemetry) fn add_down(&self, bytes: u64) {
        self.down.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes read from a user's socket.
    pub(in crate::telemetry) fn add_up(&self, bytes: u64) {
        self.up.fetch_add(bytes, Relaxed);
    }
}

/// The displayed rate limits of both directions, in bytes per second; 0 stands for no limit.
#[derive(Debug, Default)]
pub struct RateLimitGauges {
    /// The limit on bytes from targets to users, in bytes per second; 0 for no limit.
    down: AtomicU64,
    /// The limit on bytes from users to targets, in bytes per second; 0 for no limit.
    up: AtomicU64,
}

impl RateLimitGauges {
    /// Returns the displayed rate limits of both directions; `None` for no limit.
    pub(in crate::telemetry) fn get(&self) -> RateLimits {
        RateLimits { down: Rate::new(self.down.load(Relaxed)), up: Rate::new(self.up.load(Relaxed)) }
    }

    /// Sets the displayed rate limit of one direction; `None` for no limit.
    pub fn set(&self, direction: Direction, rate: Option<Rate>) {
        let gauge = match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        };
        gauge.store(rate.map_or(0, Rate::bytes_per_second), Relaxed);
    }
}

/// The number of objects that exist now and the number that ever existed.
#[derive(Debug, Default)]
pub struct Gauge {
    /// How many counted objects (such as streams) exist now.
    now: AtomicU64,
    /// How many counted objects (such as streams) ever existed, those that exist now included.
    total: AtomicU64,
}

impl Gauge {
    /// Returns the number of objects that exist now.
    pub fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Returns the number of objects that ever existed, those that exist now included.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Counts an object that begins.
    pub(in crate::telemetry) fn enter(&self) {
        self.now.fetch_add(1, Relaxed);
        self.total.fetch_add(1, Relaxed);
    }

    /// Counts an object that ends.
    pub(in crate::telemetry) fn leave(&self) {
        self.now.fetch_sub(1, Relaxed);
    }

    /// Reverts an [`enter`](Self::enter), as if the object had never been counted here: it was reassigned.
    pub(in crate::telemetry) fn undo_enter(&self) {
        self.leave();
        self.total.fetch_sub(1, Relaxed);
    }
}

/// An optional duration in whole microseconds, from 1 µs to 71 minutes; 0 stands for `None`.
#[derive(Debug, Default)]
pub(super) struct OptionalMicros(AtomicU32);

impl OptionalMicros {
    /// Stores a duration, rounded down to microseconds and limited to the range from 1 µs to 71 minutes.
    pub(super) fn set(&self, duration: Duration) {
        self.0.store(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1), Relaxed);
    }

    /// Returns the duration that was stored last; `None` if none was.
    pub(super) fn get(&self) -> Option<Duration> {
        Some(self.0.load(Relaxed)).filter(|&us| us > 0).map(|us| Duration::from_micros(us.into()))
    }
}
