//! The sampler: reads all live counters into a [`Snapshot`], several times a second.
//!
//! It reuses the snapshot of the sample before. It must not make the hot path wait: except for the registry of new
//! users and streams and a few small locks of each proxy and channel, it only loads atomics.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Instant,
};

use super::{
    ChannelHealth, ChannelSnapshot, ChannelState, ChannelStats, Progress, ProxySnapshot, ProxyStats,
    SelectedStream, ServiceSnapshot, ServiceStats, Snapshot, StreamPhase, StreamSnapshot, StreamState,
    StreamStats, Telemetry, UserSnapshot, UserStats,
};
use crate::ids::{ProxyId, RateLimits};

#[cfg(test)]
mod tests;

impl Telemetry {
    /// Returns a new snapshot of all live objects. A periodic reader uses a [`Sampler`], which reuses allocations.
    pub fn snapshot(&self) -> Snapshot {
        let mut sampler = Sampler::default();
        sampler.sample(self, &[]);
        sampler.into_snapshot()
    }

    /// Returns the live counters of the open stream with this [`StreamSnapshot::number`].
    pub fn stream_stats(&self, number: u64) -> Option<Arc<StreamStats>> {
        self.streams.get(number)
    }
}

/// Takes snapshots of one [`Telemetry`] and reuses the allocations of the last one.
///
/// It keeps references to the counters of the users and streams in the last snapshot, in the same order, and asks the
/// registry only for newer ones. Between two samples a stream keeps its index, except where it takes the index of one
/// that ended.
#[derive(Debug, Default)]
pub struct Sampler {
    /// The last snapshot, which the next sample updates.
    snapshot: Snapshot,
    /// The counters of `snapshot.users`, by the same index.
    users: Vec<Arc<UserStats>>,
    /// The counters of `snapshot.streams`, by the same index.
    streams: Vec<Arc<StreamStats>>,
    /// The smallest serial number of a user that no sample has seen.
    next_user: u64,
    /// The smallest serial number of a stream that no sample has seen.
    next_stream: u64,
}

impl Sampler {
    /// Reads the counters of `telemetry` and returns the updated snapshot.
    ///
    /// `selected` holds the [`StreamSnapshot::number`] of each stream whose details are wanted. Details lock the
    /// stream's link, which would be too expensive for a hundred thousand streams.
    ///
    /// All calls on one sampler must name the same `telemetry`.
    pub fn sample(&mut self, telemetry: &Telemetry, selected: &[u64]) -> &Snapshot {
        let now = Instant::now();
        self.snapshot.uptime = now.duration_since(telemetry.started);
        self.snapshot.totals = telemetry.totals();
        self.snapshot.tls_fingerprint.clone_from(&telemetry.tls_fingerprint.lock());
        self.sample_proxies(telemetry, now);
        self.snapshot.services =
            telemetry.services.iter().map(|service| ServiceSnapshot::of(&service, now)).collect();
        self.snapshot.services.sort_by(|a, b| a.key.cmp(&b.key));
        self.sample_users(telemetry);
        self.sample_streams(telemetry);
        self.snapshot.selected.clear();
        self.snapshot.selected.extend(selected.iter().filter_map(|&number| {
            let details = telemetry.stream_stats(number)?.details()?;
            Some(SelectedStream { number, details })
        }));
        &self.snapshot
    }

    /// Returns the last snapshot, or an empty one before the first sample.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the last snapshot by value and releases all references to counters.
    pub fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    /// Replaces the proxies of the snapshot, with their channels, by new ones, sorted by id.
    fn sample_proxies(&mut self, telemetry: &Telemetry, now: Instant) {
        let mut channels: HashMap<ProxyId, Vec<ChannelSnapshot>> = HashMap::new();
        // Collected first: the map must not be locked while the channels' links are.
        let live: Vec<Arc<ChannelStats>> = telemetry.channels.iter().map(|channel| channel.clone()).collect();
        for channel in live {
            channels.entry(channel.id.proxy).or_default().push(ChannelSnapshot::of(&channel, now));
        }
        let of = |proxy: &ProxyStats, channels| ProxySnapshot::of(telemetry, proxy, channels, now);
        self.snapshot.proxies = telemetry
            .proxies
            .iter()
            .map(|proxy| of(&proxy, channels.remove(&proxy.id).unwrap_or_default()))
            .collect();
        self.snapshot.proxies.sort_by_key(|proxy| proxy.id);
    }

    /// Updates the users and keeps their order of arrival, in which screens show them.
    fn sample_users(&mut self, telemetry: &Telemetry) {
        let snapshots = &mut self.snapshot.users;
        let mut kept = 0;
        for index in 0..self.users.len() {
            if snapshots[index].refill(&self.users[index]) {
                snapshots.swap(kept, index);
                self.users.swap(kept, index);
                kept += 1;
            }
        }
        snapshots.truncate(kept);
        self.users.truncate(kept);
        telemetry.users.visit_since(&mut self.next_user, |number, user| {
            snapshots.push(UserSnapshot::of(telemetry, number, user));
            self.users.push(user.clone());
        });
    }

    /// Updates the streams of the snapshot: reads the counters of known ones again, removes those that have ended,
    /// and appends new ones.
    fn sample_streams(&mut self, telemetry: &Telemetry) {
        let snapshots = &mut self.snapshot.streams;
        let mut index = 0;
        while index < self.streams.len() {
            if snapshots[index].refill(&self.streams[index]) {
                index += 1;
            } else {
                snapshots.swap_remove(index);
                self.streams.swap_remove(index);
            }
        }
        telemetry.streams.visit_since(&mut self.next_stream, |number, stream| {
            let snapshot = StreamSnapshot::of(number, stream);
            // A stream that is just ending sets its phase before it leaves the registry.
            if snapshot.phase != StreamPhase::Ended {
                snapshots.push(snapshot);
                self.streams.push(stream.clone());
            }
        });
    }
}

impl StreamSnapshot {
    /// Creates the snapshot of the stream with this serial number.
    fn of(number: u64, stream: &StreamStats) -> Self {
        // Read before the state: if that changes meanwhile, the next sample reads it again.
        let changes = stream.changes();
        Self {
            info: stream.info.clone(),
            number,
            changes,
            down: stream.traffic.down(),
            up: stream.traffic.up(),
            state: Box::new(StreamState::of(stream)),
        }
    }

    /// Reads the stream's counters again; returns whether it is still open.
    ///
    /// For most streams this loads one cache line and touches no reference count. Nothing in here depends on the loaded
    /// values but the comparison, so the loads of many streams are in flight at once.
    fn refill(&mut self, stream: &StreamStats) -> bool {
        let changes = stream.changes();
        (self.down, self.up) = (stream.traffic.down(), stream.traffic.up());
        if changes == self.changes {
            return true;
        }
        self.changes = changes;
        *self.state = StreamState::of(stream);
        self.state.phase != StreamPhase::Ended
    }
}

impl StreamState {
    /// Reads all attributes of a stream that may change, except its byte counters.
    fn of(stream: &StreamStats) -> Self {
        let content = stream.content();
        let announced_size = stream.total_size.load(Relaxed);
        let announced = (announced_size > 0).then_some(Progress { begun: 0, size: announced_size });
        Self {
            key: stream.key,
            proxy: stream.proxy().map(|proxy| proxy.id),
            channel: stream.channel(),
            phase: stream.phase(),
            paused: stream.is_paused(),
            priority: stream.priority(),
            limits: stream.limits(),
            progress: content.as_ref().and_then(|content| content.body()).or(announced),
            content,
        }
    }
}

impl UserSnapshot {
    /// Creates the snapshot of the user with this serial number.
    fn of(telemetry: &Telemetry, number: u64, user: &UserStats) -> Self {
        let mut snapshot = Self {
            number,
            id: user.id,
            addr: user.addr,
            service: user.service.key.clone(),
            connected_at: user.since.saturating_duration_since(telemetry.started),
            down: 0,
            up: 0,
            streams_open: 0,
            streams_total: 0,
            limits: RateLimits::default(),
        };
        snapshot.refill(user);
        snapshot
    }

    /// Reads the user's counters again; returns whether the user is still registered.
    fn refill(&mut self, user: &UserStats) -> bool {
        (self.down, self.up) = (user.traffic.down(), user.traffic.up());
        (self.streams_open, self.streams_total) = (user.streams.now(), user.streams.total());
        self.limits = user.limits.get();
        !user.left.load(Relaxed)
    }
}

impl ServiceSnapshot {
    /// Creates the snapshot of a service as of `now`.
    fn of(service: &ServiceStats, now: Instant) -> Self {
        Self {
            key: service.key.clone(),
            down: service.traffic.down(),
            up: service.traffic.up(),
            streams_open: service.streams.now(),
            streams_total: service.streams.total(),
            policy: service.policy(),
            limits: service.limits.get(),
            latency: service.latencies.summary(now),
        }
    }
}

impl ProxySnapshot {
    /// Creates the snapshot of a proxy as of `now`, with the snapshots of its channels.
    fn of(
        telemetry: &Telemetry,
        proxy: &ProxyStats,
        mut channels: Vec<ChannelSnapshot>,
        now: Instant,
    ) -> Self {
        channels.sort_by_key(|channel| channel.id);
        if proxy.is_closing() {
            channels.iter_mut().for_each(|channel| channel.state = ChannelState::GoingAway);
        }
        Self {
            id: proxy.id,
            name: proxy.name.clone(),
            addr: proxy.addr,
            connected_at: proxy.since.saturating_duration_since(telemetry.started),
            services: proxy.services(),
            down: proxy.traffic.down(),
            up: proxy.traffic.up(),
            streams_open: proxy.streams.now(),
            streams_total: proxy.streams.total(),
            weight: proxy.weight(),
            draining: proxy.is_draining(),
            grace_remaining: proxy.grace_remaining(),
            limits: proxy.limits.get(),
            latency: proxy.latencies.summary(now),
            channels,
        }
    }
}

impl ChannelSnapshot {
    /// Creates the snapshot of a channel as of `now`.
    fn of(channel: &ChannelStats, now: Instant) -> Self {
        let ChannelHealth { tcp, send_queue_bytes, chunk_size, is_stalled, .. } = channel.health(now);
        Self {
            id: channel.id,
            addr: channel.addr,
            format: channel.format,
            age: now.duration_since(channel.since),
            received: channel.received(),
            sent: channel.sent(),
            last_rtt: channel.last_rtt(),
            rtt_summary: channel.rtt_summary(now),
            streams_open: channel.streams.now(),
            state: if is_stalled { ChannelState::Stalled } else { ChannelState::Up },
            congestion_control: channel.congestion_control(),
            tcp,
            send_queue_bytes,
            chunk_size,
        }
    }
}
