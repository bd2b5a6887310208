//! What the driver of a channel waits for.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use super::channel_io::ChannelIo;

/// How long data waits for the next report of the kernel's view of the connection, when the congestion window is full:
/// the resolution of the runtime's timer.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(1);

/// Why the driver of a channel continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DriverEvent {
    /// The channel was stopped.
    Stopped,
    /// The timer of the mux has fired.
    Timeout,
    /// Frames wait to be transmitted, the timer has to be set again, or another report of the kernel's view is due.
    FlushRequested,
    /// The socket takes bytes again.
    Writable,
    /// The socket has bytes to read, or has ended.
    Readable,
}

/// The timers of a driver, and what it did last.
pub(super) struct DriverEvents {
    /// When the mux's timers of the channel have something to do next.
    timer: Pin<Box<Sleep>>,
    /// When the kernel's view of the connection is reported next, while such a report is due.
    sample_timer: Pin<Box<Sleep>>,
    /// Whether the sample timer is set.
    is_sample_timer_set: bool,
    /// Whether the driver flushed last, so that it reads first if both are possible: neither may keep the other
    /// waiting.
    has_flushed: bool,
}

impl DriverEvents {
    /// Creates the timers, which fire once at once.
    pub(super) fn new() -> Self {
        Self {
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            sample_timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            is_sample_timer_set: false,
            has_flushed: false,
        }
    }

    /// Sets the timer of the mux.
    pub(super) fn set_timer(&mut self, at: Instant) {
        self.timer.as_mut().reset(at.into());
    }

    /// Waits for the next event of the channel. `is_reading_paused` says that its socket must not be read for now.
    pub(super) async fn next(&mut self, io: &ChannelIo, is_reading_paused: bool) -> DriverEvent {
        let event = poll_fn(|cx| self.poll(io, is_reading_paused, cx)).await;
        match event {
            DriverEvent::FlushRequested | DriverEvent::Writable => self.has_flushed = true,
            DriverEvent::Readable => self.has_flushed = false,
            _ => {}
        }
        event
    }

    /// Polls for the next event. An error of the socket's readiness, which only a runtime that is shutting down
    /// reports, counts as readiness: the following call returns it.
    fn poll(&mut self, io: &ChannelIo, is_reading_paused: bool, cx: &mut Context<'_>) -> Poll<DriverEvent> {
        io.signals().register(cx.waker());
        if io.signals().is_stopped() {
            return Poll::Ready(DriverEvent::Stopped);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(DriverEvent::Timeout);
        }
        if self.has_flushed && self.poll_readable(io, is_reading_paused, cx) {
            return Poll::Ready(DriverEvent::Readable);
        }
        // It flushes, too. After the read, a peer that sends all the time would keep the channel blocked for ever.
        if io.shared().is_write_blocked() && io.socket().poll_writable(cx).is_ready() {
            return Poll::Ready(DriverEvent::Writable);
        }
        if io.signals().take_flush_request() || self.poll_sample(io, cx) {
            return Poll::Ready(DriverEvent::FlushRequested);
        }
        if !self.has_flushed && self.poll_readable(io, is_reading_paused, cx) {
            return Poll::Ready(DriverEvent::Readable);
        }
        Poll::Pending
    }

    /// Returns whether the socket may be read and has something to read.
    fn poll_readable(&self, io: &ChannelIo, is_reading_paused: bool, cx: &mut Context<'_>) -> bool {
        !is_reading_paused && io.socket().poll_readable(cx).is_ready()
    }

    /// Returns whether data has waited long enough for another report of the kernel's view. Sets the timer if it is due
    /// and not set yet.
    fn poll_sample(&mut self, io: &ChannelIo, cx: &mut Context<'_>) -> bool {
        if io.signals().is_sample_due() && !self.is_sample_timer_set {
            self.is_sample_timer_set = true;
            self.sample_timer.as_mut().reset((Instant::now() + SAMPLE_INTERVAL).into());
        }
        if self.is_sample_timer_set && self.sample_timer.as_mut().poll(cx).is_ready() {
            self.is_sample_timer_set = false;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
