//! Where streams send on a network path: bulk data apart from messages, and messages on two channels under loss.
//!
//! A channel delivers in order: a lost segment delays all that was sent behind it by an RTT or more, whichever user it
//! belongs to. Therefore, on links with several channels over a real network:
//!
//! - *Bulk and messages on separate channels.* While a stream sends messages, one channel is an *express channel*: no
//!   stream in bulk starts there, and none is striped onto it. A stream that has just sent a lot is bulk until it calms
//!   down; any other sends its next message on the channel where the least is in its way.
//! - *Bulk on one channel, or spread.* Bulk streams share one channel, whose congestion controller then knows the whole
//!   queue of the bottleneck. They are spread over the channels where most round trips lose a segment, for which a
//!   single channel would always wait, and a channel without one sends data of those of another one. Until a long path
//!   is full for the first time, and some seconds longer, one lost segment is enough.
//! - *Acknowledgements on one channel, or spread.* Those of streams that receive bulk share a channel, so that the
//!   others stay free for messages; under loss, for which they would all wait, each channel carries its part of them.
//! - *Two copies under loss.* A message that fits in a small frame is sent on a second channel as well. The receiver
//!   drops by offset what it has already, so that a lost segment delays the message only if both channels lose one.
//!
//! Retransmitting an unacknowledged message after 1.2 RTT was the alternative to the copy. It costs less, and each
//! loss then costs more than an RTT: the p99 of messages at 1 % loss would be 2.2 RTT instead of one.
//!
//! Where the CPU or loopback is the bottleneck nothing is lost, and none of this applies.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    congestion::{PathStats, SEGMENT_LEN},
    limits::GLITCHES_PER_SECOND,
};
use crate::wire::Frame;

/// A bulk stream has calmed down when its account has fallen to this fraction of `MuxConfig::bulk_bytes`.
const CALM_FRACTION: u64 = 4;

/// The most that is charged to a stream's account, in multiples of `MuxConfig::bulk_bytes`, so that any stream calms
/// down in less than 3 s.
const MAX_CHARGED: u64 = 3;

/// A stream that sends no more than this for long is not bulk, in bytes per second: a terminal, a chat, a voice call.
const INTERACTIVE_RATE: u64 = 64 * 1024;

/// For how long a channel stays an express channel after the last message. Longer than the pauses of someone who
/// types; short, because one bulk stream alone may use all channels.
const EXPRESS_LIFETIME: Duration = Duration::from_secs(10);

/// A lossy link has one express channel more for each so many channels, so that the copies of a message avoid the
/// losses of bulk data, too: two of four channels, three of eight.
const CHANNELS_PER_EXPRESS: usize = 4;

/// From so many lost segments in each round trip on, bulk streams are spread over the channels: on one, all that
/// arrives waits for each of them. With 4, four downloads had 0.89 of what separate connections have at 50 Mbit/s, 200
/// ms and 0.5 % loss, and 0.93 at 100 Mbit/s, 40 ms (2 losses per round trip); spread 0.96 and 0.98, with the same ping
/// beside them. Without losses, one channel keeps the 99th percentile of pings lower.
const MIN_LOST_PER_RTT: f64 = 0.5;

/// Bulk streams that are spread stay so until fewer segments are lost by this factor.
const SPREAD_HYSTERESIS: f64 = 2.0;

/// Bulk streams that were spread in slow start stay so for this long after it. While its overshoot is repaired, little
/// is known about the losses of the path. On one channel at once, four downloads at 50 Mbit/s, 200 ms and 0.1 % loss had
/// 35 Mbit/s in their first ten seconds; 37 if they stayed spread for 2 s, and 39 for 5 s.
const SLOW_START_SPREAD: Duration = Duration::from_secs(5);

/// A bulk stream that was moved because streams are spread stays where it is for so many RTTs, or so many times
/// [`MIN_SPREAD_RTT`]: what it has in flight on the former channel has to arrive first.
pub(super) const SPREAD_RTTS: u32 = 4;

/// The shortest RTT that counts for [`SPREAD_RTTS`].
pub(super) const MIN_SPREAD_RTT: Duration = Duration::from_millis(250);

/// A channel carries bulk until so long after the last bulk chunk, or two RTTs if that is longer.
const BULK_LINGER: Duration = Duration::from_millis(100);

/// From this share of retransmitted segments on, messages are sent twice, and acknowledgements on several channels. Below
/// it a loss delays fewer than one message in a thousand.
pub(super) const MIN_LOSS_RATE: f64 = 0.0005;

/// From this share on, and from [`MIN_CHANNELS_FOR_THREE_COPIES`] channels on, a message is sent three times. With 700
/// messages a second over eight channels and 1 % loss, each channel waits for a lost segment in a tenth of the time:
/// of messages that are sent twice, one in a hundred waits in one direction or the other.
const MIN_LOSS_RATE_FOR_THREE_COPIES: f64 = 0.005;

/// From how many channels on a message may be sent three times: with fewer, that is more load on each channel, and more
/// lost segments, than it gains.
const MIN_CHANNELS_FOR_THREE_COPIES: usize = 6;

/// A stream with at most this many bytes to send sends them on two channels under loss: three segments. A keystroke,
/// a request, or a small response with its header.
pub(super) const MAX_COPY_LEN: u64 = 4 * 1024;

/// While data queues at the bottleneck, copies are at most this fraction of what a channel may have in flight, i.e. of
/// its delivery rate.
const COPY_SHARE: u64 = 4;

/// While data queues at the bottleneck for no longer than this, or for a quarter of the minimum RTT if that is longer,
/// the path has capacity left, and copies are not limited to a share of it. The congestion window of a channel that
/// carries only messages says nothing about its path.
const MIN_COPY_LIMITING_DELAY: Duration = Duration::from_millis(10);

/// Copies are sent while at most this fraction of the kernel's congestion window is in flight on a channel. A loss rate
/// of 1 % leaves CUBIC about twelve segments per RTT, and messages behind copies that take them all wait for an RTT.
/// Measured with 32 keep-alive connections at 100 Mbit/s, 40 ms and 1 % loss: p50 45.2 instead of 46.5 ms, p99 92
/// instead of 85.
pub(super) const COPY_WINDOW_FRACTION: u64 = 2;

/// The least that a copy is charged, in bytes, for its header, its packet and its handling at the peer.
const MIN_COPY_COST: u64 = 1024;

/// The most bytes of copies that a channel sends per second. As each is charged [`MIN_COPY_COST`], the peer receives
/// at most half as many useless frames as its glitch budget allows for ever.
const MAX_COPY_RATE: u64 = MIN_COPY_COST * GLITCHES_PER_SECOND as u64 / 2;

/// The most bytes of copies that a channel sends at once.
const MAX_COPY_BURST: u64 = 64 * 1024;

/// The placement state of a link.
#[derive(Debug, Default)]
pub(super) struct LinkPlacement {
    /// The latest time that was passed to the mux. Commands carry no time; where nothing has happened for a while,
    /// nothing is in flight that a message would have to avoid.
    pub(super) now: Option<Instant>,
    /// Whether the link has several channels and they are network paths.
    pub(super) is_active: bool,
    /// The highest loss rate of the link's paths, from 0 to 1.
    pub(super) loss_rate: f64,
    /// Whether bulk streams are spread over the channels, because one channel would always wait for a lost segment.
    pub(super) spreads_bulk: bool,
    /// Until when they are spread because slow start has lost a segment; `None` if it has not.
    spread_until: Option<Instant>,
    /// Whether channels send data of each other's streams for the same reason.
    pub(super) stripes_bulk: bool,
    /// The stream that has sent the last message, and when.
    last_message: Option<(u32, Instant)>,
    /// How many messages and copies the link has sent: the ordinal by which channels take turns.
    messages: u64,
}

impl LinkPlacement {
    /// Records that a stream sends a message now, which bulk data of other streams should not delay.
    pub(super) fn record_message(&mut self, stream: u32, now: Instant) {
        self.last_message = Some((stream, now));
    }

    /// Decides whether bulk streams are spread, of whose data `bytes_per_rtt` bytes are delivered in a round trip, and
    /// `loss_rate` of whose segments were lost in the last seconds. `is_slow_start_lossy` tells whether the path is
    /// long, not full yet, and has lost a segment.
    ///
    /// A shorter average rises above the threshold with every single loss: at 20 Mbit/s, 100 ms and 0.1 % loss, another
    /// channel then sent beside one that filled the path, and the overflowing queue lost a hundred segments for one.
    ///
    /// In slow start, each loss stops the growth of its channel for a round trip. Spread, the streams grow like
    /// connections of their own; on one channel, four downloads at 50 Mbit/s, 200 ms and 1 % loss were a second behind.
    /// Where the RTT is shorter, the window of one channel grows fast enough, and two overflow the queue: at 20 Mbit/s,
    /// 100 ms and 1 % loss, four downloads had 17.0 instead of 17.7 Mbit/s.
    ///
    /// A single stream is not striped for that: its window, which has to grow as well, would fill with what waits for a
    /// lost segment, and all channels would send at once when that has arrived.
    pub(super) fn update_spread(&mut self, bytes_per_rtt: f64, loss_rate: f64, is_slow_start_lossy: bool) {
        let lost = bytes_per_rtt / SEGMENT_LEN as f64 * loss_rate;
        let least = MIN_LOST_PER_RTT / if self.stripes_bulk { SPREAD_HYSTERESIS } else { 1.0 };
        self.stripes_bulk = self.is_active && lost >= least;
        if is_slow_start_lossy {
            self.spread_until = self.now.map(|now| now + SLOW_START_SPREAD);
        }
        let is_starting = self.spread_until.zip(self.now).is_some_and(|(until, now)| now < until);
        self.spreads_bulk = self.stripes_bulk || (self.is_active && is_starting);
    }

    /// Returns the ordinal of the next message or copy.
    pub(super) fn next_ordinal(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    /// Records that a stream has become bulk: what it has sent so far were no messages.
    pub(super) fn forget_messages_of(&mut self, stream: u32) {
        self.last_message.take_if(|(last, _)| *last == stream);
    }

    /// Returns how many of `channels` channels bulk data has to leave free now.
    pub(super) fn express_channels(&self, channels: usize, now: Instant) -> usize {
        let is_message_recent =
            self.last_message.is_some_and(|(_, at)| now.saturating_duration_since(at) < EXPRESS_LIFETIME);
        match self.is_active && is_message_recent {
            false => 0,
            true if self.copies(channels) > 0 => 1 + channels / CHANNELS_PER_EXPRESS,
            true => 1,
        }
    }

    /// Returns how many copies of a message are sent beside the original, on a link with this many channels.
    pub(super) fn copies(&self, channels: usize) -> usize {
        if !self.is_active || self.loss_rate < MIN_LOSS_RATE {
            0
        } else if self.loss_rate >= MIN_LOSS_RATE_FOR_THREE_COPIES
            && channels >= MIN_CHANNELS_FOR_THREE_COPIES
        {
            2
        } else {
            1
        }
    }
}

/// How much a stream has sent recently, as a leaky bucket: whether it is bulk.
#[derive(Debug, Default)]
pub(super) struct SendActivity {
    /// Bytes sent recently, less those that [`INTERACTIVE_RATE`] has allowed since.
    charged: u64,
    /// When `charged` was last reduced; `None` before the first byte.
    updated_at: Option<Instant>,
    /// Whether the stream is bulk.
    is_bulk: bool,
    /// When the stream was last moved to spread bulk data; `None` if it was not.
    pub(super) spread_at: Option<Instant>,
}

impl SendActivity {
    /// Returns whether the stream was bulk at the last update.
    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    /// Records that `bytes` are sent at `now`; 0 to let time pass only. The stream is bulk if that is more than
    /// `bulk_bytes` beyond [`INTERACTIVE_RATE`]. Returns whether it has become bulk.
    pub(super) fn record(&mut self, bytes: u64, bulk_bytes: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(*self.updated_at.get_or_insert(now));
        let leaked = elapsed.as_millis() as u64 * INTERACTIVE_RATE / 1000;
        if leaked > 0 {
            self.updated_at = Some(now);
        }
        self.charged = (self.charged.saturating_sub(leaked) + bytes).min(MAX_CHARGED * bulk_bytes);
        let was_bulk = self.is_bulk;
        self.is_bulk = self.charged > if was_bulk { bulk_bytes / CALM_FRACTION } else { bulk_bytes };
        self.is_bulk && !was_bulk
    }
}

/// How much is in the way of a message on a channel; the least is the best.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Obstacles {
    /// Whether the channel may be dead, or accepts no message now.
    pub(super) is_blocked: bool,
    /// How many of these apply: a lost segment is being retransmitted, and all data behind it waits for it; bulk data
    /// is in flight, in which more segments may be missing.
    pub(super) hazards: u8,
}

/// The placement state of a channel.
#[derive(Debug, Default)]
pub(super) struct ChannelPlacement {
    /// Whether bulk data has to keep off the channel.
    pub(super) is_express: bool,
    /// When bulk data was last sent on the channel; `None` if none was.
    last_bulk_at: Option<Instant>,
    /// Until when a lost segment is taken to be missing at the receiver; `None` if none was.
    recovering_until: Option<Instant>,
    /// When the kernel last reported about the channel; `None` before the first report.
    reported_at: Option<Instant>,
    /// The ordinal of the last message that was sent on the channel, or copied to it. Among equal channels the one
    /// with the lowest is next, so that a lost segment delays few streams.
    pub(super) last_message: u64,
    /// Copies of frames that were sent on other channels.
    copies: VecDeque<Frame>,
    /// How many bytes of copies may be sent; `None` before the first.
    copy_tokens: Option<(u64, Instant)>,
}

impl ChannelPlacement {
    /// Records that bulk data is sent on the channel.
    pub(super) fn record_bulk(&mut self, now: Instant) {
        self.last_bulk_at = Some(now);
    }

    /// Returns when bulk data was last sent on the channel; `None` if none was.
    pub(super) fn last_bulk_at(&self) -> Option<Instant> {
        self.last_bulk_at
    }

    /// Returns whether bulk data may still be in flight on the channel.
    pub(super) fn carries_bulk(&self, min_rtt: Option<Duration>, now: Instant) -> bool {
        let linger = min_rtt.map_or(BULK_LINGER, |rtt| BULK_LINGER.max(2 * rtt));
        self.last_bulk_at.is_some_and(|at| now.saturating_duration_since(at) < linger)
    }

    /// Records whether the kernel reports at `now` that it is repairing a loss on the channel, whose RTT is `rtt`. The
    /// report counts for as long as the retransmission takes: there may be no other while the channel is avoided.
    pub(super) fn record_recovery(&mut self, is_recovering: bool, rtt: Duration, now: Instant) {
        self.recovering_until = is_recovering.then(|| now + rtt + rtt / 4);
        self.reported_at = Some(now);
    }

    /// Returns whether the kernel's last report is so old that what was in flight then is acknowledged. A report
    /// precedes each frame that is sent.
    pub(super) fn is_report_outdated(&self, rtt: Duration, now: Instant) -> bool {
        self.reported_at.is_none_or(|at| now.saturating_duration_since(at) > rtt + rtt / 4)
    }

    /// Returns whether a lost segment is missing at the receiver, so that all data behind it waits.
    pub(super) fn is_recovering(&self, now: Instant) -> bool {
        self.recovering_until.is_some_and(|until| now < until)
    }

    /// Refills the bucket of copies for the time that has passed: by [`MAX_COPY_RATE`], or by a share of what the
    /// congestion window delivers in that time if data queues on `path`. Returns whether a copy of `len` bytes may be
    /// sent.
    pub(super) fn may_copy(&mut self, len: usize, path: &PathStats, now: Instant) -> bool {
        let Some(min_rtt) = path.min_rtt else { return false };
        let has_queue =
            path.queueing_delay.is_some_and(|delay| delay > MIN_COPY_LIMITING_DELAY.max(min_rtt / 4));
        let share = if has_queue { path.cwnd / COPY_SHARE } else { u64::MAX };
        let burst = share.clamp(MAX_COPY_LEN, MAX_COPY_BURST);
        let rate = (share as f64 / min_rtt.as_secs_f64().max(0.001)).min(MAX_COPY_RATE as f64);
        let (tokens, refilled_at) = self.copy_tokens.get_or_insert((burst, now));
        let refill = (now.saturating_duration_since(*refilled_at).as_secs_f64() * rate) as u64;
        if refill > 0 {
            (*tokens, *refilled_at) = ((*tokens + refill).min(burst), now);
        }
        *tokens >= copy_cost(len)
    }

    /// Charges a copy of `len` bytes. Both channels pay for it, as either may deliver the second copy.
    pub(super) fn charge_copy(&mut self, len: usize) {
        if let Some((tokens, _)) = &mut self.copy_tokens {
            *tokens = tokens.saturating_sub(copy_cost(len));
        }
    }

    /// Queues the copy of a frame.
    pub(super) fn push_copy(&mut self, frame: Frame) {
        self.copies.push_back(frame);
    }

    /// Removes and returns the next copy to send; `None` if there is none.
    pub(super) fn pop_copy(&mut self) -> Option<Frame> {
        self.copies.pop_front()
    }

    /// Returns whether a copy is queued.
    pub(super) fn has_copy(&self) -> bool {
        !self.copies.is_empty()
    }
}

/// Returns how many bytes a copy with a payload of `len` bytes is charged.
fn copy_cost(len: usize) -> u64 {
    MIN_COPY_COST.max(len as u64)
}

#[cfg(test)]
mod tests;
