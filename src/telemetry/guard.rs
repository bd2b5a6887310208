use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    ChannelStats, DisconnectReason, EndReason, EventKind, ProxyStats, ServiceStats, StreamPhase, StreamStats,
    Telemetry, UserStats,
};
use crate::ids::ServiceKey;

/// Holds a service's place; dropping it says that the port is closed.
#[derive(Debug)]
pub struct ServiceGuard {
    pub(super) hub: Arc<Telemetry>,
    pub(super) stats: Arc<ServiceStats>,
}

impl ServiceGuard {
    /// The counters.
    pub fn stats(&self) -> &Arc<ServiceStats> {
        &self.stats
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        // The same port may be open anew already.
        self.hub.services.remove_if(&self.stats.key, |_, stats| Arc::ptr_eq(stats, &self.stats));
        self.hub.emit(EventKind::ServiceClosed { service: self.stats.key.clone() });
    }
}

/// Holds a user's place; dropping it says that the user left.
#[derive(Debug)]
pub struct UserGuard {
    pub(super) hub: Arc<Telemetry>,
    pub(super) stats: Arc<UserStats>,
    pub(super) number: u64,
}

impl UserGuard {
    /// The counters.
    pub fn stats(&self) -> &Arc<UserStats> {
        &self.stats
    }
}

impl Drop for UserGuard {
    fn drop(&mut self) {
        self.stats.left.store(true, Relaxed);
        self.hub.users.leave(self.number);
        self.hub.emit(EventKind::UserLeft { user: self.stats.id });
    }
}

/// Holds a proxy's place; dropping it says that the proxy is gone.
#[derive(Debug)]
pub struct ProxyGuard {
    hub: Arc<Telemetry>,
    stats: Arc<ProxyStats>,
    reason: parking_lot::Mutex<DisconnectReason>,
}

impl ProxyGuard {
    pub(super) fn new(hub: Arc<Telemetry>, stats: Arc<ProxyStats>) -> Self {
        Self { hub, stats, reason: parking_lot::Mutex::new(DisconnectReason::Closed) }
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<ProxyStats> {
        &self.stats
    }

    /// Notes that the proxy serves `service` from now on.
    pub fn registered(&self, service: ServiceKey) {
        self.stats.services.lock().push(service.clone());
        self.hub.emit(EventKind::ProxyRegistered { proxy: self.stats.id, service });
    }

    /// What to say when the guard is dropped. [`DisconnectReason::Closed`] if nobody says.
    pub fn set_reason(&self, reason: DisconnectReason) {
        *self.reason.lock() = reason;
    }
}

impl Drop for ProxyGuard {
    fn drop(&mut self) {
        self.hub.proxies.remove(&self.stats.id);
        self.hub.emit(EventKind::ProxyDisconnected {
            proxy: self.stats.id,
            name: self.stats.name.to_string(),
            reason: self.reason.get_mut().clone(),
        });
    }
}

/// Holds a channel's place; dropping it says that the channel is gone.
#[derive(Debug)]
pub struct ChannelGuard {
    hub: Arc<Telemetry>,
    stats: Arc<ChannelStats>,
    reason: parking_lot::Mutex<DisconnectReason>,
}

impl ChannelGuard {
    pub(super) fn new(hub: Arc<Telemetry>, stats: Arc<ChannelStats>) -> Self {
        Self { hub, stats, reason: parking_lot::Mutex::new(DisconnectReason::Closed) }
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<ChannelStats> {
        &self.stats
    }

    /// What to say when the guard is dropped. [`DisconnectReason::Closed`] if nobody says.
    pub fn set_reason(&self, reason: DisconnectReason) {
        *self.reason.lock() = reason;
    }
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.hub.channels.remove(&self.stats.id);
        let reason = self.reason.get_mut().clone();
        self.hub.emit(EventKind::ChannelDisconnected { channel: self.stats.id, reason });
    }
}

/// Holds a stream's place; dropping it says how the stream ended, an internal error if nobody said.
#[derive(Debug)]
pub struct StreamGuard {
    hub: Arc<Telemetry>,
    stats: Arc<StreamStats>,
    number: u64,
}

impl StreamGuard {
    pub(super) fn new(hub: Arc<Telemetry>, stats: Arc<StreamStats>, number: u64) -> Self {
        Self { hub, stats, number }
    }

    /// The counters.
    pub fn stats(&self) -> &Arc<StreamStats> {
        &self.stats
    }

    /// Notes which proxy was chosen, and the channel to begin with. Another one only replaces it as long as no target
    /// has seen anything of the stream: the connection to the target lives at the proxy.
    pub fn assigned(&self, proxy: &Arc<ProxyStats>, channel: &Arc<ChannelStats>) {
        proxy.streams.enter();
        if let Some(before) = self.stats.proxy.swap(Some(proxy.clone())) {
            before.streams.pass_on();
        }
        self.stats.set_channel(Some(channel.clone()));
        self.stats.set_phase(StreamPhase::Opening);
        self.hub.emit(EventKind::StreamAssigned { key: self.stats.key, proxy: proxy.id });
    }

    /// The stream is over, and why.
    pub fn end(self, reason: EndReason) {
        // The drop below tells it. The first reason stays.
        _ = self.stats.ended.set(reason);
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let stats = &self.stats;
        let reason = stats.ended.get_or_init(|| EndReason::Internal).clone();
        stats.set_phase(StreamPhase::Ended);
        self.hub.streams.leave(self.number);
        for gauge in [&self.hub.open, &stats.user.streams, &stats.user.service.streams] {
            gauge.leave();
        }
        if let Some(proxy) = &*stats.proxy.load() {
            proxy.streams.leave();
        }
        stats.set_channel(None);
        stats.set_details_source(None);
        if !reason.is_clean() {
            self.hub.failed.fetch_add(1, Relaxed);
        }
        let (down, up) = (stats.traffic.down(), stats.traffic.up());
        let content = stats.content();
        self.hub.emit(EventKind::StreamEnded { key: stats.key, reason, down, up, content });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use crate::{
        ids::{ChannelId, ProxyId, StreamKey, UserChannelId},
        telemetry::{ChannelFormat, EndReason, EventKind, StreamPhase, Telemetry, Totals},
    };

    #[test]
    fn all_counters_return_to_zero_and_every_end_is_told() {
        let hub = Telemetry::new();
        let mut events = hub.subscribe();
        let addr: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let id = UserChannelId::new(0xABC123);
        {
            let service = hub.service_opened("8080".parse().unwrap());
            let proxy = hub.proxy_up(ProxyId(1), "lab".into(), addr);
            let channel =
                hub.channel_up(ChannelId { proxy: ProxyId(1), index: 1 }, addr, ChannelFormat::Binary);
            let user = hub.user_joined(id, addr.ip(), service.stats());
            let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
            stream.assigned(proxy.stats(), channel.stats());
            stream.stats().add_down(7);
            let forgotten = hub.stream_opened(StreamKey::new(id, 2), addr, user.stats());
            assert_eq!(hub.totals().streams_open, 2);
            assert_eq!(hub.snapshot().proxies[0].down, 7);
            let stats = forgotten.stats().clone();
            drop(forgotten);
            assert_eq!(stats.phase(), StreamPhase::Ended);
            assert_eq!(stats.ended(), Some(&EndReason::Internal));
            stream.end(EndReason::Finished);
        }
        let after = hub.snapshot();
        let expected = Totals { down: 7, streams_total: 2, streams_failed: 1, ..Totals::default() };
        assert_eq!(after.totals, expected);
        assert!(after.streams.is_empty() && after.users.is_empty() && after.proxies.is_empty());
        let mut ends = 0;
        while let Ok(event) = events.try_recv() {
            ends += usize::from(matches!(event.kind, EventKind::StreamEnded { .. }));
        }
        assert_eq!(ends, 2);
    }
}
