//! Snapshots: the state of the server at one moment, as plain data.
//!
//! A snapshot holds numbers, keys, addresses and shared immutable text; no lock, no counter that still changes, and no
//! [`Instant`](std::time::Instant), which has no meaning in another process. Times are durations since the server
//! started. So a snapshot can be compared, stored, or sent by another process. A [`Sampler`](super::Sampler) fills it.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    ChannelFormat, Content, Latencies, LatencySummary, Progress, StreamDetails, StreamInfo, StreamPhase,
    TcpInfo, micros,
};
use crate::ids::{ChannelId, Policy, Priority, ProxyId, RateLimits, ServiceKey, StreamKey, UserChannelId};

mod form;

/// The state of the server at one moment: totals, and one entry for each service, proxy, user and open stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// When the snapshot was taken, as the time since the server started.
    #[serde(rename = "uptime_us", with = "micros")]
    pub uptime: Duration,
    /// Server-wide sums since the server started, and current counts.
    pub totals: Totals,
    /// The open services, sorted by key.
    pub services: Vec<ServiceSnapshot>,
    /// The registered proxies with their channels, sorted by id. A proxy within its grace period is one of them.
    pub proxies: Vec<ProxySnapshot>,
    /// The users with at least one connection, or whose last one ended a short time ago; in order of arrival.
    pub users: Vec<UserSnapshot>,
    /// The open streams, in no particular order.
    pub streams: Vec<StreamSnapshot>,
    /// The details of those selected streams that are open and assigned to a proxy.
    pub selected: Vec<SelectedStream>,
    /// The fingerprint of the server's key of TLS, once it has changed. Only the server's own cockpit shows it, in the
    /// command that joins a proxy.
    #[serde(skip)]
    pub tls_fingerprint: Option<Arc<str>>,
}

/// Server-wide sums since the server started, and current counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Bytes written to users' sockets since the server started.
    pub down: u64,
    /// Bytes read from users' sockets since the server started.
    pub up: u64,
    /// Streams that are open now.
    pub streams_open: u64,
    /// Streams opened since the server started, the open ones included.
    pub streams_total: u64,
    /// Streams that [failed](super::EndReason::is_failure): neither their user nor the operator ended them, and they
    /// did not finish.
    pub streams_failed: u64,
    /// Streams that ended, as the user or the operator wanted, before a byte had passed in either direction: health
    /// checks and port scans. The log has them at the level debug only.
    pub streams_empty: u64,
    /// Streams that were reset because the target of their proxy leads back to the service; also among the failed ones.
    pub forwarding_loops: u64,
    /// Users that have a connection now, or whose last one ended a short time ago.
    pub users_current: u64,
    /// User connections that the server closed unserved: a limit refused them, or no proxy was available in time.
    pub users_rejected: u64,
    /// Connections on the tunnel port that failed the handshake and never became channels.
    pub handshakes_failed: u64,
    /// How often an address was blocked because it had sent too many wrong tokens.
    pub addresses_blocked: u64,
    /// Whether the server drains: it accepts no new users and lets open streams finish.
    pub draining: bool,
}

/// The state of one service: a public port and the group of proxies that serve it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    /// The public port of the service and its group of proxies.
    pub key: ServiceKey,
    /// Bytes written to the sockets of the service's users since the port was opened.
    pub down: u64,
    /// Bytes read from the sockets of the service's users since the port was opened.
    pub up: u64,
    /// Streams of the service that are open now.
    pub streams_open: u64,
    /// Streams of the service since the port was opened, the open ones included.
    pub streams_total: u64,
    /// The load-balancing policy that chooses a proxy for each new stream.
    pub policy: Policy,
    /// The rate limits that apply to all streams of the service together.
    pub limits: RateLimits,
    /// Latency percentiles of its streams over the last 5 to 10 minutes; at most one second old.
    pub latency: Arc<Latencies>,
}

/// The state of one proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxySnapshot {
    /// The id that the server gave the proxy.
    pub id: ProxyId,
    /// The name that the proxy announced, without control characters.
    pub name: Arc<str>,
    /// The remote address of the proxy's first channel.
    pub addr: SocketAddr,
    /// When its first channel was authenticated, as the time since the server started.
    #[serde(rename = "connected_at_us", with = "micros")]
    pub connected_at: Duration,
    /// The services that the proxy is registered for.
    pub services: Vec<ServiceKey>,
    /// Bytes of the proxy's streams that were written to users' sockets.
    pub down: u64,
    /// Bytes of the proxy's streams that were read from users' sockets.
    pub up: u64,
    /// Streams assigned to the proxy that are open now.
    pub streams_open: u64,
    /// Streams ever assigned to the proxy, the open ones included.
    pub streams_total: u64,
    /// The proxy's weight in the load balancing of new streams.
    pub weight: u32,
    /// Whether the operator drains it: open streams continue, and it gets no new ones.
    pub draining: bool,
    /// How long its streams will still be kept for a reconnect; `None` while it has a channel.
    #[serde(rename = "grace_remaining_us", with = "micros::option", default)]
    pub grace_remaining: Option<Duration>,
    /// The rate limits that apply to all streams of the proxy together.
    pub limits: RateLimits,
    /// Latency percentiles of its streams over the last 5 to 10 minutes; at most one second old.
    pub latency: Arc<Latencies>,
    /// The proxy's channels, sorted by number.
    pub channels: Vec<ChannelSnapshot>,
}

/// Whether a channel accepts new streams, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
    /// The channel carries data and accepts new streams.
    #[default]
    Up,
    /// The peer's socket has accepted no data, or answered no ping, for seconds: the channel gets no new streams.
    Stalled,
    /// The proxy has announced with GOAWAY or EXIT that it will leave: open streams continue, and none is added.
    GoingAway,
}

/// The state of one channel: a transport connection between a proxy and the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelSnapshot {
    /// The proxy's id and the number of the channel within the proxy.
    pub id: ChannelId,
    /// The remote address of the channel's TCP connection.
    pub addr: SocketAddr,
    /// The frame format spoken on the channel.
    pub format: ChannelFormat,
    /// The time since the channel was authenticated.
    #[serde(rename = "age_us", with = "micros")]
    pub age: Duration,
    /// Bytes read from the channel's socket, framing included.
    pub received: u64,
    /// Bytes written to the channel's socket, framing included.
    pub sent: u64,
    /// The RTT that the last ping measured; `None` before the first answer.
    #[serde(rename = "last_rtt_us", with = "micros::option", default)]
    pub last_rtt: Option<Duration>,
    /// Percentiles of the pings' RTTs over the last 5 to 10 minutes; at most one second old.
    pub rtt_summary: Arc<LatencySummary>,
    /// Streams whose primary channel this is.
    pub streams_open: u64,
    /// Whether the channel accepts new streams, and why not.
    pub state: ChannelState,
    /// The name of the kernel's congestion control of the connection; `None` where the system is not Linux.
    pub congestion_control: Option<Arc<str>>,
    /// The kernel's `TCP_INFO` of the connection; `None` where the system is not Linux.
    pub tcp: Option<TcpInfo>,
    /// Bytes queued for this channel in this process, which its socket has not accepted.
    pub send_queue_bytes: u64,
    /// The largest DATA payload that the multiplexer puts in one frame now, in bytes; 0 in the text format.
    pub chunk_size: u32,
}

/// The state of one user: one client address on one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserSnapshot {
    /// The user's serial number in this server: two users that had the same id one after the other differ in it.
    pub number: u64,
    /// The user's short id, which stream keys begin with.
    pub id: UserChannelId,
    /// The user's address.
    pub addr: IpAddr,
    /// The service that the user is connected to.
    pub service: ServiceKey,
    /// When its first connection was accepted, as the time since the server started.
    #[serde(rename = "connected_at_us", with = "micros")]
    pub connected_at: Duration,
    /// Bytes written to the user's sockets (downloads).
    pub down: u64,
    /// Bytes read from the user's sockets (uploads).
    pub up: u64,
    /// The user's streams that are open now.
    pub streams_open: u64,
    /// The user's streams since its first connection, the open ones included.
    pub streams_total: u64,
    /// The rate limits that apply to all streams of the user together.
    pub limits: RateLimits,
}

/// The state of one open stream.
///
/// Byte counters lie here and everything else in a [`StreamState`] behind a pointer: the sampler visits ten thousand of
/// these ten times a second, and for most of them only the byte counters have changed.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSnapshot {
    /// What never changes: key, user address, service, and when the stream was opened.
    pub info: Arc<StreamInfo>,
    /// The stream's serial number in this server: two streams that had the same key one after the other differ in it.
    pub number: u64,
    /// The version of the stream's [`StreamState`]: it differs from the last snapshot's if anything but bytes changed.
    pub changes: u32,
    /// Bytes of the stream written to the user's socket (download).
    pub down: u64,
    /// Bytes of the stream read from the user's socket (upload).
    pub up: u64,
    /// The attributes of the stream that change a few times in its life: proxy, channel, phase, limits, content.
    pub(super) state: Box<StreamState>,
}

impl StreamSnapshot {
    /// Creates the snapshot of the stream with this serial number. `changes` is the version of `state`.
    pub fn new(info: Arc<StreamInfo>, number: u64, changes: u32, state: StreamState) -> Self {
        Self { info, number, changes, down: 0, up: 0, state: Box::new(state) }
    }
}

impl Deref for StreamSnapshot {
    type Target = StreamState;

    fn deref(&self) -> &StreamState {
        &self.state
    }
}

/// The attributes of a stream that change a few times in its life.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamState {
    /// The stream key: the user's id and the number of the stream.
    pub key: StreamKey,
    /// The proxy that the stream is assigned to; `None` while it waits for one.
    pub proxy: Option<ProxyId>,
    /// The primary channel; `None` before the assignment and while the proxy has no channel.
    pub channel: Option<ChannelId>,
    /// The phase of the stream's life, such as waiting, open or half-closed.
    pub phase: StreamPhase,
    /// Whether the operator has paused the stream.
    pub paused: bool,
    /// The stream's priority in the scheduler of its channel.
    pub priority: Priority,
    /// The rate limits that apply to this stream alone.
    pub limits: RateLimits,
    /// The detected protocol and request; `None` while undetected, or where inspection is off.
    pub content: Option<Arc<Content>>,
    /// The progress of the current download, where its size is known. The size in the HTTP response takes precedence
    /// over the one that the proxy announced in `STREAM_START`.
    pub progress: Option<Progress>,
}

/// The details of one stream that the reader of the snapshots has selected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedStream {
    /// The stream's serial number in this server, as [`StreamSnapshot::number`].
    pub number: u64,
    /// The stream's flow control, bottlenecks and latencies.
    pub details: StreamDetails,
}
