//! Registration of live objects. Each method returns a guard that owns the registration; the drop of the guard reports
//! the end of the object.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{
    ByteCounters, ChannelFormat, ChannelStats, DisconnectReason, EndReason, EventKind, Gauge, ProxyStats,
    RateLimitGauges, ServiceStats, StreamInfo, StreamPhase, StreamStats, Telemetry, UserStats,
};
use crate::ids::{ChannelId, ProxyId, ServiceKey, StreamKey, UserChannelId};

#[cfg(test)]
mod tests;

impl Telemetry {
    /// Registers a service whose public port was opened, and emits [`EventKind::ServiceOpened`]. For tests and
    /// benchmarks; the server does both by itself, because it holds the lock of a table in between.
    pub fn service_opened(self: &Arc<Self>, key: ServiceKey) -> ServiceGuard {
        let guard = self.register_service(key);
        guard.report_opened();
        guard
    }

    /// Registers a service without an event, while the lock of a table may be held. The caller calls
    /// [`report_opened`](ServiceGuard::report_opened) once it has released that.
    pub fn register_service(self: &Arc<Self>, key: ServiceKey) -> ServiceGuard {
        let series = self.service_series.join(&key.to_string());
        let stats = Arc::new(ServiceStats::new(key.clone(), series));
        self.services.insert(key, stats.clone());
        let number = self.live_services.insert(stats.clone());
        ServiceGuard { telemetry: self.clone(), stats, number }
    }

    /// Registers a proxy that authenticated its first channel, and emits [`EventKind::ProxyConnected`]. The caller has
    /// removed control characters from `name`.
    pub fn proxy_up(self: &Arc<Self>, id: ProxyId, name: String, addr: SocketAddr) -> ProxyGuard {
        let series = self.proxy_series.join(&name);
        series.counters.links.fetch_add(1, Relaxed);
        let stats = Arc::new(ProxyStats::new(id, name.clone(), addr, series));
        self.proxies.insert(id, stats.clone());
        self.emit(EventKind::ProxyConnected { proxy: id, name, addr });
        ProxyGuard::new(self.clone(), stats)
    }

    /// Registers a link of this proxy to the server with the configured address `server`, and emits
    /// [`EventKind::ServerConnected`]. In snapshots the server takes the place of a proxy.
    pub fn server_up(self: &Arc<Self>, link: ProxyId, server: &str, addr: SocketAddr) -> ProxyGuard {
        let stats = Arc::new(ProxyStats::new(link, server.to_owned(), addr, self.proxy_series.join(server)));
        self.proxies.insert(link, stats.clone());
        self.emit(EventKind::ServerConnected { link, server: server.to_owned(), addr });
        ProxyGuard::new(self.clone(), stats)
    }

    /// Registers a channel, and emits [`EventKind::ChannelConnected`], or [`EventKind::ChannelOpened`] on a proxy.
    pub fn channel_up(
        self: &Arc<Self>,
        id: ChannelId,
        addr: SocketAddr,
        format: ChannelFormat,
    ) -> ChannelGuard {
        let series = self.proxies.get(&id.proxy).map(|proxy| proxy.series.clone());
        let stats = Arc::new(ChannelStats::new(id, addr, format, series));
        self.channels.insert(id, stats.clone());
        self.emit(match self.is_of_proxy() {
            true => EventKind::ChannelOpened { channel: id, addr },
            false => EventKind::ChannelConnected { channel: id, addr },
        });
        ChannelGuard::new(self.clone(), stats)
    }

    /// Registers a user whose first connection was accepted, and emits [`EventKind::UserJoined`]. For tests and
    /// benchmarks, as [`service_opened`](Self::service_opened) is.
    pub fn user_joined(
        self: &Arc<Self>,
        id: UserChannelId,
        addr: IpAddr,
        service: &Arc<ServiceStats>,
    ) -> UserGuard {
        let guard = self.register_user(id, addr, service);
        guard.report_joined();
        guard
    }

    /// Registers a user without an event, while the lock of a table may be held. The caller calls
    /// [`report_joined`](UserGuard::report_joined) once it has released that.
    pub fn register_user(
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
        let number = self.users.insert(stats.clone());
        UserGuard { telemetry: self.clone(), stats, number }
    }

    /// Registers a stream for an accepted user connection, and emits [`EventKind::StreamOpened`]. For tests and
    /// benchmarks, as [`service_opened`](Self::service_opened) is.
    pub fn stream_opened(
        self: &Arc<Self>,
        key: StreamKey,
        addr: SocketAddr,
        user: &Arc<UserStats>,
    ) -> StreamGuard {
        self.announce_stream(self.new_stream(key, addr, user))
    }

    /// Creates the counters of a stream for an accepted user connection, which are not shown yet.
    pub fn new_stream(&self, key: StreamKey, addr: SocketAddr, user: &Arc<UserStats>) -> Arc<StreamStats> {
        let service = user.service.key.clone();
        let info = StreamInfo { key, addr, service, opened_at: self.started.elapsed() };
        Arc::new(StreamStats::new(info, user.clone(), self.traffic.clone()))
    }

    /// Registers a stream with these counters, and emits [`EventKind::StreamOpened`]. From then on operators know its
    /// key, and their commands have to find it.
    pub fn announce_stream(self: &Arc<Self>, stats: Arc<StreamStats>) -> StreamGuard {
        let number = self.streams.insert(stats.clone());
        let user = &stats.user;
        for gauge in [&self.streams_gauge, &user.streams, &user.service.streams] {
            gauge.enter();
        }
        user.service.series.counters.opened.fetch_add(1, Relaxed);
        let (key, addr, service) = (stats.key, stats.addr, user.service.key.clone());
        let is_announced = self.emit(EventKind::StreamOpened { key, addr, service });
        StreamGuard { telemetry: self.clone(), stats, number, is_announced }
    }
}

/// The registration of a service. Dropping it removes the service and emits [`EventKind::ServiceClosed`].
#[derive(Debug)]
pub struct ServiceGuard {
    /// The hub that the service is removed from.
    pub(super) telemetry: Arc<Telemetry>,
    /// The counters of the service.
    pub(super) stats: Arc<ServiceStats>,
    /// Its serial number in the registry of services.
    pub(super) number: u64,
}

impl ServiceGuard {
    /// Emits [`EventKind::ServiceOpened`].
    pub fn report_opened(&self) {
        self.telemetry.emit(EventKind::ServiceOpened { service: self.stats.key.clone() });
    }

    /// Returns the counters of the service.
    pub fn stats(&self) -> &Arc<ServiceStats> {
        &self.stats
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        self.telemetry.service_series.leave(&self.stats.series, |counters| {
            // The same port may have been opened again already.
            self.telemetry.services.remove_if(&self.stats.key, |_, stats| Arc::ptr_eq(stats, &self.stats));
            self.telemetry.live_services.remove(self.number);
            counters.retire(self.stats.traffic.down(), self.stats.traffic.up());
        });
        self.telemetry.emit(EventKind::ServiceClosed { service: self.stats.key.clone() });
    }
}

/// The registration of a user. Dropping it removes the user and emits [`EventKind::UserLeft`].
#[derive(Debug)]
pub struct UserGuard {
    /// The hub that the user is removed from.
    pub(super) telemetry: Arc<Telemetry>,
    /// The counters of the user.
    pub(super) stats: Arc<UserStats>,
    /// The user's serial number in the registry of users.
    pub(super) number: u64,
}

impl UserGuard {
    /// Emits [`EventKind::UserJoined`].
    pub fn report_joined(&self) {
        let (user, addr, service) = (self.stats.id, self.stats.addr, self.stats.service.key.clone());
        self.telemetry.emit(EventKind::UserJoined { user, addr, service });
    }

    /// Returns the counters of the user.
    pub fn stats(&self) -> &Arc<UserStats> {
        &self.stats
    }
}

impl Drop for UserGuard {
    fn drop(&mut self) {
        self.stats.left.store(true, Relaxed);
        self.telemetry.users.remove(self.number);
        self.telemetry.emit(EventKind::UserLeft { user: self.stats.id });
    }
}

/// The registration of a proxy, or of a proxy's link to a server. Dropping it removes the proxy and emits
/// [`EventKind::ProxyDisconnected`] or [`EventKind::ServerDisconnected`].
#[derive(Debug)]
pub struct ProxyGuard {
    /// The hub that the proxy is removed from.
    telemetry: Arc<Telemetry>,
    /// The counters of the proxy.
    stats: Arc<ProxyStats>,
    /// The reason that the drop of the guard reports.
    reason: parking_lot::Mutex<DisconnectReason>,
}

impl ProxyGuard {
    /// Creates the guard of a registered proxy, with [`DisconnectReason::Closed`] as the reason.
    pub(super) fn new(telemetry: Arc<Telemetry>, stats: Arc<ProxyStats>) -> Self {
        Self { telemetry, stats, reason: parking_lot::Mutex::new(DisconnectReason::Closed) }
    }

    /// Returns the counters of the proxy.
    pub fn stats(&self) -> &Arc<ProxyStats> {
        &self.stats
    }

    /// Adds `service` to the services the proxy is registered for, and emits [`EventKind::ProxyRegistered`].
    pub fn registered(&self, service: ServiceKey) {
        self.stats.services.lock().push(service.clone());
        let (proxy, name, addr) = (self.stats.id, self.stats.name.to_string(), self.stats.addr);
        self.telemetry.emit(EventKind::ProxyRegistered { proxy, name, addr, service });
    }

    /// Removes `service` from the services the proxy is registered for, and emits [`EventKind::ProxyDeregistered`].
    pub fn deregistered(&self, service: ServiceKey) {
        self.stats.services.lock().retain(|known| *known != service);
        let (proxy, name) = (self.stats.id, self.stats.name.to_string());
        self.telemetry.emit(EventKind::ProxyDeregistered { proxy, name, service });
    }

    /// Sets the reason for the disconnection that the drop of the guard reports; [`DisconnectReason::Closed`] where
    /// none is set.
    pub fn set_reason(&self, reason: DisconnectReason) {
        *self.reason.lock() = reason;
    }
}

impl Drop for ProxyGuard {
    fn drop(&mut self) {
        self.telemetry.proxy_series.leave(&self.stats.series, |counters| {
            self.telemetry.proxies.remove(&self.stats.id);
            counters.retire(self.stats.traffic.down(), self.stats.traffic.up());
        });
        let (id, name, reason) = (self.stats.id, self.stats.name.to_string(), self.reason.get_mut().clone());
        self.telemetry.emit(match self.telemetry.is_of_proxy() {
            true => EventKind::ServerDisconnected { link: id, server: name, reason },
            false => EventKind::ProxyDisconnected { proxy: id, name, reason },
        });
    }
}

/// The registration of a channel. Dropping it removes the channel and emits [`EventKind::ChannelDisconnected`].
#[derive(Debug)]
pub struct ChannelGuard {
    /// The hub that the channel is removed from.
    telemetry: Arc<Telemetry>,
    /// The counters of the channel.
    stats: Arc<ChannelStats>,
    /// The reason that the drop of the guard reports.
    reason: parking_lot::Mutex<DisconnectReason>,
}

impl ChannelGuard {
    /// Creates the guard of a registered channel, with [`DisconnectReason::Closed`] as the reason.
    pub(super) fn new(telemetry: Arc<Telemetry>, stats: Arc<ChannelStats>) -> Self {
        Self { telemetry, stats, reason: parking_lot::Mutex::new(DisconnectReason::Closed) }
    }

    /// Returns the counters of the channel.
    pub fn stats(&self) -> &Arc<ChannelStats> {
        &self.stats
    }

    /// Sets the reason that the drop of the guard reports; [`DisconnectReason::Closed`] where none is set.
    pub fn set_reason(&self, reason: DisconnectReason) {
        *self.reason.lock() = reason;
    }
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.telemetry.proxy_series.locked(|| {
            self.telemetry.channels.remove(&self.stats.id);
            if let Some(series) = &self.stats.series {
                let stats = &self.stats;
                series.counters.retire_channel(stats.received(), stats.sent(), stats.known_retransmissions());
            }
        });
        let reason = self.reason.get_mut().clone();
        self.telemetry.emit(EventKind::ChannelDisconnected { channel: self.stats.id, reason });
    }
}

/// The registration of a stream. Dropping it removes the stream and emits [`EventKind::StreamEnded`] with the reason
/// that [`end`](Self::end) was given, or with [`EndReason::Internal`].
#[derive(Debug)]
pub struct StreamGuard {
    /// The hub that the stream is removed from.
    telemetry: Arc<Telemetry>,
    /// The counters of the stream.
    stats: Arc<StreamStats>,
    /// The stream's serial number in the registry of streams.
    number: u64,
    /// Whether the event that the stream was opened was emitted, and not suppressed in a flood of connections.
    is_announced: bool,
}

impl StreamGuard {
    /// Returns the counters of the stream.
    pub fn stats(&self) -> &Arc<StreamStats> {
        &self.stats
    }

    /// Records on a proxy by which link the server has opened the stream, and that the target is being connected to.
    pub fn opened_by(&self, link: &Arc<ProxyStats>) {
        link.streams.enter();
        self.stats.proxy.store(Some(link.clone()));
        self.stats.set_phase(StreamPhase::Opening);
    }

    /// Records the proxy that the stream is assigned to and its first primary channel, and emits
    /// [`EventKind::StreamAssigned`]. A second call reassigns the stream: it then no longer counts as one of the first
    /// proxy's. The server reassigns only as long as no target has received data of the stream, because the connection
    /// to the target ends at the proxy.
    pub fn assigned(&self, proxy: &Arc<ProxyStats>, channel: &Arc<ChannelStats>) {
        proxy.streams.enter();
        proxy.series.counters.assigned.fetch_add(1, Relaxed);
        if let Some(before) = self.stats.proxy.swap(Some(proxy.clone())) {
            before.streams.undo_enter();
        }
        self.stats.set_channel(Some(channel.clone()));
        self.stats.set_phase(StreamPhase::Opening);
        if self.is_announced {
            let name = proxy.name.clone();
            self.telemetry.emit(EventKind::StreamAssigned { key: self.stats.key, proxy: proxy.id, name });
        }
    }

    /// Ends the stream with this reason: removes it and emits [`EventKind::StreamEnded`]. Where both directions were
    /// closed within a transfer, the reason becomes the side that cut it short.
    pub fn end(self, reason: EndReason) {
        let reason = match self.stats.shortfall() {
            Some(shortfall) if reason == EndReason::Finished && shortfall.is_user_closed => {
                EndReason::UserClosed
            }
            Some(_) if reason == EndReason::Finished => EndReason::Short,
            _ => reason,
        };
        // The drop of `self` reports it. Fails only if a reason was set before, which then stands.
        _ = self.stats.ended.set(reason);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let stats = &self.stats;
        let reason = stats.ended.get_or_init(|| EndReason::Internal).clone();
        stats.set_phase(StreamPhase::Ended);
        self.telemetry.streams.remove(self.number);
        for gauge in [&self.telemetry.streams_gauge, &stats.user.streams, &stats.user.service.streams] {
            gauge.leave();
        }
        let proxy = stats.proxy.load_full();
        if let Some(proxy) = &proxy {
            proxy.streams.leave();
        }
        stats.set_channel(None);
        stats.set_details_source(None);
        let (down, up) = (stats.traffic.down(), stats.traffic.up());
        let lasted = self.telemetry.started.elapsed().saturating_sub(stats.info.opened_at);
        let counters = &stats.user.service.series.counters;
        counters.duration.record_duration(lasted);
        counters.stream_down.record(down);
        counters.stream_up.record(up);
        if reason.is_failure() {
            self.telemetry.streams_failed.fetch_add(1, Relaxed);
            counters.failed.fetch_add(1, Relaxed);
        }
        let ended = EventKind::StreamEnded {
            key: stats.key,
            shortfall: reason.relevant(stats.shortfall()),
            reason,
            down,
            up,
            addr: stats.addr,
            service: stats.user.service.key.clone(),
            proxy: proxy.as_ref().map(|proxy| proxy.id),
            proxy_name: proxy.map(|proxy| proxy.name.clone()),
            lasted,
            time_to_first_byte: stats.time_to_first_byte(),
            content: stats.content(),
        };
        if self.is_announced {
            self.telemetry.emit_announced_end(ended);
        } else {
            let throttle = &self.telemetry.throttles.unannounced_stream_ends;
            self.telemetry.emit_throttled(Some(throttle), ended);
        }
    }
}
