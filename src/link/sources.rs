//! What the link provides to the endpoints of its streams and to its channels: data to deliver, frames to transmit.
//!
//! Every method locks the link state for a moment; what it returns is delivered or encoded after unlocking.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{channel_io::TransmitSource, delivery::ReceiveSource, handle::Link, write_queue::Transmit};

impl ReceiveSource for Arc<Link> {
    fn consume_and_read(&self, stream: u32, consumed: u64, queue: &mut VecDeque<Bytes>) -> bool {
        self.with(|state| {
            if consumed > 0 {
                state.consume(stream, consumed, Instant::now());
            }
            state.mux.read(stream, queue)
        })
    }

    fn consume(&self, stream: u32, bytes: u64) {
        if bytes > 0 {
            self.with(|state| state.consume(stream, bytes, Instant::now()));
        }
    }

    fn consume_end(&self, stream: u32) {
        self.with(|state| state.mux.consume_end(stream));
    }

    fn reader_blocked(&self, stream: u32) {
        self.with(|state| state.mux.on_reader_blocked(stream));
    }
}

impl TransmitSource for Arc<Link> {
    fn poll_transmit(&self, channel: u16, bytes: usize, polled: &mut Vec<Transmit>) -> bool {
        self.with(|state| state.poll_transmit(channel, bytes, polled))
    }

    fn set_write_blocked(&self, channel: u16, is_blocked: bool) {
        self.with(|state| state.mux.set_write_blocked(channel, is_blocked));
    }

    fn must_stop_reading(&self) -> bool {
        self.with(|state| state.must_stop_reading())
    }

    fn wake_drivers(&self) {
        Link::wake_drivers(self);
    }
}
