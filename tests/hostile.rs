//! What comes at the server from strangers, from proxies that break the protocol, and from a machine that has run out
//! of descriptors. Every case ends with a fresh user who is served, and every server with nothing left.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use support::{
    Running,
    binary::{BinaryChannel, add_proxy, bytes, hello},
    process::Process,
    soon,
    target::{self, LOOPBACK, Target},
    tunnel::{RunningProxy, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    process::Command,
    task::JoinSet,
};
use underpass::{
    config::{ProxyConfig, ProxyFormat, ServerConfig},
    ids::{ChannelId, Priority},
    telemetry::{EndReason, EventKind, GoneReason, Snapshot},
    wire::{
        Frame, Hello, HelloMode, OpenFrame, ResetCode, SyncEntry, TunnelAction, TunnelMessage, Welcome,
        binary,
        handshake::{ClientHandshake, ClientStep, HandshakeError, Token},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// The first window of a stream.
const WINDOW: u32 = 256 * 1024;

/// A server with an honest proxy, whose users shall never notice anything.
struct Server {
    tunnel: Tunnel,
    public: SocketAddr,
    _echo: Target,
}

impl Server {
    async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut tunnel = Tunnel::with(change).await;
        let echo = target::echo().await;
        let public = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
        Self { tunnel, public, _echo: echo }
    }

    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn serves(&self) {
        serves_a_fresh_user(self.public).await;
    }

    /// Why the stranger with this address was turned away.
    async fn turned_away(&self, what: &str, stranger: SocketAddr) -> String {
        let told =
            |event: &EventKind| matches!(event, EventKind::HandshakeFailed { addr, .. } if *addr == stranger);
        match self.tunnel.event(what, told).await {
            EventKind::HandshakeFailed { reason, .. } => reason,
            other => unreachable!("{other}"),
        }
    }

    /// Why the channel from this address is gone.
    async fn gone(&self, what: &str, peer: SocketAddr) -> GoneReason {
        let channel = self.channel(peer).await;
        let told = |event: &EventKind| matches!(event, EventKind::ChannelGone { channel: gone, .. } if *gone == channel);
        match self.tunnel.event(what, told).await {
            EventKind::ChannelGone { reason, .. } => reason,
            other => unreachable!("{other}"),
        }
    }

    async fn channel(&self, peer: SocketAddr) -> ChannelId {
        let told = |event: &EventKind| matches!(event, EventKind::ChannelUp { addr, .. } if *addr == peer);
        match self.tunnel.event("a channel", told).await {
            EventKind::ChannelUp { channel, .. } => channel,
            other => unreachable!("{other}"),
        }
    }

    /// A hostile proxy, one of its users, and how the server opened that.
    async fn hostile(&self) -> (BinaryChannel, TcpStream, OpenFrame, SocketAddr) {
        let (mut channel, _, public) = BinaryChannel::serving(self.tunnel.addr, &self.tunnel.token, 0).await;
        let user = TcpStream::connect(public).await.unwrap();
        let open = channel.opened().await;
        (channel, user, open, public)
    }

    async fn end(self) {
        self.serves().await;
        self.tunnel.end().await;
    }
}

async fn serves_a_fresh_user(public: SocketAddr) {
    let mut user = TcpStream::connect(public).await.unwrap();
    user.write_all(b"still there?").await.unwrap();
    user.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", user.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"still there?");
}

/// What a user gets until its connection ends, and how that ends.
async fn rest(user: &mut TcpStream) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = soon("the user's end", user.read_to_end(&mut bytes)).await;
    (bytes, ended.map(drop).map_err(|error| error.kind()))
}

fn data(stream: u32, offset: u64, payload: &'static [u8], fin: bool) -> Frame {
    Frame::Data { stream, offset, fin, payload: Bytes::from_static(payload) }
}

fn header(kind: u8, flags: u8, reserved: u16, length: u32) -> Vec<u8> {
    [&[kind, flags][..], &reserved.to_be_bytes(), &length.to_be_bytes()].concat()
}

fn after_preface(rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&binary::PREFACE[..], rest.as_ref()].concat()
}

/// How a stranger goes on after it has said its piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Waits,
    Closes,
}

#[tokio::test]
async fn strangers_are_turned_away_by_name() {
    use Then::{Closes, Waits};
    let greeting = bytes([Frame::Hello(hello())]);
    let client_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0xAB; 300]].concat();
    let cases: Vec<(&str, Vec<u8>, Then, &str)> = vec![
        ("nothing, and gone", vec![], Closes, "closed during the handshake"),
        ("nothing, and silence", vec![], Waits, "took too long"),
        ("half a preface", binary::PREFACE[..5].into(), Waits, "took too long"),
        ("half a preface, and gone", binary::PREFACE[..5].into(), Closes, "closed during the handshake"),
        ("a wrong preface", b"\xF5UNDRQ\r\n".into(), Waits, "no frame has the type 0xf5"),
        (
            "a preface that lost its CR",
            b"\xF5UNDRP\n\0\0\0\0\0\0\0\0".into(),
            Waits,
            "no frame has the type 0xf5",
        ),
        ("the preface, and silence", after_preface([]), Waits, "took too long"),
        ("half a header, and gone", after_preface([1, 0, 0]), Closes, "closed during the handshake"),
        ("half a HELLO", after_preface(&greeting[..30]), Waits, "took too long"),
        ("half a HELLO, and gone", after_preface(&greeting[..30]), Closes, "closed during the handshake"),
        ("a HELLO, and silence", after_preface(&greeting), Waits, "took too long"),
        ("a HELLO, and gone", after_preface(&greeting), Closes, "closed during the handshake"),
        ("a HELLO of 4 GiB", after_preface(header(1, 0, 0, u32::MAX)), Waits, "HELLO of 4294967295 bytes"),
        ("a HELLO of nothing", after_preface(header(1, 0, 0, 0)), Waits, "HELLO of 0 bytes"),
        (
            "a HELLO with a name of 1 MiB",
            after_preface([header(1, 0, 0, 48 + (1 << 20)), vec![b'n'; 1 << 20]].concat()),
            Waits,
            "HELLO of 1048624 bytes",
        ),
        ("an unknown type", after_preface(header(0x7f, 0, 0, 8)), Waits, "no frame has the type 0x7f"),
        ("a flag that HELLO has not", after_preface(header(1, 1, 0, 48)), Waits, "HELLO with a reserved bit"),
        ("a reserved byte", after_preface(header(1, 0, 1, 48)), Waits, "HELLO with a reserved bit"),
        ("a PROOF first", after_preface(bytes([Frame::Proof { mac: [0; 32] }])), Waits, "PROOF has no place"),
        ("a PING first", after_preface(bytes([Frame::Ping { token: 1 }])), Waits, "PING has no place"),
        ("DATA of a stranger", after_preface(header(0x12, 0, 0, 200_000)), Waits, "DATA of 200000 bytes"),
        ("two HELLOs", after_preface([&greeting[..], &greeting].concat()), Waits, "HELLO has no place"),
        (
            "another version",
            after_preface(bytes([Frame::Hello(Hello { version: 2, ..hello() })])),
            Waits,
            "version 2 is not spoken here",
        ),
        (
            "a proof of nothing",
            after_preface(bytes([Frame::Hello(hello()), Frame::Proof { mac: [0; 32] }])),
            Waits,
            "wrong token",
        ),
        (
            "a link that is not there",
            after_preface(bytes([
                Frame::Hello(Hello { mode: HelloMode::Join, link: [9; 16], ..hello() }),
                Frame::Proof { mac: [0; 32] },
            ])),
            Waits,
            "no such link",
        ),
        ("a TLS ClientHello", client_hello.clone(), Waits, "took too long"),
        (
            "a TLS ClientHello with a line in it",
            [&client_hello[..], b"\n"].concat(),
            Waits,
            "no underpass peer",
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Waits, "no underpass peer"),
        ("a line that never ends", vec![b'A'; 5000], Waits, "a line is too long"),
        ("half a line, and gone", b"|0|AU".into(), Closes, "closed during the handshake"),
        ("half a line, and silence", b"|0|AU".into(), Waits, "took too long"),
        ("escapes", b"\x1b]0;owned\x07\x1b[2J\n".into(), Waits, "no underpass peer"),
    ];
    let deadline = SECOND;
    let server = Server::with(|config| config.handshake = deadline).await;
    let mut strangers = JoinSet::new();
    for (what, bytes, then, reason) in cases {
        let addr = server.tunnel.addr;
        strangers.spawn(async move {
            let begin = Instant::now();
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let stranger = socket.local_addr().unwrap();
            // It may be turned away before all of it was said.
            _ = soon(what, socket.write_all(&bytes)).await;
            if then == Closes {
                _ = socket.shutdown().await;
            }
            let mut answer = Vec::new();
            _ = soon(what, socket.read_to_end(&mut answer)).await;
            // A generous second beyond, because they all come at once.
            assert!(begin.elapsed() < deadline + 2 * SECOND, "{what}: {:?}", begin.elapsed());
            (what, stranger, reason)
        });
    }
    for (what, stranger, reason) in soon("all are turned away", strangers.join_all()).await {
        let told = server.turned_away(what, stranger).await;
        assert!(told.contains(reason), "{what}: {told}");
        assert!(!told.contains(char::is_control), "{what}: {told:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_handshake_in_single_bytes_has_the_same_deadline() {
    let server = Server::with(|config| config.handshake = SECOND).await;
    let begin = Instant::now();
    let mut socket = TcpStream::connect(server.tunnel.addr).await.unwrap();
    let stranger = socket.local_addr().unwrap();
    let mut bytes = after_preface(bytes([Frame::Hello(hello())])).into_iter();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut buffer = [0; 64];
    soon("it is turned away", async {
        loop {
            tokio::select! {
                _ = tick.tick() => drop(socket.write_all(&[bytes.next().unwrap()]).await),
                read = socket.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { break },
            }
        }
    })
    .await;
    assert!((SECOND..3 * SECOND).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert!(server.turned_away("it", stranger).await.contains("took too long"));
    server.end().await;
}

/// Connects from another address of this machine.
async fn connect_from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), 0)).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// Whether the server turns a connection away at once.
async fn is_turned_away(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 1];
    let read = tokio::time::timeout(Duration::from_millis(20), socket.read(&mut buffer)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn two_thousand_half_open_handshakes_leave_room_for_others() {
    let server = Server::with(|config| config.handshake = 6 * SECOND).await;
    let mut user = TcpStream::connect(server.public).await.unwrap();
    let mut waiting = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut batch = JoinSet::new();
        for _ in 0..100 {
            let addr = server.tunnel.addr;
            batch.spawn(async move {
                let mut socket = TcpStream::connect(addr).await.unwrap();
                _ = socket.write_all(&binary::PREFACE).await;
                let refused = is_turned_away(&mut socket).await;
                (socket, refused)
            });
        }
        for (socket, turned_away) in soon("a hundred connections", batch.join_all()).await {
            refused += usize::from(turned_away);
            if !turned_away {
                waiting.push(socket);
            }
        }
    }
    // Those that were turned away late, on a busy machine.
    let mut still = Vec::new();
    for mut socket in waiting {
        if is_turned_away(&mut socket).await {
            refused += 1;
        } else {
            still.push(socket);
        }
    }
    assert!(still.len() <= 256 && refused >= 2000 - 256, "{} wait, {refused} were refused", still.len());
    // Streams that are open go on, new users are served, and proxies from elsewhere come in.
    user.write_all(b"on").await.unwrap();
    soon("an echo", user.read_exact(&mut [0; 2])).await.unwrap();
    server.serves().await;
    let socket = connect_from([127, 0, 0, 2], server.tunnel.addr).await;
    assert!(is_welcome(socket, &server.tunnel.token).await);
    // And with their time up, from there too.
    drop(still);
    soon("room again", async {
        loop {
            let socket = TcpStream::connect(server.tunnel.addr).await.unwrap();
            if is_welcome(socket, &server.tunnel.token).await {
                break;
            }
        }
    })
    .await;
    drop(user);
    server.end().await;
}

#[tokio::test]
async fn strangers_have_so_many_places_in_all() {
    let server = Server::with(|config| config.max_handshakes = (6, 4)).await;
    let mut strangers = Vec::new();
    for (ip, turned_away) in [(2, 0), (2, 0), (2, 0), (2, 0), (2, 1), (3, 0), (3, 0), (3, 1), (4, 1)] {
        let mut socket = connect_from([127, 0, 0, ip], server.tunnel.addr).await;
        let addr = socket.local_addr().unwrap();
        if turned_away == 1 {
            assert!(server.turned_away("one too many", addr).await.contains("too many connections"));
            assert_eq!(soon("its end", socket.read(&mut [0])).await.unwrap_or(0), 0);
        } else {
            assert!(!is_turned_away(&mut socket).await);
            strangers.push(socket);
        }
    }
    strangers.clear();
    server.end().await;
}

/// Whether an honest proxy comes in over `socket`.
async fn is_welcome(mut socket: TcpStream, token: &Token) -> bool {
    let (client, first) = ClientHandshake::start(token.clone(), hello());
    if socket.write_all(&after_preface(bytes([first]))).await.is_err() {
        return false;
    }
    let mut buffer = bytes::BytesMut::new();
    let mut client = Some(client);
    loop {
        if let Some(frame) = binary::decode(&mut buffer, binary::MAX_FRAME).unwrap() {
            match client.take().unwrap().on_frame(frame).unwrap() {
                ClientStep::Done(_) => return true,
                ClientStep::Send(next, frame) => {
                    client = Some(*next);
                    _ = socket.write_all(&bytes([frame])).await;
                }
            }
        } else if soon("the server", socket.read_buf(&mut buffer)).await.unwrap_or(0) == 0 {
            return false;
        }
    }
}

#[tokio::test]
async fn who_cannot_prove_itself_is_refused_and_told_no_more() {
    let server = Server::start().await;
    let (addr, token) = (server.tunnel.addr, &server.tunnel.token);
    let refused = |reason: &str| Some(HandshakeError::Refused(reason.into()));
    let (_first, welcome, _) = BinaryChannel::serving(addr, token, 0).await;
    let secret = welcome.resume_secret.unwrap();
    let join = Hello { mode: HelloMode::Join, link: welcome.link, ..hello() };
    let other_link = Hello { link: [9; 16], ..join.clone() };
    for (what, token, hello, secret, expected) in [
        ("another token", &Token::new("guess"), hello(), None, refused("wrong token")),
        ("an empty token", &Token::new(""), hello(), None, refused("wrong token")),
        (
            "another token, for a link that is there",
            &Token::new("guess"),
            join.clone(),
            Some(secret),
            refused("wrong token"),
        ),
        ("another secret", token, join.clone(), Some([1; 32]), refused("wrong token")),
        ("no secret", token, join.clone(), None, refused("wrong token")),
        ("another link", token, other_link.clone(), Some(secret), refused("no such link")),
        (
            "resuming another link",
            token,
            Hello { mode: HelloMode::Resume, ..other_link },
            Some(secret),
            refused("no such link"),
        ),
        ("all that it takes", token, join, Some(secret), None),
    ] {
        let got = BinaryChannel::greeted(addr, token, hello, secret).await.err();
        assert_eq!(got, expected, "{what}");
    }
    server.end().await;
}

/// What was recorded of one handshake opens no other.
#[tokio::test]
async fn a_replayed_proof_is_worth_nothing() {
    let server = Server::start().await;
    let (client, first) = ClientHandshake::start(server.tunnel.token.clone(), hello());
    let mut honest = BinaryChannel::connect(server.tunnel.addr).await;
    honest.send_raw(&after_preface(bytes([first]))).await;
    let challenge = honest.hear().await.unwrap();
    let ClientStep::Send(_, proof) = client.on_frame(challenge).unwrap() else { panic!() };
    honest.send([proof.clone()]).await;
    assert!(matches!(honest.hear().await, Some(Frame::Welcome(_))));

    let mut thief = BinaryChannel::connect(server.tunnel.addr).await;
    let stranger = thief.socket.local_addr().unwrap();
    thief.send_raw(&after_preface(bytes([Frame::Hello(hello())]))).await;
    thief.hear().await.unwrap();
    thief.send([proof]).await;
    assert_eq!(thief.rest().await, [HandshakeError::WrongToken.refusal()]);
    assert_eq!(server.turned_away("the thief", stranger).await, "wrong token");
    drop(honest);
    server.end().await;
}

#[tokio::test]
async fn a_proxy_that_breaks_the_protocol_loses_its_channel_by_name() {
    type Says = fn(u32) -> Vec<u8>;
    let cases: Vec<(&str, Says, &str)> = vec![
        (
            "OPEN",
            |stream| {
                let key = "ABC123:9".parse().unwrap();
                let open = OpenFrame {
                    stream: stream + 1,
                    key,
                    port: 1,
                    priority: Priority::default(),
                    window: 1,
                    user: None,
                };
                bytes([Frame::Open(open)])
            },
            "unexpected OPEN frame",
        ),
        ("HELLO again", |_| bytes([Frame::Hello(hello())]), "unexpected HELLO frame"),
        ("CHALLENGE", |_| bytes([Frame::Challenge { nonce: [0; 32] }]), "unexpected CHALLENGE frame"),
        ("PROOF", |_| bytes([Frame::Proof { mac: [0; 32] }]), "unexpected PROOF frame"),
        ("WELCOME", |_| bytes([Frame::Welcome(welcome())]), "unexpected WELCOME frame"),
        (
            "PRIORITY",
            |stream| bytes([Frame::Priority { stream, priority: Priority::Low }]),
            "unexpected PRIORITY frame",
        ),
        (
            "SYNC",
            |stream| {
                let entry = SyncEntry { stream, consumed: 0, limit: 0, state: 1 };
                bytes([Frame::Sync { last: true, entries: vec![entry] }])
            },
            "unexpected SYNC frame",
        ),
        ("the preface again", |_| after_preface([]), "no frame has the type 0xf5"),
        (
            "DATA for no stream",
            |s| bytes([data(s + 1, 0, b"x", false)]),
            "DATA frame for a stream that was never",
        ),
        ("DATA for stream 0", |_| bytes([data(0, 0, b"x", false)]), "DATA frame for a stream that was never"),
        (
            "DATA for the last stream there is",
            |_| bytes([data(u32::MAX, 0, b"x", true)]),
            "DATA frame for a stream",
        ),
        (
            "OPEN_OK for no stream",
            |s| bytes([Frame::OpenOk { stream: s + 1, window: 1 }]),
            "OPEN_OK frame for a",
        ),
        (
            "WINDOW for no stream",
            |stream| bytes([Frame::Window { stream: stream + 1, consumed: 0, window: 1 }]),
            "WINDOW frame for a stream that was never",
        ),
        (
            "BLOCKED for no stream",
            |s| bytes([Frame::Blocked { stream: s + 1, offset: 0 }]),
            "BLOCKED frame for a",
        ),
        (
            "RESET for no stream",
            |stream| bytes([Frame::Reset { stream: stream + 1, code: ResetCode::Killed, final_size: 0 }]),
            "RESET frame for a stream that was never",
        ),
        (
            "one byte beyond the window",
            |s| bytes([data(s, WINDOW.into(), b"x", false)]),
            "data beyond the window",
        ),
        (
            "far beyond the window",
            |s| bytes([data(s, (1 << 62) - 2, b"xxxx", false)]),
            "data beyond the window",
        ),
        ("an offset that nobody reaches", |s| raw_data(s, u64::MAX), "DATA with an impossible offset"),
        (
            "more after the end",
            |stream| bytes([data(stream, 4, b"", true), data(stream, 4, b"x", false)]),
            "the size of a finished stream changed",
        ),
        (
            "a later end",
            |stream| bytes([data(stream, 4, b"", true), data(stream, 5, b"", true)]),
            "the size of a finished stream changed",
        ),
        (
            "an end before what came",
            |stream| bytes([data(stream, 10, b"x", false), data(stream, 5, b"", true)]),
            "the size of a finished stream changed",
        ),
        (
            "credit for what was never sent",
            |stream| bytes([Frame::Window { stream, consumed: 1000, window: 1 }]),
            "acknowledged what was never sent",
        ),
        (
            "credit for the end, which was never sent",
            |stream| bytes([Frame::Window { stream, consumed: 1, window: 1 }]),
            "acknowledged what was never sent",
        ),
        (
            "credit beyond all numbers",
            |stream| bytes([Frame::Window { stream, consumed: (1 << 62) - 1, window: u32::MAX }]),
            "acknowledged what was never sent",
        ),
        (
            "single bytes with gaps",
            |stream| bytes((0..2000).map(|n| data(stream, 5 + 2 * n, b"x", false))),
            "too many pieces out of order",
        ),
        ("a frame of 4 GiB", |_| header(0x12, 0, 0, u32::MAX), "DATA of 4294967295 bytes"),
        (
            "a frame that is a byte too long",
            |_| header(0x12, 0, 0, binary::MAX_FRAME as u32 + 1),
            "DATA of 262157",
        ),
        ("an unknown type", |_| header(0x7f, 0, 0, 0), "no frame has the type 0x7f"),
        ("type 0", |_| header(0, 0, 0, 0), "no frame has the type 0x00"),
        ("a flag that PING has not", |_| header(0x20, 1, 0, 8), "PING with a reserved bit"),
        ("an unknown flag", |_| header(0x12, 2, 0, 12), "DATA with a reserved bit"),
        ("a reserved byte", |_| header(0x20, 0, 0x100, 8), "PING with a reserved bit"),
        ("a length that PING has not", |_| header(0x20, 0, 0, 7), "PING of 7 bytes"),
        ("DATA without an offset", |_| header(0x12, 0, 0, 11), "DATA of 11 bytes"),
        (
            "a message that says nothing known",
            |_| [header(0x24, 0, 0, 4), b"\x03FLY".to_vec()].concat(),
            "MESSAGE: unknown action",
        ),
        (
            "a message that reaches past its end",
            |_| [header(0x24, 0, 0, 4), b"\xffFLY".to_vec()].concat(),
            "MESSAGE whose inner length does not fit",
        ),
    ];
    let server = Server::start().await;
    for (what, says, reason) in cases {
        let (mut channel, mut user, open, public) = server.hostile().await;
        let stream = open.stream;
        channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"half", false)]).await;
        soon("half of it", user.read_exact(&mut [0; 4])).await.unwrap();
        let peer = channel.socket.local_addr().unwrap();
        channel.send_raw(&says(stream)).await;
        let gone = server.gone(what, peer).await;
        assert!(matches!(&gone, GoneReason::Protocol(told) if told.contains(reason)), "{what}: {gone:?}");
        assert_eq!(rest(&mut user).await, (vec![], Err(io::ErrorKind::ConnectionReset)), "{what}");
        // It is told, too.
        let told = channel.rest().await.into_iter().any(|frame| match frame {
            Frame::Message(TunnelMessage { action: TunnelAction::Error, data, .. }) => {
                String::from_utf8(data.to_vec()).unwrap().contains(reason)
            }
            _ => false,
        });
        assert!(told, "{what}");
        server.serves().await;
        // Its port is free for another.
        let (again, ..) =
            BinaryChannel::serving(server.tunnel.addr, &server.tunnel.token, public.port()).await;
        drop(again);
    }
    server.end().await;
}

fn welcome() -> Welcome {
    Welcome {
        link: [0; 16],
        epoch: 0,
        channel: 1,
        max_streams: 1,
        first_window: 1,
        grace_ms: 0,
        ping_ms: 1,
        resume_secret: None,
        mac: [0; 32],
    }
}

/// A DATA frame that the codec would not make.
fn raw_data(stream: u32, offset: u64) -> Vec<u8> {
    [header(0x12, 0, 0, 13), stream.to_be_bytes().into(), offset.to_be_bytes().into(), b"x".to_vec()].concat()
}

#[tokio::test]
async fn a_proxy_that_stops_in_the_middle_of_a_frame_cuts_its_users_off() {
    let server = Server::start().await;
    for (what, says, reset) in [
        ("half a header", header(0x12, 0, 0, 100)[..5].to_vec(), false),
        ("a header", header(0x12, 0, 0, 100), false),
        ("half of the bytes", [header(0x12, 0, 0, 112), vec![0; 60]].concat(), false),
        ("half of the bytes, and a reset", [header(0x12, 0, 0, 112), vec![0; 60]].concat(), true),
    ] {
        let (mut channel, mut user, open, _) = server.hostile().await;
        let stream = open.stream;
        channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"half", false)]).await;
        soon("half of it", user.read_exact(&mut [0; 4])).await.unwrap();
        let peer = channel.socket.local_addr().unwrap();
        channel.send_raw(&says).await;
        if reset {
            socket2::SockRef::from(&channel.socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(channel);
        let gone = server.gone(what, peer).await;
        assert!(matches!(gone, GoneReason::Closed | GoneReason::Failed(_)), "{what}: {gone:?}");
        assert_eq!(rest(&mut user).await, (vec![], Err(io::ErrorKind::ConnectionReset)), "{what}");
        server.serves().await;
    }
    server.end().await;
}

#[tokio::test]
async fn what_is_odd_but_no_error_changes_nothing() {
    let server = Server::start().await;
    let (mut channel, mut user, open, public) = server.hostile().await;
    let stream = open.stream;
    let message = |action| Frame::Message(TunnelMessage::control(action, "what?"));
    let keyed = TunnelMessage::stream("ABC123:1".parse().unwrap(), TunnelAction::StreamData, "what?");
    channel.send([Frame::OpenOk { stream, window: WINDOW }, data(stream, 0, b"ab", false)]).await;
    channel
        .send([
            Frame::OpenOk { stream, window: WINDOW },
            // What is there already, with other bytes: the first stay.
            data(stream, 0, b"XX", false),
            data(stream, 1, b"Ycd", false),
            data(stream, 5, b"f", false),
            data(stream, 5, b"fg", false),
            data(stream, 4, b"e", false),
            Frame::Window { stream, consumed: 0, window: 0 },
            Frame::Window { stream, consumed: 0, window: u32::MAX },
            Frame::Window { stream, consumed: 0, window: 1 },
            Frame::Pong { token: 12_345 },
            Frame::Blocked { stream, offset: u64::MAX >> 2 },
            message(TunnelAction::Error),
            message(TunnelAction::Auth),
            message(TunnelAction::Pong),
            message(TunnelAction::StreamReset),
            Frame::Message(keyed),
            add_proxy(public.port()),
        ])
        .await;
    channel.send((0..5000).map(|_| data(stream, 7, b"", false))).await;
    channel.send((0..5000).map(|_| Frame::Blocked { stream, offset: 1 })).await;
    channel.send((0..5000).map(|_| Frame::Window { stream, consumed: 0, window: 9 })).await;
    channel
        .send([data(stream, 7, b"", true), data(stream, 7, b"", true), data(stream, 2, b"??", false)])
        .await;
    assert_eq!(rest(&mut user).await, (b"abcdefg".to_vec(), Ok(())));
    user.shutdown().await.unwrap();
    let fin = loop {
        if let Frame::Data { offset, fin: true, .. } = channel.hear_other().await {
            break offset;
        }
    };
    // The end is acknowledged; then the stream is over, and what still comes for it is nobody's.
    channel.send([Frame::Window { stream, consumed: fin + 1, window: 0 }]).await;
    channel
        .send([
            Frame::Window { stream, consumed: 1 << 40, window: 0 },
            data(stream, 1 << 40, b"late", true),
            Frame::OpenOk { stream, window: 5 },
            Frame::Reset { stream, code: ResetCode::TargetGone, final_size: 1 << 40 },
            Frame::Reset { stream, code: ResetCode::TargetGone, final_size: 0 },
        ])
        .await;
    channel.settle().await;
    assert_eq!(server.tunnel.ended(open.key).await, (EndReason::Finished, 7, 0));

    let mut user = TcpStream::connect(public).await.unwrap();
    let open = channel.opened().await;
    channel.send([data(open.stream, 0, b"as ever", true)]).await;
    assert_eq!(rest(&mut user).await, (b"as ever".to_vec(), Ok(())));
    drop((user, channel));
    server.end().await;
}

/// The proxy promises to take 4 GiB and acknowledges nothing. What it was sent has to be kept, in case its channel
/// dies: so it is the server that says how much that may be.
#[tokio::test]
async fn a_proxy_that_gives_endless_credit_makes_the_server_keep_no_more_than_a_window() {
    let server = Server::start().await;
    let (mut channel, user, open, _) = server.hostile().await;
    let stream = open.stream;
    channel
        .send([
            Frame::OpenOk { stream, window: u32::MAX },
            Frame::Window { stream, consumed: 0, window: u32::MAX },
        ])
        .await;
    channel.settle().await;
    let (_read, mut write) = user.into_split();
    let upload = Running::start(async move {
        let piece = vec![7; 1 << 20];
        while write.write_all(&piece).await.is_ok() {}
    });
    let mut received = 0;
    while let Ok(frame) = tokio::time::timeout(SECOND, channel.hear_other()).await {
        if let Frame::Data { payload, .. } = frame {
            received += payload.len();
        }
        assert!(received <= 16 << 20, "{received} bytes are kept");
    }
    drop(channel);
    upload.end("the upload").await;
    server.end().await;
}

#[tokio::test]
async fn floods_of_a_proxy_that_reads_no_answers_cost_nothing() {
    let server = Server::start().await;
    let pings = bytes((0..10_000).map(|token| Frame::Ping { token }));
    let requests = bytes((0..10_000).map(|_| add_proxy(0)));
    for (what, flood, stays) in [("PING", pings, true), ("ADDPROXY", requests, false)] {
        let (mut channel, _, _) = BinaryChannel::serving(server.tunnel.addr, &server.tunnel.token, 0).await;
        let before = resident_kib();
        let flooding = async {
            for _ in 0..60 {
                if channel.socket.write_all(&flood).await.is_err() {
                    break;
                }
            }
        };
        soon(what, flooding).await;
        server.serves().await;
        // A PING is answered with the last one's PONG; other answers pile up, and then the channel is closed.
        let here = |snapshot: &Snapshot| snapshot.proxies.iter().any(|proxy| proxy.info.name == "tester");
        server.tunnel.until(what, |snapshot| here(snapshot) == stays).await;
        drop(channel);
        server.tunnel.until(what, |snapshot| !here(snapshot)).await;
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 32 * 1024, "{what}: {grown} KiB more");
    }
    server.end().await;
}

/// Resident memory of this process, which is the server's too; 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
}

#[tokio::test]
async fn a_proxy_has_so_many_channels() {
    let server = Server::start().await;
    let (addr, token) = (server.tunnel.addr, server.tunnel.token.clone());
    let (mut first, welcome, public) = BinaryChannel::serving(addr, &token, 0).await;
    let mut joins = JoinSet::new();
    for _ in 0..100 {
        let token = token.clone();
        let hello = Hello { mode: HelloMode::Join, link: welcome.link, ..hello() };
        joins.spawn(async move { BinaryChannel::greeted(addr, &token, hello, welcome.resume_secret).await });
    }
    let (joined, refused): (Vec<_>, Vec<_>) =
        soon("all have joined", joins.join_all()).await.into_iter().partition(Result::is_ok);
    assert_eq!((joined.len(), refused.len()), (63, 37));
    for error in refused {
        let error = error.err().unwrap();
        assert_eq!(error, HandshakeError::Refused("the proxy has as many channels as it may".into()));
    }
    // They are numbered, each differently.
    let mut numbers: Vec<_> = joined.iter().map(|join| join.as_ref().unwrap().1.channel).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!((numbers.len(), welcome.channel), (63, 1));
    drop(joined);
    server
        .tunnel
        .until("one channel", |s| s.proxies.iter().any(|p| p.info.name == "tester" && p.channels.len() == 1))
        .await;
    let user = TcpStream::connect(public).await.unwrap();
    first.opened().await;
    drop((user, first));
    server.end().await;
}

#[tokio::test]
async fn a_name_cannot_draw_on_the_screen() {
    let server = Server::start().await;
    for (name, shown) in [
        ("\x1b]0;owned\x07\x1b[2J\r\n\u{202e}evil\u{200b}", "]0;owned[2Jevil".to_owned()),
        ("  spaces  ", "spaces".into()),
        (&"long".repeat(60)[..], "long".repeat(10)),
    ] {
        let hello = Hello { name: name.into(), ..hello() };
        let (channel, _) =
            BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello, None).await.unwrap();
        let told = |event: &EventKind| matches!(event, EventKind::ProxyUp { name, .. } if *name == shown);
        server.tunnel.event(&shown, told).await;
        drop(channel);
    }
    for name in ["", "\x1b\x07", "   "] {
        let hello = Hello { name: name.into(), ..hello() };
        let (channel, _) =
            BinaryChannel::greeted(server.tunnel.addr, &server.tunnel.token, hello, None).await.unwrap();
        let id = server.channel(channel.socket.local_addr().unwrap()).await.proxy;
        let told = |event: &EventKind| matches!(event, EventKind::ProxyUp { proxy, name, .. } if *proxy == id && *name == id.to_string());
        server.tunnel.event("a proxy without a name", told).await;
    }
    server.end().await;
}

#[tokio::test]
async fn users_that_come_and_go_at_once_leave_nothing() {
    let server = Server::start().await;
    let (mut channel, _, public) = BinaryChannel::serving(server.tunnel.addr, &server.tunnel.token, 0).await;
    let users = Running::start(async move {
        for n in 0..300 {
            let user = TcpStream::connect(public).await.unwrap();
            if n % 2 == 0 {
                socket2::SockRef::from(&user).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    });
    // One half the proxy resets, of the other it takes no notice.
    let mut opened = 0;
    while opened < 100 || !users.has_ended() {
        let Ok(frame) = tokio::time::timeout(SECOND, channel.hear_other()).await else { break };
        if let Frame::Open(OpenFrame { stream, .. }) = frame {
            opened += 1;
            if stream % 2 == 0 {
                let (code, final_size) = (ResetCode::TargetRefused, 0);
                channel.send([Frame::Reset { stream, code, final_size }]).await;
            }
        }
    }
    users.end("three hundred users").await;
    drop(channel);
    let ever = server.tunnel.until("their end", |snapshot| snapshot.totals.streams_open == 0).await;
    assert!(ever.totals.streams_ever <= 300);
    server.end().await;
}

#[tokio::test]
async fn one_user_too_many_is_refused_and_the_next_is_not() {
    let server = Server::with(|config| config.max_streams = 3).await;
    let mut users = Vec::new();
    for _ in 0..3 {
        let mut user = TcpStream::connect(server.public).await.unwrap();
        user.write_all(b"x").await.unwrap();
        soon("an echo", user.read_exact(&mut [0])).await.unwrap();
        users.push(user);
    }
    let mut fourth = TcpStream::connect(server.public).await.unwrap();
    assert_eq!(rest(&mut fourth).await, (vec![], Err(io::ErrorKind::ConnectionReset)));
    let refused = |event: &EventKind| matches!(event, EventKind::UserRefused { .. });
    server.tunnel.event("a user that is refused", refused).await;
    drop(users.pop());
    server.tunnel.until("room", |snapshot| snapshot.totals.streams_open == 2).await;
    server.serves().await;
    drop(users);
    server.tunnel.until("all have left", |snapshot| snapshot.totals.streams_open == 0).await;
    server.end().await;
}

/// The real program with few descriptors: it pauses instead of spinning or dying, what is open goes on, and with
/// descriptors free again it takes users as before.
#[tokio::test]
async fn out_of_descriptors() {
    let mut shell = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_underpass");
    let command = format!(
        "ulimit -n 48 && exec '{program}' server --listen 127.0.0.1:0 --bind 127.0.0.1 --token t --no-tui"
    );
    shell.args(["-c", &command]).env_remove("UNDERPASS_TOKEN").env("NO_COLOR", "1");
    let mut process = Process::spawn(shell);
    let line = process.line("listening for proxies on ").await;
    let addr = line.rsplit(' ').next().unwrap().to_owned();
    let echo = target::echo().await;
    let config = ProxyConfig::new(addr, "0".parse().unwrap(), echo.addr.to_string());
    let mut proxy = RunningProxy::start(config, Token::new("t"));
    let public = SocketAddr::new(LOOPBACK.ip(), proxy.serves().await.port);
    let mut early = TcpStream::connect(public).await.unwrap();
    early.write_all(b"early").await.unwrap();
    soon("an echo", early.read_exact(&mut [0; 5])).await.unwrap();

    // The kernel takes them for the server, which has no descriptors for all of them.
    let mut users = Vec::new();
    for _ in 0..80 {
        users.push(TcpStream::connect(public).await.unwrap());
    }
    process.line(&format!("cannot accept on {public}: ")).await;
    let begin = Instant::now();
    process.line("cannot accept").await;
    process.line("cannot accept").await;
    let failures = |process: &Process| process.output().matches("cannot accept").count();
    early.write_all(b"still").await.unwrap();
    soon("an echo", early.read_exact(&mut [0; 5])).await.unwrap();
    // The pauses double from 10 ms: a dozen attempts would take more than three seconds.
    tokio::time::sleep_until((begin + 2 * SECOND).into()).await;
    assert!(failures(&process) < 12, "{}", process.output());
    drop(users);
    serves_a_fresh_user(public).await;
    drop(early);
    proxy.stop().await;
}
