//! This side's end of a stream: the local socket that the stream is relayed to, and the data that waits for it.
//!
//! The driver that receives data for a stream delivers it to the local socket at once; the stream's relay task is
//! woken only for data that the socket did not take. Nothing here but [`Endpoint::shared`] may be used while the link
//! state is locked; debug builds assert it.

use std::{
    io,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Relaxed, Release},
        },
    },
    time::Instant,
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify};

use super::{
    delivery::{DELIVERY_TURN_BYTES, Delivery, ReceiveSource},
    latency::{LatencyObserver, LatencyTimer},
    limit::{Pacer, StreamRateLimits},
    lock::{DeliveryGuard, DeliveryMutex, assert_link_state_unlocked},
    memory::{copied_below, raise_unsent_limit},
    stream_shared::StreamShared,
};
use crate::{
    ids::Direction,
    inspect::StreamInspector,
    mux::{DataEnd, MemoryBudget, PROVEN_READ_BYTES},
    net::{SendQueue, advance, try_write, write_vectored_once},
    telemetry::{Bottleneck, StreamStats},
    wire::{ResetCode, UserAddresses},
};

/// After this many delivered bytes the endpoint reports to the mux that the local socket has taken them, although
/// more data waits. Credit that returns early finds the data of the peer's next frames still in the peer's cache, and
/// every return wakes the peer.
const CONSUME_REPORT_BYTES: u64 = 256 * 1024;

/// After how many delivered bytes the receive window of the user's or target's kernel is examined again.
const PROOF_INTERVAL: u64 = 4 * 1024;

/// Parameters of a stream that this side opens.
#[derive(Debug)]
pub struct NewStream {
    /// Telemetry counters of the stream.
    pub stats: Arc<StreamStats>,
    /// Public port that the user connected to.
    pub port: u16,
    /// The ends of the user's connection, sent to the peer with OPEN; `None` to withhold them.
    pub user: Option<UserAddresses>,
    /// Whether to detect the protocol that the stream carries, for telemetry.
    pub inspect: bool,
    /// Rate limits that apply to the stream.
    pub limits: StreamRateLimits,
    /// Called with the stream's latency measurements.
    pub latency_observer: Arc<dyn LatencyObserver>,
}

/// The end of one stream on this side: its local socket, and the received data that waits for it.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The part that may be used while the link state is locked: number, counters, flags.
    shared: StreamShared,
    /// Detects the protocol that the stream carries (HTTP, TLS, SSH), for telemetry; `None` if nothing does.
    inspector: Option<StreamInspector<MemoryBudget>>,
    /// Rate limits; `None` for a stream that the peer opened, which the peer limits.
    limits: Option<StreamRateLimits>,
    /// Received data that the local socket has not taken yet, with that socket.
    delivery: DeliveryMutex<Delivery>,
    /// Wakes the stream's relay task for everything but readiness of the local socket: delivered data, the stream's
    /// end, changed limits.
    relay_wake: Notify,
    /// Set with each wake until the relay task takes it with [`take_wake`](Self::take_wake).
    has_pending_wake: AtomicBool,
}

impl Endpoint {
    /// Creates the endpoint of a stream that the peer opened: without counters, inspection and rate limits.
    pub(super) fn for_peer_stream(number: u32) -> Self {
        Self::new(StreamShared::new(number, None, None), None, None)
    }

    /// Creates the endpoint of a stream that this side opened and that has this number in the mux.
    pub(super) fn for_own_stream(number: u32, new: NewStream, budget: &MemoryBudget) -> Self {
        let timer = LatencyTimer::start(new.latency_observer);
        let inspector = new.inspect.then(|| StreamInspector::with_memory(true, budget.clone()));
        Self::new(StreamShared::new(number, Some(new.stats), Some(timer)), inspector, Some(new.limits))
    }

    /// Creates an endpoint without a local socket. `inspector` detects the protocol; `limits` are the rate limits, if
    /// any apply.
    fn new(
        shared: StreamShared,
        inspector: Option<StreamInspector<MemoryBudget>>,
        limits: Option<StreamRateLimits>,
    ) -> Self {
        Self {
            shared,
            inspector,
            delivery: DeliveryMutex::new(Delivery::new(Pacer::new(limits.clone(), Direction::Down))),
            limits,
            relay_wake: Notify::new(),
            // Set, so that the relay task starts with a delivery.
            has_pending_wake: AtomicBool::new(true),
        }
    }

    /// Returns the part of the endpoint that may be used while the link state is locked.
    pub(super) fn shared(&self) -> &StreamShared {
        &self.shared
    }

    /// Creates the pacer that applies the rate limits to bytes read from the local socket.
    pub(super) fn send_pacer(&self) -> Pacer {
        Pacer::new(self.limits.clone(), Direction::Up)
    }

    /// Counts and inspects bytes that were read from the local socket, before the mux gets them. `is_replay` if an
    /// earlier stream has counted them.
    pub(super) fn socket_read(&self, bytes: &Bytes, is_replay: bool) {
        self.shared.record_user_bytes();
        if let Some(stats) = self.shared.stats() {
            if !is_replay {
                stats.add_up(bytes.len() as u64);
            }
            if let Some(inspector) = &self.inspector {
                inspector.inspect_upload(bytes, stats);
            }
        } else if let Some(served) = self.shared.served() {
            // At a proxy the local socket is the target's.
            served.add_down(bytes.len() as u64);
        }
    }

    /// Records that the local socket has sent its FIN: it is read to its end.
    pub(super) fn socket_ended(&self) {
        match (self.shared.stats(), &self.inspector) {
            (Some(stats), Some(inspector)) => inspector.upload_ended(stats),
            (Some(stats), None) => _ = stats.record_user_end(),
            (None, _) => {}
        }
        self.shared.local_socket_ended();
    }

    /// Records whether the transfer is complete within which the stream has ended. Called once all data is delivered.
    pub(super) fn record_transfer_end(&self) {
        if let (Some(stats), Some(inspector)) = (self.shared.stats(), &self.inspector) {
            inspector.stream_ended(stats);
        }
    }

    /// Returns the bytes that a retry of this ended stream through another proxy has to send first; `None` if the
    /// target may have received any, or if anything was delivered to the local socket. The arguments are those of
    /// [`StreamShared::replay`].
    pub(super) fn replay(&self, is_refused: bool, has_written: bool) -> Option<&[Bytes]> {
        let delivery = self.lock_delivery();
        if delivery.delivered_bytes > 0 || delivery.is_end_delivered {
            return None;
        }
        self.shared.replay(is_refused, has_written)
    }

    /// Wakes the stream's relay task: it delivers received data, reads its local socket and checks whether the stream
    /// has ended.
    pub(super) fn wake(&self) {
        assert_link_state_unlocked();
        self.has_pending_wake.store(true, Release);
        self.relay_wake.notify_one();
    }

    /// Returns whether [`wake`](Self::wake) was called since the last call of this function.
    pub(super) fn take_wake(&self) -> bool {
        self.has_pending_wake.load(Relaxed) && self.has_pending_wake.swap(false, AcqRel)
    }

    /// Waits until [`wake`](Self::wake) is called, or returns at once if it was called since the last wait.
    pub(super) async fn woken(&self) {
        self.relay_wake.notified().await;
    }

    /// Records that this side has reset the stream with `code`, and wakes the relay task. Sends nothing to the peer.
    pub(super) fn reset(&self, code: ResetCode) {
        self.shared.set_end(Err(code));
        self.wake();
    }

    /// Locks the received data that waits for the local socket, and waits while another task delivers. Must not be
    /// called while the link state is locked.
    pub(super) fn lock_delivery(&self) -> DeliveryGuard<'_, Delivery> {
        self.delivery.lock()
    }

    /// Delivers as much received data as the local socket takes, on behalf of the driver that received it. Wakes the
    /// relay task for the rest.
    pub(super) fn deliver(&self, source: &impl ReceiveSource) {
        match self.delivery.try_lock() {
            // The relay task is delivering, and may have read from the mux already.
            None => self.wake(),
            // The relay task waits for the socket or a rate limit already, and delivers then.
            Some(delivery) if delivery.is_waiting() => {}
            Some(mut delivery) => {
                self.deliver_locked(source, &mut delivery);
                if delivery.is_waiting() || delivery.error.is_some() {
                    self.wake();
                }
            }
        }
    }

    /// Delivers as much received data as the local socket takes, and compacts the rest.
    pub(super) fn deliver_locked(&self, source: &impl ReceiveSource, delivery: &mut Delivery) {
        if !self.write_to_socket(source, delivery) {
            let copied_below = copied_below(source.budget());
            if delivery.compact(copied_below) {
                source.reader_blocked(self.shared.number(), copied_below);
            }
        }
    }

    /// Writes received data to the local socket until all is written, the turn is over, or the socket, a rate limit or
    /// the operator stops it. Returns whether the rest, if any, is written without waiting: in the next turn.
    fn write_to_socket(&self, source: &impl ReceiveSource, delivery: &mut Delivery) -> bool {
        assert_link_state_unlocked();
        let stream = self.shared.number();
        let Some(socket) = delivery.socket.clone() else { return false };
        if delivery.error.is_some() {
            return false;
        }
        delivery.is_write_blocked = false;
        delivery.is_turn_over = false;
        delivery.rate_limited_until = None;
        if delivery.is_paused {
            delivery.bottleneck.set(Some(Bottleneck::Operator), Instant::now());
            return false;
        }
        let (mut unreported, mut turn) = (0, 0);
        loop {
            if turn >= DELIVERY_TURN_BYTES {
                delivery.is_turn_over = true;
                source.consume(stream, unreported);
                return true;
            }
            if delivery.queue.is_empty() || unreported >= CONSUME_REPORT_BYTES {
                let consumed = std::mem::take(&mut unreported);
                delivery.end = source.consume_and_read(stream, consumed, &mut delivery.queue);
                delivery.queue_refilled();
                if delivery.queue.is_empty() {
                    break;
                }
            }
            let allowed = match delivery.allowed_bytes() {
                Ok(allowed) => allowed,
                Err(at) => {
                    delivery.rate_limited_until = Some(at);
                    delivery.bottleneck.set(Some(Bottleneck::Limit), Instant::now());
                    source.consume(stream, unreported);
                    return false;
                }
            };
            // One call would write 64 chunks, which have megabytes.
            let allowed = allowed.min(usize::try_from(DELIVERY_TURN_BYTES - turn).unwrap_or(usize::MAX));
            let written = write_vectored_once(&delivery.queue, allowed, |slices| try_write(&socket, slices));
            delivery.pacer.settle(*written.as_ref().unwrap_or(&0) as u64);
            match written {
                Ok(n) => {
                    self.socket_took(delivery, n);
                    unreported += n as u64;
                    if delivery.proof_due_at.is_some_and(|at| delivery.delivered_bytes >= at) {
                        self.check_reader(source, delivery, &socket);
                    }
                    turn += n as u64;
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::WouldBlock {
                        delivery.is_write_blocked = true;
                        delivery.bottleneck.set(Some(Bottleneck::User), Instant::now());
                    } else {
                        delivery.error = Some(error);
                    }
                    source.consume(stream, unreported);
                    return false;
                }
            }
        }
        if !delivery.bottleneck.is_unblocked() {
            delivery.bottleneck.set(None, Instant::now());
        }
        if delivery.end == Some(DataEnd::Fin) && !delivery.is_end_delivered {
            delivery.is_end_delivered = true;
            // Before the FIN: a user whose own FIN answers it has not closed first.
            self.shared.peer_ended();
            if let Err(error) = SockRef::from(&*socket).shutdown(Shutdown::Write) {
                delivery.error = Some(error);
                return true;
            }
            source.consume_end(stream);
        }
        true
    }

    /// Finds out whether the user or target reads what the local socket takes: its receive window advances, or the
    /// kernel has sent, and not only stored, more than is [held](MemoryBudget::proven_bytes) for one that reads
    /// nothing.
    ///
    /// The window is examined every few KiB, but only where memory is filling: elsewhere a stream needs no proof.
    fn check_reader(&self, source: &impl ReceiveSource, delivery: &mut Delivery, socket: &TcpStream) {
        let (budget, delivered) = (source.budget(), delivery.delivered_bytes);
        let is_tight = delivery.are_kernel_buffers_small || budget.is_tight();
        if !is_tight && delivered < budget.proven_bytes() {
            delivery.proof_due_at = Some(delivered + 1);
            return;
        }
        let queue = SendQueue::read(socket);
        let unsent = queue.map_or(0, SendQueue::unsent_bytes);
        let missing = budget.proven_bytes().saturating_sub(delivered.saturating_sub(unsent));
        let read = delivery.reader.on_window_end(queue.and_then(SendQueue::window_end).filter(|_| is_tight));
        if missing == 0 || read.is_some_and(|bytes| bytes >= PROVEN_READ_BYTES) {
            delivery.proof_due_at = None;
            if std::mem::take(&mut delivery.are_kernel_buffers_small) {
                raise_unsent_limit(socket);
            }
            source.reader_proven(self.shared.number());
            return;
        }
        delivery.proof_due_at = Some(delivered + if is_tight { PROOF_INTERVAL } else { missing });
        if let Some(read) = read {
            source.reader_progress(self.shared.number(), read);
        }
    }

    /// Counts and inspects the first `n` bytes of the queue, which the local socket has taken, and removes them.
    pub(super) fn socket_took(&self, delivery: &mut Delivery, n: usize) {
        let is_first = delivery.delivered_bytes == 0;
        delivery.delivered_bytes += n as u64;
        if let Some(stats) = self.shared.stats() {
            if is_first {
                self.shared.first_byte_delivered();
            }
            stats.add_down(n as u64);
            if let Some(inspector) = &self.inspector {
                inspector.inspect_download(&delivery.queue, n, stats);
            }
        } else if let Some(served) = self.shared.served() {
            served.add_up(n as u64);
        }
        let before = delivery.queue.len();
        advance(&mut delivery.queue, n);
        delivery.chunks_removed(before - delivery.queue.len());
    }
}
