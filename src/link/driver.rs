use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    runtime::{Handle, Id as RuntimeId},
    sync::Notify,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{Link, Transmit, flat_combining::FlatCombiner, write_queue::WriteQueue};
use crate::{
    mux::{Mux, Role},
    net::{BufferPool, ChannelSocket},
    runtime,
    telemetry::{ChannelHealth, ChannelStats, DisconnectReason, TcpInfo},
    wire::{
        TunnelMessage,
        binary::{self, FrameCodec, FrameError, MAX_FRAME},
        text::{FieldCount, LineDecoder, MAX_LINE},
    },
};

/// How much room there is at the least when a channel is read.
const ROOM: usize = BufferPool::BUFFER_SIZE / 2;

/// After this many frames or lines what follows from them is carried out: answers go out before there are too many,
/// and others get at the link.
const PART: usize = 64;

/// After this many bytes a channel's task lets others run, and a flush leaves the rest to that task. It is twice what one
/// read brings: half of it carried a twentieth less.
const TURN: usize = 2 * BufferPool::BUFFER_SIZE;

/// After this long without taking a byte a channel gets no new streams: users would queue behind it.
const STUCK: Duration = Duration::from_secs(3);

/// How long the kernel may wait for a peer that acknowledges nothing, or that has no room: a channel whose other end
/// vanished while much was under way, or a text proxy that was stopped. A simple text proxy may be held up by one
/// slow target for a while.
const GIVE_UP: (Duration, Duration) = (Duration::from_secs(9), Duration::from_secs(60));

/// How much may wait in the kernel before the wire takes it. What waits there is out of the scheduler's reach, and
/// whoever is to go first waits for it.
const UNSENT: u32 = 16 * 1024;

/// How often time is told to the mux: a part of what a channel may be silent for.
const TICK: Duration = Duration::from_millis(250);

/// What a channel's driver needs: the connection after its handshake, and what was read beyond it.
#[derive(Debug)]
pub struct NewChannel {
    /// Which channel of the link.
    pub id: u16,
    /// The connection.
    pub socket: ChannelSocket,
    /// What came in behind the handshake.
    pub read_ahead: BytesMut,
    /// How frames are written and read from here on; of no matter for text.
    pub codec: FrameCodec,
    /// `None` for the binary format.
    pub text: Option<FieldCount>,
    /// Where its bytes are counted.
    pub stats: Option<Arc<ChannelStats>>,
}

/// The part of a channel that anybody may flush.
#[derive(Debug)]
pub(super) struct ChannelIo {
    id: u16,
    /// The runtime that drives it.
    home: RuntimeId,
    socket: ChannelSocket,
    text: Option<FieldCount>,
    stats: Option<Arc<ChannelStats>>,
    outgoing: FlatCombiner<WriteQueue>,
    /// How many bytes wait in there. Whoever took that lock only to look would swallow a flush.
    encoded: AtomicUsize,
    /// The socket takes no more for now; the driver waits for it.
    blocked: AtomicBool,
    /// When the socket last took something.
    progress: Mutex<Instant>,
    /// It is not read for now, because too much of it waits for slow readers.
    stalled: AtomicBool,
    kick: Notify,
    /// A writer was told of a reset. The driver may not hear of it any more.
    was_reset: AtomicBool,
    stopped: CancellationToken,
    reason: OnceLock<DisconnectReason>,
}

impl ChannelIo {
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn home(&self) -> RuntimeId {
        self.home
    }

    pub(super) fn stats(&self) -> Option<&Arc<ChannelStats>> {
        self.stats.as_ref()
    }

    pub(super) fn set_rtt(&self, rtt: Duration) {
        if let Some(stats) = &self.stats {
            stats.record_rtt(rtt);
        }
    }

    /// Has the driver flush it.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }

    /// Ends the channel; the first reason stays.
    pub(super) fn stop(&self, reason: DisconnectReason) {
        _ = self.reason.set(reason);
        self.stopped.cancel();
    }

    /// Why it ended, once it has.
    pub(super) fn reason(&self) -> Option<&DisconnectReason> {
        self.reason.get()
    }

    /// Writes what waits for this channel.
    pub(super) fn flush(&self, link: &Arc<Link>) {
        self.outgoing.run(|outgoing| match self.write_out(link, outgoing) {
            Ok(Flushed::All) => true,
            // The driver goes on, now or when the socket takes more.
            Ok(Flushed::Turn | Flushed::Blocked) => false,
            // The kernel tells a reset once, to whoever comes first; after it, and after a close, the pipe is broken. The
            // driver finds the end by itself, having read what the peer said before. That of a text proxy may not be reading.
            Err(error) if self.text.is_none() && is_end(&error) => {
                self.was_reset.fetch_or(error.kind() == io::ErrorKind::ConnectionReset, SeqCst);
                false
            }
            Err(error) => {
                self.stop(failed(&error));
                false
            }
        });
    }

    fn write_out(&self, link: &Arc<Link>, outgoing: &mut WriteQueue) -> io::Result<Flushed> {
        let mut turn = 0;
        loop {
            if outgoing.waiting() < outgoing.most() {
                link.poll_transmit(self.id, |transmit| {
                    match transmit {
                        Transmit::Frame(frame) => outgoing.push_frame(frame),
                        Transmit::Line(line) => {
                            outgoing.push_line(&line, self.text.unwrap_or(FieldCount::Four))
                        }
                    }
                    outgoing.waiting() < outgoing.most()
                });
            }
            // Also while nothing can be written: what the peer waits for may be that we read.
            if self.stalled.load(SeqCst) && !link.with(|state| state.must_stop_reading()) {
                self.kick.notify_one();
            }
            if outgoing.waiting() == 0 {
                return Ok(Flushed::All);
            }
            let written = outgoing.write_to(&self.socket)?;
            self.encoded.store(outgoing.waiting(), Relaxed);
            turn += written;
            if let Some(stats) = &self.stats {
                stats.add_sent(written as u64);
            }
            if written > 0 {
                *self.progress.lock() = Instant::now();
            }
            if outgoing.waiting() > 0 {
                if !self.blocked.swap(true, SeqCst) {
                    link.with(|state| state.mux.set_write_blocked(self.id, true));
                    // Another channel may have room for what waits.
                    link.flush_soon();
                    self.kick.notify_one();
                }
                return Ok(Flushed::Blocked);
            }
            if turn >= TURN {
                self.kick.notify_one();
                return Ok(Flushed::Turn);
            }
        }
    }

    /// Whether the peer has taken nothing for so long that nothing new should be given to it: the kernel has no room for
    /// it, or no ping has come back.
    pub(super) fn is_stuck(&self, mux: &Mux, now: Instant) -> bool {
        let blocked = self.blocked.load(SeqCst);
        (blocked && now.saturating_duration_since(*self.progress.lock()) >= STUCK)
            || mux.is_probe_unanswered_for(self.id, STUCK, now)
    }

    /// How it fares, for whoever looks.
    fn health(&self, mux: &Mux, tcp: Option<TcpInfo>, now: Instant) -> ChannelHealth {
        let path = mux.path_stats(self.id);
        let chunk = path.filter(|_| self.text.is_none()).map_or(0, |path| path.chunk_size);
        let (rtt, min_rtt) = path.and_then(|path| path.latest_rtt.zip(path.min_rtt)).unzip();
        ChannelHealth {
            tcp,
            rtt,
            min_rtt,
            send_queue_bytes: self.encoded.load(Relaxed) as u64 + mux.queued_bytes(self.id),
            chunk_size: u32::try_from(chunk).unwrap_or(u32::MAX),
            is_stalled: self.is_stuck(mux, now),
        }
    }
}

/// How far a flush came.
enum Flushed {
    /// Nothing waits any more.
    All,
    /// Others should have their turn.
    Turn,
    /// The socket takes no more for now.
    Blocked,
}

/// Where frames or lines are cut out of what comes in.
enum Decoder {
    Binary(binary::FrameDecoder),
    Text(LineDecoder),
}

impl Link {
    /// Drives one channel of this link until it ends, and says why it did. A link that is closed takes none.
    pub async fn drive(self: &Arc<Self>, drive: NewChannel) -> DisconnectReason {
        match self.attach(drive) {
            Some(attached) => attached.run().await,
            None => DisconnectReason::Closed,
        }
    }

    /// Takes one more channel on, for the runtime that this is called on to [run](Driver::run). `None` if the link is
    /// closed.
    pub fn attach(self: &Arc<Self>, drive: NewChannel) -> Option<Driver> {
        let NewChannel { id, socket, read_ahead, codec, text, stats } = drive;
        let channel = Arc::new(ChannelIo {
            id,
            home: Handle::current().id(),
            socket,
            text,
            stats,
            outgoing: FlatCombiner::new(WriteQueue::new(codec.encoder)),
            encoded: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            progress: Mutex::new(Instant::now()),
            stalled: AtomicBool::new(false),
            kick: Notify::new(),
            was_reset: AtomicBool::new(false),
            stopped: CancellationToken::new(),
            reason: OnceLock::new(),
        });
        channel.socket.set_notsent_lowat(UNSENT);
        channel.socket.set_user_timeout(if channel.text.is_none() { GIVE_UP.0 } else { GIVE_UP.1 });
        // Our death is to be told from an end of the connection somewhere on the way.
        channel.socket.set_reset_on_close(true);
        let decoder = match channel.text {
            None => Decoder::Binary(codec.decoder),
            Some(_) => Decoder::Text(LineDecoder::new(MAX_LINE)),
        };
        self.add_channel(&channel).then(|| Driver { link: self.clone(), channel, decoder, read_ahead })
    }

    async fn run_channel(
        self: &Arc<Self>,
        channel: &ChannelIo,
        decoder: &mut Decoder,
        mut buffer: BytesMut,
    ) -> DisconnectReason {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Err(reason) = self.take_in(channel, decoder, &mut buffer) {
            return reason;
        }
        loop {
            // Set before the look and taken back after it, so that a reader who catches up in between still kicks.
            channel.stalled.store(channel.text.is_some(), SeqCst);
            let stalled = channel.text.is_some() && self.with(|state| state.must_stop_reading());
            channel.stalled.store(stalled, SeqCst);
            tokio::select! {
                () = channel.stopped.cancelled() => return DisconnectReason::Closed,
                () = channel.kick.notified() => {
                    channel.flush(self);
                    // A kick may mean that there is more than a turn: others first.
                    tokio::task::yield_now().await;
                }
                _ = channel.socket.writable(), if channel.blocked.load(SeqCst) => {
                    channel.blocked.store(false, SeqCst);
                    self.with(|state| state.mux.set_write_blocked(channel.id, false));
                    channel.flush(self);
                }
                _ = tick.tick() => {
                    // After a time in which this machine was busy with other things, what came meanwhile counts.
                    if !stalled && let Err(reason) = self.read(channel, decoder, &mut buffer) {
                        return reason;
                    }
                    self.tick(channel, stalled);
                }
                _ = channel.socket.readable(), if !stalled => {
                    match self.read(channel, decoder, &mut buffer) {
                        Ok(turn) if turn >= TURN => tokio::task::yield_now().await,
                        Ok(_) => {}
                        Err(reason) => return reason,
                    }
                }
            }
        }
    }

    fn tick(self: &Arc<Self>, channel: &ChannelIo, stalled: bool) {
        let now = Instant::now();
        // Where it is we who do not read, silence says nothing. A text proxy that is held up by one slow target reads
        // no pings either: while it takes nothing, it is the kernel that finds out whether it is there at all. The
        // server is not excused so: it pings also while it does not read.
        let held_up = channel.text.is_some() && self.role() == Role::Server && channel.blocked.load(SeqCst);
        let excused = stalled || held_up;
        let tcp = channel.socket.tcp_info();
        self.with(|state| {
            if excused {
                state.mux.reset_idle_timeout(channel.id, now);
            }
            if let Some(tcp) = &tcp {
                state.mux.report_retransmissions(channel.id, tcp.retransmitted_segments);
            }
            state.mux.handle_timeout(now);
        });
        self.flush();
        if let Some(stats) = &channel.stats {
            stats.set_health(self.with(|state| channel.health(&state.mux, tcp, now)));
        }
    }

    fn read(
        self: &Arc<Self>,
        channel: &ChannelIo,
        decoder: &mut Decoder,
        buffer: &mut BytesMut,
    ) -> Result<usize, DisconnectReason> {
        let mut turn = 0;
        while turn < TURN && !channel.stopped.is_cancelled() {
            BufferPool::with_thread_local(|pool| pool.reserve(buffer, ROOM));
            match channel.socket.try_read(buffer) {
                Ok(0) => return Err(DisconnectReason::Closed),
                Ok(n) => {
                    runtime::record_activity();
                    turn += n;
                    if let Some(stats) = &channel.stats {
                        stats.add_received(n as u64);
                    }
                    let stalled = self.take_in(channel, decoder, buffer)?;
                    leave(buffer);
                    if stalled {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    leave(buffer);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(turn)
    }

    /// Hands every whole frame or line in `buffer` to the mux, then carries out what follows from them. Whether the
    /// channel must not be read for now.
    fn take_in(
        self: &Arc<Self>,
        channel: &ChannelIo,
        decoder: &mut Decoder,
        buffer: &mut BytesMut,
    ) -> Result<bool, DisconnectReason> {
        let now = Instant::now();
        loop {
            let part = self.with(|state| {
                state.mux.reset_idle_timeout(channel.id, now);
                for _ in 0..PART {
                    match decoder {
                        Decoder::Binary(frames) => match frames
                            .decode(buffer, MAX_FRAME)
                            .map_err(unreadable)?
                        {
                            None => return Ok(Some(state.must_stop_reading())),
                            Some(frame) => state.mux.handle_frame(channel.id, frame, now).map_err(broken)?,
                        },
                        Decoder::Text(lines) => match lines.decode(buffer).map_err(broken)? {
                            None => return Ok(Some(state.must_stop_reading())),
                            Some((line, _)) => state.handle_line(channel.id, line, now).map_err(broken)?,
                        },
                    }
                }
                Ok(None)
            });
            self.flush();
            if let Some(stalled) = part? {
                return Ok(stalled);
            }
        }
    }
}

fn unreadable(error: FrameError) -> DisconnectReason {
    match error {
        FrameError::Checksum => DisconnectReason::ChecksumMismatch,
        other => broken(other),
    }
}

/// Leaves a buffer to others if nothing is in it, so that an idle channel holds none.
fn leave(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        BufferPool::with_thread_local(|pool| pool.release(std::mem::take(buffer)));
    }
}

fn broken(error: impl fmt::Display) -> DisconnectReason {
    DisconnectReason::Protocol(error.to_string())
}

/// Whether the connection is over, and not only this attempt.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn failed(error: &io::Error) -> DisconnectReason {
    if is_end(error) { DisconnectReason::Reset } else { DisconnectReason::IoError(error.to_string()) }
}

/// A channel that its link knows. Dropping it, whatever the reason, ends that.
pub struct Driver {
    link: Arc<Link>,
    channel: Arc<ChannelIo>,
    decoder: Decoder,
    read_ahead: BytesMut,
}

impl Driver {
    /// Drives the channel until it ends, and says why it did.
    pub async fn run(mut self) -> DisconnectReason {
        let read_ahead = std::mem::take(&mut self.read_ahead);
        let Self { link, channel, decoder, .. } = &mut self;
        let mut ended = link.run_channel(channel, decoder, read_ahead).await;
        // A writer who was told of a reset may not have said so yet, and what was read after it looks like a close.
        while channel.outgoing.is_busy() {
            tokio::task::yield_now().await;
        }
        if ended == DisconnectReason::Closed && channel.was_reset.load(SeqCst) {
            ended = DisconnectReason::Reset;
        }
        channel.stop(ended.clone());
        let told = match &ended {
            DisconnectReason::Protocol(reason) => Some(reason.clone()),
            DisconnectReason::ChecksumMismatch => Some(ended.to_string()),
            _ => None,
        };
        if let Some(reason) = told {
            // If it fits: whoever writes a proxy of its own is looking for this line.
            link.with(|state| _ = state.mux.send_message(channel.id, TunnelMessage::error(&reason)));
            channel.flush(link);
        }
        channel.reason.get().cloned().unwrap_or(ended)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({})", self.channel.id)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // We are alive, and what was said last should arrive.
        self.channel.socket.set_reset_on_close(false);
        self.link.remove_channel(self.channel.id);
    }
}
