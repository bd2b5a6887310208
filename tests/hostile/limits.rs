//! Users and proxies beyond their limits: they are refused at once, each with its reason, and nobody else is affected.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use underpass::{
    config::{ChannelCount, ProxyConfig, ProxyFormat},
    control::Command,
    ids::StreamKey,
    telemetry::{EndReason, EventKind},
    wire::{
        Frame, Hello, HelloMode, RefusalCode, TunnelAction, Welcome, binary::VERSION,
        handshake::HandshakeError,
    },
};

use crate::{
    SECOND, Server, rest, serves_a_fresh_user,
    support::{
        binary::{BinaryChannel, add_proxy, hello},
        relay::{Relay, Wire},
        soon, target,
        tunnel::RunningProxy,
    },
};

/// A client address of its own: on Linux all of 127.0.0.0/8 is loopback.
const OTHER: [u8; 4] = [127, 0, 0, 2];

/// Connects from a loopback address. Returns `None` if the RST arrived before the connection was established.
pub async fn connect_from(ip: [u8; 4], to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), 0)).unwrap();
    soon("a connection", socket.connect(to)).await.ok()
}

/// Returns a connection of a user that is served, or `None` if it is refused.
pub async fn served_from(ip: [u8; 4], to: SocketAddr) -> Option<TcpStream> {
    let mut user = connect_from(ip, to).await?;
    // The RST may have arrived.
    _ = user.write_all(b"x").await;
    let read = soon("an echo, or the end", user.read(&mut [0])).await;
    matches!(read, Ok(1)).then_some(user)
}

/// Waits for the event of a refused user whose reason contains `option`. Returns the reason.
async fn refusal(server: &Server, option: &str) -> String {
    let told = |event: &EventKind| matches!(event, EventKind::UserRejected { reason, .. } if reason.contains(option));
    match server.tunnel.event(&format!("a refusal that names {option}"), told).await {
        EventKind::UserRejected { reason, .. } => reason,
        other => unreachable!("{other}"),
    }
}

#[tokio::test]
async fn an_address_with_its_maximum_of_streams_is_refused_and_others_are_served() {
    let server = Server::with(|config| config.max_streams_per_address = Some(3)).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(served_from(OTHER, server.public).await.unwrap());
    }
    let mut fourth = connect_from(OTHER, server.public).await.unwrap();
    assert_eq!(rest(&mut fourth).await, (vec![], Err(io::ErrorKind::ConnectionReset)));
    let reason = refusal(&server, "--max-streams-per-address").await;
    assert!(reason.starts_with("127.0.0.2 has its maximum of 3"), "{reason}");
    server.serves().await;
    open.pop();
    server.tunnel.until("room", |snapshot| snapshot.totals.streams_open == 2).await;
    open.push(served_from(OTHER, server.public).await.unwrap());
    drop(open);
    server.end().await;
}

/// A listener on `::` reports IPv4 users as IPv4-mapped addresses: each counts for itself.
#[tokio::test]
async fn ipv4_users_of_an_ipv6_port_are_counted_by_their_ipv4_address() {
    if TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await.is_err() {
        return println!("not tested: this machine has no IPv6");
    }
    let server = Server::with(|config| {
        config.bind = Ipv6Addr::UNSPECIFIED.into();
        config.max_streams_per_address = Some(1);
    })
    .await;
    let one = served_from(OTHER, server.public).await.unwrap();
    assert!(served_from(OTHER, server.public).await.is_none());
    let reason = refusal(&server, "--max-streams-per-address").await;
    assert!(reason.starts_with("127.0.0.2 has"), "{reason}");
    let another = served_from([127, 0, 0, 3], server.public).await.unwrap();
    drop((one, another));
    server.end().await;
}

#[tokio::test]
async fn connections_beyond_the_rate_of_an_address_are_refused_and_others_are_served() {
    let server = Server::with(|config| config.max_connections_per_second = NonZeroU32::new(2)).await;
    let begin = Instant::now();
    let mut admitted = 0;
    for _ in 0..60 {
        admitted += u64::from(served_from(OTHER, server.public).await.is_some());
    }
    let allowed = 2 + 2 * begin.elapsed().as_millis() as u64 / 1000 + 1;
    assert!((2..=allowed).contains(&admitted), "{admitted} of 60 in {:?}", begin.elapsed());
    let reason = refusal(&server, "--max-connections-per-second").await;
    assert!(reason.starts_with("127.0.0.2 opens more than 2"), "{reason}");
    server.tunnel.until("all refusals", |snapshot| snapshot.totals.users_rejected == 60 - admitted).await;
    server.end().await;
}

#[tokio::test]
async fn a_service_with_its_maximum_of_streams_leaves_room_for_other_services() {
    let mut server = Server::with(|config| {
        config.max_streams = 4;
        config.max_streams_per_service = None;
    })
    .await;
    let echo = target::echo().await;
    let other = server.tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
    let mut open = Vec::new();
    for n in 0..3 {
        open.push(served_from([127, 0, 0, 10 + n], server.public).await.unwrap());
    }
    assert!(served_from(OTHER, server.public).await.is_none());
    refusal(&server, "--max-streams-per-service").await;
    serves_a_fresh_user(other).await;
    drop(open);
    server.tunnel.until("all have left", |snapshot| snapshot.totals.streams_open == 0).await;
    server.end().await;
}

/// A user whose proxies all have their maximum is refused at once: while it waited, a flood would hold its descriptors.
#[tokio::test]
async fn a_user_is_refused_at_once_while_all_proxies_have_their_maximum() {
    let mut server = Server::with(|config| {
        config.max_streams_per_proxy = Some(2);
        config.proxy_wait_timeout = 3600 * SECOND;
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(served_from(OTHER, server.public).await.unwrap());
    }
    let mut third = connect_from(OTHER, server.public).await.unwrap();
    let addr = third.local_addr().unwrap();
    assert_eq!(rest(&mut third).await, (vec![], Err(io::ErrorKind::ConnectionReset)));
    let reason = refusal(&server, "--max-streams-per-proxy").await;
    assert_eq!(
        reason,
        "each proxy of the service has its maximum of 2 streams (option --max-streams-per-proxy)"
    );
    let key = key_of(&server.tunnel.events(), addr);
    assert_eq!(server.tunnel.ended(key).await, (EndReason::ProxiesFull, 0, 0));
    // A second proxy has room, whichever of them is asked first.
    let echo = target::echo().await;
    server.tunnel.join(server.public, echo.addr, ProxyFormat::Binary).await;
    for _ in 0..2 {
        open.push(served_from(OTHER, server.public).await.unwrap());
    }
    assert!(served_from(OTHER, server.public).await.is_none());
    drop(open);
    server.tunnel.until("room", |snapshot| snapshot.totals.streams_open == 0).await;
    server.end().await;
}

/// The proxy refuses what is beyond its own maximum at once, and another one of the service serves it.
#[tokio::test]
async fn a_stream_beyond_the_maximum_of_its_proxy_is_served_by_another() {
    let server = Server::start().await;
    let mut tunnel = server.tunnel;
    let echo = target::echo().await;
    let config = ProxyConfig { max_streams: 2, ..tunnel.proxy_config(echo.addr) };
    let public = tunnel.proxy_with(config).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(served_from(OTHER, public).await.unwrap());
    }
    let begin = Instant::now();
    let mut third = connect_from(OTHER, public).await.unwrap();
    let addr = third.local_addr().unwrap();
    assert_eq!(rest(&mut third).await, (vec![], Err(io::ErrorKind::ConnectionReset)));
    // At once, and not after the time for which a user waits for a proxy.
    assert!(begin.elapsed() < 4 * SECOND, "{:?}", begin.elapsed());
    let key = key_of(&tunnel.events(), addr);
    assert_eq!(tunnel.ended(key).await.0, EndReason::ProxyReset("a resource limit was reached".into()));
    tunnel.join(public, echo.addr, ProxyFormat::Binary).await;
    for _ in 0..4 {
        open.push(served_from(OTHER, public).await.unwrap());
    }
    drop(open);
    tunnel.end().await;
}

/// Returns the key of the stream of the user with this address.
fn key_of(events: &[EventKind], user: SocketAddr) -> StreamKey {
    let opened = |event: &EventKind| match event {
        EventKind::StreamOpened { key, addr, .. } if *addr == user => Some(*key),
        _ => None,
    };
    events.iter().rev().find_map(opened).unwrap()
}

/// Both ends of a stream without a byte in either direction are reset; one that a byte crosses now and then stays, and
/// so does one that the operator has paused.
#[tokio::test]
async fn an_idle_stream_is_ended_at_both_ends() {
    const IDLE: Duration = Duration::from_secs(2);
    let server = Server::with(|config| config.idle_timeout = Some(IDLE)).await;
    let echo = target::echo().await;
    let mut tunnel = server.tunnel;
    let public = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
    let mut active = served_from(OTHER, public).await.unwrap();
    let mut paused = served_from(OTHER, public).await.unwrap();
    let key = tunnel.stream_of(paused.local_addr().unwrap()).await.info.key;
    tunnel.order(Command::PauseStream(key)).await.unwrap();
    let (mut idle, begin) = (served_from(OTHER, public).await.unwrap(), Instant::now());
    let idle_key = tunnel.stream_of(idle.local_addr().unwrap()).await.info.key;
    let ended = rest(&mut idle);
    let mut ended = std::pin::pin!(ended);
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended,
            () = tokio::time::sleep(IDLE / 40) => {
                active.write_all(b"x").await.unwrap();
                soon("an echo", active.read_exact(&mut [0])).await.unwrap();
            }
        }
    };
    assert_eq!(ended, (vec![], Err(io::ErrorKind::ConnectionReset)));
    assert!(begin.elapsed() >= IDLE, "{:?}", begin.elapsed());
    assert_eq!(tunnel.ended(idle_key).await.0, EndReason::IdleTimeout);
    // The target's end of the idle stream has failed, and the other two are open.
    let counts = echo.when(|counts| counts.failed == 1, 10 * SECOND).await;
    assert_eq!(counts.open, 2, "{counts:?}");
    active.write_all(b"x").await.unwrap();
    soon("an echo", active.read_exact(&mut [0])).await.unwrap();
    tunnel.order(Command::ResumeStream(key)).await.unwrap();
    paused.write_all(b"x").await.unwrap();
    soon("an echo", paused.read_exact(&mut [0])).await.unwrap();
    drop((active, paused));
    tunnel.end().await;
}

/// When the descriptors for channels and ports are in use, further proxies are refused, those that there are resume,
/// and their users are served.
#[tokio::test]
async fn proxies_beyond_the_descriptors_are_refused_and_the_others_resume() {
    // Two proxies with two channels and a port each, and one channel more.
    let server = Server::with(|config| {
        config.max_channels_and_ports = 7;
        config.grace_period = 30 * SECOND;
    })
    .await;
    let echo = target::echo().await;
    let mut tunnel = server.tunnel;
    let relay = Relay::to(tunnel.addr).await;
    let config = ProxyConfig {
        channels: ChannelCount::Fixed(2),
        ..tunnel.proxy_config(echo.addr).with_server(relay.addr.to_string())
    };
    let public = tunnel.proxy_with(config).await;
    let seventh = BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello(), None).await.unwrap();
    let eighth = RunningProxy::start(tunnel.proxy_config(echo.addr), tunnel.token.clone());
    let full = "the maximum of 7 channels and public ports";
    let told = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { reason, .. } if reason.contains(full));
    tunnel.event("a refused channel", told).await;
    let refused = BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello(), None).await.err();
    assert_eq!(refused, Some(HandshakeError::Refused { code: RefusalCode::ServerFull, version: VERSION }));

    let mut early = served_from(OTHER, public).await.unwrap();
    relay.set_all(Wire::Closed);
    let resumed = |event: &EventKind| matches!(event, EventKind::ProxyResumed { .. });
    tunnel.event("a resume", resumed).await;
    early.write_all(b"x").await.unwrap();
    soon("an echo", early.read_exact(&mut [0])).await.unwrap();
    serves_a_fresh_user(public).await;
    drop((early, seventh));
    eighth.stop().await;
    tunnel.end().await;
}

/// Opens a new link from a loopback address. The error is that of the handshake.
async fn link_from(ip: [u8; 4], server: &Server) -> Result<(BinaryChannel, Welcome), HandshakeError> {
    let socket = connect_from(ip, server.tunnel.addr).await.unwrap();
    BinaryChannel::new(socket).authenticated(&server.tunnel.token, hello(), None).await
}

/// One holder of the token that opens link after link, or the proxies of one host, leave room for those from elsewhere.
#[tokio::test]
async fn the_proxies_from_one_address_have_their_maximum_of_channels() {
    let server = Server::with(|config| config.max_channels_per_address = Some(6)).await;
    server.tunnel.until("both channels", |snapshot| snapshot.proxies[0].channels.len() == 2).await;
    // The conforming proxy has two channels and a port.
    let mut links = Vec::new();
    for _ in 0..3 {
        links.push(link_from([127, 0, 0, 1], &server).await.unwrap());
    }
    let full = HandshakeError::Refused { code: RefusalCode::ServerFull, version: VERSION };
    assert_eq!(link_from([127, 0, 0, 1], &server).await.err(), Some(full));
    let reason = "the proxies from 127.0.0.1 have their maximum of 6 channels and public ports (option \
                  --max-channels-per-address)";
    let told = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { reason: told, .. } if told == reason);
    server.tunnel.event("the refusal", told).await;
    let other = link_from(OTHER, &server).await.unwrap();
    // A public port counts, too.
    let (channel, _) = &mut links[0];
    channel.send([add_proxy(0)]).await;
    let refused = loop {
        if let Frame::Message(message) = channel.hear_other().await {
            break message;
        }
    };
    let text = String::from_utf8_lossy(&refused.data).into_owned();
    assert!(refused.action == TunnelAction::Error && text.ends_with(reason), "{text}");
    drop(links);
    server.tunnel.until("room", |snapshot| snapshot.proxies.len() == 2).await;
    drop((link_from([127, 0, 0, 1], &server).await.unwrap(), other));
    server.tunnel.until("one proxy", |snapshot| snapshot.proxies.len() == 1).await;
    server.end().await;
}

/// Each link has one descriptor for its resumption. Parallel ones, which a proxy need never complete, would take as
/// many as the link may have channels.
#[tokio::test]
async fn parallel_resumptions_of_a_link_take_descriptors_of_their_own() {
    let server = Server::with(|config| {
        // One proxy with two channels and a port, a link, and one more descriptor.
        config.max_channels_and_ports = 5;
        config.grace_period = 30 * SECOND;
    })
    .await;
    server.tunnel.until("both channels", |snapshot| snapshot.proxies[0].channels.len() == 2).await;
    let (addr, token) = (server.tunnel.addr, server.tunnel.token.clone());
    let (_first, welcome) = BinaryChannel::greeted(addr, &token, hello(), None).await.unwrap();
    let resume = Hello { mode: HelloMode::Resume, link: welcome.link, epoch: welcome.epoch, ..hello() };
    let secret = welcome.resume_secret;
    let resumption = || BinaryChannel::greeted(addr, &token, resume.clone(), secret);
    // The first ping, which completes a resumption, follows for none of them.
    let on_that_of_the_link = resumption().await.unwrap();
    let on_another = resumption().await.unwrap();
    let full = Some(HandshakeError::Refused { code: RefusalCode::ServerFull, version: VERSION });
    assert_eq!(resumption().await.err(), full);
    // With the end of the first one its descriptor is free again.
    drop(on_that_of_the_link);
    let mut next = resumption().await;
    while next.is_err() {
        tokio::task::yield_now().await;
        next = resumption().await;
    }
    assert_eq!(resumption().await.err(), full);
    drop((on_another, next));
    server.end().await;
}
