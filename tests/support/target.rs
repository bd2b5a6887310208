//! Targets: servers that proxies connect to. Each listens on a free loopback port until its [`Target`] is dropped.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use underpass::cli::demo::{DemoFile, DemoOrigin, DemoOriginOptions, Sha256Sum, TrafficCounters};

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Returns ports that were free a moment ago, for a program that cannot listen on port 0 and say what it got.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind(LOOPBACK).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A running target. Dropping it stops it and closes its connections.
pub struct Target {
    pub addr: SocketAddr,
    counts: watch::Receiver<Counts>,
    _tasks: JoinSet<()>,
}

/// Numbers of connections of a [`Target`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open now.
    pub open: usize,
    /// Accepted so far.
    pub accepted: usize,
    /// Ended with an I/O error, such as a reset, instead of a FIN.
    pub failed: usize,
}

impl Target {
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the numbers satisfy `wanted`: `target.when(|c| c.open == 0, Duration::from_secs(1)).await`.
    pub async fn when(&self, wanted: impl FnMut(&Counts) -> bool, limit: Duration) -> Counts {
        let mut counts = self.counts.clone();
        let met = tokio::time::timeout(limit, counts.wait_for(wanted)).await;
        match met {
            Ok(counts) => *counts.expect("the target lives as long as its guard"),
            Err(_) => panic!("not within {limit:?}: the target has {:?}", self.counts()),
        }
    }
}

/// Guard that counts an open connection.
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

/// Starts a target that runs `serve` for each connection.
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

/// Starts a target that echoes all bytes and the FIN.
pub async fn echo() -> Target {
    serve_with(|mut socket| async move {
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await?;
        write.shutdown().await
    })
    .await
}

/// Starts a target that answers each line `PING` with `PONG`, and other lines with `WHAT`.
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

/// Starts a target that reads everything and sends nothing.
pub async fn sink() -> Target {
    serve_with(|mut socket| async move {
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
        Ok(())
    })
    .await
}

/// Starts a target that sends nothing and stays connected until the peer closes. It reads, to notice a FIN or an RST.
pub async fn idle() -> Target {
    sink().await
}

/// A target that sends as many bytes as the user [requests](request), and reads nothing more of a user that requests
/// none.
pub async fn on_request() -> Target {
    serve_with(|mut socket| async move {
        // The kernel's memory for the sockets of the machine is limited, and tests of stalled users are not about it.
        SockRef::from(&socket).set_send_buffer_size(64 * 1024)?;
        let mut left = socket.read_u64().await?;
        if left == 0 {
            socket.ready(Interest::ERROR).await?;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        while left > 0 {
            let piece = left.min(64 * 1024);
            socket.write_all(&vec![7; piece as usize]).await?;
            left -= piece;
        }
        socket.shutdown().await
    })
    .await
}

/// Connects a user to a target that sends [`on_request`], and requests `size` bytes. Dropping it resets the connection,
/// which a target that reads nothing notices.
pub async fn request(public: SocketAddr, size: u64) -> TcpStream {
    try_request(public, size).await.unwrap()
}

/// [`request`], of a user that may be refused.
pub async fn try_request(public: SocketAddr, size: u64) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(public).await?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.write_all(&size.to_be_bytes()).await?;
    Ok(socket)
}

/// Starts a target that never reads: bytes stay in the kernel's buffers until the receive window is full.
pub async fn deaf() -> Target {
    serve_with(|socket| async move {
        std::future::pending::<()>().await;
        drop(socket);
        Ok(())
    })
    .await
}

/// Returns the address of a listener whose accept queue is full, so that connecting to it hangs. Dropping the sockets
/// ends it.
pub fn full() -> (SocketAddr, Vec<socket2::Socket>) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&LOOPBACK.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let mut sockets = vec![listener];
    // The kernel decides how many connections fit. The first one that has to wait does not.
    loop {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let fits = socket.connect_timeout(&addr.into(), Duration::from_millis(200)).is_ok();
        sockets.push(socket);
        if !fits {
            return (addr, sockets);
        }
    }
}

/// Starts a target that sends `file` without a request and closes.
pub async fn send(file: DemoFile) -> Target {
    serve_with(move |mut socket| async move {
        let mut offset = 0;
        while offset < file.size {
            let piece = file.bytes_from(offset);
            socket.write_all(piece).await?;
            offset += piece.len() as u64;
        }
        socket.shutdown().await?;
        // The peer may still be sending, and closing a socket with unread bytes would send an RST.
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
        Ok(())
    })
    .await
}

/// Starts a target that reads until the FIN and answers with `LENGTH SHA256\n`, followed by the bytes themselves if
/// they are at most `repeat`.
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

/// Starts a target that sends `bytes` bytes of a file, waits for a byte, and resets the connection. Without the wait
/// the RST could overtake the bytes.
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
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Ok(())
    })
    .await
}

/// Starts a [`DemoOrigin`] that transfers at most `rate` bytes per second in each direction over all connections.
pub async fn origin(rate: impl Into<Option<u64>>) -> OriginTarget {
    let options =
        DemoOriginOptions { rate: rate.into().and_then(NonZeroU64::new), ..DemoOriginOptions::default() };
    let origin = DemoOrigin::bind(LOOPBACK, options).await.unwrap();
    let (addr, traffic, open) = (origin.addr(), origin.traffic(), origin.open_connections());
    let mut tasks = JoinSet::new();
    tasks.spawn(origin.run(CancellationToken::new()));
    OriginTarget { addr, traffic, open, _tasks: tasks }
}

/// A running [`DemoOrigin`]. Dropping it stops it.
pub struct OriginTarget {
    pub addr: SocketAddr,
    pub traffic: Arc<TrafficCounters>,
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl OriginTarget {
    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Waits until exactly `wanted` connections are open.
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

/// Returns a loopback address that refuses connections. Its port stays bound until the process exits, because the
/// target of another test could get it otherwise.
pub async fn refusing() -> SocketAddr {
    static TAKEN: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    // Bound and not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(LOOPBACK).unwrap();
    let addr = socket.local_addr().unwrap();
    TAKEN.lock().unwrap().push(socket);
    addr
}
