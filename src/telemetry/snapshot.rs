use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use super::{
    ChannelFormat, ChannelHealth, ChannelStats, Content, Latencies, LatencySummary, Progress, ProxyStats,
    ServiceStats, StreamPhase, StreamStats, TcpInfo, UserStats,
};
use crate::ids::{ChannelId, Policy, Priority, ProxyId, RateLimits, ServiceKey, StreamKey, UserChannelId};

/// Everything there is at one moment, as plain numbers: for whoever joins late, lags, or draws ten times a second.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Instant,
    /// How long the server has been up.
    pub uptime: Duration,
    /// Sums over everything since the start.
    pub totals: Totals,
    /// The services.
    pub services: Vec<ServiceSnapshot>,
    /// The proxies, each with its channels.
    pub proxies: Vec<ProxySnapshot>,
    /// The users.
    pub users: Vec<UserSnapshot>,
    /// The streams, in no order.
    pub streams: Vec<StreamSnapshot>,
    /// The numbers that the next user and the next stream to come will have.
    pub(super) seen: (u64, u64),
}

impl Snapshot {
    /// One with nothing in it, to be filled.
    pub fn empty() -> Self {
        Self {
            at: Instant::now(),
            uptime: Duration::ZERO,
            totals: Totals::default(),
            services: Vec::new(),
            proxies: Vec::new(),
            users: Vec::new(),
            streams: Vec::new(),
            seen: (0, 0),
        }
    }
}

/// Sums over everything since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes to users.
    pub down: u64,
    /// Bytes from users.
    pub up: u64,
    /// Streams open now.
    pub streams_open: u64,
    /// Streams ever.
    pub streams_total: u64,
    /// Streams that ended otherwise than clean.
    pub streams_failed: u64,
    /// Users now.
    pub users_current: u64,
    /// Users turned away: before they became streams, or because no proxy came for them.
    pub users_rejected: u64,
    /// Connections on the tunnel port that never became channels.
    pub handshakes_failed: u64,
}

/// One service.
#[derive(Debug, Clone)]
pub struct ServiceSnapshot {
    /// Which.
    pub key: ServiceKey,
    /// Bytes to its users.
    pub down: u64,
    /// Bytes from its users.
    pub up: u64,
    /// Streams open now.
    pub streams_open: u64,
    /// Streams ever.
    pub streams_total: u64,
    /// How its new streams are given to its proxies.
    pub policy: Policy,
    /// Its rate limits.
    pub limits: RateLimits,
    /// How long things took for its users; at most a second old.
    pub latency: Arc<Latencies>,
}

/// One proxy.
#[derive(Debug, Clone)]
pub struct ProxySnapshot {
    /// The parts that never change.
    pub info: Arc<ProxyStats>,
    /// Which.
    pub id: ProxyId,
    /// The services it is registered for.
    pub services: Vec<ServiceKey>,
    /// Bytes to users.
    pub down: u64,
    /// Bytes from users.
    pub up: u64,
    /// Streams open now.
    pub streams_open: u64,
    /// Streams ever.
    pub streams_total: u64,
    /// Its share of new streams beside other proxies.
    pub weight: u32,
    /// Whether the operator gives it no new streams.
    pub draining: bool,
    /// How long its streams will still wait for it to come back; `None` while it has a channel.
    pub grace_remaining: Option<Duration>,
    /// Its rate limits.
    pub limits: RateLimits,
    /// How long things took with it; at most a second old.
    pub latency: Arc<Latencies>,
    /// Its channels, by index.
    pub channels: Vec<ChannelSnapshot>,
}

/// How a channel fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelState {
    /// It carries.
    #[default]
    Up,
    /// It has taken nothing for seconds: it gets no new streams.
    Stalled,
    /// Its proxy is about to go: it carries what is open.
    GoingAway,
}

/// One channel.
#[derive(Debug, Clone)]
pub struct ChannelSnapshot {
    /// Which.
    pub id: ChannelId,
    /// Where it comes from.
    pub addr: SocketAddr,
    /// What it speaks.
    pub format: ChannelFormat,
    /// How long it has been up.
    pub age: Duration,
    /// Bytes that came in on the socket, framing included.
    pub received: u64,
    /// Bytes that went out on the socket, framing included.
    pub sent: u64,
    /// The last round trip measured.
    pub last_rtt: Option<Duration>,
    /// All round trips since it is up; at most a second old.
    pub rtt_summary: Arc<LatencySummary>,
    /// Streams it carries now.
    pub streams_open: u64,
    /// How it fares.
    pub state: ChannelState,
    /// What the kernel measured of its connection. Only Linux tells.
    pub tcp: Option<TcpInfo>,
    /// Bytes that wait in this process for room on it.
    pub send_queue_bytes: u64,
    /// The largest frame it is given now, in bytes; 0 where there are none (text).
    pub chunk_size: u32,
}

/// One user.
#[derive(Debug, Clone)]
pub struct UserSnapshot {
    /// The parts that never change.
    pub info: Arc<UserStats>,
    /// The number of its coming: of two users with the same id, one after the other, each has its own.
    pub number: u64,
    /// Which.
    pub id: UserChannelId,
    /// The user's address.
    pub addr: IpAddr,
    /// The service it uses.
    pub service: ServiceKey,
    /// When its first connection came.
    pub since: Instant,
    /// Bytes to it.
    pub down: u64,
    /// Bytes from it.
    pub up: u64,
    /// Streams open now.
    pub streams_open: u64,
    /// Streams ever.
    pub streams_total: u64,
    /// Its rate limits.
    pub limits: RateLimits,
}

/// One stream: what moves all the time, and through [`StreamState`] the rest. Apart, because ten thousand of these are
/// gone through ten times a second, and mostly nothing but the bytes is new.
#[derive(Debug, Clone)]
pub struct StreamSnapshot {
    /// The parts that never change: key, addresses, user and service, time of opening.
    pub info: Arc<StreamStats>,
    /// The number of its coming: of two streams with the same key, one after the other, each has its own.
    pub number: u64,
    /// How often anything but its bytes has changed.
    pub changes: u32,
    /// Bytes to the user.
    pub down: u64,
    /// Bytes from the user.
    pub up: u64,
    state: Box<StreamState>,
}

impl Deref for StreamSnapshot {
    type Target = StreamState;

    fn deref(&self) -> &StreamState {
        &self.state
    }
}

/// What changes a few times in the life of a stream.
#[derive(Debug, Clone)]
pub struct StreamState {
    /// Which.
    pub key: StreamKey,
    /// The proxy that serves it, once chosen.
    pub proxy: Option<Arc<ProxyStats>>,
    /// The channel that carries it, once chosen.
    pub channel: Option<ChannelId>,
    /// Where it stands.
    pub phase: StreamPhase,
    /// Whether the operator holds it.
    pub paused: bool,
    /// Its share of a crowded channel.
    pub priority: Priority,
    /// Its rate limits.
    pub limits: RateLimits,
    /// What it carries, as far as that is known.
    pub content: Option<Arc<Content>>,
    /// The download that comes down it now, where its size is known: what was seen goes before what was told.
    pub progress: Option<Progress>,
}

impl StreamSnapshot {
    pub(super) fn of(number: u64, stream: &Arc<StreamStats>) -> Self {
        let changes = stream.changes();
        Self {
            info: stream.clone(),
            number,
            changes,
            down: stream.traffic.down(),
            up: stream.traffic.up(),
            state: Box::new(StreamState::of(stream)),
        }
    }

    /// Brings it up to date; says whether the stream is still there. Mostly that takes one cache line of the stream and
    /// counts no reference. Nothing here waits for anything but that line: so many of them are on their way at once.
    pub(super) fn refill(&mut self) -> bool {
        let changes = self.info.changes();
        (self.down, self.up) = (self.info.traffic.down(), self.info.traffic.up());
        if changes == self.changes {
            return true;
        }
        self.changes = changes;
        *self.state = StreamState::of(&self.info);
        self.state.phase != StreamPhase::Ended
    }
}

impl StreamState {
    fn of(stream: &StreamStats) -> Self {
        let content = stream.content();
        let size = stream.total_size.load(Relaxed);
        let told = (size > 0).then_some(Progress { begun: 0, size });
        Self {
            key: stream.key,
            proxy: stream.proxy(),
            channel: stream.channel(),
            phase: stream.phase(),
            paused: stream.is_paused(),
            priority: stream.priority(),
            limits: stream.limits(),
            progress: content.as_ref().and_then(|content| content.body()).or(told),
            content,
        }
    }
}

impl UserSnapshot {
    pub(super) fn of(number: u64, user: &Arc<UserStats>) -> Self {
        let mut snapshot = Self {
            info: user.clone(),
            number,
            id: user.id,
            addr: user.addr,
            service: user.service.key.clone(),
            since: user.since,
            down: 0,
            up: 0,
            streams_open: 0,
            streams_total: 0,
            limits: RateLimits::default(),
        };
        snapshot.refill();
        snapshot
    }

    /// Brings it up to date; says whether the user is still there.
    pub(super) fn refill(&mut self) -> bool {
        let user = &*self.info;
        (self.down, self.up) = (user.traffic.down(), user.traffic.up());
        (self.streams_open, self.streams_total) = (user.streams.now(), user.streams.ever());
        self.limits = user.limits.get();
        !user.left.load(Relaxed)
    }
}

impl ServiceSnapshot {
    pub(super) fn of(service: &ServiceStats, now: Instant) -> Self {
        Self {
            key: service.key.clone(),
            down: service.traffic.down(),
            up: service.traffic.up(),
            streams_open: service.streams.now(),
            streams_total: service.streams.ever(),
            policy: service.policy(),
            limits: service.limits.get(),
            latency: service.latencies.summary(now),
        }
    }
}

impl ProxySnapshot {
    pub(super) fn of(proxy: &Arc<ProxyStats>, mut channels: Vec<ChannelSnapshot>, now: Instant) -> Self {
        channels.sort_by_key(|channel| channel.id);
        if proxy.has_received_goaway() {
            channels.iter_mut().for_each(|channel| channel.state = ChannelState::GoingAway);
        }
        Self {
            info: proxy.clone(),
            id: proxy.id,
            services: proxy.services(),
            down: proxy.traffic.down(),
            up: proxy.traffic.up(),
            streams_open: proxy.streams.now(),
            streams_total: proxy.streams.ever(),
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
    pub(super) fn of(channel: &ChannelStats, now: Instant) -> Self {
        let ChannelHealth { tcp, send_queue_bytes, chunk_size, is_stalled, .. } = channel.health();
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
            tcp,
            send_queue_bytes,
            chunk_size,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
        },
    };

    use crate::{
        ids::{ChannelId, Direction, Priority, ProxyId, Rate, StreamKey, UserChannelId},
        telemetry::{ChannelFormat, Content, EndReason, Progress, StreamPhase, Telemetry},
    };

    #[test]
    fn a_refilled_snapshot_says_what_a_new_one_says() {
        let hub = Telemetry::new();
        let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let id = UserChannelId::new(0xABC123);
        let service = hub.service_opened("8080".parse().unwrap());
        let user = hub.user_joined(id, addr.ip(), service.stats());
        let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
        let mut refilled = hub.snapshot();

        let proxy = hub.proxy_up(ProxyId(1), "lab".into(), addr);
        let channel = hub.channel_up(ChannelId { proxy: ProxyId(1), index: 1 }, addr, ChannelFormat::Binary);
        stream.assigned(proxy.stats(), channel.stats());
        let stats = stream.stats();
        stats.set_phase(StreamPhase::Open);
        stats.set_paused(true);
        stats.set_priority(Priority::High);
        stats.set_total_size(9);
        stats.add_up(1);
        stats.add_down(2);
        let body = Some(Progress { begun: 1, size: 5 });
        let content = Content::Http { method: "GET".into(), target: "/".into(), status: Some(200), body };
        stats.set_content(Arc::new(content));
        hub.snapshot_into(&mut refilled);
        assert_eq!(format!("{:?}", refilled.streams), format!("{:?}", hub.snapshot().streams));
        assert_eq!(refilled.streams[0].progress, body);
        assert!(refilled.streams[0].paused);

        let later = hub.stream_opened(StreamKey::new(id, 2), addr, user.stats());
        let other = hub.user_joined(UserChannelId::new(1), addr.ip(), service.stats());
        later.stats().set_limit(Direction::Down, Rate::new(7));
        hub.snapshot_into(&mut refilled);
        stream.end(EndReason::Finished);
        hub.snapshot_into(&mut refilled);
        assert_eq!(format!("{:?}", refilled.streams), format!("{:?}", hub.snapshot().streams));
        assert_eq!((refilled.streams.len(), refilled.users.len()), (1, 2));
        drop((other, later));
        hub.snapshot_into(&mut refilled);
        assert_eq!((refilled.streams.len(), refilled.users.len()), (0, 1));
    }

    /// A sampler that misses one stream shows a sum that its rows do not have, for as long as that one is open.
    #[test]
    fn no_stream_escapes_a_sampler_however_they_come_and_go() {
        let hub = Telemetry::new();
        let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let service = hub.service_opened("8080".parse().unwrap());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..3)
                .map(|number| {
                    let (hub, service) = (&hub, &service);
                    scope.spawn(move || {
                        let user = hub.user_joined(UserChannelId::new(number), addr.ip(), service.stats());
                        let open = |stream| {
                            hub.stream_opened(StreamKey::new(user.stats().id, stream), addr, user.stats())
                        };
                        let kept: Vec<_> =
                            (0..2000).map(open).enumerate().filter(|(at, _)| at % 3 == 0).collect();
                        (user, kept)
                    })
                })
                .collect();
            let sampler = scope.spawn(|| {
                let mut sampled = hub.snapshot();
                while !done.load(Relaxed) {
                    hub.snapshot_into(&mut sampled);
                }
                sampled
            });
            let kept: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
            done.store(true, Relaxed);
            let mut sampled = sampler.join().unwrap();
            hub.snapshot_into(&mut sampled);
            let mut keys: Vec<_> = sampled.streams.iter().map(|stream| stream.key).collect();
            let mut wanted: Vec<_> =
                kept.iter().flat_map(|(_, kept)| kept).map(|(_, guard)| guard.stats().key).collect();
            keys.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(keys, wanted);
            assert_eq!(sampled.totals.streams_open, wanted.len() as u64);
        });
    }
}
