//! The socket of a channel with its write queue, which any thread may flush. The channel's driver reads it.
//!
//! Nothing here but [`ChannelIo::shared`] may be used while the link state is locked; debug builds assert it.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    channel_shared::ChannelShared,
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
pub(super) const TURN_BUDGET: usize = 2 * BufferPool::BUFFER_SIZE;

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
    /// Whether the kernel's view of the connection is reported to the mux: not on loopback, where it says nothing about a
    /// path, and where the system call would cost more than it gains.
    reports_transport: bool,
    /// Whether data waits for the next report of the kernel's view, which the driver has to make in a moment.
    is_sample_due: AtomicBool,
    /// The driver does not read the socket, because too much data of the text peer waits for slow local sockets.
    is_reading_paused: AtomicBool,
    /// Wakes the channel's driver to flush the write queue.
    driver_wake: Notify,
    /// Wakes the channel's driver to set the timer of the next report of the kernel's view. Apart from `driver_wake`, which
    /// makes it flush at once: each flush asks for another report, and the driver would never wait for the timer.
    sample_wake: Notify,
    /// Whether a write failed because the peer has reset the connection (RST). The kernel reports a reset only once,
    /// so the driver may read a plain end instead.
    was_reset: AtomicBool,
    /// Whether the peer answers on the channel.
    is_responsive: watch::Sender<bool>,
    /// Cancelled to stop the channel's driver.
    stopped: CancellationToken,
}

/// How far one flush of a channel has come.
enum FlushResult {
    /// The mux has no more frames for the channel, and the write queue is empty.
    Drained,
    /// [`TURN_BUDGET`] is used up.
    BudgetExhausted,
    /// The socket's send buffer is full.
    WriteBlocked,
}

impl ChannelIo {
    /// Combines a socket after its handshake with the write queue that encodes for it.
    pub(super) fn new(shared: ChannelShared, socket: ChannelSocket, write_queue: WriteQueue) -> Self {
        Self {
            reports_transport: !shared.is_text() && !socket.is_loopback(),
            is_sample_due: AtomicBool::new(false),
            shared,
            socket,
            write_queue: FlatCombiner::new(write_queue),
            is_reading_paused: AtomicBool::new(false),
            driver_wake: Notify::new(),
            sample_wake: Notify::new(),
            was_reset: AtomicBool::new(false),
            is_responsive: watch::Sender::new(true),
            stopped: CancellationToken::new(),
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

    /// Wakes the task that drives the channel, which then flushes the channel.
    pub(super) fn wake_driver(&self) {
        assert_link_state_unlocked();
        self.driver_wake.notify_one();
    }

    /// Waits until [`wake_driver`](Self::wake_driver) is called, or returns at once if it was called since the last
    /// wait. For the driver only.
    pub(super) async fn driver_woken(&self) {
        self.driver_wake.notified().await;
    }

    /// Waits until a flush has made another report of the kernel's view [due](Self::is_sample_due), or returns at once if
    /// one has since the last wait. For the driver only.
    pub(super) async fn sample_requested(&self) {
        self.sample_wake.notified().await;
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
        self.stopped.cancel();
    }

    /// Stops the task that drives the channel. The caller has recorded the channel's end reason.
    pub(super) fn cancel_driver(&self) {
        assert_link_state_unlocked();
        self.stopped.cancel();
    }

    /// Waits until the channel was stopped: its driver has to end.
    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Returns whether the channel was stopped, so that its driver has to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Returns whether data waits for the next report of the kernel's view of the connection, so that the driver has to
    /// flush the channel in a moment.
    pub(super) fn is_sample_due(&self) -> bool {
        self.is_sample_due.load(SeqCst)
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
    /// [`TURN_BUDGET`] is used up. If another thread is flushing the channel, leaves the work to that thread and
    /// returns. Returns whether the budget is used up; then it has woken the driver, which continues.
    pub(super) fn flush(&self, source: &impl TransmitSource) -> bool {
        assert_link_state_unlocked();
        let mut is_budget_exhausted = false;
        self.write_queue.run(|queue| match self.write_out(source, queue) {
            Ok(FlushResult::Drained) => true,
            Ok(FlushResult::BudgetExhausted) => {
                is_budget_exhausted = true;
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
        });
        is_budget_exhausted
    }

    /// Encodes frames and writes them to the socket for one flush, and returns why it stopped. Fails if a write to
    /// the socket fails.
    fn write_out(&self, source: &impl TransmitSource, queue: &mut WriteQueue) -> io::Result<FlushResult> {
        let mut written_total = 0;
        loop {
            self.report_transport(source, queue.queued_bytes());
            self.fill(source, queue);
            // Also while the socket is not writable: the peer may write again only after this side has read.
            if self.is_reading_paused.load(SeqCst) && !source.must_stop_reading() {
                self.wake_driver();
            }
            if queue.queued_bytes() == 0 {
                self.request_sample(source);
                return Ok(FlushResult::Drained);
            }
            let written = queue.write_to(&self.socket)?;
            self.shared.record_write(written, queue.queued_bytes());
            written_total += written;
            if queue.queued_bytes() > 0 {
                if !self.shared.set_write_blocked(true) {
                    source.set_write_blocked(self.shared.id(), true);
                    // Another channel may be able to transmit the data of this one.
                    source.wake_drivers();
                    self.wake_driver();
                }
                return Ok(FlushResult::WriteBlocked);
            }
            if written_total >= TURN_BUDGET {
                self.wake_driver();
                return Ok(FlushResult::BudgetExhausted);
            }
        }
    }

    /// Reports the kernel's view of the connection to the mux. `queued` bytes were polled and are not written yet.
    fn report_transport(&self, source: &impl TransmitSource, queued: usize) {
        if !self.reports_transport {
            return;
        }
        self.is_sample_due.store(false, SeqCst);
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
        if self.reports_transport
            && source.is_awaiting_sample(self.shared.id())
            && !self.is_sample_due.swap(true, SeqCst)
        {
            self.sample_wake.notify_one();
        }
    }

    /// Takes frames for this channel from the mux and encodes them into the write queue, until the queue holds as
    /// much as the socket takes at once or the mux has no more. The link state is locked while the mux is polled, and
    /// not while frames are encoded.
    fn fill(&self, source: &impl TransmitSource, queue: &mut WriteQueue) {
        with_scratch(&POLLED, |polled| {
            let mut may_have_more = true;
            while may_have_more && queue.bytes_to_encode() > 0 {
                may_have_more = source.poll_transmit(self.shared.id(), queue.bytes_to_encode(), polled);
                polled.drain(..).for_each(|transmit| queue.push(transmit));
            }
        });
    }
}

/// Returns whether an I/O error means that the connection has ended, and not only that this call failed.
fn is_disconnect(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Returns the end reason of a channel whose socket failed with `error`.
pub(super) fn end_reason(error: &io::Error) -> DisconnectReason {
    if is_disconnect(error) { DisconnectReason::Reset } else { DisconnectReason::IoError(error.to_string()) }
}
