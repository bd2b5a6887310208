//! Load balancing: policies, weights, draining proxies and proxies that do not answer.
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{
    binary::BinaryChannel,
    soon,
    target::{self, Target},
    tunnel::{FORMATS, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    task::JoinSet,
};
use underpass::{
    config::{ProxyConfig, ProxyFormat},
    control::{Command, CommandError},
    ids::{Policy, ProxyId},
    telemetry::{EndReason, EventKind, StreamPhase},
    wire::{Frame, ResetCode},
};

/// Starts a target that serves one connection at a time and answers each byte with one byte after `time`.
async fn sequential_target(time: Duration) -> Target {
    let turn = Arc::new(Mutex::new(()));
    target::serve_with(move |mut socket| {
        let turn = turn.clone();
        async move {
            socket.read_exact(&mut [0]).await?;
            {
                let _turn = turn.lock().await;
                tokio::time::sleep(time).await;
            }
            socket.write_all(b"!").await?;
            socket.shutdown().await?;
            socket.read(&mut [0]).await.map(|_| ())
        }
    })
    .await
}

/// Sends one request. Returns the time from the start of the connect to the first byte of the response.
async fn first_byte(public: SocketAddr) -> Duration {
    let begin = Instant::now();
    let mut user = soon("a connection", TcpStream::connect(public)).await.unwrap();
    user.write_all(b"?").await.unwrap();
    soon("the first byte", user.read_exact(&mut [0])).await.unwrap();
    let took = begin.elapsed();
    user.shutdown().await.unwrap();
    _ = user.read(&mut [0]).await;
    took
}

/// Runs `users` users in parallel, each with consecutive requests. Returns the times to the first byte in ascending
/// order.
async fn ask(public: SocketAddr, users: usize, requests: usize) -> Vec<Duration> {
    let mut asking = JoinSet::new();
    for _ in 0..users {
        asking.spawn(async move {
            let mut took = Vec::new();
            for _ in 0..requests {
                took.push(first_byte(public).await);
            }
            took
        });
    }
    let mut took: Vec<_> = asking.join_all().await.concat();
    took.sort();
    took
}

/// Two targets and one that is ten times slower: with round robin a third of the users queue at the slow one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_streams_and_peak_ewma_avoid_a_slow_proxy() {
    let machines = [50, 5, 5].map(Duration::from_millis);
    let mut p99 = Vec::new();
    for policy in [Policy::RoundRobin, Policy::LeastStreams, Policy::PeakEwma] {
        let mut tunnel = Tunnel::with(|config| config.default_policy = policy).await;
        let slow = sequential_target(machines[0]).await;
        let public = tunnel.proxy(slow.addr, ProxyFormat::Binary).await;
        let fast = [sequential_target(machines[1]).await, sequential_target(machines[2]).await];
        for target in &fast {
            tunnel.join(public, target.addr, ProxyFormat::Binary).await;
        }
        assert_eq!(tunnel.telemetry.snapshot().services[0].policy, policy);
        ask(public, 12, 3).await;
        let took = ask(public, 12, 25).await;
        let at = |percent: usize| took[took.len() * percent / 100];
        let shares: Vec<_> =
            tunnel.telemetry.snapshot().proxies.iter().map(|proxy| proxy.streams_total).collect();
        println!("{policy}: first byte p50 {:.0?}, p99 {:.0?}, streams {shares:?}", at(50), at(99));
        p99.push(at(99));
        tunnel.end().await;
    }
    for better in &p99[1..] {
        assert!(*better < p99[0].mul_f64(0.75), "{p99:?}");
    }
}

/// Opens connections that stay open, and returns how many each proxy got.
async fn spread(tunnel: &Tunnel, public: SocketAddr, count: usize) -> (Vec<TcpStream>, Vec<(ProxyId, u64)>) {
    let mut users = Vec::new();
    for _ in 0..count {
        let user = soon("a user", TcpStream::connect(public)).await.unwrap();
        // One after the other, so that each choice sees the previous ones.
        tunnel.stream_of(user.local_addr().unwrap()).await;
        users.push(user);
    }
    let mut shares: Vec<_> =
        tunnel.telemetry.snapshot().proxies.iter().map(|proxy| (proxy.id, proxy.streams_open)).collect();
    shares.sort();
    (users, shares)
}

/// Closes the users and waits until all streams have ended.
async fn disconnect_all(tunnel: &Tunnel, users: Vec<TcpStream>) {
    drop(users);
    tunnel.until("all are gone", |now| now.totals.streams_open == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_or_the_operator_sets_weights() {
    for format in FORMATS {
        let mut tunnel = Tunnel::with(|config| config.default_policy = Policy::Weighted).await;
        let target = target::echo().await;
        let heavy = ProxyConfig { weight: Some(3), format, ..tunnel.proxy_config(target.addr) };
        let public = tunnel.proxy_with(heavy).await;
        tunnel.join(public, target.addr, format).await;
        let of = |shares: Vec<(ProxyId, u64)>| shares.into_iter().map(|(_, share)| share).collect::<Vec<_>>();
        let (users, shares) = spread(&tunnel, public, 8).await;
        let light = shares[1].0;
        assert_eq!(of(shares), [6, 2], "{format:?}");
        disconnect_all(&tunnel, users).await;
        tunnel.order(Command::SetWeight(light, 9)).await.unwrap();
        let shown = tunnel.telemetry.snapshot();
        assert!(shown.proxies.iter().all(|proxy| proxy.weight == if proxy.id == light { 9 } else { 3 }));
        let (users, shares) = spread(&tunnel, public, 12).await;
        assert_eq!(of(shares), [3, 9], "{format:?}");
        let service = shown.services[0].key.clone();
        disconnect_all(&tunnel, users).await;
        for (policy, expected) in
            [(Policy::LeastStreams, [2, 6]), (Policy::RoundRobin, [4, 4]), (Policy::Weighted, [2, 6])]
        {
            tunnel.order(Command::SetPolicy(service.clone(), policy)).await.unwrap();
            assert_eq!(tunnel.telemetry.snapshot().services[0].policy, policy);
            let (users, shares) = spread(&tunnel, public, 8).await;
            assert_eq!(of(shares), expected, "{format:?} {policy}");
            disconnect_all(&tunnel, users).await;
        }
        let set = format!("set weight of proxy {light} to 9");
        tunnel
            .event(
                "the command is reported",
                |event| matches!(event, EventKind::OperatorActed { what, .. } if *what == set),
            )
            .await;
        for weight in [0, 1001, u32::MAX] {
            assert_eq!(
                tunnel.order(Command::SetWeight(light, weight)).await,
                Err(CommandError::WeightOutOfRange)
            );
        }
        let gone = ProxyId(99);
        assert_eq!(tunnel.order(Command::SetWeight(gone, 2)).await, Err(CommandError::NotFound));
        assert_eq!(tunnel.order(Command::DrainProxy(gone)).await, Err(CommandError::NotFound));
        let other = "1:default".parse().unwrap();
        assert_eq!(
            tunnel.order(Command::SetPolicy(other, Policy::Weighted)).await,
            Err(CommandError::NotFound)
        );
        tunnel.end().await;
    }
}

/// Asserts that a user receives an echo.
async fn echoes(user: &mut TcpStream) {
    user.write_all(b"still there").await.unwrap();
    let mut answer = [0; 11];
    soon("an echo", user.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_proxy_finishes_its_streams_and_gets_no_new_ones() {
    for policy in Policy::ALL {
        let mut tunnel = Tunnel::with(|config| config.default_policy = policy).await;
        let target = target::echo().await;
        let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
        let drained = tunnel.telemetry.snapshot().proxies[0].id;
        let (mut before, _) = spread(&tunnel, public, 2).await;
        tunnel.join(public, target.addr, ProxyFormat::Text).await;
        assert_eq!(tunnel.order(Command::DrainProxy(drained)).await.unwrap().affected_streams, 2);
        let (mut users, shares) = spread(&tunnel, public, 6).await;
        assert_eq!((shares[0], shares[1].1), ((drained, 2), 6), "{policy}");
        for user in before.iter_mut().chain(&mut users) {
            echoes(user).await;
        }
        assert!(tunnel.telemetry.snapshot().proxies.iter().all(|one| one.draining == (one.id == drained)));
        disconnect_all(&tunnel, before.into_iter().chain(users).collect()).await;
        tunnel.order(Command::UndrainProxy(drained)).await.unwrap();
        let (users, shares) = spread(&tunnel, public, 8).await;
        assert!(shares[0].1 > 0 && shares[1].1 > 0, "{policy}: {shares:?}");
        disconnect_all(&tunnel, users).await;
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_wait_while_the_only_proxy_of_their_service_drains() {
    let mut tunnel = Tunnel::with(|config| config.proxy_wait_timeout = Duration::from_secs(60)).await;
    let target = target::echo().await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    let proxy = tunnel.telemetry.snapshot().proxies[0].id;
    tunnel.order(Command::DrainProxy(proxy)).await.unwrap();
    let mut user = soon("the user", TcpStream::connect(public)).await.unwrap();
    let waits = |now: &underpass::telemetry::Snapshot| {
        now.streams.first().is_some_and(|stream| stream.phase == StreamPhase::Waiting)
    };
    tunnel.until("a stream that waits", waits).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waits(&tunnel.telemetry.snapshot()));
    tunnel.order(Command::UndrainProxy(proxy)).await.unwrap();
    echoes(&mut user).await;
    drop(user);
    tunnel.end().await;
}

/// A proxy that neither accepts nor rejects a stream blocks it until the open timeout; streams that it accepted
/// continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_open_that_is_never_answered_times_out() {
    // An accepted stream does not wait for another proxy for long, either, once its proxy has gone.
    let tunnel = Tunnel::with(|config| {
        config.open_timeout = Duration::from_millis(300);
        config.proxy_wait_timeout = Duration::from_millis(300);
        config.grace_period = Duration::ZERO;
    })
    .await;
    let (mut proxy, _, public) = BinaryChannel::serving(tunnel.addr, &tunnel.token, 0).await;
    let taken = soon("a user", TcpStream::connect(public)).await.unwrap();
    let stream = proxy.opened().await.stream;
    proxy.send([Frame::OpenOk { stream, window: 1000 }]).await;
    let begin = Instant::now();
    let mut held = soon("another user", TcpStream::connect(public)).await.unwrap();
    held.write_all(b"hello?").await.unwrap();
    let open = proxy.opened().await;
    soon("the reset", held.read(&mut [0])).await.unwrap_err();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let (reason, _, up) = tunnel.ended(open.key).await;
    assert_eq!((reason, up), (EndReason::ProxyTimeout, 6));
    let said = proxy.settle().await;
    let reset = |frame: &Frame| matches!(frame, Frame::Reset { stream, code: ResetCode::ProxyTimeout, .. } if *stream == open.stream);
    assert!(said.iter().any(reset), "{said:?}");
    assert_eq!(tunnel.telemetry.snapshot().totals.streams_open, 1, "the one that was answered stays");
    drop((taken, proxy));
    tunnel.end().await;
}
