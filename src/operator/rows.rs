//! What the control socket lists, as plain rows: snapshots in the words of an operator.
//!
//! The names of durations end with their unit, bytes are counts, rates are in bytes per second. Ids are in the notation
//! of the screens.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    control::{FilterField, FilterFigure, FilteredStream},
    ids::{ProxyId, Rate},
    telemetry::{
        ChannelSnapshot, ChannelState, ProxySnapshot, ServiceSnapshot, Snapshot, StreamSnapshot, Totals,
        UserSnapshot, micros,
    },
};

/// An open stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamRow {
    /// The stream key.
    pub key: String,
    /// The serial number of the stream in this process: two streams that had the same key one after the other differ in
    /// it.
    pub number: u64,
    /// The state as one word: `wait`, `dial`, `open`, `half`, `paused`.
    pub state: String,
    /// The service.
    pub service: String,
    /// The id of the proxy; `None` while the stream waits for one.
    pub proxy: Option<String>,
    /// The name of that proxy.
    pub proxy_name: Option<String>,
    /// The primary channel.
    pub channel: Option<String>,
    /// The user's address and port; empty where a proxy does not know it.
    pub address: String,
    /// The detected protocol and request.
    pub content: Option<String>,
    /// The priority; `None` on a proxy, which does not know it.
    pub priority: Option<String>,
    /// Bytes to the user.
    pub down: u64,
    /// Bytes from the user.
    pub up: u64,
    /// Bytes per second to the user; `None` if no rates were asked for.
    pub down_rate: Option<u64>,
    /// Bytes per second from the user; `None` if no rates were asked for.
    pub up_rate: Option<u64>,
    /// The limit of the stream's downloads.
    pub limit_down: Option<u64>,
    /// The limit of the stream's uploads.
    pub limit_up: Option<u64>,
    /// The size of the current download, if it is known.
    pub size: Option<u64>,
    /// How much of it has arrived.
    pub arrived: Option<u64>,
    /// The time since the stream opened.
    pub age_ms: u64,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyListRow {
    /// The id.
    pub proxy: String,
    /// The name that it gave itself.
    pub name: String,
    /// The address of its first channel.
    pub address: String,
    /// `up`, `drain`, or `grace` while it has no channel.
    pub state: String,
    /// The services that it serves.
    pub services: Vec<String>,
    /// The number of its channels.
    pub channels: usize,
    /// Its weight in the load balancing; `None` for a server of a proxy.
    pub weight: Option<u32>,
    /// Its open streams.
    pub streams: u64,
    /// All streams that were assigned to it.
    pub streams_total: u64,
    /// Bytes to users.
    pub down: u64,
    /// Bytes from users.
    pub up: u64,
    /// Bytes per second to users; `None` if no rates were asked for.
    pub down_rate: Option<u64>,
    /// Bytes per second from users; `None` if no rates were asked for.
    pub up_rate: Option<u64>,
    /// The share of the traffic of all rows, in percent; `None` if no rates were asked for.
    pub traffic_percent: Option<u64>,
    /// The limit of its downloads.
    pub limit_down: Option<u64>,
    /// The limit of its uploads.
    pub limit_up: Option<u64>,
    /// The rest of its grace period.
    pub grace_remaining_ms: Option<u64>,
    /// The p50 of its connect latency.
    pub connect_p50_us: u64,
    /// The p99 of its connect latency.
    pub connect_p99_us: u64,
    /// The time since it connected.
    pub age_ms: u64,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// The id.
    pub channel: String,
    /// The name of its proxy.
    pub proxy_name: String,
    /// The remote address.
    pub address: String,
    /// The frame format.
    pub format: String,
    /// `up`, `stalled` or `going-away`.
    pub state: String,
    /// The streams whose primary channel it is.
    pub streams: u64,
    /// Bytes that were read from its socket.
    pub received: u64,
    /// Bytes that were written to its socket.
    pub sent: u64,
    /// Bytes per second that were read from its socket; `None` if no rates were asked for.
    pub received_rate: Option<u64>,
    /// Bytes per second that were written to its socket; `None` if no rates were asked for.
    pub sent_rate: Option<u64>,
    /// Bytes that its socket has not accepted yet.
    pub queued: u64,
    /// The RTT that the last ping measured.
    pub rtt_us: Option<u64>,
    /// The congestion control of the kernel.
    pub congestion_control: Option<String>,
    /// The time since it connected.
    pub age_ms: u64,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// The public port and the group.
    pub service: String,
    /// The load-balancing policy.
    pub policy: String,
    /// How many proxies serve it.
    pub proxies: usize,
    /// Its open streams.
    pub streams: u64,
    /// All of its streams.
    pub streams_total: u64,
    /// Bytes to users.
    pub down: u64,
    /// Bytes from users.
    pub up: u64,
    /// Bytes per second to users; `None` if no rates were asked for.
    pub down_rate: Option<u64>,
    /// Bytes per second from users; `None` if no rates were asked for.
    pub up_rate: Option<u64>,
    /// The limit of its downloads.
    pub limit_down: Option<u64>,
    /// The limit of its uploads.
    pub limit_up: Option<u64>,
    /// The p50 of its connect latency.
    #[serde(default)]
    pub connect_p50_us: u64,
    /// The p99 of its connect latency.
    #[serde(default)]
    pub connect_p99_us: u64,
    /// The p50 of its time to first byte.
    #[serde(default)]
    pub ttfb_p50_us: u64,
    /// The p99 of its time to first byte.
    #[serde(default)]
    pub ttfb_p99_us: u64,
}

/// A user: a client address on a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRow {
    /// The id.
    pub user: String,
    /// The client address.
    pub address: String,
    /// The service.
    pub service: String,
    /// Its open streams.
    pub streams: u64,
    /// All of its streams.
    pub streams_total: u64,
    /// Bytes to the user.
    pub down: u64,
    /// Bytes from the user.
    pub up: u64,
    /// Bytes per second to users; `None` if no rates were asked for.
    pub down_rate: Option<u64>,
    /// Bytes per second from users; `None` if no rates were asked for.
    pub up_rate: Option<u64>,
    /// The share of the traffic of all rows, in percent; `None` if no rates were asked for.
    pub traffic_percent: Option<u64>,
    /// The limit of its downloads.
    pub limit_down: Option<u64>,
    /// The limit of its uploads.
    pub limit_up: Option<u64>,
    /// The time since its first connection.
    pub age_ms: u64,
}

/// Sums and counts of the whole server; see [`Totals`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TotalsRow {
    /// The time since the server started.
    pub uptime_ms: u64,
    /// Bytes to users.
    pub down: u64,
    /// Bytes from users.
    pub up: u64,
    /// Open streams.
    pub streams: u64,
    /// All streams.
    pub streams_total: u64,
    /// Streams that failed.
    pub streams_failed: u64,
    /// Streams that ended before a byte had passed.
    pub streams_empty: u64,
    /// Users.
    pub users: u64,
    /// User connections that were refused.
    pub users_rejected: u64,
    /// Handshakes that failed.
    pub handshakes_failed: u64,
    /// How often an address was blocked.
    pub addresses_blocked: u64,
}

/// Returns milliseconds of a duration.
pub(super) fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a rate limit as a number.
fn limit(rate: Option<Rate>) -> Option<u64> {
    rate.map(Rate::bytes_per_second)
}

/// The names of proxies, and those that are within their grace period.
pub(super) struct ProxyNames<'a>(HashMap<ProxyId, (&'a Arc<str>, bool)>);

impl<'a> ProxyNames<'a> {
    /// Collects the names of the proxies of a snapshot.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let of = |proxy: &'a ProxySnapshot| (proxy.id, (&proxy.name, proxy.grace_remaining.is_some()));
        Self(snapshot.proxies.iter().map(of).collect())
    }
}

impl StreamRow {
    /// Creates the row of a stream.
    pub(super) fn of(stream: &StreamSnapshot, snapshot: &Snapshot, proxies: &ProxyNames<'_>) -> Self {
        let proxy = stream.proxy.and_then(|id| proxies.0.get(&id));
        let is_in_grace_period = proxy.is_some_and(|(_, is_in_grace_period)| *is_in_grace_period);
        let is_known = !stream.info.addr.ip().is_unspecified();
        Self {
            key: stream.key.to_string(),
            number: stream.number,
            state: stream.phase.state_name(stream.paused, is_in_grace_period).to_owned(),
            service: stream.info.service.to_string(),
            proxy: stream.proxy.map(|id| id.to_string()),
            proxy_name: proxy.map(|(name, _)| name.to_string()),
            channel: stream.channel.map(|id| id.to_string()),
            address: if is_known { stream.info.addr.to_string() } else { String::new() },
            content: stream.content.as_ref().map(ToString::to_string),
            priority: Some(stream.priority.to_string()),
            down: stream.down,
            up: stream.up,
            down_rate: None,
            up_rate: None,
            limit_down: limit(stream.limits.down),
            limit_up: limit(stream.limits.up),
            size: stream.progress.map(|progress| progress.size),
            arrived: stream.progress.map(|progress| progress.arrived(stream.down)),
            age_ms: millis(snapshot.uptime.saturating_sub(stream.info.opened_at)),
        }
    }

    /// Returns the bytes in both directions.
    pub fn bytes(&self) -> u64 {
        self.down + self.up
    }
}

impl FilteredStream for StreamRow {
    fn searchable_text(&self, field: FilterField) -> String {
        let user = self.key.split(':').next().unwrap_or_default();
        match field {
            FilterField::Stream => self.key.clone(),
            FilterField::State => self.state.clone(),
            FilterField::Service => self.service.clone(),
            FilterField::Proxy => match (&self.proxy_name, &self.proxy) {
                (Some(name), _) if !name.is_empty() => name.clone(),
                (_, id) => id.clone().unwrap_or_default(),
            },
            FilterField::Address => format!("{} {user}", self.address),
            FilterField::Content => self.content.clone().unwrap_or_default(),
            FilterField::Priority => self.priority.clone().unwrap_or_default(),
        }
    }

    fn exact_texts(&self, field: FilterField) -> Vec<String> {
        let first = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        match field {
            FilterField::Stream => vec![self.key.clone(), first(&self.key)],
            FilterField::Address => {
                let ip = self.address.parse().map(|addr: std::net::SocketAddr| addr.ip().to_string());
                vec![self.address.clone(), ip.unwrap_or_default(), first(&self.key)]
            }
            FilterField::Service => vec![self.service.clone(), first(&self.service)],
            FilterField::Proxy => self.proxy_name.iter().chain(&self.proxy).cloned().collect(),
            other => vec![self.searchable_text(other)],
        }
    }

    fn figure(&self, figure: FilterFigure) -> f64 {
        match figure {
            FilterFigure::Down => self.down_rate.unwrap_or_default() as f64,
            FilterFigure::Up => self.up_rate.unwrap_or_default() as f64,
            FilterFigure::DownBytes => self.down as f64,
            FilterFigure::UpBytes => self.up as f64,
            FilterFigure::Bytes => self.bytes() as f64,
            FilterFigure::Size => self.size.unwrap_or_default() as f64,
            FilterFigure::Age => self.age_ms as f64 / 1000.0,
        }
    }
}

impl ProxyListRow {
    /// Creates the row of a proxy.
    pub(super) fn of(proxy: &ProxySnapshot, snapshot: &Snapshot) -> Self {
        let state = match () {
            () if proxy.grace_remaining.is_some() => "grace",
            () if proxy.draining => "drain",
            () => "up",
        };
        Self {
            proxy: proxy.id.to_string(),
            name: proxy.name.to_string(),
            address: proxy.addr.to_string(),
            state: state.to_owned(),
            services: proxy.services.iter().map(ToString::to_string).collect(),
            channels: proxy.channels.len(),
            weight: Some(proxy.weight),
            streams: proxy.streams_open,
            streams_total: proxy.streams_total,
            down: proxy.down,
            up: proxy.up,
            down_rate: None,
            up_rate: None,
            traffic_percent: None,
            limit_down: limit(proxy.limits.down),
            limit_up: limit(proxy.limits.up),
            grace_remaining_ms: proxy.grace_remaining.map(millis),
            connect_p50_us: micros::count(proxy.latency.connect.p50),
            connect_p99_us: micros::count(proxy.latency.connect.p99),
            age_ms: millis(snapshot.uptime.saturating_sub(proxy.connected_at)),
        }
    }
}

impl ChannelRow {
    /// Creates the row of a channel of `proxy`.
    pub(super) fn of(channel: &ChannelSnapshot, proxy: &ProxySnapshot) -> Self {
        let state = match channel.state {
            ChannelState::Up => "up",
            ChannelState::Stalled => "stalled",
            ChannelState::GoingAway => "going-away",
        };
        Self {
            channel: channel.id.to_string(),
            proxy_name: proxy.name.to_string(),
            address: channel.addr.to_string(),
            format: channel.format.to_string(),
            state: state.to_owned(),
            streams: channel.streams_open,
            received: channel.received,
            sent: channel.sent,
            received_rate: None,
            sent_rate: None,
            queued: channel.send_queue_bytes,
            rtt_us: channel.last_rtt.map(micros::count),
            congestion_control: channel.congestion_control.as_ref().map(ToString::to_string),
            age_ms: millis(channel.age),
        }
    }
}

impl ServiceRow {
    /// Creates the row of a service.
    pub(super) fn of(service: &ServiceSnapshot, snapshot: &Snapshot) -> Self {
        let serves = |proxy: &&ProxySnapshot| proxy.services.contains(&service.key);
        Self {
            service: service.key.to_string(),
            policy: service.policy.to_string(),
            proxies: snapshot.proxies.iter().filter(serves).count(),
            streams: service.streams_open,
            streams_total: service.streams_total,
            down: service.down,
            up: service.up,
            down_rate: None,
            up_rate: None,
            limit_down: limit(service.limits.down),
            limit_up: limit(service.limits.up),
            connect_p50_us: micros::count(service.latency.connect.p50),
            connect_p99_us: micros::count(service.latency.connect.p99),
            ttfb_p50_us: micros::count(service.latency.time_to_first_byte.p50),
            ttfb_p99_us: micros::count(service.latency.time_to_first_byte.p99),
        }
    }
}

impl UserRow {
    /// Creates the row of a user.
    pub(super) fn of(user: &UserSnapshot, snapshot: &Snapshot) -> Self {
        Self {
            user: user.id.to_string(),
            address: user.addr.to_string(),
            service: user.service.to_string(),
            streams: user.streams_open,
            streams_total: user.streams_total,
            down: user.down,
            up: user.up,
            down_rate: None,
            up_rate: None,
            traffic_percent: None,
            limit_down: limit(user.limits.down),
            limit_up: limit(user.limits.up),
            age_ms: millis(snapshot.uptime.saturating_sub(user.connected_at)),
        }
    }
}

impl TotalsRow {
    /// Creates the row of the totals.
    pub(super) fn of(totals: &Totals, uptime: std::time::Duration) -> Self {
        Self {
            uptime_ms: millis(uptime),
            down: totals.down,
            up: totals.up,
            streams: totals.streams_open,
            streams_total: totals.streams_total,
            streams_failed: totals.streams_failed,
            streams_empty: totals.streams_empty,
            users: totals.users_current,
            users_rejected: totals.users_rejected,
            handshakes_failed: totals.handshakes_failed,
            addresses_blocked: totals.addresses_blocked,
        }
    }
}

#[cfg(test)]
mod tests;
