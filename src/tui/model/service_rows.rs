//! The rows of services: public ports, and those that closed recently.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::rate_meter::{RateMeter, SampleClock};
use crate::{
    ids::{Policy, RateLimits, ServiceKey},
    telemetry::{Latencies, ServiceSnapshot},
};

/// The largest number of closed public ports that are listed.
const MAX_CLOSED: usize = 8;
/// The time for which a closed public port is listed.
const KEEP_CLOSED: Duration = Duration::from_secs(600);

/// Identifies a service for as long as the program runs. Unlike its key, it is `Copy`, as a cursor needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceId(u32);

/// The row of one service: a public port and its group of proxies. Rates are in bytes per second.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRow {
    /// The id of the row, unique while the cockpit runs.
    pub(crate) id: ServiceId,
    /// The public port and the group of proxies behind it.
    pub(crate) key: ServiceKey,
    /// The policy by which new streams of the service are distributed over its proxies.
    pub(crate) policy: Policy,
    /// The rate limits that the operator set for all streams of this service together.
    pub(crate) limits: RateLimits,
    /// Connect latency and time to first byte of the streams of this service, as percentiles.
    pub(crate) latency: Arc<Latencies>,
    /// How many streams of this service are open.
    pub(crate) streams: u64,
    /// Bytes forwarded from targets to users since the port opened.
    pub(crate) down: u64,
    /// Bytes forwarded from users to targets since the port opened.
    pub(crate) up: u64,
    /// Bytes per second from targets to users, over the last second.
    pub(crate) down_rate: f64,
    /// Bytes per second from users to targets, over the last second.
    pub(crate) up_rate: f64,
    /// When the public port closed; `None` while it is open.
    pub(crate) closed: Option<Instant>,
    /// The meters from which `down_rate` and `up_rate` are computed, in this order.
    meters: (RateMeter, RateMeter),
    /// Whether the snapshot that is being applied contains the service.
    is_in_snapshot: bool,
}

/// The rows of all services, sorted by key; those that closed recently too.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceRows {
    /// The rows, sorted by port and group.
    list: Vec<ServiceRow>,
    /// The times of the last samples, by which the rate meters of all rows compute rates.
    clock: SampleClock,
    /// The number of the last [`ServiceId`] given; 0 before the first.
    last_id: u32,
}

impl ServiceRows {
    /// Returns all rows, open and recently closed services, sorted by port and group.
    pub(crate) fn all(&self) -> &[ServiceRow] {
        &self.list
    }

    /// Returns the service with this row id; `None` where it is no longer listed.
    pub(crate) fn get(&self, id: ServiceId) -> Option<&ServiceRow> {
        self.list.iter().find(|service| service.id == id)
    }

    /// Returns the service with this key (port and group); `None` where it is not listed.
    pub(crate) fn find(&self, key: &ServiceKey) -> Option<&ServiceRow> {
        self.list.iter().find(|service| service.key == *key)
    }

    /// Returns the service with this key (port and group) for an update; `None` where it is not listed.
    pub(crate) fn find_mut(&mut self, key: &ServiceKey) -> Option<&mut ServiceRow> {
        self.list.iter_mut().find(|service| service.key == *key)
    }

    /// Returns the services whose public ports have closed.
    pub(crate) fn closed_services(&self) -> impl Iterator<Item = &ServiceRow> {
        self.list.iter().filter(|service| service.closed.is_some())
    }

    /// Returns the balancing policy that all open services have; `None` where they differ, or without an open
    /// service.
    pub(crate) fn policy(&self) -> Option<Policy> {
        let mut policies = self.list.iter().filter(|service| service.closed.is_none()).map(|s| s.policy);
        let first = policies.next()?;
        policies.all(|policy| policy == first).then_some(first)
    }

    /// Applies the event that the public port of a service closed.
    pub(crate) fn mark_closed(&mut self, key: &ServiceKey, now: Instant) {
        if let Some(service) = self.find_mut(key) {
            service.close(now);
        }
    }

    /// Applies the services of a snapshot. A service that it does not contain has closed.
    pub(crate) fn sample(&mut self, snapshots: &[ServiceSnapshot], now: Instant) {
        self.clock.tick(now);
        self.list.iter_mut().for_each(|service| service.is_in_snapshot = false);
        let known = self.list.len();
        for snapshot in snapshots {
            // Those that were known are sorted; there may be thousands.
            let found = self.list[..known].binary_search_by(|service| service.key.cmp(&snapshot.key));
            let at = found.unwrap_or_else(|_| {
                self.last_id += 1;
                self.list.push(ServiceRow::new(ServiceId(self.last_id), snapshot));
                self.list.len() - 1
            });
            self.list[at].sample(snapshot, &self.clock);
        }
        if self.list.len() > known {
            self.list.sort_by(|a, b| a.key.cmp(&b.key));
        }
        self.list.iter_mut().filter(|service| !service.is_in_snapshot).for_each(|service| service.close(now));
        let mut closed: Vec<_> =
            self.closed_services().filter_map(|service| Some((service.closed?, service.id))).collect();
        closed.sort_unstable_by(|a, b| b.cmp(a));
        closed.truncate(MAX_CLOSED);
        self.list.retain(|service| {
            service.closed.is_none_or(|at| {
                now.saturating_duration_since(at) < KEEP_CLOSED && closed.contains(&(at, service.id))
            })
        });
    }
}

impl ServiceRow {
    /// Creates the row of a service on its first snapshot. Figures that change are zero until
    /// [`sample`](Self::sample).
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
            is_in_snapshot: true,
        }
    }

    /// Updates the row from a snapshot, and computes the rates from the byte counters. A closed service is open
    /// again. `clock` has been advanced to the time of the snapshot.
    fn sample(&mut self, snapshot: &ServiceSnapshot, clock: &SampleClock) {
        (self.is_in_snapshot, self.closed) = (true, None);
        (self.policy, self.limits) = (snapshot.policy, snapshot.limits);
        self.latency.clone_from(&snapshot.latency);
        self.streams = snapshot.streams_open;
        (self.down, self.up) = (snapshot.down, snapshot.up);
        self.meters.0.record(clock, snapshot.down);
        self.meters.1.record(clock, snapshot.up);
        self.down_rate = self.meters.0.per_second(clock);
        self.up_rate = self.meters.1.per_second(clock);
    }

    /// Records that the public port closed at `now`, unless an earlier time is recorded, and sets open streams and
    /// rates to 0.
    fn close(&mut self, now: Instant) {
        self.closed.get_or_insert(now);
        (self.streams, self.down_rate, self.up_rate) = (0, 0.0, 0.0);
    }
}
