//! The state of the server as of one sample: all rows, totals and throughput.

use std::time::{Duration, Instant};

use super::{
    ProxyLine, ProxyRows, RateHistory, ServiceRows, StreamRows, UserLine, UserRows,
    rate_meter::{RateMeter, SampleClock},
};
use crate::{
    ids::{ProxyId, UserChannelId},
    telemetry::{Snapshot, Totals},
};

/// How long after a sample the uptime goes on by itself: the interval of the states of a recording.
const SAMPLE_INTERVAL_OF_RECORDING: Duration = Duration::from_secs(1);

/// The state of the server as the cockpit knows it. A frozen display shows a copy.
#[derive(Debug, Clone)]
pub(crate) struct ServerState {
    /// The time of the newest message or snapshot that the cockpit has handled. All ages on the screen are relative
    /// to it.
    pub(crate) now: Instant,
    /// How long the server had been running at the last sample.
    pub(crate) uptime: Duration,
    /// The time of the last sample.
    sampled_at: Instant,
    /// Counters of the whole server since it started.
    pub(crate) totals: Totals,
    /// The rates of all streams together, and their history.
    pub(crate) throughput: Throughput,
    /// The rows of open and recently ended streams.
    pub(crate) streams: StreamRows,
    /// The rows of public ports, open and recently closed.
    pub(crate) services: ServiceRows,
    /// The rows of connected and recently disconnected proxies.
    pub(crate) proxies: ProxyRows,
    /// The rows of users with open streams.
    pub(crate) users: UserRows,
}

/// The throughput of the whole server: present rates in bytes per second, and their history for the chart.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throughput {
    /// Bytes per second from all targets to all users, over the last second.
    pub(crate) down_rate: f64,
    /// Bytes per second from all users to all targets, over the last second.
    pub(crate) up_rate: f64,
    /// The two rates over the last hour, for the chart.
    pub(crate) history: RateHistory,
    /// The times of the last samples, by which the meters compute rates.
    clock: SampleClock,
    /// The meters from which `down_rate` and `up_rate` are computed, in this order.
    meters: (RateMeter, RateMeter),
}

impl Throughput {
    /// Records the byte totals of the server at a sample, and computes the rates.
    fn record(&mut self, now: Instant, totals: &Totals) {
        self.clock.tick(now);
        self.meters.0.record(&self.clock, totals.down);
        self.meters.1.record(&self.clock, totals.up);
        self.down_rate = self.meters.0.per_second(&self.clock);
        self.up_rate = self.meters.1.per_second(&self.clock);
        self.history.record(now, totals.down, totals.up);
    }
}

impl ServerState {
    /// Creates the state before the first sample: no rows, all counters zero.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            uptime: Duration::ZERO,
            sampled_at: now,
            totals: Totals::default(),
            throughput: Throughput::default(),
            streams: StreamRows::default(),
            services: ServiceRows::default(),
            proxies: ProxyRows::default(),
            users: UserRows::default(),
        }
    }

    /// Applies a snapshot of the server to all rows, totals and rates.
    pub(crate) fn sample(&mut self, snapshot: &Snapshot) {
        let now = self.now;
        (self.uptime, self.sampled_at) = (snapshot.uptime, now);
        self.totals = snapshot.totals;
        self.throughput.record(now, &snapshot.totals);
        self.services.sample(&snapshot.services, now);
        // Snapshots count times from the start of the server.
        let server_started = now.checked_sub(snapshot.uptime).unwrap_or(now);
        self.proxies.sample(&snapshot.proxies, now, server_started);
        self.users.sample(&snapshot.users, now, server_started);
        self.streams.sample(&snapshot.streams, now, server_started);
    }

    /// Returns how long the server has been running at the time that the ages of the rows are relative to. In a
    /// recording that is up to a second later than the last sample. While no sample arrives, the server may not run.
    pub(crate) fn uptime_now(&self) -> Duration {
        let since = self.now.saturating_duration_since(self.sampled_at);
        self.uptime + since.min(SAMPLE_INTERVAL_OF_RECORDING)
    }

    /// Returns the rows of the proxies screen: each proxy, its channels if it is unfolded, then the services. None
    /// without a proxy: the screen then shows how to connect one.
    pub(crate) fn proxy_lines(&self, unfolded: &[ProxyId]) -> Vec<ProxyLine> {
        let mut lines = self.proxies.lines(unfolded);
        if lines.is_empty() {
            return lines;
        }
        lines.extend(self.services.all().iter().map(|service| ProxyLine::Service(service.id)));
        lines
    }

    /// Returns the rows of the users table: each user, and its open streams if it is unfolded.
    pub(crate) fn user_lines(&self, unfolded: &[UserChannelId]) -> Vec<UserLine> {
        let streams = if unfolded.is_empty() { Vec::new() } else { self.streams.of_users(unfolded) };
        let mut lines = Vec::with_capacity(self.users.order().len() + streams.len());
        for user in self.users.order() {
            lines.push(UserLine::User(*user));
            let from = streams.partition_point(|(key, _)| key.user < *user);
            let theirs = streams[from..].iter().take_while(|(key, _)| key.user == *user);
            lines.extend(theirs.map(|(_, id)| UserLine::Stream(*user, *id)));
        }
        lines
    }

    /// Returns how many open streams a user has.
    pub(crate) fn streams_of(&self, user: UserChannelId) -> u64 {
        let rows = self.streams.order().iter().filter_map(|id| self.streams.get(*id));
        rows.filter(|row| row.is_live() && row.key.user == user).count() as u64
    }
}
