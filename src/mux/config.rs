//! The configuration of a [`Mux`](super::Mux).

use std::time::Duration;

use super::budget::MemoryBudget;

/// How many streams of a link may be open at once by default.
const MAX_STREAMS: usize = 65_536;

/// How the mux of a link behaves. Both sides must agree on `initial_window`; the handshake carries it.
#[derive(Debug, Clone)]
pub struct MuxConfig {
    /// The initial receive window of each stream, in bytes: how many the peer may send beyond what was consumed.
    pub initial_window: u32,
    /// The largest receive window of a stream, in bytes. Auto-tuning raises windows up to it.
    pub max_window: u32,
    /// The memory budget of the process, which all of its links share.
    pub budget: MemoryBudget,
    /// Whether the peer has flow control. A text proxy has none: its channel is not read while too much data of it is
    /// buffered.
    pub peer_has_flow_control: bool,
    /// How long data may queue on the path of a channel. The congestion window and the chunk size follow from it.
    pub target_queueing_delay: Duration,
    /// The initial congestion window of a channel, in bytes, until the delivery rate is known.
    pub initial_cwnd: u64,
    /// The largest payload of a DATA frame, in bytes; `None` to choose it for each channel by its delivery rate.
    pub chunk_size: Option<usize>,
    /// How many streams of the link may be open at once.
    pub max_streams: usize,
    /// The last stream number of the link. The server asks the proxy to replace the link when an eighth of the numbers
    /// is left: at 15,800 streams a second, nine hours before they run out. Tests use fewer.
    pub last_stream_number: u32,
    /// The most channels of the link, where a proxy opens as many as are useful; `None` where it keeps a fixed number,
    /// and on the server, which the proxy tells.
    pub max_auto_channels: Option<u16>,
    /// Whether the data of one stream may be sent on several channels at once (multipath striping).
    pub allow_striping: bool,
    /// How many bytes of a stream the peer must have acknowledged before it may be striped.
    pub min_bytes_to_stripe: u64,
    /// A stream that has sent so many bytes at once, or at a rate far above that of a terminal or a chat, is bulk: on a
    /// network path it is kept apart from messages.
    pub bulk_bytes: u64,
    /// The interval between keepalive pings on an active channel: one on which other frames than pings and their
    /// answers were sent or received since the last ping.
    pub ping_interval: Duration,
    /// The interval between keepalive pings on an idle channel that is the primary channel of streams.
    pub idle_stream_ping_interval: Duration,
    /// The interval between keepalive pings on the link's first channel if it is idle and without streams. Only the
    /// proxy can connect again, so that a user who arrives while the channels are dead waits until its next ping is not
    /// answered: the interval is shorter than opening a stream may take.
    pub idle_ping_interval: Duration,
    /// The same for the other channels, which are pinged at once when the first does not answer. NATs forget a
    /// connection that was idle for a minute or more.
    pub spare_ping_interval: Duration,
    /// A channel with streams is lost when a ping was unanswered and nothing else received for this long; on a long
    /// path, for three RTTs and a second.
    pub keepalive_timeout: Duration,
    /// The same for a channel without streams. It is longer than `keepalive_timeout`, because no user waits for that
    /// channel.
    pub idle_timeout: Duration,
}

impl MuxConfig {
    /// Returns how many bytes a server may send on each stream before the proxy accepts it: the proxy has them reserved
    /// for every stream that it may have. More are possible as long as few streams do so.
    pub(super) fn early_window(&self) -> u32 {
        self.initial_window.min(u32::try_from(self.budget.min_window()).unwrap_or(u32::MAX))
    }
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            initial_window: 256 * 1024,
            max_window: 16 << 20,
            budget: MemoryBudget::new(1 << 30, MAX_STREAMS),
            peer_has_flow_control: true,
            target_queueing_delay: Duration::from_millis(2),
            initial_cwnd: 256 * 1024,
            chunk_size: None,
            max_streams: MAX_STREAMS,
            last_stream_number: u32::MAX,
            max_auto_channels: None,
            allow_striping: true,
            // A megabyte was tried first: a slow channel takes a second for it before the fast one beside it helps.
            min_bytes_to_stripe: 64 * 1024,
            // A burst of output or a small page is no different from a message; at 1 % loss, half of the bursts of this
            // length lose a segment.
            bulk_bytes: 64 * 1024,
            ping_interval: Duration::from_secs(1),
            idle_stream_ping_interval: Duration::from_secs(5),
            // With 12 s, a thousand idle channels took a third more of the server's processor.
            idle_ping_interval: Duration::from_secs(20),
            spare_ping_interval: Duration::from_secs(48),
            keepalive_timeout: Duration::from_millis(2500),
            idle_timeout: Duration::from_secs(7),
        }
    }
}
