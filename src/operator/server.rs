//! The server of the control socket: accepts connections, bounds them, and joins their tasks.
//!
//! Nothing here may cost the tunnel anything. A connection is one task, which reads a request, performs it and writes
//! the answer before it reads the next one: a client that does not read its answers stops its own task and nothing
//! else, and no queue grows meanwhile. Listing ten thousand streams takes milliseconds, for which the streams of a
//! worker must not wait; it is done on threads for blocking tasks, for a few clients at a time.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{net::UnixStream, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    connection::Connection,
    peer::{Access, AccessRules, Peer},
    place::environment,
    protocol::{self, ErrorCode, RequestError},
    shared::{ProcessHandle, Shared, Subject},
    socket::{ControlSocket, SocketChoice, SocketError},
};
use crate::telemetry::{EventKind, Throttle};

/// The share of all connections that users other than the owner and root may have: members of a group cannot lock the
/// owner out.
const OTHERS_SHARE: usize = 2;

/// The share of all connections that one user other than the owner and root may have.
const USER_SHARE: usize = 8;

/// How long connections may take to write their last lines when the process ends.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// How often a successor asks for the name of its predecessor.
const TAKEOVER_INTERVAL: Duration = Duration::from_millis(100);

/// The first pause after accept(2) has failed, where the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The settings of a control server.
#[derive(Debug, Clone)]
pub struct ControlOptions {
    /// Where the socket is to be.
    pub choice: SocketChoice,
    /// Who may use it.
    pub rules: AccessRules,
    /// Whether this process may replace one with the same name that is about to end, and leaves the name to its own
    /// successor once it drains (`--reuse-port`).
    pub hands_over: bool,
    /// The most connections at the same time.
    pub max_connections: usize,
}

/// Serves the control socket.
#[derive(Debug)]
pub struct ControlServer {
    /// What all connections share.
    shared: Arc<Shared>,
    /// The settings.
    options: ControlOptions,
    /// The socket; `None` before it is taken over, and after it was left to a successor.
    socket: Option<ControlSocket>,
    /// The tasks of the connections.
    connections: JoinSet<Closed>,
    /// The open connections by their serial numbers.
    open: HashMap<u64, OpenConnection>,
    /// The serial number of the next connection.
    next_number: u64,
    /// Cancelled to end the connections.
    stop: CancellationToken,
}

/// An open connection.
#[derive(Debug)]
struct OpenConnection {
    /// The user that it counts for.
    key: u32,
    /// What it is doing.
    activity: Arc<Activity>,
}

/// The end of a connection: its serial number.
#[derive(Debug)]
struct Closed(u64);

/// The maximum of connections that is reached.
#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Maximum {
    /// That of all together.
    #[error("the control socket has its maximum of {0} connections; close one and try again")]
    Total(usize),
    /// That of users other than the owner.
    #[error("other users than the owner have their maximum of {0} connections; try again later")]
    Others(usize),
    /// That of one user.
    #[error("this user has its maximum of {0} connections; close one and try again")]
    User(usize),
}

/// The key of the owner and of root in the count of connections.
const OWNER: u32 = 0;

impl ControlServer {
    /// Creates the socket. Needs the context of a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`]: there is no socket, and the process is as well without. That another process has the name is no
    /// error for a successor, which takes it over when the other one drains or ends.
    pub fn open(
        options: ControlOptions,
        subject: Subject,
        process: ProcessHandle,
    ) -> Result<Self, SocketError> {
        let socket = match ControlSocket::create(&options.choice, &options.rules, &environment) {
            Ok(socket) => {
                log_opened(&socket);
                Some(socket)
            }
            Err(SocketError::InUse(path)) if options.hands_over => {
                tracing::info!(
                    "control socket {} belongs to another server, which this one takes over when that one drains or ends",
                    path.display()
                );
                None
            }
            Err(error) => return Err(error),
        };
        let name = socket.as_ref().map(name_of).unwrap_or_default();
        let shared = Arc::new(Shared::new(subject, process, name));
        Ok(Self {
            shared,
            options,
            socket,
            connections: JoinSet::new(),
            open: HashMap::new(),
            next_number: 0,
            stop: CancellationToken::new(),
        })
    }

    /// Returns the name or the path by which clients find the socket. A successor has the name of its predecessor.
    pub fn place(&self) -> String {
        match &self.options.choice {
            SocketChoice::Path(path) => path.display().to_string(),
            SocketChoice::Named { name, .. } => {
                let own = self.shared.name.lock().clone();
                if own.is_empty() { name.clone() } else { own }
            }
        }
    }

    /// Accepts connections. Never completes; [`close`](Self::close) ends what was accepted.
    pub async fn serve(&mut self) {
        let mut takeover = tokio::time::interval(TAKEOVER_INTERVAL);
        takeover.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let is_draining = self.shared.process.drain.clone();
        let leaves = self.options.hands_over;
        let mut has_warned = false;
        let accept_failures = Throttle::new(1);
        loop {
            tokio::select! {
                accepted = accept(self.socket.as_ref()) => {
                    match accepted {
                        Ok(socket) => self.admit(socket).await,
                        Err(error) => {
                            // Without a descriptor that is left, ten times a second.
                            accept_failures.log(|| {
                                tracing::warn!("cannot accept a connection to the control socket: {error}");
                            });
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
                Some(ended) = self.connections.join_next() => {
                    self.count_closed(ended);
                }
                () = is_draining.cancelled(), if leaves && self.socket.is_some() => {
                    // The successor takes the name now. Open connections stay until the end.
                    self.socket = None;
                }
                _ = takeover.tick(), if self.socket.is_none() && !is_draining.is_cancelled() => {
                    match ControlSocket::create(&self.options.choice, &self.options.rules, &environment) {
                        Ok(socket) => {
                            log_opened(&socket);
                            *self.shared.name.lock() = name_of(&socket);
                            self.socket = Some(socket);
                        }
                        Err(SocketError::InUse(_)) => {}
                        Err(error) => {
                            if !std::mem::replace(&mut has_warned, true) {
                                tracing::warn!("{error}; trying again");
                            }
                        }
                    }
                }
            }
        }
    }

    /// Removes the socket, lets the connections write their last lines, and joins their tasks.
    pub async fn close(mut self) {
        self.socket = None;
        self.stop.cancel();
        let joined = async { while self.connections.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, joined).await.is_err() {
            self.connections.shutdown().await;
        }
    }

    /// Starts the task of a connection, or refuses the connection.
    async fn admit(&mut self, socket: UnixStream) {
        let peer = match Peer::of(&socket) {
            Ok(peer) => peer,
            Err(error) => {
                return tracing::warn!("a connection to the control socket has no credentials: {error}");
            }
        };
        let key = if peer.is_owner() { OWNER } else { peer.uid };
        let access = match self.admission(&peer, key).await {
            Ok(access) => access,
            Err(refusal) => {
                let uid = peer.uid;
                self.shared.refusals.log(|| {
                    tracing::warn!("connection to the control socket refused: {refusal} uid={uid}");
                });
                // At once, without a task: a refused client must not keep others from connecting. The buffer of a new
                // socket has room for a line; tokio would wait for the readiness of the socket first.
                if let Ok(mut socket) = socket.into_std() {
                    _ = socket.write(&protocol::answer(&serde_json::Value::Null, &Err(refusal)));
                }
                return;
            }
        };
        let connection = Connection::new(socket, peer, access, self.shared.clone(), self.stop.clone());
        self.spawn(key, connection.activity(), connection.run());
    }

    /// Returns what a client may do, or why it is refused. Where a maximum is reached, an idle connection gives way.
    async fn admission(&mut self, peer: &Peer, key: u32) -> Result<Access, RequestError> {
        let access = peer.access(&self.options.rules).ok_or_else(|| {
            RequestError::new(
                ErrorCode::Forbidden,
                "only the user of this process and root may use its control socket; --control-group and --control-readers admit \
                 members of a group",
            )
        })?;
        while let Some(maximum) = self.reached_maximum(key) {
            if !self.displace_idle(key, maximum).await {
                return Err(RequestError::new(ErrorCode::Busy, maximum.to_string()));
            }
        }
        Ok(access)
    }

    /// Returns the maximum that keeps the user `key` from one more connection.
    fn reached_maximum(&self, key: u32) -> Option<Maximum> {
        let count = |counts: &dyn Fn(u32) -> bool| self.open.values().filter(|open| counts(open.key)).count();
        let max = self.options.max_connections;
        let (max_others, max_of_user) = (max / OTHERS_SHARE, max / USER_SHARE);
        if self.open.len() >= max {
            Some(Maximum::Total(max))
        } else if key != OWNER && count(&|other| other != OWNER) >= max_others {
            Some(Maximum::Others(max_others))
        } else if key != OWNER && count(&|other| other == key) >= max_of_user {
            Some(Maximum::User(max_of_user))
        } else {
            None
        }
    }

    /// Ends an idle connection that makes room for one of the user `key`, and waits for its end. Returns whether there
    /// was one. Those of the owner give way to the owner only.
    async fn displace_idle(&mut self, key: u32, maximum: Maximum) -> bool {
        let makes_room = |other: u32| match maximum {
            Maximum::Total(_) => key == OWNER || other != OWNER,
            Maximum::Others(_) => other != OWNER,
            Maximum::User(_) => other == key,
        };
        let candidates = self.open.iter().filter(|(_, open)| makes_room(open.key));
        let idle = candidates.filter_map(|(number, open)| Some((open.activity.order()?, *number)));
        let Some((_, number)) = idle.min() else { return false };
        // A request that has come meanwhile is performed, and another connection is chosen.
        if self.open.get(&number).is_some_and(|open| open.activity.try_displace()) {
            // Its task only waits for this, and does so no longer.
            while let Some(ended) = self.connections.join_next().await {
                if self.count_closed(ended) == Some(number) {
                    break;
                }
            }
        }
        true
    }

    /// Spawns the task of a connection, which counts for the user `key` until it ends.
    fn spawn(&mut self, key: u32, activity: Arc<Activity>, run: impl Future<Output = ()> + Send + 'static) {
        let number = self.next_number;
        self.next_number += 1;
        self.open.insert(number, OpenConnection { key, activity });
        let shared = self.shared.clone();
        self.connections.spawn(async move {
            // A panic is reported, and its connection is no longer counted.
            let result = std::panic::AssertUnwindSafe(run).catch_unwind().await;
            if result.is_err() {
                _ = shared
                    .telemetry()
                    .emit(EventKind::TaskPanicked { task: "control connection".to_owned() });
            }
            Closed(number)
        });
    }

    /// Counts a connection that has ended. Returns its serial number.
    fn count_closed(&mut self, ended: Result<Closed, tokio::task::JoinError>) -> Option<u64> {
        // Tasks neither panic, which is caught, nor are they aborted before the end.
        let Ok(Closed(number)) = ended else { return None };
        self.open.remove(&number);
        Some(number)
    }
}

/// Waits for a connection; forever where there is no socket.
async fn accept(socket: Option<&ControlSocket>) -> io::Result<UnixStream> {
    match socket {
        Some(socket) => socket.listener.accept().await.map(|(connection, _)| connection),
        None => std::future::pending().await,
    }
}

/// Returns the name of a socket, without the extension.
fn name_of(socket: &ControlSocket) -> String {
    socket.path().file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Logs where the socket is, and who cannot use it.
fn log_opened(socket: &ControlSocket) {
    tracing::info!("control socket {}", socket.path().display());
    if let Some(warning) = &socket.warning {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests;
