//! Rate limits that are set, changed and removed during transfers.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Running, promised_second, soon,
    target::{self, Target},
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    cli::demo::{DemoFile, FileVerifier},
    config::ProxyFormat,
    control::{Command, CommandError, LimitScope},
    ids::{Direction, Rate, StreamKey, UserChannelId},
    telemetry::{EndReason, Snapshot},
};

/// Bytes of a megabyte.
const MEGABYTE: u64 = 1_000_000;

/// Returns the command that limits a scope to `rate` bytes per second.
fn limit(scope: LimitScope, direction: Direction, rate: u64) -> Command {
    Command::SetLimit(scope, direction, Rate::new(rate))
}

/// Starts a target that sends and receives at full speed, and returns the counter of its received bytes.
async fn busy() -> (Target, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let target = target::serve_with(move |socket| {
        let counter = counter.clone();
        async move { pump(socket, &counter).await }
    });
    (target.await, taken)
}

/// Sends and receives without end and counts the received bytes.
async fn pump(mut socket: TcpStream, counter: &AtomicU64) -> std::io::Result<()> {
    let (mut read, mut write) = socket.split();
    let piece = vec![7; 64 * 1024];
    let sends = async {
        loop {
            write.write_all(&piece).await?;
        }
    };
    let reads = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match read.read(&mut buffer).await? {
                0 => return Ok(()),
                n => _ = counter.fetch_add(n as u64, Relaxed),
            }
        }
    };
    tokio::select! {
        result = sends => result,
        result = reads => result,
    }
}

/// A connection through the tunnel that transfers at full speed in both directions.
struct Full {
    key: StreamKey,
    down: Arc<AtomicU64>,
    _running: Running<()>,
}

impl Full {
    async fn open(tunnel: &Tunnel, public: SocketAddr) -> Self {
        let socket = soon("a user", TcpStream::connect(public)).await.unwrap();
        let key = tunnel.stream_of(socket.local_addr().unwrap()).await.key;
        let down = Arc::new(AtomicU64::new(0));
        let counter = down.clone();
        let running = Running::start(async move { _ = pump(socket, &counter).await });
        Self { key, down, _running: running }
    }
}

/// Returns the rates of counters in bytes per second, after the bytes buffered before have been delivered.
async fn rates<const N: usize>(counters: [&AtomicU64; N], time: Duration) -> [f64; N] {
    tokio::time::sleep(Duration::from_millis(700)).await;
    let begin = Instant::now();
    let before = counters.map(|counter| counter.load(Relaxed));
    tokio::time::sleep(time).await;
    let after = counters.map(|counter| counter.load(Relaxed));
    let seconds = begin.elapsed().as_secs_f64();
    std::array::from_fn(|index| (after[index] - before[index]) as f64 / seconds)
}

/// Measures for `time` how long other programs delayed a task that is always ready to run.
async fn scheduling_delay(time: Duration) -> Duration {
    let (begin, step) = (Instant::now(), Duration::from_millis(5));
    let mut late = Duration::ZERO;
    while begin.elapsed() < time {
        let before = Instant::now();
        tokio::time::sleep(step).await;
        // Timers may be a few milliseconds late on any machine.
        late += before.elapsed().saturating_sub(step * 3);
    }
    late
}

/// Asserts that the measured rate never exceeds `rate` by more than a tolerance, and that it reaches it on an idle
/// machine. If the machine is busy, it measures again.
async fn assert_rate(rate: u64, slack: f64, mut measure: impl AsyncFnMut() -> f64) {
    for _ in 0..8 {
        let begin = Instant::now();
        let mut measuring = std::pin::pin!(measure());
        let mut late = Duration::ZERO;
        let measured = loop {
            tokio::select! {
                measured = &mut measuring => break measured,
                more = scheduling_delay(Duration::from_millis(100)) => late += more,
            }
        };
        let busy = late.as_secs_f64() / begin.elapsed().as_secs_f64();
        println!("{:.3} of {:.3} MB/s, {:.1} % late", measured / 1e6, rate as f64 / 1e6, busy * 100.0);
        assert!(measured <= rate as f64 * (1.0 + slack), "{measured} of {rate}");
        if measured >= rate as f64 * (1.0 - slack) {
            return;
        }
        assert!(busy > 0.005, "{measured} of {rate}, and the machine was idle");
        // A chunk waits for a processor at the user, the server, the proxy and the target.
        assert!(busy > 0.05 || measured >= rate as f64 * 0.5, "{measured} of {rate}");
    }
    println!("the machine was too busy to tell how little is let through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_limited_to_ten_megabytes_per_second_reaches_them() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let (target, _) = busy().await;
        let public = tunnel.proxy(target.addr, format).await;
        let user = Full::open(&tunnel, public).await;
        let scope = LimitScope::Stream(user.key);
        // An unlimited upload would use the whole machine.
        tunnel.order(limit(scope.clone(), Direction::Up, MEGABYTE)).await.unwrap();
        tunnel.order(limit(scope, Direction::Down, 10 * MEGABYTE)).await.unwrap();
        assert_rate(10 * MEGABYTE, 0.05, async || rates([&user.down], Duration::from_secs(5)).await[0]).await;
        let shown = &tunnel.telemetry.snapshot().streams[0].limits;
        assert_eq!((shown.down, shown.up), (Rate::new(10 * MEGABYTE), Rate::new(MEGABYTE)));
        drop(user);
        tunnel.end().await;
    }
}

/// A limit of each scope holds in each direction for all of its streams together, which get equal shares.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_every_scope_hold_in_both_directions() {
    let time = Duration::from_millis(1500);
    let mut tunnel = Tunnel::start().await;
    let (target, up) = busy().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let users = [Full::open(&tunnel, public).await, Full::open(&tunnel, public).await];
    let snapshot = tunnel.telemetry.snapshot();
    let scopes = [
        LimitScope::User(users[0].key.user),
        LimitScope::Proxy(snapshot.proxies[0].id),
        LimitScope::Service(snapshot.services[0].key.clone()),
    ];
    for scope in scopes {
        for direction in [Direction::Down, Direction::Up] {
            let done = tunnel.order(limit(scope.clone(), direction, 6 * MEGABYTE)).await.unwrap();
            assert_eq!(done.affected_streams, 2, "{scope}");
            assert_rate(6 * MEGABYTE, 0.1, async || match direction {
                Direction::Up => rates([&up], time).await[0],
                Direction::Down => {
                    let [a, b] = rates([&users[0].down, &users[1].down], time).await;
                    // Of less than the limit, the operating system decides who gets how much.
                    let is_limited = a + b >= 0.9 * (6 * MEGABYTE) as f64;
                    assert!(!is_limited || (0.4..2.5).contains(&(a / b)), "{scope}: {a} and {b}");
                    a + b
                }
            })
            .await;
            let of = |now: &Snapshot| match &scope {
                LimitScope::User(_) => now.users[0].limits,
                LimitScope::Proxy(_) => now.proxies[0].limits,
                _ => now.services[0].limits,
            };
            assert_eq!(of(&tunnel.telemetry.snapshot()).of(direction), Rate::new(6 * MEGABYTE));
            tunnel.order(Command::SetLimit(scope.clone(), direction, None)).await.unwrap();
            assert_eq!(of(&tunnel.telemetry.snapshot()).of(direction), None);
        }
    }
    drop(users);
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_apply_to_later_streams() {
    let time = Duration::from_secs(1);
    let mut tunnel = Tunnel::with(|config| config.proxy_wait_timeout = Duration::from_secs(30)).await;
    let (target, up) = busy().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let service = tunnel.telemetry.snapshot().services[0].key.clone();
    tunnel.order(limit(LimitScope::Service(service), Direction::Down, 6 * MEGABYTE)).await.unwrap();
    let later = Full::open(&tunnel, public).await;
    assert_rate(6 * MEGABYTE, 0.1, async || rates([&later.down], time).await[0]).await;
    drop(later);
    tunnel.until("it is over", |now| now.streams.is_empty()).await;
    // Limits of a stream without a proxy apply once it has one.
    tunnel.stop_proxy(0).await;
    let socket = soon("a user", TcpStream::connect(public)).await.unwrap();
    let key = tunnel.until("a stream that waits", |now| now.streams.len() == 1).await.streams[0].key;
    tunnel.order(limit(LimitScope::Stream(key), Direction::Down, MEGABYTE)).await.unwrap();
    tunnel.order(limit(LimitScope::Stream(key), Direction::Up, 2 * MEGABYTE)).await.unwrap();
    tunnel.join(public, target.addr, ProxyFormat::Binary).await;
    let down = Arc::new(AtomicU64::new(0));
    let counter = down.clone();
    let user = Running::start(async move { _ = pump(socket, &counter).await });
    assert_rate(MEGABYTE, 0.1, async || rates([&down], time).await[0]).await;
    assert_rate(2 * MEGABYTE, 0.1, async || rates([&up], time).await[0]).await;
    drop(user);
    tunnel.end().await;
}

/// A download that is paused, limited, limited differently and unlimited again is complete, and its end arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_limits_loses_no_byte_of_a_download() {
    for format in FORMATS {
        let file = DemoFile { seed: 3, size: 40 * MEGABYTE };
        let mut tunnel = Tunnel::start().await;
        let target = target::send(file).await;
        let public = tunnel.proxy(target.addr, format).await;
        let service = tunnel.telemetry.snapshot().services[0].key.clone();
        tunnel.order(limit(LimitScope::Service(service.clone()), Direction::Down, MEGABYTE)).await.unwrap();
        let mut user = soon("the user", TcpStream::connect(public)).await.unwrap();
        let key = tunnel.stream_of(user.local_addr().unwrap()).await.key;
        let (mut verifier, mut buffer) = (FileVerifier::new(file), vec![0; 64 * 1024]);
        let mut read = async |until: u64| {
            while verifier.verified_bytes() < until {
                let n = soon("a part", user.read(&mut buffer)).await.unwrap();
                verifier.verify(&buffer[..n]).unwrap();
            }
        };
        read(MEGABYTE / 2).await;
        tunnel.order(limit(LimitScope::Stream(key), Direction::Down, 1)).await.unwrap();
        tunnel.order(Command::PauseStream(key)).await.unwrap();
        // The limit is removed during a pause, which continues.
        tunnel.order(Command::SetLimit(LimitScope::Service(service), Direction::Down, None)).await.unwrap();
        tunnel.order(Command::SetLimit(LimitScope::Stream(key), Direction::Down, None)).await.unwrap();
        let held = tunnel.telemetry.snapshot().streams[0].down;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(tunnel.telemetry.snapshot().streams[0].down, held);
        tunnel.order(limit(LimitScope::Stream(key), Direction::Down, 1)).await.unwrap();
        tunnel.order(Command::ResumeStream(key)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let crawled = tunnel.telemetry.snapshot().streams[0].down - held;
        assert!(crawled <= 30, "{crawled} bytes at one a second");
        // A stream that waits for its next transmission time is notified at once.
        tunnel.order(limit(LimitScope::Stream(key), Direction::Down, 30 * MEGABYTE)).await.unwrap();
        read(10 * MEGABYTE).await;
        tunnel.order(Command::SetLimit(LimitScope::Stream(key), Direction::Down, None)).await.unwrap();
        read(file.size).await;
        user.shutdown().await.unwrap();
        assert_eq!(soon("the end", user.read(&mut [0])).await.unwrap(), 0);
        assert_eq!(tunnel.ended(key).await.0, EndReason::Finished);
        tunnel.end().await;
    }
}

/// The last byte and the FIN arrive through a limit, and the response returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_upload_is_complete_and_its_end_arrives() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = target::after_end(3 << 20).await;
        let public = tunnel.proxy(target.addr, format).await;
        let proxy = tunnel.telemetry.snapshot().proxies[0].id;
        tunnel.order(limit(LimitScope::Proxy(proxy), Direction::Up, 2 * MEGABYTE)).await.unwrap();
        tunnel.order(limit(LimitScope::Proxy(proxy), Direction::Down, 4 * MEGABYTE)).await.unwrap();
        let user = soon("the user", TcpStream::connect(public)).await.unwrap();
        let body: Vec<u8> = (0..2_000_003u32).map(|n| (n * 7 / 5) as u8).collect();
        let (mut read, mut write) = user.into_split();
        let begin = Instant::now();
        let sent = body.clone();
        let sends = async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
            write
        };
        let mut answer = Vec::new();
        let (_write, _) =
            soon("the answer", async { tokio::join!(sends, read.read_to_end(&mut answer)) }).await;
        let line = answer.iter().position(|&byte| byte == b'\n').unwrap();
        assert!(answer[..line].starts_with(b"2000003 "));
        assert!(answer[line + 1..] == body, "the echo differs");
        assert!(begin.elapsed() >= Duration::from_millis(1200), "{:?}", begin.elapsed());
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_stream_is_killed_at_once_and_its_limit_removed() {
    let mut tunnel = Tunnel::start().await;
    let (target, _) = busy().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let mut user = soon("the user", TcpStream::connect(public)).await.unwrap();
    let key = tunnel.stream_of(user.local_addr().unwrap()).await.key;
    for direction in [Direction::Down, Direction::Up] {
        tunnel.order(limit(LimitScope::User(key.user), direction, 1)).await.unwrap();
    }
    user.write_all(b"never read").await.unwrap();
    tunnel.order(Command::KillStream(key)).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let reset = async { while user.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    within(promised_second(), "the reset", reset).await;
    target.when(|counts| counts.open == 0, promised_second()).await;
    let nobody = UserChannelId::new(key.user.bits() ^ 1);
    for scope in [
        LimitScope::Stream(StreamKey::new(nobody, 1)),
        LimitScope::User(nobody),
        LimitScope::Proxy("P99".parse().unwrap()),
        LimitScope::Service("1:default".parse().unwrap()),
        LimitScope::Service(format!("{}:other", public.port()).parse().unwrap()),
    ] {
        assert_eq!(tunnel.order(limit(scope, Direction::Down, 1)).await, Err(CommandError::NotFound));
    }
    tunnel.end().await;
}
