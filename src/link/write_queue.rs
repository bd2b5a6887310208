//! Encoded frames or lines that wait for a channel's socket, and their encoding.
//!
//! It must not be used while the link state is locked: encoding computes checksums and base64, and writing is a system
//! call. Debug builds assert it.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io};

use bytes::{Bytes, BytesMut};

use super::lock::assert_link_state_unlocked;
use crate::{
    net::{BufferPool, ChannelSocket, advance, write_vectored_once},
    wire::{
        Frame, TunnelMessage,
        binary::{FrameEncoder, MAX_HANDSHAKE},
        text::{self, FieldCount},
    },
};

/// The most bytes that are encoded ahead of the socket: as many as one read of the peer takes. A control frame cannot
/// overtake encoded bytes.
const MAX_QUEUED_BYTES: usize = BufferPool::BUFFER_SIZE;

/// Number of bytes that are encoded ahead at least, on a channel whose socket takes little at a time.
/// [`MAX_QUEUED_BYTES`] would mean milliseconds of delay there.
const MIN_QUEUED_BYTES: usize = 8 * 1024;

/// How much memory is allocated at a time for headers and lines. A header has 20 bytes, or 24 with its checksum, and
/// one allocation for each cost more than writing it.
const ARENA_BYTES: usize = 4 * 1024;

/// The longest payload that is copied behind its header. One send(2) of a request or a response costs less than a
/// writev(2) of two pieces, and much less than one of the sixty pieces of a busy channel's messages.
const MAX_COPIED_PAYLOAD: usize = 2 * 1024;

/// The largest header of a DATA frame.
const MAX_DATA_HEADER: usize = 24;

/// Space that [`FrameEncoder::encode`] reserves for a frame without a payload.
const MAX_ENCODED_FRAME: usize = MAX_DATA_HEADER + MAX_HANDSHAKE;

/// Length in bytes of the largest OPEN frame: header with checksum, fixed fields, two IPv6 addresses with their ports.
const MAX_OPEN_FRAME: usize = 66;

/// Estimated length in bytes of a text line without its data: user, stream, action, separators. ADDPROXY lines are
/// longer, and rare.
const LINE_OVERHEAD: usize = 32;

/// A frame for a binary peer, or a line for a text peer, that the mux has chosen for transmission.
#[derive(Debug)]
pub(super) enum Transmit {
    /// For a binary peer.
    Frame(Frame),
    /// For a text peer.
    Line(TunnelMessage),
}

impl Transmit {
    /// Returns the approximate length of the frame or line in bytes when encoded, without encoding it.
    pub(super) fn estimated_len(&self) -> usize {
        match self {
            Self::Frame(Frame::Data { payload, .. }) => MAX_DATA_HEADER + payload.len(),
            Self::Frame(Frame::Message(message)) => MAX_DATA_HEADER + message.data.len(),
            Self::Frame(Frame::Open(_)) => MAX_OPEN_FRAME,
            Self::Frame(_) => MAX_DATA_HEADER,
            Self::Line(message) => Self::estimated_line_len(message),
        }
    }

    /// Returns the approximate length of a line in bytes when encoded: base64 takes four bytes for three.
    fn estimated_line_len(message: &TunnelMessage) -> usize {
        LINE_OVERHEAD + message.data.len().div_ceil(3) * 4
    }
}

/// Encoded frames or lines of one channel, in the order of their transmission.
#[derive(Debug)]
pub(super) struct WriteQueue {
    /// Encoded bytes that the socket has not taken, in the order of their transmission.
    chunks: VecDeque<Bytes>,
    /// How many encoded bytes the socket has not taken: the sum of the lengths of `chunks` and of `arena`.
    queued_bytes: usize,
    /// Encodes binary frames, with a checksum if it was negotiated.
    encoder: FrameEncoder,
    /// Number of fields in the lines of a text peer; `None` for a binary peer.
    fields: Option<FieldCount>,
    /// Headers, small frames and lines are encoded here one after another, and split off without copying before what
    /// follows them is appended to `chunks` or written. They follow the last of `chunks`.
    arena: BytesMut,
    /// How many bytes the socket took and has yet to send, because TLS encrypts more at once than the send buffer
    /// accepts.
    unsent_bytes: usize,
    /// How many bytes the send buffer accepted at the last write, or at least twice the last target if it took all.
    last_taken: usize,
}

impl WriteQueue {
    /// Creates an empty queue. `fields` is the number of fields in the lines of a text peer; `None` for a binary
    /// peer.
    pub(super) fn new(encoder: FrameEncoder, fields: Option<FieldCount>) -> Self {
        Self {
            chunks: VecDeque::new(),
            queued_bytes: 0,
            encoder,
            fields,
            arena: BytesMut::new(),
            unsent_bytes: 0,
            last_taken: 0,
        }
    }

    /// Returns how many encoded bytes the socket has not taken or not sent yet.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes + self.unsent_bytes
    }

    /// Returns how many bytes may be encoded ahead of the socket: about as many as it takes at once.
    pub(super) fn target_bytes(&self) -> usize {
        self.last_taken.clamp(MIN_QUEUED_BYTES, MAX_QUEUED_BYTES)
    }

    /// Returns how many more bytes should be encoded now: the difference between [`target_bytes`](Self::target_bytes)
    /// and the bytes that are queued; 0 if as many are queued.
    pub(super) fn bytes_to_encode(&self) -> usize {
        self.target_bytes().saturating_sub(self.queued_bytes())
    }

    /// Encodes a frame or line and appends it to the queue. The link state must not be locked.
    pub(super) fn push(&mut self, transmit: Transmit) {
        assert_link_state_unlocked();
        match transmit {
            // The payload is written from the buffer that it was read into.
            Transmit::Frame(Frame::Data { stream, offset, fin, payload })
                if payload.len() > MAX_COPIED_PAYLOAD =>
            {
                self.encode(MAX_DATA_HEADER, |encoder, arena| {
                    encoder.data_header(stream, offset, fin, &payload, arena);
                });
                self.split_arena();
                self.queued_bytes += payload.len();
                self.chunks.push_back(payload);
            }
            Transmit::Frame(Frame::Data { stream, offset, fin, payload }) => {
                self.encode(MAX_DATA_HEADER + payload.len(), |encoder, arena| {
                    encoder.data_header(stream, offset, fin, &payload, arena);
                    arena.extend_from_slice(&payload);
                });
            }
            Transmit::Frame(frame) => {
                self.encode(MAX_ENCODED_FRAME, |encoder, arena| encoder.encode(&frame, arena))
            }
            Transmit::Line(message) => {
                let fields = self.fields.unwrap_or(FieldCount::Four);
                self.encode(Transmit::estimated_line_len(&message), |_, arena| {
                    text::encode_line(&message, fields, arena);
                });
            }
        }
    }

    /// Has `encode` append about `len` bytes to the arena.
    fn encode(&mut self, len: usize, encode: impl FnOnce(&mut FrameEncoder, &mut BytesMut)) {
        if self.arena.capacity() - self.arena.len() < len {
            // What is in the arena need not be copied to a larger one.
            self.split_arena();
            self.arena.reserve(len.max(ARENA_BYTES));
        }
        let before = self.arena.len();
        encode(&mut self.encoder, &mut self.arena);
        self.queued_bytes += self.arena.len() - before;
    }

    /// Moves the encoded bytes in the arena to the end of `chunks`, as one chunk and without copying them.
    fn split_arena(&mut self) {
        if !self.arena.is_empty() {
            self.chunks.push_back(self.arena.split().freeze());
        }
    }

    /// Writes to `socket` until nothing is left or the socket's send buffer is full, which is not an error. Returns the
    /// number of bytes that the send buffer accepted.
    pub(super) fn write_to(&mut self, socket: &ChannelSocket) -> io::Result<usize> {
        assert_link_state_unlocked();
        self.split_arena();
        let unsent_before = socket.unsent_bytes();
        let mut written = 0;
        while self.queued_bytes > 0 || socket.unsent_bytes() > 0 {
            match write_vectored_once(&self.chunks, usize::MAX, |slices| socket.try_write(slices)) {
                Ok(n) => {
                    self.queued_bytes -= n;
                    written += n;
                    advance(&mut self.chunks, n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent_bytes = socket.unsent_bytes();
        written = (written + unsent_before).saturating_sub(self.unsent_bytes);
        let took_all = self.queued_bytes() == 0;
        self.last_taken = if took_all { (2 * self.target_bytes()).max(written) } else { written };
        Ok(written)
    }
}
