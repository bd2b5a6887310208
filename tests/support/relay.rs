//! A wire between a proxy and its server that a test can cut, or make dead without cutting it.

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

/// What a relay does with one of its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Forwards.
    Up,
    /// Takes nothing and gives nothing, and stays open: a firewall that forgot the connection.
    Dead,
    /// Forwards, everything late.
    Slow,
    /// Forwards half of what comes next, wherever that ends, and is cut.
    Torn,
    /// Forwards what comes next with one bit changed, if that is at least so many bytes, and is up again.
    Flipped {
        /// Little goes the other way of a download: this tells the directions apart.
        least: usize,
    },
    /// Is reset at both ends.
    Cut,
    /// Is reset at the near end, the proxy's, and dead at the far end.
    HalfOpen,
    /// Is reset at the near end and closed at the far end, like everything of a relay that is killed and has something of
    /// the proxy's unread.
    Killed,
    /// Is closed at both ends, like everything of a relay that stops.
    Closed,
}

/// How late what comes through a slow wire is.
const LATE: Duration = Duration::from_millis(50);

/// A running relay. Dropping it cuts all its connections.
pub struct Relay {
    pub addr: SocketAddr,
    connections: watch::Receiver<Vec<Arc<Connection>>>,
    refuses: Arc<AtomicBool>,
    source: Arc<Mutex<SocketAddr>>,
    _tasks: JoinSet<()>,
}

/// What keeps everybody out of a relay. Dropping it lets them in again.
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

    /// It is up again if it is still like this.
    pub fn is_no_longer(&self, wire: Wire) {
        self.wire.send_if_modified(|now| *now == wire && std::mem::replace(now, Wire::Up) == wire);
    }

    /// Bytes both ways so far.
    pub fn carried(&self) -> u64 {
        *self.carried.borrow()
    }
}

impl Relay {
    /// A relay to `to`.
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

    /// The `index`-th connection, counted from 0 and from the first.
    pub async fn connection(&self, index: usize) -> Arc<Connection> {
        let mut connections = self.connections.clone();
        soon("a connection through the relay", connections.wait_for(|all| all.len() > index)).await.unwrap()
            [index]
            .clone()
    }

    /// Where its later connections come from, as the far side sees it.
    pub fn comes_from(&self, address: Ipv4Addr) {
        *self.source.lock().unwrap() = (address, 0).into();
    }

    /// Does this to every connection that there is.
    pub fn set_all(&self, wire: Wire) {
        self.all().iter().for_each(|connection| connection.set(wire));
    }

    /// Lets nobody in until what this returns is dropped.
    pub fn refuse(&self) -> Refusal {
        self.refuses.store(true, SeqCst);
        Refusal(self.refuses.clone())
    }

    /// All connections that there have been, oldest first.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.connections.borrow().clone()
    }

    /// The connections that forward, oldest first.
    pub fn live(&self) -> Vec<Arc<Connection>> {
        let mut live = self.all();
        live.retain(|one| !one.ended.load(SeqCst) && matches!(*one.wire.borrow(), Wire::Up | Wire::Slow));
        live
    }

    /// How many connections there have been.
    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }
}

/// An end without a reset.
async fn close(mut socket: TcpStream) {
    SockRef::from(&socket).set_linger(None).unwrap();
    // Before it is closed over what nobody has read: that would be a reset after all. What waits to be sent goes before it,
    // so that it may come too late where that is much.
    _ = socket.shutdown().await;
    while socket.try_read(&mut [0; 64 * 1024]).is_ok_and(|n| n > 0) {}
}

impl Connection {
    async fn carry(&self, mut near: TcpStream, mut far: TcpStream) {
        for socket in [&near, &far] {
            socket.set_nodelay(true).unwrap();
            // What ends this is usually a reset: a half of a channel that ends alone is not what is tested.
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
                // With it goes the far end, when the relay does.
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
            // What was read when the wire died stays here until it lives again, or for ever.
            self.lives().await;
            let wire = *self.wire.borrow();
            if wire == Wire::Slow {
                tokio::time::sleep(LATE).await;
            }
            if wire == Wire::Torn {
                // The reset that follows takes with it what the kernel still has: so much at the most arrives.
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
        // The sender lives in `self`, so that it cannot fail.
        _ = self.wire.subscribe().wait_for(|&wire| wire == wanted).await;
    }

    async fn lives(&self) {
        _ = self.wire.subscribe().wait_for(|&wire| wire != Wire::Dead).await;
    }
}
