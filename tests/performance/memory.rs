//! Memory of server and proxy processes with a slow user and with many idle streams.

use std::{
    io::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    Running,
    process::{Process, TOKEN},
    soon,
    target::{self, LOOPBACK},
    tunnel::FORMATS,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use underpass::{cli::demo::DemoFile, config::ProxyFormat};

/// A server and a proxy process, and the public address.
struct Programs {
    server: Process,
    proxy: Process,
    public: SocketAddr,
}

impl Programs {
    async fn start(target: SocketAddr, format: ProxyFormat) -> Self {
        Self::start_with(target, format, &[], &[]).await
    }

    /// [`start`](Self::start) with more arguments for both programs, and for the server.
    async fn start_with(
        target: SocketAddr,
        format: ProxyFormat,
        more: &[&str],
        more_of_server: &[&str],
    ) -> Self {
        let log = ["--log", "warn,lifecycle=info"];
        let (server, addr) = Process::server(TOKEN, &[&log[..], more, more_of_server].concat()).await;
        let addr = addr.to_string();
        let format = if format == ProxyFormat::Binary { "binary" } else { "text" };
        let target = target.to_string();
        let arguments = [
            "proxy", "--server", &addr, "--port", "0", "--to", &target, "--token", TOKEN, "--format", format,
        ];
        let mut proxy = Process::underpass(&[&arguments[..], more].concat());
        let port = proxy.serves().await.port;
        Self { server, proxy, public: SocketAddr::new(LOOPBACK.ip(), port) }
    }

    /// Returns the resident memory of server and proxy in KiB, or `None` if the system does not report it.
    fn resident_kib(&self) -> Option<(u64, u64)> {
        Some((self.server.resident_kib()?, self.proxy.resident_kib()?))
    }
}

/// Prints a figure to stderr, also if the test passes.
fn report(what: &str) {
    _ = writeln!(std::io::stderr(), "{what}");
}

/// Connects and requests a file of `size` bytes.
async fn get(public: SocketAddr, size: u64) -> TcpStream {
    let mut socket = TcpStream::connect(public).await.unwrap();
    let path = DemoFile { seed: 1, size }.path();
    socket
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    socket
}

/// Runs nine downloads of `size` bytes in parallel and returns how long they took.
async fn nine_downloads(public: SocketAddr, size: u64) -> Duration {
    let begin = Instant::now();
    let mut users = JoinSet::new();
    for _ in 0..9 {
        users.spawn(async move {
            let mut socket = get(public, size).await;
            let mut buffer = vec![0; 256 * 1024];
            let mut received = 0;
            loop {
                match socket.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => received += n as u64,
                }
            }
            assert!(received > size, "{received} of {size} bytes");
        });
    }
    soon("nine downloads", users.join_all()).await;
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_reads_one_kilobyte_per_second_costs_one_window() {
    let _exclusive = crate::exclusive().await;
    let size = if cfg!(debug_assertions) { 12 << 20 } else { 100 << 20 };
    for format in FORMATS {
        let origin = target::origin(None).await;
        let programs = Programs::start(origin.addr, format).await;
        // The first nine downloads make the programs allocate their pools.
        nine_downloads(programs.public, size).await;
        let before = programs.resident_kib();
        let mut alone =
            [nine_downloads(programs.public, size).await, nine_downloads(programs.public, size).await];
        let busy = programs.resident_kib();

        let mut slow = get(programs.public, 1 << 30).await;
        slow.read_exact(&mut [0; 1024]).await.unwrap();
        let slow = Running::start(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                if slow.read_exact(&mut [0; 1024]).await.is_err() {
                    break;
                }
            }
        });
        let mut beside =
            [nine_downloads(programs.public, size).await, nine_downloads(programs.public, size).await];
        let during = programs.resident_kib();
        assert!(!slow.has_ended());
        drop(slow);
        origin.when_open(0, Duration::from_secs(5)).await;
        let after = programs.resident_kib();

        alone.sort();
        beside.sort();
        report(&format!(
            "{format:?}: nine downloads of {} MiB: {:.2?} alone, {:.2?} beside a slow user; resident KiB of server and \
             proxy: {before:?} before, {busy:?} after nine, {during:?} with the slow user, {after:?} after",
            size >> 20,
            alone[0],
            beside[0],
        ));
        assert!(beside[0] < alone[0] * 2 + Duration::from_millis(500), "{alone:?} {beside:?}");
        if let (Some(before), Some(during)) = (before, during) {
            assert!(during.0 < before.0.max(busy.unwrap().0) + 32 * 1024, "{before:?} {busy:?} {during:?}");
        }
    }
}

/// Returns the limit of file descriptors of this process.
fn descriptor_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    line.split_whitespace().next().and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_costs_less_than_64_kib() {
    let _exclusive = crate::exclusive().await;
    // Both ends of every stream, user and target, are sockets of this process.
    let wanted = 2000;
    let count = wanted.min(descriptor_limit().saturating_sub(100) / 2);
    if count < wanted {
        report(&format!("only {count} idle streams, because of the limit of file descriptors"));
    }
    for format in FORMATS {
        let echo = target::echo().await;
        let programs = Programs::start(echo.addr, format).await;
        let exchange = async |socket: &mut TcpStream| {
            socket.write_all(&[7; 200]).await.unwrap();
            soon("an echo", socket.read_exact(&mut [0; 200])).await.unwrap();
        };
        // The first streams make the programs allocate memory that belongs to no stream.
        let mut users = Vec::new();
        for _ in 0..20 {
            let mut socket = TcpStream::connect(programs.public).await.unwrap();
            exchange(&mut socket).await;
            users.push(socket);
        }
        let before = programs.resident_kib();
        while users.len() < count + 20 {
            let mut batch = JoinSet::new();
            for _ in 0..100.min(count + 20 - users.len()) {
                let public = programs.public;
                batch.spawn(async move { TcpStream::connect(public).await.unwrap() });
            }
            for mut socket in soon("a hundred users", batch.join_all()).await {
                exchange(&mut socket).await;
                users.push(socket);
            }
        }
        assert_eq!(echo.counts().open, count + 20);
        let Some(((server, proxy), before)) = programs.resident_kib().zip(before) else { return };
        let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / count as f64;
        let (server_each, proxy_each) = (each(server, before.0), each(proxy, before.1));
        report(&format!(
            "{format:?}: {count} idle streams: {server_each:.1} KiB each on the server ({server} in all), \
             {proxy_each:.1} on the proxy ({proxy} in all)"
        ));
        assert!(server_each < 64.0 && proxy_each < 64.0, "{server_each} {proxy_each}");
        drop(users);
        echo.when(|counts| counts.open == 0, crate::support::LONG).await;
    }
}

/// Downloads 1 MB several times and returns the shortest time.
async fn fastest_download(public: SocketAddr) -> Duration {
    const SIZE: u64 = 1_000_000;
    let mut fastest = Duration::MAX;
    for _ in 0..9 {
        let begin = Instant::now();
        let mut received = Vec::new();
        let mut socket = target::request(public, SIZE).await;
        soon("a download of 1 MB", socket.read_to_end(&mut received)).await.unwrap();
        assert_eq!(received.len() as u64, SIZE);
        fastest = fastest.min(begin.elapsed());
    }
    fastest
}

/// Users that request a file and read nothing, and users that send to a target that reads nothing: nearly as many as
/// the memory budget admits. Both programs stay within it, and a new user is served as if they were not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_users_stay_within_the_memory_budget_and_leave_others_their_speed() {
    const BUDGET_MIB: u64 = 32;
    // Beside the budget: the program, its pools of read buffers, and what the allocator keeps.
    const MAX_KIB: u64 = (BUDGET_MIB + 64) << 10;
    const STALLED: usize = 450;
    let _exclusive = crate::exclusive().await;
    let target = target::on_request().await;
    let budget = format!("{BUDGET_MIB}MiB");
    // All users come from one address.
    let limits = ["address", "service", "proxy"].map(|of| format!("--max-streams-per-{of}"));
    let limits: Vec<_> = limits.iter().flat_map(|limit| [limit.as_str(), "600"]).collect();
    let programs =
        Programs::start_with(target.addr, ProxyFormat::Binary, &["--memory", &budget], &limits).await;
    let alone = fastest_download(programs.public).await;
    for reads_nothing in [true, false] {
        let mut users = Vec::new();
        for _ in 0..STALLED {
            let user = target::request(programs.public, if reads_nothing { 1 << 30 } else { 0 }).await;
            SockRef::from(&user).set_send_buffer_size(64 * 1024).unwrap();
            while !reads_nothing && user.try_write(&[7; 64 * 1024]).is_ok() {}
            users.push(user);
        }
        target.when(|counts| counts.open == STALLED, crate::support::LONG).await;
        let beside = fastest_download(programs.public).await;
        let peaks = programs.server.peak_resident_kib().zip(programs.proxy.peak_resident_kib());
        let who =
            if reads_nothing { "users that read nothing" } else { "users of a target that reads nothing" };
        report(&format!(
            "{STALLED} {who}: at most {peaks:?} KiB on server and proxy; a download of 1 MB takes {beside:.2?}, \
             {alone:.2?} alone"
        ));
        assert!(beside < alone * 2 + Duration::from_millis(20), "{beside:?} beside {who}, {alone:?} alone");
        if let Some((server, proxy)) = peaks {
            assert!(server.max(proxy) <= MAX_KIB, "{server} KiB on the server, {proxy} on the proxy");
        }
        drop(users);
        target.when(|counts| counts.open == 0, crate::support::LONG).await;
    }
}
