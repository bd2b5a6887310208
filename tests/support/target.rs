//! Servers for a proxy to dial. Each listens on a loopback port that the system chose, until its [`Target`] is dropped.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use underpass::cli::demo::{DemoFile, DemoOrigin, DemoOriginOptions, Sha256Sum, TrafficCounters};

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running server. Dropping it ends it and all its connections.
pub struct Target {
    pub addr: SocketAddr,
    counts: watch::Receiver<Counts>,
    _tasks: JoinSet<()>,
}

/// Connections of a [`Target`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Now.
    pub open: usize,
    /// Ever.
    pub accepted: usize,
    /// That ended with an error: a reset instead of a clean end.
    pub failed: usize,
}

impl Target {
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the connections are as wanted: `target.when(|c| c.open == 0, Duration::from_secs(1)).await`.
    pub async fn when(&self, wanted: impl FnMut(&Counts) -> bool, limit: Duration) -> Counts {
        let mut counts = self.counts.clone();
        let met = tokio::time::timeout(limit, counts.wait_for(wanted)).await;
        match met {
            Ok(counts) => *counts.expect("the target lives as long as its guard"),
            Err(_) => panic!("not within {limit:?}: the target has {:?}", self.counts()),
        }
    }
}

/// Counts a connection for as long as it is served, however that ends.
struct Open(Arc<watch::Sender<Counts>>);

impl Open {
    fn new(counts: &Arc<watch::Sender<Counts>>) -> Self {
        counts.send_modify(|c| {
            c.open += 1;
            c.accepted += 1;
        });
        Self(counts.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|c| c.open -= 1);
    }
}

/// A server that serves each connection with `serve`.
pub async fn serve_with<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Target
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (counts, receiver) = watch::channel(Counts::default());
    let counts = Arc::new(counts);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                Some(_) = connections.join_next() => continue,
            };
            socket.set_nodelay(true).unwrap();
            let open = Open::new(&counts);
            let served = serve(socket);
            connections.spawn(async move {
                if served.await.is_err() {
                    open.0.send_modify(|c| c.failed += 1);
                }
                drop(open);
            });
        }
    });
    Target { addr, counts: receiver, _tasks: tasks }
}

/// Sends back what it gets, and its end.
pub async fn echo() -> Target {
    serve_with(|mut socket| async move {
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
    .await
}

/// Answers each line `PING` with `PONG`, and any other with `WHAT`.
pub async fn ping_pong() -> Target {
    serve_with(|mut socket| async move {
        let (read, mut write) = socket.split();
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            write.write_all(if line == "PING" { b"PONG\n" } else { b"WHAT\n" }).await?;
        }
        write.shutdown().await
    })
    .await
}

/// Reads everything and says nothing.
pub async fn sink() -> Target {
    serve_with(|mut socket| async move {
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
        Ok(())
    })
    .await
}

/// Says nothing and stays until the other end closes. What comes is read, so that a close or a reset is seen.
pub async fn idle() -> Target {
    sink().await
}

/// Never reads: what is sent to it stays in the kernel until the sender may send no more.
pub async fn deaf() -> Target {
    serve_with(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
        Ok(())
    })
    .await
}

/// A target whose queue of connections is full: whoever dials it waits. Dropping the second lets it go.
pub fn full() -> (SocketAddr, Vec<socket2::Socket>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&LOOPBACK.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = vec![listener];
    // How many fit is up to the kernel; the first that has to wait does not.
    loop {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let fits = socket.connect_timeout(&addr.into(), Duration::from_millis(200)).is_ok();
        sockets.push(socket);
        if !fits {
            return (addr, sockets);
        }
    }
}

/// Sends `file` without being asked, then closes.
pub async fn send(file: DemoFile) -> Target {
    serve_with(move |mut socket| async move {
        let mut offset = 0;
        while offset < file.size {
            let piece = file.bytes_from(offset);
            socket.write_all(piece).await?;
            offset += piece.len() as u64;
        }
        socket.shutdown().await?;
        // The client may still be sending; closing over unread bytes would reset what we sent.
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
        Ok(())
    })
    .await
}

/// Reads to the end, then answers what it got: `LENGTH SHA256\n`, and, if that is at most `repeat` bytes, all of it.
pub async fn after_end(repeat: usize) -> Target {
    use sha2::{Digest, Sha256};

    serve_with(move |mut socket| async move {
        let (mut hash, mut length, mut kept) = (Sha256::new(), 0, Vec::new());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = socket.read(&mut buffer).await?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            length += n;
            if length <= repeat {
                kept.extend_from_slice(&buffer[..n]);
            }
        }
        let sum = Sha256Sum(hash.finalize().into());
        socket.write_all(format!("{length} {sum}\n").as_bytes()).await?;
        if length <= repeat {
            socket.write_all(&kept).await?;
        }
        socket.shutdown().await
    })
    .await
}

/// Sends `bytes` bytes of a file, waits until it is sent anything, then resets the connection. Without the wait the
/// reset could overtake the bytes, or even the connection.
pub async fn send_then_reset(file: DemoFile, bytes: u64) -> Target {
    serve_with(move |mut socket| async move {
        let file = DemoFile { size: bytes, ..file };
        let mut offset = 0;
        while offset < file.size {
            let piece = file.bytes_from(offset);
            socket.write_all(piece).await?;
            offset += piece.len() as u64;
        }
        _ = socket.read(&mut [0]).await?;
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Ok(())
    })
    .await
}

/// A file origin, which moves at most `rate` bytes a second each way, all connections together.
pub async fn origin(rate: impl Into<Option<u64>>) -> OriginTarget {
    let options =
        DemoOriginOptions { rate: rate.into().and_then(NonZeroU64::new), ..DemoOriginOptions::default() };
    let origin = DemoOrigin::bind(LOOPBACK, options).await.unwrap();
    let (addr, traffic, open) = (origin.addr(), origin.traffic(), origin.open_connections());
    let mut tasks = JoinSet::new();
    tasks.spawn(origin.run(CancellationToken::new()));
    OriginTarget { addr, traffic, open, _tasks: tasks }
}

/// A running [`DemoOrigin`]. Dropping it ends it.
pub struct OriginTarget {
    pub addr: SocketAddr,
    pub traffic: Arc<TrafficCounters>,
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl OriginTarget {
    /// How many connections are open.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Waits until that many connections are open.
    pub async fn when_open(&self, wanted: usize, limit: Duration) {
        let mut open = self.open.clone();
        let met = tokio::time::timeout(limit, open.wait_for(|&open| open == wanted)).await;
        assert!(
            met.is_ok(),
            "not within {limit:?}: the origin has {} connections, not {wanted}",
            self.open()
        );
    }
}

/// A loopback port with nobody behind it. It stays taken until the process ends, because another test's target might
/// get it otherwise.
pub async fn nobody() -> SocketAddr {
    static TAKEN: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    // Bound and not listening: whoever connects is refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(LOOPBACK).unwrap();
    let addr = socket.local_addr().unwrap();
    TAKEN.lock().unwrap().push(socket);
    addr
}
