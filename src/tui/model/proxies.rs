use std::time::{Duration, Instant};

use super::meter::{Meter, SampleClock};
use crate::{
    ids::{ProxyId, ServiceKey, clean},
    telemetry::{GoneReason, ProxySnapshot},
};

/// How many proxies that are gone are kept on screen, and for how long.
const MAX_GONE: usize = 16;
const KEEP_GONE: Duration = Duration::from_secs(600);

/// One proxy, there or gone.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) id: ProxyId,
    pub(crate) name: String,
    pub(crate) services: Vec<ServiceKey>,
    pub(crate) channels: usize,
    pub(crate) streams: u64,
    pub(crate) rate: f64,
    pub(crate) gone: Option<Gone>,
    meter: Meter,
    seen: bool,
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
        self.up().map(|proxy| proxy.channels).sum()
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

    /// A proxy is gone.
    pub(crate) fn gone(&mut self, id: ProxyId, reason: &GoneReason, now: Instant) {
        if let Some(proxy) = self.list.iter_mut().find(|proxy| proxy.id == id) {
            let at = proxy.gone.as_ref().map_or(now, |gone| gone.at);
            let reason = match reason {
                GoneReason::Failed(why) => GoneReason::Failed(clean(why, 80)),
                GoneReason::Protocol(why) => GoneReason::Protocol(clean(why, 80)),
                other => other.clone(),
            };
            proxy.leave(at, Some(reason));
        }
    }

    /// Takes what a snapshot says.
    pub(crate) fn sample(&mut self, snapshots: &[ProxySnapshot], now: Instant) {
        self.clock.tick(now);
        self.list.iter_mut().for_each(|proxy| proxy.seen = false);
        for snapshot in snapshots {
            let at = self.list.iter().position(|proxy| proxy.id == snapshot.id).unwrap_or_else(|| {
                self.list.push(Proxy::new(snapshot));
                self.list.len() - 1
            });
            let proxy = &mut self.list[at];
            proxy.seen = true;
            proxy.gone = None;
            proxy.services.clone_from(&snapshot.services);
            proxy.channels = snapshot.channels.len();
            proxy.streams = snapshot.streams_open;
            proxy.meter.note(&self.clock, snapshot.down.saturating_add(snapshot.up));
            proxy.rate = proxy.meter.per_second(&self.clock);
        }
        for proxy in self.list.iter_mut().filter(|proxy| !proxy.seen && proxy.gone.is_none()) {
            proxy.leave(now, None);
        }
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
            channels: 0,
            streams: 0,
            rate: 0.0,
            gone: None,
            meter: Meter::default(),
            seen: true,
        }
    }

    fn leave(&mut self, at: Instant, reason: Option<GoneReason>) {
        (self.channels, self.streams, self.rate) = (0, 0, 0.0);
        self.gone = Some(Gone { at, reason });
    }
}
