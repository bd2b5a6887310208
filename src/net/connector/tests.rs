//! Unit tests of the connector, with real sockets on loopback.

use std::net::{Ipv4Addr, TcpListener, TcpStream as StdStream};

use socket2::{Domain, Socket, Type};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A listener that answers no SYN, because its backlog is full.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _backlog: Vec<Socket>,
}

impl BlackHole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fill = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            _ = socket.connect(&address.into());
            socket
        });
        let backlog = fill.collect();
        let error = StdStream::connect_timeout(&address, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "the backlog is full");
        Self { address, _listener: listener, _backlog: backlog }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Returns an address that refuses connections.
fn refusing() -> SocketAddr {
    listener().1
}

fn connector(addresses: &[SocketAddr]) -> Connector {
    let addresses = addresses.to_vec();
    Connector::with_lookup(move |_| Ok(addresses.clone()))
}

#[tokio::test]
async fn a_silent_first_address_costs_less_than_a_second_and_only_once() {
    let (dead, (_listener, alive)) = (BlackHole::new(), listener());
    for is_server in [false, true] {
        let connector = connector(&[dead.address, alive]);
        let policy =
            if is_server { connector.server_policy() } else { ConnectPolicy::for_target(10 * SECOND) };
        let begin = Instant::now();
        let stream = connector.connect("name:1", policy).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert!((Duration::from_millis(250)..SECOND).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        let first = connector.names.resolve("name:1", policy.freshness).await.unwrap()[0];
        assert_eq!(first, alive, "it answered, and is tried first");
    }
}

#[tokio::test]
async fn the_error_names_each_address_and_why_it_failed() {
    let (silent, refusing) = (BlackHole::new(), refusing());
    let policy = ConnectPolicy::for_target(SECOND);
    let error = connector(&[refusing, silent.address]).connect("name:1", policy).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let expected =
        format!("{refusing}: Connection refused (os error 111); {}: no answer within 1s", silent.address);
    assert_eq!(error.to_string(), expected);
    let error = connector(&[refusing]).connect("name:1", policy).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let error = connector(&[]).connect("name:1", policy).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot resolve the name: the name has no address");
    assert!(error.is_local());
}

#[tokio::test]
async fn literal_addresses_are_not_looked_up() {
    let (_listener, alive) = listener();
    let connector = Connector::with_lookup(|name| panic!("looked up {name}"));
    let stream = connector.connect(&alive.to_string(), connector.server_policy()).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), alive);
    let text = refusing().to_string();
    let error = connector.connect(&text, connector.server_policy()).await.unwrap_err();
    assert!(!error.is_local(), "the other side has answered: {error}");
}

#[tokio::test]
async fn an_address_without_a_route_is_reported_as_local() {
    // No TCP connection can have the broadcast address: the kernel reports that the network is unreachable.
    let connector = connector(&["255.255.255.255:1".parse().unwrap()]);
    let error = connector.connect("name:1", connector.server_policy());
    let error = error.await.unwrap_err();
    assert!(error.is_local(), "{error}");
}

#[tokio::test]
async fn a_resolver_that_does_not_answer_is_reported_as_a_timeout() {
    let (sender, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let connector = Connector::with_lookup(move |_| {
        _ = gate.lock().unwrap().recv();
        Ok(Vec::new())
    });
    let policy = ConnectPolicy::for_target(Duration::from_millis(50));
    let error = connector.connect("name:1", policy).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(error.to_string(), "cannot resolve the name: the resolver did not answer within 50ms");
    drop(sender);
}

/// Regression test: a target that sends a banner and resets at once was taken for one that cannot be reached, if that
/// happened before this side learnt that it was connected.
#[tokio::test]
async fn what_precedes_an_immediate_reset_can_be_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connector = Connector::new();
    let connected = connector.connect(&address, ConnectPolicy::for_target(SECOND));
    // Accepted after the first poll of the connect, and before its second.
    let reset = async {
        let (mut socket, _) = listener.accept().unwrap();
        io::Write::write_all(&mut socket, b"banner").unwrap();
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (stream, ()) = tokio::join!(biased; connected, reset);
    let (mut stream, mut bytes) = (stream.unwrap(), Vec::new());
    let error = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.unwrap_err();
    assert_eq!((&bytes[..], error.kind()), (&b"banner"[..], io::ErrorKind::ConnectionReset));
}

/// Some thousand attempts to a port of the ephemeral range on which nothing listens, such as the one of a target that
/// is being restarted, connected to themselves: the user received its own bytes, and the target could not bind its
/// port.
#[tokio::test]
async fn an_attempt_that_connects_to_itself_is_a_refusal_and_leaves_the_port_free() {
    let address = refusing();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    // The kernel chooses this local port once in about 28,000 attempts.
    socket.bind(&address.into()).unwrap();
    let error = establish(socket, address).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    assert!(error.to_string().contains("met itself"), "{error}");
    // Without SO_REUSEADDR: a connection in TIME_WAIT would keep the port.
    let target = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    target.bind(&address.into()).unwrap();
    target.listen(1).unwrap();
    let stream =
        Connector::new().connect(&address.to_string(), ConnectPolicy::for_target(SECOND)).await.unwrap();
    assert_ne!(stream.local_addr().unwrap(), address);
}

/// An attempt beside a pending one takes another descriptor, which needs a permit; one that follows a failure does not.
#[tokio::test]
async fn attempts_beside_the_first_one_are_limited_by_permits() {
    let (dead, (_listener, alive)) = (BlackHole::new(), listener());
    let sockets = Semaphore::new(0);
    let policy = ConnectPolicy::for_target(SECOND).with_extra_sockets(&sockets);
    let error = connector(&[dead.address, alive]).connect("name:1", policy).await.unwrap_err();
    assert!(error.is_exhausted() && error.to_string().contains("Too many open files"), "{error}");
    let stream = connector(&[refusing(), alive]).connect("name:1", policy).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), alive);
    sockets.add_permits(1);
    let stream = connector(&[dead.address, alive]).connect("name:1", policy).await.unwrap();
    assert_eq!((stream.peer_addr().unwrap(), sockets.available_permits()), (alive, 1));
}

/// Regression test: an attempt for which no permit was left failed at once and was never made again. A stream whose
/// target was half dead waited for the whole timeout although the other address answered.
#[tokio::test]
async fn an_attempt_waits_for_a_permit() {
    let (dead, (_listener, alive)) = (BlackHole::new(), listener());
    let sockets = Semaphore::new(0);
    let policy = ConnectPolicy::for_target(30 * SECOND).with_extra_sockets(&sockets);
    let connector = connector(&[dead.address, alive]);
    let freed = async {
        // The second attempt begins after a quarter of this.
        tokio::time::sleep(SECOND).await;
        sockets.add_permits(1);
    };
    let connected = async { tokio::join!(connector.connect("name:1", policy), freed).0 };
    let stream = tokio::time::timeout(10 * SECOND, connected).await.expect("a permit is free").unwrap();
    assert_eq!((stream.peer_addr().unwrap(), sockets.available_permits()), (alive, 1));
}

/// Each channel has its first socket; the further ones of all channels together are limited.
#[tokio::test]
async fn further_attempts_to_the_server_share_192_sockets() {
    let (dead, (_listener, alive)) = (BlackHole::new(), listener());
    let connector = connector(&[dead.address, alive]);
    let in_use = connector.server_sockets.acquire_many(192).await.unwrap();
    let policy = ConnectPolicy { timeout: SECOND, ..connector.server_policy() };
    assert!(connector.connect("name:1", policy).await.unwrap_err().is_exhausted());
    drop(in_use);
    let policy = ConnectPolicy { timeout: 10 * SECOND, ..connector.server_policy() };
    assert_eq!(connector.connect("name:1", policy).await.unwrap().peer_addr().unwrap(), alive);
}
