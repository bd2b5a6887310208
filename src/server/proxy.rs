use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Core,
    balance::{Candidate, ProxyLoad},
    service::Service,
    ticket_rotation::TicketRotation,
};
use crate::{
    ids::{ChannelId, ProxyId, StreamKey, clean},
    link::{LatencyObserver, Link, LinkEvents, RateLimit, Stream},
    telemetry::{ChannelStats, DisconnectReason, EventKind, ProxyGuard, ProxyStats, StreamStats},
    wire::{AddProxy, Open, ResetCode, TunnelAction, TunnelMessage},
};

/// The most services one proxy may register, and the most channels it may have.
const MAX_SERVICES: usize = 64;
const MAX_CHANNELS: usize = crate::config::ProxyConfig::MAX_CHANNELS as usize;

/// One proxy that proved itself: its link, and what it serves.
#[derive(Debug)]
pub(super) struct RemoteProxy {
    pub(super) id: ProxyId,
    pub(super) stats: Arc<ProxyStats>,
    pub(super) link: Arc<Link>,
    pub(super) limit: Arc<RateLimit>,
    pub(super) load: Arc<ProxyLoad>,
    /// Who is told how quickly its streams are answered. Not the proxy itself, because its link's streams keep it.
    pub(super) answers: Arc<LatencyRecorder>,
    /// What another channel must show to join, beside the token.
    pub(super) tickets: Mutex<TicketRotation>,
    /// The proxy's share of the new streams of its services, relative to other proxies; 1 unless it or the operator sets
    /// another.
    weight: AtomicU32,
    /// The operator drains the proxy: it receives no new streams, and its open streams continue.
    is_draining: AtomicBool,
    /// It serves elsewhere too, and carries on here for as long as there are users.
    moved: AtomicBool,
    /// Why it takes no new streams, once it takes none: it said goodbye, was kicked, or lost its last channel.
    leaving: OnceLock<DisconnectReason>,
    guard: Mutex<Option<ProxyGuard>>,
    services: Mutex<Vec<Arc<Service>>>,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    /// The places that are taken; without counters as long as the handshake goes on.
    by_index: HashMap<u16, Option<Arc<ChannelStats>>>,
    /// The index given last. The next one differs, so that events of two channels are not taken for one's.
    last: u16,
}

/// One of a proxy's channels, from the handshake to the end. If none ever came as far as to carry something, the proxy
/// goes with the last of them: nothing else would end it.
#[derive(Debug)]
pub(super) struct ChannelSlot {
    pub(super) proxy: Arc<RemoteProxy>,
    pub(super) id: ChannelId,
}

impl ChannelSlot {
    /// The handshake is over, and this is where the channel's bytes are counted.
    pub(super) fn count(&self, stats: &Arc<ChannelStats>) {
        self.proxy.channels.lock().by_index.insert(self.id.index, Some(stats.clone()));
    }
}

impl Drop for ChannelSlot {
    fn drop(&mut self) {
        let last = {
            let by_index = &mut self.proxy.channels.lock().by_index;
            by_index.remove(&self.id.index);
            by_index.is_empty()
        };
        if last {
            self.proxy.link.abandon();
        }
    }
}

impl Candidate for RemoteProxy {
    fn is_available(&self) -> bool {
        self.leaving.get().is_none() && !self.is_draining.load(Relaxed)
    }

    fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    fn load(&self) -> &ProxyLoad {
        &self.load
    }
}

impl RemoteProxy {
    pub(super) fn new(guard: ProxyGuard, link: Arc<Link>, limit: Arc<RateLimit>) -> Arc<Self> {
        let (load, stats) = (Arc::<ProxyLoad>::default(), guard.stats().clone());
        Arc::new(Self {
            id: stats.id,
            answers: Arc::new(LatencyRecorder { load: load.clone(), stats: stats.clone() }),
            stats,
            link,
            limit,
            load,
            tickets: Mutex::new(TicketRotation::new()),
            weight: AtomicU32::new(1),
            is_draining: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            leaving: OnceLock::new(),
            guard: Mutex::new(Some(guard)),
            services: Mutex::default(),
            channels: Mutex::default(),
        })
    }

    /// A place for one more channel, or `None` if the proxy has as many as it may. One that comes `back` without the
    /// others has a place whatever they hold: it takes theirs.
    pub(super) fn place(self: &Arc<Self>, back: bool) -> Option<ChannelSlot> {
        let mut channels = self.channels.lock();
        if channels.by_index.len() >= MAX_CHANNELS + usize::from(back) {
            return None;
        }
        let Channels { by_index, last } = &mut *channels;
        let free = |index: &u16| *index > 0 && !by_index.contains_key(index);
        let index = (1..=u16::MAX).map(|n| last.wrapping_add(n)).find(free)?;
        by_index.insert(index, None);
        *last = index;
        Some(ChannelSlot { proxy: self.clone(), id: ChannelId { proxy: self.id, index } })
    }

    /// A channel is gone. The reason to show: where the proxy has said why it leaves, that is why.
    pub(super) fn channel_gone(&self, reason: DisconnectReason) -> DisconnectReason {
        let reason = self.leaving.get().cloned().unwrap_or(reason);
        if let Some(guard) = &*self.guard.lock() {
            guard.set_reason(reason.clone());
        }
        reason
    }

    /// The counters of the channel that carries `stream`.
    pub(super) fn channel_stats(&self, stream: &Stream) -> Option<Arc<ChannelStats>> {
        self.channels.lock().by_index.get(&self.link.channel_of(stream)?).cloned().flatten()
    }

    /// It takes no new streams, and this is why it will be gone. The first reason stays.
    pub(super) fn leave(&self, reason: DisconnectReason) {
        _ = self.leaving.set(reason);
        self.stats.mark_goaway_received();
    }

    /// The server ends, and its link with it.
    pub(super) fn send_off(&self) {
        self.leave(DisconnectReason::Shutdown);
        self.link.close(&DisconnectReason::Shutdown);
    }

    /// Whether users find it elsewhere.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.load(Relaxed)
    }

    /// Whether nothing of it is waited for any more.
    pub(super) fn has_received_goaway(&self) -> bool {
        self.leaving.get().is_some()
    }

    /// Sets the proxy's share of the new streams of its services, relative to other proxies.
    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
        self.stats.set_weight(weight);
    }

    /// It takes no new streams for now, or does again.
    pub(super) fn set_draining(&self, draining: bool) {
        self.is_draining.store(draining, Relaxed);
        self.stats.set_draining(draining);
        if !draining {
            self.services.lock().iter().for_each(|service| service.pool.look_again());
        }
    }

    /// Its last channel is gone.
    pub(super) fn gone(self: &Arc<Self>) {
        // Its driver is about to say the same, and may come too late.
        self.leave(self.channel_gone(self.link.why_closed()));
        for service in self.services.lock().drain(..) {
            service.pool.leave(self);
        }
        // Dropping it tells.
        self.guard.lock().take();
    }

    fn register(self: &Arc<Self>, core: &Arc<Core>, request: &AddProxy) -> Result<Arc<Service>, String> {
        let mut services = self.services.lock();
        // Nobody would ever take it out of the service's pool again.
        if self.leaving.get().is_some() {
            return Err("the proxy is leaving".to_owned());
        }
        if services.len() >= MAX_SERVICES {
            return Err(format!("one proxy may serve {MAX_SERVICES} ports"));
        }
        if let Some(weight) = request.weight {
            self.set_weight(weight);
        }
        let service = core.join(&request.service, self)?;
        if !services.iter().any(|known| Arc::ptr_eq(known, &service)) {
            services.push(service.clone());
            // From now on there is something that it can come back to.
            self.link.set_grace(core.config.grace_period);
            if let Some(guard) = &*self.guard.lock() {
                guard.registered(service.key.clone());
            }
        }
        Ok(service)
    }
}

/// Where it is noted how quickly a proxy answers: for whoever looks, and for whoever picks a proxy.
#[derive(Debug)]
pub(super) struct LatencyRecorder {
    load: Arc<ProxyLoad>,
    stats: Arc<ProxyStats>,
}

impl LatencyObserver for LatencyRecorder {
    fn connected(&self, stream: &StreamStats, took: Duration) {
        self.load.answered(took);
        stream.record_connect_latency(&self.stats, took);
    }

    fn first_byte(&self, stream: &StreamStats, took: Duration) {
        self.load.answered(took);
        stream.record_time_to_first_byte(&self.stats, took);
    }

    fn dequeued(&self, stream: &StreamStats, waited: Duration) {
        stream.record_queue_wait(&self.stats, waited);
    }
}

/// What the server does with what a link tells it.
pub(super) struct RemoteProxyEvents {
    pub(super) core: Arc<Core>,
    /// Set as soon as there is one. Weak, because the proxy owns the link that owns this.
    pub(super) proxy: OnceLock<Weak<RemoteProxy>>,
}

impl RemoteProxyEvents {
    fn proxy(&self) -> Option<Arc<RemoteProxy>> {
        self.proxy.get()?.upgrade()
    }

    /// A proxy that was sent away says goodbye once it serves elsewhere, and until then and after carries what it is
    /// given. Any other goes.
    fn goodbye(&self, proxy: &RemoteProxy) {
        if self.core.draining.is_cancelled() {
            proxy.moved.store(true, Relaxed);
            self.core.moved.notify_one();
        } else {
            proxy.leave(DisconnectReason::GoAway);
        }
    }
}

impl LinkEvents for RemoteProxyEvents {
    fn stream_opened(&self, stream: Stream, _open: Open) {
        // The mux refuses a proxy's OPEN before it comes here.
        stream.reset(ResetCode::ProtocolViolation);
    }

    fn message_received(&self, link: &Arc<Link>, channel: u16, message: TunnelMessage) {
        let Some(proxy) = self.proxy() else { return };
        match message.action {
            TunnelAction::AddProxy(request) => {
                let answer = match proxy.register(&self.core, &request) {
                    Ok(service) => TunnelMessage::control(TunnelAction::Response, service.key.to_string()),
                    Err(reason) => {
                        let event =
                            EventKind::RegistrationRefused { proxy: proxy.id, reason: reason.clone() };
                        self.core.telemetry.emit(event);
                        TunnelMessage::error(&reason)
                    }
                };
                link.send_message(channel, answer);
                if self.core.draining.is_cancelled() {
                    // It came too late to be told with the others.
                    self.core.send_away(&proxy);
                }
            }
            TunnelAction::Exit => self.goodbye(&proxy),
            TunnelAction::Error => {
                let reason = clean(&String::from_utf8_lossy(&message.data), 200);
                tracing::warn!("proxy {} reports on channel {channel}: {reason}", proxy.id);
            }
            // A second AUTH is harmless. What else may come here is an answer to nothing.
            _ => {}
        }
    }

    fn go_away_received(&self, _code: ResetCode) {
        if let Some(proxy) = self.proxy() {
            self.goodbye(&proxy);
        }
    }

    fn detached(&self, until: Instant) {
        if let Some(proxy) = self.proxy() {
            proxy.stats.set_grace_deadline(Some(until));
            let grace = until.saturating_duration_since(Instant::now());
            self.core.telemetry.emit(EventKind::GracePeriodStarted { proxy: proxy.id, grace });
        }
    }

    fn resumed(&self, after: Duration) {
        if let Some(proxy) = self.proxy() {
            proxy.stats.set_grace_deadline(None);
            self.core.telemetry.emit(EventKind::ProxyResumed { proxy: proxy.id, after });
            proxy.services.lock().iter().for_each(|service| service.pool.look_again());
        }
    }

    fn unknown_stream(&self, channel: u16, key: StreamKey) {
        if let Some(proxy) = self.proxy() {
            let channel = ChannelId { proxy: proxy.id, index: channel };
            self.core.telemetry.emit(EventKind::UnknownStream { channel, key });
        }
    }
}
