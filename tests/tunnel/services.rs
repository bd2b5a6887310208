//! Services: registration of public ports, users that wait for a proxy, and refusals with their reasons.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    binary::BinaryChannel,
    client::{Fetched, fetch},
    soon, target,
    tunnel::{FORMATS, RunningProxy, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ProxyConfig, ProxyFormat, ServerConfig},
    proxy::ProxyError,
    telemetry::{EndReason, EventKind, StreamPhase},
    wire::handshake::Token,
};

const FILE: DemoFile = DemoFile { seed: 1, size: 3_000_000 };

/// Asserts that the connection ends with an RST instead of a FIN.
async fn is_reset(user: &mut TcpStream) {
    let error = soon("a reset", user.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Returns a public address whose only proxy has disconnected.
async fn deserted(tunnel: &mut Tunnel, format: ProxyFormat) -> (SocketAddr, SocketAddr) {
    let target = target::refusing().await;
    let public = tunnel.proxy(target, format).await;
    tunnel.stop_proxy(0).await;
    (public, target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_waits_for_a_proxy_until_the_timeout() {
    let wait = Duration::from_millis(300);
    let mut tunnel = Tunnel::with(|config| config.proxy_wait_timeout = wait).await;
    let (public, _) = deserted(&mut tunnel, ProxyFormat::Binary).await;
    let begin = Instant::now();
    let mut user = TcpStream::connect(public).await.unwrap();
    let address = user.local_addr().unwrap();
    // A user that half-closes waits, too.
    user.shutdown().await.unwrap();
    is_reset(&mut user).await;
    assert!(begin.elapsed() >= wait, "{:?}", begin.elapsed());
    let refused = tunnel
        .event(
            "the refusal",
            |event| matches!(event, EventKind::UserRejected { addr, .. } if *addr == address),
        )
        .await;
    assert!(refused.to_string().contains("no proxy"), "{refused}");
    let ended = tunnel.event("the end", |event| matches!(event, EventKind::StreamEnded { .. })).await;
    assert!(
        matches!(ended, EventKind::StreamEnded { reason: EndReason::NoProxy, down: 0, up: 0, .. }),
        "{ended}"
    );
    assert_eq!(tunnel.telemetry.totals().users_rejected, 1);
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_user_is_served_by_the_next_proxy() {
    for format in FORMATS {
        let mut tunnel = Tunnel::with(|config| config.proxy_wait_timeout = Duration::from_secs(20)).await;
        let (public, _) = deserted(&mut tunnel, format).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        user.write_all(b"hello").await.unwrap();
        user.shutdown().await.unwrap();
        tunnel
            .until("a stream that waits", |snapshot| {
                snapshot.streams.iter().any(|stream| stream.phase == StreamPhase::Waiting)
            })
            .await;
        let echo = target::echo().await;
        tunnel.join(public, echo.addr, format).await;
        let mut answer = String::new();
        soon("the answer", user.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "hello");
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_user_that_disconnects_is_removed_at_once() {
    let mut tunnel = Tunnel::with(|config| config.proxy_wait_timeout = Duration::from_secs(60)).await;
    let (public, _) = deserted(&mut tunnel, ProxyFormat::Binary).await;
    let user = TcpStream::connect(public).await.unwrap();
    tunnel.until("a stream that waits", |snapshot| snapshot.totals.streams_open == 1).await;
    socket2::SockRef::from(&user).set_linger(Some(Duration::ZERO)).unwrap();
    drop(user);
    let gave_up =
        |event: &EventKind| matches!(event, EventKind::StreamEnded { reason: EndReason::UserAborted, .. });
    tunnel.event("the user gave up", gave_up).await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_without_proxies_is_closed_after_its_linger_time() {
    let mut tunnel = Tunnel::with(|config| config.idle_service_timeout = Duration::from_millis(50)).await;
    let (public, _) = deserted(&mut tunnel, ProxyFormat::Binary).await;
    tunnel.until("the service is closed", |snapshot| snapshot.services.is_empty()).await;
    let error = TcpStream::connect(public).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    // The port can be registered again.
    let echo = target::echo().await;
    tunnel.join(public, echo.addr, ProxyFormat::Text).await;
    tunnel.end().await;
}

/// Starts a proxy that is refused while another one serves. Returns the reason.
async fn refused(tunnel: &Tunnel, config: ProxyConfig) -> String {
    let error = RunningProxy::start(config, tunnel.token.clone()).gives_up().await;
    let ProxyError::Registration { refused, .. } = error else { panic!("{error}") };
    let reason = refused.reason().to_owned();
    let told = reason.clone();
    tunnel
        .event(
            "the refusal",
            |event| matches!(event, EventKind::RegistrationRefused { reason, .. } if *reason == told),
        )
        .await;
    tunnel.until("a refused proxy does not stay", |snapshot| snapshot.proxies.len() == 1).await;
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_not_allowed_is_refused_with_the_reason() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let target = target::echo().await;
        let public = tunnel.proxy(target.addr, format).await;
        let service = "22".parse().unwrap();
        let config = ProxyConfig { format, ..tunnel.proxy_config(target.addr).with_service(service) };
        let reason = refused(&tunnel, config).await;
        assert_eq!(reason, "port 22 is not allowed: the server allows ports 1024-65535", "{format:?}");
        assert_eq!(fetch_echo(public).await, "hello", "the one that serves is not disturbed");
        tunnel.end().await;
    }
}

async fn fetch_echo(public: SocketAddr) -> String {
    let mut user = TcpStream::connect(public).await.unwrap();
    user.write_all(b"hello").await.unwrap();
    user.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("an echo", user.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_0_requests_any_free_port() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        let echo = target::echo().await;
        let first = tunnel.proxy(echo.addr, format).await;
        let second = tunnel.proxy(echo.addr, format).await;
        assert!(first.port() >= 1024 && second.port() >= 1024 && first != second, "{first} {second}");
        assert_eq!((fetch_echo(first).await, fetch_echo(second).await), ("hello".into(), "hello".into()));
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_final_even_if_the_server_closes_at_once() {
    // Repeated, because refusal and FIN arrive at the same time, and the FIN used to be handled first. Each server sees
    // too few wrong tokens to block the address.
    for format in FORMATS.into_iter().cycle().take(5 * FORMATS.len()) {
        let tunnel = Tunnel::start().await;
        for attempt in 1..=2 {
            let config = ProxyConfig { format, ..tunnel.proxy_config(target::refusing().await) };
            let error = RunningProxy::start(config, Token::new("wrong")).gives_up().await;
            // The text format has one error for every refusal.
            let refused = matches!(error, ProxyError::Refused { .. }) || format == ProxyFormat::Text;
            assert!(refused && error.to_string().contains("wrong token"), "{format:?}: {error}");
            // The handshake has no checksums: a second attempt shows that it was not corruption in transit.
            tunnel
                .until("the server has noticed", |snapshot| snapshot.totals.handshakes_failed >= 2 * attempt)
                .await;
            assert_eq!(
                tunnel.telemetry.totals().handshakes_failed,
                2 * attempt,
                "{format:?}: it tried again"
            );
        }
        tunnel.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_registers_its_port_again_after_a_server_restart() {
    for format in FORMATS {
        let origin = target::origin(None).await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy(origin.addr, format).await;
        assert_eq!(fetch(public, &FILE.path()).await, Ok(Fetched::from(FILE)));
        tunnel.stop_server().await;
        tunnel.proxies()[0].serves_nothing().await;
        let mut other = Tunnel::bind(config_like(&tunnel), tunnel.token.clone()).await;
        assert_eq!(other.addr, tunnel.addr);
        tunnel.hand_over(&mut other).await;
        let service = other.proxies()[0].serves().await;
        assert_eq!(service.port, public.port());
        assert_eq!(fetch(public, &FILE.path()).await, Ok(Fetched::from(FILE)));
        other.end().await;
    }
}

fn config_like(tunnel: &Tunnel) -> ServerConfig {
    let user_linger = Duration::from_millis(100);
    ServerConfig {
        listen: tunnel.addr,
        bind: tunnel.addr.ip(),
        user_retention: user_linger,
        ..ServerConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rtt_of_every_channel_is_measured() {
    for format in FORMATS {
        let mut tunnel = Tunnel::start().await;
        tunnel.proxy(target::refusing().await, format).await;
        let snapshot = tunnel
            .until("a round trip on every channel", |snapshot| {
                snapshot.proxies[0].channels.iter().all(|channel| channel.last_rtt.is_some())
            })
            .await;
        for channel in &snapshot.proxies[0].channels {
            println!("{format:?}: round trip of channel {} is {:?}", channel.id, channel.last_rtt.unwrap());
            assert!(channel.last_rtt.unwrap() < Duration::from_secs(5));
        }
        tunnel.end().await;
    }
}

/// A port is opened while no lock is held that users or other proxies need, so two proxies may find the same port
/// closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_register_at_the_same_time_share_a_port_or_get_one_each() {
    for reuse_port in [false, true] {
        let tunnel = Tunnel::with(|config| {
            (config.reuse_port, config.grace_period) = (reuse_port, Duration::ZERO);
        })
        .await;
        for _ in 0..5 {
            let free = std::net::TcpListener::bind(target::LOOPBACK).unwrap().local_addr().unwrap();
            let mut registering = JoinSet::new();
            for index in 0..12 {
                let (server, token) = (tunnel.addr, tunnel.token.clone());
                let port = if index % 2 == 0 { free.port() } else { 0 };
                registering.spawn(async move { BinaryChannel::serving(server, &token, port).await });
            }
            let served = soon("all are registered", registering.join_all()).await;
            let mut ports: Vec<u16> = served.iter().map(|(_, _, public)| public.port()).collect();
            assert_eq!(ports.iter().filter(|&&port| port == free.port()).count(), 6, "{ports:?}");
            ports.sort_unstable();
            ports.dedup();
            assert_eq!(ports.len(), 7, "{ports:?}");
            let snapshot = tunnel.telemetry.snapshot();
            assert!(ports.iter().all(|port| snapshot.services.iter().any(|one| one.key.port == *port)));
            drop(served);
            tunnel.until("all have left", |snapshot| snapshot.proxies.is_empty()).await;
        }
        tunnel.end().await;
    }
}
