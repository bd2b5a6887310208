//! The limits of the mux, each with its reason. Nothing that a peer or a user can grow is without one.

use crate::wire::binary::MAX_PAYLOAD;

/// The largest payload of a DATA frame, in bytes, that the mux chooses by itself. At 64 KiB the cost of a system call
/// is spread well, and the data of a hop stays in a core's L2 cache: 128 KiB were 1 % slower, 256 KiB 2 to 5 %.
pub const CHUNK_SIZE: usize = 64 * 1024;

/// The longest data of a text peer's PING, in bytes: the answer repeats it, and many answers may wait for a peer that
/// reads none. Underpass sends a number.
pub(super) const MAX_PING_DATA: usize = 64;

/// The largest payload of a DATA frame, in bytes, that an operator may configure.
pub const MAX_CHUNK_SIZE: usize = MAX_PAYLOAD;

/// The smallest payload of a DATA frame, in bytes, that the mux chooses for a slow channel. Below it, headers and
/// scheduling cost more than shorter chunks gain.
pub(super) const MIN_CHUNK_SIZE: usize = 4 * 1024;

/// The most bytes of one stream that are buffered and not yet sent, so that a channel need not wait for the user's
/// socket.
pub(super) const MAX_UNSENT_PER_STREAM: u64 = 4 * CHUNK_SIZE as u64;

/// Less writable space than this, in bytes, is reported as none while more is about to become free: a smaller read is
/// not worth its system call.
pub(super) const MIN_WRITABLE_BYTES: u64 = CHUNK_SIZE as u64 / 2;

/// A shorter slice, in bytes, that has to be kept is copied out of the pooled buffer it was read into, because it
/// would keep all of that buffer alive. Otherwise the data of slow streams would pin 260 KiB each. Four slices of 64
/// KiB fill a buffer.
pub const COPY_THRESHOLD: usize = CHUNK_SIZE / 2;

/// A shorter slice, in bytes, is copied out of the pooled buffer it was read into where its reader has taken nothing
/// for a while, or while memory is short: the rest of that buffer may belong to others. A longer one wastes less than
/// itself.
pub const MAX_COMPACTED_LEN: usize = 2 * CHUNK_SIZE + 1;

/// Adjacent slices are coalesced into one of at most this many bytes.
pub(super) const MAX_COALESCED_LEN: usize = 1024;

/// How many small chunks of a stream are kept one by one until they are acknowledged, before they are coalesced.
/// Coalescing each chunk with the last one took an allocation and a copy of up to [`MAX_COALESCED_LEN`] bytes for
/// each message.
pub(super) const MAX_SMALL_CHUNKS_PER_STREAM: usize = 64;

/// A stream whose unsent data is at most this long, in bytes, and fits in one chunk of the channel, has a small
/// message, which may exceed the congestion window. It is the shortest chunk that the mux chooses: with 1 KiB, a
/// response of 1 KiB with its header waited for the window.
pub(super) const MAX_SMALL_MESSAGE_LEN: usize = MIN_CHUNK_SIZE;

/// A chunk that is shorter than this, in bytes, when it is written to a stream counts as small: its bookkeeping costs
/// more than its data.
pub(super) const SMALL_CHUNK_LEN: usize = 256;

/// How many out-of-order segments a stream buffers, beside one for each [`BYTES_PER_EXTRA_SEGMENT`] buffered bytes.
/// Honest traffic has gaps only where channels overtake each other, and its small segments are coalesced. Without the
/// limit, a peer that sends single bytes with gaps would make the map grow.
pub(super) const MAX_OUT_OF_ORDER_SEGMENTS: usize = 1024;

/// The buffered bytes that allow one more out-of-order segment than [`MAX_OUT_OF_ORDER_SEGMENTS`].
pub(super) const BYTES_PER_EXTRA_SEGMENT: u64 = MAX_COALESCED_LEN as u64 / 2;

/// How many ranges of one stream may be in flight on channels other than its primary channel. Beyond it the stream is
/// not striped.
pub(super) const MAX_STRIPED_RANGES_PER_STREAM: usize = 1024;

/// From how many ranges in flight on other channels on a stream stays on its primary channel. Each move may add one,
/// and striping needs the rest of [`MAX_STRIPED_RANGES_PER_STREAM`].
pub(super) const MAX_RANGES_TO_MOVE: usize = 256;

/// How many in-order segments may wait for a slow reader before they are coalesced into one.
pub(super) const MAX_READY_SEGMENTS: usize = 2048;

/// How many unacknowledged control frames of closed streams a channel keeps until a ping confirms them. The pings
/// of a text link are three seconds apart, in which a very busy channel closes some ten thousand streams.
pub(super) const MAX_UNACKNOWLEDGED_CONTROL: usize = 65_536;

/// How many control frames may be queued on a channel whose peer reads slowly or not at all. Beyond it the channel
/// gets no new streams: each stream that is opened and closed queues one control frame.
pub(super) const MAX_QUEUED_CONTROL: usize = 65_536;

/// The most channels that a server plans for a link, whatever the proxy says that it opens.
pub(super) const MAX_PLANNED_CHANNELS: u16 = 64;

/// How many glitches (frames that change nothing) a channel may bring at once. When a channel dies, the acceptance,
/// the credit and the last data of each stream may be retransmitted on another: for 65,536 open streams, and as many
/// closed ones.
pub(super) const MAX_GLITCHES: u32 = 500_000;

/// How many glitches a second a channel may bring in the long run.
pub(super) const GLITCHES_PER_SECOND: u32 = 2_000;

/// How many glitches a request counts as: its answer and its log line take 2 µs, or a system call.
pub(super) const REQUEST_COST: u32 = 64;

/// How many glitches a new stream adds to the budget, because that many frames may be in flight for it when it is
/// reset.
pub(super) const OPEN_REFILL: u32 = 64;

/// How many probes may be unanswered before the oldest is forgotten: more than one RTT has, and as many as keepalive
/// pings send in minutes.
pub(super) const MAX_UNANSWERED_PROBES: usize = 512;

/// How many stream ids may be skipped. Channels overtake each other by as many streams as are opened at once.
pub(super) const MAX_SKIPPED_IDS: usize = 65_536;

/// How many messages may be queued for a peer that sends requests and does not read the replies.
pub(super) const MAX_QUEUED_MESSAGES: usize = 256;

/// How many bytes a text proxy may send on a stream before its STREAM_START.
pub(super) const MAX_EARLY_BYTES: usize = 256 * 1024;

/// How many bytes a text proxy may send before the STREAM_START of their streams, on all streams together.
pub(super) const MAX_EARLY_BYTES_PER_LINK: usize = 1024 * 1024;

/// How many bytes of a text peer may be buffered for slow readers, on all its streams together, before its channel is
/// no longer read. It is several times what kernels hold when the peer has honoured STREAM_PAUSE.
pub(super) const MAX_TEXT_BUFFERED_BYTES: u64 = 16 << 20;

/// How many closed stream keys a text link remembers, to tell late lines from mistaken ones.
pub(super) const MAX_CLOSED_KEYS: usize = 1024;
