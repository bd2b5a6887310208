//! The events that a mux reports to its owner.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    mux::channel_planner::ChannelPlan,
    wire::{Open, ResetCode, TunnelMessage},
};

/// An event of a link, from [`Mux::poll_event`](super::Mux::poll_event).
#[derive(Debug, PartialEq)]
pub enum MuxEvent {
    /// The peer opened a stream. The owner has to [`accept`](super::Mux::accept) or [`reset`](super::Mux::reset) it.
    Opened(Open),
    /// The peer accepted a stream that this side opened.
    Accepted {
        /// The stream's id.
        stream: u32,
    },
    /// The stream has data in order, or its END, to [`read`](super::Mux::read).
    Readable {
        /// The stream's id.
        stream: u32,
    },
    /// The stream can be [written](super::Mux::write) again, after [`writable`](super::Mux::writable) had returned 0.
    Writable {
        /// The stream's id.
        stream: u32,
    },
    /// The stream was closed with an error: the peer reset it, the peer violated the protocol on it, or the link
    /// ended.
    Reset {
        /// The stream's id.
        stream: u32,
        /// The reason.
        code: ResetCode,
    },
    /// The peer has reset a stream that this side opened and that it has not accepted. The send buffer is handed back:
    /// if the peer says that it has not reached the target, another peer may get the data.
    Unaccepted {
        /// The stream's id.
        stream: u32,
        /// The reason.
        code: ResetCode,
        /// All data that was written to the stream, within its first window.
        data: Vec<Bytes>,
    },
    /// The peer has reset the stream after its data: its local socket failed. The owner delivers what is left to
    /// [`read`](super::Mux::read), until `DataEnd` is returned and consumed, and then
    /// [resets](super::Mux::reset) the stream with the same code, which confirms it to the peer. Emitted again if the
    /// link ends meanwhile.
    ResetAfterData {
        /// The stream's id.
        stream: u32,
        /// The reason.
        code: ResetCode,
    },
    /// The stream has a new primary channel, because its last one was lost. There may have been none in between.
    FailedOver {
        /// The stream's id.
        stream: u32,
        /// The new primary channel.
        channel: u16,
    },
    /// The stream has a new primary channel, although its last one was not lost: that one is being closed in an orderly
    /// way, or is left to messages of other streams, or the new one delivers a message earlier.
    Moved {
        /// The stream's id.
        stream: u32,
        /// The new primary channel.
        channel: u16,
    },
    /// Frames were queued on a channel while another was polled. The owner should poll this one, too.
    TransmitReady {
        /// The channel's id.
        channel: u16,
    },
    /// The stream was closed cleanly: both sides have consumed all data and the END of the other.
    Closed {
        /// The stream's id.
        stream: u32,
    },
    /// The peer sent a message about the link.
    Message {
        /// The channel on which it arrived.
        channel: u16,
        /// The message.
        message: TunnelMessage,
    },
    /// The peer sent GOAWAY: it accepts no new streams.
    GoAway {
        /// The reason.
        code: ResetCode,
    },
    /// All data of a stream that was written before [`measure_queue_wait`](super::Mux::measure_queue_wait) was called
    /// has been sent on a channel.
    Dequeued {
        /// The stream's id.
        stream: u32,
        /// The time that was passed to that method.
        written_at: Instant,
    },
    /// The peer answered a ping.
    RttSample {
        /// The channel of the ping.
        channel: u16,
        /// The time from the ping to its answer.
        rtt: Duration,
    },
    /// One side wishes another number of channels.
    ChannelsWanted(ChannelWish),
    /// The channel is being closed in an orderly way: its streams have moved to other channels.
    ChannelRetiring {
        /// The channel's id.
        channel: u16,
    },
    /// The orderly closing of the channel is complete: the owner should close it, and then
    /// [remove](super::Mux::remove_channel) it.
    ChannelRetired {
        /// The channel's id.
        channel: u16,
    },
    /// The peer has closed a channel that it takes for dead. The owner should close it, and then
    /// [remove](super::Mux::remove_channel) it.
    ChannelLostAtPeer {
        /// The channel's id, from the network: the link may not have it.
        channel: u16,
    },
    /// The channel was idle when its [timeout](super::Mux::next_timeout) was computed last, and is not any more: the
    /// owner has to ask for it again.
    TimeoutMoved {
        /// The channel's id.
        channel: u16,
    },
    /// The peer does not answer on the channel for longer than is usual on its path, or does again. The owner of a
    /// channel that does not answer should connect a replacement.
    ResponsivenessChanged {
        /// The channel's id.
        channel: u16,
        /// Whether the peer answers.
        is_responsive: bool,
    },
    /// The channel is lost: the peer answered no ping, and nothing was received, for the keepalive timeout. Repeated
    /// at each timeout until the owner [removes](super::Mux::remove_channel) the channel, or something is received. An
    /// owner without another channel that works should keep it for a while, because its TCP connection may be the first
    /// to recover from an outage.
    ChannelTimedOut {
        /// The channel's id.
        channel: u16,
    },
}

/// A number of channels that one side wishes for the data that it sends. Only the proxy can open and close channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ChannelWish {
    /// The wish of this side. A server has sent it to the proxy.
    Own(ChannelPlan),
    /// The wish of the server, on a proxy. It comes from the network: the owner limits it.
    Server(u16),
}

/// The reason why no stream could be opened to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The link has no channel at the moment.
    #[error("the proxy has no channel at the moment")]
    NoChannel,
    /// The peer reads nothing, or too little: either the drivers of all channels report that, or too many control
    /// frames are queued.
    #[error("the proxy does not read from its channels, or too slowly")]
    Stalled,
    /// The memory budget of this process allows no more streams.
    #[error("the memory budget allows no more streams (option --memory)")]
    OutOfMemory,
    /// The maximum number of streams is open.
    #[error("the proxy has the maximum number of open streams")]
    TooManyStreams,
    /// The link's stream numbers are used up, or the proxy has opened another link that replaces it.
    #[error("the link is replaced by a new one")]
    LinkReplaced,
}
