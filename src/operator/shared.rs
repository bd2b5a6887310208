//! What the connections to a control socket share: the server or proxy that they are about, and the bounds of all
//! together.

use std::{fmt, sync::Arc, time::Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    lists::ListBounds,
    peer::{Access, Peer},
    protocol::{Greeting, PROTOCOL, Role},
};
use crate::{
    control::{Command, CommandReply, CommandSender},
    telemetry::{LogBroadcast, MAX_REFUSALS_PER_SECOND, Telemetry, Throttle},
};

/// How many lists of the owner are made at the same time.
const MAX_LISTS: usize = 2;

/// How many lists of members of the groups are made at the same time.
const MAX_LISTS_OF_OTHERS: usize = 1;

/// How many clients of the owner may watch: each takes snapshots up to ten times a second.
const MAX_WATCHERS: usize = 16;

/// How many clients of members of the groups may watch.
const MAX_WATCHERS_OF_OTHERS: usize = 8;

/// How many events about forbidden requests are emitted in a second.
const MAX_FORBIDDEN_PER_SECOND: u32 = 10;

/// A request to read the files of the operator again. The reply is what has changed, or why nothing has, for people.
pub type ReloadRequest = oneshot::Sender<Result<String, String>>;

/// What an operator can do with the process itself.
#[derive(Debug, Clone)]
pub struct ProcessHandle {
    /// Cancelled to drain and end.
    pub drain: CancellationToken,
    /// Cancelled to end at once.
    pub abort: CancellationToken,
    /// Receives requests to reload; `None` if the process has no files to read again.
    pub reload: Option<mpsc::Sender<ReloadRequest>>,
}

/// What a server lets operators see and do.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    /// Its counters and events.
    pub telemetry: Arc<Telemetry>,
    /// The queue of its commands.
    pub commands: CommandSender,
    /// The records of its log.
    pub log: LogBroadcast,
}

/// What a proxy lets operators see and do.
#[derive(Clone)]
pub struct ProxyHandle {
    /// Its counters and events.
    pub telemetry: Arc<Telemetry>,
    /// The records of its log.
    pub log: LogBroadcast,
    /// Returns its services and links.
    pub report: Arc<dyn Fn() -> ProxyReport + Send + Sync>,
    /// Executes a command that [a proxy can execute](Command::is_for_proxy).
    pub execute: Arc<dyn Fn(&Command) -> CommandReply + Send + Sync>,
}

impl fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProxyHandle").finish()
    }
}

/// The state of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyReport {
    /// Its open streams.
    pub streams: usize,
    /// The services that servers serve through it.
    pub services: Vec<ProxyServiceReport>,
    /// Its links to servers.
    pub links: Vec<LinkReport>,
}

/// A service of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyServiceReport {
    /// The public port and the group.
    pub service: String,
    /// What its streams are connected to.
    pub target: String,
    /// The address of the server.
    pub server: String,
}

/// A link of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkReport {
    /// The address of the server.
    pub server: String,
    /// How many services that server serves through the proxy; none while there is no link.
    pub services: usize,
}

/// What the control socket is about.
#[derive(Debug, Clone)]
pub enum Subject {
    /// The tunnel server.
    Server(ServerHandle),
    /// A proxy.
    Proxy(ProxyHandle),
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// A random number that identifies this start of the process.
    boot: u64,
    /// When the process started.
    pub(super) started: Instant,
    /// The name of the socket; empty while there is none.
    pub(super) name: Mutex<String>,
    /// The server or proxy.
    pub(super) subject: Subject,
    /// The process.
    pub(super) process: ProcessHandle,
    /// Bounds the lists of the owner and of root.
    owner: ListBounds,
    /// Bounds the lists of members of the groups.
    others: ListBounds,
    /// Limits the log lines about connections that were refused.
    pub(super) refusals: Throttle,
    /// Limits the events about requests that a client may not send. They are fewer than the server emits of commands
    /// that failed, so that a flood of them hides no command of another operator.
    pub(super) forbidden: Throttle,
}

impl Shared {
    /// Creates what the connections of a process that has just started share.
    pub(super) fn new(subject: Subject, process: ProcessHandle, name: String) -> Self {
        Self {
            boot: rand::random(),
            started: Instant::now(),
            name: Mutex::new(name),
            subject,
            process,
            owner: ListBounds::new(MAX_LISTS, MAX_WATCHERS),
            others: ListBounds::new(MAX_LISTS_OF_OTHERS, MAX_WATCHERS_OF_OTHERS),
            refusals: Throttle::new(MAX_REFUSALS_PER_SECOND),
            forbidden: Throttle::new(MAX_FORBIDDEN_PER_SECOND),
        }
    }

    /// Returns the bounds of the lists of a client.
    pub(super) fn bounds(&self, peer: &Peer) -> &ListBounds {
        if peer.is_owner() { &self.owner } else { &self.others }
    }

    /// Returns what the process is.
    pub(super) fn role(&self) -> Role {
        match &self.subject {
            Subject::Server(_) => Role::Server,
            Subject::Proxy(_) => Role::Proxy,
        }
    }

    /// Returns the counters and events of the server or proxy.
    pub(super) fn telemetry(&self) -> &Arc<Telemetry> {
        match &self.subject {
            Subject::Server(server) => &server.telemetry,
            Subject::Proxy(proxy) => &proxy.telemetry,
        }
    }

    /// Returns the records of the log of the process.
    pub(super) fn log(&self) -> &LogBroadcast {
        match &self.subject {
            Subject::Server(server) => &server.log,
            Subject::Proxy(proxy) => &proxy.log,
        }
    }

    /// Returns the greeting for a client.
    pub(super) fn greeting(&self, access: Access) -> Greeting {
        Greeting {
            underpass: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            boot: format!("{:016x}", self.boot),
            role: self.role(),
            name: self.name.lock().clone(),
            pid: std::process::id(),
            access: Some(access),
        }
    }
}
