use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ChannelRow, LoadBalance, LoadMeasure, RateTrend, ServiceId,
    rate_meter::{RateMeter, SampleClock},
};
use crate::{
    ids::{ChannelId, Policy, ProxyId, RateLimits, ServiceKey, clean},
    telemetry::{ChannelState, DisconnectReason, Latencies, ProxySnapshot},
};

/// How many proxies that are gone are kept on screen, and for how long.
const MAX_GONE: usize = 16;

/// How many others have their names remembered.
const MAX_PAST: usize = 256;
const KEEP_GONE: Duration = Duration::from_secs(600);
/// How many names have a timeline, and how many spans each.
const MAX_LINKS: usize = 64;
const MAX_SPANS: usize = 32;

/// One proxy, there or gone.
#[derive(Debug, Clone)]
pub(crate) struct ProxyRow {
    pub(crate) id: ProxyId,
    pub(crate) name: String,
    pub(crate) services: Vec<ServiceKey>,
    pub(crate) channels: Vec<ChannelRow>,
    pub(crate) addr: SocketAddr,
    pub(crate) since: Instant,
    pub(crate) streams: u64,
    pub(crate) streams_total: u64,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) down_rate: f64,
    pub(crate) up_rate: f64,
    pub(crate) trend: RateTrend,
    /// Its share of new streams beside other proxies.
    pub(crate) weight: u32,
    /// It is given no new streams.
    pub(crate) draining: bool,
    /// It has no channel, and its streams still wait for so long.
    pub(crate) waits: Option<Duration>,
    pub(crate) limits: RateLimits,
    pub(crate) latency: Arc<Latencies>,
    /// Why it was refused a public port, while it has none.
    pub(crate) refused: Option<String>,
    pub(crate) gone: Option<ProxyDeparture>,
    meters: (RateMeter, RateMeter),
    seen: bool,
}

/// A row of the screen of proxies, services included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyLine {
    Proxy(ProxyId),
    Channel(ChannelId),
    Service(ServiceId),
}

/// How a link fared for some time, and how that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkSpan {
    proxy: ProxyId,
    pub(crate) state: LinkCondition,
    pub(crate) from: Instant,
    /// The same link was there before, in another state.
    pub(crate) goes_on: bool,
    pub(crate) end: Option<LinkSpanEnd>,
}

/// When a span ended, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkSpanEnd {
    pub(crate) at: Instant,
    pub(crate) how: LinkOutcome,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkOutcome {
    /// The link is in another state now.
    Changed,
    /// The proxy said goodbye.
    Left,
    /// It did not.
    Lost,
}

/// How a link fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkCondition {
    Up,
    /// It gets no new streams.
    Draining,
    /// It has lost every channel, and its streams wait.
    Away,
}

/// When a proxy went, and why, if that was told.
#[derive(Debug, Clone)]
pub(crate) struct ProxyDeparture {
    pub(crate) at: Instant,
    pub(crate) reason: Option<DisconnectReason>,
}

/// The proxies that are there, in the order in which they came, then the last ones that went.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyRows {
    list: Vec<ProxyRow>,
    /// The names of those that are not in the list any more: streams that they had carried still are.
    past: VecDeque<(ProxyId, String)>,
    clock: SampleClock,
    links: Vec<(String, VecDeque<LinkSpan>)>,
    last_second: Option<Instant>,
}

impl ProxyRows {
    pub(crate) fn all(&self) -> &[ProxyRow] {
        &self.list
    }

    /// Those that are there.
    pub(crate) fn up(&self) -> impl Iterator<Item = &ProxyRow> {
        self.list.iter().filter(|proxy| proxy.gone.is_none())
    }

    /// How many have a channel, and how many are waited for.
    pub(crate) fn here_and_away(&self) -> (u64, u64) {
        let away = self.up().filter(|proxy| proxy.waits.is_some()).count();
        ((self.up().count() - away) as u64, away as u64)
    }

    /// What a proxy calls itself; its id where nobody remembers.
    pub(crate) fn name(&self, id: ProxyId) -> String {
        match self.list.iter().find(|proxy| proxy.id == id) {
            Some(proxy) if !proxy.name.is_empty() => proxy.name.clone(),
            Some(_) => id.to_string(),
            None => {
                let past = self.past.iter().find(|(past, name)| *past == id && !name.is_empty());
                past.map_or_else(|| id.to_string(), |(_, name)| name.clone())
            }
        }
    }

    /// How many channels they have.
    pub(crate) fn channels(&self) -> usize {
        self.up().map(|proxy| proxy.channels.len()).sum()
    }

    /// How many streams they carry.
    pub(crate) fn streams(&self) -> u64 {
        self.up().map(|proxy| proxy.streams).sum()
    }

    /// How evenly the load is spread, as the policy wants it. Nothing where there is nothing to compare.
    pub(crate) fn balance(&self, policy: Policy, of: LoadMeasure) -> Option<LoadBalance> {
        let taking = self.up().filter(|proxy| proxy.takes());
        LoadBalance::of(taking.map(|proxy| proxy.load(of) / proxy.due(policy)).collect())
    }

    /// All of their load.
    pub(crate) fn load(&self, of: LoadMeasure) -> f64 {
        self.up().map(|proxy| proxy.load(of)).sum()
    }

    /// The share of the streams that a proxy is due under the policy; nothing for one that gets no new ones.
    pub(crate) fn fair_share(&self, proxy: &ProxyRow, policy: Policy) -> Option<f64> {
        let all: f64 = self.up().filter(|proxy| proxy.takes()).map(|proxy| proxy.due(policy)).sum();
        proxy.takes().then(|| proxy.due(policy) / all)
    }

    /// A proxy was refused a public port.
    pub(crate) fn refused(&mut self, id: ProxyId, reason: &str) {
        if let Some(proxy) = self.get_mut(id) {
            proxy.refused = Some(clean(reason, 80));
        }
    }

    /// A proxy has a public port.
    pub(crate) fn registered(&mut self, id: ProxyId) {
        if let Some(proxy) = self.get_mut(id) {
            proxy.refused = None;
        }
    }

    pub(crate) fn get_mut(&mut self, id: ProxyId) -> Option<&mut ProxyRow> {
        self.list.iter_mut().find(|proxy| proxy.id == id)
    }

    /// The proxy with this id.
    pub(crate) fn get(&self, id: ProxyId) -> Option<&ProxyRow> {
        self.list.iter().find(|proxy| proxy.id == id)
    }

    pub(crate) fn channel(&self, id: ChannelId) -> Option<&ChannelRow> {
        self.get(id.proxy)?.channels.iter().find(|channel| channel.id == id)
    }

    /// Rows of the screen of proxies: each proxy, and its channels where it is unfolded.
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

    /// When each name had a link, by the names' coming.
    pub(crate) fn links(&self) -> &[(String, VecDeque<LinkSpan>)] {
        &self.links
    }

    /// A proxy is gone.
    pub(crate) fn gone(&mut self, id: ProxyId, reason: &DisconnectReason, now: Instant) {
        if let Some(proxy) = self.list.iter_mut().find(|proxy| proxy.id == id) {
            let at = proxy.gone.as_ref().map_or(now, |gone| gone.at);
            let reason = match reason {
                DisconnectReason::IoError(why) => DisconnectReason::IoError(clean(why, 80)),
                DisconnectReason::Protocol(why) => DisconnectReason::Protocol(clean(why, 80)),
                other => other.clone(),
            };
            let lost = !matches!(reason, DisconnectReason::GoAway | DisconnectReason::Shutdown);
            proxy.leave(at, Some(reason));
            self.close_link(
                id,
                LinkSpanEnd { at, how: if lost { LinkOutcome::Lost } else { LinkOutcome::Left } },
            );
        }
    }

    fn open_link(&mut self, name: &str, span: LinkSpan) {
        let at = self.links.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            if self.links.len() == MAX_LINKS {
                self.links.remove(0);
            }
            self.links.push((name.to_owned(), VecDeque::new()));
            self.links.len() - 1
        });
        let spans = &mut self.links[at].1;
        if spans.len() == MAX_SPANS {
            spans.pop_front();
        }
        spans.push_back(span);
    }

    /// The span of this proxy that lasts. Proxies of one name come back before the server knows that they went.
    fn link_of(&mut self, id: ProxyId) -> Option<&mut LinkSpan> {
        let mut spans = self.links.iter_mut().flat_map(|(_, spans)| spans);
        spans.find(|span| span.proxy == id && span.end.is_none())
    }

    fn close_link(&mut self, id: ProxyId, end: LinkSpanEnd) {
        if let Some(span) = self.link_of(id) {
            span.end = Some(end);
        }
    }

    /// Notes how the link of the proxy at this place fares.
    fn note_link(&mut self, at: usize, now: Instant) {
        let proxy = &self.list[at];
        let (id, name, since, state) = (proxy.id, proxy.name.clone(), proxy.since, proxy.link_state());
        let last = self.link_of(id).map(|span| span.state);
        if last == Some(state) {
            return;
        }
        let goes_on = last.is_some();
        self.close_link(id, LinkSpanEnd { at: now, how: LinkOutcome::Changed });
        let from = if goes_on { now } else { since };
        self.open_link(&name, LinkSpan { proxy: id, state, from, goes_on, end: None });
    }

    /// Takes what a snapshot says.
    pub(crate) fn sample(&mut self, snapshots: &[ProxySnapshot], now: Instant, server_started: Instant) {
        self.clock.tick(now);
        self.list.iter_mut().for_each(|proxy| proxy.seen = false);
        for snapshot in snapshots {
            let known = self.list.iter().position(|proxy| proxy.id == snapshot.id);
            let at = known.unwrap_or_else(|| {
                self.list.push(ProxyRow::new(snapshot, server_started));
                self.list.len() - 1
            });
            self.list[at].sample(snapshot, &self.clock);
            self.note_link(at, now);
        }
        let mut left = Vec::new();
        for proxy in self.list.iter_mut().filter(|proxy| !proxy.seen && proxy.gone.is_none()) {
            proxy.leave(now, None);
            left.push(proxy.id);
        }
        left.into_iter().for_each(|id| self.close_link(id, LinkSpanEnd { at: now, how: LinkOutcome::Lost }));
        self.forget(now);
        if self.last_second.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(1)) {
            self.last_second = Some(now);
            for proxy in self.list.iter_mut().filter(|proxy| proxy.gone.is_none()) {
                proxy.trend.push(proxy.down_rate as f32, proxy.up_rate as f32);
            }
        }
        // There before gone; those by their coming, these by their going.
        self.list.sort_by_key(|proxy| {
            (
                proxy.gone.is_some(),
                proxy.gone.as_ref().map(|gone| now.saturating_duration_since(gone.at)),
                proxy.id,
            )
        });
    }

    fn forget(&mut self, now: Instant) {
        // One that came back under the same name says enough; its earlier self would only take a row.
        let names: Vec<String> = self.up().map(|proxy| proxy.name.clone()).collect();
        let mut kept = 0;
        self.list.retain_mut(|proxy| match &proxy.gone {
            None => true,
            Some(gone) => {
                let keep = kept < MAX_GONE
                    && !names.contains(&proxy.name)
                    && now.saturating_duration_since(gone.at) < KEEP_GONE;
                kept += usize::from(keep);
                if !keep {
                    self.past.push_back((proxy.id, std::mem::take(&mut proxy.name)));
                }
                keep
            }
        });
        self.past.drain(..self.past.len().saturating_sub(MAX_PAST));
    }
}

impl ProxyRow {
    fn new(snapshot: &ProxySnapshot, server_started: Instant) -> Self {
        Self {
            id: snapshot.id,
            name: clean(&snapshot.name, 255),
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
            waits: snapshot.grace_remaining,
            limits: snapshot.limits,
            latency: snapshot.latency.clone(),
            refused: None,
            gone: None,
            meters: Default::default(),
            seen: true,
        }
    }

    fn sample(&mut self, snapshot: &ProxySnapshot, clock: &SampleClock) {
        self.seen = true;
        self.gone = None;
        self.services.clone_from(&snapshot.services);
        (self.streams, self.streams_total) = (snapshot.streams_open, snapshot.streams_total);
        (self.down, self.up) = (snapshot.down, snapshot.up);
        (self.weight, self.draining, self.limits) = (snapshot.weight, snapshot.draining, snapshot.limits);
        self.waits = snapshot.grace_remaining;
        self.latency.clone_from(&snapshot.latency);
        self.meters.0.note(clock, snapshot.down);
        self.meters.1.note(clock, snapshot.up);
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

    /// Bytes a second both ways.
    pub(crate) fn rate(&self) -> f64 {
        self.down_rate + self.up_rate
    }

    /// Whether it gets new streams: one that does not is not out of balance.
    fn takes(&self) -> bool {
        self.gone.is_none() && !self.drains() && self.waits.is_none() && !self.services.is_empty()
    }

    fn link_state(&self) -> LinkCondition {
        match (self.waits, self.drains()) {
            (Some(_), _) => LinkCondition::Away,
            (None, true) => LinkCondition::Draining,
            (None, false) => LinkCondition::Up,
        }
    }

    /// Whether it gets no new streams: the operator wants it so, or it said that it is about to go.
    pub(crate) fn drains(&self) -> bool {
        let leaving = |channel: &ChannelRow| channel.state == ChannelState::GoingAway;
        self.draining || self.channels.iter().any(leaving)
    }

    /// How much it carries now.
    pub(crate) fn load(&self, of: LoadMeasure) -> f64 {
        match of {
            LoadMeasure::Streams => self.streams as f64,
            LoadMeasure::Bytes => self.rate(),
        }
    }

    /// How much it is due beside others: by its weight where the policy goes by weights.
    fn due(&self, policy: Policy) -> f64 {
        match policy {
            Policy::Weighted | Policy::LeastStreams => self.weight.max(1).into(),
            Policy::RoundRobin | Policy::PeakEwma => 1.0,
        }
    }

    fn leave(&mut self, at: Instant, reason: Option<DisconnectReason>) {
        self.channels.clear();
        (self.streams, self.down_rate, self.up_rate) = (0, 0.0, 0.0);
        self.gone = Some(ProxyDeparture { at, reason });
    }
}
