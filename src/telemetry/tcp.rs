use std::time::Duration;

/// What the kernel measured of a channel's connection, in the direction to the proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// The round trip, smoothed.
    pub smoothed_rtt: Duration,
    /// The shortest round trip lately.
    pub min_rtt: Duration,
    /// Segments that had to be sent again, since the connection is up.
    pub retransmitted_segments: u64,
    /// At how many bytes a second what was sent lately has arrived.
    pub delivery_rate: u64,
    /// Bytes that wait in the kernel and were not sent yet.
    pub unsent_bytes: u64,
    /// Bytes that were sent and are not known to have arrived.
    pub bytes_in_flight: u64,
    /// How many bytes may be on their way, as far as the kernel trusts the path.
    pub congestion_window: u64,
}

/// How a channel fares: looked at twice a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelHealth {
    /// What the kernel measured. Only Linux tells.
    pub tcp: Option<TcpInfo>,
    /// The latest RTT that a ping on the channel measured; the kernel's own estimate includes delayed acknowledgements.
    pub rtt: Option<Duration>,
    /// The minimum RTT that pings have measured recently.
    pub min_rtt: Option<Duration>,
    /// Bytes that wait in this process for room on it.
    pub send_queue_bytes: u64,
    /// The largest frame it is given now, in bytes; 0 where there are none (text).
    pub chunk_size: u32,
    /// It has taken nothing for seconds.
    pub is_stalled: bool,
}
