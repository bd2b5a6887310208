//! The end of a stream whose local socket was reset: the data that was received before is delivered before the reset.
//!
//! What a direct connection does decides here. Its kernels keep what they have acknowledged: a peer that reads gets it,
//! and then the error. So the side whose socket fails reads that to its end and hands it to the mux before RESET
//! ([`SocketFailure`], [`Stream::reset_after_data`]), and the other side writes all of it to its own local socket,
//! waits until the kernel of the user or target has acknowledged it, and then resets the connection
//! ([`Stream::deliver_before_reset`]).
//!
//! A direct connection drops what the receiving kernel has not taken. So a stream does not wait for a receiver that has
//! stopped reading, or that the operator has paused: after [`MAX_STALL`] without progress, and after
//! [`MAX_DELIVERY`] in all, the rest is discarded.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::handle::Stream;
use crate::{net::SendQueue, wire::ResetCode};

/// How long the data before a reset may make no progress, or [`MAX_STALL_RTTS`] RTTs if that is longer: a kernel
/// retransmits a lost segment after 200, 600 and 1,400 ms.
const MAX_STALL: Duration = Duration::from_secs(2);

/// The RTTs for which the data before a reset may make no progress, if that is longer than [`MAX_STALL`].
const MAX_STALL_RTTS: u32 = 4;

/// How long the delivery of the data before a reset may take in all, so that neither a receiver that takes single bytes
/// nor a peer that does not send what it has announced keeps a stream for longer. It is as long as the default grace
/// for resuming a link, during which no data arrives.
const MAX_DELIVERY: Duration = Duration::from_secs(30);

/// The shortest and the longest interval between two checks whether the kernel has transmitted everything.
const ACK_POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// How long to wait for acknowledgements where the system does not report them.
const BLIND_ACK_WAIT: Duration = Duration::from_millis(100);

/// Deadline of a delivery that has to make progress.
#[derive(Debug)]
struct StallTimer<P> {
    /// When the delivery must have ended, whatever its progress.
    ends_at: Instant,
    /// What was delivered when the last progress was noticed.
    progress: P,
    /// When the last progress was noticed.
    progressed_at: Instant,
}

impl<P: PartialEq> StallTimer<P> {
    /// Starts the timer of a delivery that has come as far as `progress`.
    fn start(progress: P) -> Self {
        let now = Instant::now();
        Self { ends_at: now + MAX_DELIVERY, progress, progressed_at: now }
    }

    /// Records how far the delivery has come. `is_excused` says that the receiver is not the cause if that is no
    /// progress. Returns until when it may wait for more, given the RTT to the receiver; `None` if that time is over.
    fn update(&mut self, progress: P, is_excused: bool, rtt: Duration) -> Option<Instant> {
        let now = Instant::now();
        if is_excused || self.progress != progress {
            (self.progress, self.progressed_at) = (progress, now);
        }
        let deadline = self.ends_at.min(self.progressed_at + MAX_STALL.max(rtt * MAX_STALL_RTTS));
        (now < deadline).then_some(deadline)
    }
}

/// Whether the local socket of a stream has failed, while the data that it received before is still being read.
#[derive(Debug, Default)]
pub(super) struct SocketFailure {
    /// The error of a write or of the shutdown. The kernel reports an error once, so a later read may return a plain
    /// end instead of it.
    write_error: Option<io::Error>,
    /// Whether the socket is ready with an error, which the read after the last byte returns. `SO_ERROR` would return
    /// it before, and is read only if nothing is left to read.
    is_error_ready: bool,
    /// Measures the time for which the stream takes nothing of what is left to read.
    timer: Option<StallTimer<u64>>,
}

impl SocketFailure {
    /// Returns whether the socket has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.is_error_ready || self.write_error.is_some()
    }

    /// Takes the error of a write, if there is one. The first error counts.
    pub(super) fn record_write_error(&mut self, error: &mut Option<io::Error>) {
        if let Some(error) = error.take() {
            self.write_error.get_or_insert(error);
        }
    }

    /// Records what the socket is ready for.
    pub(super) fn record_readiness(&mut self, ready: Ready) {
        self.is_error_ready |= ready.is_error();
    }

    /// Returns the error of an earlier write, or `error`.
    pub(super) fn or(self, error: io::Error) -> io::Error {
        self.write_error.unwrap_or(error)
    }

    /// Takes the error if an end of the socket that was read is no end of its data, because a write was told of the
    /// reset. After a FIN the kernel reports a reset to writes as a broken pipe, and then that FIN was read.
    pub(super) fn take_if_end_is_reset(&mut self) -> Option<io::Error> {
        let is_after_end = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected)
        };
        self.write_error.take_if(|error| !is_after_end(error))
    }

    /// Takes the error of a socket from which everything was read. `None` if it has not failed.
    pub(super) fn take(&mut self, socket: &TcpStream) -> Option<io::Error> {
        if !self.has_failed() {
            return None;
        }
        if let Some(error) = self.write_error.take() {
            return Some(error);
        }
        self.is_error_ready = false;
        if let Ok(Some(error)) | Err(error) = socket.take_error() {
            return Some(error);
        }
        // Another call was told of the error: a write, whose driver stores it and wakes the relay task. Until then the
        // socket is not ready with an error.
        _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        None
    }

    /// Returns until when the stream may leave the rest of the data in the socket for want of credit. `None` if the
    /// socket has not failed.
    pub(super) fn deadline(&mut self, stream: &Stream) -> Option<Instant> {
        self.has_failed().then(|| self.update(stream).unwrap_or_else(Instant::now))
    }

    /// Returns whether the stream has taken nothing of what is left to read for too long.
    pub(super) fn has_stalled(&mut self, stream: &Stream) -> bool {
        self.has_failed() && self.update(stream).is_none()
    }

    /// Updates the timer with what the peer has acknowledged. Silence of all channels is not the receiver's fault.
    fn update(&mut self, stream: &Stream) -> Option<Instant> {
        let now = Instant::now();
        let (acknowledged, rtt, is_excused) = stream.link().with(|state| {
            let flow = state.mux.send_flow(stream.number());
            let is_stalled =
                state.channels.values().all(|channel| channel.shared().is_stalled(&state.mux, now));
            let rtt = flow.and_then(|flow| flow.min_rtt).unwrap_or_default();
            (flow.map_or(0, |flow| flow.acknowledged), rtt, is_stalled)
        });
        let timer = self.timer.get_or_insert_with(|| StallTimer::start(acknowledged));
        timer.update(acknowledged, is_excused, rtt)
    }
}

/// How far the delivery of the data before a peer's reset has come.
struct DeliveryStep {
    /// The bytes that the local socket has taken.
    delivered: u64,
    /// Whether everything was written to the local socket, or it failed.
    is_over: bool,
    /// Whether the local socket's send buffer is full.
    is_write_blocked: bool,
    /// Whether all data that has arrived was written, and the peer has yet to send the rest.
    is_waiting_for_peer: bool,
    /// Whether the delivery goes on after other tasks have run.
    is_turn_over: bool,
    /// When a rate limit allows the next bytes; `None` if none delays them.
    limited_until: Option<Instant>,
}

impl Stream {
    /// Resets the stream after all data that was written to it, because its local socket has failed, and waits until
    /// the peer has delivered that data. Discards the data if `cancel` is cancelled meanwhile, or if the peer takes
    /// longer than it may.
    pub(super) async fn reset_after_data(
        &self,
        code: ResetCode,
        cancel: &CancellationToken,
        cancelled: impl FnOnce() -> ResetCode,
    ) {
        self.link().with(|state| state.reset_after_data(self.number(), code));
        self.link().flush();
        let confirmed = async {
            while self.endpoint().shared().end().is_none() {
                self.endpoint().woken().await;
            }
        };
        tokio::select! {
            () = confirmed => {}
            // The peer gives up before that.
            () = tokio::time::sleep(MAX_DELIVERY + MAX_STALL) => self.reset(code),
            () = cancel.cancelled() => self.reset(cancelled()),
        }
    }

    /// Writes the data that the peer has sent before its RESET to the local socket, and waits until it is acknowledged
    /// there. Returns early if the socket fails or makes no progress, or if the stream ends otherwise.
    pub(super) async fn deliver_before_reset(&self, socket: &TcpStream) {
        let endpoint = self.endpoint();
        let mut timer = StallTimer::start((0, None));
        loop {
            let step = {
                let mut delivery = endpoint.lock_delivery();
                endpoint.take_wake();
                endpoint.deliver_locked(self.link(), &mut delivery);
                let is_waiting = delivery.is_waiting() || delivery.is_paused;
                DeliveryStep {
                    delivered: delivery.delivered_bytes,
                    is_over: delivery.is_reset_due() || delivery.error.is_some(),
                    is_write_blocked: delivery.is_write_blocked,
                    is_turn_over: delivery.is_turn_over,
                    is_waiting_for_peer: delivery.queue.is_empty() && !is_waiting,
                    limited_until: delivery.rate_limited_until,
                }
            };
            if endpoint.shared().end().is_some() {
                return;
            }
            if step.is_turn_over {
                tokio::task::yield_now().await;
                continue;
            }
            if step.is_over {
                return wait_until_acknowledged(socket).await;
            }
            let queue = SendQueue::read(socket);
            let progress = (step.delivered, queue.map(SendQueue::unacknowledged));
            let rtt = queue.map(|queue| queue.smoothed_rtt).unwrap_or_default();
            let Some(deadline) = timer.update(progress, step.is_waiting_for_peer, rtt) else {
                return;
            };
            let until = step.limited_until.map_or(deadline, |at| at.min(deadline));
            let interest =
                if step.is_write_blocked { Interest::WRITABLE | Interest::ERROR } else { Interest::ERROR };
            tokio::select! {
                () = endpoint.woken() => {}
                () = tokio::time::sleep_until(until.into()) => {}
                ready = socket.ready(interest) => {
                    if !ready.is_ok_and(|ready| !ready.is_error()) {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits until the other side of a local socket has acknowledged everything that was written to it, before the
/// connection is reset: closing it with `SO_LINGER` of zero discards what the kernel has not transmitted, and an RST
/// makes a receiver drop what it is missing. Gives up after [`MAX_STALL`] without progress.
pub(super) async fn wait_until_acknowledged(socket: &TcpStream) {
    let (mut interval, max_interval) = ACK_POLL_INTERVALS;
    let mut timer = StallTimer::start(u64::MAX);
    loop {
        let Some(queue) = SendQueue::read(socket) else {
            return tokio::time::sleep(BLIND_ACK_WAIT).await;
        };
        let unacknowledged = queue.unacknowledged();
        if unacknowledged == 0 || timer.update(unacknowledged, false, queue.smoothed_rtt).is_none() {
            return;
        }
        tokio::time::sleep(interval).await;
        interval = (interval * 2).min(max_interval);
    }
}

#[cfg(test)]
mod tests;
