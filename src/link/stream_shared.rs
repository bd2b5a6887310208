//! The part of a stream's endpoint that may be used while the link state is locked: counters, flags, and leaf locks.
//!
//! It must not reach a socket or wake a task. What does is in [`Endpoint`](super::endpoint::Endpoint).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;

use super::{
    bottleneck::{ActivityTracker, BottleneckTimer},
    latency::LatencyTimer,
    lock::{LeafGuard, LeafMutex},
};
use crate::{
    telemetry::{Bottleneck, ServedStream, StreamPhase, StreamStats},
    wire::ResetCode,
};

/// State of one stream that both its relay task and code under the link state use.
#[derive(Debug)]
pub(super) struct StreamShared {
    /// The stream's number in the mux of its link.
    number: u32,
    /// Telemetry counters of the stream; `None` for a stream that the peer opened.
    stats: Option<Arc<StreamStats>>,
    /// Counts the bytes of a stream that the peer opened; unset where nothing does.
    served: OnceLock<Arc<ServedStream>>,
    /// Measures connect latency and time to first byte; `None` for a stream that the peer opened.
    latency: Option<LatencyTimer>,
    /// The recorded bottleneck of the sending direction: what keeps the local socket from being read, and for how
    /// long.
    send_bottleneck: LeafMutex<BottleneckTimer>,
    /// Recent activity of the stream by direction. Allocated when the cockpit first requests the stream's details.
    activity: LeafMutex<Option<Box<ActivityTracker>>>,
    /// How often the stream has moved to another channel because its own was lost.
    failovers: AtomicU32,
    /// Whether the peer has accepted the stream: its target is connected.
    is_accepted: AtomicBool,
    /// All data that was written to the stream, which the peer has reset without accepting it; unset if it has not.
    unaccepted: OnceLock<Vec<Bytes>>,
    /// The code with which the peer has reset the stream after its data; unset if it has not.
    peer_reset: OnceLock<ResetCode>,
    /// How the stream ended, by both directions finishing or by a reset; unset while it is open.
    end: OnceLock<Result<(), ResetCode>>,
}

impl StreamShared {
    /// Creates the state of the stream with this number.
    pub(super) fn new(number: u32, stats: Option<Arc<StreamStats>>, latency: Option<LatencyTimer>) -> Self {
        Self {
            number,
            stats,
            served: OnceLock::new(),
            latency,
            send_bottleneck: LeafMutex::default(),
            activity: LeafMutex::default(),
            failovers: AtomicU32::new(0),
            is_accepted: AtomicBool::new(false),
            unaccepted: OnceLock::new(),
            peer_reset: OnceLock::new(),
            end: OnceLock::new(),
        }
    }

    /// Returns the stream's number in the mux of its link.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the telemetry counters of the stream; `None` for a stream that the peer opened.
    pub(super) fn stats(&self) -> Option<&Arc<StreamStats>> {
        self.stats.as_ref()
    }

    /// Has the bytes of a stream that the peer opened counted from now on. The first call counts.
    pub(super) fn set_served(&self, served: Arc<ServedStream>) {
        _ = self.served.set(served);
    }

    /// Returns what counts the bytes of a stream that the peer opened, if anything does.
    pub(super) fn served(&self) -> Option<&Arc<ServedStream>> {
        self.served.get()
    }

    /// Returns the counters of the stream that operators see, whichever side has opened it; `None` where nothing counts
    /// it.
    pub(super) fn shown(&self) -> Option<&Arc<StreamStats>> {
        self.stats.as_ref().or_else(|| self.served.get()?.shown())
    }

    /// Shows that the local socket has sent its FIN: the user's on the server, the target's on the proxy.
    pub(super) fn local_socket_ended(&self) {
        self.set_phase(StreamPhase::UserDone, StreamPhase::TargetDone);
    }

    /// Shows that the local socket has got the FIN of the other side.
    pub(super) fn peer_ended(&self) {
        self.set_phase(StreamPhase::TargetDone, StreamPhase::UserDone);
    }

    /// Returns the latency timer, with the counters that its measurements belong to.
    fn latency(&self) -> Option<(&LatencyTimer, &StreamStats)> {
        Some((self.latency.as_ref()?, self.stats.as_deref()?))
    }

    /// Returns whether telemetry observes the stream, so that bottlenecks and queue waits are recorded. Only for
    /// streams that this side opened.
    pub(super) fn is_observed(&self) -> bool {
        self.stats.is_some()
    }

    /// Sets the phase of the stream that telemetry shows: another one for a stream that the peer opened. Does nothing
    /// for a stream without counters.
    fn set_phase(&self, own: StreamPhase, of_peer: StreamPhase) {
        match (&self.stats, self.served.get().and_then(|served| served.shown())) {
            (Some(stats), _) => stats.set_phase(own),
            (None, Some(shown)) => shown.set_phase(of_peer),
            (None, None) => {}
        }
    }

    /// Records that bytes were read from the local socket, for the latency measurements.
    pub(super) fn record_user_bytes(&self) {
        if let Some(latency) = &self.latency {
            latency.record_user_bytes();
        }
    }

    /// Keeps the data that was written to the stream, all of it, because the peer has reset the stream without
    /// accepting it: a retry through another proxy sends it again.
    pub(super) fn set_unaccepted(&self, data: Vec<Bytes>) {
        _ = self.unaccepted.set(data);
    }

    /// Returns the bytes that a retry of the ended stream through another proxy has to send first; `None` if the target
    /// may have received some of them. `is_refused` says that the peer reported that it never reached the target.
    /// Without that report, bytes or the FIN that were sent may have arrived there, and a request is never made twice;
    /// `has_written` says whether any were written to the mux.
    pub(super) fn replay(&self, is_refused: bool, has_written: bool) -> Option<&[Bytes]> {
        if is_refused {
            return self.unaccepted.get().map(Vec::as_slice);
        }
        (!has_written).then_some(&[])
    }

    /// Records that the peer has accepted the stream, and reports the connect latency.
    pub(super) fn accepted(&self) {
        self.is_accepted.store(true, Relaxed);
        if let Some((latency, stats)) = self.latency() {
            latency.record_connected(stats);
        }
        self.set_phase(StreamPhase::Open, StreamPhase::Open);
    }

    /// Returns whether the peer has accepted the stream.
    pub(super) fn is_accepted(&self) -> bool {
        self.is_accepted.load(Relaxed)
    }

    /// Reports the queue wait of bytes that were written to the mux at `written_at` and are transmitted now. Returns
    /// whether the relay task has to be woken: if its stream still takes no bytes, the channel is no longer the
    /// cause, and nothing else would make the task record the new one.
    pub(super) fn dequeued(&self, written_at: Instant) -> bool {
        if let Some((latency, stats)) = self.latency() {
            latency.record_dequeued(stats, written_at);
        }
        self.send_bottleneck().is_blocked_by(Bottleneck::Channel)
    }

    /// Reports the time to first byte: the target's first byte was written to the user's socket.
    pub(super) fn first_byte_delivered(&self) {
        if let Some((latency, stats)) = self.latency() {
            latency.record_first_byte(stats);
        }
    }

    /// Locks the bottleneck timer of the sending direction: what keeps the local socket from being read.
    pub(super) fn send_bottleneck(&self) -> LeafGuard<'_, BottleneckTimer> {
        self.send_bottleneck.lock()
    }

    /// Locks the tracker of recent activity; `None` until the cockpit has requested the stream's details.
    pub(super) fn activity(&self) -> LeafGuard<'_, Option<Box<ActivityTracker>>> {
        self.activity.lock()
    }

    /// Counts one failover of the stream to another channel.
    pub(super) fn count_failover(&self) {
        self.failovers.fetch_add(1, Relaxed);
    }

    /// Returns how often the stream has moved to another channel because its own was lost.
    pub(super) fn failovers(&self) -> u32 {
        self.failovers.load(Relaxed)
    }

    /// Records that the peer has reset the stream after its data; the first code counts. The caller wakes the relay
    /// task.
    pub(super) fn set_peer_reset(&self, code: ResetCode) {
        _ = self.peer_reset.set(code);
    }

    /// Returns the code with which the peer has reset the stream after its data, which has to be delivered first.
    /// `None` if it has not.
    pub(super) fn peer_reset(&self) -> Option<ResetCode> {
        self.peer_reset.get().copied()
    }

    /// Records how the stream ended; the first call counts. The caller wakes the relay task.
    pub(super) fn set_end(&self, end: Result<(), ResetCode>) {
        _ = self.end.set(end);
    }

    /// Returns how the stream ended: both directions finished, or a reset. `None` while it is open.
    pub(super) fn end(&self) -> Option<Result<(), ResetCode>> {
        self.end.get().copied()
    }
}
