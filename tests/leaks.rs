//! The memory that server and proxy hold when idle does not grow with the number of ended streams and lost channels. In
//! its own binary, because its allocator counts the memory of all threads.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use socket2::SockRef;
use support::{Running, soon, target, target::LOOPBACK, tunnel::RunningProxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{Barrier, Notify},
    task::JoinSet,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig, ServerConfig},
    runtime::Workers,
    server::{Server, ShutdownSignals},
    telemetry::{Snapshot, Telemetry},
    wire::handshake::Token,
};

/// Counts allocated bytes. Only a global allocator can, which is unsafe to implement; this one forwards every call.
#[allow(unsafe_code)]
mod counter {
    use std::{
        alloc::{GlobalAlloc, Layout, System},
        sync::atomic::{AtomicI64, Ordering::Relaxed},
    };

    pub(crate) static HELD: AtomicI64 = AtomicI64::new(0);

    /// Larger allocations are read buffers and are not counted: each thread has a bounded but changing number of them.
    const BUFFER: usize = 128 * 1024;

    fn note(size: usize, sign: i64) {
        if size < BUFFER {
            HELD.fetch_add(sign * size as i64, Relaxed);
        }
    }

    struct Counter;

    // SAFETY: every call is forwarded unchanged to the system allocator.
    unsafe impl GlobalAlloc for Counter {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            note(layout.size(), 1);
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            note(layout.size(), -1);
            unsafe { System.dealloc(memory, layout) }
        }

        unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            note(layout.size(), -1);
            note(size, 1);
            unsafe { System.realloc(memory, layout, size) }
        }
    }

    #[global_allocator]
    static COUNTER: Counter = Counter;
}

/// Number of channels of the proxy.
const CHANNELS: usize = 3;
/// Number of users in each round.
const USERS: u64 = 8;

/// Every so many rounds all channels are lost; in the others, one.
const ALL_EVERY: usize = 4;

/// Rounds before the first measurement, in which tables and buffers grow to their final size.
const WARM_UP: usize = 15;

/// Allowed growth in bytes, for tables that are still growing. In the sixty rounds of a short run this is 200 bytes per
/// stream, and less with more rounds.
const SLACK: i64 = 64 * 1024;

/// A relay that forwards to `to` and forgets ended connections, because the memory of the test must not grow either.
struct Wires {
    addr: SocketAddr,
    cut: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Wires {
    async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let (addr, cut) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
        let (mut tasks, cuts) = (JoinSet::new(), cut.clone());
        tasks.spawn(async move {
            let mut carriers = JoinSet::new();
            loop {
                let mut near = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    Some(_) = carriers.join_next() => continue,
                };
                let cuts = cuts.clone();
                carriers.spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    for socket in [&near, &far] {
                        SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = cuts.notified() => {}
                    }
                });
            }
        });
        Self { addr, cut, _tasks: tasks }
    }
}

/// Exchanges bytes with the echo, waits until a channel is lost, and exchanges bytes again.
async fn visit(public: SocketAddr, seed: u64, cut: Arc<Barrier>) {
    let file = DemoFile { seed, size: 1 + seed * 7919 % 60_000 };
    let mut socket = TcpStream::connect(public).await.unwrap();
    for _ in 0..2 {
        let (mut read, mut write) = socket.split();
        let mut back = vec![0; file.bytes_from(0).len()];
        let (sent, got) = tokio::join!(write.write_all(file.bytes_from(0)), read.read_exact(&mut back));
        sent.and(got.map(drop)).unwrap();
        assert_eq!(back, file.bytes_from(0));
        cut.wait().await;
    }
    socket.shutdown().await.unwrap();
    assert_eq!(socket.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

/// `UNDERPASS_ROUNDS=3000 cargo test --release --test leaks -- --nocapture` measures more rounds.
#[tokio::test]
async fn memory_does_not_grow_with_ended_streams_and_channels() {
    let rounds = std::env::var("UNDERPASS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60);
    let (telemetry, token) = (Telemetry::new(), Token::random());
    let config = ServerConfig {
        listen: LOOPBACK,
        bind: LOOPBACK.ip(),
        user_retention: Duration::ZERO,
        ..ServerConfig::default()
    };
    let (server, _control) = Server::bind(config, token.clone(), telemetry.clone(), Workers::here()).unwrap();
    let (wires, shutdown) = (Wires::to(server.addr()).await, ShutdownSignals::default());
    let server = Running::start(server.run(shutdown.clone()));
    let echo = target::echo().await;
    let config = ProxyConfig::new(wires.addr.to_string(), "0".parse().unwrap(), echo.addr.to_string());
    let backoff = Duration::from_millis(20);
    let config = ProxyConfig {
        min_backoff: backoff,
        max_backoff: backoff,
        channels: ChannelCount::Fixed(CHANNELS as u16),
        ..config
    };
    let mut proxy = RunningProxy::start(config, token);
    let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);

    let quiet = |snapshot: &Snapshot| {
        let totals = snapshot.totals;
        totals.streams_open == 0
            && totals.users_current == 0
            && snapshot.proxies[0].channels.len() == CHANNELS
    };
    let mut held = Vec::new();
    for round in 0..WARM_UP + rounds {
        let cut = Arc::new(Barrier::new(USERS as usize + 1));
        let users: Vec<_> = (0..USERS)
            .map(|user| Running::start(visit(public, round as u64 * USERS + user, cut.clone())))
            .collect();
        soon("every user has received its echo", cut.wait()).await;
        if round % ALL_EVERY == 0 {
            wires.cut.notify_waiters();
        } else {
            wires.cut.notify_one();
        }
        soon("every user has received its second echo", cut.wait()).await;
        for user in users {
            user.end("a user").await;
        }
        let settles = async {
            while !quiet(&telemetry.snapshot()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        soon("quiet", settles).await;
        held.push(counter::HELD.load(Relaxed));
    }
    assert_eq!(telemetry.totals().streams_failed, 0);
    shutdown.abort.cancel();
    server.end("the server").await;
    proxy.stop().await;

    // About a third of the samples are taken while a buffer of some 100 KB is still in use, so that the median of
    // twenty samples now and then is one of these. The lower quartile is not, and a leak raises it as much.
    let lower_quartile = |part: &[i64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 4]
    };
    let quartiles: Vec<_> = held[WARM_UP..].chunks(rounds.div_ceil(3)).map(lower_quartile).collect();
    println!("{rounds} rounds, held in the lower quartile of each third: {quartiles:?} bytes");
    let (first, last) = (quartiles[0], quartiles[quartiles.len() - 1]);
    assert!(last - first <= SLACK, "{first} bytes at first, {last} at last");
}
