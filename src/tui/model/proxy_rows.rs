//! The rows of proxies, connected or recently disconnected, and the timelines of their links. Filled from snapshots;
//! the reason of a disconnection comes with an event.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ChannelRow, LinkCondition, LinkOutcome, LinkSpan, LinkTimelines, LoadBalance, LoadMeasure, RateTrend,
    ServiceId,
    link_span::LinkSpanEnd,
    rate_meter::{RateMeter, SampleClock},
};
use crate::{
    ids::{ChannelId, Policy, ProxyId, RateLimits, ServiceKey, clean},
    telemetry::{ChannelState, DisconnectReason, Latencies, ProxySnapshot},
    tui::format::truncate_middle,
};

/// The largest width in cells of the name of a proxy in a notice or a dialog: a name may have 255 characters, and must
/// not push what happened to the proxy off the screen.
const SENTENCE_NAME_WIDTH: usize = 26;
/// The largest number of disconnected proxies that are listed.
const MAX_DISCONNECTED: usize = 16;
/// The time for which a disconnected proxy is listed.
const KEEP_DISCONNECTED: Duration = Duration::from_secs(600);
/// How long a proxy may be connected again before the server notices that its old connections are lost.
const MAX_RECONNECT_OVERLAP: Duration = Duration::from_secs(60);
/// How many names of proxies that are no longer listed are remembered, for the rows of their streams.
const MAX_PAST_NAMES: usize = 256;
/// The row of one proxy, connected or recently disconnected. Rates are in bytes per second.
#[derive(Debug, Clone)]
pub(crate) struct ProxyRow {
    /// The id that the server gave the proxy, such as `P2`.
    pub(crate) id: ProxyId,
    /// The name that the proxy gave itself, sanitized; empty where it gave none.
    pub(crate) name: String,
    /// The name by which the screens call the proxy: its own, with its id where another listed proxy has the same name;
    /// its id where it has none.
    pub(crate) label: String,
    /// The public ports that the proxy has registered.
    pub(crate) services: Vec<ServiceKey>,
    /// The channels (TCP connections) between the proxy and the server, sorted by number.
    pub(crate) channels: Vec<ChannelRow>,
    /// The remote address of the proxy's first channel.
    pub(crate) addr: SocketAddr,
    /// When the proxy established its link (its session over all its channels) with the server.
    pub(crate) since: Instant,
    /// How many streams assigned to this proxy are open.
    pub(crate) streams: u64,
    /// How many streams were assigned to the proxy since it connected.
    pub(crate) streams_total: u64,
    /// Bytes forwarded from the proxy's targets to users since the proxy connected.
    pub(crate) down: u64,
    /// Bytes forwarded from users to the proxy's targets since the proxy connected.
    pub(crate) up: u64,
    /// Bytes per second from the proxy's targets to users, over the last second.
    pub(crate) down_rate: f64,
    /// Bytes per second from users to the proxy's targets, over the last second.
    pub(crate) up_rate: f64,
    /// The two rates in each of the last seconds, for the sparkline.
    pub(crate) trend: RateTrend,
    /// The proxy's weight for new streams; only the weighted policies use it.
    pub(crate) weight: u32,
    /// Whether the operator drains the proxy: it is assigned no new streams.
    pub(crate) draining: bool,
    /// The rest of the grace period in which it can resume its streams; `None` while it has a channel.
    pub(crate) grace_remaining: Option<Duration>,
    /// The rate limits that the operator set for all streams of this proxy together.
    pub(crate) limits: RateLimits,
    /// Connect latency and time to first byte of the streams of this proxy, as percentiles.
    pub(crate) latency: Arc<Latencies>,
    /// Why its last registration of a public port was refused; `None` once one has succeeded.
    pub(crate) registration_error: Option<String>,
    /// When and why it disconnected; `None` while it is connected.
    pub(crate) disconnection: Option<Disconnection>,
    /// The meters from which `down_rate` and `up_rate` are computed, in this order.
    meters: (RateMeter, RateMeter),
    /// Whether the snapshot that is being applied contains the proxy.
    is_in_snapshot: bool,
}

/// Identifies a line of the proxies screen: a proxy, a channel of an unfolded proxy, or a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyLine {
    Proxy(ProxyId),
    Channel(ChannelId),
    Service(ServiceId),
}

/// When a proxy disconnected, and why. The reason is `None` where its event was missed.
#[derive(Debug, Clone)]
pub(crate) struct Disconnection {
    /// When the proxy disconnected, as the cockpit noticed it.
    pub(crate) at: Instant,
    /// Why the proxy disconnected; `None` where the event with the reason was missed.
    pub(crate) reason: Option<DisconnectReason>,
}

/// The rows of all proxies: the connected ones by id, then recently disconnected ones, the last one first.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyRows {
    /// The rows: connected proxies by id, then recently disconnected ones, the last one first.
    list: Vec<ProxyRow>,
    /// The labels of proxies that are no longer listed: rows of their streams still show them.
    past_names: VecDeque<(ProxyId, String)>,
    /// The times of the last samples, by which the rate meters of all rows compute rates.
    clock: SampleClock,
    /// The timelines of the links of all proxies.
    links: LinkTimelines,
    /// When the rate trends last got a value; they get one per second.
    trends_updated_at: Option<Instant>,
}

impl ProxyRows {
    /// Returns all rows: connected proxies by id, then recently disconnected ones, the last one first.
    pub(crate) fn all(&self) -> &[ProxyRow] {
        &self.list
    }

    /// Returns the proxies whose link exists, including those in their grace period without a channel.
    pub(crate) fn connected(&self) -> impl Iterator<Item = &ProxyRow> {
        self.list.iter().filter(|proxy| proxy.disconnection.is_none())
    }

    /// Returns how many proxies have a channel, and how many are in their grace period without one.
    pub(crate) fn connected_and_in_grace_period(&self) -> (u64, u64) {
        let away = self.connected().filter(|proxy| proxy.grace_remaining.is_some()).count();
        ((self.connected().count() - away) as u64, away as u64)
    }

    /// Returns the label of a proxy, also of one that is no longer listed; its id if it has no name or is not
    /// remembered.
    pub(crate) fn name(&self, id: ProxyId) -> String {
        let listed = self.get(id).map(|proxy| &proxy.label);
        let past = || self.past_names.iter().find(|(past, _)| *past == id).map(|(_, label)| label);
        listed.or_else(past).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Returns the label of a proxy for a sentence, in at most [`SENTENCE_NAME_WIDTH`] cells.
    pub(crate) fn short_name(&self, id: ProxyId) -> String {
        truncate_middle(&self.name(id), SENTENCE_NAME_WIDTH)
    }

    /// Returns the largest number that a proxy has had; 0 before the first one.
    pub(crate) fn last_number(&self) -> u32 {
        let past = self.past_names.iter().map(|(id, _)| *id);
        self.list.iter().map(|proxy| proxy.id).chain(past).map(|id| id.0).max().unwrap_or(0)
    }

    /// Returns whether two listed proxies have the same name.
    pub(crate) fn has_equal_names(&self) -> bool {
        self.list.iter().any(|proxy| proxy.label != proxy.name && !proxy.name.is_empty())
    }

    /// Gives each row its label: equal names get the id of their proxy, so that nobody drains or kicks the wrong one.
    fn label_rows(&mut self) {
        let mut names: Vec<String> = self.list.iter().map(|proxy| proxy.name.clone()).collect();
        names.sort_unstable();
        for proxy in &mut self.list {
            let first = names.partition_point(|name| *name < proxy.name);
            let is_shared = names.get(first + 1).is_some_and(|next| *next == proxy.name);
            let label = match (proxy.name.as_str(), is_shared) {
                ("", _) => proxy.id.to_string(),
                (name, true) => format!("{name} {}", proxy.id),
                (name, false) => name.to_owned(),
            };
            proxy.label = label;
        }
    }

    /// Returns the number of channels of all proxies together.
    pub(crate) fn channels(&self) -> usize {
        self.connected().map(|proxy| proxy.channels.len()).sum()
    }

    /// Returns the number of open streams of all proxies together.
    pub(crate) fn streams(&self) -> u64 {
        self.connected().map(|proxy| proxy.streams).sum()
    }

    /// Returns how evenly the load is distributed, relative to the share that the policy gives each proxy. `None`
    /// where fewer than two proxies accept streams, or without load.
    pub(crate) fn balance(&self, policy: Policy, of: LoadMeasure) -> Option<LoadBalance> {
        let taking = self.connected().filter(|proxy| proxy.accepts_streams());
        LoadBalance::of(taking.map(|proxy| proxy.load(of) / proxy.relative_share(policy)).collect())
    }

    /// Returns the load of all proxies together: open streams, or bytes per second.
    pub(crate) fn load(&self, of: LoadMeasure) -> f64 {
        self.connected().map(|proxy| proxy.load(of)).sum()
    }

    /// Returns the share of new streams that the policy gives to a proxy, 0 to 1; `None` for a proxy that is assigned
    /// no new streams.
    pub(crate) fn fair_share(&self, proxy: &ProxyRow, policy: Policy) -> Option<f64> {
        let all: f64 = self
            .connected()
            .filter(|proxy| proxy.accepts_streams())
            .map(|proxy| proxy.relative_share(policy))
            .sum();
        proxy.accepts_streams().then(|| proxy.relative_share(policy) / all)
    }

    /// Records why the server refused to open a public port for the proxy.
    pub(crate) fn registration_refused(&mut self, id: ProxyId, reason: &str) {
        if let Some(proxy) = self.get_mut(id) {
            proxy.registration_error = Some(clean(reason, 80));
        }
    }

    /// Records that the proxy has registered a public port: an earlier refusal is no longer shown.
    pub(crate) fn registered(&mut self, id: ProxyId) {
        if let Some(proxy) = self.get_mut(id) {
            proxy.registration_error = None;
        }
    }

    /// Returns the row of the proxy with this id; `None` where it is not listed.
    pub(crate) fn get_mut(&mut self, id: ProxyId) -> Option<&mut ProxyRow> {
        self.list.iter_mut().find(|proxy| proxy.id == id)
    }

    /// Returns the row of the proxy with this id; `None` where it is not listed.
    pub(crate) fn get(&self, id: ProxyId) -> Option<&ProxyRow> {
        self.list.iter().find(|proxy| proxy.id == id)
    }

    /// Returns the row of this channel; `None` where the channel or its proxy is not listed.
    pub(crate) fn channel(&self, id: ChannelId) -> Option<&ChannelRow> {
        self.get(id.proxy)?.channels.iter().find(|channel| channel.id == id)
    }

    /// Returns the rows of the proxy table: each proxy, and its channels if it is unfolded.
    pub(crate) fn lines(&self, unfolded: &[ProxyId]) -> Vec<ProxyLine> {
        let mut lines = Vec::new();
        for proxy in &self.list {
            lines.push(ProxyLine::Proxy(proxy.id));
            if unfolded.contains(&proxy.id) {
                lines.extend(proxy.channels.iter().map(|channel| ProxyLine::Channel(channel.id)));
            }
        }
        lines
    }

    /// Returns the timelines of the links of all proxies.
    pub(crate) fn links(&self) -> &LinkTimelines {
        &self.links
    }

    /// Applies the event that a proxy disconnected: records when and why, and ends its span in the timeline.
    pub(crate) fn mark_disconnected(&mut self, id: ProxyId, reason: &DisconnectReason, now: Instant) {
        if let Some(proxy) = self.list.iter_mut().find(|proxy| proxy.id == id) {
            let at = proxy.disconnection.as_ref().map_or(now, |gone| gone.at);
            let reason = match reason {
                DisconnectReason::IoError(why) => DisconnectReason::IoError(clean(why, 80)),
                DisconnectReason::Protocol(why) => DisconnectReason::Protocol(clean(why, 80)),
                DisconnectReason::Tls(why) => DisconnectReason::Tls(clean(why, 80)),
                other => other.clone(),
            };
            let lost = !matches!(reason, DisconnectReason::GoAway | DisconnectReason::Shutdown);
            proxy.mark_disconnected(at, Some(reason));
            let outcome = if lost { LinkOutcome::Lost } else { LinkOutcome::Closed };
            self.links.close(id, LinkSpanEnd { at, outcome });
        }
    }

    /// Begins a new span in the timeline if the condition of the link of the proxy at this index has changed.
    fn update_link(&mut self, at: usize, now: Instant) {
        let proxy = &self.list[at];
        let (id, since, condition) = (proxy.id, proxy.since, proxy.link_condition());
        let name = if proxy.name.is_empty() { id.to_string() } else { proxy.name.clone() };
        let last = self.links.open_span(id).map(|span| span.condition);
        // A proxy that serves no port has never been up.
        if last == Some(condition) || (last.is_none() && proxy.services.is_empty()) {
            return;
        }
        let continues_previous = last.is_some();
        self.links.close(id, LinkSpanEnd { at: now, outcome: LinkOutcome::ConditionChanged });
        let from = if continues_previous { now } else { since };
        self.links.open(name, LinkSpan { proxy: id, condition, from, continues_previous, end: None });
    }

    /// Applies the proxies of a snapshot. A proxy that it does not contain has disconnected.
    pub(crate) fn sample(&mut self, snapshots: &[ProxySnapshot], now: Instant, server_started: Instant) {
        self.clock.tick(now);
        self.list.iter_mut().for_each(|proxy| proxy.is_in_snapshot = false);
        for snapshot in snapshots {
            let known = self.list.iter().position(|proxy| proxy.id == snapshot.id);
            let at = known.unwrap_or_else(|| {
                self.list.push(ProxyRow::new(snapshot, server_started));
                self.list.len() - 1
            });
            self.list[at].sample(snapshot, &self.clock);
            self.update_link(at, now);
        }
        let mut left = Vec::new();
        for proxy in
            self.list.iter_mut().filter(|proxy| !proxy.is_in_snapshot && proxy.disconnection.is_none())
        {
            proxy.mark_disconnected(now, None);
            left.push(proxy.id);
        }
        left.into_iter()
            .for_each(|id| self.links.close(id, LinkSpanEnd { at: now, outcome: LinkOutcome::Lost }));
        self.drop_old(now);
        if self.trends_updated_at.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(1))
        {
            self.trends_updated_at = Some(now);
            for proxy in self.list.iter_mut().filter(|proxy| proxy.disconnection.is_none()) {
                proxy.trend.push(proxy.down_rate as f32, proxy.up_rate as f32);
            }
        }
        self.label_rows();
        // Connected proxies by id, then disconnected ones, the last one first.
        self.list.sort_by_key(|proxy| {
            (
                proxy.disconnection.is_some(),
                proxy.disconnection.as_ref().map(|gone| now.saturating_duration_since(gone.at)),
                proxy.id,
            )
        });
    }

    /// Removes disconnected proxies that are too old, too many, or connected again.
    fn drop_old(&mut self, now: Instant) {
        // The row of a proxy that has reconnected under its name replaces its old one. Another proxy of this name,
        // which was connected all the time, does not.
        let connected: Vec<(ProxyId, String, Instant)> =
            self.connected().map(|proxy| (proxy.id, proxy.name.clone(), proxy.since)).collect();
        let mut kept = 0;
        self.list.retain_mut(|proxy| match &proxy.disconnection {
            None => true,
            Some(gone) => {
                let is_replaced = connected.iter().any(|(id, name, since)| {
                    *id > proxy.id && *name == proxy.name && *since + MAX_RECONNECT_OVERLAP >= gone.at
                });
                let keep = kept < MAX_DISCONNECTED
                    && !is_replaced
                    && now.saturating_duration_since(gone.at) < KEEP_DISCONNECTED;
                kept += usize::from(keep);
                if !keep {
                    self.past_names.push_back((proxy.id, std::mem::take(&mut proxy.label)));
                }
                keep
            }
        });
        self.past_names.drain(..self.past_names.len().saturating_sub(MAX_PAST_NAMES));
    }
}

impl ProxyRow {
    /// Creates the row of a proxy on its first snapshot. Figures that change are zero until [`sample`](Self::sample).
    fn new(snapshot: &ProxySnapshot, server_started: Instant) -> Self {
        Self {
            id: snapshot.id,
            name: clean(&snapshot.name, 255),
            label: snapshot.id.to_string(),
            services: Vec::new(),
            channels: Vec::new(),
            addr: snapshot.addr,
            since: server_started + snapshot.connected_at,
            streams: 0,
            streams_total: 0,
            down: 0,
            up: 0,
            down_rate: 0.0,
            up_rate: 0.0,
            trend: RateTrend::default(),
            weight: snapshot.weight,
            draining: snapshot.draining,
            grace_remaining: snapshot.grace_remaining,
            limits: snapshot.limits,
            latency: snapshot.latency.clone(),
            registration_error: None,
            disconnection: None,
            meters: Default::default(),
            is_in_snapshot: true,
        }
    }

    /// Updates the row and its channels from a snapshot, and computes the rates from the byte counters. `clock` has
    /// been advanced to the time of the snapshot.
    fn sample(&mut self, snapshot: &ProxySnapshot, clock: &SampleClock) {
        self.is_in_snapshot = true;
        self.disconnection = None;
        self.services.clone_from(&snapshot.services);
        (self.streams, self.streams_total) = (snapshot.streams_open, snapshot.streams_total);
        (self.down, self.up) = (snapshot.down, snapshot.up);
        (self.weight, self.draining, self.limits) = (snapshot.weight, snapshot.draining, snapshot.limits);
        self.grace_remaining = snapshot.grace_remaining;
        self.latency.clone_from(&snapshot.latency);
        self.meters.0.record(clock, snapshot.down);
        self.meters.1.record(clock, snapshot.up);
        self.down_rate = self.meters.0.per_second(clock);
        self.up_rate = self.meters.1.per_second(clock);
        self.channels.retain(|channel| snapshot.channels.iter().any(|new| new.id == channel.id));
        for new in &snapshot.channels {
            let at = self.channels.iter().position(|channel| channel.id == new.id).unwrap_or_else(|| {
                self.channels.push(ChannelRow::new(new));
                self.channels.len() - 1
            });
            self.channels[at].sample(new, clock);
        }
        self.channels.sort_by_key(|channel| channel.id);
    }

    /// Returns the bytes per second that the proxy forwards, both directions together.
    pub(crate) fn rate(&self) -> f64 {
        self.down_rate + self.up_rate
    }

    /// Returns whether new streams are assigned to this proxy: it is connected, not draining, not in its grace
    /// period, and serves a port. Proxies without new streams do not count for the imbalance.
    fn accepts_streams(&self) -> bool {
        self.disconnection.is_none()
            && !self.is_draining()
            && self.grace_remaining.is_none()
            && !self.services.is_empty()
    }

    /// Returns the condition of the link between the server and this proxy.
    fn link_condition(&self) -> LinkCondition {
        match (self.grace_remaining, self.is_draining()) {
            (Some(_), _) => LinkCondition::GracePeriod,
            (None, true) => LinkCondition::Draining,
            (None, false) => LinkCondition::Up,
        }
    }

    /// Returns whether the proxy is assigned no new streams because the operator drains it or it announced its
    /// departure (GOAWAY).
    pub(crate) fn is_draining(&self) -> bool {
        let leaving = |channel: &ChannelRow| channel.state == ChannelState::GoingAway;
        self.draining || self.channels.iter().any(leaving)
    }

    /// Returns the present load of the proxy: open streams, or bytes per second.
    pub(crate) fn load(&self, of: LoadMeasure) -> f64 {
        match of {
            LoadMeasure::Streams => self.streams as f64,
            LoadMeasure::Bytes => self.rate(),
        }
    }

    /// Returns the share of new streams that the policy gives to the proxy relative to others: its weight under the
    /// policies that use weights, else 1.
    fn relative_share(&self, policy: Policy) -> f64 {
        match policy {
            Policy::Weighted | Policy::LeastStreams => self.weight.max(1).into(),
            Policy::RoundRobin | Policy::PeakEwma => 1.0,
        }
    }

    /// Records that the proxy disconnected: removes its channels, sets streams and rates to 0, and keeps its byte
    /// totals.
    fn mark_disconnected(&mut self, at: Instant, reason: Option<DisconnectReason>) {
        self.channels.clear();
        (self.streams, self.down_rate, self.up_rate) = (0, 0.0, 0.0);
        self.disconnection = Some(Disconnection { at, reason });
    }
}
