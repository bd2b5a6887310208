//! A TCP relay between a proxy and its server whose connections a test can reset, close, stall, delay and corrupt.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use super::{soon, target::LOOPBACK};

/// State of one connection of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Forwards bytes.
    Up,
    /// Stays open and neither reads nor writes, like a connection whose state a firewall has dropped.
    Dead,
    /// Forwards bytes with a delay.
    Slow,
    /// Forwards half of the next read, regardless of frame boundaries, and then resets both ends.
    Torn,
    /// Forwards the next read with one bit flipped, if it has at least this many bytes, and is [`Up`](Self::Up) again.
    Flipped {
        /// Minimum length in bytes of that read. The opposite direction of a download has only short ones, so that this
        /// selects the direction.
        least: usize,
    },
    /// Both ends are reset.
    Cut,
    /// The proxy's end is reset and the server's end is dead.
    HalfOpen,
    /// The proxy's end is reset and the server's end closed, like the connections of a relay that is killed while it
    /// has unread bytes of the proxy.
    Killed,
    /// Both ends are closed with a FIN, like the connections of a relay that stops.
    Closed,
}

/// Delay of a slow connection.
const LATE: Duration = Duration::from_millis(50);

/// A running relay. Dropping it resets all its connections.
pub struct Relay {
    pub addr: SocketAddr,
    connections: watch::Receiver<Vec<Arc<Connection>>>,
    refuses: Arc<AtomicBool>,
    source: Arc<Mutex<SocketAddr>>,
    _tasks: JoinSet<()>,
}

/// Guard while which a relay refuses new connections.
pub struct Refusal(Arc<AtomicBool>);

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// One connection through a relay.
pub struct Connection {
    wire: watch::Sender<Wire>,
    carried: watch::Sender<u64>,
    ended: AtomicBool,
}

impl Connection {
    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Sets the connection to [`Wire::Up`] if it is still in the state `wire`.
    pub fn is_no_longer(&self, wire: Wire) {
        self.wire.send_if_modified(|now| *now == wire && std::mem::replace(now, Wire::Up) == wire);
    }

    /// Returns the bytes forwarded in both directions so far.
    pub fn carried(&self) -> u64 {
        *self.carried.borrow()
    }
}

impl Relay {
    /// Starts a relay to `to`.
    pub async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, connections) = watch::channel(Vec::new());
        let refuses = Arc::new(AtomicBool::new(false));
        let refuse = refuses.clone();
        let source = Arc::new(Mutex::new(LOOPBACK));
        let from = source.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut carriers = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                if refuse.load(SeqCst) {
                    continue;
                }
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind(*from.lock().unwrap()).unwrap();
                let Ok(far) = socket.connect(to).await else { continue };
                let connection = Arc::new(Connection {
                    wire: watch::Sender::new(Wire::Up),
                    carried: watch::Sender::new(0),
                    ended: AtomicBool::new(false),
                });
                sender.send_modify(|all| all.push(connection.clone()));
                carriers.spawn(async move {
                    connection.carry(near, far).await;
                    connection.ended.store(true, SeqCst);
                });
            }
        });
        Self { addr, connections, refuses, source, _tasks: tasks }
    }

    /// Waits for the `index`-th connection, counted from 0 in the order of their arrival.
    pub async fn connection(&self, index: usize) -> Arc<Connection> {
        let mut connections = self.connections.clone();
        soon("a connection through the relay", connections.wait_for(|all| all.len() > index)).await.unwrap()
            [index]
            .clone()
    }

    /// Sets the source address of later connections to the server.
    pub fn comes_from(&self, address: Ipv4Addr) {
        *self.source.lock().unwrap() = (address, 0).into();
    }

    /// Sets the state of all current connections.
    pub fn set_all(&self, wire: Wire) {
        self.all().iter().for_each(|connection| connection.set(wire));
    }

    /// Refuses new connections until the returned guard is dropped.
    pub fn refuse(&self) -> Refusal {
        self.refuses.store(true, SeqCst);
        Refusal(self.refuses.clone())
    }

    /// Returns all connections, including ended ones, oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.connections.borrow().clone()
    }

    /// Returns the connections that forward, oldest first.
    pub fn live(&self) -> Vec<Arc<Connection>> {
        let mut live = self.all();
        live.retain(|one| !one.ended.load(SeqCst) && matches!(*one.wire.borrow(), Wire::Up | Wire::Slow));
        live
    }

    /// Returns the number of connections so far, including ended ones.
    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }
}

/// Closes a connection with a FIN instead of an RST.
async fn close(mut socket: TcpStream) {
    SockRef::from(&socket).set_linger(None).unwrap();
    // Shuts the write direction down first, because closing a socket with unread bytes sends an RST. Bytes in the send
    // buffer precede the FIN, which may therefore be late.
    _ = socket.shutdown().await;
    while socket.try_read(&mut [0; 64 * 1024]).is_ok_and(|n| n > 0) {}
}

impl Connection {
    async fn carry(&self, mut near: TcpStream, mut far: TcpStream) {
        for socket in [&near, &far] {
            socket.set_nodelay(true).unwrap();
            // An error is usually a reset. Half-closed channels are not tested here.
            SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        {
            let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
            tokio::select! {
                () = self.forward(near_read, far_write) => {}
                () = self.forward(far_read, near_write) => {}
                () = self.becomes(Wire::Cut) => {}
                () = self.becomes(Wire::HalfOpen) => {}
                () = self.becomes(Wire::Killed) => {}
                () = self.becomes(Wire::Closed) => {}
            }
        }
        let how = *self.wire.borrow();
        match how {
            Wire::HalfOpen => {
                drop(near);
                // The server's end stays open until the relay is dropped.
                std::future::pending().await
            }
            Wire::Killed => {
                drop(near);
                close(far).await;
            }
            Wire::Closed => {
                close(near).await;
                close(far).await;
            }
            _ => {}
        }
    }

    async fn forward(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.lives().await;
            let read = tokio::select! {
                read = from.read(&mut buffer) => read,
                () = self.becomes(Wire::Dead) => continue,
            };
            let Ok(n @ 1..) = read else { return };
            // Bytes read before the connection became dead stay here until it is up again.
            self.lives().await;
            let wire = *self.wire.borrow();
            if wire == Wire::Slow {
                tokio::time::sleep(LATE).await;
            }
            if wire == Wire::Torn {
                // The RST that follows discards what the kernel has not delivered, so that at most this much arrives.
                _ = to.write_all(&buffer[..n / 2]).await;
                return;
            }
            let takes_it = |wire: &mut Wire| matches!(*wire, Wire::Flipped { least } if n >= least);
            if self
                .wire
                .send_if_modified(|wire| takes_it(wire) && std::mem::replace(wire, Wire::Up) != Wire::Up)
            {
                buffer[n / 2] ^= 1 << (n % 8);
            }
            if to.write_all(&buffer[..n]).await.is_err() {
                return;
            }
            self.carried.send_modify(|carried| *carried += n as u64);
        }
    }

    async fn becomes(&self, wanted: Wire) {
        // Cannot fail, because `self` holds the sender.
        _ = self.wire.subscribe().wait_for(|&wire| wire == wanted).await;
    }

    async fn lives(&self) {
        _ = self.wire.subscribe().wait_for(|&wire| wire != Wire::Dead).await;
    }
}
