//! What the log of a server says about a session, read as its operator does.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{config::ProxyFormat, telemetry::EventKind};

use crate::support::{
    binary::BinaryChannel,
    process::{Process, Signal, TOKEN},
    soon, target,
    tunnel::Tunnel,
};

/// Sends `bytes` to the echo behind `public`, and returns the user's own address once all came back.
async fn echoes(public: SocketAddr, bytes: &[u8]) -> SocketAddr {
    let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
    let addr = user.local_addr().unwrap();
    user.write_all(bytes).await.unwrap();
    user.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("the echo", user.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, bytes);
    addr
}

/// At the default level the log has one line for the arrival of a proxy, one for each stream that carried data, and one
/// for the departure of the proxy: the health checks of a load balancer do not fill it.
#[cfg(unix)]
#[tokio::test]
async fn a_session_takes_one_line_for_each_stream_and_two_for_its_proxy() {
    let (mut server, addr) = Process::server(TOKEN, &[]).await;
    let addr = addr.to_string();
    let echo = target::echo().await;
    let target = echo.addr.to_string();
    let mut proxy = Process::underpass(&[
        "proxy", "--server", &addr, "--port", "0", "--to", &target, "--token", TOKEN, "--name", "lab",
    ]);
    let service = proxy.serves().await;
    let public = SocketAddr::new([127, 0, 0, 1].into(), service.port);
    // A health check: it connects, and closes when the target is connected.
    let mut check = TcpStream::connect(public).await.unwrap();
    check.shutdown().await.unwrap();
    assert_eq!(soon("the end of the check", check.read(&mut [0])).await.unwrap(), 0);
    let user = echoes(public, b"hello").await;
    server.line(" ended: finished").await;
    proxy.signal(Signal::Term).await;
    server.line("disconnected").await;
    server.signal(Signal::Term).await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
    let output = server.output();
    let lines: Vec<&str> =
        output.lines().filter_map(|line| Some(line.split_once("lifecycle: ")?.1)).collect();
    let [listening, arrival, end, departure, rest @ ..] = &lines[..] else { panic!("{output}") };
    assert!(listening.starts_with("listening for proxies on "), "{output}");
    assert!(arrival.starts_with(&format!("proxy P1 lab registered for service {service} from ")), "{output}");
    let about = format!(
        "ended: finished (down 5 bytes, up 5 bytes) user={user} service={service} proxy=P1 proxy_name=lab seconds="
    );
    assert!(end.starts_with("stream ") && end.contains(&about), "{output}");
    assert_eq!(*departure, "proxy P1 lab disconnected: announced that it leaves (GOAWAY)", "{output}");
    assert!(rest.iter().all(|line| line.starts_with("service ") || line.starts_with("drain")), "{output}");
}

/// A server listens on `::` by default. Its IPv4 users had addresses such as `::ffff:192.0.2.1`, in the log, on screen
/// and in the OPEN that their proxy gets, and a limit for each address counted a host twice.
#[tokio::test]
async fn ipv4_users_of_an_ipv6_listener_are_known_by_their_ipv4_address() {
    let any = SocketAddr::from(([0_u16; 8], 0));
    if std::net::TcpListener::bind(any).is_err() {
        eprintln!("skipped: this host has no IPv6");
        return;
    }
    let mut tunnel = Tunnel::with(|config| config.bind = any.ip()).await;
    let echo = target::echo().await;
    let public = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
    let user = echoes(public, b"hello").await;
    assert!(user.is_ipv4());
    let opened = |event: &EventKind| matches!(event, EventKind::StreamOpened { addr, .. } if *addr == user);
    tunnel.event("a stream of the IPv4 address", opened).await;
    let joined =
        |event: &EventKind| matches!(event, EventKind::UserJoined { addr, .. } if *addr == user.ip());
    tunnel.event("a user with an IPv4 address", joined).await;
    let (mut proxy, _, public) = BinaryChannel::serving(tunnel.addr, &tunnel.token, 0).await;
    let user = TcpStream::connect(SocketAddr::new(user.ip(), public.port())).await.unwrap();
    assert_eq!(proxy.opened().await.user.unwrap().client, user.local_addr().unwrap());
    drop((user, proxy));
    tunnel.end().await;
}

#[tokio::test]
async fn streams_without_data_are_counted() {
    let mut tunnel = Tunnel::start().await;
    let echo = target::echo().await;
    let public = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
    for _ in 0..3 {
        let mut check = TcpStream::connect(public).await.unwrap();
        check.shutdown().await.unwrap();
        assert_eq!(soon("the end of the check", check.read(&mut [0])).await.unwrap(), 0);
    }
    echoes(public, b"hello").await;
    let totals = |empty| {
        move |totals: underpass::telemetry::Totals| (totals.streams_empty, totals.streams_failed) == empty
    };
    tunnel.until("three empty streams", |snapshot| totals((3, 0))(snapshot.totals)).await;
    tunnel.end().await;
}
