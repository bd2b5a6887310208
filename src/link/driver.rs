//! Drives one channel: reads and decodes frames, hands them to the link, transmits the link's frames, and runs the
//! timers.
//!
//! Decoding, reading and writing happen while the link state is not locked.

use std::{
    fmt, io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{runtime::Handle, sync::watch};

use super::{
    ack_progress::AckProgress,
    channel_health::ChannelHealthReader,
    channel_io::{CHANNEL_TURN_BYTES, ChannelIo, end_reason},
    channel_shared::ChannelShared,
    driver_events::{DriverEvent, DriverEvents},
    handle::Link,
    lock::assert_link_state_unlocked,
    scratch::{Scratch, with_scratch},
    timer_alignment::align_if_distant,
    write_queue::WriteQueue,
};
use crate::{
    mux::Role,
    net::{BufferPool, ChannelSocket},
    runtime,
    telemetry::{ChannelStats, DisconnectReason, ServedChannel, TcpInfo},
    wire::{
        ErrorCode, Frame, TunnelMessage,
        binary::{self, FrameCodec, FrameError, MAX_FRAME},
        text::{FieldCount, LineDecoder, MAX_LINE},
    },
};

/// The least free space in the buffer when the socket is read.
const MIN_READ_SPACE: usize = BufferPool::BUFFER_SIZE / 2;

/// The most frames or lines that are handed to the link at once. What follows from them is executed, and the channels
/// are flushed, before more are decoded: responses leave early, and other threads get the link's lock.
const MAX_BATCH: usize = 64;

/// From how many bytes on a read of the channel counts as bulk data.
const MIN_BULK_READ: usize = 16 * 1024;

/// How long the kernel retransmits to a peer that acknowledges nothing, or waits for one whose receive window stays
/// closed, before the connection fails (`TCP_USER_TIMEOUT`). Longer than an outage that streams survive: when the path
/// is back, the connection may be the first to work again. Pings detect a lost channel sooner.
const BINARY_USER_TIMEOUT: Duration = Duration::from_secs(35);

/// A channel whose peer sends, but has read nothing for this long (its receive window is closed), is closed.
const MAX_READ_STALL: Duration = Duration::from_secs(9);

/// `TCP_USER_TIMEOUT` of the connection to a text peer, longer than [`BINARY_USER_TIMEOUT`]: a simple text proxy may
/// be blocked by one slow target for a while, and one that was stopped must be noticed.
const TEXT_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes in the kernel's send buffer that were not transmitted yet (`TCP_NOTSENT_LOWAT`). The scheduler
/// cannot reorder bytes in that buffer, so that urgent frames wait behind them.
const MAX_UNSENT_BYTES: u32 = 16 * 1024;

/// When the timer of a channel fires that the link does not have any more, because it is being stopped.
const STOPPING_TIMER: Duration = Duration::from_secs(1);

thread_local! {
    /// Reused list of decoded frames: the decoder fills it before the link state is locked, and the mux handles it
    /// under that lock.
    static DECODED: Scratch<Received> = const { Scratch::new() };
}

/// A connection that has become a channel: the parameters of [`Driver::attach`].
#[derive(Debug)]
pub struct NewChannel {
    /// Number of the channel within its link.
    pub id: u16,
    /// The TCP connection, after its handshake.
    pub socket: ChannelSocket,
    /// The RTT that the handshake measured; `None` if it is unknown.
    pub rtt: Option<Duration>,
    /// Bytes that were received after the handshake and not decoded yet.
    pub read_ahead: BytesMut,
    /// Encoder and decoder of binary frames as negotiated. Unused for a text peer.
    pub codec: FrameCodec,
    /// Number of fields in the lines of a text peer; `None` for a binary peer.
    pub text: Option<FieldCount>,
    /// Telemetry counters of the channel; `None` on a proxy without metrics.
    pub stats: Option<Arc<ChannelStats>>,
    /// What counts the channel of a proxy while it is driven, in these counters; `None` on a server.
    pub registration: Option<ServedChannel>,
}

/// A decoded frame of a binary peer, or a decoded line (one message) of a text peer.
#[derive(Debug)]
enum Received {
    /// A frame of a binary peer.
    Frame(Frame),
    /// A message of a text peer, which is one line.
    Line(TunnelMessage),
}

/// Decodes the bytes received on a channel into binary frames, or into the lines of a text peer.
#[derive(Debug)]
enum ChannelDecoder {
    /// For a binary peer.
    Binary(binary::FrameDecoder),
    /// For a text peer.
    Text(LineDecoder),
}

impl ChannelDecoder {
    /// Decodes one frame or line at the front of `buffer`, and removes its bytes; `None` while it is incomplete.
    /// Fails if the peer violates the protocol or the checksum does not match.
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Received>, DisconnectReason> {
        assert_link_state_unlocked();
        match self {
            Self::Binary(decoder) => match decoder.decode(buffer, MAX_FRAME) {
                Ok(frame) => Ok(frame.map(Received::Frame)),
                Err(FrameError::Checksum) => Err(DisconnectReason::ChecksumMismatch),
                Err(error) => Err(protocol_error(error)),
            },
            Self::Text(decoder) => {
                let line = decoder.decode(buffer).map_err(protocol_error)?;
                Ok(line.map(|(line, _)| Received::Line(line)))
            }
        }
    }
}

/// Drives one channel of a link: reads, flushes and keeps its timers. Dropping it removes the channel from the link,
/// so that the channel's streams fail over, and closes the connection in an orderly way.
pub struct Driver {
    /// The link to which the channel belongs.
    link: Arc<Link>,
    /// The channel's socket and write queue.
    io: Arc<ChannelIo>,
    /// Decodes received bytes into frames or lines.
    decoder: ChannelDecoder,
    /// Received bytes that are not decoded yet. Returned to the pool while it is empty.
    buffer: BytesMut,
    /// What the peer's kernel has acknowledged.
    ack_progress: AckProgress,
    /// Whether the kernel reports what the peer's kernel acknowledges. Not used for a text peer, which may not answer
    /// pings.
    knows_acks: bool,
    /// Counts the channel of a proxy until the driver is dropped.
    registration: Option<ServedChannel>,
    /// The RTT for which the kernel's retransmission timeout was bounded last; zero before the first time.
    bounded_rtt: Duration,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({})", self.io.shared().id())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // This process is alive, and the last frames should arrive: the socket is closed in an orderly way.
        self.io.socket().set_reset_on_close(false);
        // Its last frames may have been queued by what stopped the driver, or their flush left to another thread: a
        // GOAWAY, the reason of a refusal, the RETIRE that completes an orderly closing.
        if self.link.has_last_frames(self.io.shared()) && !thread::panicking() {
            self.io.flush_before_removal(&self.link);
        }
        if let Some(stats) = self.io.shared().stats() {
            stats.set_health_source(None);
        }
        self.registration.iter().for_each(|channel| channel.set_reason(self.io.shared().end_reason()));
        self.link.remove_channel(self.io.shared().id());
        if !thread::panicking() {
            self.io.socket().announce_end();
        }
    }
}

impl Driver {
    /// Adds a channel to `link`, and returns its driver, which the current runtime has to [run](Self::run). Returns
    /// `None` if the link has ended or is closing.
    pub fn attach(link: &Arc<Link>, new: NewChannel) -> Option<Self> {
        let NewChannel { id, socket, rtt, read_ahead, codec, text, stats, registration } = new;
        socket.set_buffers(MAX_UNSENT_BYTES, rtt);
        socket.set_user_timeout(if text.is_none() { BINARY_USER_TIMEOUT } else { TEXT_USER_TIMEOUT });
        // If this process dies, the peer receives a reset, and can tell that from an end that a middlebox caused.
        socket.set_reset_on_close(true);
        let shared = ChannelShared::new(id, Handle::current().id(), text.is_some(), stats);
        let io = Arc::new(ChannelIo::new(shared, socket, WriteQueue::new(codec.encoder, text)));
        let decoder = match text {
            None => ChannelDecoder::Binary(codec.decoder),
            Some(_) => ChannelDecoder::Text(LineDecoder::new(MAX_LINE)),
        };
        if !link.add_channel(&io, rtt) {
            return None;
        }
        if let Some(stats) = io.shared().stats() {
            stats.set_health_source(Some(Arc::new(ChannelHealthReader::new(link, &io))));
        }
        let ack_progress = AckProgress::new(Instant::now());
        let knows_acks = !io.shared().is_text() && io.socket().tcp_info().is_some();
        Some(Self {
            link: link.clone(),
            io,
            decoder,
            buffer: read_ahead,
            ack_progress,
            knows_acks,
            registration,
            bounded_rtt: Duration::ZERO,
        })
    }

    /// Returns the number of the channel within its link.
    pub fn id(&self) -> u16 {
        self.io.shared().id()
    }

    /// Returns a receiver of whether the peer answers on the channel.
    pub fn watch_responsive(&self) -> watch::Receiver<bool> {
        self.io.watch_responsive()
    }

    /// [Attaches](Self::attach) a channel to `link` and [runs](Self::run) its driver until the channel ends. Returns
    /// why it has ended; [`DisconnectReason::Closed`] if the link takes no channel any more.
    pub async fn attach_and_run(link: &Arc<Link>, new: NewChannel) -> DisconnectReason {
        match Self::attach(link, new) {
            Some(driver) => driver.run().await,
            None => DisconnectReason::Closed,
        }
    }

    /// Reads the channel, transmits its frames and keeps its timers until the channel ends. Returns why it has ended.
    pub async fn run(mut self) -> DisconnectReason {
        let mut reason = match self.run_until_end().await {
            Ok(()) => DisconnectReason::Closed,
            Err(reason) => reason,
        };
        // A thread that is flushing may just have learnt of a reset, after which a read returns a plain end.
        while self.io.is_flushing() {
            tokio::task::yield_now().await;
        }
        let is_plain_end = matches!(reason, DisconnectReason::Closed | DisconnectReason::Truncated);
        if is_plain_end && self.io.was_reset() {
            reason = DisconnectReason::Reset;
        }
        // The proxy closes the connection when the orderly closing is complete, possibly before it has read the last
        // ping.
        let is_end = is_plain_end || reason == DisconnectReason::Reset;
        if is_end && self.io.shared().is_retiring() {
            reason = DisconnectReason::Retired;
        }
        self.io.stop(reason.clone());
        self.report_to_peer(&reason);
        // The reason for which the channel was stopped precedes the one that the driver found.
        self.io.shared().end_reason().cloned().unwrap_or(reason)
    }

    /// Sends the peer the reason of a protocol error or corruption in transit, if its socket takes it at once: it is
    /// what the author of a third-party proxy needs.
    fn report_to_peer(&self, reason: &DisconnectReason) {
        let message = match reason {
            DisconnectReason::Protocol(text) => TunnelMessage::error(ErrorCode::ProtocolViolation, text),
            DisconnectReason::ChecksumMismatch => {
                TunnelMessage::error(ErrorCode::Corruption, &reason.to_string())
            }
            _ => return,
        };
        self.link.with(|state| _ = state.mux.send_message(self.io.shared().id(), message));
        self.io.flush(&self.link);
    }

    /// Reads the channel, transmits its frames and runs its timers, until the channel was stopped (`Ok`) or has ended
    /// for the returned reason.
    async fn run_until_end(&mut self) -> Result<(), DisconnectReason> {
        let io = self.io.clone();
        let mut events = DriverEvents::new();
        self.handle_buffered()?;
        loop {
            if io.shared().take_timeout_moved() {
                events.set_timer(self.next_timeout());
            }
            let is_paused = self.update_reading_paused();
            match events.next(&io, is_paused).await {
                DriverEvent::Stopped => return Ok(()),
                DriverEvent::FlushRequested => {
                    // Other tasks run first if there may be more. To yield after each message would cost a system call.
                    if io.flush(&self.link) {
                        tokio::task::yield_now().await;
                    }
                }
                DriverEvent::Writable => {
                    io.shared().set_write_blocked(false);
                    self.link.with(|state| state.mux.set_write_blocked(io.shared().id(), false));
                    io.flush(&self.link);
                }
                DriverEvent::Timeout => {
                    // If this machine was busy for a while, received bytes count before the peer is taken for silent.
                    if !is_paused {
                        self.read()?;
                    }
                    self.handle_timeout(is_paused);
                    events.set_timer(self.next_timeout());
                }
                DriverEvent::Readable => {
                    if self.read()? >= CHANNEL_TURN_BYTES {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// Determines whether the socket must not be read, because too much data of a text peer waits for slow local
    /// sockets, stores that in the channel, and returns it. False for a binary peer.
    fn update_reading_paused(&self) -> bool {
        if !self.io.shared().is_text() {
            return false;
        }
        // Set before the check and corrected after it, so that a reader that catches up in between wakes this driver.
        self.io.set_reading_paused(true);
        let is_paused = self.link.with(|state| state.must_stop_reading());
        self.io.set_reading_paused(is_paused);
        is_paused
    }

    /// Returns when the mux's timers of the channel have something to do next. Not called for each received packet: the
    /// mux reports when the time moves.
    fn next_timeout(&self) -> Instant {
        let (id, now) = (self.io.shared().id(), Instant::now());
        // A channel that the link does not have any more is being stopped.
        let at = self.link.with(|state| state.mux.next_timeout(id, now)).unwrap_or(now + STOPPING_TIMER);
        align_if_distant(at, now)
    }

    /// Runs the mux's timers of the channel (pings, keepalive, retransmission) and flushes. `is_reading_paused` says
    /// that this side does not read the channel, so that silence of the peer means nothing.
    fn handle_timeout(&mut self, is_reading_paused: bool) {
        let tcp = self.io.socket().tcp_info();
        self.bound_retransmission_timeout(tcp.as_ref());
        let (io, now) = (self.io.shared(), Instant::now());
        // While this side does not read, silence of the peer means nothing. A text proxy that is blocked by one slow
        // target reads no pings either: while its socket takes nothing, the kernel finds out whether it is alive. The
        // server is not excused so: it pings also while it does not read.
        let is_blocked_proxy = io.is_text() && self.link.role() == Role::Server && io.is_write_blocked();
        let is_silence_excused = is_reading_paused || is_blocked_proxy;
        let progress = &mut self.ack_progress;
        let is_responsive = self.link.with(|state| {
            if is_silence_excused {
                state.mux.record_alive(io.id(), now);
            }
            if let Some(tcp) = &tcp {
                state.mux.report_retransmissions(io.id(), tcp.retransmitted_segments);
                let is_answer_due = state.mux.is_answer_due(io.id());
                if let Some(at) = progress.update(tcp, io.queued_bytes(), is_answer_due, now) {
                    state.mux.record_alive(io.id(), at);
                }
                if progress.has_received() {
                    state.mux.record_incomplete(io.id(), now);
                }
                if !io.is_text() {
                    state.mux.set_ack_due(io.id(), progress.ack_due_at());
                }
            }
            state.mux.handle_channel_timeout(io.id(), now);
            state.mux.is_responsive(io.id())
        });
        let stall = io.write_stall(now).min(progress.stall(now));
        let is_write_stalled = io.is_write_blocked() && stall >= MAX_READ_STALL;
        let is_sending = is_responsive || progress.receiving_time() >= MAX_READ_STALL;
        if !io.is_text() && tcp.is_some() && is_write_stalled && is_sending {
            self.io.stop(DisconnectReason::KeepaliveTimeout);
        }
        self.link.flush();
    }

    /// Has the kernel's retransmission timeout bounded again if the RTT has become much longer or shorter.
    fn bound_retransmission_timeout(&mut self, tcp: Option<&TcpInfo>) {
        let Some(rtt) = tcp.map(|tcp| tcp.smoothed_rtt).filter(|rtt| !rtt.is_zero()) else { return };
        if rtt > self.bounded_rtt * 5 / 4 || rtt * 2 < self.bounded_rtt {
            self.io.socket().bound_retransmission_timeout(rtt);
            self.bounded_rtt = rtt;
        }
    }

    /// Reads the socket until it is empty or [`CHANNEL_TURN_BYTES`] is used up, and handles the received frames.
    /// Returns the number of bytes read. Fails with the reason for which the channel ends.
    pub(super) fn read(&mut self) -> Result<usize, DisconnectReason> {
        assert_link_state_unlocked();
        let mut turn = 0;
        while turn < CHANNEL_TURN_BYTES && !self.io.signals().is_stopped() {
            BufferPool::with_thread_local(|pool| pool.reserve(&mut self.buffer, MIN_READ_SPACE));
            match self.io.socket().try_read(&mut self.buffer) {
                Ok(0) => return Err(DisconnectReason::Closed),
                Ok(n) => {
                    runtime::record_activity();
                    turn += n;
                    if let Some(stats) = self.io.shared().stats() {
                        stats.add_received(n as u64);
                    }
                    if self.io.socket().unsent_bytes() > 0 && !self.io.shared().is_write_blocked() {
                        // What was read has to be answered by the TLS session itself.
                        self.io.flush(&self.link);
                    }
                    let must_stop = self.handle_buffered()?;
                    self.release_empty_buffer();
                    if must_stop {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.release_empty_buffer();
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(end_reason(&error)),
            }
        }
        Ok(turn)
    }

    /// Returns the buffer to the pool if it is empty, so that an idle channel holds none.
    fn release_empty_buffer(&mut self) {
        if self.buffer.is_empty() {
            BufferPool::with_thread_local(|pool| pool.release(std::mem::take(&mut self.buffer)));
        }
    }

    /// Decodes the complete frames or lines in the buffer, hands them to the link in batches, and executes what
    /// follows from each batch. Returns whether the channel's socket must not be read for now.
    ///
    /// The answers to bulk data are flushed at once, because credit that returns early finds the peer's buffers in its
    /// cache. Those to small messages leave with what the tasks that are ready now send: a write to a TCP socket costs
    /// more than handling a message.
    ///
    /// Frames before one that cannot be decoded are handled first.
    fn handle_buffered(&mut self) -> Result<bool, DisconnectReason> {
        let now = Instant::now();
        let is_bulk = self.buffer.len() >= MIN_BULK_READ;
        loop {
            let (is_complete, must_stop) = with_scratch(&DECODED, |batch| {
                let decoded = self.decode_batch(batch);
                let handled = self.handle_batch(batch, now);
                if is_bulk {
                    self.link.flush();
                } else {
                    self.link.wake_drivers();
                }
                // An error of the mux concerns an earlier frame than an error of the decoder.
                handled.and_then(|must_stop| Ok((decoded?, must_stop)))
            })?;
            if is_complete {
                return Ok(must_stop);
            }
        }
    }

    /// Decodes up to [`MAX_BATCH`] frames or lines. Returns whether no complete one is left in the buffer.
    fn decode_batch(&mut self, batch: &mut Vec<Received>) -> Result<bool, DisconnectReason> {
        while batch.len() < MAX_BATCH {
            match self.decoder.decode(&mut self.buffer)? {
                Some(received) => batch.push(received),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Hands decoded frames or lines to the link. Returns whether the socket must not be read for now.
    fn handle_batch(&self, batch: &mut Vec<Received>, now: Instant) -> Result<bool, DisconnectReason> {
        let id = self.io.shared().id();
        let has_partial_frame = !self.buffer.is_empty();
        let knows_acks = self.knows_acks;
        self.link.with(|state| {
            if knows_acks {
                state.mux.record_received(id, now);
            } else {
                state.mux.record_alive(id, now);
            }
            if has_partial_frame {
                state.mux.record_traffic(id, now);
            }
            for received in batch.drain(..) {
                match received {
                    Received::Frame(frame) => state.mux.handle_frame(id, frame, now),
                    Received::Line(line) => state.handle_line(id, line, now),
                }
                .map_err(protocol_error)?;
            }
            Ok(state.must_stop_reading())
        })
    }
}

/// Returns the end reason of a channel whose peer has violated the protocol as `error` says.
fn protocol_error(error: impl fmt::Display) -> DisconnectReason {
    DisconnectReason::Protocol(error.to_string())
}
