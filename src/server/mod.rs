//! The public machine: takes proxies in on the tunnel port, opens public ports for them, and gives each user
//! connection to one of them.
//!
//! ```text
//!  tunnel port ─ accept ─ admission (handshake) ─ RemoteProxy ─ Link ─ channels
//!                                             │ joins
//!  public port ─ accept ─ serve ─ pick ─────► Service (pool of proxies)
//! ```

mod accept;
mod admission;
mod balance;
mod command;
mod operator_handle;
mod proxy;
mod serve;
mod service;
mod ticket_rotation;
mod users;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::ServerConfig,
    control::{self, CommandRequest, CommandSender},
    ids::{ProxyId, StreamKey},
    link::RateLimitCount,
    mux::WindowBudget,
    net::Listener,
    runtime::{Tasks, Workers},
    telemetry::{EventKind, Telemetry},
    wire::{ResetCode, handshake::Token},
};
use admission::Admission;
use operator_handle::OperatorHandle;
use proxy::RemoteProxy;
use service::Service;
use users::Users;

/// How long what was cut off may take to clean up before the server ends without it.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// How long proxies may take to move to the server that shares this one's ports, before these are closed all the same.
const MOVE: Duration = Duration::from_secs(5);

/// The server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The tunnel port could not be opened.
    #[error("cannot listen for proxies on {addr} (--listen chooses another place)")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// When the server should end.
#[derive(Debug, Clone, Default)]
pub struct ShutdownSignals {
    /// Take nothing new, let what is open finish.
    pub drain: CancellationToken,
    /// End what is open too.
    pub abort: CancellationToken,
}

/// A server that listens and does not accept yet.
#[derive(Debug)]
pub struct Server {
    core: Arc<Core>,
    listener: Listener,
    requests: mpsc::Receiver<CommandRequest>,
    addr: SocketAddr,
}

/// What every task of the server shares.
#[derive(Debug)]
pub(in crate::server) struct Core {
    config: ServerConfig,
    token: Token,
    telemetry: Arc<Telemetry>,
    tasks: Tasks,
    admission: Admission,
    users: Arc<Users>,
    /// One permit for each user connection.
    permits: Arc<Semaphore>,
    services: Mutex<HashMap<u16, Arc<Service>>>,
    proxies: DashMap<ProxyId, Arc<RemoteProxy>>,
    links: DashMap<[u8; 16], Arc<RemoteProxy>>,
    streams: DashMap<StreamKey, Arc<OperatorHandle>>,
    next_proxy: AtomicU32,
    limit_count: RateLimitCount,
    /// What windows may grow by.
    budget: WindowBudget,
    /// Cancelled when the server was asked to end: no proxy is taken any more.
    draining: CancellationToken,
    /// A proxy has moved or gone.
    moved: Notify,
    /// Cancelled when no user is taken any more.
    accepting: CancellationToken,
    /// The public ports that are not closed yet.
    open_ports: TaskTracker,
    /// Cancelled when what is open ends too.
    hard_stop: CancellationToken,
}

/// What was still there when the server had ended: all zero, or something leaked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Tasks that did not end.
    pub running_tasks: usize,
    /// Streams that were cut off because they had not finished in time.
    pub aborted_streams: u64,
    /// Permits that did not come back.
    pub missing_permits: usize,
    /// Users that did not leave.
    pub remaining_users: usize,
}

impl Server {
    /// Opens the tunnel port.
    ///
    /// # Errors
    /// [`BindError`] if it cannot be opened.
    pub fn bind(
        config: ServerConfig,
        token: Token,
        telemetry: Arc<Telemetry>,
        workers: Workers,
    ) -> Result<(Self, CommandSender), BindError> {
        let failed = |source| BindError::Listen { addr: config.listen, source };
        let listener = Listener::bind(config.listen, config.reuse_port).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let (control, requests) = control::command_queue();
        let hard_stop = CancellationToken::new();
        let limit_count = RateLimitCount::default();
        let core = Arc::new(Core {
            token,
            tasks: Tasks::new(telemetry.clone(), workers),
            admission: Admission::new((config.max_pending_handshakes, config.max_pending_per_ip)),
            users: Users::new(telemetry.clone(), hard_stop.clone(), &limit_count),
            permits: Arc::new(Semaphore::new(config.max_streams)),
            services: Mutex::default(),
            proxies: DashMap::new(),
            links: DashMap::new(),
            streams: DashMap::new(),
            next_proxy: AtomicU32::new(1),
            limit_count,
            budget: WindowBudget::new(config.window_budget),
            draining: CancellationToken::new(),
            moved: Notify::new(),
            accepting: CancellationToken::new(),
            open_ports: TaskTracker::new(),
            hard_stop,
            telemetry,
            config,
        });
        Ok((Self { core, listener, requests, addr }, control))
    }

    /// Where it listens for proxies.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `shutdown` says so, then lets open streams finish for as long as the configuration allows.
    pub async fn run(self, shutdown: ShutdownSignals) -> ShutdownReport {
        let Self { core, listener, mut requests, addr } = self;
        core.telemetry.emit(EventKind::Listening { addr });
        let tunnel = core.clone();
        core.tasks.spawn("tunnel port", async move {
            let stop = tunnel.draining.cancelled();
            accept::accept_loop(&listener, &tunnel.telemetry, stop, |socket, addr| {
                let core = tunnel.clone();
                tunnel
                    .tasks
                    .spawn("channel", async move { admission::admit_connection(&core, socket, addr).await });
            })
            .await;
            // Who is sent away must not come back here.
            drop(listener);
            tunnel.proxies.iter().for_each(|proxy| tunnel.send_away(&proxy));
        });
        let mut sweep =
            tokio::time::interval((core.config.user_id_retention / 5).max(Duration::from_millis(20)));
        let drained = core.drained(&shutdown);
        let mut drained = std::pin::pin!(drained);
        let aborted_streams = loop {
            tokio::select! {
                Some(request) = requests.recv() => {
                    // Who asked may have lost interest.
                    _ = request.reply.send(core.execute(&request.command));
                }
                _ = sweep.tick() => core.users.sweep(Instant::now(), core.config.user_id_retention),
                aborted_streams = &mut drained => break aborted_streams,
            }
        };
        core.end(aborted_streams).await
    }
}

impl Core {
    /// Ready once the server was asked to end and every stream has, or time is up. How many streams had not.
    async fn drained(&self, shutdown: &ShutdownSignals) -> u64 {
        tokio::select! {
            () = shutdown.drain.cancelled() => {}
            () = shutdown.abort.cancelled() => {}
        }
        self.draining.cancel();
        if !self.config.reuse_port {
            self.accepting.cancel();
        }
        self.telemetry.emit(EventKind::DrainStarted { open_streams: self.open_streams() });
        let closed = async {
            if self.config.reuse_port {
                // Who is not there by then does not come.
                _ = tokio::time::timeout(MOVE, self.all_moved()).await;
            }
            self.accepting.cancel();
            self.open_ports.close();
            // Before it is asked whether all permits are back: they would come back to who asks, not to the last users.
            self.open_ports.wait().await;
        };
        tokio::select! {
            () = closed => {}
            () = shutdown.abort.cancelled() => {}
        }
        // If it was cut short, it was not yet.
        self.accepting.cancel();
        let (open, within) = (self.open_streams(), self.config.drain_timeout);
        if open > 0 && !shutdown.abort.is_cancelled() {
            self.telemetry.emit(EventKind::DrainDeadlineSet { open_streams: open, within });
        }
        tokio::select! {
            () = self.all_ended() => 0,
            () = tokio::time::sleep(within) => self.open_streams(),
            () = shutdown.abort.cancelled() => self.open_streams(),
        }
    }

    /// Returns the number of user connections that were admitted and have not ended.
    fn open_streams(&self) -> u64 {
        self.streams.len() as u64
    }

    /// Tells a proxy to go to the server's successor.
    fn send_away(&self, proxy: &RemoteProxy) {
        proxy.link.go_away_to(self.config.successor.as_deref(), ResetCode::Shutdown);
    }

    /// Ready once users find every proxy elsewhere, or nowhere.
    async fn all_moved(&self) {
        while !self.proxies.iter().all(|proxy| proxy.has_moved()) {
            self.moved.notified().await;
        }
    }

    /// Ready once every permit is back.
    async fn all_ended(&self) {
        let all = u32::try_from(self.config.max_streams).unwrap_or(u32::MAX);
        // It fails only if the semaphore is closed, and nobody closes it.
        _ = self.permits.acquire_many(all).await;
    }

    async fn end(&self, aborted_streams: u64) -> ShutdownReport {
        self.hard_stop.cancel();
        _ = tokio::time::timeout(CLEAN_UP, self.all_ended()).await;
        let proxies: Vec<_> = self.proxies.iter().map(|proxy| proxy.clone()).collect();
        for proxy in proxies {
            proxy.send_off();
        }
        _ = tokio::time::timeout(CLEAN_UP, self.tasks.join()).await;
        self.users.sweep(Instant::now(), Duration::ZERO);
        ShutdownReport {
            running_tasks: self.tasks.len(),
            aborted_streams,
            missing_permits: self.config.max_streams - self.permits.available_permits(),
            remaining_users: self.users.len(),
        }
    }
}
