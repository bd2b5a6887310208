//! Two muxes and the simulated channels between them, in virtual time. A script of [`Op`]s decides what happens and
//! when. The fuzz target `mux_pair` includes this module, too.

mod check;
mod run;

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use bytes::Bytes;
use underpass::{
    mux::{BudgetLimits, MemoryBudget, Mux, MuxConfig, Role},
    wire::{Frame, ResetCode},
};

/// The server, which opens streams, and the proxy, as indices.
pub const SIDES: [usize; 2] = [0, 1];

/// One step of a script. Numbers that name a stream or a channel wrap around, so that any number names one.
#[derive(Debug, Clone)]
pub enum Op {
    /// The server opens a stream.
    Open,
    /// The proxy accepts a stream that it has left unanswered.
    Accept { stream: usize },
    /// One side writes as much of `len` bytes as is writable.
    Write { side: usize, stream: usize, len: usize },
    /// One side ends its sending direction.
    Finish { side: usize, stream: usize },
    /// One side reads, and consumes up to `len` bytes.
    Consume { side: usize, stream: usize, len: u64 },
    /// One side resets a stream.
    Reset { side: usize, stream: usize },
    /// One side resets a stream after its data, because its local socket failed.
    ResetAfterData { side: usize, stream: usize },
    /// The operator pauses or resumes a stream at one side.
    SetPaused { side: usize, stream: usize, paused: bool },
    /// The operator changes the priority of a stream at the server.
    SetPriority { stream: usize, priority: usize },
    /// One side sends frames on a channel.
    Transmit { side: usize, channel: usize, frames: usize },
    /// One side receives frames of a channel.
    Deliver { side: usize, channel: usize, frames: usize },
    /// A new channel is established.
    AddChannel,
    /// The proxy begins to close a channel in an orderly way.
    Retire,
    /// The proxy has lost every channel, or believes so, and resumes the link with a new one. The server drops those
    /// it had.
    Resume,
    /// The channel breaks. Of the frames in flight to each side so many still arrive, if that side does not detect
    /// the loss first. The script decides when it does; all data may have been retransmitted on another channel by
    /// then.
    Break { channel: usize, delivered: [usize; 2] },
    /// One side detects that a channel is broken.
    DetectLoss { side: usize, channel: usize },
    /// The channel accepts and delivers nothing, or works again. Neither side is notified: both detect the silence by
    /// their timeouts.
    Stall { channel: usize, stalled: bool },
    /// The kernel of one side reports about a channel: it is a network path, on which a loss is being repaired or not,
    /// and so many percent of segments are lost.
    ReportTransport { side: usize, channel: usize, is_recovering: bool, loss_percent: u64 },
    /// Time passes, and all timers are handled. Channels that are not stalled have received something.
    AdvanceTime { ms: u64 },
}

/// One side of one stream, with the bookkeeping of the test.
#[derive(Debug)]
pub struct StreamSide {
    /// Bytes written by this side.
    pub written: u64,
    /// Whether this side has finished writing.
    pub is_finished: bool,
    /// Data that was read and not consumed.
    pub unread: VecDeque<Bytes>,
    /// Bytes consumed by this side.
    pub consumed: u64,
    /// Whether the END was read.
    pub is_end_read: bool,
    /// Whether the END was consumed.
    pub is_end_consumed: bool,
    /// Whether all that precedes the other side's reset was read, and no END does.
    pub is_reset_read: bool,
    /// Whether this side resets the stream after its data.
    pub resets_after_data: bool,
    /// The code with which the other side has reset the stream after its data.
    pub peer_reset: Option<ResetCode>,
    /// How the stream ended: cleanly, or by a reset.
    pub outcome: Option<Result<(), ResetCode>>,
    /// The offset up to which this side may send, by the credit that it has received.
    pub limit: u64,
    /// The end of the furthest data that this side has received.
    pub received_to: u64,
}

/// A simulated channel between the two sides.
#[derive(Debug, Default)]
pub struct SimulatedChannel {
    /// Frames in flight to each side.
    pub in_flight_to: [VecDeque<Frame>; 2],
    pub is_broken: bool,
    pub is_stalled: bool,
    /// Which sides have detected that it is broken.
    pub is_loss_detected: [bool; 2],
}

/// A link between two muxes, with the expected state of each stream.
pub struct SimulatedLink {
    pub now: Instant,
    pub mux: [Mux; 2],
    pub config: MuxConfig,
    pub channels: Vec<SimulatedChannel>,
    /// The ids of all streams that were opened.
    pub streams: Vec<u32>,
    /// Both sides of each stream.
    pub sides: [HashMap<u32, StreamSide>; 2],
    /// How many segments the kernels have reported as sent.
    reported_segments: u64,
    /// Which of the rarer events have happened, for a test that asks whether scripts reach them.
    pub seen: SeenEvents,
}

/// How often each of the rarer events has happened.
#[derive(Debug, Default)]
pub struct SeenEvents {
    /// Data was received that had been received before.
    pub duplicate_data: u64,
    /// The OPEN of a stream arrived after that of a later one.
    pub reordered_opens: u64,
    /// Data was sent on a secondary channel.
    pub striped_frames: u64,
    /// A stream failed over to another channel.
    pub failovers: u64,
    /// A channel was closed in an orderly way.
    pub retired: u64,
    /// A stream has moved to another channel, although its last one was neither lost nor closed.
    pub moves: u64,
    /// A channel was closed by its keepalive timeout.
    pub timeouts: u64,
    /// Data waited for the congestion window.
    pub cwnd_limited: u64,
    /// A link was resumed after the loss of all channels.
    pub resumed: u64,
    /// A link ended, because no channel was established in time.
    pub links_ended: u64,
    /// A stream ended cleanly.
    pub clean_ends: u64,
    /// A stream ended with an error.
    pub resets: u64,
    /// A stream ended with a reset, after all data that the other side had written before it.
    pub resets_after_data: u64,
}

/// The byte at `offset` of the data that `side` sends on `stream`: any loss, repetition or exchange of bytes shows.
fn byte(side: usize, stream: u32, offset: u64) -> u8 {
    let mixed =
        (offset + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (u64::from(stream) << 32) ^ (side as u64) << 63;
    (mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8
}

impl SimulatedLink {
    /// A link with two channels, and limits so small that scripts reach them.
    pub fn new() -> Self {
        Self::with(MuxConfig {
            initial_window: 8192,
            max_window: 32_768,
            // Elastic are 40,000 bytes: most scripts have streams that want more.
            budget: MemoryBudget::with_limits(BudgetLimits {
                bytes: 840_000,
                max_streams: 100,
                stream_overhead: 0,
                min_window: 4000,
                proven_bytes: 6000,
            }),
            min_bytes_to_stripe: 1,
            bulk_bytes: 3000,
            // A small window and small chunks make data wait more often.
            initial_cwnd: 2000,
            chunk_size: Some(500),
            ..MuxConfig::default()
        })
    }

    /// A link with two channels and this configuration.
    pub fn with(config: MuxConfig) -> Self {
        let mut link = Self {
            now: Instant::now(),
            mux: [Mux::new(Role::Server, config.clone()), Mux::new(Role::Proxy, config.clone())],
            config,
            channels: Vec::new(),
            streams: Vec::new(),
            sides: [HashMap::new(), HashMap::new()],
            reported_segments: 0,
            seen: SeenEvents::default(),
        };
        link.add_channel();
        link.add_channel();
        link
    }
}
