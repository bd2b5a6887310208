//! Reads a stream's local socket into the mux, within flow-control credit and rate limits.

use std::{
    cell::Cell,
    collections::VecDeque,
    io::{self, Read},
    mem::MaybeUninit,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use super::{
    bottleneck::SendBottleneckDetector,
    handle::Stream,
    limit::Pacer,
    lock::assert_link_state_unlocked,
    memory::{PROVEN_SENT_BYTES, copied_below},
};
use crate::{
    mux::{CHUNK_SIZE, COPY_THRESHOLD},
    net::{BufferPool, release_receive_buffer, try_read},
    runtime,
    telemetry::Bottleneck,
};

/// Bytes after which a relay task yields to other tasks. tokio's cooperative budget counts operations, and 128 of
/// them are 8 MiB here.
pub(super) const READ_TURN_BYTES: usize = 256 * 1024;

/// Bytes after which a relay task yields while small messages pass on this thread, because each of them waits for the
/// turns of other streams before it: the slowest of a hundred pings beside four downloads took 3.6 ms instead of 5.5
/// ms, and the downloads' throughput was a tenth lower.
const SHORT_READ_TURN_BYTES: usize = 128 * 1024;

/// The longest read that counts as a small message: a keystroke, a ping, a request.
const MAX_MESSAGE: usize = 2 * 1024;

/// How many turns on this thread use the short budget after a small message was read.
const SHORT_TURNS_AFTER_MESSAGE: u32 = 64;

/// Shortest interval between two queue-wait measurements of one stream.
const MIN_QUEUE_WAIT_INTERVAL: Duration = Duration::from_millis(100);

thread_local! {
    /// How many more turns on this thread use the short budget.
    static SHORT_TURNS_LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Returns how many bytes a relay task may read on this thread before it yields, and counts one turn of the short
/// budget as used.
fn take_turn_budget() -> usize {
    match SHORT_TURNS_LEFT.get() {
        0 => READ_TURN_BYTES,
        left => {
            SHORT_TURNS_LEFT.set(left - 1);
            SHORT_READ_TURN_BYTES
        }
    }
}

/// State of a relay task for the sending direction: reads the local socket of a stream and writes to the mux.
#[derive(Debug)]
pub(super) struct SocketReader {
    /// Applies the rate limits to bytes that are read.
    pacer: Pacer,
    /// Bytes that were read from the same socket and that this stream writes to the mux first: an earlier stream has
    /// read them, or the mux has taken no more of this one.
    unwritten: VecDeque<Bytes>,
    /// Whether bytes were written to the mux.
    has_written: bool,
    /// Whether the socket is read once before the runtime has seen it readable.
    is_first_read_due: bool,
    /// Whether the local socket's last byte was read (FIN).
    is_finished: bool,
    /// When the last queue-wait measurement of the stream was started.
    last_queue_wait_measured: Option<Instant>,
    /// Determines the bottleneck of the sending direction while the stream takes no more bytes.
    detector: SendBottleneckDetector,
    /// Whether a bottleneck of the sending direction is recorded in the endpoint.
    is_blocked: bool,
    /// After how many more bytes the kernel may enlarge the socket's receive buffer; `None` if it may.
    released_after: Option<usize>,
}

/// Why [`SocketReader::read`] returned.
#[derive(Debug)]
pub(super) enum ReadResult {
    /// The socket has no more bytes for now.
    SocketEmpty,
    /// The stream has no credit, or its send buffer is full.
    StreamBlocked,
    /// Rate limits allow the next bytes at this time.
    RateLimited(Instant),
    /// The turn's budget is used up; there may be more.
    BudgetExhausted,
    /// The socket's last byte was read.
    EndOfSocket,
    /// The socket has failed.
    Failed(io::Error),
}

/// Bytes of one read from a local socket.
struct Chunk {
    /// The bytes read; empty at the end of the socket.
    bytes: Bytes,
    /// Whether the socket's receive buffer is empty after this read.
    is_last: bool,
}

impl SocketReader {
    /// Creates a reader that sends the bytes in `replay` before those of the socket. `has_request` says that the socket
    /// was accepted and probably has a request to read, which is then read before the runtime has seen the socket
    /// readable: it leaves with the OPEN, and saves the peer a wake-up.
    pub(super) fn new(
        pacer: Pacer,
        replay: VecDeque<Bytes>,
        has_request: bool,
        is_buffer_fixed: bool,
    ) -> Self {
        Self {
            pacer,
            unwritten: replay,
            has_written: false,
            is_first_read_due: has_request,
            is_finished: false,
            last_queue_wait_measured: None,
            detector: SendBottleneckDetector::default(),
            is_blocked: false,
            released_after: is_buffer_fixed.then_some(PROVEN_SENT_BYTES),
        }
    }

    /// Returns whether the local socket's last byte was read (FIN).
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Returns whether bytes of the local socket or its FIN were written to the mux, so that they may reach the target.
    pub(super) fn has_written(&self) -> bool {
        self.has_written || self.is_finished
    }

    /// Returns the bytes that were read from the socket and not written to the mux.
    pub(super) fn into_unwritten(self) -> VecDeque<Bytes> {
        self.unwritten
    }

    /// Reads from the socket into the mux until one of the [reasons](ReadResult) to stop applies. `has_failed` says
    /// that the socket has failed: then it counts as empty only if a system call has returned that, because tokio may
    /// have yet to learn that it is readable.
    pub(super) fn read(&mut self, stream: &Stream, socket: &TcpStream, has_failed: bool) -> ReadResult {
        if self.is_finished {
            return ReadResult::StreamBlocked;
        }
        let (mut turn, budget) = (0, take_turn_budget());
        let mut writable = writable_bytes(stream);
        while turn < budget {
            if writable == 0 {
                return ReadResult::StreamBlocked;
            }
            // An earlier stream has requested these bytes from the rate limits.
            if let Some(bytes) = self.pop_unwritten(writable) {
                turn += bytes.len();
                stream.endpoint().socket_read(&bytes, true);
                writable = self.write(stream, bytes, None);
                continue;
            }
            let copied_below = copied_below(stream.link().budget());
            let chunk = match self.read_chunk(socket, writable.min(budget), copied_below, has_failed) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => continue,
                Err(result) => return result,
            };
            if chunk.bytes.is_empty() {
                self.is_finished = true;
                return ReadResult::EndOfSocket;
            }
            let read_at = if turn == 0 { self.start_queue_wait(stream) } else { None };
            runtime::record_activity();
            let len = chunk.bytes.len();
            turn += len;
            self.release_receive_buffer_after(len, socket);
            stream.endpoint().socket_read(&chunk.bytes, false);
            if len <= MAX_MESSAGE {
                SHORT_TURNS_LEFT.set(SHORT_TURNS_AFTER_MESSAGE);
            }
            writable = self.write(stream, chunk.bytes, read_at);
            // Large chunks are transmitted while they are in the cache; small ones together with those of other
            // streams.
            let is_large = len >= COPY_THRESHOLD;
            if is_large {
                stream.link().flush();
            }
            if chunk.is_last && !has_failed {
                return ReadResult::SocketEmpty;
            }
            if is_large {
                writable = writable_bytes(stream);
            }
        }
        ReadResult::BudgetExhausted
    }

    /// Records that `len` bytes were read, and lets the kernel enlarge the receive buffer if it was fixed and these
    /// suffice.
    fn release_receive_buffer_after(&mut self, len: usize, socket: &TcpStream) {
        let Some(left) = self.released_after else { return };
        self.released_after = left.checked_sub(len);
        if self.released_after.is_none() {
            release_receive_buffer(socket);
        }
    }

    /// Removes and returns the next bytes that were read from the same socket and not written yet, `max` at most;
    /// `None` if there are none.
    fn pop_unwritten(&mut self, max: usize) -> Option<Bytes> {
        let mut bytes = self.unwritten.pop_front()?;
        if bytes.len() > max {
            self.unwritten.push_front(bytes.split_off(max));
        }
        Some(bytes)
    }

    /// Writes bytes of the local socket to the mux, and returns how many more it accepts. `read_at` is when they were
    /// read, if their queue wait is to be measured. Keeps the bytes if the peer has reset the stream meanwhile: a
    /// stream through another proxy sends them then.
    fn write(&mut self, stream: &Stream, bytes: Bytes, read_at: Option<Instant>) -> usize {
        let (refused, writable) = stream.link().with(|state| {
            let refused = state.mux.write(stream.number(), bytes);
            read_at.inspect(|now| state.mux.measure_queue_wait(stream.number(), *now));
            (refused, state.mux.writable(stream.number()))
        });
        self.has_written |= refused.is_none();
        if let Some(bytes) = refused {
            self.unwritten.push_front(bytes);
        }
        writable
    }

    /// Reads once from the socket, `max` bytes at most and as many as the rate limits allow. A chunk shorter than
    /// `copied_below` does not share the buffer it was read into. An empty chunk is the
    /// socket's end. Returns `None` if the system call was interrupted by a signal.
    fn read_chunk(
        &mut self,
        socket: &TcpStream,
        mut max: usize,
        copied_below: usize,
        has_failed: bool,
    ) -> Result<Option<Chunk>, ReadResult> {
        if !self.pacer.is_free() {
            // A stream that waited for rate limits without having anything to read would delay the others.
            match socket_is_at_end(socket, has_failed) {
                // The end needs no grant.
                Ok(true) => {}
                Ok(false) => match self.pacer.request(max as u64, Instant::now()) {
                    Ok(allowed) => max = max.min(usize::try_from(allowed).unwrap_or(max)),
                    Err(at) => return Err(ReadResult::RateLimited(at)),
                },
                Err(error) => return interrupted_or(error),
            }
        }
        let is_first = std::mem::take(&mut self.is_first_read_due) && !has_failed;
        let read = match is_first {
            true => read_request(socket, max),
            false => read_pooled(socket, max, copied_below, has_failed),
        };
        self.pacer.settle(read.as_ref().map_or(0, |chunk| chunk.bytes.len()) as u64);
        read.map_or_else(interrupted_or, |chunk| Ok(Some(chunk)))
    }

    /// Returns the current time, and stores it, if the queue wait of the next bytes is to be measured; `None` if one
    /// was measured within [`MIN_QUEUE_WAIT_INTERVAL`] or nothing observes the stream.
    fn start_queue_wait(&mut self, stream: &Stream) -> Option<Instant> {
        let now = stream.endpoint().shared().is_observed().then(Instant::now)?;
        if self.last_queue_wait_measured.is_some_and(|last| now < last + MIN_QUEUE_WAIT_INTERVAL) {
            return None;
        }
        self.last_queue_wait_measured = Some(now);
        Some(now)
    }

    /// Records the bottleneck that keeps the local socket from being read, given the result of the last read. Mostly
    /// there is none, and then this neither reads the clock nor acquires a lock.
    pub(super) fn record_bottleneck(&mut self, stream: &Stream, result: &ReadResult) {
        let bottleneck = match result {
            ReadResult::RateLimited(_) => Some((Bottleneck::Limit, Instant::now())),
            ReadResult::StreamBlocked if !self.is_finished => {
                let now = Instant::now();
                let flow = stream.link().with(|state| {
                    // Nothing more is read before some of this is transmitted: how long that takes is measured, too.
                    state.mux.measure_queue_wait(stream.number(), now);
                    state.mux.send_flow(stream.number())
                });
                flow.map(|flow| (self.detector.detect(&flow, now), now))
            }
            _ => None,
        };
        if std::mem::replace(&mut self.is_blocked, bottleneck.is_some()) || bottleneck.is_some() {
            let now = bottleneck.map_or_else(Instant::now, |(_, now)| now);
            let mut timer = stream.endpoint().shared().send_bottleneck();
            timer.set(bottleneck.map(|(cause, _)| cause), now);
        }
    }
}

/// Returns how many bytes the mux accepts for the stream now: free space of its send buffer.
fn writable_bytes(stream: &Stream) -> usize {
    stream.link().with(|state| state.mux.writable(stream.number()))
}

/// Maps an I/O error of reading the local socket to a [`ReadResult`]; returns `Ok(None)` if a signal interrupted the
/// call and it has to be repeated.
fn interrupted_or(error: io::Error) -> Result<Option<Chunk>, ReadResult> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(None),
        io::ErrorKind::WouldBlock => Err(ReadResult::SocketEmpty),
        _ => Err(ReadResult::Failed(error)),
    }
}

/// Returns whether all bytes of the socket were read and the other side has shut it down; `WouldBlock` while it may
/// send more. Ignores tokio's readiness if the socket has failed.
fn socket_is_at_end(socket: &TcpStream, has_failed: bool) -> io::Result<bool> {
    assert_link_state_unlocked();
    let peek = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
    let peeked = if has_failed { peek() } else { socket.try_io(Interest::READABLE, peek) };
    peeked.map(|n| n == 0)
}

/// Reads `max` bytes at most, and no more than a request usually has, whether or not the runtime has seen the socket
/// readable.
fn read_request(socket: &TcpStream, max: usize) -> io::Result<Chunk> {
    assert_link_state_unlocked();
    let mut buffer = [0; MAX_MESSAGE];
    let max = max.min(buffer.len());
    let n = (&*SockRef::from(socket)).read(&mut buffer[..max])?;
    Ok(Chunk { bytes: Bytes::copy_from_slice(&buffer[..n]), is_last: 0 < n && n < max })
}

/// Reads `max` bytes at most into a pooled buffer. A chunk shorter than `copied_below` is copied out of it, so that the
/// buffer is free again. Ignores tokio's readiness if the socket has failed.
fn read_pooled(socket: &TcpStream, max: usize, copied_below: usize, has_failed: bool) -> io::Result<Chunk> {
    assert_link_state_unlocked();
    BufferPool::with_thread_local(|pool| {
        let mut buffer = pool.take(CHUNK_SIZE);
        let max = max.min(buffer.capacity()).min(BufferPool::READ_SIZE);
        // Limited, so that the read does not exceed the stream's credit.
        let read = if has_failed {
            buffer.resize(max, 0);
            (&*SockRef::from(socket)).read(&mut buffer)
        } else {
            try_read(socket, &mut (&mut buffer).limit(max))
        };
        let read = read.map(|n| {
            let bytes = if n < copied_below {
                Bytes::copy_from_slice(&buffer[..n])
            } else {
                buffer.split_to(n).freeze()
            };
            Chunk { bytes, is_last: 0 < n && n < max }
        });
        pool.release(buffer);
        read
    })
}
