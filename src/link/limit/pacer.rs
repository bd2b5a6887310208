//! Applies all rate limits of one stream to one of its directions.

#[cfg(test)]
mod tests;

use std::time::Instant;

use super::{StreamRateLimits, bucket::TokenBucket};
use crate::ids::Direction;

/// Pacer of one direction of one stream: reserves bytes in every rate limit that applies, and waits for all of them.
///
/// [`request`](Self::request) a number of bytes, transfer at most as many as it allows, and [`settle`](Self::settle)
/// how many were transferred.
#[derive(Debug)]
pub(in crate::link) struct Pacer {
    /// The limits that apply to the stream; `None` for a stream that the peer opened, which is never limited here.
    limits: Option<StreamRateLimits>,
    /// The direction of the stream that is limited.
    direction: Direction,
    /// The current reservation, which was requested and not settled yet.
    grant: Option<Grant>,
}

/// Reservation of bytes in every rate limit that applies to the stream.
#[derive(Debug)]
struct Grant {
    /// How many bytes are reserved.
    bytes: u64,
    /// When all limits allow the reserved bytes to pass.
    usable_at: Instant,
    /// The epoch of the reservation in each limit's bucket: it differs from the bucket's once the rate has changed.
    epochs: [u64; StreamRateLimits::COUNT],
}

impl Pacer {
    /// Creates a pacer of one direction of a stream to which `limits` apply.
    pub(in crate::link) fn new(limits: Option<StreamRateLimits>, direction: Direction) -> Self {
        Self { limits, direction, grant: None }
    }

    /// Returns whether nothing limits the stream now, so that [`request`](Self::request) need not be called.
    pub(in crate::link) fn is_free(&self) -> bool {
        self.grant.is_none() && self.limits.as_ref().is_none_or(|limits| !limits.may_be_limited())
    }

    /// Reserves up to `wanted` bytes unless a reservation exists. Returns how many bytes may be transferred now, or
    /// the time at which to request again as the error.
    pub(in crate::link) fn request(&mut self, wanted: u64, now: Instant) -> Result<u64, Instant> {
        if self.grant.as_ref().is_some_and(|grant| !grant.is_valid(self.buckets())) {
            self.settle(0);
        }
        if self.grant.is_none() {
            let Some(most) = self.buckets().filter_map(TokenBucket::grant_bytes).min() else {
                return Ok(wanted);
            };
            let (bytes, mut usable_at) = (most.min(wanted), now);
            let mut epochs = [0; StreamRateLimits::COUNT];
            for (bucket, epoch) in self.buckets().zip(&mut epochs) {
                let reservation = bucket.reserve(bytes, now);
                *epoch = reservation.epoch;
                usable_at = usable_at.max(reservation.usable_at.unwrap_or(now));
            }
            self.grant = Some(Grant { bytes, usable_at, epochs });
        }
        match &self.grant {
            Some(grant) if grant.usable_at > now => Err(grant.usable_at),
            Some(grant) => Ok(grant.bytes.min(wanted)),
            None => Ok(wanted),
        }
    }

    /// Ends the current reservation after `used` of its bytes were transferred, and refunds the rest to the rate
    /// limits. Without effect if there is no reservation.
    pub(in crate::link) fn settle(&mut self, used: u64) {
        let Some(grant) = self.grant.take() else { return };
        let unused = grant.bytes.saturating_sub(used);
        if unused > 0 {
            self.buckets().zip(grant.epochs).for_each(|(bucket, epoch)| bucket.refund(unused, epoch));
        }
    }

    /// Iterates over the token buckets of this direction in all limits that apply to the stream.
    fn buckets(&self) -> impl Iterator<Item = &TokenBucket> {
        self.limits.iter().flat_map(|limits| limits.all.iter()).map(|limit| limit.bucket(self.direction))
    }
}

impl Grant {
    /// Returns whether no rate limit has changed since the bytes were reserved.
    fn is_valid<'a>(&self, buckets: impl Iterator<Item = &'a TokenBucket>) -> bool {
        buckets.zip(self.epochs).all(|(bucket, epoch)| bucket.epoch() == epoch)
    }
}

impl Drop for Pacer {
    /// Refunds the reservation of a stream that ends while it waits for a rate limit.
    fn drop(&mut self) {
        self.settle(0);
    }
}
