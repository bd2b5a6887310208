//! Users are admitted by their networks: those of the server, and those of each proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::support::{
    binary::BinaryChannel,
    process::Process,
    soon,
    target::{self, LOOPBACK, Target},
    text::{FieldCount, TextChannel},
    tunnel::{FORMATS, RunningProxy, Tunnel, with_only_service},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use underpass::{
    config::{ChannelCount, ProxyConfig, ProxyFormat},
    proxy::ProxyError,
    telemetry::EventKind,
    wire::handshake::Token,
};

/// Users' addresses: on Linux all of 127.0.0.0/8 is loopback.
const ONE: [u8; 4] = [127, 0, 0, 1];
const TWO: [u8; 4] = [127, 0, 0, 2];
const THREE: [u8; 4] = [127, 0, 0, 3];

/// Returns what a user from `ip` reads first; `None` if the connection is reset.
async fn greeting(ip: [u8; 4], public: SocketAddr) -> Option<u8> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), 0)).unwrap();
    let mut user = soon("a connection", socket.connect(public)).await.ok()?;
    soon("a byte or the end", user.read_u8()).await.ok()
}

/// Starts a target that sends `byte` to everybody.
async fn sends(byte: u8) -> Target {
    target::serve_with(move |mut socket| async move {
        socket.write_u8(byte).await?;
        socket.shutdown().await
    })
    .await
}

/// Returns the configuration of a proxy for `target` that admits these users.
fn admitting(tunnel: &Tunnel, target: &Target, networks: &str) -> ProxyConfig {
    with_only_service(tunnel.proxy_config(target.addr), |service| {
        service.user_networks = networks.parse().unwrap()
    })
}

/// Waits until a user from `ip` is refused for `reason`.
async fn refused(tunnel: &Tunnel, ip: [u8; 4], reason: &str) {
    let is_told = |event: &EventKind| {
        matches!(event, EventKind::UserRejected { addr, reason: told, .. }
            if addr.ip() == IpAddr::from(ip) && told == reason)
    };
    tunnel.event(&format!("a refusal: {reason}"), is_told).await;
}

/// The proxy hears nothing of a refused user.
#[tokio::test]
async fn a_user_of_a_network_that_the_server_denies_is_reset_at_once() {
    let tunnel =
        Tunnel::with(|config| config.user_networks = "allow=127.0.0.0/30 deny=127.0.0.2".parse().unwrap())
            .await;
    let (mut proxy, _, public) = BinaryChannel::serving(tunnel.addr, &tunnel.token, 0).await;
    for ip in [TWO, [127, 0, 0, 4]] {
        assert_eq!(proxy.during(greeting(ip, public)).await, None);
    }
    refused(&tunnel, TWO, "127.0.0.2 is in the denied network 127.0.0.2 (server option --deny)").await;
    refused(&tunnel, [127, 0, 0, 4], "127.0.0.4 is in no allowed network (server option --allow)").await;
    let user = TcpStream::connect(public).await.unwrap();
    assert_eq!(proxy.opened().await.user.unwrap().client, user.local_addr().unwrap());
    assert_eq!(tunnel.telemetry.snapshot().totals.users_rejected, 2);
    drop((user, proxy));
    tunnel.end().await;
}

#[tokio::test]
async fn a_user_is_assigned_to_proxies_that_admit_him_only() {
    for format in FORMATS {
        let mut tunnel =
            Tunnel::with(|config| config.user_networks = "deny=127.0.0.3".parse().unwrap()).await;
        let (a, b) = (sends(b'a').await, sends(b'b').await);
        let config = ProxyConfig { format, ..admitting(&tunnel, &a, "allow=127.0.0.2 allow=127.0.0.3") };
        let public = tunnel.proxy_with(config).await;
        assert_eq!(greeting(ONE, public).await, None);
        refused(
            &tunnel,
            ONE,
            "127.0.0.1 is in no allowed network of any proxy of the service (proxy option --allow)",
        )
        .await;
        let service = public.port().to_string().parse().unwrap();
        let other = ProxyConfig { format, ..admitting(&tunnel, &b, "deny=127.0.0.2").with_service(service) };
        assert_eq!(tunnel.proxy_with(other).await, public);
        for _ in 0..6 {
            assert_eq!(greeting(ONE, public).await, Some(b'b'), "{format:?}");
            assert_eq!(greeting(TWO, public).await, Some(b'a'), "{format:?}");
            assert_eq!(greeting(THREE, public).await, None, "the server narrows");
        }
        tunnel.end().await;
    }
}

/// While a service has no proxy its users wait for one.
#[tokio::test]
async fn a_waiting_user_is_reset_once_a_proxy_comes_that_does_not_admit_him() {
    let mut tunnel = Tunnel::start().await;
    let target = sends(b'a').await;
    let public = tunnel.proxy(target.addr, ProxyFormat::Binary).await;
    tunnel.stop_proxy(0).await;
    let waiting = crate::support::Running::start(greeting(ONE, public));
    tunnel.until("the user waits", |snapshot| snapshot.totals.streams_open == 1).await;
    let service = public.port().to_string().parse().unwrap();
    let config = admitting(&tunnel, &target, "deny=127.0.0.1").with_service(service);
    assert_eq!(tunnel.proxy_with(config).await, public);
    assert_eq!(waiting.end("the user is reset").await, None);
    refused(
        &tunnel,
        ONE,
        "127.0.0.1 is in the denied network 127.0.0.1 of any proxy of the service (proxy option --deny)",
    )
    .await;
    tunnel.end().await;
}

#[tokio::test]
async fn a_text_proxy_names_its_networks_in_the_data_of_addproxy() {
    let tunnel = Tunnel::start().await;
    let mut proxy = TextChannel::connect(tunnel.addr, FieldCount::Four).await;
    proxy.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    for wrong in ["", "127.0.0.2", "allow=127.0.0.2/8", "deny=\u{e4}"] {
        proxy.send("", 0, "ADDPROXY:0::::networks", wrong.as_bytes()).await;
        let error = proxy.hear_action("ERROR").await.text();
        assert!(
            error.starts_with("INVALID_NETWORKS: the networks of the registration: "),
            "{wrong}: {error}"
        );
    }
    proxy.send("", 0, "ADDPROXY:0::::networks", b"allow=127.0.0.2\n").await;
    let service = proxy.hear_action("RESPONSE").await.text();
    let port = service.split(':').next().unwrap().parse().unwrap();
    assert_eq!(greeting(ONE, SocketAddr::new(LOOPBACK.ip(), port)).await, None);
    // The same registration with other networks replaces them.
    proxy.send("", 0, &format!("ADDPROXY:{port}::::networks"), b"deny=127.0.0.2").await;
    proxy.hear_action("RESPONSE").await;
    let user = TcpStream::connect((LOOPBACK.ip(), port)).await.unwrap();
    proxy.hear_action("STREAM_START").await;
    drop((user, proxy));
    tunnel.end().await;
}

/// A server that does not know the option would admit everybody.
#[tokio::test]
async fn a_proxy_with_networks_refuses_an_older_server() {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let server = listener.local_addr().unwrap();
    let token = Token::random();
    let config = with_only_service(
        ProxyConfig::new(server.to_string(), "0".parse().unwrap(), "127.0.0.1:9"),
        |service| service.user_networks = "allow=127.0.0.2".parse().unwrap(),
    );
    // The old server greets each connection as the first of a link.
    let config = ProxyConfig { channels: ChannelCount::Fixed(1), ..config };
    let proxy = RunningProxy::start(config, token.clone());
    let old_server = crate::support::Running::start(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut channel = BinaryChannel::accepted(socket, &token, 0).await;
            let mut rest = channel.buffer.to_vec();
            channel.socket.read_to_end(&mut rest).await.ok();
            assert!(!rest.windows(8).any(|word| word == b"ADDPROXY"), "it registers nowhere");
        }
    });
    let error = proxy.gives_up().await;
    assert!(matches!(&error, ProxyError::Registration { .. }), "{error}");
    assert!(error.to_string().contains("too old for --allow and --deny"), "{error}");
    assert!(!old_server.has_ended());
}

#[tokio::test]
async fn a_mistaken_network_is_refused_with_what_was_meant() {
    for (network, said) in [
        ("10.1.2.3/8", "the network is 10.0.0.0/8"),
        ("example.org", "expected a network such as 10.0.0.0/8"),
    ] {
        let mut server = Process::underpass(&["server", "--no-tui", "--deny", network]);
        assert_eq!(server.exit().await.code(), Some(2));
        assert!(server.stderr().contains(said), "{}", server.stderr());
    }
}
