//! What limits the throughput of a stream: its bottleneck, and the flow-control state that explains it.
//!
//! `link` determines the bottleneck; the types here only carry it to a screen.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::micros;

mod form;

/// What limits the throughput of one direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    /// The operator: the stream is paused.
    Operator,
    /// A rate limit of the stream, its user, its proxy or its service.
    Limit,
    /// The user: it reads the download, or sends the upload, more slowly than the tunnel could carry it.
    User,
    /// The target: it sends the download, or reads the upload, more slowly than the tunnel could carry it.
    Target,
    /// The channel: its rate is below the sender's, or the proxy has no channel at all.
    Channel,
    /// The flow-control window: it is fully in flight, and smaller than the bandwidth-delay product of the path.
    Window,
    /// The flow-control window, as for [`Window`](Self::Window), which cannot grow because the memory budget of all
    /// windows is exhausted.
    Budget,
}

impl Bottleneck {
    /// All bottlenecks, in the order of declaration.
    pub const ALL: [Self; 7] =
        [Self::Operator, Self::Limit, Self::User, Self::Target, Self::Channel, Self::Window, Self::Budget];
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Limit => "limit",
            Self::User => "user",
            Self::Target => "target",
            Self::Channel => "channel",
            Self::Window => "window",
            Self::Budget => "budget",
        })
    }
}

impl Bottleneck {
    /// Returns the bottleneck with user and target exchanged: `link` names its local socket the user and the other end
    /// the target, as a server does, and at a proxy they are the other way round.
    pub fn seen_from_proxy(self) -> Self {
        match self {
            Self::User => Self::Target,
            Self::Target => Self::User,
            other => other,
        }
    }
}

/// For how long each [`Bottleneck`] has blocked a stream since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BottleneckTimes([Duration; Bottleneck::ALL.len()]);

impl BottleneckTimes {
    /// Adds `time` to the time that the bottleneck has blocked the stream. Saturates.
    pub fn add(&mut self, bottleneck: Bottleneck, time: Duration) {
        let total = &mut self.0[bottleneck as usize];
        *total = total.saturating_add(time);
    }

    /// Combines the times of both directions: for each bottleneck the longer of the two. The directions are blocked
    /// independently, so the sum over all bottlenecks may exceed the age of the stream.
    pub fn or_longer(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(time, other)| *time = (*time).max(other));
        self
    }

    /// Returns the times with user and target exchanged, see [`Bottleneck::seen_from_proxy`].
    pub fn seen_from_proxy(mut self) -> Self {
        self.0.swap(Bottleneck::User as usize, Bottleneck::Target as usize);
        self
    }

    /// Returns for how long this bottleneck has blocked the stream.
    pub fn of(&self, bottleneck: Bottleneck) -> Duration {
        self.0[bottleneck as usize]
    }

    /// Iterates over the bottlenecks that have blocked the stream, with the time of each.
    pub fn all(&self) -> impl Iterator<Item = (Bottleneck, Duration)> {
        Bottleneck::ALL
            .into_iter()
            .map(|bottleneck| (bottleneck, self.of(bottleneck)))
            .filter(|(_, time)| !time.is_zero())
    }
}

/// The flow-control state, bottlenecks and latencies of one stream, seen from the server, or from the proxy.
///
/// Reading them locks the stream's link: they are read only for selected streams, because reading them for each of a
/// hundred thousand streams at every sample would be too expensive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamDetails {
    /// The download's flow-control window in bytes: how much the proxy may send beyond what the user's socket has
    /// accepted.
    pub download_window: u64,
    /// The upload's flow-control window in bytes, granted by the proxy: how much the server may send beyond what the
    /// target's socket has accepted.
    pub upload_window: u64,
    /// At the server: bytes received from the proxy that the user's socket has not accepted. At the proxy: bytes
    /// received from the target that were not yet sent on a channel.
    pub download_buffered: u64,
    /// At the server: bytes received from the user that were not yet sent on a channel. At the proxy: bytes received
    /// from the server that the target's socket has not accepted.
    pub upload_buffered: u64,
    /// Bytes in flight to the user: sent on a channel and not yet acknowledged by the server; 0 at the server, which
    /// cannot know them.
    #[serde(skip_serializing_if = "is_zero")]
    pub download_in_flight: u64,
    /// Bytes in flight to the target: sent on a channel and not yet acknowledged by the proxy; 0 at the proxy, which
    /// cannot know them.
    pub upload_in_flight: u64,
    /// The present bottleneck of the download; `None` if there is nothing to carry.
    ///
    /// The server sees only what arrives. While nothing is buffered here and the proxy has credit left, the bottleneck
    /// is the target, which sends no more or has not answered the user's last bytes; or it is the channel, where its
    /// RTT is far above its minimum because queues are full.
    pub download_bottleneck: Option<Bottleneck>,
    /// The present bottleneck of the upload; `None` if there is nothing to carry.
    pub upload_bottleneck: Option<Bottleneck>,
    /// For how long each bottleneck has blocked the stream since it was opened.
    pub bottleneck_times: BottleneckTimes,
    /// How often another channel took over as the primary channel.
    pub failovers: u32,
    /// Bytes that this side retransmitted because their channel was lost: of the upload at the server, of the download
    /// at the proxy.
    pub retransmitted_bytes: u64,
    /// The time from the assignment to a proxy until the proxy reported the connection to the target; `None` before.
    #[serde(rename = "connect_latency_us", with = "micros::option")]
    pub connect_latency: Option<Duration>,
    /// The time until the target's first byte was written to the user, from the user's first byte, or from the
    /// assignment where the target spoke first; `None` before.
    #[serde(rename = "time_to_first_byte_us", with = "micros::option")]
    pub time_to_first_byte: Option<Duration>,
}

/// Returns whether there are no bytes, so that their field can be left out.
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// A live stream that can report its [`StreamDetails`].
pub trait StreamDetailsSource: fmt::Debug + Send + Sync {
    /// Returns the present details without the two latencies, which the stream's counters hold; `None` once the stream
    /// has ended. Must not call [`StreamStats::details`](super::StreamStats::details), which calls this.
    fn details(&self) -> Option<StreamDetails>;
}
