//! Target and users for those measurements of `assets/bench` that no common program can do: a target that echoes, sends
//! or receives without end or answers HTTP, and users that transfer for a fixed time, ping beside downloads or keep
//! idle connections. Prints JSON.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{self, BufRead, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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

/// First byte of a connection on which the target echoes. `G`, as in GET, selects HTTP.
const ECHO: u8 = b'e';
/// First byte of a connection on which the target sends without end.
const DOWNLOAD: u8 = b'd';
/// First byte of a connection on which the target receives. The deadline follows (8 bytes, nanoseconds since the
/// epoch); then the target answers with the count of bytes that it received before.
const UPLOAD: u8 = b'u';

/// How long the answer to an upload may take after the deadline.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Load for a tunnel.
#[derive(Parser)]
enum Args {
    /// The target of tunnels
    Target {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Connections that send pings, beside downloads
    Ping(PingLoad),
    /// Connections that transfer without end; measures the goodput at the receivers, from before the connections are
    /// opened
    Transfer {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long, default_value_t = 0)]
        downloads: usize,
        #[arg(long, default_value_t = 0)]
        uploads: usize,
        #[arg(long)]
        seconds: u64,
    },
    /// HTTP requests at a fixed rate over keep-alive connections; measures their latency from when each was due
    Requests(RequestLoad),
    /// Connections that exchange a few bytes and stay open until stdin ends
    Idle {
        #[arg(long)]
        to: SocketAddr,
        #[arg(long)]
        count: usize,
    },
}

/// Pings beside downloads.
#[derive(clap::Args)]
struct PingLoad {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long, default_value_t = 0)]
    downloads: usize,
    /// Connections that ping
    #[arg(long, default_value_t = 1)]
    pings: usize,
    #[arg(long)]
    seconds: u64,
    /// Pause between a pong and the next ping
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
    /// Time for which the downloads run before pings are measured, so that windows have reached their size
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// Print the address of the first connection that pings, and wait for a line before the measurement
    #[arg(long)]
    announce: bool,
}

/// HTTP requests at a fixed rate.
#[derive(clap::Args)]
struct RequestLoad {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// Requests per second, on all connections together
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    #[arg(long)]
    seconds: u64,
}

fn main() {
    match Args::parse() {
        Args::Target { listen } => target(listen),
        Args::Ping(load) => ping(&load),
        Args::Transfer { to, downloads, uploads, seconds } => transfer(to, downloads, uploads, seconds),
        Args::Requests(load) => requests(&load),
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

/// Starts the thread that echoes. On the thread of the downloads, a ping would wait for their large writes for
/// milliseconds that are not caused by the tunnel.
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
        UPLOAD => receive(socket).await,
        b'G' => http(socket).await,
        _ => Ok(()),
    }
}

/// Counts what is received until the client's deadline, and answers with the count.
async fn receive(mut socket: tokio::net::TcpStream) -> io::Result<()> {
    let deadline = UNIX_EPOCH + Duration::from_nanos(socket.read_u64().await?);
    let remaining = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    let (mut block, mut count) = (vec![0; BLOCK], 0);
    // It never ends by itself before the deadline: the client sends until it has the answer.
    _ = tokio::time::timeout(remaining, async {
        while let Ok(length @ 1..) = socket.read(&mut block).await {
            count += length as u64;
        }
    })
    .await;
    socket.write_u64(count).await?;
    // Closing with unread data would reset the connection and could destroy the answer.
    while socket.read(&mut block).await? > 0 {}
    Ok(())
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

/// Pings until `end`. Returns the times.
fn ping_until(socket: &mut TcpStream, end: Instant, pause: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < end {
        times.push(round_trip(socket));
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    times
}

fn ping(load: &PingLoad) {
    let mut sockets: Vec<_> = (0..load.pings).map(|_| connect(load.to, ECHO)).collect();
    for _ in 0..20 {
        round_trip(&mut sockets[0]);
    }
    let bytes = Arc::new(AtomicU64::new(0));
    for _ in 0..load.downloads {
        let (to, bytes) = (load.to, bytes.clone());
        // The thread runs until the program exits.
        thread::spawn(move || {
            let mut socket = connect(to, DOWNLOAD);
            let mut block = vec![0; BLOCK];
            loop {
                bytes.fetch_add(socket.read(&mut block).unwrap() as u64, Relaxed);
            }
        });
    }
    if load.announce {
        println!("{}", sockets[0].local_addr().unwrap());
        io::stdin().lock().read_line(&mut String::new()).unwrap();
    }
    if load.downloads > 0 {
        thread::sleep(Duration::from_secs(load.warm_up));
    }
    let (begin, before) = (Instant::now(), bytes.load(Relaxed));
    let (end, pause) = (begin + Duration::from_secs(load.seconds), Duration::from_micros(load.pause_us));
    let threads: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| thread::spawn(move || ping_until(&mut socket, end, pause)))
        .collect();
    let mut times: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let rate = (bytes.load(Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
    times.sort();
    let at = |share| micros_at(&times, share);
    println!(
        r#"{{"count": {}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}, "bulk_gbit": {:.4}}}"#,
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        rate * 8.0 / 1e9
    );
}

/// Returns the time, in microseconds, below which this share of the sorted `times` is.
fn micros_at(times: &[Duration], share: f64) -> f64 {
    times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e6
}

/// Sends requests at a fixed rate, at equal intervals over all connections in turn. A request that is late because the
/// connection's last response is late counts from when it was due: otherwise a slow tunnel would get less load.
fn requests(load: &RequestLoad) {
    let start = Instant::now() + Duration::from_millis(100);
    let interval = Duration::from_secs(1) / load.rate;
    let end = start + Duration::from_secs(load.seconds);
    let send_on_one = |number: u32| {
        let mut socket = TcpStream::connect(load.to).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (mut due, mut times, mut response) = (start + interval * number, Vec::new(), vec![0; 4096]);
        while due < end {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            socket.write_all(b"GET / HTTP/1.1\r\nHost: target\r\n\r\n").unwrap();
            let mut length = 0;
            while response[..length]
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .is_none_or(|at| length < at + 4 + BODY)
            {
                match socket.read(&mut response[length..]).unwrap() {
                    0 => panic!("the connection has ended"),
                    read => length += read,
                }
            }
            times.push(due.elapsed());
            due += interval * load.connections;
        }
        times
    };
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..load.connections).map(|number| scope.spawn(move || send_on_one(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    times.sort();
    println!(
        r#"{{"count": {}, "rate": {:.1}, "p50_us": {:.1}, "p99_us": {:.1}, "max_us": {:.1}}}"#,
        times.len(),
        times.len() as f64 / start.elapsed().as_secs_f64(),
        micros_at(&times, 0.5),
        micros_at(&times, 0.99),
        micros_at(&times, 1.0)
    );
}

/// Transfers for so many seconds from now. The bytes that arrived in that time count, so that neither the buffers of a
/// tunnel nor a late start are to anyone's advantage.
fn transfer(to: SocketAddr, downloads: usize, uploads: usize, seconds: u64) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let wall_deadline = SystemTime::now() + Duration::from_secs(seconds);
    let start = |count, one: fn(SocketAddr, Instant, SystemTime) -> u64| -> Vec<_> {
        (0..count).map(|_| thread::spawn(move || one(to, deadline, wall_deadline))).collect()
    };
    let (downloads, uploads) = (start(downloads, download), start(uploads, upload));
    let mbit = |threads: Vec<thread::JoinHandle<u64>>| -> Vec<f64> {
        threads.into_iter().map(|t| t.join().unwrap() as f64 * 8e-6 / seconds as f64).collect()
    };
    let (downloads, uploads) = (mbit(downloads), mbit(uploads));
    println!(r#"{{"download_mbit": {downloads:.4?}, "upload_mbit": {uploads:.4?}}}"#);
}

/// Receives until the deadline. Returns the count of bytes.
fn download(to: SocketAddr, deadline: Instant, _: SystemTime) -> u64 {
    let mut socket = connect(to, DOWNLOAD);
    let (mut block, mut count) = (vec![0; BLOCK], 0);
    while let Some(remaining) = deadline.checked_duration_since(Instant::now()).filter(|t| !t.is_zero()) {
        socket.set_read_timeout(Some(remaining)).unwrap();
        match socket.read(&mut block) {
            Ok(0) => panic!("the download has ended"),
            Ok(length) => count += length as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("download: {error}"),
        }
    }
    count
}

/// Sends until the target answers, after the deadline. Returns how many bytes the target received before it.
fn upload(to: SocketAddr, deadline: Instant, wall_deadline: SystemTime) -> u64 {
    let mut socket = connect(to, UPLOAD);
    let nanos = wall_deadline.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    socket.write_all(&nanos.to_be_bytes()).unwrap();
    let mut sender = socket.try_clone().unwrap();
    // It fails once the other half is shut down.
    let sending = thread::spawn(move || while sender.write(&[0; BLOCK]).is_ok() {});
    let timeout = deadline.saturating_duration_since(Instant::now()) + ANSWER_TIMEOUT;
    socket.set_read_timeout(Some(timeout)).unwrap();
    let mut count = [0; 8];
    socket.read_exact(&mut count).expect("the target's answer");
    socket.shutdown(Shutdown::Both).unwrap();
    sending.join().unwrap();
    u64::from_be_bytes(count)
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
