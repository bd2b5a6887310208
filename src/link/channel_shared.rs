//! The part of a channel that may be used while the link state is locked: identity, counters, flags.
//!
//! It must not reach the socket or wake the driver. What does is in [`ChannelIo`](super::channel_io::ChannelIo).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use tokio::runtime::Id as RuntimeId;

use super::lock::LeafMutex;
use crate::{
    mux::Mux,
    telemetry::{ChannelHealth, ChannelStats, DisconnectReason, TcpInfo},
};

/// After this long without write progress, or without an answer to a ping, a channel gets no new streams: their users
/// would wait behind its backlog.
const MAX_WRITE_STALL: Duration = Duration::from_secs(3);

/// State of one channel that its driver, threads that flush it and code under the link state use.
#[derive(Debug)]
pub(super) struct ChannelShared {
    /// Number of the channel within its link.
    id: u16,
    /// The runtime whose thread drives the channel.
    runtime: RuntimeId,
    /// Whether the peer speaks the text format instead of binary frames.
    is_text: bool,
    /// Telemetry counters of the channel; `None` on a proxy.
    stats: Option<Arc<ChannelStats>>,
    /// Bytes in the write queue after the last write. Kept beside the queue, because taking the queue's lock only to
    /// read its length would make another thread's flush skip its work.
    queued_bytes: AtomicUsize,
    /// Whether the socket's send buffer is full, and the driver waits until the socket is writable.
    is_write_blocked: AtomicBool,
    /// Whether the mux's timeout of the channel has moved, so that the driver has to set its timer again.
    has_timeout_moved: AtomicBool,
    /// When the channel's socket last took bytes.
    last_write_progress: LeafMutex<Instant>,
    /// Whether the channel is being closed in an orderly way, because the link does not need it.
    is_retiring: AtomicBool,
    /// Why the channel ends; unset until it is stopped.
    end_reason: OnceLock<DisconnectReason>,
}

impl ChannelShared {
    /// Creates the state of a channel that `runtime` drives.
    pub(super) fn new(id: u16, runtime: RuntimeId, is_text: bool, stats: Option<Arc<ChannelStats>>) -> Self {
        Self {
            id,
            runtime,
            is_text,
            stats,
            queued_bytes: AtomicUsize::new(0),
            is_write_blocked: AtomicBool::new(false),
            has_timeout_moved: AtomicBool::new(true),
            last_write_progress: LeafMutex::new(Instant::now()),
            is_retiring: AtomicBool::new(false),
            end_reason: OnceLock::new(),
        }
    }

    /// Returns the channel's number within its link.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// Returns the runtime whose thread drives the channel.
    pub(super) fn runtime(&self) -> RuntimeId {
        self.runtime
    }

    /// Returns whether the channel's peer speaks the text format.
    pub(super) fn is_text(&self) -> bool {
        self.is_text
    }

    /// Returns the telemetry counters of the channel; `None` on a proxy, which has none.
    pub(super) fn stats(&self) -> Option<&Arc<ChannelStats>> {
        self.stats.as_ref()
    }

    /// Records an RTT sample of the channel in its telemetry counters. Does nothing on a proxy.
    pub(super) fn record_rtt(&self, rtt: Duration) {
        if let Some(stats) = &self.stats {
            stats.record_rtt(rtt);
        }
    }

    /// Records that the socket took `written` bytes, and that `queued` bytes remain in the write queue.
    pub(super) fn record_write(&self, written: usize, queued: usize) {
        self.queued_bytes.store(queued, Relaxed);
        if let Some(stats) = &self.stats {
            stats.add_sent(written as u64);
        }
        if written > 0 {
            *self.last_write_progress.lock() = Instant::now();
        }
    }

    /// Sets whether the socket's send buffer is full. Returns whether it was before.
    pub(super) fn set_write_blocked(&self, is_blocked: bool) -> bool {
        self.is_write_blocked.swap(is_blocked, SeqCst)
    }

    /// Returns whether the channel's socket takes no bytes, because its send buffer is full.
    pub(super) fn is_write_blocked(&self) -> bool {
        self.is_write_blocked.load(SeqCst)
    }

    /// Returns how many encoded bytes the socket has not taken yet.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Relaxed)
    }

    /// Returns for how long the socket has taken nothing.
    pub(super) fn write_stall(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.last_write_progress.lock())
    }

    /// Records that the mux's timeout of the channel has moved. The caller has the driver woken.
    pub(super) fn set_timeout_moved(&self) {
        self.has_timeout_moved.store(true, SeqCst);
    }

    /// Returns whether the mux's timeout of the channel has moved since the last call; also at the first call. For the
    /// driver, which then sets its timer.
    pub(super) fn take_timeout_moved(&self) -> bool {
        self.has_timeout_moved.load(SeqCst) && self.has_timeout_moved.swap(false, SeqCst)
    }

    /// Records that the channel is being closed in an orderly way, because the link does not need it.
    pub(super) fn set_retiring(&self) {
        self.is_retiring.store(true, Relaxed);
    }

    /// Returns whether the channel is being closed in an orderly way, because the link does not need it.
    pub(super) fn is_retiring(&self) -> bool {
        self.is_retiring.load(Relaxed)
    }

    /// Records why the channel ends; the first reason counts.
    pub(super) fn set_end_reason(&self, reason: DisconnectReason) {
        _ = self.end_reason.set(reason);
    }

    /// Returns why the channel ends or has ended; `None` before.
    pub(super) fn end_reason(&self) -> Option<&DisconnectReason> {
        self.end_reason.get()
    }

    /// Returns whether the peer has taken nothing for [`MAX_WRITE_STALL`], so that the channel should get no new
    /// streams: the socket's send buffer has stayed full, or a ping is unanswered.
    pub(super) fn is_stalled(&self, mux: &Mux, now: Instant) -> bool {
        let is_write_stalled = self.is_write_blocked() && self.write_stall(now) >= MAX_WRITE_STALL;
        is_write_stalled || mux.is_probe_unanswered_for(self.id, MAX_WRITE_STALL, now)
    }

    /// Returns the channel's health for telemetry, given what the kernel reports of its connection.
    pub(super) fn health(&self, mux: &Mux, tcp: Option<TcpInfo>, now: Instant) -> ChannelHealth {
        let path = mux.path_stats(self.id);
        let chunk = path.filter(|_| !self.is_text).map_or(0, |path| path.chunk_size);
        let (rtt, min_rtt) = path.and_then(|path| path.latest_rtt.zip(path.min_rtt)).unzip();
        ChannelHealth {
            tcp,
            rtt,
            min_rtt,
            send_queue_bytes: self.queued_bytes() as u64 + mux.queued_bytes(self.id),
            chunk_size: u32::try_from(chunk).unwrap_or(u32::MAX),
            is_stalled: self.is_stalled(mux, now),
        }
    }
}
