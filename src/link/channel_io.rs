//! The socket of a channel with its write queue, which any thread may flush. The channel's driver reads it.
//!
//! Nothing here but [`ChannelIo::shared`] may be used while the link state is locked; debug builds assert it.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use tokio::sync::watch;

use super::{
    channel_shared::ChannelShared,
    driver_signals::DriverSignals,
    flat_combining::FlatCombiner,
    lock::assert_link_state_unlocked,
    scratch::{Scratch, with_scratch},
    write_queue::{Transmit, WriteQueue},
};
use crate::{
    mux::TransportSample,
    net::{BufferPool, ChannelSocket},
    telemetry::DisconnectReason,
};

/// Bytes that a channel's driver reads, or one flush writes, before other tasks run (a flush leaves the rest to the
/// driver): twice what one read takes. With half of it throughput was a twentieth lower.
pub(super) const CHANNEL_TURN_BYTES: usize = 2 * BufferPool::BUFFER_SIZE;

/// How often a channel that is about to be removed tries to flush, while other threads do: each of their flushes ends
/// within a few system calls.
const MAX_FLUSH_ATTEMPTS: usize = 1000;

thread_local! {
    /// Reused list of frames taken from the mux, which is polled while the link state is locked, for the encoder,
    /// which runs after it is unlocked.
    static POLLED: Scratch<Transmit> = const { Scratch::new() };
}

/// Where a channel gets the frames to transmit from, and reports how its writes proceed. Implemented by the link; each
/// method locks the link state for itself.
pub(super) trait TransmitSource {
    /// Appends frames or lines for `channel` to `polled` until their encoded size reaches about `bytes`, or the list
    /// is as long as one call may make it. Returns whether there may be more.
    fn poll_transmit(&self, channel: u16, bytes: usize, polled: &mut Vec<Transmit>) -> bool;
    /// Sets whether the send buffer of the channel's socket is full: other channels may take over its data then.
    fn set_write_blocked(&self, channel: u16, is_blocked: bool);
    /// Returns whether the channel of a text peer must not be read, because too much of its data waits for slow local
    /// sockets.
    fn must_stop_reading(&self) -> bool;
    /// Wakes the driver of every channel of the link that has frames to transmit.
    fn wake_drivers(&self);
    /// Reports what the kernel knows about the channel's connection, before its frames are polled.
    fn report_transport(&self, channel: u16, sample: TransportSample);
    /// Reports that the kernel says nothing about the channel's connection, which crosses a network.
    fn report_unobserved(&self, channel: u16);
    /// Returns whether data of the channel waits for another [report](Self::report_transport).
    fn is_awaiting_sample(&self, channel: u16) -> bool;
}

/// A channel's TCP socket, its write queue, and the notification that wakes its driver.
#[derive(Debug)]
pub(super) struct ChannelIo {
    /// The part that may be used while the link state is locked: id, counters, flags.
    shared: ChannelShared,
    /// The channel's TCP connection. Any thread that flushes writes to it; only the driver reads it.
    socket: ChannelSocket,
    /// Encoded frames that the socket has not taken yet. One thread at a time flushes them; another one's request
    /// makes it flush once more.
    write_queue: FlatCombiner<WriteQueue>,
    /// Whether the kernel's view of the connection is reported to the mux: not on loopback, where it says nothing about
    /// a path, and where the system call would cost more than it gains.
    reports_transport: bool,
    /// The driver does not read the socket, because too much data of the text peer waits for slow local sockets.
    is_reading_paused: AtomicBool,
    /// What the channel's driver is asked to do.
    signals: DriverSignals,
    /// Whether a write failed because the peer has reset the connection (RST). The kernel reports a reset only once,
    /// so the driver may read a plain end instead.
    was_reset: AtomicBool,
    /// Whether the peer answers on the channel.
    is_responsive: watch::Sender<bool>,
}

/// How far one flush of a channel has come.
enum FlushResult {
    /// The mux has no more frames for the channel, and the write queue is empty.
    Drained,
    /// [`CHANNEL_TURN_BYTES`] is used up.
    BudgetExhausted,
    /// The socket's send buffer is full.
    WriteBlocked,
}

impl ChannelIo {
    /// Combines a socket after its handshake with the write queue that encodes for it.
    pub(super) fn new(shared: ChannelShared, socket: ChannelSocket, write_queue: WriteQueue) -> Self {
        Self {
            reports_transport: !shared.is_text() && !socket.is_loopback(),
            shared,
            socket,
            write_queue: FlatCombiner::new(write_queue),
            is_reading_paused: AtomicBool::new(false),
            signals: DriverSignals::default(),
            was_reset: AtomicBool::new(false),
            is_responsive: watch::Sender::new(true),
        }
    }

    /// Returns the part of the channel that may be used while the link state is locked.
    pub(super) fn shared(&self) -> &ChannelShared {
        &self.shared
    }

    /// Returns the channel's socket.
    pub(super) fn socket(&self) -> &ChannelSocket {
        &self.socket
    }

    /// Returns what the task that drives the channel is asked to do.
    pub(super) fn signals(&self) -> &DriverSignals {
        &self.signals
    }

    /// Wakes the task that drives the channel, which then flushes the channel.
    pub(super) fn wake_driver(&self) {
        assert_link_state_unlocked();
        self.signals.request_flush();
    }

    /// Sets whether the peer answers on the channel, and wakes the tasks that [watch](Self::watch_responsive) it.
    pub(super) fn set_responsive(&self, is_responsive: bool) {
        assert_link_state_unlocked();
        self.is_responsive.send_replace(is_responsive);
    }

    /// Returns a receiver of whether the peer answers on the channel.
    pub(super) fn watch_responsive(&self) -> watch::Receiver<bool> {
        self.is_responsive.subscribe()
    }

    /// Ends the channel: its driver stops. The first reason counts, and [`ChannelShared::set_end_reason`] may have
    /// recorded one before.
    pub(super) fn stop(&self, reason: DisconnectReason) {
        assert_link_state_unlocked();
        self.shared.set_end_reason(reason);
        self.signals.stop();
    }

    /// Stops the task that drives the channel. The caller has recorded the channel's end reason.
    pub(super) fn cancel_driver(&self) {
        assert_link_state_unlocked();
        self.signals.stop();
    }

    /// Sets whether the driver has stopped reading the socket of a text peer. While it has, each flush checks whether
    /// reading may continue, and then wakes the driver.
    pub(super) fn set_reading_paused(&self, is_paused: bool) {
        self.is_reading_paused.store(is_paused, SeqCst);
    }

    /// Returns whether a thread is flushing the channel's write queue now.
    pub(super) fn is_flushing(&self) -> bool {
        self.write_queue.is_busy()
    }

    /// Returns whether a write failed because the peer has reset the connection.
    pub(super) fn was_reset(&self) -> bool {
        self.was_reset.load(SeqCst)
    }

    /// Transmits the frames that the mux has for this channel, until there are none, the socket takes no more, or
    /// [`CHANNEL_TURN_BYTES`] is used up, also by what other threads request meanwhile: a relay task that flushed for
    /// all others would not get to the end of its own stream. If another thread is flushing the channel, leaves the
    /// work to that thread and returns. Returns whether the budget is used up; then it has woken the driver, which
    /// continues.
    pub(super) fn flush(&self, source: &impl TransmitSource) -> bool {
        let mut is_budget_exhausted = false;
        self.request_flush(source, &mut is_budget_exhausted);
        is_budget_exhausted
    }

    /// Transmits the frames that the mux has for this channel, as far as the socket takes them and
    /// [`CHANNEL_TURN_BYTES`] allows, before the channel is removed. Unlike [`flush`](Self::flush) it does not leave
    /// that to a thread which is about to finish another flush, and would find the channel removed: a GOAWAY was lost
    /// so.
    pub(super) fn flush_before_removal(&self, source: &impl TransmitSource) {
        for _ in 0..MAX_FLUSH_ATTEMPTS {
            if self.request_flush(source, &mut false) && !self.write_queue.is_busy() {
                return;
            }
            thread::yield_now();
        }
    }

    /// Requests a flush, and carries it out unless another thread is flushing, which then flushes again. Returns
    /// whether it was not left to another thread; stores in `is_budget_exhausted` whether [`CHANNEL_TURN_BYTES`] was
    /// used up.
    fn request_flush(&self, source: &impl TransmitSource, is_budget_exhausted: &mut bool) -> bool {
        assert_link_state_unlocked();
        let mut written = 0;
        self.write_queue.run(|queue| match self.write_out(source, queue, &mut written) {
            Ok(FlushResult::Drained) => true,
            Ok(FlushResult::BudgetExhausted) => {
                *is_budget_exhausted = true;
                false
            }
            // The driver continues once the socket is writable.
            Ok(FlushResult::WriteBlocked) => false,
            // The kernel reports a reset to one call only; after it, and after a close by the peer, writes fail with
            // a broken pipe. The driver finds the end by itself after it has read what the peer sent before. The
            // driver of a text peer may not be reading.
            Err(error) if !self.shared.is_text() && is_disconnect(&error) => {
                self.was_reset.fetch_or(error.kind() == io::ErrorKind::ConnectionReset, SeqCst);
                false
            }
            Err(error) => {
                self.stop(end_reason(&error));
                false
            }
        })
    }

    /// Encodes frames and writes them to the socket for one flush, and returns why it stopped. Adds the bytes to
    /// `written_total`, which it has written so far. Fails if a write to the socket fails.
    fn write_out(
        &self,
        source: &impl TransmitSource,
        queue: &mut WriteQueue,
        written_total: &mut usize,
    ) -> io::Result<FlushResult> {
        loop {
            self.report_transport(source, queue.queued_bytes());
            let may_have_more = self.fill(source, queue);
            // Also while the socket is not writable: the peer may write again only after this side has read.
            if self.is_reading_paused.load(SeqCst) && !source.must_stop_reading() {
                self.wake_driver();
            }
            if queue.queued_bytes() == 0 && self.socket.unsent_bytes() == 0 {
                self.request_sample(source);
                return Ok(FlushResult::Drained);
            }
            let written = queue.write_to(&self.socket)?;
            self.shared.record_write(written, queue.queued_bytes());
            *written_total += written;
            if queue.queued_bytes() > 0 {
                if !self.shared.set_write_blocked(true) {
                    source.set_write_blocked(self.shared.id(), true);
                    // Another channel may be able to transmit the data of this one.
                    source.wake_drivers();
                    self.wake_driver();
                }
                return Ok(FlushResult::WriteBlocked);
            }
            if *written_total >= CHANNEL_TURN_BYTES {
                self.wake_driver();
                return Ok(FlushResult::BudgetExhausted);
            }
            // What has been queued since is flushed by the thread that has queued it, or in another round of this
            // flush.
            if !may_have_more {
                self.request_sample(source);
                return Ok(FlushResult::Drained);
            }
        }
    }

    /// Reports the kernel's view of the connection to the mux. `queued` bytes were polled and are not written yet.
    fn report_transport(&self, source: &impl TransmitSource, queued: usize) {
        if !self.reports_transport {
            return;
        }
        self.signals.sample_taken();
        match self.socket.transport_sample() {
            Some(mut sample) => {
                sample.unsent += queued as u64;
                source.report_transport(self.shared.id(), sample);
            }
            None => source.report_unobserved(self.shared.id()),
        }
    }

    /// Has the driver flush the channel in a moment if data waits for another report of the kernel's view: nothing else
    /// tells that the kernel has fewer bytes in flight.
    fn request_sample(&self, source: &impl TransmitSource) {
        if self.reports_transport && source.is_awaiting_sample(self.shared.id()) {
            self.signals.request_sample();
        }
    }

    /// Takes frames for this channel from the mux and encodes them into the write queue, until the queue holds as
    /// much as the socket takes at once or the mux has no more. Returns whether the mux may have more. The link state
    /// is locked while the mux is polled, and not while frames are encoded.
    fn fill(&self, source: &impl TransmitSource, queue: &mut WriteQueue) -> bool {
        with_scratch(&POLLED, |polled| {
            let mut may_have_more = true;
            while may_have_more && queue.bytes_to_encode() > 0 {
                may_have_more = source.poll_transmit(self.shared.id(), queue.bytes_to_encode(), polled);
                polled.drain(..).for_each(|transmit| queue.push(transmit));
            }
            may_have_more
        })
    }
}

/// Returns whether an I/O error means that the connection has ended, and not only that this call failed.
fn is_disconnect(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Returns the end reason of a channel whose socket failed with `error`.
pub(super) fn end_reason(error: &io::Error) -> DisconnectReason {
    match error.kind() {
        _ if is_disconnect(error) => DisconnectReason::Reset,
        io::ErrorKind::UnexpectedEof => DisconnectReason::Truncated,
        io::ErrorKind::InvalidData => DisconnectReason::Tls(error.to_string()),
        _ => DisconnectReason::IoError(error.to_string()),
    }
}
