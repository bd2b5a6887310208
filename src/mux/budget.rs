//! The memory budget of a process: what the buffers of all its streams may take together.
//!
//! Credit that was granted cannot be revoked, and what a stalled reader leaves in the buffers stays there. The budget
//! therefore counts *commitments* of the receiving direction (what the peer may still send, and what was not consumed)
//! and the bytes of the sending direction that are not acknowledged, and hands them out so that those who stall leave
//! enough for the others:
//!
//! - The *reserved part* holds, for each admissible stream, its bookkeeping and a [minimum](MIN_WINDOW) in both
//!   directions. It is at most half of the budget, and the number of admissible streams follows from it: a stream that
//!   was admitted always makes progress.
//! - The *elastic part* is the rest. A stream gets a share of what is free of it (dynamic thresholds, Choudhury and
//!   Hahne 1998), less what is kept for claims of a higher rank: readers that have taken nothing yet cannot take what
//!   those need that read on, and windows on long paths cannot take what both need. Each [side](BufferSide) has half of
//!   it, so that senders to targets that read nothing take nothing of what downloads need.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The bytes that are reserved for each stream in each direction, and those that a server may send on a stream before
/// the proxy has accepted it: more than a request has, so that it waits for no RTT, and little enough for 20,000
/// streams in 1 GiB.
pub(super) const MIN_WINDOW: u64 = 8 * 1024;

/// What a stream without buffered data takes, in bytes: the state of the mux, the relay task and its endpoint, the
/// user's entries in tables and telemetry. Measured with 3,000 idle streams: 7 KiB on the server and 4 KiB on the
/// proxy.
const STREAM_OVERHEAD: u64 = 8 * 1024;

/// From how many consumed bytes on a reader counts as one that makes progress. The kernels of a user that reads nothing
/// take up to 160 KiB: its receive buffer, and what the send buffer on this side takes beyond `TCP_NOTSENT_LOWAT`.
const PROVEN_BYTES: u64 = 192 * 1024;

/// By how many bytes the receive window of the user's or target's kernel has to advance until its reader counts as one
/// that makes progress. The window starts at 64 KiB and opens to twice that where nothing is read.
pub const PROVEN_READ_BYTES: u64 = 64 * 1024;

/// So many received bytes, at least, may wait on a link that has no flow control: the [minimum](MIN_WINDOW) of a
/// hundred stalled streams, which the peer was asked to pause then, and what was in flight meanwhile.
const MIN_UNWINDOWED_BYTES: u64 = 1 << 20;

/// How many times as many bytes a peer must have acknowledged until its reader counts as one that makes progress, where
/// the memory of the peer was not filling when the stream began. Then its kernel takes up to 256 KiB more
/// (`TCP_NOTSENT_LOWAT`): 350 KB were acknowledged for targets that read nothing.
const PROVEN_ACKED_FACTOR: u64 = 3;

/// The reserved part is at most this fraction of the budget.
const RESERVED_FRACTION: u64 = 2;

/// What a server may have sent on the streams of a link that the proxy has not accepted, beyond the minimum of each, in
/// bytes: sixteen uploads of a first window each. The proxy cannot refuse it, so that it is set apart there.
pub(super) const EARLY_BYTES: u64 = 4 << 20;

/// What is set apart for [`EARLY_BYTES`] is at most this fraction of the elastic part.
const EARLY_FRACTION: u64 = 8;

/// The budget is tight when less than this fraction of a side's part is free.
const TIGHT_FRACTION: u64 = 2;

/// The budget is filling when more than this fraction of the elastic part is in use: by 250 idle streams with 1 GiB.
const FILLING_FRACTION: u64 = 8;

/// This fraction of the elastic part is for the buffers of each side. A sender does not know how its peer's reader
/// reads: with a common part, 14,900 senders to targets that read nothing left 8 KiB per RTT to the downloads beside
/// them.
const SIDE_FRACTION: u64 = 2;

/// Whether buffers are for data to the peer or from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BufferSide {
    /// What the peer may send, and what was not consumed.
    Receiving,
    /// What was sent, or will be, and is not acknowledged.
    Sending,
}

/// What a reservation beyond the minimum is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The first window of a stream whose reader has taken nothing yet.
    Unproven,
    /// The same, once the reader has taken something: less than proves that it reads on.
    Ramp,
    /// What is sent to a peer that has raised its window, although less than for a reader that makes progress.
    Raised,
    /// The initial window of a stream whose reader makes progress.
    Proven,
    /// A window beyond the initial one, on a path with a large bandwidth-delay product.
    Growth,
}

impl Claim {
    /// Returns the share of a side's part that is kept for claims of a higher rank, and the share of the rest that one
    /// stream may take, as divisors.
    fn divisors(self) -> (u64, u64) {
        match self {
            Self::Unproven => (4, 128),
            Self::Ramp => (8, 16),
            Self::Raised => (12, 16),
            Self::Proven => (32, 16),
            Self::Growth => (3, 4),
        }
    }
}

/// The sizes of a [`MemoryBudget`].
#[derive(Debug, Clone)]
pub struct BudgetLimits {
    /// The whole budget in bytes.
    pub bytes: u64,
    /// How many streams are wanted at most; fewer are admissible if the budget is too small for them.
    pub max_streams: u64,
    /// What is counted for each open stream beside its buffers, in bytes.
    pub stream_overhead: u64,
    /// What is reserved for each stream in each direction, in bytes. Both sides of a link must agree on it.
    pub min_window: u64,
    /// From how many consumed bytes on a reader counts as one that makes progress.
    pub proven_bytes: u64,
}

impl BudgetLimits {
    /// Returns what is reserved for each stream, in bytes.
    fn per_stream(&self) -> u64 {
        self.stream_overhead + 2 * self.min_window
    }
}

/// The memory budget of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Shared>);

/// What the clones of a budget share.
#[derive(Debug)]
struct Shared {
    /// The sizes, where `max_streams` is the number of admissible streams.
    limits: BudgetLimits,
    /// The elastic part in bytes, without `early`.
    elastic: u64,
    /// The bytes that are set apart for what a server sends before the proxy has accepted the stream.
    early: u64,
    /// How many streams are open.
    streams: AtomicU64,
    /// How many bytes of the elastic part are reserved. It exceeds the elastic part for a moment if several threads
    /// write to streams at once.
    reserved: AtomicU64,
    /// How many of the reserved bytes are for sending.
    reserved_for_sending: AtomicU64,
}

impl MemoryBudget {
    /// Creates a budget of `bytes` bytes for at most `max_streams` streams.
    pub fn new(bytes: u64, max_streams: usize) -> Self {
        Self::with_limits(BudgetLimits {
            bytes,
            max_streams: max_streams as u64,
            stream_overhead: STREAM_OVERHEAD,
            min_window: MIN_WINDOW,
            proven_bytes: PROVEN_BYTES,
        })
    }

    /// Creates a budget of which nothing is reserved.
    pub fn with_limits(mut limits: BudgetLimits) -> Self {
        let per_stream = limits.per_stream();
        limits.max_streams = limits.max_streams.min(limits.bytes / RESERVED_FRACTION / per_stream);
        let rest = limits.bytes - limits.max_streams * per_stream;
        let early = EARLY_BYTES.min(rest / EARLY_FRACTION);
        let [streams, reserved, reserved_for_sending] = [const { AtomicU64::new(0) }; 3];
        Self(Arc::new(Shared {
            limits,
            elastic: rest - early,
            early,
            streams,
            reserved,
            reserved_for_sending,
        }))
    }

    /// Returns the whole budget in bytes.
    pub fn total(&self) -> u64 {
        self.0.limits.bytes
    }

    /// Returns how many bytes of the budget are in use: those of open streams, buffered or promised.
    pub fn used(&self) -> u64 {
        self.0.streams.load(Relaxed) * self.0.limits.per_stream() + self.0.reserved.load(Relaxed)
    }

    /// Returns how many streams may be open at once.
    pub fn max_streams(&self) -> usize {
        usize::try_from(self.0.limits.max_streams).unwrap_or(usize::MAX)
    }

    /// Returns whether little is free for one of the sides, so that streams get smaller windows than they want.
    pub fn is_tight(&self) -> bool {
        let tight = self.side_bytes() / TIGHT_FRACTION;
        self.free(BufferSide::Receiving) < tight || self.free(BufferSide::Sending) < tight
    }

    /// Returns whether a good part of the elastic part is in use, so that new streams may turn out to be some of many
    /// that make no progress.
    pub fn is_filling(&self) -> bool {
        self.0.reserved.load(Relaxed) > self.0.elastic / FILLING_FRACTION
    }

    /// Reserves bytes for what is not needed to serve a stream, unless memory is tight. Returns whether they are
    /// reserved.
    pub fn reserve_optional(&self, bytes: u64) -> bool {
        let max = self.side_bytes() / TIGHT_FRACTION + self.0.reserved_for_sending.load(Relaxed);
        let more = |reserved: u64| Some(reserved + bytes).filter(|reserved| *reserved <= max);
        self.0.reserved.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Returns bytes that were [reserved](Self::reserve_optional).
    pub fn release_optional(&self, bytes: u64) {
        self.0.reserved.fetch_sub(bytes, Relaxed);
    }

    /// Returns from how many consumed bytes on a reader counts as one that makes progress.
    pub fn proven_bytes(&self) -> u64 {
        self.0.limits.proven_bytes
    }

    /// Returns from how many acknowledged bytes on the reader of a peer counts as one that makes progress.
    /// `is_peer_filling` if the peer's memory was filling when the stream began.
    pub(super) fn proven_acked_bytes(&self, is_peer_filling: bool) -> u64 {
        self.proven_bytes() * if is_peer_filling { 1 } else { PROVEN_ACKED_FACTOR }
    }

    /// Returns how many bytes of received data may wait on a link that has no flow control, which has `held` of them.
    pub(super) fn max_unwindowed_bytes(&self, held: u64) -> u64 {
        self.allowance(BufferSide::Receiving, Claim::Growth, held).max(MIN_UNWINDOWED_BYTES)
    }

    /// Returns the bytes that are reserved for each stream in each direction.
    pub(super) fn min_window(&self) -> u64 {
        self.0.limits.min_window
    }

    /// Admits a stream, whose end has to be reported with [`close_stream`](Self::close_stream). Returns false if the
    /// maximum is open.
    pub(super) fn open_stream(&self) -> bool {
        let one_more = |open| (open < self.0.limits.max_streams).then_some(open + 1);
        self.0.streams.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// Records that an admitted stream has ended.
    pub(super) fn close_stream(&self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }

    /// Returns how many bytes beyond the minimum a stream that holds `held` of them may hold for this claim.
    fn allowance(&self, side: BufferSide, claim: Claim, held: u64) -> u64 {
        let (kept, share) = claim.divisors();
        (self.free(side) + held).saturating_sub(self.side_bytes() / kept) / share
    }

    /// Returns how many bytes of the elastic part the buffers of one side may take.
    fn side_bytes(&self) -> u64 {
        self.0.elastic / SIDE_FRACTION
    }

    /// Returns how many bytes of the elastic part are free for the buffers of one side.
    fn free(&self, side: BufferSide) -> u64 {
        let sending = self.0.reserved_for_sending.load(Relaxed);
        let taken = match side {
            BufferSide::Sending => sending,
            BufferSide::Receiving => self.0.reserved.load(Relaxed).saturating_sub(sending),
        };
        self.side_bytes().saturating_sub(taken)
    }

    /// Reserves up to `bytes` bytes, as many as are free of the first `elastic` bytes of the elastic part. Returns how
    /// many.
    fn reserve(&self, bytes: u64, elastic: u64) -> u64 {
        let before = self
            .0
            .reserved
            .fetch_update(Relaxed, Relaxed, |reserved| {
                Some(reserved + bytes.min(elastic.saturating_sub(reserved)))
            })
            .unwrap_or_default();
        bytes.min(elastic.saturating_sub(before))
    }
}

/// What one direction of a stream has reserved beyond its minimum. It has to be [resized](Self::resize) to zero when
/// the stream ends.
#[derive(Debug)]
pub(super) struct Reservation {
    /// What it is for.
    side: BufferSide,
    /// The reserved bytes.
    bytes: u64,
}

impl Reservation {
    /// Creates a reservation of no byte.
    pub(super) fn new(side: BufferSide) -> Self {
        Self { side, bytes: 0 }
    }

    /// Returns the reserved bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many bytes the stream may have reserved for this claim.
    pub(super) fn allowance(&self, claim: Claim, budget: &MemoryBudget) -> u64 {
        budget.allowance(self.side, claim, self.bytes)
    }

    /// Grows to `bytes` bytes, or to less if fewer are free. Returns how many are reserved then.
    pub(super) fn grow(&mut self, bytes: u64, budget: &MemoryBudget) -> u64 {
        self.grow_within(bytes, budget.0.elastic, budget);
        self.bytes
    }

    /// Grows to `bytes` bytes, which were received early, also from what is set apart for that. Returns false if they
    /// are not free.
    pub(super) fn grow_early(&mut self, bytes: u64, budget: &MemoryBudget) -> bool {
        self.grow_within(bytes, budget.0.elastic + budget.0.early, budget);
        self.bytes >= bytes
    }

    /// Grows to `bytes` bytes, as far as they are free of the first `elastic` bytes of the elastic part.
    fn grow_within(&mut self, bytes: u64, elastic: u64, budget: &MemoryBudget) {
        let grown = budget.reserve(bytes.saturating_sub(self.bytes), elastic);
        self.bytes += grown;
        if self.side == BufferSide::Sending {
            budget.0.reserved_for_sending.fetch_add(grown, Relaxed);
        }
    }

    /// Sets the reservation to `bytes` bytes, which are in use or not needed any more.
    pub(super) fn resize(&mut self, bytes: u64, budget: &MemoryBudget) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if before == bytes {
            return;
        }
        let set = |counter: &AtomicU64| {
            if bytes > before {
                counter.fetch_add(bytes - before, Relaxed);
            } else {
                counter.fetch_sub(before - bytes, Relaxed);
            }
        };
        set(&budget.0.reserved);
        if self.side == BufferSide::Sending {
            set(&budget.0.reserved_for_sending);
        }
    }
}

#[cfg(test)]
mod tests;
