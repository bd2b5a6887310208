//! The header of a load balancer in front of the server.

use std::{net::IpAddr, time::Duration};

use super::*;
use crate::support::{
    target::{self, Target},
    text::{FieldCount, TextChannel},
    tunnel::{Tunnel, with_only_service},
};
use tokio::{io::AsyncWriteExt, net::TcpSocket};
use underpass::{
    config::{ProxyFormat, ServerConfig},
    telemetry::EventKind,
    wire::proxy_protocol::encode,
};

/// The address of the load balancer: on Linux all of 127.0.0.0/8 is loopback.
const BALANCER: [u8; 4] = [127, 0, 0, 2];

/// Starts a server that trusts the load balancer.
async fn server(change: impl FnOnce(&mut ServerConfig)) -> Tunnel {
    Tunnel::with(|config| {
        config.trusted_balancers = underpass::ids::NetworkSet::new(["127.0.0.2".parse().unwrap()]);
        change(config);
    })
    .await
}

/// Connects as the load balancer, and sends `bytes`.
async fn balanced(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::from(BALANCER), 0)).unwrap();
    let mut socket = soon("a connection", socket.connect(to)).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    socket
}

/// Returns a header for a user at this address who has connected to 203.0.113.1:443.
fn of_user(version: ProxyProtocolVersion, client: &str) -> Vec<u8> {
    encode(version, relayed(client.parse().unwrap(), "203.0.113.1:443".parse().unwrap()))
}

/// Sends `header`, and a byte behind it. Returns whether the byte is echoed.
async fn is_served(public: SocketAddr, header: &[u8]) -> Option<TcpStream> {
    let mut user = balanced(public, &[header, b"x"].concat()).await;
    let read = soon("an echo, or the end", user.read_u8()).await;
    matches!(read, Ok(b'x')).then_some(user)
}

/// Waits for a refused user of `addr` with this reason.
async fn refused(tunnel: &Tunnel, addr: IpAddr, reason: &str) {
    let is_told = |event: &EventKind| {
        matches!(event, EventKind::UserRejected { addr: user, reason: told, .. }
            if user.ip() == addr && told.contains(reason))
    };
    tunnel.event(&format!("a refusal: {reason}"), is_told).await;
}

async fn serving(tunnel: &mut Tunnel, target: &Target) -> SocketAddr {
    tunnel.proxy(target.addr, ProxyFormat::Binary).await
}

#[tokio::test]
async fn the_address_in_the_header_is_the_users_everywhere() {
    let target = HeaderTarget::new().await;
    let mut tunnel = server(|_| {}).await;
    let config = with_only_service(tunnel.proxy_config(target.addr()), |service| {
        service.proxy_protocol = Some(ProxyProtocolVersion::V2)
    });
    let public = tunnel.proxy_with(config).await;
    for version in VERSIONS {
        for (client, balancer) in
            [("192.0.2.7:50000", "203.0.113.1:443"), ("[2001:db8::7]:50000", "[2001:db8::1]:443")]
        {
            let (client, balancer) = (client.parse().unwrap(), balancer.parse().unwrap());
            let header = encode(version, relayed(client, balancer));
            let _user = balanced(public, &[&header[..], b"hello"].concat()).await;
            let (seen, mut connection) = target.accept().await;
            assert_eq!(seen, relayed(client, balancer));
            let mut payload = [0; 5];
            soon("the payload", connection.read_exact(&mut payload)).await.unwrap();
            assert_eq!(&payload, b"hello", "the header is no payload");
            let opened =
                |event: &EventKind| matches!(event, EventKind::StreamOpened { addr, .. } if *addr == client);
            tunnel.event("a stream of the user", opened).await;
        }
    }
    tunnel.end().await;
}

/// The sender of a header chooses the address in it.
#[tokio::test]
async fn a_header_from_another_address_is_payload() {
    let mut tunnel = server(|config| config.user_networks = "deny=192.0.2.0/24".parse().unwrap()).await;
    let target = target::echo().await;
    let public = serving(&mut tunnel, &target).await;
    for version in VERSIONS {
        let header = of_user(version, "192.0.2.7:50000");
        let mut user = TcpStream::connect(public).await.unwrap();
        user.write_all(&header).await.unwrap();
        let mut echoed = vec![0; header.len()];
        soon("an echo", user.read_exact(&mut echoed)).await.unwrap();
        assert_eq!(echoed, header);
    }
    tunnel.end().await;
}

#[tokio::test]
async fn networks_and_limits_are_those_of_the_user_behind_the_balancer() {
    let mut tunnel = server(|config| {
        config.user_networks = "deny=192.0.2.0/24".parse().unwrap();
        config.max_streams_per_address = Some(1);
    })
    .await;
    let target = target::echo().await;
    let public = serving(&mut tunnel, &target).await;
    let header = |client| of_user(ProxyProtocolVersion::V2, client);
    let one = is_served(public, &header("198.51.100.1:1")).await;
    let two = is_served(public, &header("198.51.100.2:1")).await;
    assert!(one.is_some() && two.is_some(), "all of them come from the load balancer");
    assert!(is_served(public, &header("198.51.100.1:2")).await.is_none());
    refused(&tunnel, "198.51.100.1".parse().unwrap(), "--max-streams-per-address").await;
    assert!(is_served(public, &header("192.0.2.7:1")).await.is_none());
    refused(&tunnel, "192.0.2.7".parse().unwrap(), "server option --deny").await;
    drop((one, two));
    tunnel.end().await;
}

#[tokio::test]
async fn a_missing_malformed_or_slow_header_is_refused_and_counted() {
    let mut tunnel = server(|config| config.handshake_step_timeout = Duration::from_millis(200)).await;
    let target = target::echo().await;
    let public = serving(&mut tunnel, &target).await;
    let balancer = IpAddr::from(BALANCER);
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "no PROXY protocol header"),
        (b"PROXY TCP4 192.0.2.7 here 1 2\r\n", "malformed PROXY protocol header of version 1"),
        (b"PROXY TCP4 192.0.2.7", "no complete PROXY protocol header within 0.2 s"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF", "too long"),
    ] {
        let mut user = balanced(public, bytes).await;
        assert!(soon("the end", user.read_u8()).await.is_err());
        refused(&tunnel, balancer, reason).await;
    }
    assert_eq!(tunnel.telemetry.snapshot().totals.users_rejected, 4);
    assert_eq!(target.counts().accepted, 0);
    // As balancers do that check the port alone.
    drop(balanced(public, b"").await);
    assert!(is_served(public, &of_user(ProxyProtocolVersion::V1, "192.0.2.7:1")).await.is_some());
    assert_eq!(tunnel.telemetry.snapshot().totals.users_rejected, 4);
    tunnel.end().await;
}

#[tokio::test]
async fn connections_without_a_complete_header_displace_each_other() {
    let mut tunnel = server(|config| config.max_pending_handshakes = 8).await;
    let target = target::echo().await;
    let public = serving(&mut tunnel, &target).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(balanced(public, b"PROXY ").await);
    }
    refused(&tunnel, BALANCER.into(), "displaced by a newer one").await;
    tunnel.until("two are displaced", |snapshot| snapshot.totals.users_rejected == 2).await;
    drop(silent);
    tunnel.end().await;
}

#[tokio::test]
async fn a_health_check_is_quiet_and_of_no_user() {
    let target = HeaderTarget::new().await;
    let mut tunnel = server(|config| config.user_networks = "allow=192.0.2.0/24".parse().unwrap()).await;
    let config = with_only_service(tunnel.proxy_config(target.addr()), |service| {
        service.proxy_protocol = Some(ProxyProtocolVersion::V2);
        service.user_networks = "deny=127.0.0.2".parse().unwrap();
    });
    let public = tunnel.proxy_with(config).await;
    let local = encode(ProxyProtocolVersion::V2, ProxyHeader::Local);
    let mut check = balanced(public, &local).await;
    check.shutdown().await.unwrap();
    assert!(soon("the end", check.read_u8()).await.is_err());
    assert_eq!(tunnel.telemetry.snapshot().totals.streams_open, 0);
    assert!(!tunnel.events().iter().any(|event| matches!(event, EventKind::StreamOpened { .. })));
    // One that asks for something reaches the target, whatever networks are admitted.
    let check = balanced(public, &[&local[..], b"GET /"].concat()).await;
    let (seen, connection) = target.accept().await;
    assert_eq!(seen, ProxyHeader::Local);
    drop((check, connection));
    // So does one that waits for the target to speak first.
    let silent = balanced(public, &local).await;
    assert_eq!(target.accept().await.0, ProxyHeader::Local);
    assert_eq!(tunnel.telemetry.snapshot().totals.users_rejected, 0);
    drop(silent);
    tunnel.end().await;
}

#[tokio::test]
async fn the_address_in_the_header_is_the_proxys_on_the_tunnel_port() {
    let tunnel = server(|config| config.handshake_step_timeout = Duration::from_millis(200)).await;
    let header = |client| of_user(ProxyProtocolVersion::V2, client);
    let text = |socket| TextChannel::new(socket, FieldCount::Four);
    // Text proxies are admitted from loopback addresses: that of the balancer is one, that of the proxy is not.
    let mut far = text(balanced(tunnel.addr, &header("192.0.2.7:50000")).await);
    far.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    let error = far.hear_action("ERROR").await.text();
    assert!(error.starts_with("TEXT_NOT_ALLOWED"), "{error}");
    let mut near = text(balanced(tunnel.addr, &header("127.0.0.9:50000")).await);
    near.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    near.send("", 0, "ADDPROXY:0", b"").await;
    near.hear_action("RESPONSE").await;
    let near_addr = "127.0.0.9:50000".parse().unwrap();
    let connected =
        |event: &EventKind| matches!(event, EventKind::ChannelConnected { addr, .. } if *addr == near_addr);
    tunnel.event("a channel of the proxy's address", connected).await;
    let failed = |addr: IpAddr, part: &'static str| {
        move |event: &EventKind| {
            matches!(event, EventKind::HandshakeFailed { addr: from, reason, .. }
                if from.ip() == addr && reason.contains(part))
        }
    };
    tunnel.event("the refusal", failed("192.0.2.7".parse().unwrap(), "not allowed from this address")).await;
    for (bytes, reason) in [
        (&b"\xF5UNDRP\r\n"[..], "no PROXY protocol header"),
        (b"PROXY ", "no complete PROXY protocol header within 0.2 s"),
    ] {
        let mut peer = balanced(tunnel.addr, bytes).await;
        assert!(soon("the end", peer.read_u8()).await.is_err());
        tunnel.event(reason, failed(BALANCER.into(), reason)).await;
    }
    // No proxy becomes a program of this machine because a load balancer here does not name it.
    let mut unnamed = balanced(tunnel.addr, b"PROXY UNKNOWN\r\n\xF5").await;
    assert!(soon("the end", unnamed.read_u8()).await.is_err());
    let reason = "does not name the address of the proxy";
    tunnel.event(reason, failed(BALANCER.into(), reason)).await;
    // A health check leaves no trace.
    let failures = tunnel.telemetry.snapshot().totals.handshakes_failed;
    for check in [
        encode(ProxyProtocolVersion::V1, ProxyHeader::Unknown),
        encode(ProxyProtocolVersion::V2, ProxyHeader::Local),
    ] {
        let mut check = balanced(tunnel.addr, &check).await;
        check.shutdown().await.unwrap();
        assert!(soon("the end", check.read_u8()).await.is_err());
    }
    assert_eq!(tunnel.telemetry.snapshot().totals.handshakes_failed, failures);
    drop((near, far));
    tunnel.end().await;
}
