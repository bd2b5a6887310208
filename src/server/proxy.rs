//! One authenticated proxy as the server sees it: its link, its channels and the services that it serves.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    balance::{Candidate, ProxyLoad},
    channel_table::ChannelTable,
    grants::{Grant, GrantUse},
    latency_recorder::LatencyRecorder,
    registrations::{Registrations, Repeated},
    service::Service,
    ticket_rotation::TicketRotation,
    tunnel_descriptors::TunnelDescriptor,
};
use crate::{
    config::ServiceConfig,
    ids::{AddressBlock, ChannelId, Direction, ProxyId},
    link::{Link, RateLimit, Stream},
    telemetry::{ChannelStats, DisconnectReason, ProxyGuard, ProxyStats, TableMutex},
};

/// One authenticated proxy, from its first handshake until its link ends. It survives the loss of all of its channels
/// for the grace period.
#[derive(Debug)]
pub(super) struct RemoteProxy {
    /// The id by which operators and events name the proxy.
    pub(super) id: ProxyId,
    /// The address that the first channel came from, for which channels and ports are counted.
    pub(super) address: AddressBlock,
    /// The proxy's telemetry counters, for display; no decision reads them.
    pub(super) stats: Arc<ProxyStats>,
    /// The link to this proxy: the session over all of its channels.
    pub(super) link: Arc<Link>,
    /// The rate limit of all streams of this proxy together.
    pub(super) limit: Arc<RateLimit>,
    /// Counts the proxy among those of its token.
    counted: GrantUse,
    /// The number of its open streams and how fast it answers, for the balancer.
    pub(super) load: Arc<ProxyLoad>,
    /// Receives the latencies of its streams. A separate object, because the link's streams hold it and the proxy
    /// holds the link: a reference to the proxy itself would form a cycle that is never freed.
    pub(super) latency_recorder: Arc<LatencyRecorder>,
    /// The resumption tickets of the link: the secrets of which a further channel, or a resumption, must prove one
    /// besides the token.
    pub(super) tickets: Mutex<TicketRotation>,
    /// One permit, for the only unfinished resumption that uses the descriptor of the link. Without it, parallel
    /// resumptions of one link would hold as many sockets as it may have channels.
    pub(super) resumption: Semaphore,
    /// The proxy's share of the new streams of its services, relative to other proxies; 1 unless it or the operator
    /// sets another.
    weight: AtomicU32,
    /// Whether the operator has set the weight, which its registrations do not change then.
    has_operator_weight: AtomicBool,
    /// Whether the operator drains the proxy: it receives no new streams, and its open streams continue.
    is_draining: AtomicBool,
    /// Whether the proxy has a channel. Its services keep it without one, for the grace period, but no stream can be
    /// opened to it then.
    is_attached: AtomicBool,
    /// Whether the proxy has registered with the successor of this draining server, and answered its GOAWAY. It still
    /// serves streams here while there are users.
    has_moved: AtomicBool,
    /// Whether the proxy has opened another link that replaces this one, whose stream numbers run out. Its open streams
    /// continue.
    is_replaced: AtomicBool,
    /// Why the proxy receives no new streams any more and cannot resume: it sent GOAWAY, was kicked, the server
    /// aborts, or its link ended. Empty until then.
    closing: OnceLock<DisconnectReason>,
    /// The telemetry guard of the proxy. Taken and dropped when the link has ended, which reports that the proxy has
    /// disconnected.
    guard: TableMutex<Option<Arc<ProxyGuard>>>,
    /// The services that the proxy has registered for, and its searches for a free port.
    services: TableMutex<Registrations<Self>>,
    /// The channel numbers in use. May be locked while the link state is locked next, never in the other order.
    channels: Mutex<ChannelTable>,
}

/// The maximum number of services that one proxy may register for.
pub(super) const MAX_SERVICES_PER_PROXY: usize = ServiceConfig::MAX;

/// A search for a free port, which counts among the services of its proxy until it is dropped.
#[derive(Debug)]
pub(super) struct PortSearch {
    /// The proxy.
    proxy: Arc<RemoteProxy>,
    /// The number of the request.
    number: Option<u32>,
}

impl Drop for PortSearch {
    fn drop(&mut self) {
        self.proxy.services.lock().end_search(self.number);
    }
}

/// What becomes of a request for any port.
#[derive(Debug)]
pub(super) enum AnyPortRequest {
    /// A port has to be looked for.
    New(PortSearch),
    /// It was made before.
    Repeated(Repeated<RemoteProxy>),
}

/// Why a proxy gets no further service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceRejection {
    /// The proxy is closing. It may have left its services already, and would never leave this one.
    ProxyClosing,
    /// The proxy has [`MAX_SERVICES_PER_PROXY`] services.
    TooManyServices,
}

/// One channel number of a proxy, from the handshake to the end of the channel. Dropping it frees the number. If the
/// link never had a channel that completed its handshake, dropping the last slot ends the link, which nothing else
/// would.
#[derive(Debug)]
pub(super) struct ChannelSlot {
    /// The proxy that the channel belongs to.
    pub(super) proxy: Arc<RemoteProxy>,
    /// The id of the channel: the proxy's id and the number of the channel.
    pub(super) id: ChannelId,
    /// The reserved descriptor of the channel; `None` for the one that began or resumed the link, which has its own.
    /// One that resumes it beside another unfinished resumption has a reserved one.
    pub(super) descriptor: Option<TunnelDescriptor>,
    /// Counts the channel among those of the proxy's token.
    pub(super) _counted: GrantUse,
}

impl ChannelSlot {
    /// Stores the channel's counters, once its handshake has completed.
    pub(super) fn set_stats(&self, stats: &Arc<ChannelStats>) {
        self.proxy.channels.lock().set_stats(self.id.index, stats.clone());
    }
}

impl Drop for ChannelSlot {
    fn drop(&mut self) {
        let was_last = self.proxy.channels.lock().release(self.id.index);
        if was_last {
            self.proxy.link.end_if_never_attached();
        }
    }
}

impl Candidate for RemoteProxy {
    /// Returns whether the proxy has a channel and is neither closing nor replaced nor drained by the operator.
    fn is_available(&self) -> bool {
        self.is_attached.load(Relaxed)
            && !(self.is_closing() || self.is_replaced.load(Relaxed) || self.is_draining.load(Relaxed))
    }

    /// Returns the proxy's load-balancing weight.
    fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Returns the proxy's open streams and latency.
    fn load(&self) -> &ProxyLoad {
        &self.load
    }
}

impl RemoteProxy {
    /// Creates a proxy that has no channels and serves nothing yet.
    pub(super) fn new(
        id: ProxyId,
        address: AddressBlock,
        guard: ProxyGuard,
        link: Arc<Link>,
        limit: Arc<RateLimit>,
        counted: GrantUse,
    ) -> Arc<Self> {
        let (load, stats) = (Arc::<ProxyLoad>::default(), guard.stats().clone());
        Arc::new(Self {
            id,
            address,
            latency_recorder: Arc::new(LatencyRecorder::new(load.clone(), stats.clone())),
            stats,
            link,
            limit,
            counted,
            load,
            tickets: Mutex::new(TicketRotation::new()),
            resumption: Semaphore::new(1),
            weight: AtomicU32::new(1),
            has_operator_weight: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_attached: AtomicBool::new(true),
            has_moved: AtomicBool::new(false),
            is_replaced: AtomicBool::new(false),
            closing: OnceLock::new(),
            guard: TableMutex::new(Some(Arc::new(guard))),
            services: TableMutex::default(),
            channels: Mutex::default(),
        })
    }

    /// Allocates the slot of one more channel. Returns `None` if the proxy has its maximum of channels; a channel
    /// that resumes the link may exceed it by one, because it replaces all others.
    /// `counted` counts it among those of the proxy's token.
    pub(super) fn allocate_channel(
        self: &Arc<Self>,
        is_resuming: bool,
        counted: GrantUse,
    ) -> Option<ChannelSlot> {
        let index = self.channels.lock().allocate(is_resuming)?;
        let id = ChannelId { proxy: self.id, index };
        Some(ChannelSlot { proxy: self.clone(), id, descriptor: None, _counted: counted })
    }

    /// Returns how many channels one more replaces, so that they do not count beside it: all if it resumes the link,
    /// also those of resumptions that were not completed; otherwise those on which the proxy does not answer any more.
    pub(super) fn replaceable_channels(&self, is_resuming: bool) -> usize {
        if is_resuming { self.channels.lock().len() } else { self.link.unresponsive_channels() }
    }

    /// Returns the counters of the primary channel of `stream`; `None` while the proxy has no channel.
    pub(super) fn channel_stats(&self, stream: &Stream) -> Option<Arc<ChannelStats>> {
        self.channels.lock().stats(self.link.primary_channel(stream)?)
    }

    /// Returns what the proxy may do.
    pub(super) fn grant(&self) -> &Arc<Grant> {
        self.counted.grant()
    }

    /// Returns whether another link replaces this one, or is about to.
    pub(super) fn is_being_replaced(&self) -> bool {
        self.is_replaced.load(Relaxed) || self.link.has_few_numbers()
    }

    /// Stores `reason`, for which a channel of the proxy has ended, as the reason that telemetry reports when the
    /// proxy disconnects. Returns the reason to report: the one for which the proxy is closing, where there is one,
    /// else `reason`.
    pub(super) fn record_channel_end(&self, reason: DisconnectReason) -> DisconnectReason {
        let reason = self.closing.get().cloned().unwrap_or(reason);
        if let Some(guard) = &*self.guard.lock() {
            guard.set_reason(reason.clone());
        }
        reason
    }

    /// Excludes the proxy from new streams and from resumption, for good. The first reason is kept.
    pub(super) fn start_closing(&self, reason: DisconnectReason) {
        _ = self.closing.set(reason);
        self.stats.mark_closing();
    }

    /// Returns whether the operator has kicked the proxy.
    pub(super) fn is_kicked(&self) -> bool {
        self.closing.get() == Some(&DisconnectReason::Kicked)
    }

    /// Closes the link to the proxy because the server shuts down.
    pub(super) fn close_for_shutdown(&self) {
        self.start_closing(DisconnectReason::Shutdown);
        self.link.close(&DisconnectReason::Shutdown);
    }

    /// Returns whether the proxy receives no new streams any more and cannot resume.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    /// Records that the proxy has registered with the successor of this draining server, where new users reach it.
    pub(super) fn mark_moved(&self) {
        self.has_moved.store(true, Relaxed);
    }

    /// Returns whether the proxy has registered with the successor of this draining server, where new users reach it.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved.load(Relaxed)
    }

    /// Records that the proxy has opened another link that replaces this one: it receives no new streams here, and can
    /// still resume for the open ones. A draining server need not wait for it either.
    pub(super) fn mark_replaced(&self) {
        self.is_replaced.store(true, Relaxed);
        self.stats.mark_closing();
        self.mark_moved();
    }

    /// Sets the proxy's share of the new streams of its services, relative to other proxies, as the operator wants it.
    pub(super) fn set_weight(&self, weight: u32) {
        self.has_operator_weight.store(true, Relaxed);
        self.store_weight(weight);
    }

    /// Sets the weight that the proxy asks for, unless the operator has set another.
    pub(super) fn set_requested_weight(&self, weight: u32) {
        if !self.has_operator_weight.load(Relaxed) {
            self.store_weight(weight);
        }
    }

    /// Stores the weight, and its copy for display.
    fn store_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
        self.stats.set_weight(weight);
    }

    /// Takes over what the operator has set for `replaced`, whose link this one replaces: rate limits, weight, drain.
    pub(super) fn inherit_settings(&self, replaced: &Self) {
        for direction in Direction::ALL {
            let rate = replaced.limit.rate(direction);
            self.limit.set(direction, rate, Instant::now());
            self.stats.limits.set(direction, rate);
        }
        if replaced.has_operator_weight.load(Relaxed) {
            self.set_weight(replaced.weight.load(Relaxed));
        }
        self.set_draining(replaced.is_draining.load(Relaxed));
    }

    /// Starts or stops draining: a draining proxy receives no new streams, and its open streams continue.
    pub(super) fn set_draining(&self, is_draining: bool) {
        self.is_draining.store(is_draining, Relaxed);
        self.stats.set_draining(is_draining);
        if !is_draining {
            self.wake_waiting_users();
        }
    }

    /// Records whether the proxy has a channel. One without receives no new streams.
    pub(super) fn set_attached(&self, is_attached: bool) {
        self.is_attached.store(is_attached, Relaxed);
    }

    /// Wakes the users that wait for a proxy of its services, after this one has become available.
    pub(super) fn wake_waiting_users(&self) {
        let services: Vec<_> = self.services.lock().services().cloned().collect();
        services.iter().for_each(|service| service.pool.wake_waiting());
    }

    /// Returns whether the proxy may register for the service of a public port: one more, or one that it has.
    ///
    /// # Errors
    /// [`ServiceRejection`] says why not.
    pub(super) fn check_may_register(&self, port: u16) -> Result<(), ServiceRejection> {
        let registrations = self.services.lock();
        if registrations.serves(port) && !self.is_closing() {
            return Ok(());
        }
        self.check_capacity(&registrations)
    }

    /// Begins a search for a free port, which counts among the services of the proxy, unless the request with this
    /// number is repeated.
    ///
    /// # Errors
    /// [`ServiceRejection`] says why it may not register for one more.
    pub(super) fn begin_port_search(
        self: &Arc<Self>,
        number: Option<u32>,
    ) -> Result<AnyPortRequest, ServiceRejection> {
        let mut registrations = self.services.lock();
        if let Some(repeated) = number.and_then(|number| registrations.find_any_port(number)) {
            return Ok(AnyPortRequest::Repeated(repeated));
        }
        self.check_capacity(&registrations)?;
        registrations.begin_search(number);
        Ok(AnyPortRequest::New(PortSearch { proxy: self.clone(), number }))
    }

    /// Adds `service` to the services of the proxy. It takes the place of the `search` that has found its port. Returns
    /// whether it is a new one.
    ///
    /// # Errors
    /// [`ServiceRejection`]; the caller removes the proxy from the service again.
    pub(super) fn add_service(
        &self,
        service: &Arc<Service<Self>>,
        search: Option<&PortSearch>,
    ) -> Result<bool, ServiceRejection> {
        let mut registrations = self.services.lock();
        let is_known = registrations.contains(service);
        // Decided under the lock under which a closing proxy leaves its services.
        if !is_known {
            match search {
                Some(_) if self.is_closing() => return Err(ServiceRejection::ProxyClosing),
                // It is counted already.
                Some(_) => {}
                None => self.check_capacity(&registrations)?,
            }
            registrations.insert(service.clone(), search.and_then(|search| search.number));
        }
        Ok(!is_known)
    }

    /// Takes the proxy out of the service of a public port, which gets no new streams through it, and reports that.
    /// Without effect if it does not serve the port.
    pub(super) fn remove_service(self: &Arc<Self>, port: u16) {
        let removed = self.services.lock().remove(port);
        let Some(service) = removed else { return };
        service.pool.leave(self);
        let guard = self.guard.lock().clone();
        if let Some(guard) = guard {
            guard.deregistered(service.key.clone());
        }
    }

    /// Returns whether the proxy, which has these registrations, may get one more service.
    fn check_capacity(&self, registrations: &Registrations<Self>) -> Result<(), ServiceRejection> {
        if self.is_closing() {
            return Err(ServiceRejection::ProxyClosing);
        }
        if registrations.count() >= MAX_SERVICES_PER_PROXY {
            return Err(ServiceRejection::TooManyServices);
        }
        Ok(())
    }

    /// Reports that the proxy has registered for `service`.
    pub(super) fn report_registered(&self, service: &Service<Self>) {
        let guard = self.guard.lock().clone();
        if let Some(guard) = guard {
            guard.registered(service.key.clone());
        }
    }

    /// Takes the proxy out of all of its services and reports its end, after its link has ended.
    pub(super) fn remove_from_services(self: &Arc<Self>) {
        // The driver of the last channel records the same reason, but possibly only after this.
        self.start_closing(self.record_channel_end(self.link.last_end_reason()));
        // Neither lock is held while users are woken and events emitted.
        let services = self.services.lock().remove_all();
        services.iter().for_each(|service| service.pool.leave(self));
        let guard = self.guard.lock().take();
        // Reports that the proxy has disconnected.
        drop(guard);
    }
}
