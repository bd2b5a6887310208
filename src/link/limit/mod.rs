//! How fast bytes may pass, changed while they do: a [`RateLimit`] for each thing that can have one, and a [`Pacer`] that
//! waits its turn in all the limits that hold for one stream.
//!
//! A turn is bought before the bytes pass, and what was not used of it is given back. That makes a limit which many
//! streams share a queue: each stands in it once, so all get the same, and each sleeps until exactly its turn. A bucket
//! that is looked into and paid afterwards was the alternative; there all who wait wake for each drop, and the luckiest
//! takes it.

mod bucket;
mod pacer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

pub(super) use pacer::Pacer;

use crate::ids::{Direction, Rate};
use bucket::Bucket;

/// How many rate limits are set, all together. While there are none, carrying bytes costs one look at this.
#[derive(Debug, Clone, Default)]
pub struct RateLimitCount(Arc<AtomicUsize>);

/// How fast all bytes together that pass something may go, each direction apart; at first without bounds.
#[derive(Debug)]
pub struct RateLimit {
    down: Bucket,
    up: Bucket,
    count: RateLimitCount,
}

impl RateLimit {
    /// One that is counted in `count`.
    pub fn new(count: &RateLimitCount) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self { down: Bucket::new(now), up: Bucket::new(now), count: count.clone() })
    }

    /// Bounds one direction, or frees it. Streams that wait do so for what held before: wake them.
    pub fn set(&self, direction: Direction, rate: Option<Rate>, now: Instant) {
        let before = self.of(direction).set(rate, now);
        match (before, rate) {
            (None, Some(_)) => _ = self.count.0.fetch_add(1, Relaxed),
            (Some(_), None) => _ = self.count.0.fetch_sub(1, Relaxed),
            _ => {}
        }
    }

    fn of(&self, direction: Direction) -> &Bucket {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }
}

impl Drop for RateLimit {
    fn drop(&mut self) {
        let now = Instant::now();
        self.set(Direction::Down, None, now);
        self.set(Direction::Up, None, now);
    }
}

/// All limits that hold for one stream; the strictest counts.
#[derive(Debug, Clone)]
pub struct StreamRateLimits {
    all: Arc<[Arc<RateLimit>; Self::ALL]>,
    count: RateLimitCount,
}

impl StreamRateLimits {
    /// The stream's own, its user's, its proxy's and its service's.
    const ALL: usize = 4;

    /// The limits of a stream, its user, its proxy and its service, all counted in the same place.
    pub fn new(all: [Arc<RateLimit>; Self::ALL]) -> Self {
        Self { count: all[0].count.clone(), all: Arc::new(all) }
    }

    /// Whether there may be a limit.
    fn any(&self) -> bool {
        self.count.0.load(Relaxed) > 0
    }
}
