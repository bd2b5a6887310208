//! What the link provides to the endpoints of its streams and to its channels: data to deliver, frames to transmit.
//!
//! Every method locks the link state for a moment; what it returns is delivered or encoded after unlocking.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{channel_io::TransmitSource, delivery::ReceiveSource, handle::Link, write_queue::Transmit};
use crate::mux::{DataEnd, MemoryBudget, TransportSample};

impl ReceiveSource for Arc<Link> {
    /// Records that the local socket has taken `consumed` more bytes, which grants the peer as much credit, and moves
    /// data that arrived in order from the mux to `queue`.
    fn consume_and_read(&self, stream: u32, consumed: u64, queue: &mut VecDeque<Bytes>) -> Option<DataEnd> {
        self.with(|state| {
            if consumed > 0 {
                state.consume(stream, consumed, Instant::now());
            }
            state.mux.read(stream, queue)
        })
    }

    /// Records that the local socket has taken `bytes` more bytes of `stream`, which grants the peer as much credit; a
    /// WINDOW frame is sent once enough has accumulated. Does nothing for 0 bytes.
    fn consume(&self, stream: u32, bytes: u64) {
        if bytes > 0 {
            self.with(|state| state.consume(stream, bytes, Instant::now()));
        }
    }

    /// Reports to the mux that the local socket has received the stream's end.
    fn consume_end(&self, stream: u32) {
        self.with(|state| state.mux.consume_end(stream));
    }

    /// Has the mux copy received chunks of `stream` that are shorter than `copied_below` until its next read.
    fn reader_blocked(&self, stream: u32, copied_below: usize) {
        self.with(|state| state.mux.on_reader_blocked(stream, copied_below));
    }

    /// Reports to the mux that the reader of `stream` makes progress, so that it gets the window that the stream wants.
    fn reader_proven(&self, stream: u32) {
        self.with(|state| state.mux.on_reader_proven(stream));
    }

    /// Reports to the mux how many bytes the reader of `stream` is known to have read.
    fn reader_progress(&self, stream: u32, bytes: u64) {
        self.with(|state| state.mux.on_reader_progress(stream, bytes));
    }

    /// Returns the memory budget of the process.
    fn budget(&self) -> &MemoryBudget {
        Link::budget(self)
    }
}

impl TransmitSource for Arc<Link> {
    /// Takes frames that `channel` has to send from the mux, translated to lines for a text peer.
    fn poll_transmit(&self, channel: u16, bytes: usize, polled: &mut Vec<Transmit>) -> bool {
        self.with(|state| state.poll_transmit(channel, bytes, polled))
    }

    /// Stores in the mux whether the channel's socket takes no bytes.
    fn set_write_blocked(&self, channel: u16, is_blocked: bool) {
        self.with(|state| state.mux.set_write_blocked(channel, is_blocked));
    }

    /// Returns whether too much undelivered data of a text peer is buffered; false for a binary peer.
    fn must_stop_reading(&self) -> bool {
        self.with(|state| state.must_stop_reading())
    }

    /// Wakes the drivers of this link that have frames to transmit.
    fn wake_drivers(&self) {
        Link::wake_drivers(self);
    }

    /// Passes the kernel's view of the channel's connection on to the mux.
    fn report_transport(&self, channel: u16, sample: TransportSample) {
        let now = Instant::now();
        self.with(|state| state.mux.report_transport(channel, sample, now));
    }

    /// Has the mux err towards throughput on the channel.
    fn report_unobserved(&self, channel: u16) {
        self.with(|state| state.mux.set_unobserved(channel));
    }

    /// Returns whether the mux holds data of the channel back until it gets another report.
    fn is_awaiting_sample(&self, channel: u16) -> bool {
        self.with(|state| state.mux.is_awaiting_sample(channel))
    }
}
