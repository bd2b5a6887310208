use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::rate_meter::{RateMeter, SampleClock};
use crate::{
    ids::{Policy, RateLimits, ServiceKey},
    telemetry::{Latencies, ServiceSnapshot},
};

/// How many public ports that closed are kept on screen, and for how long.
const MAX_CLOSED: usize = 8;
const KEEP_CLOSED: Duration = Duration::from_secs(600);

/// Names one service for as long as the program runs; small enough for a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServiceId(u32);

/// One public port with its group.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRow {
    pub(crate) id: ServiceId,
    pub(crate) key: ServiceKey,
    pub(crate) policy: Policy,
    pub(crate) limits: RateLimits,
    pub(crate) latency: Arc<Latencies>,
    pub(crate) streams: u64,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) down_rate: f64,
    pub(crate) up_rate: f64,
    /// When its port closed; nobody can reach it since.
    pub(crate) closed: Option<Instant>,
    meters: (RateMeter, RateMeter),
    seen: bool,
}

/// The services by their ports, those that closed lately among them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceRows {
    list: Vec<ServiceRow>,
    clock: SampleClock,
    next: u32,
}

impl ServiceRows {
    pub(crate) fn all(&self) -> &[ServiceRow] {
        &self.list
    }

    pub(crate) fn get(&self, id: ServiceId) -> Option<&ServiceRow> {
        self.list.iter().find(|service| service.id == id)
    }

    pub(crate) fn find(&self, key: &ServiceKey) -> Option<&ServiceRow> {
        self.list.iter().find(|service| service.key == *key)
    }

    pub(crate) fn find_mut(&mut self, key: &ServiceKey) -> Option<&mut ServiceRow> {
        self.list.iter_mut().find(|service| service.key == *key)
    }

    /// Those whose ports closed.
    pub(crate) fn lost(&self) -> impl Iterator<Item = &ServiceRow> {
        self.list.iter().filter(|service| service.closed.is_some())
    }

    /// The policy of all of them, where they have one in common.
    pub(crate) fn policy(&self) -> Option<Policy> {
        let mut policies = self.list.iter().filter(|service| service.closed.is_none()).map(|s| s.policy);
        let first = policies.next()?;
        policies.all(|policy| policy == first).then_some(first)
    }

    /// Its port closed.
    pub(crate) fn closed(&mut self, key: &ServiceKey, now: Instant) {
        if let Some(service) = self.find_mut(key) {
            service.close(now);
        }
    }

    /// Takes what a snapshot says.
    pub(crate) fn sample(&mut self, snapshots: &[ServiceSnapshot], now: Instant) {
        self.clock.tick(now);
        self.list.iter_mut().for_each(|service| service.seen = false);
        let known = self.list.len();
        for snapshot in snapshots {
            let at = self.list.iter().position(|service| service.key == snapshot.key).unwrap_or_else(|| {
                self.next += 1;
                self.list.push(ServiceRow::new(ServiceId(self.next), snapshot));
                self.list.len() - 1
            });
            self.list[at].sample(snapshot, &self.clock);
        }
        if self.list.len() > known {
            self.list.sort_by(|a, b| a.key.cmp(&b.key));
        }
        self.list.iter_mut().filter(|service| !service.seen).for_each(|service| service.close(now));
        let mut closed: Vec<_> = self.lost().filter_map(|service| service.closed).collect();
        closed.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = closed.get(MAX_CLOSED).copied();
        self.list.retain(|service| {
            service.closed.is_none_or(|at| {
                now.saturating_duration_since(at) < KEEP_CLOSED && oldest.is_none_or(|oldest| at > oldest)
            })
        });
    }
}

impl ServiceRow {
    fn new(id: ServiceId, snapshot: &ServiceSnapshot) -> Self {
        Self {
            id,
            key: snapshot.key.clone(),
            policy: snapshot.policy,
            limits: snapshot.limits,
            latency: snapshot.latency.clone(),
            streams: 0,
            down: 0,
            up: 0,
            down_rate: 0.0,
            up_rate: 0.0,
            closed: None,
            meters: Default::default(),
            seen: true,
        }
    }

    fn sample(&mut self, snapshot: &ServiceSnapshot, clock: &SampleClock) {
        (self.seen, self.closed) = (true, None);
        (self.policy, self.limits) = (snapshot.policy, snapshot.limits);
        self.latency.clone_from(&snapshot.latency);
        self.streams = snapshot.streams_open;
        (self.down, self.up) = (snapshot.down, snapshot.up);
        self.meters.0.note(clock, snapshot.down);
        self.meters.1.note(clock, snapshot.up);
        self.down_rate = self.meters.0.per_second(clock);
        self.up_rate = self.meters.1.per_second(clock);
    }

    fn close(&mut self, now: Instant) {
        self.closed.get_or_insert(now);
        (self.streams, self.down_rate, self.up_rate) = (0, 0.0, 0.0);
    }
}
