//! The text format against the real server, from a socket: what the server sends is looked at as it stands on the wire.

use std::{io, net::SocketAddr, time::Duration};

use crate::support::{
    soon,
    target::{self, LOOPBACK},
    text::{BOTH, FieldCount, Said, TextChannel},
    tunnel::Tunnel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use underpass::{
    config::{ProxyFormat, TextProxies},
    telemetry::{ChannelFormat, DisconnectReason, EndReason, EventKind},
};

/// The first window of a stream.
const WINDOW: usize = 256 * 1024;

/// What a text proxy has waiting in the server at the most, with what is read at once and the lines around it.
const MOST: usize = (16 << 20) + (1 << 20);

/// A proxy that proved itself and serves the public address, of any free port unless one is given.
async fn serving(tunnel: &Tunnel, fields: FieldCount, port: u16) -> (TextChannel, SocketAddr) {
    let mut channel = TextChannel::connect(tunnel.addr, fields).await;
    channel.send("", 0, "AUTH", tunnel.token.reveal().as_bytes()).await;
    channel.send("", 0, &format!("ADDPROXY:{port}"), b"").await;
    let answer = channel.hear_action("RESPONSE").await.text();
    let port = answer.strip_suffix(":default").unwrap().parse().unwrap();
    (channel, SocketAddr::new(LOOPBACK.ip(), port))
}

/// A user, and the START that the proxy heard of it.
async fn user(channel: &mut TextChannel, public: SocketAddr) -> (TcpStream, Said) {
    let socket = TcpStream::connect(public).await.unwrap();
    (socket, channel.hear_action("STREAM_START").await)
}

/// What a user gets until its connection ends, and how that ends.
async fn rest(socket: &mut TcpStream) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = soon("the user's end", socket.read_to_end(&mut bytes)).await;
    (bytes, ended.map(drop).map_err(|error| error.kind()))
}

/// A channel that serves one user from beginning to end: as good as new.
async fn serves_one(channel: &mut TextChannel, public: SocketAddr) {
    let (mut socket, start) = user(channel, public).await;
    socket.write_all(b"question").await.unwrap();
    socket.shutdown().await.unwrap();
    let said = channel.hear_action("STREAM_DATA").await;
    assert_eq!((said.key(), &said.data[..]), (start.key(), &b"question"[..]));
    channel.hear_action("STREAM_END").await;
    channel.answer(&start, "STREAM_START", b"").await;
    channel.answer(&start, "STREAM_DATA", b"answer").await;
    channel.answer(&start, "STREAM_END", b"").await;
    assert_eq!(rest(&mut socket).await, (b"answer".to_vec(), Ok(())));
}

async fn no_session(tunnel: &Tunnel, key: &str) {
    let told = |event: &EventKind| matches!(event, EventKind::UnknownStream { key: of, .. } if of.to_string() == key);
    tunnel.event(&format!("no session for {key}"), told).await;
}

/// Why the only channel that is gone so far is gone.
async fn gone(tunnel: &Tunnel) -> DisconnectReason {
    let event =
        tunnel.event("a lost channel", |event| matches!(event, EventKind::ChannelDisconnected { .. })).await;
    let EventKind::ChannelDisconnected { reason, .. } = event else { unreachable!() };
    reason
}

#[tokio::test]
async fn registration_is_answered_on_the_wire_as_documented() {
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
        serves_one(&mut channel, public).await;
        let snapshot = tunnel.telemetry.snapshot();
        let proxy = snapshot.proxies.iter().find(|proxy| proxy.services[0].port == port).unwrap();
        let format =
            if fields == FieldCount::Three { ChannelFormat::ThreeFieldText } else { ChannelFormat::Text };
        assert_eq!(proxy.channels[0].format, format);
    }
    tunnel.end().await;
}

#[tokio::test]
async fn who_may_register_in_the_text_format() {
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
            Refused("text-format proxies are not allowed from this address"),
        ),
        (
            TextProxies::Off,
            true,
            vec![("ADDPROXY:0", "")],
            Refused("text-format proxies are not allowed from this address"),
        ),
        (TextProxies::Loopback, false, vec![("AUTH", "wrong")], Refused("wrong token")),
        (TextProxies::Loopback, false, vec![("AUTH", "")], Refused("wrong token")),
        (TextProxies::Loopback, true, vec![("AUTH", "wrong")], Refused("wrong token")),
        (TextProxies::Loopback, false, vec![("ADDPROXY:0", "")], Refused("send AUTH with the token first")),
        (TextProxies::Loopback, false, vec![("PING", "")], Refused("send AUTH with the token first")),
        (
            TextProxies::Loopback,
            false,
            vec![("AUTH", token), ("PING", "")],
            Refused("register with ADDPROXY first"),
        ),
        (TextProxies::Loopback, true, vec![("PING", "")], Refused("register with ADDPROXY first")),
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
                    channel.hear_that("", 0, "ERROR", reason.as_bytes()).await;
                    assert_eq!(channel.hear_raw().await, None);
                    let told = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { reason: told, .. } if told.contains(reason));
                    tunnel.event(reason, told).await;
                }
                Serves => {
                    channel.hear_action("RESPONSE").await;
                }
            }
        }
        tunnel.end().await;
    }
}

/// A registration usually follows the token without a pause. If the server closed over it, the kernel would answer
/// with a reset, which may cost the peer the ERROR that tells why.
#[tokio::test]
async fn a_refusal_is_heard_although_more_was_said() {
    let tunnel = Tunnel::start().await;
    for _ in 0..50 {
        let mut channel = TextChannel::connect(tunnel.addr, FieldCount::Four).await;
        channel.send("", 0, "AUTH", b"wrong").await;
        soon("something to read", channel.read.get_ref().readable()).await.unwrap();
        for _ in 0..3 {
            channel.send("", 0, "ADDPROXY:0", b"").await;
        }
        channel.hear_that("", 0, "ERROR", b"wrong token").await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_registration_that_is_refused_gets_a_reason_and_the_channel_lives() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
    let taken = target::idle().await;
    for (request, reason) in [
        (
            format!("ADDPROXY:{}", taken.addr.port()),
            format!("port {} is in use on the server", taken.addr.port()),
        ),
        ("ADDPROXY:80".into(), "port 80 is not allowed: the server allows ports 1024-65535".into()),
        (
            format!("ADDPROXY:{}:blue", public.port()),
            format!("port {} is already served by group «default»", public.port()),
        ),
    ] {
        channel.send("", 0, &request, b"").await;
        assert_eq!(channel.hear_action("ERROR").await.text(), reason);
        let told = |event: &EventKind| matches!(event, EventKind::RegistrationRefused { reason: told, .. } if *told == reason);
        tunnel.event(&reason, told).await;
    }
    serves_one(&mut channel, public).await;
    tunnel.end().await;
}

#[tokio::test]
async fn data_before_start_is_held_and_delivered_after_it() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = serving(&tunnel, fields, 0).await;
        let (mut socket, start) = user(&mut channel, public).await;
        for piece in [&b"ear"[..], b"", b"ly "] {
            channel.answer(&start, "STREAM_DATA", piece).await;
        }
        channel.settle().await;
        assert_eq!(socket.try_read(&mut [0; 9]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_DATA", b"bird").await;
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_END", b"").await;
        let mut bytes = [0; 10];
        soon("the bytes", socket.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"early bird");
        drop(socket);
        serves_one_after_leftovers(&mut channel, public).await;
    }
    tunnel.end().await;
}

/// [`serves_one`], after what is still under way for the stream before.
async fn serves_one_after_leftovers(channel: &mut TextChannel, public: SocketAddr) {
    let mut left = channel.hear_other().await;
    while left.action != "STREAM_END" && left.action != "STREAM_RESET" {
        left = channel.hear_other().await;
    }
    serves_one(channel, public).await;
}

#[tokio::test]
async fn too_much_data_before_start_has_no_session() {
    let tunnel = Tunnel::start().await;
    for (fields, line) in [(FieldCount::Four, 30_000), (FieldCount::Three, 1)] {
        let (mut channel, public) = serving(&tunnel, fields, 0).await;
        let (mut socket, start) = user(&mut channel, public).await;
        let name = tunnel.stream_of(socket.local_addr().unwrap()).await.key.to_string();
        let lines = 300_000 / line.max(256) + 1;
        for _ in 0..lines {
            channel.answer(&start, "STREAM_DATA", &vec![1; line]).await;
        }
        let said = channel.hear_action("ERROR").await;
        assert_eq!(
            (said.key(), said.text()),
            (start.key(), format!("no session for stream {}", start.key()))
        );
        no_session(&tunnel, &name).await;
        let (bytes, ended) = rest(&mut socket).await;
        assert_eq!((bytes.len(), ended), (0, Err(io::ErrorKind::ConnectionReset)));
        // The rest for that stream was under way, and is not answered line by line.
        channel.settle().await;
        serves_one(&mut channel, public).await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn data_for_a_stream_that_never_was_has_no_session() {
    let tunnel = Tunnel::start().await;
    for (fields, key) in [(FieldCount::Four, "ABC123:7"), (FieldCount::Three, "ABC123:0")] {
        let (mut channel, public) = serving(&tunnel, fields, 0).await;
        for action in ["STREAM_DATA", "STREAM_DATA", "RESPONSE", "FORWARD", "STREAM_START"] {
            channel.send("ABC123", 7, action, b"who am I").await;
        }
        let said = channel.hear_action("ERROR").await;
        assert_eq!((said.key(), said.text()), (key.to_owned(), format!("no session for stream {key}")));
        no_session(&tunnel, key).await;
        // What ends or pauses nothing is no mistake.
        for action in ["STREAM_END", "STREAM_RESET", "ERROR", "EXIT", "STREAM_PAUSE", "STREAM_RESUME"] {
            channel.send("ABC124", 7, action, b"").await;
        }
        channel.settle().await;
        serves_one(&mut channel, public).await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_malformed_line_ends_its_channel_and_nothing_else() {
    let long = |n: usize| [&b"ABC123|1|STREAM_DATA|"[..], &vec![b'A'; n], b"\n"].concat();
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("bad base64", b"|0|PING|@@@@\n".into(), "not base64"),
        ("base64 without its padding", b"|0|PING|QQ\n".into(), "not base64"),
        ("unknown action", b"|0|STREAM_FLY|\n".into(), "unknown action"),
        ("an action in lower case", b"|0|ping|\n".into(), "unknown action"),
        ("no fields", b"hello\n".into(), "a line is USER|STREAM|ACTION|DATA"),
        ("too many fields", b"|0|PING|QQ==|QQ==\n".into(), "a line is USER|STREAM|ACTION|DATA"),
        ("a user that is none", b"XYZ|1|STREAM_DATA|\n".into(), "six hexadecimal digits"),
        ("a stream id that is none", b"ABC123|99999999999|STREAM_DATA|\n".into(), "decimal number"),
        ("not UTF-8", b"\xff|0|PING|\n".into(), "not UTF-8"),
        ("a bad registration", b"|0|ADDPROXY:99999|\n".into(), "ADDPROXY expects"),
        ("a line of more than 1 MiB", long(1 << 20), "too long"),
        ("a line of more than 1 MiB without an end", vec![b'A'; (1 << 20) + 1], "too long"),
    ];
    let mut tunnel = Tunnel::start().await;
    let echo = target::echo().await;
    let other = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
    for (what, line, reason) in cases {
        let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
        let (mut socket, start) = user(&mut channel, public).await;
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_DATA", b"half of").await;
        let told = |event: &EventKind| matches!(event, EventKind::ChannelDisconnected { reason: DisconnectReason::Protocol(told), .. } if told.contains(reason));
        let before = tunnel.events().iter().filter(|event| told(event)).count();
        // It may be closed before the last byte is taken.
        _ = soon(what, channel.write.write_all(&line)).await;
        let (bytes, ended) = rest(&mut socket).await;
        assert_eq!((&bytes[..], ended), (&b"half of"[..], Err(io::ErrorKind::ConnectionReset)), "{what}");
        tunnel
            .until(what, |_| tunnel.events().iter().filter(|event| told(event)).count() == before + 1)
            .await;
        let mut last = None;
        while let Some(line) = channel.hear_raw().await {
            last = Some(line);
        }
        let last = last.unwrap_or_default();
        let data = last.strip_prefix("|0|ERROR|").unwrap_or_else(|| panic!("{what}: {last}"));
        let data = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).unwrap();
        assert!(String::from_utf8(data).unwrap().contains(reason), "{what}: {last}");
        serves_a_fresh_user(other).await;
        let (mut again, public) = serving(&tunnel, FieldCount::Four, public.port()).await;
        serves_one(&mut again, public).await;
    }
    tunnel.end().await;
}

async fn serves_a_fresh_user(public: SocketAddr) {
    let mut socket = TcpStream::connect(public).await.unwrap();
    socket.write_all(b"still there?").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(rest(&mut socket).await, (b"still there?".to_vec(), Ok(())));
}

#[tokio::test]
async fn a_line_of_one_mebibyte_is_taken() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
    let (mut socket, start) = user(&mut channel, public).await;
    channel.answer(&start, "STREAM_START", b"").await;
    let around = channel.line(&start.user, 1, "STREAM_DATA", b"").len();
    let data: Vec<u8> = (0..((1 << 20) - around) / 4 * 3).map(|n| n as u8).collect();
    let (read, _) = tokio::join!(rest(&mut socket), async {
        channel.answer(&start, "STREAM_DATA", &data).await;
        channel.answer(&start, "STREAM_END", b"").await;
    });
    assert!(read == (data, Ok(())));
    socket.shutdown().await.unwrap();
    tunnel.end().await;
}

#[tokio::test]
async fn bytes_after_the_end_of_a_stream_never_reach_the_user() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
    let (mut socket, start) = user(&mut channel, public).await;
    for (action, data) in [
        ("STREAM_START", ""),
        ("STREAM_DATA", "all"),
        ("STREAM_END", ""),
        ("STREAM_END", ""),
        ("STREAM_DATA", "not"),
    ] {
        channel.answer(&start, action, data.as_bytes()).await;
    }
    let (bytes, ended) = rest(&mut socket).await;
    assert!(
        b"all".starts_with(&bytes) && ended == Err(io::ErrorKind::ConnectionReset),
        "{bytes:?} {ended:?}"
    );
    assert_eq!(gone(&tunnel).await, DisconnectReason::Protocol("final size of a stream changed".into()));
    tunnel.end().await;
}

#[tokio::test]
async fn forward_and_response_open_and_carry() {
    let tunnel = Tunnel::start().await;
    for action in ["FORWARD", "RESPONSE"] {
        let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
        let (mut socket, start) = user(&mut channel, public).await;
        channel.answer(&start, action, b"all at ").await;
        channel.answer(&start, action, b"once").await;
        channel.answer(&start, "STREAM_END", b"").await;
        assert_eq!(rest(&mut socket).await, (b"all at once".to_vec(), Ok(())));
        drop(socket);
        channel.hear_action("STREAM_END").await;
        serves_one(&mut channel, public).await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn the_size_that_start_tells_is_shown() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
    for (data, size) in
        [("20971520", Some(20_971_520)), ("MjA5NzE1MjA=", Some(20_971_520)), ("", None), ("LTE=", None)]
    {
        let (socket, start) = user(&mut channel, public).await;
        channel.send_raw(format!("{}|{}|STREAM_START|{data}\n", start.user, start.stream).as_bytes()).await;
        channel.settle().await;
        let stream = tunnel.stream_of(socket.local_addr().unwrap()).await;
        assert_eq!(
            (stream.key.to_string(), stream.progress.map(|progress| progress.size)),
            (start.key(), size),
            "{data}"
        );
        drop(socket);
        channel.hear_action("STREAM_END").await;
        channel.answer(&start, "STREAM_END", b"").await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn pings_are_answered_and_measured() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = serving(&tunnel, fields, 0).await;
        for data in [&b""[..], b"x", &[0, 255, b'|', b'\n']] {
            channel.send("", 0, "PING", data).await;
            assert_eq!(channel.hear_action("PONG").await.data, data);
        }
        // The server's own ping came before the registration was answered.
        tunnel
            .until("a round trip", |snapshot| {
                let mut proxies = snapshot.proxies.iter();
                let proxy = proxies.find(|proxy| proxy.services[0].port == public.port()).unwrap();
                proxy.channels[0].last_rtt.is_some_and(|rtt| rtt < Duration::from_secs(1))
            })
            .await;
    }
    tunnel.end().await;
}

/// Says bytes of a stream until nothing more is taken; how many.
async fn until_stuck(channel: &mut TextChannel, start: &Said) -> u64 {
    let line = channel.line(&start.user, start.stream.parse().unwrap(), "STREAM_DATA", &[7; 30_000]);
    let mut lines = 0;
    // Cancelling it may leave half a line: nothing more can be said on this channel afterwards.
    while tokio::time::timeout(Duration::from_millis(500), channel.write.write_all(line.as_bytes()))
        .await
        .is_ok()
    {
        lines += 1;
    }
    lines * 30_000
}

#[tokio::test]
async fn a_slow_user_pauses_its_stream_and_resumes_it() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = serving(&tunnel, fields, 0).await;
        let (mut slow, first) = user(&mut channel, public).await;
        let (mut fast, second) = user(&mut channel, public).await;
        channel.answer(&first, "STREAM_START", b"").await;
        channel.answer(&second, "STREAM_START", b"").await;
        let mut sent = 0;
        let paused = loop {
            channel.answer(&first, "STREAM_DATA", &[7; 30_000]).await;
            sent += 30_000;
            if sent > 1_000_000
                && let Ok(said) = tokio::time::timeout(Duration::from_millis(2), channel.hear_other()).await
            {
                break said;
            }
        };
        assert_eq!((paused.action.as_str(), paused.key()), ("STREAM_PAUSE", first.key()));
        // One who honours it serves the others as before.
        channel.answer(&second, "STREAM_DATA", b"quick").await;
        channel.answer(&second, "STREAM_END", b"").await;
        assert_eq!(rest(&mut fast).await, (b"quick".to_vec(), Ok(())));
        fast.shutdown().await.unwrap();
        channel.answer(&first, "STREAM_END", b"").await;
        let (bytes, ended) = rest(&mut slow).await;
        assert_eq!((bytes.len(), ended), (sent, Ok(())));
        slow.shutdown().await.unwrap();
        // The kernel may have taken a little more in between: a pause and its resumption come in turn.
        let (mut paused, mut ends) = (true, 0);
        while ends < 2 {
            let said = channel.hear_other().await;
            match said.action.as_str() {
                "STREAM_END" => ends += 1,
                "STREAM_PAUSE" if !paused && said.key() == first.key() => paused = true,
                "STREAM_RESUME" if paused && said.key() == first.key() => paused = false,
                _ => panic!("{said:?}"),
            }
        }
        assert!(!paused);
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_proxy_that_ignores_pause_loses_its_own_channel_only_and_fills_no_memory() {
    let mut tunnel = Tunnel::start().await;
    let echo = target::echo().await;
    let other = tunnel.proxy(echo.addr, ProxyFormat::Text).await;
    let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
    let (mut slow, start) = user(&mut channel, public).await;
    channel.answer(&start, "STREAM_START", b"").await;
    until_stuck(&mut channel, &start).await;
    let stream = tunnel.stream_of(slow.local_addr().unwrap()).await;
    let snapshot = tunnel.telemetry.snapshot();
    let proxy = snapshot.proxies.iter().find(|proxy| proxy.services[0].port == public.port()).unwrap();
    let held = (proxy.channels[0].received * 3 / 4) as usize - stream.down as usize;
    assert!(held < MOST, "{held} bytes wait in the server");
    serves_a_fresh_user(other).await;
    // The channel is not dead, only not read: with its user gone it goes on.
    slow.read_exact(&mut vec![0; 100_000]).await.unwrap();
    drop(slow);
    let (mut another, public) = serving(&tunnel, FieldCount::Four, public.port()).await;
    serves_one_among(&mut another, public).await;
    drop(channel);
    tunnel.end().await;
}

/// [`serves_one`], while another proxy of the service may get the user, who then tries again.
async fn serves_one_among(channel: &mut TextChannel, public: SocketAddr) {
    loop {
        let _socket = TcpStream::connect(public).await.unwrap();
        if let Ok(said) =
            tokio::time::timeout(Duration::from_millis(200), channel.hear_action("STREAM_START")).await
        {
            channel.answer(&said, "STREAM_RESET", b"").await;
            return;
        }
    }
}

/// A simple proxy does one thing at a time: while it cannot write, it does not read. A download that its user does
/// not read stops the server's reading, an upload beside it fills the other direction, and then both sides waited for
/// each other for ever, because the server noticed that the slow user had read on, or had left, only when it could
/// write again.
#[tokio::test]
async fn a_proxy_that_writes_before_it_reads_gets_on_with_its_slow_user() {
    for slow_user_leaves in [false, true] {
        let tunnel = Tunnel::start().await;
        let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
        let (mut slow, down) = user(&mut channel, public).await;
        channel.answer(&down, "STREAM_START", b"").await;
        let (uploading, up) = user(&mut channel, public).await;
        channel.answer(&up, "STREAM_START", b"").await;
        channel.settle().await;
        // Nothing is read from here on.
        let line = channel.line(&down.user, down.stream.parse().unwrap(), "STREAM_DATA", &[7; 30_000]);
        let mut written = 0;
        while let Ok(n) =
            tokio::time::timeout(Duration::from_millis(500), channel.write.write(&line.as_bytes()[written..]))
                .await
        {
            written = (written + n.unwrap()) % line.len();
        }
        let (mut uploading_read, mut uploading_write) = uploading.into_split();
        let piece = vec![1; 256 * 1024];
        while tokio::time::timeout(Duration::from_millis(500), uploading_write.write_all(&piece))
            .await
            .is_ok()
        {}
        let writing = async {
            channel.write.write_all(&line.as_bytes()[written..]).await.unwrap();
            // As much again as the kernel held.
            for _ in 0..400 {
                channel.write.write_all(line.as_bytes()).await.unwrap();
            }
        };
        if slow_user_leaves {
            drop(slow);
            soon("the proxy writes on", writing).await;
        } else {
            let reading = async {
                let mut buffer = vec![0; 256 * 1024];
                while slow.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            };
            tokio::select! {
                () = soon("the proxy writes on", writing) => {}
                () = reading => panic!("the slow user lost its stream"),
            }
        }
        drop(channel);
        let mut nothing = Vec::new();
        _ = soon("the end of the upload", uploading_read.read_to_end(&mut nothing)).await;
        drop(uploading_write);
        tunnel.end().await;
    }
}

#[tokio::test]
async fn a_proxy_that_pauses_an_upload_gets_a_window_more_at_the_most() {
    let tunnel = Tunnel::start().await;
    for fields in BOTH {
        let (mut channel, public) = serving(&tunnel, fields, 0).await;
        let (socket, start) = user(&mut channel, public).await;
        channel.answer(&start, "STREAM_START", b"").await;
        channel.answer(&start, "STREAM_PAUSE", b"").await;
        channel.settle().await;
        let (_read, mut write) = socket.into_split();
        let size = 8 << 20;
        let upload = crate::support::Running::start(async move {
            write.write_all(&vec![5; size]).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut received = 0;
        while let Ok(said) = tokio::time::timeout(Duration::from_millis(500), channel.hear_other()).await {
            assert_eq!(said.action, "STREAM_DATA");
            received += said.data.len();
        }
        assert!(received <= WINDOW, "{received} bytes came after the pause");
        channel.answer(&start, "STREAM_RESUME", b"").await;
        loop {
            let said = channel.hear_other().await;
            received += said.data.len();
            if said.action == "STREAM_END" {
                break;
            }
        }
        assert_eq!(received, size);
        upload.end("the upload").await;
        channel.answer(&start, "STREAM_END", b"").await;
    }
    tunnel.end().await;
}

#[tokio::test]
async fn a_proxy_that_says_exit_gets_no_new_users_and_keeps_its_old_ones() {
    let tunnel = Tunnel::start().await;
    let (mut leaving, public) = serving(&tunnel, FieldCount::Four, 0).await;
    let (mut socket, start) = user(&mut leaving, public).await;
    leaving.send("", 0, "EXIT", b"").await;
    leaving.settle().await;
    let (mut staying, _) = serving(&tunnel, FieldCount::Four, public.port()).await;
    serves_one(&mut staying, public).await;
    serves_one(&mut staying, public).await;
    leaving.answer(&start, "STREAM_START", b"").await;
    leaving.answer(&start, "STREAM_DATA", b"to the end").await;
    leaving.answer(&start, "STREAM_END", b"").await;
    assert_eq!(rest(&mut socket).await, (b"to the end".to_vec(), Ok(())));
    drop(socket);
    leaving.hear_action("STREAM_END").await;
    drop(leaving);
    let event =
        tunnel.event("its goodbye", |event| matches!(event, EventKind::ProxyDisconnected { .. })).await;
    assert!(
        matches!(event, EventKind::ProxyDisconnected { reason: DisconnectReason::GoAway, .. }),
        "{event}"
    );
    tunnel.end().await;
}

/// An old proxy knows users only, so each stream gets a user's name on its wire. On screens and in events it keeps
/// its own.
#[tokio::test]
async fn to_an_old_proxy_each_stream_is_a_user_and_to_the_operator_it_is_not() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = serving(&tunnel, FieldCount::Three, 0).await;
    let (mut first, one) = user(&mut channel, public).await;
    let (mut second, two) = user(&mut channel, public).await;
    assert_ne!(one.user, two.user);
    let keys = [&first, &second].map(|socket| socket.local_addr().unwrap());
    let keys = [tunnel.stream_of(keys[0]).await.key, tunnel.stream_of(keys[1]).await.key];
    assert_eq!(keys.map(|key| key.stream.0), [1, 2]);
    assert_eq!([&keys[0].user.to_string(), &keys[1].user.to_string()], [&one.user, &one.user]);
    for (start, bytes) in [(&two, &b"second"[..]), (&one, b"first")] {
        channel.answer(start, "STREAM_START", b"").await;
        channel.answer(start, "STREAM_DATA", bytes).await;
        channel.answer(start, "STREAM_END", b"").await;
    }
    assert_eq!(rest(&mut first).await, (b"first".to_vec(), Ok(())));
    assert_eq!(rest(&mut second).await, (b"second".to_vec(), Ok(())));
    drop((first, second));
    for _ in 0..2 {
        channel.hear_action("STREAM_END").await;
    }

    // The third one floods before its START: the proxy is told of the name that it knows, the operator of the stream.
    let (mut third, three) = user(&mut channel, public).await;
    let key = tunnel.stream_of(third.local_addr().unwrap()).await.key;
    for _ in 0..12 {
        channel.answer(&three, "STREAM_DATA", &[1; 30_000]).await;
    }
    let said = channel.hear_action("ERROR").await;
    assert_eq!(said.user, three.user);
    assert_eq!(rest(&mut third).await.1, Err(io::ErrorKind::ConnectionReset));
    no_session(&tunnel, &key.to_string()).await;
    assert_eq!(tunnel.ended(key).await.0, EndReason::Protocol("protocol violation".into()));
    tunnel.end().await;
}

#[tokio::test]
async fn what_a_proxy_resets_is_told_apart() {
    let tunnel = Tunnel::start().await;
    let (mut channel, public) = serving(&tunnel, FieldCount::Four, 0).await;
    for (accepts, action, reason) in [
        (false, "STREAM_RESET", EndReason::TargetConnectFailed("the target refused the connection".into())),
        (true, "STREAM_RESET", EndReason::TargetSocketError),
        (true, "ERROR", EndReason::TargetSocketError),
        (true, "EXIT", EndReason::TargetSocketError),
    ] {
        let (mut socket, start) = user(&mut channel, public).await;
        if accepts {
            channel.answer(&start, "STREAM_START", b"").await;
            channel.answer(&start, "STREAM_DATA", b"half").await;
            soon("half", socket.read_exact(&mut [0; 4])).await.unwrap();
        }
        channel.answer(&start, action, b"it broke").await;
        assert_eq!(rest(&mut socket).await, (vec![], Err(io::ErrorKind::ConnectionReset)));
        assert_eq!(tunnel.ended(start.key().parse().unwrap()).await.0, reason);
    }
    tunnel.end().await;
}
