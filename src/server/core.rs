//! The state that all tasks of one server share.
//!
//! This file contains the data and the look-ups on it. The tasks that act on it are in the files above it, which
//! import [`Core`]; this file imports none of them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    admission::Admission,
    balancer::Balancers,
    credentials::{Credentials, WallClock},
    grants::Grants,
    operator_handle::OperatorHandle,
    proxy::RemoteProxy,
    service::Service,
    ticket_rotation::LinkId,
    tunnel_descriptors::TunnelDescriptors,
    user_admission::UserAdmission,
    users::Users,
    wrong_tokens::{BLOCK_TIME, MAX_WRONG_TOKENS, WrongTokens},
};
use crate::{
    config::ServerConfig,
    ids::{AddressBlock, ProxyId, ServiceKey, StreamKey, clean, next_free_id},
    link::RateLimitCount,
    mux::MemoryBudget,
    runtime::{Tasks, Workers},
    telemetry::{EventKind, MAX_REFUSALS_PER_SECOND, TableMutex, Telemetry, Throttle},
};

/// The longest error text, in characters, that an event carries: errors may quote bytes that the peer sent.
const MAX_REASON_CHARS: usize = 200;

/// The state that all tasks of one server share.
#[derive(Debug)]
pub(super) struct Core {
    /// The validated configuration of the server, of which a part may be replaced while it runs.
    config: ArcSwap<ServerConfig>,
    /// The maximum of streams at the start, by which memory and descriptors were divided: none later exceeds it.
    max_streams_at_start: usize,
    /// What the proxies of each token may do. A proxy must know one of the tokens to be admitted.
    pub(super) grants: ArcSwap<Grants>,
    /// Counts wrong tokens, and blocks the addresses that send many.
    pub(super) wrong_tokens: Arc<WrongTokens>,
    /// The clock by which tokens expire.
    pub(super) clock: WallClock,
    /// The telemetry hub, which receives events and counters for display; no decision reads it.
    pub(super) telemetry: Arc<Telemetry>,
    /// Spawns and joins all tasks of the server.
    pub(super) tasks: Tasks,
    /// Limits connections to the tunnel port that have not completed their handshake.
    pub(super) admission: Arc<Admission>,
    /// The load balancers in front of this server, which name the addresses of users and proxies.
    pub(super) balancers: Balancers,
    /// The table of users: client addresses on services.
    pub(super) users: Arc<Users>,
    /// Limits user connections.
    pub(super) user_admission: Arc<UserAdmission>,
    /// Limits channels and open public ports, because each takes a descriptor.
    pub(super) descriptors: Arc<TunnelDescriptors>,
    /// The open public ports by port number. A proxy joins a service, and a service without proxies is removed, under
    /// this lock; no system call is made and no event emitted.
    pub(super) services: TableMutex<HashMap<u16, Arc<Service<RemoteProxy>>>>,
    /// Held while one public port is opened and entered into `services`, or an unused one is removed and closed, so
    /// that a proxy finds a port that is being opened or closed either open or free. Acquired before `services`. The
    /// only lock under which a system call is made: nothing but another opening or closing waits for it.
    pub(super) port_changes: Mutex<()>,
    /// Every proxy whose link has not ended, including those that are within their grace period.
    pub(super) proxies: DashMap<ProxyId, Arc<RemoteProxy>>,
    /// The same proxies by the id of their link.
    pub(super) links: DashMap<LinkId, Arc<RemoteProxy>>,
    /// The operator's handle of each admitted user connection, from admission to its end.
    pub(super) streams: DashMap<StreamKey, Arc<OperatorHandle>>,
    /// The id of the last proxy. Ids count from 1; after 2^32 proxies those that are free are used again.
    pub(super) last_proxy_id: AtomicU32,
    /// Counts the rate limits that are set in the whole server, so that streams skip pacing while there are none.
    pub(super) limit_count: RateLimitCount,
    /// The memory budget of the buffers of all streams.
    pub(super) memory: MemoryBudget,
    /// Limits the log lines about connections that are offered to another proxy.
    pub(super) redispatch_log: Throttle,
    /// Limits the log lines about errors that proxies report.
    pub(super) proxy_error_log: Throttle,
    /// Cancelled when shutdown begins: the server admits no more proxies and sends GOAWAY to those it has.
    pub(super) draining: CancellationToken,
    /// Notified when a proxy has moved to the successor or has disconnected.
    pub(super) proxy_moved: Notify,
    /// Cancelled when the server accepts no more users: every public port closes.
    pub(super) close_ports: CancellationToken,
    /// Tracks the public ports that are still open, so that a drain can wait until all are closed.
    pub(super) open_ports: TaskTracker,
    /// Cancelled when the remaining user connections are aborted.
    pub(super) abort: CancellationToken,
}

impl Core {
    /// Creates the state of a server that has no proxies, services or users yet.
    pub(super) fn new(
        mut config: ServerConfig,
        credentials: &Credentials,
        telemetry: Arc<Telemetry>,
        workers: Workers,
    ) -> Arc<Self> {
        let memory = MemoryBudget::new(config.memory_budget, config.max_streams);
        if memory.max_streams() < config.max_streams {
            tracing::info!(
                "the memory budget of {} MiB admits {} user connections at once (option --memory)",
                memory.total() >> 20,
                memory.max_streams()
            );
            config.max_streams = memory.max_streams();
        }
        telemetry.set_memory_source(Arc::new(memory.clone()));
        let abort = CancellationToken::new();
        let limit_count = RateLimitCount::default();
        let grants = Grants::new(credentials.token.as_ref(), &credentials.entries.borrow(), &limit_count);
        Arc::new(Self {
            grants: ArcSwap::from_pointee(grants),
            wrong_tokens: Arc::default(),
            clock: credentials.clock.clone(),
            tasks: Tasks::new(telemetry.clone(), workers),
            admission: Admission::new(config.max_pending_handshakes),
            balancers: Balancers::new(&config),
            users: Users::new(telemetry.clone(), abort.clone(), &limit_count, config.user_id_key.clone()),
            user_admission: UserAdmission::new(&config),
            descriptors: TunnelDescriptors::new(&config),
            services: TableMutex::default(),
            port_changes: Mutex::default(),
            proxies: DashMap::new(),
            links: DashMap::new(),
            streams: DashMap::new(),
            last_proxy_id: AtomicU32::new(0),
            limit_count,
            memory,
            redispatch_log: Throttle::new(MAX_REFUSALS_PER_SECOND),
            proxy_error_log: Throttle::new(MAX_REFUSALS_PER_SECOND),
            draining: CancellationToken::new(),
            proxy_moved: Notify::new(),
            close_ports: CancellationToken::new(),
            open_ports: TaskTracker::new(),
            abort,
            telemetry,
            max_streams_at_start: config.max_streams,
            config: ArcSwap::from_pointee(config),
        })
    }

    /// Returns the configuration that applies now. It is not kept: what outlasts a statement takes the values that it
    /// needs.
    pub(super) fn config(&self) -> Guard<Arc<ServerConfig>> {
        self.config.load()
    }

    /// Replaces that part of the configuration which can change while the server runs, for everything that begins from
    /// now on. Returns the configuration that applies then.
    pub(super) fn replace_config(&self, new: &ServerConfig) -> Arc<ServerConfig> {
        let mut config = self.config().with_changes_of(new);
        config.max_streams = config.max_streams.min(self.max_streams_at_start);
        let config = Arc::new(config);
        self.user_admission.replace_limits(&config);
        self.descriptors.set_max_per_address(config.max_channels_per_address());
        self.balancers.replace_trusted(config.trusted_balancers.clone());
        self.config.store(config.clone());
        config
    }

    /// Returns an id for a new proxy that no other one has.
    pub(super) fn next_proxy_id(&self) -> ProxyId {
        ProxyId(next_free_id(&self.last_proxy_id, |id| self.proxies.contains_key(&ProxyId(id))))
    }

    /// Returns the proxy that owns `link`, if its link can still be joined or resumed.
    pub(super) fn find_link(&self, link: LinkId) -> Option<Arc<RemoteProxy>> {
        self.links.get(&link).filter(|proxy| !proxy.is_closing()).map(|proxy| proxy.clone())
    }

    /// Returns the open service with exactly this port and group.
    pub(super) fn find_service(&self, key: &ServiceKey) -> Option<Arc<Service<RemoteProxy>>> {
        self.services.lock().get(&key.port).filter(|service| service.key == *key).cloned()
    }

    /// Returns the number of user connections that were admitted and have not ended.
    pub(super) fn open_streams(&self) -> u64 {
        self.streams.len() as u64
    }

    /// Counts a wrong token from `addr`, reports where that blocks the address, and waits for as long as the refusal is
    /// to be delayed.
    ///
    /// # Errors
    /// For how long the address is still blocked: nothing more is counted or delayed.
    pub(super) async fn penalize_wrong_token(&self, addr: SocketAddr) -> Result<(), Duration> {
        let address = AddressBlock::from(addr.ip());
        let now = Instant::now();
        if let Some(time) = self.wrong_tokens.blocked_for(address, now) {
            return Err(time);
        }
        let penalty = self.wrong_tokens.record(address, now);
        if penalty.is_newly_blocked {
            let wrong_tokens = MAX_WRONG_TOKENS;
            self.telemetry.emit(EventKind::AddressBlocked { address, wrong_tokens, time: BLOCK_TIME });
        }
        tokio::time::sleep(penalty.delay).await;
        Ok(())
    }

    /// Reports that a connection to the tunnel port failed before it became a channel; `is_refusal` says that this
    /// server refused it.
    pub(super) fn report_handshake_failure(&self, addr: SocketAddr, reason: &str, is_refusal: bool) {
        let reason = clean(reason, MAX_REASON_CHARS);
        self.telemetry.emit(EventKind::HandshakeFailed { addr, reason, is_refusal });
    }

    /// Reports that a user connection to `service` was rejected.
    pub(super) fn report_rejected_user(&self, service: &ServiceKey, addr: SocketAddr, reason: String) {
        self.telemetry.emit(EventKind::UserRejected { addr, service: service.clone(), reason });
    }
}
