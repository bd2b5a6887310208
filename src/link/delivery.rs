//! The receiving direction of a stream's endpoint: data that the mux has received and the local
//! socket has yet to take.
//!
//! The state here is behind the delivery lock, which is acquired before the link state and never while that is locked.

use std::{collections::VecDeque, io, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{bottleneck::BottleneckTimer, limit::Pacer, memory::ReaderWindow};
use crate::{
    mux::{DataEnd, MAX_COMPACTED_LEN, MemoryBudget, copy_if_shorter},
    net::MAX_SLICES,
};

/// Bytes after which a delivery leaves the rest to the next turn of the relay task. While one task delivers, others
/// hand the mux more data: without an end of the turn, a fast socket would keep that task, and the delivery lock, for
/// as long as the data keeps coming, and the operator's kill would wait. Four times what a channel is read for at once,
/// so that a driver passes all that it has received in one turn.
pub(super) const DELIVERY_TURN_BYTES: u64 = 1024 * 1024;

/// Where the endpoint of a stream gets received data from, and reports how many bytes its local socket has taken.
/// Implemented by the link; each method locks the link state for itself.
pub(super) trait ReceiveSource {
    /// Reports that the local socket has taken `consumed` more bytes of `stream`, and appends the data that has
    /// arrived in order to `queue`. Returns what follows the bytes in `queue`: the END, or the peer's RESET; `None` if
    /// more bytes may follow.
    fn consume_and_read(&self, stream: u32, consumed: u64, queue: &mut VecDeque<Bytes>) -> Option<DataEnd>;
    /// Reports that the local socket has taken `bytes` more bytes of `stream`, without reading more: the mux returns
    /// their credit to the peer.
    fn consume(&self, stream: u32, bytes: u64);
    /// Reports that the end of `stream` was delivered to the local socket.
    fn consume_end(&self, stream: u32);
    /// Reports that the local socket takes nothing for now. Until the next read the mux copies chunks shorter than
    /// `copied_below` that arrive for `stream` out of the read buffers, which they would keep alive.
    fn reader_blocked(&self, stream: u32, copied_below: usize);
    /// Reports that the user or target reads what the local socket takes: its kernel has acknowledged more than it
    /// holds for one that reads nothing.
    fn reader_proven(&self, stream: u32);
    /// Reports that the user or target has read `bytes` bytes at least, although that proves less.
    fn reader_progress(&self, stream: u32, bytes: u64);
    /// Returns the memory budget of the process.
    fn budget(&self) -> &MemoryBudget;
}

/// Received data of one stream that the local socket has not taken yet.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The local socket; `None` before and after the relay. Data that arrives before waits in the mux, within its
    /// window.
    pub(super) socket: Option<Arc<TcpStream>>,
    /// Data taken from the mux and not yet written to the local socket.
    pub(super) queue: VecDeque<Bytes>,
    /// How many chunks at the front of `queue` keep hardly more memory alive than their own bytes.
    compacted: usize,
    /// Whether the mux copies small chunks of the stream: it does from [`ReceiveSource::reader_blocked`] until the
    /// next read.
    is_mux_compacting: bool,
    /// What follows the bytes in `queue`: the END, or the peer's RESET. `None` while more bytes may follow.
    pub(super) end: Option<DataEnd>,
    /// Whether the socket's sending direction was shut down (FIN) after the last byte.
    pub(super) is_end_delivered: bool,
    /// Whether the operator has paused the stream: nothing is delivered.
    pub(super) is_paused: bool,
    /// Whether the socket's send buffer is full; the relay task waits until the socket is writable.
    pub(super) is_write_blocked: bool,
    /// Whether the last turn ended because it had written [`DELIVERY_TURN_BYTES`] bytes; the relay task continues in
    /// its next turn.
    pub(super) is_turn_over: bool,
    /// When a rate limit allows the next bytes; `None` while no rate limit delays the delivery.
    pub(super) rate_limited_until: Option<Instant>,
    /// Applies the rate limits to bytes that are written to the local socket.
    pub(super) pacer: Pacer,
    /// The recorded bottleneck of this direction: what keeps received data from being written to the socket, and for
    /// how long.
    pub(super) bottleneck: BottleneckTimer,
    /// Bytes that the socket has taken.
    pub(super) delivered_bytes: u64,
    /// From how many delivered bytes on it is checked whether the user or target reads them; `None` once that is known.
    pub(super) proof_due_at: Option<u64>,
    /// What is known of how the user or target reads.
    pub(super) reader: ReaderWindow,
    /// Whether the kernel may hold only little unsent data for the socket, because memory was filling when the stream
    /// began.
    pub(super) are_kernel_buffers_small: bool,
    /// The error with which the local socket failed; `None` before, and once the relay task has taken it.
    pub(super) error: Option<io::Error>,
}

impl Delivery {
    /// Creates an empty delivery without a socket. `pacer` applies the rate limits of this direction.
    pub(super) fn new(pacer: Pacer) -> Self {
        Self {
            socket: None,
            queue: VecDeque::new(),
            compacted: 0,
            is_mux_compacting: false,
            end: None,
            is_end_delivered: false,
            is_paused: false,
            is_write_blocked: false,
            is_turn_over: false,
            rate_limited_until: None,
            pacer,
            bottleneck: BottleneckTimer::default(),
            delivered_bytes: 0,
            proof_due_at: Some(0),
            reader: ReaderWindow::default(),
            are_kernel_buffers_small: false,
            error: None,
        }
    }

    /// Returns whether all that the peer has sent was written to the socket, and what follows is the peer's reset.
    pub(super) fn is_reset_due(&self) -> bool {
        let is_end_reached = match self.end {
            Some(DataEnd::Reset) => true,
            Some(DataEnd::Fin) => self.is_end_delivered,
            None => false,
        };
        is_end_reached && self.queue.is_empty()
    }

    /// Returns whether the relay task is waiting to continue the delivery: until the socket is writable, a rate limit
    /// allows more bytes, or its next turn.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_write_blocked || self.rate_limited_until.is_some() || self.is_turn_over
    }

    /// Returns how many bytes of the queue the rate limits allow now (`usize::MAX` without limits), or the time at
    /// which they allow the next ones as the error.
    pub(super) fn allowed_bytes(&mut self) -> Result<usize, Instant> {
        if self.pacer.is_free() {
            return Ok(usize::MAX);
        }
        // One system call takes no more than this many chunks.
        let queued: usize = self.queue.iter().take(MAX_SLICES).map(Bytes::len).sum();
        let allowed = self.pacer.request(queued as u64, Instant::now())?;
        Ok(usize::try_from(allowed).unwrap_or(usize::MAX))
    }

    /// Records that new data was read from the mux into the empty queue. If the mux has copied small chunks because
    /// the local socket was blocked, all of it is compact already.
    pub(super) fn queue_refilled(&mut self) {
        if std::mem::take(&mut self.is_mux_compacting) {
            self.compacted = self.queue.len();
        }
    }

    /// Adjusts the count of compacted chunks after `chunks` were removed from the front of the queue.
    pub(super) fn chunks_removed(&mut self, chunks: usize) {
        self.compacted = self.compacted.saturating_sub(chunks);
    }

    /// Copies the chunks of the queue that are shorter than `copied_below` out of the read buffers that they share,
    /// which they would keep alive while they wait. Each chunk is copied at most once. Returns whether the caller has
    /// to call [`ReceiveSource::reader_blocked`], because the mux does not copy small chunks of the stream yet.
    pub(super) fn compact(&mut self, copied_below: usize) -> bool {
        let compacted = std::mem::replace(&mut self.compacted, self.queue.len());
        self.queue.range_mut(compacted..).for_each(|chunk| copy_if_shorter(chunk, copied_below));
        // The front may be the rest of a chunk that was large.
        if let Some(front) = self.queue.front_mut() {
            copy_if_shorter(front, copied_below);
        }
        !std::mem::replace(&mut self.is_mux_compacting, true)
    }

    /// Copies the chunks of the queue, but for long ones, out of the read buffers, because the socket has taken nothing
    /// for a while.
    pub(super) fn compact_stalled(&mut self) {
        self.queue.iter_mut().for_each(|chunk| copy_if_shorter(chunk, MAX_COMPACTED_LEN));
    }
}
