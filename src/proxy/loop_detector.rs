//! Detection of forwarding loops: a target that leads back to the public port that this proxy serves.
//!
//! In a loop the proxy's connection to its target is accepted by the server as a user of the same service, who gets a
//! stream to the proxy, which connects to the target again. Within a second that took all descriptors of both
//! processes; and since each stream is the cause of the next one, the loop went on after its first user had left: the
//! chain of streams shortened at its beginning as fast as it grew at its end.
//!
//! Both ends of such a connection are known here: OPEN carries the address from which the user connected and the public
//! port, and the socket to the target has the same two. The same numbers alone prove nothing, though: a local port may be
//! in use for several connections to different addresses, and `127.0.0.1` and private addresses exist on many hosts.
//! So the target's address must be one at which the server is reached, too ([`ServerPath::leads_to_server`]).
//!
//! Not detected, because the addresses differ: a loop through address translation (NAT), through several proxies, or in
//! the text format, whose OPEN has no address. The server's limits end those: it resets the connection beyond the limit,
//! which ends the stream that it belongs to, and so all streams of the chain, one after the other.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use crate::{telemetry::TableMutex, wire::Open};

/// The addresses of the connection between this proxy and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerPath {
    /// The address of this host on the connection.
    pub(super) local: IpAddr,
    /// The address of the server on the connection.
    pub(super) server: IpAddr,
}

impl ServerPath {
    /// Returns whether a connection from `local` to `peer` ends at the host of the server: at the address at which this
    /// proxy has reached it, or at this host, if the server runs on it.
    fn leads_to_server(self, local: IpAddr, peer: IpAddr) -> bool {
        peer == self.server || (self.is_local() && local == peer)
    }

    /// Returns whether the target `address` is probably a public port of the server, before it was connected to.
    pub(super) fn may_lead_to_server(self, address: IpAddr) -> bool {
        address == self.server || (self.is_local() && address.is_loopback())
    }

    /// Returns whether the server runs on this host.
    fn is_local(self) -> bool {
        self.local == self.server
    }
}

/// One end of a connection to a public port: the client's address and that port.
type Connection = (SocketAddr, u16);

/// Compares the users of a proxy's streams with the connections to its target.
#[derive(Debug)]
pub(super) struct LoopDetector {
    /// The port of the target, from the configuration; `None` if it is no number. Streams of other public ports are not
    /// watched, because the target cannot be the public port of those.
    target_port: Option<u16>,
    /// The connections of the watched streams.
    connections: TableMutex<HashMap<Connection, ConnectionUse>>,
}

/// Which streams have a connection as their user or as their target.
#[derive(Debug, Default)]
struct ConnectionUse {
    /// How many streams have it as their user's connection.
    as_user: usize,
    /// How many streams have it as the connection to their target.
    as_target: usize,
    /// The number of the registration that was made last.
    last_registration: u64,
    /// The tokens of these streams, by the number of their registration.
    streams: HashMap<u64, CancellationToken>,
}

/// The end of a stream at which a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// The user's connection, which the server accepted.
    User,
    /// The proxy's connection to the target.
    Target,
}

/// One stream of which the connections are compared with those of all others. Dropping it ends that.
#[derive(Debug)]
pub(super) struct WatchedStream {
    /// The detector; `None` if the stream is not watched.
    detector: Option<Arc<LoopDetector>>,
    /// The public port on which the server accepted the user.
    port: u16,
    /// The registered connections of the stream, and the number of each registration.
    registered: Vec<(Connection, StreamEnd, u64)>,
    /// Cancelled when the stream is part of a loop, and when all streams of the proxy are to end.
    token: CancellationToken,
    /// Cancelled when all streams of the proxy are to end.
    parent: CancellationToken,
}

impl LoopDetector {
    /// Creates the detector of a proxy whose target is `HOST:PORT`.
    pub(super) fn new(target: &str) -> Self {
        Self { target_port: target_port(target), connections: TableMutex::default() }
    }

    /// Begins to watch the stream that `open` has opened. `parent` is cancelled when all streams are to end.
    pub(super) fn watch(self: &Arc<Self>, open: &Open, parent: &CancellationToken) -> WatchedStream {
        let is_watched = self.target_port == Some(open.port) && open.user.is_some();
        let mut stream = WatchedStream {
            detector: is_watched.then(|| self.clone()),
            port: open.port,
            registered: Vec::new(),
            token: if is_watched { parent.child_token() } else { parent.clone() },
            parent: parent.clone(),
        };
        if let Some(user) = open.user {
            stream.register(user.client, StreamEnd::User);
        }
        stream
    }
}

impl WatchedStream {
    /// Returns the token that is cancelled when the stream is part of a loop, and when all streams are to end.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Returns whether the stream is part of a loop.
    pub(super) fn is_loop(&self) -> bool {
        self.token.is_cancelled() && !self.parent.is_cancelled()
    }

    /// Returns whether the target could lead back to the public port, so that its connection has to be
    /// [compared](Self::target_connected).
    pub(super) fn is_watched(&self) -> bool {
        self.detector.is_some()
    }

    /// Compares the connection to the target, from `local` to `peer`, with the users of all streams. Either of the two
    /// streams that share a connection may come second: the server may accept it before this task runs on.
    pub(super) fn target_connected(&mut self, local: SocketAddr, peer: SocketAddr, path: ServerPath) {
        if peer.port() == self.port && path.leads_to_server(local.ip(), peer.ip()) {
            self.register(local, StreamEnd::Target);
        }
    }

    /// Registers a connection of this stream, and cancels all streams that have it at one of their ends if one has it as
    /// its user and one as its target.
    fn register(&mut self, client: SocketAddr, end: StreamEnd) {
        let Some(detector) = &self.detector else { return };
        let connection = (client, self.port);
        let (registration, looping) = {
            let mut connections = detector.connections.lock();
            let known = connections.entry(connection).or_default();
            *known.count(end) += 1;
            known.last_registration += 1;
            known.streams.insert(known.last_registration, self.token.clone());
            let is_loop = known.as_user > 0 && known.as_target > 0;
            let looping = if is_loop { std::mem::take(&mut known.streams) } else { HashMap::new() };
            (known.last_registration, looping)
        };
        self.registered.push((connection, end, registration));
        // Wakes tasks, which must not happen under the lock.
        looping.values().for_each(CancellationToken::cancel);
    }
}

impl ConnectionUse {
    /// Returns the number of streams that have the connection at this end.
    fn count(&mut self, end: StreamEnd) -> &mut usize {
        match end {
            StreamEnd::User => &mut self.as_user,
            StreamEnd::Target => &mut self.as_target,
        }
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        let Some(detector) = &self.detector else { return };
        let mut connections = detector.connections.lock();
        for (connection, end, registration) in &self.registered {
            if let Some(known) = connections.get_mut(connection) {
                *known.count(*end) -= 1;
                known.streams.remove(registration);
                if known.as_user + known.as_target == 0 {
                    connections.remove(connection);
                }
            }
        }
    }
}

/// Returns the port of a target `HOST:PORT`; `None` if it is no number.
pub(super) fn target_port(target: &str) -> Option<u16> {
    target.rsplit_once(':')?.1.parse().ok()
}
