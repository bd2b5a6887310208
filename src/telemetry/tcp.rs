//! What is measured of a channel's transport connection.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::micros;

/// The kernel's `TCP_INFO` of a channel's connection, in the direction from the server to the proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpInfo {
    /// The smoothed RTT (`tcpi_rtt`). It includes the delay of delayed acknowledgements.
    #[serde(rename = "smoothed_rtt_us", with = "micros")]
    pub smoothed_rtt: Duration,
    /// The mean deviation of the RTT (`tcpi_rttvar`).
    #[serde(rename = "rtt_deviation_us", with = "micros")]
    pub rtt_deviation: Duration,
    /// The minimum RTT (`tcpi_min_rtt`) over the kernel's window.
    #[serde(rename = "min_rtt_us", with = "micros")]
    pub min_rtt: Duration,
    /// Segments retransmitted since the connection was established (`tcpi_total_retrans`).
    pub retransmitted_segments: u64,
    /// The rate at which recently sent data was acknowledged, in bytes per second (`tcpi_delivery_rate`).
    pub delivery_rate: u64,
    /// Bytes in the socket's send buffer that were not sent yet (`tcpi_notsent_bytes`).
    pub unsent_bytes: u64,
    /// Bytes that the peer's kernel has acknowledged since the connection was established (`tcpi_bytes_acked`).
    pub acknowledged_bytes: u64,
    /// How long ago the last segment with an acknowledgement was received, be it of nothing new (`tcpi_last_ack_recv`).
    #[serde(rename = "last_ack_age_us", with = "micros")]
    pub last_ack_age: Duration,
    /// Data segments received since the connection was established, in order or not (`tcpi_data_segs_in`).
    pub received_segments: u64,
    /// Bytes sent on the connection and not yet acknowledged by the peer's kernel.
    pub bytes_in_flight: u64,
    /// The congestion window in bytes: `tcpi_snd_cwnd` times the segment size.
    pub congestion_window: u64,
}

/// The condition of a channel, which is read when a snapshot is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelHealth {
    /// The kernel's `TCP_INFO` of the connection; `None` where the system is not Linux.
    pub tcp: Option<TcpInfo>,
    /// The RTT of the last ping on the channel; the kernel's own estimate includes delayed acknowledgements.
    pub rtt: Option<Duration>,
    /// The minimum RTT of recent pings on the channel; `None` before the first answer, like [`rtt`](Self::rtt).
    pub min_rtt: Option<Duration>,
    /// Bytes queued for this channel in this process, which its socket has not accepted.
    pub send_queue_bytes: u64,
    /// The largest DATA payload that the multiplexer puts in one frame now, in bytes; 0 in the text format.
    pub chunk_size: u32,
    /// Whether the socket has accepted no data, or the peer answered no ping, for at least 3 s. The channel then gets
    /// no new streams.
    pub is_stalled: bool,
}

/// A live channel whose [`ChannelHealth`] can be read.
pub trait ChannelHealthSource: fmt::Debug + Send + Sync {
    /// Reads the present health of the channel. It makes a system call and acquires the lock of the channel's link.
    fn health(&self) -> ChannelHealth;
}
