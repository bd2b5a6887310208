//! Connecting to names with several addresses, and over paths that lose packets: for the server and for the target.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    client::fetch,
    process::Process,
    promised_second, soon,
    target::{self, LOOPBACK},
    tunnel::{FORMATS, RunningProxy, Tunnel, with_only_service},
    within,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use underpass::{
    config::{CongestionControl, ProxyConfig},
    net::Connector,
    telemetry::EventKind,
};

/// Returns a connector whose resolver returns these addresses for the names `server` and `target`.
fn connector(server: &[SocketAddr], target: &[SocketAddr]) -> Connector {
    let (server, target) = (server.to_vec(), target.to_vec());
    Connector::with_lookup(move |name| match name {
        "server:1" => Ok(server.clone()),
        "target:1" => Ok(target.clone()),
        _ => Err(std::io::Error::other("unknown name")),
    })
}

/// Returns the configuration of a proxy that names its server and its target.
fn named(tunnel: &Tunnel) -> ProxyConfig {
    with_only_service(tunnel.proxy_config(LOOPBACK).with_server("server:1".to_owned()), |service| {
        service.target = "target:1".to_owned()
    })
}

/// Regression test: with a first address that drops every packet, as IPv6 addresses behind a broken path do, `--server`
/// connected never and each user of such a `--to` was reset after 10 s.
#[tokio::test]
async fn a_dead_first_address_costs_a_quarter_of_a_second() {
    let tunnel = Tunnel::start().await;
    let origin = target::origin(None).await;
    let (dead, _backlog) = target::full();
    let begin = Instant::now();
    let connector = connector(&[dead, tunnel.addr], &[dead, origin.addr]);
    let mut proxy = RunningProxy::start_with(named(&tunnel), tunnel.token.clone(), connector);
    let service = proxy.serves().await;
    let registered = begin.elapsed();
    let public = SocketAddr::new(LOOPBACK.ip(), service.port);
    for _ in 0..3 {
        let begin = Instant::now();
        assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
        println!("registered after {registered:?}, fetched after {:?}", begin.elapsed());
        assert!(begin.elapsed() < promised_second(), "{:?}", begin.elapsed());
    }
    assert!(registered < promised_second(), "{registered:?}");
    proxy.stop().await;
    tunnel.end().await;
}

/// Regression test: after a path had lost all packets for a while, the proxy waited for the kernel's next SYN, whose
/// intervals double. The listener here ignores every SYN until its backlog is emptied after 3.3 s; the kernel repeats a
/// SYN after 1, 3 and 7 s.
#[tokio::test]
async fn a_path_that_recovers_is_used_at_once() {
    let tunnel = Tunnel::start().await;
    let (path, backlog) = target::full();
    let connector = connector(&[path], &[]);
    let mut proxy = RunningProxy::start_with(named(&tunnel), tunnel.token.clone(), connector);
    tokio::time::sleep(Duration::from_millis(3300)).await;
    assert!(tunnel.telemetry.snapshot().proxies.is_empty(), "the path is not interrupted");
    let recovery = Instant::now();
    let server = tunnel.addr;
    let mut relays = JoinSet::new();
    let mut backlog = backlog.into_iter();
    let listener = backlog.next().unwrap();
    listener.listen(128).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener.into()).unwrap();
    drop(backlog);
    let relaying = async {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            relays.spawn(async move {
                let mut far = TcpStream::connect(server).await.unwrap();
                _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    };
    tokio::select! {
        _ = proxy.serves() => {}
        () = relaying => unreachable!("never completes"),
    }
    println!("serving {:?} after the path had recovered", recovery.elapsed());
    assert!(recovery.elapsed() < Duration::from_millis(2500), "{:?}", recovery.elapsed());
    proxy.stop().await;
    soon("the relays end", async { while relays.join_next().await.is_some() {} }).await;
    tunnel.end().await;
}

/// Many users of a target whose name resolves slowly cost one lookup.
#[tokio::test]
async fn many_streams_share_the_lookup_of_their_target() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };
    let tunnel = Tunnel::start().await;
    let origin = target::origin(None).await;
    let lookups = Arc::<AtomicUsize>::default();
    let (count, addr) = (lookups.clone(), origin.addr);
    let connector = Connector::with_lookup(move |_| {
        count.fetch_add(1, SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        Ok(vec![addr])
    });
    let config =
        with_only_service(tunnel.proxy_config(LOOPBACK), |service| service.target = "target:1".to_owned());
    let mut proxy = RunningProxy::start_with(config, tunnel.token.clone(), connector);
    let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);
    let mut users = JoinSet::new();
    for _ in 0..20 {
        users.spawn(async move { fetch(public, "/file/1000").await.unwrap().length });
    }
    let fetched = within(Duration::from_secs(25), "twenty downloads", users.join_all()).await;
    assert_eq!(fetched, [1000; 20]);
    assert_eq!(lookups.load(SeqCst), 1);
    proxy.stop().await;
    tunnel.end().await;
}

/// A loopback connection needs no particular congestion control, and uses the one that is named.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn channels_have_the_congestion_control_that_the_option_names() {
    // Every Linux offers Reno. The other one need not be permitted to this user.
    for name in ["reno", "cubic"] {
        if underpass::net::check_congestion_control(name).is_err() {
            continue;
        }
        let named = CongestionControl::Named(name.to_owned());
        let mut tunnel = Tunnel::with(|config| config.congestion = named.clone()).await;
        for format in FORMATS {
            let config = ProxyConfig { format, congestion: named.clone(), ..tunnel.proxy_config(LOOPBACK) };
            tunnel.proxy_with(config).await;
        }
        let snapshot = tunnel.telemetry.snapshot();
        let channels: Vec<_> = snapshot.proxies.iter().flat_map(|proxy| &proxy.channels).collect();
        assert_eq!(channels.len(), 3);
        for channel in channels {
            assert_eq!(channel.congestion_control.as_deref(), Some(name), "{channel:?}");
        }
        tunnel.end().await;
    }
}

/// A misspelt name must not leave the operator with another congestion control than the one that was asked for.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_congestion_control_that_the_kernel_does_not_offer_is_refused_at_start() {
    for subcommand in
        [&["server"][..], &["proxy", "--server", "127.0.0.1:1", "--port", "0", "--to", "127.0.0.1:1"]]
    {
        let mut program = Process::underpass(&[subcommand, &["--congestion", "nagle"]].concat());
        assert_eq!(program.exit().await.code(), Some(2), "{}", program.output());
        let error = program.stderr();
        assert!(
            error.contains("'nagle'") && error.contains("offers this user: ") && error.contains("reno"),
            "{error}"
        );
    }
}

/// A load balancer that checks the tunnel port every two seconds wrote a warning each time.
#[tokio::test]
async fn a_connection_to_the_tunnel_port_without_data_is_counted_and_not_reported() {
    let tunnel = Tunnel::start().await;
    for _ in 0..5 {
        drop(TcpStream::connect(tunnel.addr).await.unwrap());
    }
    tunnel.until("five of them", |snapshot| snapshot.totals.handshakes_failed == 5).await;
    let failed = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { .. });
    assert_eq!(tunnel.events().into_iter().find(failed), None);
    tunnel.end().await;
}

/// When a path recovers, several attempts of one proxy reach the server at the same moment, and the proxy resets all
/// but one. Six warnings in the server's log, for one channel, hid those that matter.
#[tokio::test]
async fn attempts_that_a_proxy_cancels_are_no_failed_handshakes() {
    let mut tunnel = Tunnel::start().await;
    for _ in 0..20 {
        let attempt = TcpStream::connect(tunnel.addr).await.unwrap();
        attempt.set_zero_linger().unwrap();
    }
    tunnel.proxy_with(tunnel.proxy_config(LOOPBACK)).await;
    let failed = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { .. });
    assert_eq!(tunnel.events().into_iter().find(failed), None);
    assert_eq!(tunnel.telemetry.totals().handshakes_failed, 0);
    tunnel.end().await;
}
