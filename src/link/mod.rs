//! Links with I/O: channel drivers, the relay between a stream and its local socket, and the mux behind its lock.
//!
//! One [`Link`] contains the mux of one peer. The task that changes the link state executes the consequences of the
//! change: the driver that receives data writes it to the users' sockets, and the relay task that has read a large
//! chunk from a user's socket writes it to the channel. Small frames wait until every task that is ready has run, and
//! leave in one write. A task is woken only for the bytes that a socket did not take.
//!
//! # Lock order
//!
//! 1. The flush lock of a channel (`channel_io`), the lock on the owner's notifications (`handle`), **or** the delivery
//!    lock of an endpoint (`endpoint`). Flushes, deliveries and the owner's notifications only *try* these locks when
//!    another lock of this level may be held; blocking on one is for tasks that hold none.
//! 2. The link state (`handle`, `state`).
//! 3. Leaf locks, under which no other lock is acquired: bottleneck timers, rate limits; and outside
//!    this module, the mutexes of `telemetry` (latency histograms) and of a [`LatencyObserver`].
//!
//! While the link state is locked no code makes a system call, wakes a task, encodes or decodes frames, or computes a
//! checksum or base64. So:
//!
//! - a driver decodes a batch of frames first, and then locks the link state to hand them to the mux;
//! - a flush takes a batch of frames from the mux, unlocks the link state, and then encodes and writes them;
//! - wakes, deliveries and calls of the owner are collected as `FollowUp`s, and executed after unlocking.
//!
//! `Endpoint` and `ChannelIo` each have a `shared` part, the only one that code under the link state uses. `lock`
//! gives every lock of this module its rank; debug builds check the order, and every function that must not run under
//! the link state asserts that. The leaf locks outside this module are plain mutexes without a rank: the functions that
//! acquire them call nothing of this module meanwhile.

mod ack_progress;
mod bottleneck;
mod channel_health;
mod channel_io;
mod channel_shared;
mod control;
mod delivery;
mod drain;
mod driver;
mod driver_events;
mod driver_signals;
mod endpoint;
mod flat_combining;
mod flushing;
mod handle;
mod idle;
mod latency;
mod limit;
mod lock;
mod memory;
mod outage;
mod preamble;
mod relay;
mod reset;
mod retirement;
mod scratch;
mod socket_reader;
mod sources;
mod state;
mod stream_details;
mod stream_shared;
mod sync;
#[cfg(test)]
mod tests;
mod text_peer;
mod timer_alignment;
mod write_queue;

pub use control::StreamControl;
pub use driver::{Driver, NewChannel};
pub use endpoint::NewStream;
pub use handle::{Link, LinkEvents, Stream};
pub use latency::LatencyObserver;
pub use limit::{RateLimit, RateLimitCount, StreamRateLimits};
pub use relay::{RetryableConnection, StreamOutcome};
