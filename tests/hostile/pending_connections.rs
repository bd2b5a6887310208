//! Pending connections: what the tunnel port does before a proxy is authenticated.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use underpass::{
    config::{ProxyFormat, ServerConfig},
    telemetry::EventKind,
    wire::{
        Frame, Hello, HelloMode, ResetCode, Welcome, binary,
        handshake::{ClientHandshake, ClientStep, Token},
    },
};

use crate::{
    SECOND, Server, after_preface, header, is_plain, serves_a_fresh_user,
    support::{
        binary::{BinaryChannel, bytes, hello},
        promised_second,
        relay::Wire,
        soon, target,
        tunnel::Tunnel,
        within,
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
        ("nothing, and silence", vec![], Waits, "handshake timeout"),
        ("half a preface", binary::PREFACE[..5].into(), Waits, "handshake timeout"),
        ("half a preface, and gone", binary::PREFACE[..5].into(), Closes, "closed during the handshake"),
        ("a wrong preface", b"\xF5UNDRQ\r\n".into(), Waits, "message of an unknown type ("),
        (
            "a preface that lost its CR",
            b"\xF5UNDRP\n\0\0\0\0\0\0\0\0".into(),
            Waits,
            "message of an unknown type (",
        ),
        ("the preface, and silence", after_preface([]), Waits, "handshake timeout"),
        ("half a header, and gone", after_preface([1, 0, 0]), Closes, "closed during the handshake"),
        ("half a HELLO", after_preface(&greeting[..30]), Waits, "handshake timeout"),
        ("half a HELLO, and gone", after_preface(&greeting[..30]), Closes, "closed during the handshake"),
        ("a HELLO, and silence", after_preface(&greeting), Waits, "handshake timeout"),
        ("a HELLO, and gone", after_preface(&greeting), Closes, "closed during the handshake"),
        ("a HELLO of 4 GiB", after_preface(header(1, 0, 0, u32::MAX)), Waits, "message of 4294967295 bytes"),
        ("a HELLO of nothing", after_preface(header(1, 0, 0, 0)), Waits, "message of 0 bytes"),
        (
            "a HELLO frame with a name of 1 MiB",
            after_preface([header(1, 0, 0, 48 + (1 << 20)), vec![b'n'; 1 << 20]].concat()),
            Waits,
            "message of 1048624 bytes",
        ),
        ("an unknown type", after_preface(header(0x7f, 0, 0, 8)), Waits, "message of an unknown type ("),
        (
            "a flag that HELLO has not",
            after_preface(header(1, 1, 0, 48)),
            Waits,
            "message with reserved bits that are not zero (HELLO)",
        ),
        (
            "a reserved byte",
            after_preface(header(1, 0, 1, 48)),
            Waits,
            "message with reserved bits that are not zero (HELLO)",
        ),
        (
            "a PROOF first",
            after_preface(bytes([Frame::Proof { mac: [0; 32] }])),
            Waits,
            "unexpected message in the handshake (PROOF)",
        ),
        (
            "a PING first",
            after_preface(bytes([Frame::Ping { token: 1 }])),
            Waits,
            "unexpected message in the handshake (PING)",
        ),
        (
            "DATA frame before authentication",
            after_preface(header(0x12, 0, 0, 200_000)),
            Waits,
            "message of 200000 bytes",
        ),
        (
            "two HELLOs",
            after_preface([&greeting[..], &greeting].concat()),
            Waits,
            "unexpected message in the handshake (HELLO)",
        ),
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
            "a TLS ClientHello",
            client_hello.clone(),
            Waits,
            "the peer speaks TLS, but this server was started with --plain",
        ),
        (
            "a TLS ClientHello with a line in it",
            [&client_hello[..], b"\n"].concat(),
            Waits,
            "the peer speaks TLS",
        ),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(),
            Waits,
            "the client speaks HTTP: this is the tunnel port",
        ),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".into(), Waits, "the client speaks SSH: this is the tunnel port"),
        ("a line that never ends", vec![b'A'; 5000], Waits, "it received data of an unknown protocol"),
        ("half a line, and gone", b"|0|AU".into(), Closes, "closed during the handshake"),
        ("half a line, and silence", b"|0|AU".into(), Waits, "handshake timeout"),
        ("escapes", b"\x1b]0;owned\x07\x1b[2J\n".into(), Waits, "it received data of an unknown protocol"),
    ];
    let deadline = SECOND;
    let server = Server::with(|config| config.handshake_timeout = deadline).await;
    let mut pending = JoinSet::new();
    for (what, bytes, then, reason) in cases {
        let addr = server.tunnel.addr;
        pending.spawn(async move {
            let begin = Instant::now();
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let pending_addr = socket.local_addr().unwrap();
            // The server may close the connection before everything is sent.
            _ = soon(what, socket.write_all(&bytes)).await;
            if then == Closes {
                _ = socket.shutdown().await;
            }
            let mut answer = Vec::new();
            _ = soon(what, socket.read_to_end(&mut answer)).await;
            // Two seconds of tolerance, because all of them run at once.
            assert!(begin.elapsed() < deadline + 2 * SECOND, "{what}: {:?}", begin.elapsed());
            (what, pending_addr, reason)
        });
    }
    for (what, pending_addr, reason) in soon("all are turned away", pending.join_all()).await {
        let told = server.rejection_reason(what, pending_addr).await;
        assert!(told.contains(reason) && is_plain(&told), "{what}: {told}");
        assert!(!told.contains(char::is_control), "{what}: {told:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_handshake_in_single_bytes_has_the_same_timeout() {
    let server = Server::with(|config| config.handshake_timeout = SECOND).await;
    let begin = Instant::now();
    let mut socket = TcpStream::connect(server.tunnel.addr).await.unwrap();
    let pending_addr = socket.local_addr().unwrap();
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
    assert!(server.rejection_reason("it", pending_addr).await.contains("handshake timeout"));
    server.end().await;
}

/// Connects from another loopback address.
async fn connect_from(ip: [u8; 4], to: SocketAddr) -> TcpStream {
    soon("a connection", try_connect_from(ip, to)).await.unwrap()
}

/// Connects from another loopback address, for a flood that the kernel may refuse.
async fn try_connect_from(ip: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), 0))?;
    socket.connect(to).await
}

/// Returns the number of connections of a flood, and of the server's slots for pending connections: 400 beside 64
/// slots, or what `UNDERPASS_PENDING` says beside the default number of slots.
fn flood_size() -> (usize, usize) {
    std::env::var("UNDERPASS_PENDING")
        .map_or((400, 64), |count| (count.parse().unwrap(), ServerConfig::default().max_pending_handshakes))
}

/// Pending connections from many addresses, which are opened again whenever the server closes one.
struct Flood {
    opened: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Flood {
    /// Opens `connections` connections from as many addresses as `address` returns, each with these bytes and then
    /// nothing, and waits until all were opened once.
    async fn start(
        to: SocketAddr,
        connections: usize,
        address: impl Fn(usize) -> [u8; 4],
        bytes: &[u8],
    ) -> Self {
        let opened = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        // Each task connects one at a time, so that the backlog of the listener does not overflow.
        let (flooders, bytes) = (20, Arc::<[u8]>::from(bytes));
        for flooder in 0..flooders {
            let addresses: Vec<_> = (flooder..connections).step_by(flooders).map(&address).collect();
            let (opened, bytes) = (opened.clone(), bytes.clone());
            tasks.spawn(async move {
                let mut held = VecDeque::new();
                for ip in addresses.iter().cycle() {
                    let Ok(mut socket) = try_connect_from(*ip, to).await else { continue };
                    _ = socket.write_all(&bytes).await;
                    held.push_back(socket);
                    opened.fetch_add(1, Relaxed);
                    if held.len() > addresses.len() {
                        held.pop_front();
                        // All are open: from now on, at the rate at which the server closes them.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            });
        }
        let flood = Self { opened, _tasks: tasks };
        within(Duration::from_secs(100), "the connections of a flood", async {
            while flood.opened() < connections {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        flood
    }

    /// Returns how many connections were opened so far.
    fn opened(&self) -> usize {
        self.opened.load(Relaxed)
    }
}

/// Returns one of 65,536 loopback addresses.
fn any_address(number: usize) -> [u8; 4] {
    let [.., high, low] = number.to_be_bytes();
    [127, 1, high, low]
}

/// Whatever the pending send before they fall silent, and from however many addresses: a proxy that has lost its
/// channels resumes its link, another one registers, and users are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pending_connections_blocks_neither_a_resume_nor_a_new_proxy() {
    let hello_bytes = after_preface(bytes([Frame::Hello(hello())]));
    for (what, address, sends) in [
        ("silence, one address", (|_| [127, 0, 1, 1]) as fn(usize) -> [u8; 4], &[][..]),
        ("silence", any_address, &[]),
        ("half a HELLO", any_address, &hello_bytes[..30]),
        ("HELLO and no PROOF", any_address, &hello_bytes),
        ("half a line", any_address, b"|0|AUTH|"),
    ] {
        let echo = target::echo().await;
        let (connections, slots) = flood_size();
        let change = |config: &mut ServerConfig| config.max_pending_handshakes = slots;
        let (mut tunnel, relay, public) = Tunnel::through_a_relay(change, echo.addr).await;
        let mut user = TcpStream::connect(public).await.unwrap();
        let flood = Flood::start(tunnel.addr, connections, address, sends).await;
        let begin = Instant::now();
        relay.set_all(Wire::Closed);
        user.write_all(b"resumed").await.unwrap();
        soon("an echo over the resumed link", user.read_exact(&mut [0; 7])).await.unwrap();
        let resumed = begin.elapsed();
        let begin = Instant::now();
        let fresh = tunnel.proxy(echo.addr, ProxyFormat::Binary).await;
        let registered = begin.elapsed();
        serves_a_fresh_user(fresh).await;
        println!("{what}: resumed in {resumed:?}, registered in {registered:?}, {} opened", flood.opened());
        assert!(resumed < 2 * promised_second() && registered < 2 * promised_second(), "{what}");
        assert!(flood.opened() >= connections);
        drop((flood, user));
        tunnel.end().await;
    }
}

/// Each table holds its share: what is beyond it is closed, and it is the block with the most connections that pays.
#[tokio::test]
async fn a_newcomer_displaces_a_connection_of_the_address_that_has_most() {
    let server = Server::with(|config| config.max_pending_handshakes = 8).await;
    let mut first = connect_from([127, 0, 0, 2], server.tunnel.addr).await;
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(connect_from([127, 0, 0, 3], server.tunnel.addr).await);
    }
    // Half of the eight slots are for connections that have sent nothing.
    let displaced = |event: &&EventKind| {
        matches!(event, EventKind::HandshakeFailed { reason, addr, .. }
            if reason.contains("displaced by a newer one") && addr.ip() == IpAddr::V4([127, 0, 0, 3].into()))
    };
    let count = || server.tunnel.events().iter().filter(displaced).count();
    server.tunnel.until("17 are displaced", |_| count() >= 17).await;
    for socket in &flood {
        // A connection that is left has a slot: nothing displaces it now.
        _ = tokio::time::timeout(Duration::from_millis(10), socket.readable()).await;
    }
    assert_eq!(count(), 17);
    // The other address is not affected, and its connection completes its handshake.
    assert!(is_welcome(&mut first, &server.tunnel.token).await);
    drop((first, flood));
    server.end().await;
}

/// Waits until the server has closed all but `slots` of these connections.
async fn all_but(slots: usize, connections: &mut [TcpStream]) {
    soon(&format!("all but {slots} are closed"), async {
        loop {
            let mut open = 0;
            for connection in &mut *connections {
                let mut received = Vec::new();
                let ended = connection.read_to_end(&mut received);
                open += usize::from(tokio::time::timeout(Duration::from_millis(10), ended).await.is_err());
            }
            if open <= slots {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn connections_that_ask_for_a_new_link_have_a_quarter_of_the_slots() {
    let server = Server::with(|config| {
        // Longer than the test: only the limit closes them.
        (config.max_pending_handshakes, config.handshake_step_timeout) = (64, 100 * SECOND);
    })
    .await;
    let asks = after_preface(bytes([Frame::Hello(hello())]));
    let mut asking = Vec::new();
    for number in 0..40 {
        let mut connection = connect_from(any_address(number), server.tunnel.addr).await;
        connection.write_all(&asks).await.unwrap();
        asking.push(connection);
    }
    all_but(16, &mut asking).await;
    drop(asking);
    server.serves().await;
    server.end().await;
}

/// Whoever learns the id of a link gets the slots of connections that name it, and keeps neither its proxy nor those of
/// other links out.
#[tokio::test]
async fn a_thief_of_a_link_id_blocks_no_resume() {
    let server = Server::with(|config| {
        (config.max_pending_handshakes, config.grace_period) = (64, 30 * SECOND);
        // Longer than the test: only the limit closes the connections of the thief.
        config.handshake_step_timeout = 100 * SECOND;
    })
    .await;
    let (addr, token) = (server.tunnel.addr, &server.tunnel.token);
    let resume = |welcome: &Welcome| Hello { mode: HelloMode::Resume, link: welcome.link, ..hello() };
    let (known, known_welcome, _) = BinaryChannel::serving(addr, token, 0).await;
    let (other, other_welcome, _) = BinaryChannel::serving(addr, token, 0).await;
    let theft = after_preface(bytes([Frame::Hello(resume(&known_welcome))]));
    let mut thieves = Vec::new();
    for number in 0..200 {
        let mut thief = connect_from(any_address(number), addr).await;
        thief.write_all(&theft).await.unwrap();
        // Its slot is one of the known link's once it is challenged; it may have been displaced since.
        _ = soon("an answer", thief.read(&mut [0; 64])).await;
        thieves.push(thief);
    }
    all_but(16, &mut thieves).await;
    drop((known, other));
    for welcome in [&other_welcome, &known_welcome] {
        let greeted = BinaryChannel::greeted(addr, token, resume(welcome), welcome.resume_secret).await;
        let (mut channel, _) = greeted.unwrap();
        channel.settle().await;
        channel.send([Frame::GoAway { code: ResetCode::Shutdown }]).await;
    }
    drop(thieves);
    server.end().await;
}

/// The timeout of a step holds for a whole message, however slowly its bytes arrive, and long before that of the
/// handshake.
#[tokio::test]
async fn each_message_of_the_handshake_has_its_timeout() {
    let step = Duration::from_millis(300);
    let server = Server::with(|config| config.handshake_step_timeout = step).await;
    let hello_bytes = after_preface(bytes([Frame::Hello(hello())]));
    let proof = bytes([Frame::Proof { mac: [0; 32] }]);
    let token =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, server.tunnel.token.reveal());
    let auth = format!("|0|AUTH|{token}\n").into_bytes();
    // What is sent at once, and what follows in single bytes.
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("silence", vec![], vec![]),
        ("a preface in single bytes", vec![], hello_bytes.clone()),
        ("a HELLO in single bytes", hello_bytes[..8].into(), hello_bytes[8..].into()),
        ("silence after CHALLENGE", hello_bytes.clone(), vec![]),
        ("a PROOF in single bytes", hello_bytes, proof),
        ("a line in single bytes", vec![], vec![b'x'; 200]),
        ("silence after AUTH", auth.clone(), vec![]),
        ("ADDPROXY in single bytes", auth, vec![b'x'; 200]),
    ];
    let mut pending = JoinSet::new();
    for (what, at_once, slowly) in cases {
        let addr = server.tunnel.addr;
        pending.spawn(async move {
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let (begin, pending_addr) = (Instant::now(), socket.local_addr().unwrap());
            socket.write_all(&at_once).await.unwrap();
            let (mut tick, mut slowly) = (tokio::time::interval(step / 5), slowly.into_iter());
            let mut buffer = [0; 64];
            soon(what, async {
                loop {
                    tokio::select! {
                        _ = tick.tick() => if let Some(byte) = slowly.next() {
                            _ = socket.write_all(&[byte]).await;
                        },
                        read = socket.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { return },
                    }
                }
            })
            .await;
            (what, pending_addr, begin.elapsed())
        });
    }
    for (what, pending_addr, after) in soon("all are closed", pending.join_all()).await {
        // Far below the timeout of the whole handshake, which is 30 s.
        assert!(after >= step && after < 10 * SECOND, "{what}: {after:?}");
        let reason = server.rejection_reason(what, pending_addr).await;
        assert!(reason.contains("no complete message within"), "{what}: {reason}");
    }
    server.end().await;
}

/// Returns whether a conforming proxy is admitted over `socket`.
async fn is_welcome(socket: &mut TcpStream, token: &Token) -> bool {
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
