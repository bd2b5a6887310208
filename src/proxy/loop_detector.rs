//! Detection of forwarding loops: a target that leads back to the public port that this proxy serves, directly or
//! through other services of this proxy.
//!
//! In a loop the proxy's connection to its target is accepted by the server as a user of the same service, who gets a
//! stream to the proxy, which connects to the target again. Within a second that took all descriptors of both
//! processes; and since each stream is the cause of the next one, the loop went on after its first user had left: the
//! chain of streams shortened at its beginning as fast as it grew at its end.
//!
//! Both ends of such a connection are known here: OPEN carries the address from which the user connected and the public
//! port, and the socket to the target has the same two. The same numbers alone prove nothing, though: a local port may
//! be in use for several connections to different addresses, and `127.0.0.1` and private addresses exist on many hosts.
//! So the target's address must be one at which the server is reached, too ([`ServerPath::leads_to_server`]).
//!
//! A target may also be the public port of another service of this proxy. That is no loop by itself, but it is one if
//! the target of that service leads back. Each connection with both ends here is an edge from one service to another,
//! and the one that closes a cycle of edges ends its streams.
//!
//! Not detected, because the addresses differ: a loop through address translation (NAT), through several proxies, or in
//! the text format, whose OPEN has no address. The server's limits end those: it resets the connection beyond the
//! limit, which ends the stream that it belongs to, and so all streams of the chain, one after the other.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
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

/// A public port of one of the servers, which are numbered.
pub(super) type PublicPort = (usize, u16);

/// One end of a connection to a public port: the client's address and that port.
type Connection = (SocketAddr, PublicPort);

/// Compares the users of a proxy's streams with the connections to its targets.
#[derive(Debug, Default)]
pub(super) struct LoopDetector {
    /// The numbers that are both a public port and the port of a target; usually none. Only streams with one of them
    /// are watched, because no target of the others can be a public port of this proxy.
    watched: ArcSwap<HashSet<u16>>,
    /// What is known of each server.
    servers: TableMutex<HashMap<usize, ServerPorts>>,
    /// The connections of the watched streams.
    connections: TableMutex<Connections>,
}

/// What is known of one server.
#[derive(Debug, Default)]
struct ServerPorts {
    /// The connection to it; `None` before the first.
    path: Option<ServerPath>,
    /// The public port of each service, and the port of its target if that is a number.
    services: Vec<(u16, Option<u16>)>,
}

/// The connections of the watched streams.
#[derive(Debug, Default)]
struct Connections {
    /// Which streams have each connection.
    by_address: HashMap<Connection, ConnectionUse>,
    /// How many connections lead from a stream of the first service to one of the second.
    edges: HashMap<(PublicPort, PublicPort), usize>,
    /// The number of the registration that was made last.
    last_registration: u64,
}

/// Which streams have a connection as their user or as their target, by the number of their registration.
#[derive(Debug, Default)]
struct ConnectionUse {
    /// The streams whose user has it.
    users: HashMap<u64, CancellationToken>,
    /// The streams to whose target it leads, with their own public port.
    targets: HashMap<u64, (PublicPort, CancellationToken)>,
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
    port: PublicPort,
    /// The registered connections of the stream, and the number of each registration.
    registered: Vec<(Connection, StreamEnd, u64)>,
    /// Cancelled when the stream is part of a loop, and when all streams of the proxy are to end.
    token: CancellationToken,
    /// Cancelled when all streams of the proxy are to end.
    parent: CancellationToken,
}

impl LoopDetector {
    /// Sets the connection to a server.
    pub(super) fn set_path(&self, server: usize, path: ServerPath) {
        self.servers.lock().entry(server).or_default().path = Some(path);
    }

    /// Returns the connection to a server; `None` if there was none.
    pub(super) fn path(&self, server: usize) -> Option<ServerPath> {
        self.servers.lock().get(&server)?.path
    }

    /// Sets the public port and the target's port of each service at a server.
    pub(super) fn set_services(&self, server: usize, services: Vec<(u16, Option<u16>)>) {
        self.change_servers(|servers| servers.entry(server).or_default().services = services);
    }

    /// Forgets a server, which opens no more streams.
    pub(super) fn remove_server(&self, server: usize) {
        self.change_servers(|servers| _ = servers.remove(&server));
    }

    /// Changes what is known of the servers, and determines the ports whose streams are watched.
    fn change_servers(&self, change: impl FnOnce(&mut HashMap<usize, ServerPorts>)) {
        let mut servers = self.servers.lock();
        change(&mut servers);
        let all = || servers.values().flat_map(|server| &server.services);
        let targets: HashSet<_> = all().filter_map(|(_, target)| *target).collect();
        let watched = all().map(|(public, _)| *public).filter(|public| targets.contains(public)).collect();
        self.watched.store(Arc::new(watched));
    }

    /// Begins to watch the stream that `open` has opened on a link to `server`, whose target has the port
    /// `target_port`. `parent` is cancelled when all streams are to end.
    pub(super) fn watch(
        self: &Arc<Self>,
        open: &Open,
        server: usize,
        target_port: Option<u16>,
        parent: &CancellationToken,
    ) -> WatchedStream {
        let watched = self.watched.load();
        let is_watched = open.user.is_some()
            && (watched.contains(&open.port) || target_port.is_some_and(|port| watched.contains(&port)));
        let mut stream = WatchedStream {
            detector: is_watched.then(|| self.clone()),
            port: (server, open.port),
            registered: Vec::new(),
            token: if is_watched { parent.child_token() } else { parent.clone() },
            parent: parent.clone(),
        };
        if let Some(user) = open.user {
            stream.register((user.client, stream.port), StreamEnd::User);
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

    /// Returns whether the target could lead back to a public port, so that its connection has to be
    /// [compared](Self::target_connected).
    pub(super) fn is_watched(&self) -> bool {
        self.detector.is_some()
    }

    /// Compares the connection to the target, from `local` to `peer`, with the users of all streams. Either of the two
    /// streams that share a connection may come second: the server may accept it before this task runs on.
    pub(super) fn target_connected(&mut self, local: SocketAddr, peer: SocketAddr) {
        let Some(detector) = self.detector.clone() else { return };
        let leads_to = |(server, known): (&usize, &ServerPorts)| {
            known.path?.leads_to_server(local.ip(), peer.ip()).then_some(*server)
        };
        let servers: Vec<usize> = detector.servers.lock().iter().filter_map(leads_to).collect();
        servers
            .into_iter()
            .for_each(|server| self.register((local, (server, peer.port())), StreamEnd::Target));
    }

    /// Registers a connection of this stream, and cancels all streams that have it at one of their ends if it closes a
    /// cycle.
    fn register(&mut self, connection: Connection, end: StreamEnd) {
        let Some(detector) = &self.detector else { return };
        let (registration, looping) =
            detector.connections.lock().register(connection, end, self.port, &self.token);
        self.registered.push((connection, end, registration));
        // Wakes tasks, which must not happen under the lock.
        looping.iter().for_each(CancellationToken::cancel);
    }
}

impl Connections {
    /// Registers a connection of a stream of the service at `port`. Returns the number of the registration, and the
    /// tokens of the streams that end because the connection closes a cycle.
    fn register(
        &mut self,
        connection: Connection,
        end: StreamEnd,
        port: PublicPort,
        token: &CancellationToken,
    ) -> (u64, Vec<CancellationToken>) {
        self.last_registration += 1;
        let (number, to) = (self.last_registration, connection.1);
        let known = self.by_address.entry(connection).or_default();
        let new_edges: Vec<PublicPort> = match end {
            StreamEnd::User => {
                let is_first = known.users.is_empty();
                known.users.insert(number, token.clone());
                known.targets.values().filter(|_| is_first).map(|(from, _)| *from).collect()
            }
            StreamEnd::Target => {
                known.targets.insert(number, (port, token.clone()));
                if known.users.is_empty() { Vec::new() } else { vec![port] }
            }
        };
        for from in &new_edges {
            *self.edges.entry((*from, to)).or_default() += 1;
        }
        let is_cycle = new_edges.iter().any(|from| self.leads_to(to, *from));
        let known = self.by_address.entry(connection).or_default();
        let tokens = known.users.values().chain(known.targets.values().map(|(_, token)| token));
        (number, if is_cycle { tokens.cloned().collect() } else { Vec::new() })
    }

    /// Returns whether edges lead from one service to another, or both are the same.
    fn leads_to(&self, from: PublicPort, to: PublicPort) -> bool {
        let (mut seen, mut left) = (HashSet::from([from]), vec![from]);
        while let Some(port) = left.pop() {
            if port == to {
                return true;
            }
            let next = self.edges.keys().filter(|(begin, _)| *begin == port).map(|(_, end)| *end);
            left.extend(next.filter(|next| seen.insert(*next)));
        }
        false
    }

    /// Removes a registration.
    fn remove(&mut self, connection: Connection, end: StreamEnd, number: u64) {
        let Some(known) = self.by_address.get_mut(&connection) else { return };
        let old_edges: Vec<PublicPort> = match end {
            StreamEnd::User => {
                let is_last = known.users.remove(&number).is_some() && known.users.is_empty();
                known.targets.values().filter(|_| is_last).map(|(from, _)| *from).collect()
            }
            StreamEnd::Target => {
                let removed = known.targets.remove(&number);
                removed.into_iter().filter(|_| !known.users.is_empty()).map(|(from, _)| from).collect()
            }
        };
        if known.users.is_empty() && known.targets.is_empty() {
            self.by_address.remove(&connection);
        }
        for from in old_edges {
            let edge = (from, connection.1);
            if let Some(count) = self.edges.get_mut(&edge) {
                *count -= 1;
                if *count == 0 {
                    self.edges.remove(&edge);
                }
            }
        }
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        let Some(detector) = &self.detector else { return };
        let mut connections = detector.connections.lock();
        for (connection, end, number) in &self.registered {
            connections.remove(*connection, *end, *number);
        }
    }
}

/// Returns the port of a target `HOST:PORT`; `None` if it is no number.
pub(super) fn target_port(target: &str) -> Option<u16> {
    target.rsplit_once(':')?.1.parse().ok()
}
