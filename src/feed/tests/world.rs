//! A server made of numbers from a seed, which changes with each step in every way that a real one does.

use std::{sync::Arc, time::Duration};

use crate::{
    ids::{ChannelId, Policy, Priority, ProxyId, Rate, RateLimits, StreamKey, UserChannelId},
    telemetry::{
        Bottleneck, ChannelFormat, ChannelSnapshot, ChannelState, Content, Latencies, LatencySummary,
        Progress, ProxySnapshot, SelectedStream, ServiceSnapshot, Snapshot, StreamDetails, StreamInfo,
        StreamPhase, StreamSnapshot, StreamState, TcpInfo, UserSnapshot,
    },
};

/// The state of the server, and what numbers the next objects get.
pub(super) struct World {
    /// The present state.
    pub(super) snapshot: Snapshot,
    /// The state of the generator of numbers (SplitMix64).
    seed: u64,
    /// The number of the next object of any kind.
    next_number: u64,
}

impl World {
    /// Returns an empty server.
    pub(super) fn new(seed: u64) -> Self {
        Self { snapshot: Snapshot::default(), seed, next_number: 0 }
    }

    /// Returns the number of rows of all tables.
    pub(super) fn rows(&self) -> usize {
        let channels: usize = self.snapshot.proxies.iter().map(|proxy| proxy.channels.len()).sum();
        let state = &self.snapshot;
        state.services.len() + state.proxies.len() + channels + state.users.len() + state.streams.len()
    }

    /// Returns a number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Returns whether something of which one in `n` happens does.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns a duration of whole microseconds, as lines have them.
    fn duration(&mut self) -> Duration {
        Duration::from_micros(self.below(10_000_000))
    }

    /// Returns limits, mostly none.
    fn limits(&mut self) -> RateLimits {
        let mut limit = || if self.one_in(4) { Rate::new(self.below(1_000_000) + 1) } else { None };
        RateLimits { down: limit(), up: limit() }
    }

    /// Returns percentiles.
    fn summary(&mut self) -> LatencySummary {
        let (count, p50, max) = (self.below(100), self.duration(), self.duration());
        let bars = std::array::from_fn(|_| self.below(5));
        LatencySummary { count, p50, p90: max, p99: max, max, bars }
    }

    /// Advances the time, and changes some rows of each table.
    pub(super) fn step(&mut self) {
        let time = Duration::from_millis(100) + Duration::from_micros(self.below(1000));
        self.snapshot.uptime += time;
        let mut state = std::mem::take(&mut self.snapshot);
        state
            .proxies
            .iter_mut()
            .flat_map(|proxy| &mut proxy.channels)
            .for_each(|channel| channel.age += time);
        self.services(&mut state.services);
        self.proxies(&mut state);
        self.users(&mut state);
        self.streams(&mut state);
        if self.one_in(3) {
            state.totals.streams_failed += 1;
        }
        state.totals.streams_open = state.streams.len() as u64;
        self.selected(&mut state);
        self.snapshot = state;
    }

    /// Opens, closes and changes services.
    fn services(&mut self, services: &mut Vec<ServiceSnapshot>) {
        services.retain(|_| !self.one_in(20));
        if services.len() < 6 && self.one_in(3) {
            let key = format!("{}:{}", 8000 + self.below(5), ["default", "blue"][self.below(2) as usize]);
            let key = key.parse().unwrap();
            if services.iter().all(|service| service.key != key) {
                services.push(ServiceSnapshot {
                    key,
                    down: 0,
                    up: 0,
                    streams_open: 0,
                    streams_total: 0,
                    policy: Policy::default(),
                    limits: RateLimits::default(),
                    latency: Arc::default(),
                });
                services.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
        for service in services {
            if self.one_in(2) {
                (service.down, service.streams_total) = (service.down + self.below(1 << 40), self.below(9));
            }
            if self.one_in(5) {
                (service.policy, service.limits) = (Policy::ALL[self.below(4) as usize], self.limits());
                service.latency = Arc::new(Latencies { connect: self.summary(), ..Latencies::default() });
            }
        }
    }

    /// Connects, disconnects and changes proxies and their channels.
    fn proxies(&mut self, state: &mut Snapshot) {
        let proxies = &mut state.proxies;
        proxies.retain(|_| !self.one_in(20));
        if proxies.len() < 5 && self.one_in(3) {
            self.next_number += 1;
            proxies.push(ProxySnapshot {
                id: ProxyId(self.next_number as u32),
                name: "é \"quoted\"".into(),
                addr: "[2001:db8::1]:7000".parse().unwrap(),
                connected_at: state.uptime,
                services: Vec::new(),
                down: 0,
                up: 0,
                streams_open: 0,
                streams_total: 0,
                weight: 1,
                draining: false,
                grace_remaining: None,
                limits: RateLimits::default(),
                latency: Arc::default(),
                channels: Vec::new(),
            });
        }
        for proxy in proxies {
            if self.one_in(2) {
                (proxy.down, proxy.weight) = (proxy.down + self.below(1 << 50), 1 + self.below(3) as u32);
            }
            if self.one_in(4) {
                proxy.grace_remaining = if self.one_in(2) { Some(self.duration()) } else { None };
                proxy.services = state.services.iter().take(2).map(|service| service.key.clone()).collect();
            }
            let before: Vec<_> = proxy.channels.iter().map(|channel| channel.id.index).collect();
            proxy.channels.retain(|_| !self.one_in(9));
            if proxy.channels.len() < 4 && self.one_in(2) {
                let index = self.below(1 << 16) as u16;
                // Nor one that was closed in this step: the consumer would take it for the same, with its age.
                if !before.contains(&index) {
                    proxy.channels.push(channel(ChannelId { proxy: proxy.id, index }));
                    proxy.channels.sort_by_key(|channel| channel.id);
                }
            }
            for channel in &mut proxy.channels {
                if self.one_in(2) {
                    channel.received += self.below(1 << 30);
                    channel.last_rtt = if self.one_in(5) { None } else { Some(self.duration()) };
                    channel.rtt_summary = Arc::new(self.summary());
                    channel.state = [ChannelState::Up, ChannelState::Stalled, ChannelState::GoingAway]
                        [self.below(3) as usize];
                    let smoothed_rtt = self.duration();
                    channel.tcp = (!self.one_in(5)).then(|| TcpInfo {
                        smoothed_rtt,
                        retransmitted_segments: self.below(3),
                        ..channel.tcp.unwrap_or_default()
                    });
                }
            }
        }
    }

    /// Users come, go and carry bytes; they stay in the order of arrival.
    fn users(&mut self, state: &mut Snapshot) {
        state.users.retain(|_| !self.one_in(15));
        for _ in 0..self.below(3) {
            self.next_number += 1;
            state.users.push(UserSnapshot {
                number: self.next_number,
                id: UserChannelId::new(self.below(1 << 24) as u32),
                addr: "192.0.2.1".parse().unwrap(),
                service: "8080".parse().unwrap(),
                connected_at: state.uptime,
                down: 0,
                up: 0,
                streams_open: 0,
                streams_total: 0,
                limits: RateLimits::default(),
            });
        }
        for user in &mut state.users {
            if self.one_in(2) {
                (user.down, user.streams_open) = (user.down + self.below(1 << 20), self.below(4));
            }
            if self.one_in(20) {
                user.limits = self.limits();
            }
        }
    }

    /// Streams open, end, change and carry bytes. One that ends leaves its place to the last one, as in a sampler.
    fn streams(&mut self, state: &mut Snapshot) {
        let streams = &mut state.streams;
        let mut at = 0;
        while at < streams.len() {
            if self.one_in(12) {
                streams.swap_remove(at);
            } else {
                at += 1;
            }
        }
        for _ in 0..self.below(4) {
            self.next_number += 1;
            let key = StreamKey::new(UserChannelId::new(self.below(1 << 24) as u32), self.below(9) as u32);
            let info = StreamInfo {
                key,
                addr: "198.51.100.7:40000".parse().unwrap(),
                service: "8080".parse().unwrap(),
                opened_at: state.uptime,
            };
            streams.push(StreamSnapshot::new(Arc::new(info), self.next_number, 0, waiting(key)));
        }
        for stream in streams {
            if self.one_in(2) {
                (stream.down, stream.up) = (stream.down + self.below(1 << 20), stream.up + self.below(3));
            }
            if self.one_in(4) {
                let body = Progress { begun: stream.down, size: 1 + self.below(1 << 30) };
                let content = [
                    Content::Tcp,
                    Content::Tls { sni: Some("example.net".into()) },
                    Content::Ssh { banner: None },
                    Content::Http {
                        method: "GET".into(),
                        target: "/ü".into(),
                        status: None,
                        body: Some(body),
                    },
                ][self.below(4) as usize]
                    .clone();
                let mut changed = waiting(stream.key);
                changed.phase =
                    [StreamPhase::Opening, StreamPhase::Open, StreamPhase::UserDone][self.below(3) as usize];
                (changed.proxy, changed.priority) = (Some(ProxyId(3)), Priority::ALL[self.below(5) as usize]);
                (changed.paused, changed.limits) = (self.one_in(2), self.limits());
                (changed.progress, changed.content) = (content.body(), Some(Arc::new(content)));
                let mut new =
                    StreamSnapshot::new(stream.info.clone(), stream.number, stream.changes + 1, changed);
                (new.down, new.up) = (stream.down, stream.up);
                *stream = new;
            }
        }
    }

    /// Selects another stream now and then.
    fn selected(&mut self, state: &mut Snapshot) {
        if self.one_in(3) {
            let first = state.streams.first().map(|stream| stream.number);
            state.selected = first
                .map(|number| {
                    let mut details = StreamDetails {
                        download_window: self.below(1 << 20),
                        upload_bottleneck: Some(Bottleneck::User),
                        connect_latency: Some(self.duration()),
                        ..StreamDetails::default()
                    };
                    details.bottleneck_times.add(Bottleneck::Window, self.duration());
                    SelectedStream { number, details }
                })
                .into_iter()
                .collect();
        }
    }
}

/// Returns a new channel.
fn channel(id: ChannelId) -> ChannelSnapshot {
    ChannelSnapshot {
        id,
        addr: "203.0.113.9:50000".parse().unwrap(),
        format: ChannelFormat::Binary,
        age: Duration::ZERO,
        received: 0,
        sent: 0,
        last_rtt: None,
        rtt_summary: Arc::default(),
        streams_open: 0,
        state: ChannelState::Up,
        congestion_control: Some("cubic".into()),
        tcp: None,
        send_queue_bytes: 0,
        chunk_size: 16384,
    }
}

/// Returns the state of a stream that waits for a proxy.
pub(super) fn waiting(key: StreamKey) -> StreamState {
    StreamState {
        key,
        proxy: None,
        channel: None,
        phase: StreamPhase::Waiting,
        paused: false,
        priority: Priority::default(),
        limits: RateLimits::default(),
        content: None,
        progress: None,
    }
}
