use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use dashmap::DashMap;
use tokio::sync::broadcast;

use super::{
    ByteCounters, ChannelFormat, ChannelGuard, ChannelStats, Event, EventKind, Gauge, ProxyGuard, ProxyStats,
    RateLimitGauges, Sampler, ServiceGuard, ServiceStats, Snapshot, StreamGuard, StreamInfo, StreamStats,
    Totals, UserGuard, UserStats, clock, registry::Registry, throttle::Throttle,
};
use crate::ids::{ChannelId, ProxyId, ServiceKey, StreamKey, UserChannelId};

/// How many events a receiver may be behind before it has to resynchronise.
const EVENT_BACKLOG: usize = 4096;

/// The bus: the register of everything that is there, and the channel that its beginnings and ends go out on.
#[derive(Debug)]
pub struct Telemetry {
    events: broadcast::Sender<Event>,
    /// When the server started: times in snapshots count from here.
    pub(super) started: Instant,
    pub(super) traffic: Arc<ByteCounters>,
    pub(super) open: Gauge,
    pub(super) failed: AtomicU64,
    refused: AtomicU64,
    handshakes_failed: AtomicU64,
    /// For refused users, failed handshakes, bytes for no session, refused registrations: what others can cause as
    /// often as they like.
    floods: [Throttle; 4],
    pub(super) services: DashMap<ServiceKey, Arc<ServiceStats>>,
    pub(super) proxies: DashMap<ProxyId, Arc<ProxyStats>>,
    pub(super) channels: DashMap<ChannelId, Arc<ChannelStats>>,
    pub(super) users: Registry<UserStats>,
    pub(super) streams: Registry<StreamStats>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            events: broadcast::channel(EVENT_BACKLOG).0,
            started: Instant::now(),
            traffic: Arc::default(),
            open: Gauge::default(),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            floods: Default::default(),
            services: DashMap::new(),
            proxies: DashMap::new(),
            channels: DashMap::new(),
            users: Registry::default(),
            streams: Registry::default(),
        }
    }
}

impl Telemetry {
    /// A bus with nothing on it.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Every event from now on. Take a [`snapshot`](Self::snapshot) *after* subscribing: what began between the two
    /// is then in both, and nothing is in neither.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Tells everybody, and the log.
    pub fn emit(&self, kind: EventKind) {
        let flood = match &kind {
            EventKind::UserRejected { .. } => {
                self.refused.fetch_add(1, Relaxed);
                Some(&self.floods[0])
            }
            EventKind::HandshakeFailed { .. } => {
                self.handshakes_failed.fetch_add(1, Relaxed);
                Some(&self.floods[1])
            }
            EventKind::UnknownStream { .. } => Some(&self.floods[2]),
            EventKind::RegistrationRefused { .. } => Some(&self.floods[3]),
            _ => None,
        };
        match flood.map(|flood| flood.admit(Instant::now())) {
            Some(None) => return,
            Some(Some(untold)) if untold > 0 => {
                tracing::warn!(target: "lifecycle", "{untold} more like the next were not told");
            }
            _ => {}
        }
        match &kind {
            kind if kind.is_warning() => tracing::warn!(target: "lifecycle", "{kind}"),
            // With most streams this is no news, and a line is dear.
            EventKind::StreamAssigned { .. } => tracing::debug!(target: "lifecycle", "{kind}"),
            kind => tracing::info!(target: "lifecycle", "{kind}"),
        }
        // An error only says that nobody listens.
        _ = self.events.send(Event { epoch_ms: clock::epoch_ms(), kind });
    }

    /// Sums over everything since the start.
    pub fn totals(&self) -> Totals {
        Totals {
            down: self.traffic.down(),
            up: self.traffic.up(),
            streams_open: self.open.now(),
            streams_total: self.open.ever(),
            streams_failed: self.failed.load(Relaxed),
            users_current: self.users.len() as u64,
            users_rejected: self.refused.load(Relaxed),
            handshakes_failed: self.handshakes_failed.load(Relaxed),
        }
    }

    /// Returns a new snapshot of all live objects. A periodic reader uses a [`Sampler`], which reuses allocations.
    pub fn snapshot(&self) -> Snapshot {
        let mut sampler = Sampler::default();
        sampler.sample(self, &[]);
        sampler.into_snapshot()
    }

    /// Returns the live counters of the open stream with this [`StreamSnapshot::number`](super::StreamSnapshot::number).
    pub fn stream_stats(&self, number: u64) -> Option<Arc<StreamStats>> {
        self.streams.get(number)
    }

    /// A public port was opened.
    pub fn service_opened(self: &Arc<Self>, key: ServiceKey) -> ServiceGuard {
        let stats = Arc::new(ServiceStats::new(key.clone()));
        self.services.insert(key.clone(), stats.clone());
        self.emit(EventKind::ServiceOpened { service: key });
        ServiceGuard { hub: self.clone(), stats }
    }

    /// A proxy proved itself; `name` is cleaned already.
    pub fn proxy_up(self: &Arc<Self>, id: ProxyId, name: String, addr: SocketAddr) -> ProxyGuard {
        let stats = Arc::new(ProxyStats::new(id, name.clone(), addr));
        self.proxies.insert(id, stats.clone());
        self.emit(EventKind::ProxyConnected { proxy: id, name, addr });
        ProxyGuard::new(self.clone(), stats)
    }

    /// A proxy has one more channel.
    pub fn channel_up(
        self: &Arc<Self>,
        id: ChannelId,
        addr: SocketAddr,
        format: ChannelFormat,
    ) -> ChannelGuard {
        let stats = Arc::new(ChannelStats::new(id, addr, format));
        self.channels.insert(id, stats.clone());
        self.emit(EventKind::ChannelConnected { channel: id, addr });
        ChannelGuard::new(self.clone(), stats)
    }

    /// A user's first connection came.
    pub fn user_joined(
        self: &Arc<Self>,
        id: UserChannelId,
        addr: IpAddr,
        service: &Arc<ServiceStats>,
    ) -> UserGuard {
        let stats = Arc::new(UserStats {
            id,
            addr,
            service: service.clone(),
            since: Instant::now(),
            traffic: ByteCounters::default(),
            streams: Gauge::default(),
            limits: RateLimitGauges::default(),
            left: AtomicBool::new(false),
        });
        let number = self.users.enter(stats.clone());
        self.emit(EventKind::UserJoined { user: id, addr, service: service.key.clone() });
        UserGuard { hub: self.clone(), stats, number }
    }

    /// A user connected.
    pub fn stream_opened(
        self: &Arc<Self>,
        key: StreamKey,
        addr: SocketAddr,
        user: &Arc<UserStats>,
    ) -> StreamGuard {
        let info =
            StreamInfo { key, addr, service: user.service.key.clone(), opened_at: self.started.elapsed() };
        let stats = Arc::new(StreamStats::new(info, user.clone(), self.traffic.clone()));
        let number = self.streams.enter(stats.clone());
        for gauge in [&self.open, &user.streams, &user.service.streams] {
            gauge.enter();
        }
        self.emit(EventKind::StreamOpened { key, addr, service: user.service.key.clone() });
        StreamGuard::new(self.clone(), stats, number)
    }
}
