//! After a thousand streams that ended in every possible way, all gauges are back to zero and all counters agree with
//! what the users counted, to the byte.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{
    soon,
    target::{self, LOOPBACK},
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use underpass::{
    cli::demo::{DemoFile, FileVerifier},
    config::ProxyFormat,
    control::{Command, Executed},
    ids::{ServiceKey, StreamKey},
    telemetry::{ChannelFormat, EndReason, EventKind, Telemetry},
};

/// Number of streams.
const STREAMS: usize = 1000;

/// Maximum number of open streams.
const AT_ONCE: usize = 60;

/// How a stream of this test ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Downloaded,
    Echoed,
    ResetByUser,
    ResetByUserAtOnce,
    ResetByTarget,
    TargetRefused,
    Killed,
}

const ENDS: [End; 7] = [
    End::Downloaded,
    End::Echoed,
    End::ResetByUser,
    End::ResetByUserAtOnce,
    End::ResetByTarget,
    End::TargetRefused,
    End::Killed,
];

/// Bytes that a user counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    down: u64,
    up: u64,
}

/// Public addresses, one for each kind of target.
#[derive(Clone, Copy)]
struct Ports {
    send: SocketAddr,
    echo: SocketAddr,
    reset: SocketAddr,
    nobody: SocketAddr,
}

const FILE: DemoFile = DemoFile { seed: 1, size: 77_777 };
/// Bytes that the resetting target sends before its reset.
const BEFORE_RESET: u64 = 5_000;

/// Runs one user's connection. It is reset or killed only after all bytes have arrived, because bytes in flight at a
/// reset may be counted or not.
async fn user(
    number: usize,
    end: End,
    ports: Ports,
    control: &underpass::control::CommandSender,
    telemetry: &Telemetry,
) -> (SocketAddr, Counted) {
    let public = match end {
        End::Downloaded => ports.send,
        End::Echoed | End::ResetByUser | End::Killed | End::ResetByUserAtOnce => ports.echo,
        End::ResetByTarget => ports.reset,
        End::TargetRefused => ports.nobody,
    };
    let socket = new_socket();
    let address = socket.local_addr().unwrap();
    let mut counted = Counted::default();
    let mut socket = match socket.connect(public).await {
        Ok(socket) => socket,
        // The RST arrived before the first poll of the connection.
        Err(error) if end == End::TargetRefused && error.kind() == io::ErrorKind::ConnectionReset => {
            return (address, counted);
        }
        Err(error) => panic!("{error}"),
    };
    socket.set_nodelay(true).unwrap();
    let size = number * 131 % 20_000 + 1;
    match end {
        End::Downloaded => {
            counted.down = reads(&mut socket, FILE).await.unwrap();
            assert_eq!(counted.down, FILE.size);
        }
        End::Echoed => {
            exchange(&mut socket, size, &mut counted).await;
            socket.shutdown().await.unwrap();
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
        }
        End::ResetByUser => {
            exchange(&mut socket, size, &mut counted).await;
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        End::ResetByUserAtOnce => {
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        End::ResetByTarget => {
            counted.down = reads(&mut socket, DemoFile { size: BEFORE_RESET, ..FILE }).await.unwrap();
            socket.write_all(b"x").await.unwrap();
            counted.up = 1;
            let error = socket.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        End::TargetRefused => {
            let error = socket.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        End::Killed => {
            exchange(&mut socket, size, &mut counted).await;
            let snapshot = telemetry.snapshot();
            let key = snapshot.streams.iter().find(|stream| stream.info.addr == address).unwrap().key;
            assert_eq!(control.send(Command::KillStream(key)).await, Ok(Executed { affected_streams: 1 }));
            let error = socket.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
    (address, counted)
}

/// Returns a socket with a source address that no other socket of this test had. The kernel reuses the port of a reset
/// connection at once, but this test identifies streams by the address.
fn new_socket() -> TcpSocket {
    static USED: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    // Used ports stay bound until an unused one is found.
    let mut taken = Vec::new();
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(LOOPBACK).unwrap();
        if USED.lock().unwrap().insert(socket.local_addr().unwrap()) {
            return socket;
        }
        taken.push(socket);
    }
}

/// Sends bytes to an echo and asserts that they return.
async fn exchange(socket: &mut TcpStream, size: usize, counted: &mut Counted) {
    let bytes = &FILE.bytes_from(0)[..size];
    socket.write_all(bytes).await.unwrap();
    let mut back = vec![0; size];
    socket.read_exact(&mut back).await.unwrap();
    assert!(back == bytes);
    *counted = Counted { down: size as u64, up: size as u64 };
}

/// Reads `file`, and the FIN if it is a complete file.
async fn reads(socket: &mut TcpStream, file: DemoFile) -> io::Result<u64> {
    let (mut verifier, mut buffer) = (FileVerifier::new(file), vec![0; 16 * 1024]);
    while verifier.remaining_bytes() > 0 {
        match socket.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => verifier.verify(&buffer[..n]).unwrap(),
        }
    }
    if file == FILE {
        assert_eq!(socket.read(&mut buffer).await?, 0);
    }
    Ok(verifier.verified_bytes())
}

/// Returns whether a stream that ends like this may be reported with `reason`.
fn fits(end: End, reason: &EndReason) -> bool {
    match end {
        End::Downloaded | End::Echoed => *reason == EndReason::Finished,
        End::ResetByUser => *reason == EndReason::UserSocketError,
        End::ResetByUserAtOnce => matches!(reason, EndReason::UserSocketError | EndReason::UserAborted),
        End::ResetByTarget => *reason == EndReason::TargetSocketError,
        End::TargetRefused => matches!(reason, EndReason::TargetConnectFailed(_)),
        End::Killed => *reason == EndReason::Killed,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_mixed_streams_are_counted_to_the_byte_and_released() {
    let targets =
        [target::send(FILE).await, target::echo().await, target::send_then_reset(FILE, BEFORE_RESET).await];
    let mut addrs: Vec<_> = targets.iter().map(|target| target.addr).collect();
    addrs.push(target::refusing().await);
    let mut tunnel = Tunnel::start().await;
    let mut publics = Vec::new();
    for addr in addrs {
        // One proxy of each format, selected in round robin.
        let public = tunnel.proxy(addr, ProxyFormat::Binary).await;
        tunnel.join(public, addr, ProxyFormat::Text).await;
        publics.push(public);
    }
    let ports = Ports { send: publics[0], echo: publics[1], reset: publics[2], nobody: publics[3] };

    let begin = Instant::now();
    let (mut users, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    // Of more than 500 streams that begin in a second, the rest is counted but not announced.
    let mut begins = tokio::time::interval(Duration::from_secs(1) / 400);
    begins.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0..STREAMS {
        begins.tick().await;
        let (places, control, telemetry) = (places.clone(), tunnel.control.clone(), tunnel.telemetry.clone());
        let end = ENDS[number % ENDS.len()];
        users.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let what = format!("stream {number}, {end:?}");
            let (address, counted) = soon(&what, user(number, end, ports, &control, &telemetry)).await;
            (address, end, counted)
        });
    }
    let mut counted = Vec::new();
    while let Some(user) = within(Duration::from_secs(60), "all users", users.join_next()).await {
        counted.push(user.unwrap());
    }
    println!("{STREAMS} streams in {:.1?}", begin.elapsed());

    // Connections that were reset at once may not have been accepted yet.
    let open = tunnel
        .until("all streams are known and over, and their users gone", |snapshot| {
            let totals = snapshot.totals;
            totals.streams_total == STREAMS as u64 && totals.streams_open == 0 && totals.users_current == 0
        })
        .await;
    for target in &targets {
        target.when(|counts| counts.open == 0, Duration::from_secs(5)).await;
    }
    adds_up(&tunnel, &open, &counted).await;
    tunnel.end().await;
}

async fn adds_up(
    tunnel: &Tunnel,
    after: &underpass::telemetry::Snapshot,
    counted: &[(SocketAddr, End, Counted)],
) {
    // Each stream.
    let mut keys: BTreeMap<SocketAddr, (StreamKey, ServiceKey)> = BTreeMap::new();
    for event in tunnel.events() {
        if let EventKind::StreamOpened { key, addr, service } = event {
            assert!(keys.insert(addr, (key, service)).is_none(), "two streams with the address {addr}");
        }
    }
    let mut services: BTreeMap<ServiceKey, Counted> = BTreeMap::new();
    let mut failed = 0;
    for (address, end, counted) in counted {
        let (key, service) = &keys[address];
        let (reason, down, up) = tunnel.ended(*key).await;
        assert!(fits(*end, &reason), "{key}, {end:?}: {reason}");
        assert_eq!(Counted { down, up }, *counted, "{key}, {end:?}");
        failed += u64::from(reason.is_failure());
        let sum = services.entry(service.clone()).or_default();
        *sum = Counted { down: sum.down + down, up: sum.up + up };
    }
    // All sums.
    for service in &after.services {
        assert_eq!(Counted { down: service.down, up: service.up }, services[&service.key], "{}", service.key);
        assert_eq!(service.streams_open, 0);
        let proxies: Vec<_> =
            after.proxies.iter().filter(|proxy| proxy.services.contains(&service.key)).collect();
        let sum = |part: fn(&underpass::telemetry::ProxySnapshot) -> u64| -> u64 {
            proxies.iter().map(|p| part(p)).sum()
        };
        assert_eq!((sum(|p| p.down), sum(|p| p.up)), (service.down, service.up), "{}", service.key);
        // A stream that its user reset before it was assigned to a proxy counts for the service only.
        assert!(sum(|p| p.streams_total) <= service.streams_total);
        let shares: Vec<_> = proxies.iter().map(|proxy| proxy.streams_total).collect();
        // Not to the stream: the other proxy takes the streams of one that does not read its channels, on a busy
        // machine.
        assert!(shares[0].abs_diff(shares[1]) <= service.streams_total / 10, "{}: {shares:?}", service.key);
        println!("{}: {} down, {} up, shares {shares:?}", service.key, service.down, service.up);
    }
    for proxy in &after.proxies {
        assert_eq!(proxy.streams_open, 0);
        assert!(proxy.channels.iter().all(|channel| channel.streams_open == 0));
        assert_eq!(proxy.channels.len(), if proxy.channels[0].format == ChannelFormat::Text { 1 } else { 2 });
    }
    let all: Counted = services
        .values()
        .fold(Counted::default(), |sum, one| Counted { down: sum.down + one.down, up: sum.up + one.up });
    let totals = after.totals;
    assert_eq!(Counted { down: totals.down, up: totals.up }, all);
    assert_eq!((totals.streams_total, totals.streams_failed), (STREAMS as u64, failed));
    println!("{totals:?}");
}

/// Each connection of a user takes a permit. Connections beyond the limit are refused, and each end releases a permit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_limit_refuses_users_and_permits_are_released() {
    const PERMITS: usize = 10;
    for format in FORMATS {
        let target = target::echo().await;
        let mut tunnel = Tunnel::with(|config| config.max_streams = PERMITS).await;
        let public = tunnel.proxy(target.addr, format).await;
        for _ in 0..5 {
            let mut users = Vec::new();
            // The permits of the previous round may not be released yet.
            let all = async {
                while users.len() < PERMITS {
                    users.extend(is_served(public).await);
                }
            };
            soon("as many users as there are permits", all).await;
            assert!(is_served(public).await.is_none(), "one more than there are permits");
        }
        let after = tunnel.until("all refusals", |snapshot| snapshot.totals.users_rejected >= 5).await;
        assert_eq!(after.totals.streams_failed, 0);
        tunnel.end().await;
    }
}

/// Connects a user and waits for an echo. Returns `None` if the user was refused.
async fn is_served(public: SocketAddr) -> Option<TcpStream> {
    // The RST may arrive before the first poll of the connection.
    let mut user = TcpStream::connect(public).await.ok()?;
    user.write_all(b"x").await.ok()?;
    match soon("an echo or a reset", user.read(&mut [0])).await {
        Ok(n) => {
            assert_eq!(n, 1);
            Some(user)
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            None
        }
    }
}
