//! Every bound of the mux, each with its reason.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::wire::binary::MAX_PAYLOAD;

/// The largest payload of one DATA frame that is chosen for a channel. At 64 KiB the cost of a system call is spread well,
/// and the hot bytes of a hop stay within a core's second-level cache: 128 KiB carried 1 % less, 256 KiB 2 to 5 %.
pub const CHUNK_SIZE: usize = 64 * 1024;

/// The largest that an operator may ask for.
pub const MAX_CHUNK_SIZE: usize = MAX_PAYLOAD;

/// The smallest that is chosen for a slow channel. Below it the headers, and the turns of the scheduler, cost more than
/// is gained.
pub(super) const MIN_CHUNK_SIZE: usize = 4 * 1024;

/// How many unsent bytes of one stream are read ahead of the channel, so that the channel never waits for the socket.
pub(super) const SEND_AHEAD: u64 = 4 * CHUNK_SIZE as u64;

/// Less room than this is not worth a system call while more is about to come.
pub(super) const WORTHWHILE: u64 = CHUNK_SIZE as u64 / 2;

/// A piece below this that is kept is copied out of the buffer that it was read to: it would keep all of that alive. What
/// slow streams hold would pin 260 KiB each otherwise; of pieces of 64 KiB, four fill it.
pub const COPY_THRESHOLD: usize = CHUNK_SIZE / 2;

/// Chunks that are together at most this long are kept as one.
pub(super) const JOINED: usize = 1024;

/// How many small pieces of a stream are kept one by one until they are acknowledged, before they are joined: to join
/// each with the last took a copy of up to [`JOINED`] bytes, and memory, for every message.
pub(super) const SINGLES: usize = 64;

/// What so little is left of does not wait until less is on the way.
pub(super) const LITTLE: usize = 1024;

/// A piece from this length on is worth its bookkeeping.
pub(super) const SMALL: usize = 256;

/// How many pieces of one stream may wait for a gap before them, beside one for each [`MIN_PIECE`] bytes that do. Honest
/// traffic leaves a gap only where channels overtake each other, and its small pieces are joined; a peer that sends
/// single bytes with gaps would make the map grow without it.
pub(super) const MAX_PIECES_AHEAD: usize = 1024;
pub(super) const MIN_PIECE: u64 = JOINED as u64 / 2;

/// How many pieces of one stream may be on their way on channels that are not its own.
pub(super) const MAX_AWAY: usize = 1024;

/// How many pieces in order may wait for a slow reader before they are joined into one.
pub(super) const MAX_PIECES_READY: usize = 2048;

/// How many last words of ended streams a channel remembers until a ping confirms them. One ping covers three
/// seconds, in which a very busy channel ends some ten thousand streams.
pub(super) const MAX_LAST_WORDS: usize = 65_536;

/// How many last words may wait for a peer that takes nothing, or a little now and then, before it gets no new streams:
/// each stream that comes and goes leaves one.
pub(super) const MAX_WAITING: usize = 65_536;

/// How many frames that change nothing a channel may bring at once, and how many a second beyond. When a channel dies,
/// each of the other's streams may have its acceptance, its credit and its last pieces repeated: some 65,536 streams,
/// and as many that have ended.
pub(super) const GLITCHES: u32 = 500_000;
pub(super) const GLITCHES_A_SECOND: u32 = 2_000;

/// What a request counts, in such frames: with its answer and its line in the log it takes 2 µs, or a system call.
pub(super) const REQUEST: u32 = 64;

/// What a new stream brings back: so many frames may still be under way for it when it is reset.
pub(super) const OPENED: u32 = 64;

/// How many pings may be unanswered before the oldest is forgotten: more than a round trip has markers, and minutes of
/// those that go out without data.
pub(super) const MAX_MARKERS: usize = 512;

/// How many stream numbers may be skipped. Channels overtake each other by as many streams as are opened at once.
pub(super) const MAX_SKIPPED: usize = 65_536;

/// How many messages may wait for a peer that asks and does not read the answers.
pub(super) const MAX_MESSAGES: usize = 256;

/// How many bytes a text proxy may send on a stream before its STREAM_START.
pub(super) const MAX_EARLY: usize = 256 * 1024;

/// How many bytes of a text peer may wait for slow readers, all its streams together, before its channel is not read.
/// Several times what is still under way when a peer has honoured STREAM_PAUSE, which the kernels on the way hold.
pub(super) const MAX_HELD: u64 = 16 << 20;

/// How many closed streams a text link remembers, to tell late lines from mistaken ones.
pub(super) const MAX_CLOSED_KEYS: usize = 1024;

/// What the windows of many links may grow by together, in bytes: what a peer can make us keep beyond the first
/// windows, however many streams and links it has. Clones share it.
#[derive(Debug, Clone)]
pub struct WindowBudget(Arc<AtomicU64>);

impl WindowBudget {
    /// So many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// How much of it is left.
    pub fn available(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Takes `bytes`, or as many as are left.
    pub(super) fn reserve(&self, bytes: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        let taken = self.0.fetch_update(Relaxed, Relaxed, |left| Some(left - left.min(bytes)));
        taken.unwrap_or_default().min(bytes)
    }

    pub(super) fn release(&self, bytes: u64) {
        self.0.fetch_add(bytes, Relaxed);
    }
}

/// How a link behaves. Both sides must agree on `window` (the handshake tells it).
#[derive(Debug, Clone)]
pub struct MuxConfig {
    /// The first receive window of each stream, in bytes: what the peer may send beyond what was passed on.
    pub initial_window: u32,
    /// What a stream's window may grow to, in bytes, where bandwidth and delay ask for it.
    pub max_window: u32,
    /// What all windows of a link may grow by together, in bytes, those that the peer gives and those that we give.
    pub max_window_growth: u64,
    /// What it shares with other links.
    pub budget: WindowBudget,
    /// Whether the peer keeps to the credit it is given. A text proxy knows none: its channel is not read while too
    /// much waits instead.
    pub peer_has_flow_control: bool,
    /// How long data may queue on a channel behind what has gone out before it. More is not put on the way; a chunk is a
    /// part of it.
    pub target_queueing_delay: Duration,
    /// How many bytes may be on the way on a channel to begin with, until it is known how fast it is.
    pub initial_cwnd: u64,
    /// The largest payload of a DATA frame, in bytes; measured for each channel where it is not given.
    pub chunk_size: Option<usize>,
    /// How many streams may be open at once.
    pub max_streams: usize,
    /// Whether the data of one stream may go out over several channels.
    pub allow_striping: bool,
    /// How many bytes of a stream the peer has to have before it does.
    pub min_bytes_to_stripe: u64,
    /// How often a channel is pinged.
    pub ping_interval: Duration,
    /// How long nothing may be heard on a channel that carries streams before it counts as dead. The peer's pings are a
    /// sign of life, too, and nothing that we send holds them up.
    pub keepalive_timeout: Duration,
    /// The same for a channel without streams, which nobody waits for.
    pub idle_timeout: Duration,
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            initial_window: 256 * 1024,
            max_window: 16 << 20,
            max_window_growth: 256 << 20,
            budget: WindowBudget::new(1 << 30),
            peer_has_flow_control: true,
            target_queueing_delay: Duration::from_millis(2),
            initial_cwnd: 256 * 1024,
            chunk_size: None,
            max_streams: 65_536,
            allow_striping: true,
            // A megabyte was tried first: on a slow channel it takes a second until the fast one beside it helps.
            min_bytes_to_stripe: 64 * 1024,
            ping_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_millis(2500),
            idle_timeout: Duration::from_secs(9),
        }
    }
}
