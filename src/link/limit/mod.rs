//! Rate limits that may change while bytes pass: a [`RateLimit`] for each stream, user, proxy, service and token, and
//! a [`Pacer`] for each direction of a stream, to which five of them apply.
//!
//! Bytes are reserved before they pass, and unused ones are refunded. That makes a limit which many streams share a
//! queue: each stream has one reservation in it, so all get the same rate, and each sleeps until exactly its turn.
//! The alternative was a bucket that is checked first and charged afterwards; there all waiting streams wake for each
//! drop, and whichever runs first takes it.

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
use bucket::TokenBucket;

/// Shared count of the rates that are set, over all rate limits of a server. While it is 0, a stream checks only
/// this.
#[derive(Debug, Clone, Default)]
pub struct RateLimitCount {
    /// How many directions of rate limits have a rate; shared by all clones.
    limits: Arc<AtomicUsize>,
}

/// Rate limit on the total of all bytes that pass a stream, user, proxy or service, for each direction. Unlimited at
/// first.
#[derive(Debug)]
pub struct RateLimit {
    /// Limit on bytes from targets to users.
    down: TokenBucket,
    /// Limit on bytes from users to targets.
    up: TokenBucket,
    /// Counts the rates that are set, over all limits of the server.
    count: RateLimitCount,
}

impl RateLimit {
    /// Creates an unlimited limit, whose rates will be counted in `count`.
    pub fn new(count: &RateLimitCount) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self { down: TokenBucket::new(now), up: TokenBucket::new(now), count: count.clone() })
    }

    /// Sets the rate of one direction, or removes it with `None`. The caller wakes the streams to which the limit
    /// applies: they wait for what the previous rate allowed.
    pub fn set(&self, direction: Direction, rate: Option<Rate>, now: Instant) {
        let before = self.bucket(direction).set_rate(rate, now);
        match (before, rate) {
            (None, Some(_)) => _ = self.count.limits.fetch_add(1, Relaxed),
            (Some(_), None) => _ = self.count.limits.fetch_sub(1, Relaxed),
            _ => {}
        }
    }

    /// Returns the rate of one direction; `None` if it has none.
    pub fn rate(&self, direction: Direction) -> Option<Rate> {
        self.bucket(direction).rate()
    }

    /// Returns the token bucket of one direction.
    fn bucket(&self, direction: Direction) -> &TokenBucket {
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

/// All rate limits that apply to one stream; the strictest is effective.
#[derive(Debug, Clone)]
pub struct StreamRateLimits {
    /// The limits of the stream, its user, its proxy, its service and its proxy's token.
    all: Arc<[Arc<RateLimit>; Self::COUNT]>,
    /// Number of rates that are set on the server: while it is 0, `all` need not be read.
    count: RateLimitCount,
}

impl StreamRateLimits {
    /// The stream's own limit, its user's, its proxy's, its service's and that of its proxy's token.
    const COUNT: usize = 5;

    /// Combines the limits of a stream, its user, its proxy, its service and its proxy's token, whose rates are all
    /// counted in the same [`RateLimitCount`].
    pub fn new(all: [Arc<RateLimit>; Self::COUNT]) -> Self {
        Self { count: all[0].count.clone(), all: Arc::new(all) }
    }

    /// Returns whether any rate is set on the server, so that one of these limits may have one.
    fn may_be_limited(&self) -> bool {
        self.count.limits.load(Relaxed) > 0
    }
}
