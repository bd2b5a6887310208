//! The hub: registers all live objects, broadcasts lifecycle events and logs them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{
    ByteCounters, ChannelStats, EndReason, Event, EventKind, Gauge, ProxyStats, RecentFailures, ServiceStats,
    StreamStats, Totals, UserStats,
    accept_failures::{AcceptFailure, FailingListeners},
    clock,
    failure_history::FailureHistory,
    hub_log,
    registry::Registry,
    series::{
        EndCounters, MAX_PROXY_SERIES, MAX_SERVICE_SERIES, MemorySource, ProxyCounters, SeriesTable,
        ServiceCounters,
    },
    table_mutex::assert_no_table_locked,
    throttle::{EventThrottles, Throttle},
};
use crate::ids::{ChannelId, Network, ProxyId, ServiceKey};

/// The capacity of the event channel: how many events a receiver may lag behind before it loses some and has to
/// resynchronise from a snapshot.
const EVENT_CAPACITY: usize = 4096;

/// The hub of one server or proxy: holds the counters of all live objects and broadcasts their lifecycle events.
#[derive(Debug)]
pub struct Telemetry {
    /// Sender of the broadcast channel of lifecycle events.
    events: broadcast::Sender<Event>,
    /// When the server started: times in snapshots count from here.
    pub(super) started: Instant,
    /// The bytes of all streams since the start.
    pub(super) traffic: Arc<ByteCounters>,
    /// The number of streams, now and since the start.
    pub(super) streams_gauge: Gauge,
    /// Streams whose end was a [failure](super::EndReason::is_failure).
    pub(super) streams_failed: AtomicU64,
    /// Streams that ended, as the user or the operator wanted, before a byte had passed: health checks.
    streams_empty: AtomicU64,
    /// Streams that were reset because the target of their proxy leads back to the service.
    forwarding_loops: AtomicU64,
    /// User connections that were closed unserved, since the start.
    users_rejected: AtomicU64,
    /// Connections on the tunnel port whose handshake failed, since the start.
    handshakes_failed: AtomicU64,
    /// How often an address was blocked because of wrong tokens.
    addresses_blocked: AtomicU64,
    /// The newest refusals and failures.
    failures: FailureHistory,
    /// The fingerprint of the key of TLS, once it has changed.
    pub(super) tls_fingerprint: Mutex<Option<Arc<str>>>,
    /// Whether the server drains.
    is_draining: AtomicBool,
    /// The networks whose users the operator has banned, for display; the server decides by its own list.
    banned_networks: Mutex<Vec<Network>>,
    /// How often accept(2) has failed on a listener.
    pub(super) accept_failures: AtomicU64,
    /// Tasks that have panicked.
    pub(super) task_panics: AtomicU64,
    /// How many streams have ended for each reason.
    pub(super) stream_ends: EndCounters,
    /// The listeners that accept no connections at the moment.
    pub(super) failing_listeners: FailingListeners,
    /// Where the use of the memory budget is read; unset until a server or a proxy has one.
    pub(super) memory: OnceLock<Arc<dyn MemorySource>>,
    /// The counters of the services whose guard lives. `services` has those that can be seen: a port may be opened
    /// again while streams of its earlier service continue.
    pub(super) live_services: Registry<ServiceStats>,
    /// What is counted by service, also while its port is closed.
    pub(super) service_series: SeriesTable<ServiceCounters>,
    /// What is counted by name of a proxy, also while none with that name is connected.
    pub(super) proxy_series: SeriesTable<ProxyCounters>,
    /// Whether the log gets structured fields.
    logs_fields: AtomicBool,
    /// Whether the hub is that of a proxy: what is in `proxies` are its links to servers then, and events about its
    /// traffic are not logged, because the proxy logs it in its own words.
    is_proxy: bool,
    /// Limit the events that users and peers can cause at any rate.
    pub(super) throttles: EventThrottles,
    /// The counters of the open services, by key.
    pub(super) services: DashMap<ServiceKey, Arc<ServiceStats>>,
    /// The counters of the connected proxies, also within the grace period, by id.
    pub(super) proxies: DashMap<ProxyId, Arc<ProxyStats>>,
    /// The counters of the connected channels, by id.
    pub(super) channels: DashMap<ChannelId, Arc<ChannelStats>>,
    /// The counters of the current users, by serial number.
    pub(super) users: Registry<UserStats>,
    /// The counters of the open streams, by serial number.
    pub(super) streams: Registry<StreamStats>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            events: broadcast::channel(EVENT_CAPACITY).0,
            started: Instant::now(),
            traffic: Arc::default(),
            streams_gauge: Gauge::default(),
            streams_failed: AtomicU64::new(0),
            streams_empty: AtomicU64::new(0),
            forwarding_loops: AtomicU64::new(0),
            users_rejected: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            addresses_blocked: AtomicU64::new(0),
            failures: FailureHistory::default(),
            tls_fingerprint: Mutex::default(),
            is_draining: AtomicBool::new(false),
            banned_networks: Mutex::default(),
            accept_failures: AtomicU64::new(0),
            task_panics: AtomicU64::new(0),
            stream_ends: EndCounters::default(),
            failing_listeners: FailingListeners::default(),
            memory: OnceLock::new(),
            live_services: Registry::default(),
            service_series: SeriesTable::new(MAX_SERVICE_SERIES),
            proxy_series: SeriesTable::new(MAX_PROXY_SERIES),
            logs_fields: AtomicBool::new(false),
            is_proxy: false,
            throttles: EventThrottles::default(),
            services: DashMap::new(),
            proxies: DashMap::new(),
            channels: DashMap::new(),
            users: Registry::default(),
            streams: Registry::default(),
        }
    }
}

impl Telemetry {
    /// Returns a hub without objects. Its creation is the start of the server that snapshot times count from.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns the hub of a proxy, without objects.
    pub fn of_proxy() -> Arc<Self> {
        Arc::new(Self { is_proxy: true, ..Self::default() })
    }

    /// Returns whether the hub is that of a proxy: its proxies are then the servers of its links.
    pub fn is_of_proxy(&self) -> bool {
        self.is_proxy
    }

    /// Returns a receiver of all events from now on. Take a [`snapshot`](Self::snapshot) *after* subscribing: an object
    /// that is registered between the two calls is then in both, and none is missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Broadcasts an event and logs it, with the target `lifecycle`. Returns whether it did.
    ///
    /// Must not be called while the lock of a [`TableMutex`](super::TableMutex) is held; debug builds check it.
    ///
    /// Of each kind of event that users and peers can cause at any rate, a limited number is emitted in a second; the
    /// rest is counted, and the log says how many were suppressed. Counters and snapshots are exact all the same.
    pub fn emit(&self, kind: EventKind) -> bool {
        let throttle = self.throttles.of(&kind);
        self.emit_throttled(throttle, kind)
    }

    /// Counts an event, and broadcasts and logs it, unless `throttle` suppresses it. Returns whether it did.
    pub(super) fn emit_throttled(&self, throttle: Option<&Throttle>, kind: EventKind) -> bool {
        self.count(&kind);
        if !self.is_logged(&kind) {
            // Not limited: nothing is formatted, and without a receiver nothing is kept.
            self.log_and_broadcast(kind, false);
            return true;
        }
        if let Some(throttle) = throttle {
            let Some(suppressed) = throttle.admit(Instant::now()) else {
                self.failures.count_suppressed(&kind);
                return false;
            };
            throttle.log_suppressed(suppressed, &kind);
        }
        self.log_and_broadcast(kind, true);
        true
    }

    /// Counts and broadcasts the end of a stream whose opening was emitted: each has one end, so that the throttle of
    /// the openings bounds the ends, too, and a row of the cockpit gets its reason and final totals. Ends that are no
    /// warnings are logged at most so often in a second as the throttle of the ends admits.
    pub(super) fn emit_announced_end(&self, ended: EventKind) {
        self.count(&ended);
        if !self.is_logged(&ended) {
            return self.log_and_broadcast(ended, false);
        }
        let throttle = &self.throttles.stream_ends;
        let admitted = if ended.is_warning() { Some(0) } else { throttle.admit(Instant::now()) };
        throttle.log_suppressed(admitted.unwrap_or_default(), &ended);
        self.log_and_broadcast(ended, admitted.is_some());
    }

    /// Counts a connection to the tunnel port that failed the handshake and is no event: what it asked for has ended,
    /// as happens after each restart and each refused registration, or it was closed before it sent anything, as by a
    /// health check every few seconds.
    pub fn count_failed_handshake(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    /// Returns whether an event of this kind is logged, unless too many are.
    fn is_logged(&self, kind: &EventKind) -> bool {
        !self.is_proxy || !kind.is_about_traffic()
    }

    /// Counts an event in the totals, and keeps what it says of the server's state for those that miss the event.
    fn count(&self, kind: &EventKind) {
        assert_no_table_locked();
        match kind {
            EventKind::UserRejected { .. } => _ = self.users_rejected.fetch_add(1, Relaxed),
            EventKind::AcceptFailed { .. } => _ = self.accept_failures.fetch_add(1, Relaxed),
            EventKind::TaskPanicked { .. } => _ = self.task_panics.fetch_add(1, Relaxed),
            EventKind::AddressBlocked { .. } => _ = self.addresses_blocked.fetch_add(1, Relaxed),
            EventKind::HandshakeFailed { .. } => _ = self.handshakes_failed.fetch_add(1, Relaxed),
            EventKind::TlsKeyChanged { fingerprint, .. } => {
                *self.tls_fingerprint.lock() = Some(fingerprint.as_str().into());
            }
            EventKind::DrainStarted { .. } => self.is_draining.store(true, Relaxed),
            EventKind::StreamEnded { reason, .. } => {
                self.stream_ends.count(reason);
                let is_loop = *reason == EndReason::ForwardingLoop;
                self.forwarding_loops.fetch_add(u64::from(is_loop), Relaxed);
                self.streams_empty.fetch_add(u64::from(kind.is_empty_stream()), Relaxed);
            }
            _ => {}
        }
    }

    /// Keeps an event that is a refusal or a failure, and broadcasts it; logs it before if `is_logged`.
    fn log_and_broadcast(&self, kind: EventKind, is_logged: bool) {
        if is_logged {
            hub_log::log(&kind, self.logs_fields.load(Relaxed));
        }
        let event = Event { epoch_ms: clock::epoch_ms(), kind };
        // Before it is broadcast: a client that subscribes and then reads what is kept misses none.
        self.failures.keep(&event);
        // An error only means that there is no receiver.
        _ = self.events.send(event);
    }

    /// Returns the newest refusals and failures. Taken *after* [`subscribe`](Self::subscribe), they and the events of
    /// the receiver have no gap between them; an event may be in both.
    pub fn recent_failures(&self) -> RecentFailures {
        self.failures.recent()
    }

    /// Returns the time since the server started, from which times in snapshots count.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the ids of the connected proxies with this name, sorted.
    pub fn proxies_named(&self, name: &str) -> Vec<ProxyId> {
        let named = self.proxies.iter().filter(|proxy| *proxy.name == *name);
        let mut ids: Vec<ProxyId> = named.map(|proxy| proxy.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Sets which services each server serves through this proxy, by the configured address of the server.
    pub fn set_services_of_servers(&self, served_by: impl Fn(&str) -> Vec<ServiceKey>) {
        self.proxies.iter().for_each(|server| server.set_services(served_by(&server.name)));
    }

    /// Publishes the networks whose users the operator has banned, for display.
    pub fn set_banned_networks(&self, networks: Vec<Network>) {
        *self.banned_networks.lock() = networks;
    }

    /// Returns the networks whose users the operator has banned.
    pub fn banned_networks(&self) -> Vec<Network> {
        self.banned_networks.lock().clone()
    }

    /// Counts a listener as failing for `reason`, until the returned guard is dropped.
    pub fn listener_fails(&self, listener: SocketAddr, reason: String) -> AcceptFailure<'_> {
        self.failing_listeners.add(listener, reason)
    }

    /// Returns a listener that has accepted no connection for at least `time`, and why; `None` if there is none.
    pub fn failing_listener(&self, time: Duration) -> Option<(SocketAddr, String)> {
        self.failing_listeners.failing_for(time)
    }

    /// Has lifecycle events logged with structured fields from now on, for a log that machines read. In a text they
    /// would only repeat the message.
    pub fn log_fields(&self) {
        self.logs_fields.store(true, Relaxed);
    }

    /// Returns the number of tasks that have panicked.
    pub fn task_panics(&self) -> u64 {
        self.task_panics.load(Relaxed)
    }

    /// Returns the number of proxies that are connected, or within their grace period.
    pub fn proxy_count(&self) -> usize {
        self.proxies.len()
    }

    /// Returns the server-wide sums and counts.
    pub fn totals(&self) -> Totals {
        Totals {
            down: self.traffic.down(),
            up: self.traffic.up(),
            streams_open: self.streams_gauge.now(),
            streams_total: self.streams_gauge.total(),
            streams_failed: self.streams_failed.load(Relaxed),
            streams_empty: self.streams_empty.load(Relaxed),
            forwarding_loops: self.forwarding_loops.load(Relaxed),
            users_current: self.users.len() as u64,
            users_rejected: self.users_rejected.load(Relaxed),
            handshakes_failed: self.handshakes_failed.load(Relaxed),
            addresses_blocked: self.addresses_blocked.load(Relaxed),
            draining: self.is_draining.load(Relaxed),
        }
    }
}
