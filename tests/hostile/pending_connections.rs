//! Pending connections: what the tunnel port does before a proxy is authenticated.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use underpass::wire::{
    Frame, Hello, HelloMode, binary,
    handshake::{ClientHandshake, ClientStep, Token},
};

use crate::{
    SECOND, Server, after_preface, header,
    support::{
        binary::{bytes, hello},
        soon,
    },
};

/// How a pending connection continues after it has sent its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Waits,
    Closes,
}

#[tokio::test]
async fn pending_connections_are_closed_with_the_reason() {
    use Then::{Closes, Waits};
    let greeting = bytes([Frame::Hello(hello())]);
    let client_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0xAB; 300]].concat();
    let cases: Vec<(&str, Vec<u8>, Then, &str)> = vec![
        ("nothing, and gone", vec![], Closes, "closed during the handshake"),
        ("nothing, and silence", vec![], Waits, "handshake timeout"),
        ("half a preface", binary::PREFACE[..5].into(), Waits, "handshake timeout"),
        ("half a preface, and gone", binary::PREFACE[..5].into(), Closes, "closed during the handshake"),
        ("a wrong preface", b"\xF5UNDRQ\r\n".into(), Waits, "unknown frame type 0xf5"),
        (
            "a preface that lost its CR",
            b"\xF5UNDRP\n\0\0\0\0\0\0\0\0".into(),
            Waits,
            "unknown frame type 0xf5",
        ),
        ("the preface, and silence", after_preface([]), Waits, "handshake timeout"),
        ("half a header, and gone", after_preface([1, 0, 0]), Closes, "closed during the handshake"),
        ("half a HELLO", after_preface(&greeting[..30]), Waits, "handshake timeout"),
        ("half a HELLO, and gone", after_preface(&greeting[..30]), Closes, "closed during the handshake"),
        ("a HELLO, and silence", after_preface(&greeting), Waits, "handshake timeout"),
        ("a HELLO, and gone", after_preface(&greeting), Closes, "closed during the handshake"),
        (
            "a HELLO of 4 GiB",
            after_preface(header(1, 0, 0, u32::MAX)),
            Waits,
            "HELLO frame of 4294967295 bytes",
        ),
        ("a HELLO of nothing", after_preface(header(1, 0, 0, 0)), Waits, "HELLO frame of 0 bytes"),
        (
            "a HELLO frame with a name of 1 MiB",
            after_preface([header(1, 0, 0, 48 + (1 << 20)), vec![b'n'; 1 << 20]].concat()),
            Waits,
            "HELLO frame of 1048624 bytes",
        ),
        ("an unknown type", after_preface(header(0x7f, 0, 0, 8)), Waits, "unknown frame type 0x7f"),
        (
            "a flag that HELLO has not",
            after_preface(header(1, 1, 0, 48)),
            Waits,
            "HELLO frame with a reserved bit",
        ),
        ("a reserved byte", after_preface(header(1, 0, 1, 48)), Waits, "HELLO frame with a reserved bit"),
        (
            "a PROOF first",
            after_preface(bytes([Frame::Proof { mac: [0; 32] }])),
            Waits,
            "unexpected PROOF frame",
        ),
        ("a PING first", after_preface(bytes([Frame::Ping { token: 1 }])), Waits, "unexpected PING frame"),
        (
            "DATA frame before authentication",
            after_preface(header(0x12, 0, 0, 200_000)),
            Waits,
            "DATA frame of 200000 bytes",
        ),
        ("two HELLOs", after_preface([&greeting[..], &greeting].concat()), Waits, "unexpected HELLO frame"),
        (
            "another version",
            after_preface(bytes([Frame::Hello(Hello { version: 1, ..hello() })])),
            Waits,
            "protocol version 1 is not supported, the server speaks version 2",
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
        ("a TLS ClientHello", client_hello.clone(), Waits, "handshake timeout"),
        (
            "a TLS ClientHello with a line in it",
            [&client_hello[..], b"\n"].concat(),
            Waits,
            "not an underpass peer",
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), Waits, "not an underpass peer"),
        ("a line that never ends", vec![b'A'; 5000], Waits, "a line is too long"),
        ("half a line, and gone", b"|0|AU".into(), Closes, "closed during the handshake"),
        ("half a line, and silence", b"|0|AU".into(), Waits, "handshake timeout"),
        ("escapes", b"\x1b]0;owned\x07\x1b[2J\n".into(), Waits, "not an underpass peer"),
    ];
    let deadline = SECOND;
    let server = Server::with(|config| config.handshake_timeout = deadline).await;
    let mut strangers = JoinSet::new();
    for (what, bytes, then, reason) in cases {
        let addr = server.tunnel.addr;
        strangers.spawn(async move {
            let begin = Instant::now();
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let stranger = socket.local_addr().unwrap();
            // The server may close the connection before everything is sent.
            _ = soon(what, socket.write_all(&bytes)).await;
            if then == Closes {
                _ = socket.shutdown().await;
            }
            let mut answer = Vec::new();
            _ = soon(what, socket.read_to_end(&mut answer)).await;
            // Two seconds of tolerance, because all of them run at once.
            assert!(begin.elapsed() < deadline + 2 * SECOND, "{what}: {:?}", begin.elapsed());
            (what, stranger, reason)
        });
    }
    for (what, stranger, reason) in soon("all are turned away", strangers.join_all()).await {
        let told = server.rejection_reason(what, stranger).await;
        assert!(told.contains(reason), "{what}: {told}");
        assert!(!told.contains(char::is_control), "{what}: {told:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_handshake_in_single_bytes_has_the_same_timeout() {
    let server = Server::with(|config| config.handshake_timeout = SECOND).await;
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
    assert!(server.rejection_reason("it", stranger).await.contains("handshake timeout"));
    server.end().await;
}

/// Connects from another loopback address.
async fn connect_from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), 0)).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// Returns whether the server closes a connection at once.
async fn is_refused(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 1];
    let read = tokio::time::timeout(Duration::from_millis(20), socket.read(&mut buffer)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

/// Ten thousand connections that send a few bytes and then nothing, from one address and from forty: one address may have 256
/// pending connections, all together 1024, and further ones are closed at once. This bounds the descriptors.
#[tokio::test]
async fn ten_thousand_unfinished_handshakes_do_not_block_others() {
    let server = Server::with(|config| config.handshake_timeout = 8 * SECOND).await;
    let addr = server.tunnel.addr;
    let mut user = TcpStream::connect(server.public).await.unwrap();
    let half_open = async |first: u8, addresses: u8, connections: usize| {
        let (mut waiting, mut refused) = (Vec::new(), 0);
        for batch in 0..connections / 100 {
            let ip = [127, 0, 1, first + u8::try_from(batch % usize::from(addresses)).unwrap()];
            let mut batch = JoinSet::new();
            for _ in 0..100 {
                batch.spawn(async move {
                    let mut socket = connect_from(ip, addr).await;
                    _ = socket.write_all(&binary::PREFACE).await;
                    let refused = is_refused(&mut socket).await;
                    (!refused).then_some(socket)
                });
            }
            for socket in soon("a hundred connections", batch.join_all()).await {
                refused += usize::from(socket.is_none());
                waiting.extend(socket);
            }
        }
        // Removes those that a busy machine closed late.
        let mut still = Vec::new();
        for mut socket in waiting {
            if is_refused(&mut socket).await { refused += 1 } else { still.push(socket) }
        }
        (still, refused)
    };
    let (one, refused) = half_open(1, 1, 2000).await;
    assert!(one.len() <= 256 && refused >= 2000 - 256, "{} wait, {refused} were refused", one.len());
    // Open streams continue, new users are served, and proxies from other addresses are admitted.
    user.write_all(b"on").await.unwrap();
    soon("an echo", user.read_exact(&mut [0; 2])).await.unwrap();
    server.serves().await;
    let socket = connect_from([127, 0, 0, 2], addr).await;
    assert!(is_welcome(socket, &server.tunnel.token).await);
    let (many, refused) = half_open(2, 40, 8000).await;
    assert!(one.len() + many.len() <= 1024 && refused >= 8000 - 1024, "{} and {refused}", many.len());
    user.write_all(b"on").await.unwrap();
    soon("an echo", user.read_exact(&mut [0; 2])).await.unwrap();
    server.serves().await;
    // After their handshake timeout new connections are admitted.
    drop((one, many));
    soon("room again", async {
        while !is_welcome(TcpStream::connect(addr).await.unwrap(), &server.tunnel.token).await {}
    })
    .await;
    drop(user);
    server.end().await;
}

#[tokio::test]
async fn pending_connections_are_limited_in_total() {
    let server =
        Server::with(|config| (config.max_pending_handshakes, config.max_pending_per_ip) = (6, 4)).await;
    let mut strangers = Vec::new();
    for (ip, turned_away) in [(2, 0), (2, 0), (2, 0), (2, 0), (2, 1), (3, 0), (3, 0), (3, 1), (4, 1)] {
        let mut socket = connect_from([127, 0, 0, ip], server.tunnel.addr).await;
        let addr = socket.local_addr().unwrap();
        if turned_away == 1 {
            assert!(server.rejection_reason("one too many", addr).await.contains("too many connections"));
            assert_eq!(soon("its end", socket.read(&mut [0])).await.unwrap_or(0), 0);
        } else {
            assert!(!is_refused(&mut socket).await);
            strangers.push(socket);
        }
    }
    strangers.clear();
    server.end().await;
}

/// Returns whether a conforming proxy is admitted over `socket`.
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
