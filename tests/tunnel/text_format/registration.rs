//! Registration and departure of text proxies.

use super::*;

#[tokio::test]
async fn registration_is_answered_as_documented() {
    let tunnel = Tunnel::start().await;
    let auth = tunnel.token.reveal();
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, auth);
    for (request, fields, beginning) in [
        (format!("|0|AUTH|{auth}\n|0|ADDPROXY:0:default:80|\n"), FieldCount::Four, "|0|RESPONSE|"),
        (format!("|0|AUTH|{auth}\r\n|0|ADDPROXY:0\r\n"), FieldCount::Four, "|0|RESPONSE|"),
        (format!("|AUTH|{auth}\n|ADDPROXY:0:default:80|\n"), FieldCount::Three, "|RESPONSE|"),
        (format!("\n|AUTH|{auth}\n\n|ADDPROXY:0"), FieldCount::Three, "|RESPONSE|"),
    ] {
        let mut channel = TextChannel::connect(tunnel.addr, fields).await;
        channel.send_raw(request.as_bytes()).await;
        if !request.ends_with('\n') {
            channel.send_raw(b"\n").await;
        }
        let ping = channel.hear_raw().await.unwrap();
        let answer = if ping.contains("|PING|") { channel.hear_raw().await.unwrap() } else { ping };
        let data = answer.strip_prefix(beginning).unwrap_or_else(|| panic!("{answer}"));
        let data = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).unwrap();
        let service = String::from_utf8(data).unwrap();
        let port: u16 = service.strip_suffix(":default").unwrap().parse().unwrap();
        let public = SocketAddr::new(LOOPBACK.ip(), port);
        assert_serves_one(&mut channel, public).await;
        let snapshot = tunnel.telemetry.snapshot();
        let proxy = snapshot.proxies.iter().find(|proxy| proxy.services[0].port == port).unwrap();
        let format =
            if fields == FieldCount::Three { ChannelFormat::ThreeFieldText } else { ChannelFormat::Text };
        assert_eq!(proxy.channels[0].format, format);
    }
    tunnel.end().await;
}

#[tokio::test]
async fn registration_requires_the_token_and_an_allowed_address() {
    enum Outcome {
        Refused(&'static str),
        Serves,
    }
    use Outcome::{Refused, Serves};
    let token = "the token";
    let cases = [
        (
            TextProxies::Off,
            false,
            vec![("AUTH", token)],
            Refused("text-format proxies are not allowed from this address (server option --text)"),
        ),
        (
            TextProxies::Off,
            true,
            vec![("ADDPROXY:0", "")],
            Refused("text-format proxies are not allowed from this address (server option --text)"),
        ),
        (TextProxies::Loopback, false, vec![("AUTH", "wrong")], Refused("wrong token")),
        (TextProxies::Loopback, false, vec![("AUTH", "")], Refused("wrong token")),
        (TextProxies::Loopback, true, vec![("AUTH", "wrong")], Refused("wrong token")),
        (
            TextProxies::Loopback,
            false,
            vec![("ADDPROXY:0", "")],
            Refused("not authenticated: send AUTH with the token first"),
        ),
        (
            TextProxies::Loopback,
            false,
            vec![("PING", "")],
            Refused("not authenticated: send AUTH with the token first"),
        ),
        (
            TextProxies::Loopback,
            false,
            vec![("AUTH", token), ("PING", "")],
            Refused("not registered: send ADDPROXY with the port and group first"),
        ),
        (
            TextProxies::Loopback,
            true,
            vec![("PING", "")],
            Refused("not registered: send ADDPROXY with the port and group first"),
        ),
        (TextProxies::Loopback, true, vec![("ADDPROXY:0", "")], Serves),
        (TextProxies::Loopback, false, vec![("AUTH", token), ("ADDPROXY:0", "")], Serves),
        (TextProxies::Anywhere, false, vec![("AUTH", token), ("ADDPROXY:0", "")], Serves),
    ];
    for (text, text_without_token, says, outcome) in cases {
        let config = underpass::config::ServerConfig {
            listen: LOOPBACK,
            bind: LOOPBACK.ip(),
            text_proxies: text,
            text_without_token,
            ..Default::default()
        };
        let tunnel = Tunnel::bind(config, underpass::wire::handshake::Token::new(token)).await;
        for fields in BOTH {
            let mut channel = TextChannel::connect(tunnel.addr, fields).await;
            for (action, data) in &says {
                channel.send("", 0, action, data.as_bytes()).await;
            }
            match outcome {
                Refused(reason) => {
                    let error = channel.hear_action("ERROR").await.text();
                    let (code, sentence) = error.split_once(": ").unwrap();
                    assert!(code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{error}");
                    assert_eq!(sentence, reason);
                    assert_eq!(channel.hear_raw().await, None);
                    let is_expected = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { reason: text, .. } if text.contains(reason));
                    tunnel.event(reason, is_expected).await;
                }
                Serves => {
                    channel.hear_action("RESPONSE").await;
                }
            }
        }
        tunnel.end().await;
    }
}

/// Proxies usually send the registration directly behind the token. If the server closed the socket with that line
/// unread, the kernel would send an RST, which can destroy the ERROR with the reason before the proxy has read it.
#[tokio::test]
async fn a_refusal_is_delivered_before_the_connection_closes() {
    let tunnel = Tunnel::start().await;
    let address = std::net::IpAddr::from([127, 0, 0, 1]).into();
    for _ in 0..50 {
        // Forgets the wrong tokens, which would be delayed and then blocked.
        _ = tunnel.order(underpass::control::Command::Unblock(address)).await;
        let mut channel = TextChannel::connect(tunnel.addr, FieldCount::Four).await;
        channel.send("", 0, "AUTH", b"wrong").await;
        soon("something to read", channel.read.get_ref().readable()).await.unwrap();
        for _ in 0..3 {
            channel.send("", 0, "ADDPROXY:0", b"").await;
        }
        channel.hear_that("", 0, "ERROR", b"WRONG_TOKEN: wrong token").await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_refused_registration_gets_a_reason_and_keeps_the_channel() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
    let taken = target::idle().await;
    for (request, code, reason) in [
        (
            format!("ADDPROXY:{}", taken.addr.port()),
            "PORT_IN_USE",
            format!("port {} is in use on the server", taken.addr.port()),
        ),
        (
            "ADDPROXY:80".into(),
            "PORT_NOT_ALLOWED",
            "port 80 is not allowed: the server allows ports 1024-65535".into(),
        ),
        (
            format!("ADDPROXY:{}:blue", public.port()),
            "OTHER_GROUP",
            format!(
                "port {} is already served by group «default»: give --group default to share its users, or choose \
                 another port",
                public.port()
            ),
        ),
    ] {
        channel.send("", 0, &request, b"").await;
        assert_eq!(channel.hear_action("ERROR").await.text(), format!("{code}: {reason}"));
        let is_expected = |event: &EventKind| matches!(event, EventKind::RegistrationRefused { reason: shown, .. } if *shown == reason);
        tunnel.event(&reason, is_expected).await;
    }
    assert_serves_one(&mut channel, public).await;
    tunnel.end().await;
}

#[tokio::test]
async fn exit_drains_the_proxy() {
    let tunnel = Tunnel::start().await;
    let (mut leaving, public) = registered_proxy(&tunnel, FieldCount::Four, 0).await;
    let (mut socket, start) = connect_user(&mut leaving, public).await;
    leaving.send("", 0, "EXIT", b"").await;
    leaving.settle().await;
    let (mut staying, _) = registered_proxy(&tunnel, FieldCount::Four, public.port()).await;
    assert_serves_one(&mut staying, public).await;
    assert_serves_one(&mut staying, public).await;
    leaving.answer(&start, "STREAM_START", b"").await;
    leaving.answer(&start, "STREAM_DATA", b"to the end").await;
    leaving.answer(&start, "STREAM_END", b"").await;
    assert_eq!(read_to_end(&mut socket).await, (b"to the end".to_vec(), Ok(())));
    drop(socket);
    leaving.hear_action("STREAM_END").await;
    drop(leaving);
    let event =
        tunnel.event("the disconnect", |event| matches!(event, EventKind::ProxyDisconnected { .. })).await;
    assert!(
        matches!(event, EventKind::ProxyDisconnected { reason: DisconnectReason::GoAway, .. }),
        "{event}"
    );
    tunnel.end().await;
}
