use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    Core,
    accept::{self, accept_loop},
    balance::Pool,
    proxy::RemoteProxy,
    serve,
};
use crate::{
    ids::ServiceKey,
    link::RateLimit,
    net::Listener,
    telemetry::{EventKind, ServiceGuard},
};

/// How long a connection may take from its first packet to the last of its handshake: as long as the kernel waits before
/// it says its part again.
const HALF_OPEN: Duration = Duration::from_secs(1);

/// One public port and the proxies that serve it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) key: ServiceKey,
    pub(super) pool: Pool<RemoteProxy>,
    pub(super) guard: ServiceGuard,
    pub(super) limit: Arc<RateLimit>,
    /// Users that no proxy has yet.
    waiting: AtomicUsize,
    stop: CancellationToken,
}

/// A user who waits for a proxy of a service, which stays open for that long.
#[derive(Debug)]
pub(super) struct PendingUser(Arc<Service>);

impl PendingUser {
    /// One more.
    pub(super) fn new(service: &Arc<Service>) -> Self {
        service.waiting.fetch_add(1, SeqCst);
        Self(service.clone())
    }

    /// What the user waits for.
    pub(super) fn service(&self) -> &Arc<Service> {
        &self.0
    }
}

impl Drop for PendingUser {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl Core {
    /// The service that a proxy asks for, opened if it is not open yet; or the reason why not, for the proxy's user.
    ///
    /// The proxy joins it before anybody else may look: a service without proxies may close at any time.
    pub(super) fn join(
        self: &Arc<Self>,
        wanted: &ServiceKey,
        proxy: &Arc<RemoteProxy>,
    ) -> Result<Arc<Service>, String> {
        let mut services = self.services.lock();
        if let Some(service) = services.get(&wanted.port) {
            return if service.key.group == wanted.group {
                service.pool.join(proxy);
                Ok(service.clone())
            } else {
                Err(format!("port {} is served by the group «{}»", wanted.port, service.key.group))
            };
        }
        let listener = if wanted.port == 0 { self.any_port()? } else { self.port(wanted.port)? };
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let key = ServiceKey { port, group: wanted.group.clone() };
        let service = Arc::new(Service {
            guard: self.telemetry.service_opened(key.clone()),
            key,
            pool: Pool::new(self.config.default_policy),
            limit: RateLimit::new(&self.limit_count),
            waiting: AtomicUsize::new(0),
            stop: self.accepting.child_token(),
        });
        service.guard.stats().set_policy(self.config.default_policy);
        service.pool.join(proxy);
        services.insert(port, service.clone());
        let (core, owned) = (self.clone(), service.clone());
        let open = self.open_ports.token();
        self.tasks.spawn(format!("service {}", service.key), async move {
            core.run_service(&owned, listener).await;
            drop(open);
        });
        Ok(service)
    }

    fn port(&self, port: u16) -> Result<Listener, String> {
        let ports = self.config.allowed_ports;
        if !ports.contains(port) {
            return Err(format!("port {port} is not allowed: the server gives ports {ports}"));
        }
        // Until all has been carried, every way for a connection to end is a reset.
        Listener::bind_with_reset_on_close(SocketAddr::new(self.config.bind, port), self.config.reuse_port)
            .map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => format!("port {port} is in use on the server"),
                io::ErrorKind::PermissionDenied => {
                    format!("port {port} needs privileges that the server lacks")
                }
                _ => format!("port {port} cannot be opened: {error}"),
            })
    }

    fn any_port(&self) -> Result<Listener, String> {
        let free = |port: u16| {
            let addr = SocketAddr::new(self.config.bind, port);
            // Free is what nobody has, also nobody who would share it.
            let unshared = Listener::bind_with_reset_on_close(addr, false).ok()?;
            if !self.config.reuse_port {
                return Some(unshared);
            }
            drop(unshared);
            Listener::bind_with_reset_on_close(addr, true).ok()
        };
        self.config
            .allowed_ports
            .candidates(rand::random())
            .find_map(free)
            .ok_or_else(|| format!("no port of {} is free", self.config.allowed_ports))
    }

    /// Accepts users until the server stops, or until no proxy has been there for a while.
    async fn run_service(self: &Arc<Self>, service: &Arc<Service>, listener: Listener) {
        let admit = |socket, addr| {
            let (core, waiting) = (self.clone(), PendingUser::new(service));
            // Before who drains asks whether all are back.
            let permit = self.permits.clone().try_acquire_owned();
            self.tasks.spawn_on(self.tasks.next_worker(), "user", async move {
                match TcpStream::from_std(socket) {
                    Ok(socket) => serve::serve(&core, waiting, permit, socket, addr).await,
                    Err(error) => core.refuse(waiting.service(), addr, &error.to_string()),
                }
            });
        };
        loop {
            let ended = async {
                tokio::select! {
                    () = service.stop.cancelled() => {}
                    () = service.deserted(self.config.idle_service_timeout) => {}
                }
            };
            accept_loop(&listener, &self.telemetry, ended, &admit).await;
            if service.stop.is_cancelled() && self.config.reuse_port {
                listener.divert_new_connections();
                // Those whose handshake had begun.
                accept_loop(&listener, &self.telemetry, tokio::time::sleep(HALF_OPEN), &admit).await;
            }
            let mut services = self.services.lock();
            // A proxy may have come just now, and users may still wait for one; under the lock none can come.
            let deserted = service.pool.is_empty() && service.waiting.load(SeqCst) == 0;
            if service.stop.is_cancelled() || deserted {
                services.remove(&service.key.port);
                // Still under the lock: who asks for the port next must find it free.
                if deserted {
                    drop(listener);
                } else if let Err(error) = accept::close(listener, admit) {
                    tracing::warn!("users of {} may have been lost as it closed: {error}", service.key);
                }
                return;
            }
        }
    }
}

impl Service {
    /// Ready once the service has had no proxy for `linger`.
    async fn deserted(&self, linger: Duration) {
        let mut size = self.pool.watch();
        loop {
            // The sender lives in `self`, so neither wait can fail.
            _ = size.wait_for(|&size| size == 0).await;
            if tokio::time::timeout(linger, size.wait_for(|&size| size > 0)).await.is_err() {
                return;
            }
        }
    }
}

impl Core {
    /// The service of this name.
    pub(super) fn service(&self, key: &ServiceKey) -> Option<Arc<Service>> {
        self.services.lock().get(&key.port).filter(|service| service.key == *key).cloned()
    }

    /// Tells that a connection was turned away.
    pub(super) fn refuse(&self, service: &Service, addr: SocketAddr, reason: &str) {
        let event = EventKind::UserRejected { addr, service: service.key.clone(), reason: reason.to_owned() };
        self.telemetry.emit(event);
    }
}
