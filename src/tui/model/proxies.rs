use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::meter::{Meter, SampleClock};
use crate::{
    ids::{ChannelId, ProxyId, ServiceKey, clean},
    telemetry::{ChannelSnapshot, Format, GoneReason, ProxySnapshot},
};

/// How many proxies that are gone are kept on screen, and for how long.
const MAX_GONE: usize = 16;
const KEEP_GONE: Duration = Duration::from_secs(600);
/// How many names have a timeline, and how many spans each.
const MAX_LINKS: usize = 64;
const MAX_SPANS: usize = 32;

/// One proxy, there or gone.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) id: ProxyId,
    pub(crate) name: String,
    pub(crate) services: Vec<ServiceKey>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) addr: SocketAddr,
    pub(crate) since: Instant,
    pub(crate) streams: u64,
    pub(crate) streams_ever: u64,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) down_rate: f64,
    pub(crate) up_rate: f64,
    pub(crate) gone: Option<Gone>,
    meters: (Meter, Meter),
    seen: bool,
}

/// One channel of a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) addr: SocketAddr,
    pub(crate) format: Format,
    pub(crate) age: Duration,
    pub(crate) rtt: Option<Duration>,
    pub(crate) streams: u64,
    /// Bytes a second from and to the proxy, framing included.
    pub(crate) received_rate: f64,
    pub(crate) sent_rate: f64,
    meters: (Meter, Meter),
}

/// A row of the screen of proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyLine {
    Proxy(ProxyId),
    Channel(ChannelId),
}

/// When a name had a link, and how that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) from: Instant,
    /// Nothing while it lasts.
    pub(crate) to: Option<Instant>,
    /// Whether it went without saying goodbye.
    pub(crate) lost: bool,
}

/// When a proxy went, and why, if that was told.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub(crate) at: Instant,
    pub(crate) reason: Option<GoneReason>,
}

/// The proxies that are there, in the order in which they came, then the last ones that went.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    list: Vec<Proxy>,
    clock: SampleClock,
    links: Vec<(String, VecDeque<Span>)>,
}

impl Proxies {
    pub(crate) fn all(&self) -> &[Proxy] {
        &self.list
    }

    /// Those that are there.
    pub(crate) fn up(&self) -> impl Iterator<Item = &Proxy> {
        self.list.iter().filter(|proxy| proxy.gone.is_none())
    }

    /// What a proxy calls itself; its id where nobody remembers.
    pub(crate) fn name(&self, id: ProxyId) -> String {
        match self.list.iter().find(|proxy| proxy.id == id) {
            Some(proxy) if !proxy.name.is_empty() => proxy.name.clone(),
            _ => id.to_string(),
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

    /// How far the busiest proxy is above the mean: 1 is even. Nothing where there is nothing to compare.
    pub(crate) fn imbalance(&self) -> Option<f64> {
        let (count, total) = (self.up().count(), self.streams());
        let busiest = self.up().map(|proxy| proxy.streams).max()?;
        (count > 1 && total > 0).then(|| busiest as f64 * count as f64 / total as f64)
    }

    /// How unevenly streams are spread, from 0 (all the same) to 1 (one has them all): the Gini coefficient.
    pub(crate) fn gini(&self) -> Option<f64> {
        let mut shares: Vec<u64> = self.up().map(|proxy| proxy.streams).collect();
        let (count, total) = (shares.len(), shares.iter().sum::<u64>());
        if count < 2 || total == 0 {
            return None;
        }
        shares.sort_unstable();
        let weighted: f64 = shares.iter().enumerate().map(|(i, n)| (i + 1) as f64 * *n as f64).sum();
        let gini = 2.0 * weighted / (count as f64 * total as f64) - (count as f64 + 1.0) / count as f64;
        // Scaled, so that one of two that has everything is 1 and not a half.
        Some((gini * count as f64 / (count as f64 - 1.0)).clamp(0.0, 1.0))
    }

    /// The proxy with this id.
    pub(crate) fn get(&self, id: ProxyId) -> Option<&Proxy> {
        self.list.iter().find(|proxy| proxy.id == id)
    }

    /// The rows of the screen of proxies: each proxy, and its channels where it is unfolded.
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
    pub(crate) fn links(&self) -> &[(String, VecDeque<Span>)] {
        &self.links
    }

    /// A proxy is gone.
    pub(crate) fn gone(&mut self, id: ProxyId, reason: &GoneReason, now: Instant) {
        if let Some(proxy) = self.list.iter_mut().find(|proxy| proxy.id == id) {
            let at = proxy.gone.as_ref().map_or(now, |gone| gone.at);
            let reason = match reason {
                GoneReason::Failed(why) => GoneReason::Failed(clean(why, 80)),
                GoneReason::Protocol(why) => GoneReason::Protocol(clean(why, 80)),
                other => other.clone(),
            };
            let lost = !matches!(reason, GoneReason::Left | GoneReason::Shutdown);
            proxy.leave(at, Some(reason));
            let name = proxy.name.clone();
            self.unlink(&name, at, lost);
        }
    }

    fn link(&mut self, name: &str, from: Instant) {
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
        spans.push_back(Span { from, to: None, lost: false });
    }

    fn unlink(&mut self, name: &str, at: Instant, lost: bool) {
        let link = self.links.iter_mut().find(|(known, _)| known == name);
        // The oldest that is open: proxies of one name come back before the server knows that they went.
        let open = link.and_then(|(_, spans)| spans.iter_mut().find(|span| span.to.is_none()));
        if let Some(span) = open {
            (span.to, span.lost) = (Some(at), lost);
        }
    }

    /// Takes what a snapshot says.
    pub(crate) fn sample(&mut self, snapshots: &[ProxySnapshot], now: Instant) {
        self.clock.tick(now);
        self.list.iter_mut().for_each(|proxy| proxy.seen = false);
        for snapshot in snapshots {
            let known = self.list.iter().position(|proxy| proxy.id == snapshot.id);
            let at = known.unwrap_or_else(|| {
                let proxy = Proxy::new(snapshot);
                self.link(&proxy.name.clone(), proxy.since);
                self.list.push(proxy);
                self.list.len() - 1
            });
            self.list[at].sample(snapshot, &self.clock);
        }
        let mut left = Vec::new();
        for proxy in self.list.iter_mut().filter(|proxy| !proxy.seen && proxy.gone.is_none()) {
            proxy.leave(now, None);
            left.push(proxy.name.clone());
        }
        left.iter().for_each(|name| self.unlink(name, now, true));
        self.forget(now);
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
        self.list.retain(|proxy| match &proxy.gone {
            None => true,
            Some(gone) => {
                let keep = kept < MAX_GONE
                    && !names.contains(&proxy.name)
                    && now.saturating_duration_since(gone.at) < KEEP_GONE;
                kept += usize::from(keep);
                keep
            }
        });
    }
}

impl Proxy {
    fn new(snapshot: &ProxySnapshot) -> Self {
        Self {
            id: snapshot.id,
            name: clean(&snapshot.info.name, 64),
            services: Vec::new(),
            channels: Vec::new(),
            addr: snapshot.info.addr,
            since: snapshot.info.since,
            streams: 0,
            streams_ever: 0,
            down: 0,
            up: 0,
            down_rate: 0.0,
            up_rate: 0.0,
            gone: None,
            meters: Default::default(),
            seen: true,
        }
    }

    fn sample(&mut self, snapshot: &ProxySnapshot, clock: &SampleClock) {
        self.seen = true;
        self.gone = None;
        self.services.clone_from(&snapshot.services);
        (self.streams, self.streams_ever) = (snapshot.streams_open, snapshot.streams_ever);
        (self.down, self.up) = (snapshot.down, snapshot.up);
        self.meters.0.note(clock, snapshot.down);
        self.meters.1.note(clock, snapshot.up);
        self.down_rate = self.meters.0.per_second(clock);
        self.up_rate = self.meters.1.per_second(clock);
        self.channels.retain(|channel| snapshot.channels.iter().any(|new| new.id == channel.id));
        for new in &snapshot.channels {
            let at = self.channels.iter().position(|channel| channel.id == new.id).unwrap_or_else(|| {
                self.channels.push(Channel::new(new));
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

    fn leave(&mut self, at: Instant, reason: Option<GoneReason>) {
        self.channels.clear();
        (self.streams, self.down_rate, self.up_rate) = (0, 0.0, 0.0);
        self.gone = Some(Gone { at, reason });
    }
}

impl Channel {
    fn new(snapshot: &ChannelSnapshot) -> Self {
        Self {
            id: snapshot.id,
            addr: snapshot.addr,
            format: snapshot.format,
            age: snapshot.age,
            rtt: None,
            streams: 0,
            received_rate: 0.0,
            sent_rate: 0.0,
            meters: Default::default(),
        }
    }

    fn sample(&mut self, snapshot: &ChannelSnapshot, clock: &SampleClock) {
        (self.age, self.rtt, self.streams) = (snapshot.age, snapshot.rtt, snapshot.streams_open);
        self.meters.0.note(clock, snapshot.received);
        self.meters.1.note(clock, snapshot.sent);
        self.received_rate = self.meters.0.per_second(clock);
        self.sent_rate = self.meters.1.per_second(clock);
    }
}
