//! Relays bytes between a stream and its local socket, in both directions, until both are finished or one side fails.

use std::{collections::VecDeque, io, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::{io::Interest, net::TcpStream};
use tokio_util::sync::CancellationToken;

use super::{
    handle::Stream,
    memory::{StallWatch, limit_kernel_buffers},
    reset::{SocketFailure, wait_until_acknowledged},
    socket_reader::{ReadResult, SocketReader},
};
use crate::{net::disable_reset_on_close, wire::ResetCode};

/// How a relayed stream ended.
#[derive(Debug)]
pub enum StreamOutcome {
    /// Both directions are finished, and each side has received every byte of the other.
    Finished,
    /// The local socket failed; the peer has received RESET.
    SocketFailed(io::Error),
    /// The peer sent RESET, or the link ended; the local socket is reset too. It has received the data that the peer
    /// had sent before, unless the code discards it or the socket took it too slowly.
    Reset(ResetCode),
    /// The relay was cancelled on this side; the peer has received RESET, and the local socket is reset.
    Cancelled,
}

/// User connection of which no target has received a byte, with the bytes that were read from it: another stream can
/// relay it instead.
#[derive(Debug)]
pub struct RetryableConnection {
    /// The TCP connection of the user.
    socket: TcpStream,
    /// Bytes that were read from the socket and that the next stream sends first.
    replay: VecDeque<Bytes>,
    /// Whether an earlier stream kept the socket's kernel buffers small, because memory was filling; the next stream
    /// lets them grow once the peer is known to read.
    are_buffers_small: bool,
}

impl From<TcpStream> for RetryableConnection {
    fn from(socket: TcpStream) -> Self {
        Self { socket, replay: VecDeque::new(), are_buffers_small: false }
    }
}

impl RetryableConnection {
    /// Returns the user's socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }
}

impl Stream {
    /// Relays bytes between the stream and a local connection until both directions are finished, one side fails, or
    /// `cancel` is cancelled. Returns how the stream ended.
    ///
    /// `socket_failed` is the code of the RESET that the peer receives if the local socket fails, after all data that
    /// the socket had received; and `cancelled` returns the code if the relay is cancelled, which discards data.
    /// Closing the socket must reset its connection (`SO_LINGER` 0), as it does after `net::enable_reset_on_close`: the
    /// socket ends as the stream did, with an orderly close only if the stream finished.
    ///
    /// The connection is returned as well if the peer ended the stream, or the relay was cancelled, and no target can
    /// have received any of its bytes.
    pub async fn relay(
        self,
        connection: impl Into<RetryableConnection>,
        socket_failed: ResetCode,
        cancel: &CancellationToken,
        cancelled: impl FnOnce() -> ResetCode,
    ) -> (StreamOutcome, Option<RetryableConnection>) {
        let RetryableConnection { socket, replay, are_buffers_small } = connection.into();
        let socket = Arc::new(socket);
        let are_buffers_small = limit_kernel_buffers(&socket, self.link().budget()) || are_buffers_small;
        {
            let mut delivery = self.endpoint().lock_delivery();
            delivery.are_kernel_buffers_small = are_buffers_small;
            delivery.socket = Some(socket.clone());
        }
        let is_observed = self.endpoint().shared().is_observed();
        let mut reader =
            SocketReader::new(self.endpoint().send_pacer(), replay, is_observed, are_buffers_small);
        let outcome = self.relay_until_end(&socket, &mut reader, cancel).await;
        if let StreamOutcome::Finished = outcome {
            disable_reset_on_close(&socket);
        }
        // A driver that is about to deliver may keep the endpoint for a while, but must not keep the socket.
        self.endpoint().lock_delivery().socket = None;
        let is_refused = match &outcome {
            StreamOutcome::Finished => {
                self.endpoint().record_transfer_end();
                return (outcome, None);
            }
            StreamOutcome::SocketFailed(_) => {
                self.endpoint().record_transfer_end();
                drop(socket);
                self.reset_after_data(socket_failed, cancel, cancelled).await;
                return (outcome, None);
            }
            StreamOutcome::Reset(code) => {
                // Confirms the peer's reset, if the stream was kept for the data before it.
                self.reset(*code);
                // From a text peer the code is this side's guess.
                code.is_refusal() && !self.is_of_text_peer()
            }
            StreamOutcome::Cancelled => {
                self.reset(cancelled());
                false
            }
        };
        // Deliveries hold the delivery lock while they use the socket, so this was the only other reference.
        let replay = self.endpoint().replay(is_refused, reader.has_written());
        let retryable = replay.zip(Arc::into_inner(socket)).map(|(replay, socket)| {
            let replay = replay.iter().cloned().chain(reader.into_unwritten()).collect();
            RetryableConnection { socket, replay, are_buffers_small }
        });
        if retryable.is_none() {
            self.endpoint().record_transfer_end();
        }
        (outcome, retryable)
    }

    /// Returns whether the peer of the stream's link speaks the text format.
    fn is_of_text_peer(&self) -> bool {
        self.link().with(|state| state.text.is_some())
    }

    /// Relays between the stream and `socket` until both directions are finished, one side fails or `cancel` is
    /// cancelled, and returns which of these happened. Sends no RESET.
    ///
    /// A socket that fails is still read to its end: on Linux an RST discards nothing of what the socket had received,
    /// and recv(2) returns that before the error.
    async fn relay_until_end(
        &self,
        socket: &TcpStream,
        reader: &mut SocketReader,
        cancel: &CancellationToken,
    ) -> StreamOutcome {
        let cancelled = cancel.cancelled();
        let mut cancelled = std::pin::pin!(cancelled);
        let endpoint = self.endpoint();
        let mut failure = SocketFailure::default();
        let mut stall = StallWatch::default();
        loop {
            let (is_write_blocked, delivery_limited_until, mut must_yield) = {
                let mut delivery = endpoint.lock_delivery();
                // Drivers deliver data as it arrives, and wake this task for what the socket did not take.
                if endpoint.take_wake() || delivery.is_waiting() {
                    endpoint.deliver_locked(self.link(), &mut delivery);
                }
                failure.record_write_error(&mut delivery.error);
                (delivery.is_write_blocked, delivery.rate_limited_until, delivery.is_turn_over)
            };
            if let Some(code) = endpoint.shared().peer_reset() {
                tokio::select! {
                    () = self.deliver_before_reset(socket) => {}
                    () = &mut cancelled => return StreamOutcome::Cancelled,
                }
                return match endpoint.shared().end() {
                    Some(Ok(())) => StreamOutcome::Finished,
                    // The first reason counts: the link may have ended meanwhile.
                    Some(Err(_)) | None => StreamOutcome::Reset(code),
                };
            }
            let had_failed = failure.has_failed();
            let result = reader.read(self, socket, had_failed);
            if endpoint.shared().is_observed() {
                reader.record_bottleneck(self, &result);
            }
            let mut interest = Interest::ERROR;
            let mut read_limited_until = None;
            let is_send_blocked = matches!(result, ReadResult::StreamBlocked) && !reader.is_finished();
            match result {
                ReadResult::Failed(error) => return StreamOutcome::SocketFailed(failure.or(error)),
                ReadResult::EndOfSocket => {
                    // A driver whose write has failed stores the error before it releases the delivery lock.
                    failure.record_write_error(&mut endpoint.lock_delivery().error);
                    if let Some(error) = failure.take_if_end_is_reset() {
                        return StreamOutcome::SocketFailed(error);
                    }
                    endpoint.socket_ended();
                    self.link().with(|state| state.mux.finish(self.number()));
                }
                ReadResult::SocketEmpty => interest |= Interest::READABLE,
                ReadResult::StreamBlocked => {}
                ReadResult::RateLimited(at) => read_limited_until = Some(at),
                ReadResult::BudgetExhausted => must_yield = true,
            }
            self.link().flush_message();
            match endpoint.shared().end() {
                Some(Ok(())) => return StreamOutcome::Finished,
                Some(Err(code)) => {
                    if code.follows_data() {
                        tokio::select! {
                            () = wait_until_acknowledged(socket) => {}
                            () = &mut cancelled => {}
                        }
                    }
                    return StreamOutcome::Reset(code);
                }
                None => {}
            }
            let is_drained = reader.is_finished() || (had_failed && interest.is_readable());
            if is_drained && let Some(error) = failure.take(socket) {
                return StreamOutcome::SocketFailed(error);
            }
            if must_yield {
                // Not only where this task waits: a stream whose sockets are always ready never does.
                if cancel.is_cancelled() {
                    return StreamOutcome::Cancelled;
                }
                tokio::task::yield_now().await;
                continue;
            }
            // Errors are always polled for: the other side may have failed while nothing can be read or written for
            // want of credit.
            if is_write_blocked {
                interest |= Interest::WRITABLE;
            }
            let failed_until = failure.deadline(self);
            let stalled_at = stall.update(is_write_blocked || is_send_blocked);
            let sleeps_until = [read_limited_until, delivery_limited_until, failed_until, stalled_at];
            let limited_until = sleeps_until.into_iter().flatten().min();
            tokio::select! {
                // Polled first: a stream that is woken again and again must not delay its end.
                biased;
                () = &mut cancelled => return StreamOutcome::Cancelled,
                () = endpoint.woken() => stall.on_activity(),
                () = sleep_until(limited_until), if limited_until.is_some() => {
                    if stall.take_stall() {
                        endpoint.lock_delivery().compact_stalled();
                        self.link().with(|state| state.mux.on_stalled(self.number()));
                    }
                    if failure.has_stalled(self)
                        && let Some(error) = failure.take(socket)
                    {
                        return StreamOutcome::SocketFailed(error);
                    }
                }
                // A socket that has failed is ready for everything; only credit is waited for.
                ready = socket.ready(interest), if !failure.has_failed() => match ready {
                    Err(error) => return StreamOutcome::SocketFailed(error),
                    Ok(ready) => {
                        stall.on_activity();
                        failure.record_readiness(ready);
                    }
                },
            }
        }
    }
}

/// Waits until `at`; forever if it is `None`.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
