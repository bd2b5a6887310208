//! How the streams of a link keep to the memory budget beyond what the mux counts: buffers that short slices keep
//! alive, and what kernels hold for users that read nothing.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpStream;

use crate::{
    inspect::DetectionMemory,
    mux::{COPY_THRESHOLD, MAX_COMPACTED_LEN, MemoryBudget},
    net::{fix_receive_buffer, set_notsent_lowat},
    telemetry::{MemorySource, MemoryUse},
};

/// How long a stream has to make no progress until what it keeps is copied out of pooled buffers.
const COMPACT_AFTER: Duration = Duration::from_secs(1);

/// The most bytes that the kernel holds unsent for a local socket (`TCP_NOTSENT_LOWAT`). Without a limit it takes 4 MB
/// for a user that reads nothing, and six hundred of them exhaust what Linux gives all TCP sockets of a machine with 24
/// GB: then every connection of the machine stalls.
const UNSENT_BYTES: u32 = 256 * 1024;

/// The same for a stream that begins while memory is filling, until its user or target is known to read.
const UNPROVEN_UNSENT_BYTES: u32 = 16 * 1024;

/// The receive buffer of a local socket, in bytes as the socket option counts them, whose stream begins while memory is
/// filling: that with which a connection begins on Linux. The kernel enlarges it with the first 64 KiB that are read,
/// to 700 KB on loopback, also where nothing more is read.
const UNPROVEN_RECEIVE_BUFFER: usize = 64 * 1024;

/// After so many bytes of a local socket its receive buffer may grow: its peer takes what it sends.
pub(super) const PROVEN_SENT_BYTES: usize = 192 * 1024;

/// The shortest interval between two warnings that memory is tight.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// What metrics show of the budget.
impl MemorySource for MemoryBudget {
    fn memory(&self) -> MemoryUse {
        MemoryUse { budget: self.total(), used: self.used() }
    }
}

/// What protocol detection buffers is reserved from the memory budget; it ends on streams for which nothing is free.
impl DetectionMemory for MemoryBudget {
    fn resize(&self, before: u64, after: u64) -> bool {
        if after > before {
            return self.reserve_optional(after - before);
        }
        if after < before {
            self.release_optional(before - after);
        }
        true
    }
}

/// Returns up to which length slices that have to be kept are copied out of the pooled buffers they were read into.
pub(super) fn copied_below(budget: &MemoryBudget) -> usize {
    if budget.is_tight() { MAX_COMPACTED_LEN } else { COPY_THRESHOLD }
}

/// Limits what the kernel holds for the local socket of a new stream. Returns whether that is little, because memory is
/// filling.
pub(super) fn limit_kernel_buffers(socket: &TcpStream, budget: &MemoryBudget) -> bool {
    let is_filling = budget.is_filling();
    set_notsent_lowat(socket, if is_filling { UNPROVEN_UNSENT_BYTES } else { UNSENT_BYTES });
    if is_filling {
        fix_receive_buffer(socket, UNPROVEN_RECEIVE_BUFFER);
    }
    is_filling
}

/// Lets the kernel hold as much unsent data for a local socket as while memory is not filling.
pub(super) fn raise_unsent_limit(socket: &TcpStream) {
    set_notsent_lowat(socket, UNSENT_BYTES);
}

/// Warns, once a minute at most, if memory is tight: new streams get smaller windows than usual.
pub(super) fn warn_if_tight(budget: &MemoryBudget) {
    static WARNED_AT: Mutex<Option<Instant>> = Mutex::new(None);
    if !budget.is_tight() {
        return;
    }
    let (now, mut warned_at) = (Instant::now(), WARNED_AT.lock());
    if warned_at.is_none_or(|at| now.saturating_duration_since(at) >= WARNING_INTERVAL) {
        *warned_at = Some(now);
        tracing::warn!(
            "memory is tight: {} of {} MiB are promised to open streams; new ones get small windows until their readers \
             make progress (option --memory)",
            budget.used() >> 20,
            budget.total() >> 20
        );
    }
}

/// What the receive window of a user's or target's kernel says about how much its application reads.
#[derive(Debug, Default)]
pub(super) struct ReaderWindow {
    /// Where the window ended when it was seen first; `None` before.
    first_end: Option<u64>,
    /// How many bytes it has advanced by since.
    advance: u64,
}

impl ReaderWindow {
    /// Records where the window ends, if that is known. Returns by how many bytes it has advanced if that has changed.
    pub(super) fn on_window_end(&mut self, end: Option<u64>) -> Option<u64> {
        let end = end?;
        let advance = end.saturating_sub(*self.first_end.get_or_insert(end));
        let has_advanced = advance > self.advance;
        self.advance = self.advance.max(advance);
        has_advanced.then_some(advance)
    }
}

/// Finds out when a stream has made no progress for [`COMPACT_AFTER`].
#[derive(Debug, Default)]
pub(super) struct StallWatch {
    /// Since when the stream has been blocked; `None` while it is not.
    blocked_since: Option<Instant>,
    /// Whether what the stream keeps was compacted, and nothing has happened since.
    is_compacted: bool,
}

impl StallWatch {
    /// Records whether the stream is blocked. Returns when it counts as stalled; `None` if it is not blocked, or
    /// compacted already.
    pub(super) fn update(&mut self, is_blocked: bool) -> Option<Instant> {
        if !is_blocked || self.is_compacted {
            self.blocked_since = None;
            return None;
        }
        Some(*self.blocked_since.get_or_insert_with(Instant::now) + COMPACT_AFTER)
    }

    /// Records that something has happened on the stream.
    pub(super) fn on_activity(&mut self) {
        self.is_compacted = false;
    }

    /// Returns whether the stream has stalled, and records that the caller compacts what it keeps.
    pub(super) fn take_stall(&mut self) -> bool {
        let has_stalled = self.blocked_since.is_some_and(|since| since.elapsed() >= COMPACT_AFTER);
        self.is_compacted |= has_stalled;
        has_stalled
    }
}
