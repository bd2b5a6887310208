//! Target and users for those measurements of `assets/bench/peers` that no common program can do: a target that echoes, sends
//! without end or answers HTTP, and users that ping beside downloads or keep idle connections. Prints JSON.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{self, BufRead, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::{Builder, Handle},
    task::JoinSet,
};

/// Bytes per read or write of a download.
const BLOCK: usize = 256 * 1024;

/// Length in bytes of the body of an HTTP response.
const BODY: usize = 1024;

/// Length in bytes of a ping.
const PING: usize = 64;

/// Time for which downloads run before pings are measured, so that windows have reached their size.
const WARM_UP: Duration = Duration::from_secs(1);

/// First byte of a connection on which the target echoes. `G`, as in GET, selects HTTP.
const ECHO: u8 = b'e';
/// First byte of a connection on which the target sends without end.
const DOWNLOAD: u8 = b'd';

/// Load for a tunnel.
#[derive(Parser)]
enum Args {
    /// The target of tunnels
    Target {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// One connection that sends pings, beside downloads
    Ping {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 0)]
        downloads: usize,
        #[arg(long)]
        seconds: u64,
        /// Pause between a pong and the next ping
        #[arg(long, default_value_t = 0)]
        pause_us: u64,
        /// Print the address of the connection that pings, and wait for a line before the measurement
        #[arg(long)]
        announce: bool,
    },
    /// Connections that exchange a few bytes and stay open until stdin ends
    Idle {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long)]
        count: usize,
    },
}

fn main() {
    match Args::parse() {
        Args::Target { listen } => target(listen),
        Args::Ping { to, downloads, seconds, pause_us, announce } => {
            let time = Duration::from_secs(seconds);
            ping(to, downloads, time, Duration::from_micros(pause_us), announce);
        }
        Args::Idle { to, count } => idle(to, count),
    }
}

#[tokio::main]
async fn target(listen: SocketAddr) {
    let listener = TcpListener::bind(listen).await.unwrap();
    let echoes = echoes();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.unwrap();
                // The result belongs to the client, which reports it.
                let echoes = echoes.clone();
                connections.spawn(async move { _ = serve(socket, echoes).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Starts the thread that echoes. On the thread of the downloads, a ping would wait for their large writes for milliseconds that
/// are not caused by the tunnel.
fn echoes() -> Handle {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

async fn echo(socket: TcpStream) -> io::Result<u64> {
    let mut socket = tokio::net::TcpStream::from_std(socket)?;
    let (mut read, mut write) = socket.split();
    tokio::io::copy(&mut read, &mut write).await
}

async fn serve(mut socket: tokio::net::TcpStream, echoes: Handle) -> io::Result<()> {
    socket.set_nodelay(true)?;
    match socket.read_u8().await? {
        ECHO => {
            let socket = socket.into_std()?;
            // The result belongs to the client, which reports it.
            echoes.spawn(async move { _ = echo(socket).await });
            Ok(())
        }
        DOWNLOAD => {
            let block = vec![0; BLOCK];
            loop {
                socket.write_all(&block).await?;
            }
        }
        b'G' => http(socket).await,
        _ => Ok(()),
    }
}

/// Answers each request with the same body. The first letter of the method was read before.
async fn http(mut socket: tokio::net::TcpStream) -> io::Result<()> {
    let response = |connection: &str| {
        let body = "x".repeat(BODY);
        format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\nConnection: {connection}\r\n\r\n{body}")
            .into_bytes()
    };
    let (stays, ends) = (response("keep-alive"), response("close"));
    let mut request = Vec::new();
    while socket.read_buf(&mut request).await? > 0 {
        while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let closes =
                String::from_utf8_lossy(&request[..end]).to_lowercase().contains("connection: close");
            socket.write_all(if closes { &ends } else { &stays }).await?;
            if closes {
                return socket.shutdown().await;
            }
            request.drain(..end + 4);
        }
    }
    Ok(())
}

fn connect(to: SocketAddr, kind: u8) -> TcpStream {
    let mut socket = TcpStream::connect(to).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.write_all(&[kind]).unwrap();
    socket
}

fn round_trip(socket: &mut TcpStream) -> Duration {
    let begin = Instant::now();
    socket.write_all(&[1; PING]).unwrap();
    socket.read_exact(&mut [0; PING]).unwrap();
    begin.elapsed()
}

fn ping(to: SocketAddr, downloads: usize, time: Duration, pause: Duration, announce: bool) {
    let mut socket = connect(to, ECHO);
    for _ in 0..20 {
        round_trip(&mut socket);
    }
    let bytes = Arc::new(AtomicU64::new(0));
    for _ in 0..downloads {
        let bytes = bytes.clone();
        // The thread runs until the program exits.
        thread::spawn(move || {
            let mut socket = connect(to, DOWNLOAD);
            let mut block = vec![0; BLOCK];
            loop {
                bytes.fetch_add(socket.read(&mut block).unwrap() as u64, Relaxed);
            }
        });
    }
    if announce {
        println!("{}", socket.local_addr().unwrap());
        io::stdin().lock().read_line(&mut String::new()).unwrap();
    }
    if downloads > 0 {
        thread::sleep(WARM_UP);
    }
    let (begin, before) = (Instant::now(), bytes.load(Relaxed));
    let mut times = Vec::new();
    while begin.elapsed() < time {
        times.push(round_trip(&mut socket));
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    let rate = (bytes.load(Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e6;
    println!(
        r#"{{"count": {}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}, "bulk_gbit": {:.4}}}"#,
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        rate * 8.0 / 1e9
    );
}

#[tokio::main]
async fn idle(to: SocketAddr, count: usize) {
    let mut sockets = Vec::new();
    while sockets.len() < count {
        let mut batch = JoinSet::new();
        for _ in 0..100.min(count - sockets.len()) {
            batch.spawn(async move {
                let mut socket = tokio::net::TcpStream::connect(to).await.unwrap();
                socket.write_u8(ECHO).await.unwrap();
                socket.write_all(&[1; PING]).await.unwrap();
                socket.read_exact(&mut [0; PING]).await.unwrap();
                socket
            });
        }
        sockets.extend(batch.join_all().await);
    }
    println!(r#"{{"open": {}}}"#, sockets.len());
    tokio::task::spawn_blocking(|| io::stdin().lock().read_line(&mut String::new())).await.unwrap().unwrap();
}
