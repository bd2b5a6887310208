//! The header that a proxy sends to its target.

use std::net::Ipv6Addr;

use super::*;
use crate::support::{
    binary::BinaryChannel,
    client::was_reset,
    process::{Process, TOKEN},
    tunnel::{Tunnel, with_only_service},
};
use tokio::io::AsyncWriteExt;
use underpass::config::{ProxyConfig, ProxyFormat};

/// Returns the configuration of a proxy whose target expects a header.
fn with_header(tunnel: &Tunnel, target: SocketAddr, version: ProxyProtocolVersion) -> ProxyConfig {
    with_only_service(tunnel.proxy_config(target), |service| service.proxy_protocol = Some(version))
}

#[tokio::test]
async fn a_target_receives_the_users_and_the_public_address_before_the_first_byte() {
    for version in VERSIONS {
        let target = HeaderTarget::new().await;
        let mut tunnel = Tunnel::start().await;
        let public = tunnel.proxy_with(with_header(&tunnel, target.addr(), version)).await;
        for is_user_first in [true, false] {
            let mut user = TcpStream::connect(public).await.unwrap();
            if is_user_first {
                user.write_all(b"hello").await.unwrap();
                user.shutdown().await.unwrap();
            }
            let (header, mut connection) = target.accept().await;
            assert_eq!(header, relayed(user.local_addr().unwrap(), public), "{version:?}");
            connection.write_all(b"welcome").await.unwrap();
            connection.shutdown().await.unwrap();
            let mut answer = String::new();
            soon("an answer", user.read_to_string(&mut answer)).await.unwrap();
            assert_eq!(answer, "welcome");
            user.shutdown().await.ok();
            let mut request = String::new();
            soon("the request", connection.read_to_string(&mut request)).await.unwrap();
            assert_eq!(request, if is_user_first { "hello" } else { "" });
        }
        tunnel.end().await;
    }
}

/// A listener on `::` reports users of IPv4 with mapped addresses.
#[tokio::test]
async fn both_families_of_a_dual_stack_port_are_told_apart() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    if std::net::TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).is_err() {
        eprintln!("skipped: this host has no IPv6");
        return;
    }
    let target = HeaderTarget::new().await;
    let mut tunnel = Tunnel::with(|config| config.bind = any.ip()).await;
    for version in VERSIONS {
        let port = tunnel.proxy_with(with_header(&tunnel, target.addr(), version)).await.port();
        for public in [SocketAddr::from((Ipv6Addr::LOCALHOST, port)), SocketAddr::new(LOOPBACK.ip(), port)] {
            let user = TcpStream::connect(public).await.unwrap();
            let (header, _connection) = target.accept().await;
            assert_eq!(header, relayed(user.local_addr().unwrap(), public), "{version:?}");
        }
    }
    tunnel.end().await;
}

/// A proxy of an older version refuses an OPEN that is longer than it knows.
#[tokio::test]
async fn the_public_address_is_sent_to_a_proxy_that_asked_for_it_only() {
    let tunnel = Tunnel::start().await;
    let (mut proxy, _, public) = BinaryChannel::serving(tunnel.addr, &tunnel.token, 0).await;
    let user = TcpStream::connect(public).await.unwrap();
    let addresses = proxy.opened().await.user.unwrap();
    assert_eq!((addresses.client, addresses.public), (user.local_addr().unwrap(), None));
    drop((user, proxy));
    tunnel.end().await;
}

#[tokio::test]
async fn a_target_that_resets_the_connection_at_its_header_resets_the_user() {
    let target = crate::support::target::serve_with(|mut socket| async move {
        socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO))?;
        socket.read_u8().await.map(drop)
    })
    .await;
    let mut tunnel = Tunnel::start().await;
    let public = tunnel.proxy_with(with_header(&tunnel, target.addr, ProxyProtocolVersion::V2)).await;
    let mut user = TcpStream::connect(public).await.unwrap();
    let error = soon("the end", user.read_u8()).await.unwrap_err();
    was_reset(&error.to_string());
    tunnel.end().await;
}

#[tokio::test]
async fn the_text_format_is_refused_because_it_carries_no_address() {
    let args = ["proxy", "--server", "127.0.0.1:9", "--port", "0", "--to", "127.0.0.1:9", "--token", TOKEN];
    let mut proxy =
        Process::underpass(&[&args[..], &["--format", "text", "--proxy-protocol", "v2"]].concat());
    assert_eq!(proxy.exit().await.code(), Some(2));
    assert!(proxy.stderr().contains("--format binary"), "{}", proxy.stderr());
    assert_eq!(ProxyConfig::new("", "0".parse().unwrap(), "").format, ProxyFormat::Binary);
}
