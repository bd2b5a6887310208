//! Starting a server and running its main loop: operator commands, removal of idle users, shutdown.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{
    core::Core,
    credentials::Credentials,
    shutdown::{ShutdownReport, ShutdownSignals},
    tunnel_port,
};
use crate::{
    config::{ProxyEntries, ServerConfig},
    control::{self, CommandRequest, CommandSender},
    net::Listener,
    runtime::Workers,
    telemetry::{EventKind, Telemetry},
};

/// The minimum interval between two removals of idle users. Where it is longer, the interval is a fifth of the
/// retention time of users.
const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// The first port that any process may open, unless the system says otherwise (`ip_unprivileged_port_start`).
const UNPRIVILEGED_PORTS: u16 = 1024;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The tunnel port could not be opened.
    #[error("cannot listen for proxies on {addr} (option --listen): {error}{}", remedy(.error, *.addr))]
    Listen {
        /// The address of the tunnel port.
        addr: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
    /// No public port can ever be opened.
    #[error("cannot open public ports on {addr} (options --bind and --ports): {error}{}", remedy(.error, *.addr))]
    PublicPorts {
        /// The address that was tried; port 0 is any.
        addr: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
}

/// A server whose tunnel port is open and that does not accept connections yet.
#[derive(Debug)]
pub struct Server {
    /// The state that all tasks of the server share.
    core: Arc<Core>,
    /// The listening socket of the tunnel port.
    listener: Listener,
    /// The receiving end of the queue of operator commands.
    commands: mpsc::Receiver<CommandRequest>,
    /// Publishes the entries of named proxies that are to apply.
    entries: watch::Receiver<ProxyEntries>,
    /// The address of the tunnel port.
    addr: SocketAddr,
}

/// Changes the configuration of a running server.
#[derive(Debug, Clone)]
pub struct LiveConfig(Arc<Core>);

impl LiveConfig {
    /// Replaces that part of the configuration which can change while the server runs
    /// ([`with_changes_of`](ServerConfig::with_changes_of)), for everything that begins from now on. Returns the
    /// configuration that applies then; the maximum of streams is at most that of the start.
    pub fn replace(&self, new: &ServerConfig) -> Arc<ServerConfig> {
        self.0.replace_config(new)
    }
}

impl Server {
    /// Opens the tunnel port. `credentials` may be a [`Token`](crate::wire::handshake::Token), which may do everything.
    /// Returns the server and the sending end of its command queue.
    ///
    /// # Errors
    /// [`BindError`] if the tunnel port cannot be opened, or no public port ever could be.
    pub fn bind(
        config: ServerConfig,
        credentials: impl Into<Credentials>,
        telemetry: Arc<Telemetry>,
        workers: Workers,
    ) -> Result<(Self, CommandSender), BindError> {
        let listener = Self::listen(&config)?;
        Self::serving(listener, config, credentials, telemetry, workers)
    }

    /// Opens the tunnel port of a server with this configuration.
    ///
    /// # Errors
    /// [`BindError::Listen`] if it cannot be opened.
    pub fn listen(config: &ServerConfig) -> Result<Listener, BindError> {
        Listener::bind(config.listen, config.reuse_port)
            .map_err(|error| BindError::Listen { addr: config.listen, error })
    }

    /// Creates the server of a tunnel port that is open, by [`listen`](Self::listen) or by a service manager.
    ///
    /// # Errors
    /// [`BindError`] if no public port could ever be opened.
    pub fn serving(
        listener: Listener,
        config: ServerConfig,
        credentials: impl Into<Credentials>,
        telemetry: Arc<Telemetry>,
        workers: Workers,
    ) -> Result<(Self, CommandSender), BindError> {
        let failed = |error| BindError::Listen { addr: config.listen, error };
        let addr = listener.local_addr().map_err(failed)?;
        check_public_ports(&config)?;
        let (sender, commands) = control::command_queue();
        let credentials = credentials.into();
        let entries = credentials.watch_entries();
        let core = Core::new(config, &credentials, telemetry, workers);
        core.apply_rates();
        Ok((Self { core, listener, commands, entries, addr }, sender))
    }

    /// Returns the address of the tunnel port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the means to change the configuration while the server runs.
    pub fn live_config(&self) -> LiveConfig {
        LiveConfig(self.core.clone())
    }

    /// Serves until `shutdown` is signalled, then drains: open streams may finish within the configured drain
    /// timeout. Returns what was left when the server ended.
    pub async fn run(self, shutdown: ShutdownSignals) -> ShutdownReport {
        let Self { core, listener, mut commands, mut entries, addr } = self;
        core.telemetry.emit(EventKind::Listening { addr });
        core.tasks.spawn("tunnel port", tunnel_port::run(core.clone(), listener));
        let retention = core.config().user_retention;
        let mut sweep = tokio::time::interval((retention / 5).max(MIN_SWEEP_INTERVAL));
        let drained = core.drain(&shutdown);
        let mut drained = std::pin::pin!(drained);
        let aborted_streams = loop {
            tokio::select! {
                Some(request) = commands.recv() => {
                    // The sender may have dropped its receiver; then the reply is discarded.
                    _ = request.reply.send(core.execute(&request.command, request.by));
                }
                _ = sweep.tick() => {
                    core.users.remove_idle(Instant::now(), retention);
                    core.user_admission.remove_idle(Instant::now());
                    core.wrong_tokens.remove_old(Instant::now());
                    core.end_expired();
                }
                Ok(()) = entries.changed() => {
                    let entries = entries.borrow_and_update().clone();
                    core.replace_entries(&entries);
                }
                aborted_streams = &mut drained => break aborted_streams,
            }
        };
        core.terminate(aborted_streams).await
    }
}

/// Checks that the machine has the address of the public ports, and that the process may open one of them where all
/// need privileges. Without that, every proxy would be refused.
fn check_public_ports(config: &ServerConfig) -> Result<(), BindError> {
    let last = config.allowed_ports.last();
    // The port itself may be in use, which is no obstacle to the others.
    let port = if last < UNPRIVILEGED_PORTS { last } else { 0 };
    let addr = SocketAddr::new(config.bind, port);
    match TcpListener::bind(addr) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => Err(BindError::PublicPorts { addr, error }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns what the operator can do about an error of bind(2), as the continuation of a sentence.
fn remedy(error: &io::Error, addr: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another program has the port (`ss -ltnp sport = :{}` shows it): stop it or choose another port; to take over \
             from a running underpass server, start both with --reuse-port",
            addr.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have that address (`ip addr` lists its addresses): choose one of them, or 0.0.0.0 for \
             all"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => format!(
            "; ports below {UNPRIVILEGED_PORTS} need root or the capability CAP_NET_BIND_SERVICE (`setcap \
             cap_net_bind_service=+ep` on the program): grant it, or choose a higher port"
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
