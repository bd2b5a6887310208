//! What the operators of a proxy see of it, and what they can do to its streams.
//!
//! A proxy fills the same hub as a server: each link to a server is in the place of a proxy, with its channels; the
//! users are those of its streams. So lists, events, and the cockpit read both alike. What only the server knows is
//! left out: contents, priorities, limits, policies.
//!
//! Counting a stream costs an allocation at its begin and relaxed additions for each chunk; snapshots, the `TCP_INFO`
//! of channels, and the texts of events are made only while somebody asks for them. A proxy without a control socket
//! has no observer.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Instant,
};

use dashmap::DashMap;
use tokio_util::sync::CancellationToken;

use super::serving_board::ServedService;
use crate::{
    ids::{ChannelId, ProxyId, ServiceKey, StreamKey, UserChannelId},
    link::StreamControl,
    telemetry::{
        ChannelFormat, ChannelGuard, DisconnectReason, EndReason, EventKind, ProxyGuard, ProxyStats,
        ServiceGuard, ServiceStats, StreamGuard, StreamPhase, StreamStats, TableMutex, Telemetry, UserGuard,
    },
    wire::Open,
};

/// The address of a user that the server has not told: one of a link in the text format.
const UNKNOWN_USER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Registers what a proxy does, and finds streams for its operators.
#[derive(Debug)]
pub(super) struct Observer {
    /// The hub of the proxy.
    telemetry: Arc<Telemetry>,
    /// The number of the last link.
    last_link: AtomicU32,
    /// The services that servers serve, and those of streams that were opened before that was known here.
    services: TableMutex<HashMap<ServiceKey, ServiceGuard>>,
    /// The users that have an open stream.
    users: TableMutex<HashMap<UserKey, CountedUser>>,
    /// The number of the last stream.
    last_stream: AtomicU64,
    /// The open streams, by number: two servers may use the same stream key.
    streams: DashMap<u64, Arc<StreamHandle>>,
}

/// What tells users apart. Two servers may give one id to different users.
type UserKey = (UserChannelId, IpAddr);

/// A user with open streams.
#[derive(Debug)]
struct CountedUser {
    /// Its registration.
    guard: UserGuard,
    /// The number of its open streams.
    streams: usize,
}

/// What an operator can do to an open stream.
#[derive(Debug)]
struct StreamHandle {
    /// Its counters.
    stats: Arc<StreamStats>,
    /// Pauses it.
    control: StreamControl,
    /// Cancelled to end it.
    cancel: CancellationToken,
    /// Whether an operator has ended it.
    is_killed: AtomicBool,
}

/// The registration of a link to a server. Dropping it reports the end of the link.
#[derive(Debug)]
pub(super) struct ObservedLink {
    /// The proxy.
    observer: Arc<Observer>,
    /// The registration.
    guard: ProxyGuard,
}

/// What the streams and channels of a link are registered with, which does not keep the link registered.
#[derive(Debug, Clone)]
pub(super) struct LinkObserver {
    /// The proxy.
    observer: Arc<Observer>,
    /// The counters of the link.
    stats: Arc<ProxyStats>,
}

/// The registration of an open stream. Dropping it reports its end.
#[derive(Debug)]
pub(super) struct ObservedStream {
    /// The link that carries it.
    link: LinkObserver,
    /// The registration in the hub; `None` once its end is reported.
    guard: Option<StreamGuard>,
    /// Why it has ended.
    reason: EndReason,
    /// Its number in the table of open streams.
    number: u64,
    /// What an operator can do to it.
    handle: Arc<StreamHandle>,
    /// Its user.
    user: UserKey,
    /// When the server has opened it.
    since: Instant,
}

impl Observer {
    /// Creates the observer of a proxy without links.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self {
            telemetry,
            last_link: AtomicU32::new(0),
            last_stream: AtomicU64::new(0),
            services: TableMutex::default(),
            users: TableMutex::default(),
            streams: DashMap::new(),
        }
    }

    /// Registers a link to the server with the configured address `server`, whose first channel leads to `addr`.
    pub(super) fn link_opened(self: &Arc<Self>, server: &str, addr: SocketAddr) -> ObservedLink {
        let link = ProxyId(self.last_link.fetch_add(1, Relaxed) + 1);
        ObservedLink { observer: self.clone(), guard: self.telemetry.server_up(link, server, addr) }
    }

    /// Shows what the servers serve from now on.
    pub(super) fn set_served(&self, served: &[ServedService]) {
        let keys: HashSet<&ServiceKey> = served.iter().map(|served| &served.service).collect();
        let gone: Vec<ServiceGuard> = {
            let mut services = self.services.lock();
            let gone: Vec<ServiceKey> = services.keys().filter(|key| !keys.contains(key)).cloned().collect();
            gone.iter().filter_map(|key| services.remove(key)).collect()
        };
        // Reports their ends, for which no table may be locked.
        drop(gone);
        keys.into_iter().for_each(|key| _ = self.service(key));
        self.telemetry.set_services_of_servers(|server| {
            let of_server = served.iter().filter(|served| *served.server == *server);
            of_server.map(|served| served.service.clone()).collect()
        });
    }

    /// Returns the counters of a service, which is registered if it is not.
    fn service(&self, key: &ServiceKey) -> Arc<ServiceStats> {
        let (stats, is_new) = {
            let mut services = self.services.lock();
            match services.get(key) {
                Some(known) => (known.stats().clone(), false),
                None => {
                    let guard = self.telemetry.register_service(key.clone());
                    let stats = guard.stats().clone();
                    services.insert(key.clone(), guard);
                    (stats, true)
                }
            }
        };
        if is_new {
            self.telemetry.emit(EventKind::ServiceOpened { service: key.clone() });
        }
        stats
    }

    /// Creates the counters of a stream that a server has opened, which are not shown yet, and counts it for its user.
    fn new_stream(&self, open: &Open, service: &ServiceKey) -> (Arc<StreamStats>, UserKey) {
        let addr = open.user.map_or(UNKNOWN_USER, |user| user.client);
        let user = (open.key.user, addr.ip());
        let service = self.service(service);
        let (stats, is_new) = {
            let mut users = self.users.lock();
            let mut is_new = false;
            let counted = users.entry(user).or_insert_with(|| {
                is_new = true;
                CountedUser { guard: self.telemetry.register_user(user.0, user.1, &service), streams: 0 }
            });
            counted.streams += 1;
            (counted.guard.stats().clone(), is_new)
        };
        if is_new {
            let service = stats.service.key.clone();
            self.telemetry.emit(EventKind::UserJoined { user: user.0, addr: user.1, service });
        }
        (self.telemetry.new_stream(open.key, addr, &stats), user)
    }

    /// Removes a stream of a user, and the user with its last one.
    fn release_user(&self, user: UserKey) {
        // Reports its end, for which no table may be locked.
        let _gone = {
            let mut users = self.users.lock();
            match users.get_mut(&user) {
                Some(counted) if counted.streams > 1 => {
                    counted.streams -= 1;
                    None
                }
                _ => users.remove(&user),
            }
        };
    }

    /// Returns the open streams that `is_meant` selects. Visits all, which operators ask for rarely.
    fn find(&self, is_meant: impl Fn(StreamKey) -> bool) -> Vec<Arc<StreamHandle>> {
        let meant = self.streams.iter().filter(|stream| is_meant(stream.stats.key));
        meant.map(|stream| stream.clone()).collect()
    }

    /// Resets the open streams that `is_meant` selects, as the operator wants. Returns their number.
    pub(super) fn kill(&self, is_meant: impl Fn(StreamKey) -> bool) -> usize {
        let found = self.find(is_meant);
        for stream in &found {
            stream.is_killed.store(true, SeqCst);
            stream.cancel.cancel();
        }
        found.len()
    }

    /// Pauses or resumes the open streams with this key. Returns their number.
    pub(super) fn set_paused(&self, key: StreamKey, is_paused: bool) -> usize {
        let found = self.find(|stream| stream == key);
        for stream in &found {
            stream.stats.set_paused(is_paused);
            stream.control.set_paused(is_paused);
        }
        found.len()
    }
}

impl ObservedLink {
    /// Returns what the streams and channels of the link are registered with.
    pub(super) fn observer(&self) -> LinkObserver {
        LinkObserver { observer: self.observer.clone(), stats: self.guard.stats().clone() }
    }

    /// Reports the end of the link.
    pub(super) fn end(self, reason: DisconnectReason) {
        self.guard.set_reason(reason);
    }
}

impl LinkObserver {
    /// Returns what is shown of the link.
    pub(super) fn stats(&self) -> &ProxyStats {
        &self.stats
    }

    /// Registers a channel of the link.
    pub(super) fn channel_opened(&self, index: u16, addr: SocketAddr, format: ChannelFormat) -> ChannelGuard {
        self.observer.telemetry.channel_up(ChannelId { proxy: self.stats.id, index }, addr, format)
    }

    /// Registers a stream that the server has opened on the link. `parent` is cancelled when it is to end for another
    /// reason than that an operator ends it.
    pub(super) fn stream_opened(
        &self,
        open: &Open,
        service: &ServiceKey,
        control: StreamControl,
        parent: &CancellationToken,
    ) -> ObservedStream {
        let (stats, user) = self.observer.new_stream(open, service);
        let handle = Arc::new(StreamHandle {
            stats: stats.clone(),
            control,
            cancel: parent.child_token(),
            is_killed: AtomicBool::new(false),
        });
        // Before it is shown: a program that reads the events may act on the stream at once.
        let number = self.observer.last_stream.fetch_add(1, Relaxed) + 1;
        self.observer.streams.insert(number, handle.clone());
        let guard = self.observer.telemetry.announce_stream(stats);
        guard.opened_by(&self.stats);
        ObservedStream {
            link: self.clone(),
            guard: Some(guard),
            reason: EndReason::Internal,
            number,
            handle,
            user,
            since: Instant::now(),
        }
    }
}

impl ObservedStream {
    /// Returns the counters of the stream.
    pub(super) fn stats(&self) -> &Arc<StreamStats> {
        &self.handle.stats
    }

    /// Returns the token that is cancelled when the stream is to end.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.handle.cancel
    }

    /// Returns whether an operator has ended the stream.
    pub(super) fn is_killed(&self) -> bool {
        self.handle.is_killed.load(SeqCst)
    }

    /// Records that the target is connected.
    pub(super) fn connected(&self) {
        self.stats().record_connect_latency(&self.link.stats, self.since.elapsed());
        self.stats().set_phase(StreamPhase::Open);
    }

    /// Reports the end of the stream.
    pub(super) fn end(mut self, reason: EndReason) {
        // The drop of `self` reports it.
        self.reason = reason;
    }
}

impl Drop for ObservedStream {
    fn drop(&mut self) {
        // Commands after the event of its end must not find it.
        self.link.observer.streams.remove(&self.number);
        // Before its user.
        if let Some(guard) = self.guard.take() {
            guard.end(std::mem::replace(&mut self.reason, EndReason::Internal));
        }
        self.link.observer.release_user(self.user);
    }
}

#[cfg(test)]
mod tests;
