use std::{collections::VecDeque, io};

use bytes::{Bytes, BytesMut};

use crate::{
    net::{BufferPool, ChannelSocket, advance, write_vectored_once},
    wire::{
        Frame, TunnelMessage,
        binary::FrameEncoder,
        text::{self, FieldCount},
    },
};

/// How much may be encoded and not yet written. What waits here can no longer be overtaken by a control frame; it is
/// what one read brings.
const MAX_WAITING: usize = BufferPool::BUFFER_SIZE;

/// And on a channel that takes little at a time, where that much would be milliseconds.
const MIN_WAITING: usize = 8 * 1024;

/// How much memory is asked for at a time for headers and lines. A header is 20 bytes, or 24 with its checksum, and
/// asking for each cost more than writing it.
const ARENA: usize = 4 * 1024;
const ROOM: usize = 24;

/// Frames on their way into a channel's socket: encoded, not yet written.
#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    slices: VecDeque<Bytes>,
    waiting: usize,
    encoder: FrameEncoder,
    /// Headers and lines are written in here one behind the other, and split off without copying.
    arena: BytesMut,
    /// How much the socket took lately.
    taken: usize,
}

impl WriteQueue {
    /// Nothing yet; frames are written by `encoder`.
    pub(super) fn new(encoder: FrameEncoder) -> Self {
        Self { encoder, ..Self::default() }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How much should wait at the most: about what the socket takes at once.
    pub(super) fn most(&self) -> usize {
        self.taken.clamp(MIN_WAITING, MAX_WAITING)
    }

    pub(super) fn push_frame(&mut self, frame: Frame) {
        match frame {
            // The payload goes out from where it was read to.
            Frame::Data { stream, offset, fin, payload } if !payload.is_empty() => {
                if self.arena.capacity() < ROOM {
                    self.arena.reserve(ARENA);
                }
                self.encoder.data_header(stream, offset, fin, &payload, &mut self.arena);
                self.split_arena();
                self.push(payload);
            }
            other => {
                self.encoder.encode(&other, &mut self.arena);
                self.split_arena();
            }
        }
    }

    pub(super) fn push_line(&mut self, message: &TunnelMessage, fields: FieldCount) {
        text::encode_line(message, fields, &mut self.arena);
        self.split_arena();
    }

    fn split_arena(&mut self) {
        let slice = self.arena.split().freeze();
        self.push(slice);
    }

    fn push(&mut self, slice: Bytes) {
        self.waiting += slice.len();
        self.slices.push_back(slice);
    }

    /// Writes until nothing waits or nothing fits; the number of bytes written. `WouldBlock` is no error here:
    /// [`waiting`](Self::waiting) tells.
    pub(super) fn write_to(&mut self, socket: &ChannelSocket) -> io::Result<usize> {
        let mut written = 0;
        while self.waiting > 0 {
            match write_vectored_once(&self.slices, usize::MAX, |slices| socket.try_write(slices)) {
                Ok(n) => {
                    self.waiting -= n;
                    written += n;
                    advance(&mut self.slices, n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.taken = if self.waiting == 0 { (2 * self.most()).max(written) } else { written };
        Ok(written)
    }
}
