//! Registrations of ports, numbers of channels, and names of proxies.

use std::time::Duration;

use tokio::{net::TcpStream, task::JoinSet};
use underpass::{
    telemetry::{DisconnectReason, EventKind},
    wire::{
        Frame, Hello, HelloMode, RefusalCode, TunnelAction, TunnelMessage, binary::VERSION,
        handshake::HandshakeError,
    },
};

use crate::{
    Server, header,
    support::{
        binary::{BinaryChannel, hello},
        soon,
        tunnel::Tunnel,
    },
};

/// Encodes a registration with arbitrary content as a MESSAGE frame.
fn registration(request: &[u8]) -> Vec<u8> {
    let length = u32::try_from(1 + request.len()).unwrap();
    [&header(0x24, 0, 0, length)[..], &[u8::try_from(request.len()).unwrap()], request].concat()
}

/// Reads the reply to a registration: its action and text.
async fn answer(channel: &mut BinaryChannel) -> (TunnelAction, String) {
    loop {
        if let Frame::Message(TunnelMessage { action, data, .. }) = channel.hear_other().await {
            return (action, String::from_utf8(data.to_vec()).unwrap());
        }
    }
}

#[tokio::test]
async fn every_registration_is_accepted_refused_or_closes_its_channel() {
    enum Outcome {
        Given,
        Refused(String),
        Ends(&'static str),
    }
    use Outcome::{Ends, Given, Refused};
    let server = Server::start().await;
    let taken = server.public.port();
    let others = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = others.local_addr().unwrap().port();
    let malformed = "ADDPROXY expects";
    let cases: Vec<(Vec<u8>, Outcome)> = vec![
        (b"ADDPROXY:0".into(), Given),
        (b"ADDPROXY:0::80".into(), Given),
        (
            b"ADDPROXY:22".into(),
            Refused("PORT_NOT_ALLOWED: port 22 is not allowed: the server allows ports 1024-65535".into()),
        ),
        (
            b"ADDPROXY:1".into(),
            Refused("PORT_NOT_ALLOWED: port 1 is not allowed: the server allows ports 1024-65535".into()),
        ),
        (b"ADDPROXY:65536".into(), Ends(malformed)),
        (b"ADDPROXY:-1".into(), Ends(malformed)),
        (b"ADDPROXY:+80".into(), Ends(malformed)),
        (b"ADDPROXY:99999999999999999999".into(), Ends(malformed)),
        (b"ADDPROXY:".into(), Ends(malformed)),
        (b"ADDPROXY".into(), Ends("unknown action")),
        (b"ADDPROXY:0:a:b".into(), Ends(malformed)),
        (b"ADDPROXY:0:a:80:3".into(), Given),
        (b"ADDPROXY:0:a:80:0".into(), Ends(malformed)),
        (b"ADDPROXY:0:a:80:65536".into(), Ends(malformed)),
        (b"ADDPROXY:0:a:80:-1".into(), Ends(malformed)),
        (b"ADDPROXY:0:a:80:3:3".into(), Ends(malformed)),
        (b"ADDPROXY:0:a b".into(), Ends(malformed)),
        (b"ADDPROXY:0:\x1b[2J".into(), Ends(malformed)),
        (b"ADDPROXY:0:a\nb".into(), Ends(malformed)),
        (b"ADDPROXY:0:\xc2\x9bA".into(), Ends(malformed)),
        (b"ADDPROXY:0:\xff".into(), Ends("text")),
        ([&b"ADDPROXY:0:"[..], &[b'g'; 65]].concat(), Ends(malformed)),
        (
            format!("ADDPROXY:{taken}:other").into(),
            Refused(format!(
                "OTHER_GROUP: port {taken} is already served by group «default»: give --group default to share its users, or \
                 choose another port"
            )),
        ),
        (format!("ADDPROXY:{taken}").into(), Given),
        (
            format!("ADDPROXY:{foreign}").into(),
            Refused(format!("PORT_IN_USE: port {foreign} is in use on the server")),
        ),
    ];
    for (request, outcome) in cases {
        let what = String::from_utf8_lossy(&request).into_owned();
        let (mut channel, _) =
            BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello(), None).await.unwrap();
        let peer = channel.socket.local_addr().unwrap();
        channel.send_raw(&registration(&request)).await;
        match outcome {
            Given | Refused(_) => {
                let wanted = if let Refused(reason) = &outcome { Some(reason) } else { None };
                let (action, said) = answer(&mut channel).await;
                let refused = action == TunnelAction::Error;
                assert_eq!(refused.then_some(&said), wanted, "{what}: {said}");
            }
            Ends(reason) => {
                let gone = server.disconnect_reason(&what, peer).await;
                assert!(
                    matches!(&gone, DisconnectReason::Protocol(told) if told.contains(reason) && !told.contains(char::is_control)),
                    "{what}: {gone:?}"
                );
            }
        }
        drop(channel);
        // The registration may have joined the service of the conforming proxy.
        let alone = |snapshot: &underpass::telemetry::Snapshot| snapshot.proxies.len() == 1;
        server.tunnel.until(&what, alone).await;
        server.serves().await;
    }
    server.end().await;
}

/// A proxy may register a limited number of ports; the others remain for other proxies. It may repeat a registration,
/// which adds none.
#[tokio::test]
async fn the_ports_of_a_proxy_are_limited() {
    let server = Server::start().await;
    let (mut channel, _) =
        BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello(), None).await.unwrap();
    let (mut given, mut refused) = (Vec::new(), 0);
    // In batches, because the number of queued replies is limited.
    for _ in 0..11 {
        channel.send_raw(&registration(b"ADDPROXY:0").repeat(100)).await;
        for _ in 0..100 {
            match answer(&mut channel).await {
                (TunnelAction::Response, service) => given.push(service),
                (_, reason) => {
                    assert_eq!(reason, "TOO_MANY_SERVICES: a proxy may register for at most 1024 services");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((given.len(), refused), (1024, 76));
    let known = given.swap_remove(0);
    channel.send_raw(&registration(format!("ADDPROXY:{known}").as_bytes())).await;
    assert_eq!(answer(&mut channel).await, (TunnelAction::Response, known));
    drop(channel);
    server.end().await;
}

/// The only port of the range belongs to another program. The proxy is told so, and other requests are served.
#[tokio::test]
async fn a_search_without_a_free_port_is_refused_with_the_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for reuse_port in [false, true] {
        let tunnel = Tunnel::with(|config| {
            config.allowed_ports = port.to_string().parse().unwrap();
            (config.reuse_port, config.grace_period) = (reuse_port, Duration::ZERO);
        })
        .await;
        let (mut channel, _) =
            BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello(), None).await.unwrap();
        // Many searches at the same time.
        channel.send_raw(&registration(b"ADDPROXY:0").repeat(64)).await;
        let no_port = (TunnelAction::Error, format!("NO_FREE_PORT: no port of {port}-{port} is free"));
        for _ in 0..64 {
            assert_eq!(answer(&mut channel).await, no_port);
        }
        channel.send_raw(&registration(format!("ADDPROXY:{port}").as_bytes())).await;
        let in_use = (TunnelAction::Error, format!("PORT_IN_USE: port {port} is in use on the server"));
        assert_eq!(answer(&mut channel).await, in_use);
        let refused = |event: &EventKind| matches!(event, EventKind::RegistrationRefused { .. });
        tunnel.event("a refusal", refused).await;
        drop(channel);
        tunnel.until("the proxy has left", |snapshot| snapshot.proxies.is_empty()).await;
        tunnel.end().await;
    }
}

#[tokio::test]
async fn the_channels_of_a_proxy_are_limited() {
    let server = Server::start().await;
    let (addr, token) = (server.tunnel.addr, server.tunnel.token.clone());
    let (mut first, welcome, public) = BinaryChannel::serving(addr, &token, 0).await;
    let mut joins = JoinSet::new();
    for _ in 0..150 {
        let token = token.clone();
        let hello = Hello { mode: HelloMode::Join, link: welcome.link, ..hello() };
        joins.spawn(async move { BinaryChannel::greeted(addr, &token, hello, welcome.resume_secret).await });
    }
    let (joined, refused): (Vec<_>, Vec<_>) =
        soon("all have joined", joins.join_all()).await.into_iter().partition(Result::is_ok);
    // Twice the 64 that a proxy may keep, because it connects a replacement before it gives up a silent one.
    assert_eq!((joined.len(), refused.len()), (127, 23));
    for error in refused {
        let error = error.err().unwrap();
        assert_eq!(error, HandshakeError::Refused { code: RefusalCode::TooManyChannels, version: VERSION });
    }
    // Each channel has its own number.
    let mut numbers: Vec<_> = joined.iter().map(|join| join.as_ref().unwrap().1.channel).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((numbers.len(), welcome.channel), (127, 1));
    drop(joined);
    server
        .tunnel
        .until("one channel", |s| s.proxies.iter().any(|p| &*p.name == "tester" && p.channels.len() == 1))
        .await;
    let user = TcpStream::connect(public).await.unwrap();
    first.opened().await;
    drop((user, first));
    server.end().await;
}

#[tokio::test]
async fn control_characters_in_a_name_are_removed() {
    let server = Server::start().await;
    for (name, shown) in [
        ("\x1b]0;owned\x07\x1b[2J\r\n\u{202e}evil\u{200b}", "]0;owned[2Jevil".to_owned()),
        ("  spaces  ", "spaces".into()),
        (&"long".repeat(60)[..], "long".repeat(60)),
    ] {
        let hello = Hello { name: name.into(), ..hello() };
        let (channel, _) =
            BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello, None).await.unwrap();
        let told =
            |event: &EventKind| matches!(event, EventKind::ProxyConnected { name, .. } if *name == shown);
        server.tunnel.event(&shown, told).await;
        drop(channel);
    }
    for name in ["", "\x1b\x07", "   "] {
        let hello = Hello { name: name.into(), ..hello() };
        let (channel, _) =
            BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello, None).await.unwrap();
        let id = server.channel(channel.socket.local_addr().unwrap()).await.proxy;
        let told = |event: &EventKind| matches!(event, EventKind::ProxyConnected { proxy, name, .. } if *proxy == id && *name == id.to_string());
        server.tunnel.event("a proxy without a name", told).await;
    }
    server.end().await;
}
