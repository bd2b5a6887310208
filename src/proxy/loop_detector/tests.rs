//! Unit tests of the loop detector: what is a loop, and what only looks like one.

use super::*;
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::UserAddresses,
};

const LOOPBACK: ServerPath = ServerPath {
    local: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    server: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn path(local: &str, server: &str) -> ServerPath {
    ServerPath { local: local.parse().unwrap(), server: server.parse().unwrap() }
}

/// Returns the OPEN of a user from this address of public port 8080.
fn open(user: &str) -> Open {
    let key = StreamKey::new(UserChannelId::new(1), 1);
    let user = Some(UserAddresses { client: addr(user), public: None });
    Open { stream: 1, key, port: 8080, priority: Priority::default(), window: 1, user }
}

/// Returns a detector of one server, reached by this path, with a service on each of these public ports and target
/// ports.
fn new_detector(path: ServerPath, services: &[(u16, u16)]) -> Arc<LoopDetector> {
    let detector = Arc::new(LoopDetector::default());
    detector.set_path(0, path);
    detector.set_services(0, services.iter().map(|&(public, target)| (public, Some(target))).collect());
    detector
}

/// Begins to watch a stream of public port 8080, whose target has the same port.
fn watch(detector: &Arc<LoopDetector>, user: &str, tasks: &CancellationToken) -> WatchedStream {
    detector.watch(&open(user), 0, Some(8080), tasks)
}

/// Returns whether a user from `user` is found to be the connection from `local` to `peer`.
fn is_loop(user: &str, local: &str, peer: &str, path: ServerPath) -> bool {
    let detector = new_detector(path, &[(8080, 8080)]);
    let tasks = CancellationToken::new();
    let mut first = watch(&detector, "192.0.2.7:999", &tasks);
    first.target_connected(addr(local), addr(peer));
    let second = watch(&detector, user, &tasks);
    assert_eq!(first.is_loop(), second.is_loop(), "both streams end");
    let found = second.is_loop();
    drop((first, second));
    is_forgotten(&detector);
    found
}

/// Asserts that nothing is kept of any stream.
fn is_forgotten(detector: &LoopDetector) {
    let connections = detector.connections.lock();
    assert!(connections.by_address.is_empty() && connections.edges.is_empty(), "{connections:?}");
}

#[test]
fn a_user_that_is_the_proxy_itself_is_a_loop() {
    let home = "127.0.0.1:40000";
    assert!(is_loop(home, home, "127.0.0.1:8080", LOOPBACK));
    // A server of another host, over the network.
    let there = path("198.51.100.5", "203.0.113.1");
    assert!(is_loop("198.51.100.5:40000", "198.51.100.5:40000", "203.0.113.1:8080", there));
    // The server of this host is reached at another of its addresses.
    let here = path("10.0.0.1", "10.0.0.1");
    assert!(is_loop(home, home, "127.0.0.1:8080", here));
}

/// A port may be in use for several connections, and some addresses exist on each host: to take those for a loop would
/// reset the streams of users who did nothing unusual.
#[test]
fn a_user_with_the_address_of_a_connection_to_another_place_is_no_loop() {
    let home = "127.0.0.1:40000";
    // A TLS terminator on the server's host, and a target on the proxy's: both use the loopback address.
    assert!(!is_loop(home, home, "127.0.0.1:8080", path("198.51.100.5", "203.0.113.1")));
    // A target on a third host that has the port of the service.
    let here = path("10.0.0.1", "10.0.0.1");
    assert!(!is_loop("10.0.0.1:40000", "10.0.0.1:40000", "10.0.0.9:8080", here));
    // Another port of the server, and another user.
    assert!(!is_loop(home, home, "127.0.0.1:8081", LOOPBACK));
    assert!(!is_loop("127.0.0.1:40001", home, "127.0.0.1:8080", LOOPBACK));
}

#[test]
fn the_stream_of_the_user_may_be_opened_before_its_cause_is_registered() {
    let detector = new_detector(LOOPBACK, &[(8080, 8080)]);
    let tasks = CancellationToken::new();
    let mut first = watch(&detector, "192.0.2.7:999", &tasks);
    let second = watch(&detector, "127.0.0.1:40000", &tasks);
    assert!(!second.is_loop());
    first.target_connected(addr("127.0.0.1:40000"), addr("127.0.0.1:8080"));
    assert!(first.is_loop() && second.is_loop());
}

#[test]
fn an_ended_stream_is_not_compared_and_a_stopped_proxy_is_no_loop() {
    let detector = new_detector(LOOPBACK, &[(8080, 8080)]);
    let tasks = CancellationToken::new();
    let mut first = watch(&detector, "192.0.2.7:999", &tasks);
    first.target_connected(addr("127.0.0.1:40000"), addr("127.0.0.1:8080"));
    drop(first);
    let second = watch(&detector, "127.0.0.1:40000", &tasks);
    assert!(!second.is_loop());
    tasks.cancel();
    assert!(second.token().is_cancelled() && !second.is_loop());
    let other = new_detector(LOOPBACK, &[(8080, 80)]);
    assert!(!other.watch(&open("127.0.0.1:40000"), 0, Some(80), &tasks).is_watched());
}

/// Regression test: a server that kept one stream of a user open, and opened and reset others of the same user, made
/// the proxy keep a token of each for ever.
#[test]
fn nothing_is_kept_of_streams_that_have_ended() {
    let detector = new_detector(LOOPBACK, &[(8080, 8080)]);
    let tasks = CancellationToken::new();
    let first = watch(&detector, "192.0.2.7:999", &tasks);
    for _ in 0..10 {
        let other = watch(&detector, "192.0.2.7:999", &tasks);
        assert!(!other.is_loop());
    }
    assert_eq!(
        detector.connections.lock().by_address.values().map(|known| known.users.len()).sum::<usize>(),
        1
    );
    drop(first);
    is_forgotten(&detector);
}

/// Begins to watch a stream of a public port of a server.
fn watch_port(
    detector: &Arc<LoopDetector>,
    (server, port): PublicPort,
    target: u16,
    user: &str,
    tasks: &CancellationToken,
) -> WatchedStream {
    detector.watch(&Open { port, ..open(user) }, server, Some(target), tasks)
}

#[test]
fn a_cycle_of_services_is_a_loop_and_a_chain_is_not() {
    let tasks = CancellationToken::new();
    let (a, b) = ((0, 8080), (0, 9090));
    let detector = new_detector(LOOPBACK, &[(8080, 9090), (9090, 8080)]);
    let mut first = watch_port(&detector, a, 9090, "192.0.2.7:999", &tasks);
    first.target_connected(addr("127.0.0.1:40000"), addr("127.0.0.1:9090"));
    let mut second = watch_port(&detector, b, 8080, "127.0.0.1:40000", &tasks);
    assert!(!first.is_loop() && !second.is_loop(), "the second may lead somewhere");
    second.target_connected(addr("127.0.0.1:40001"), addr("127.0.0.1:8080"));
    let third = watch_port(&detector, a, 9090, "127.0.0.1:40001", &tasks);
    assert!(second.is_loop() && third.is_loop());
    assert!(!first.is_loop(), "it ends with its connection");
    drop((first, second, third));
    is_forgotten(&detector);
}

#[test]
fn a_cycle_through_two_servers_is_a_loop() {
    let tasks = CancellationToken::new();
    let detector = new_detector(path("198.51.100.5", "203.0.113.1"), &[(8080, 8080)]);
    detector.set_path(1, path("198.51.100.5", "203.0.113.2"));
    detector.set_services(1, vec![(8080, Some(8080))]);
    let user = "198.51.100.5:40000";
    // The targets are names with several addresses: that of the other server each.
    let mut first = watch_port(&detector, (0, 8080), 8080, "192.0.2.7:999", &tasks);
    first.target_connected(addr(user), addr("203.0.113.2:8080"));
    let other = watch_port(&detector, (0, 8080), 8080, user, &tasks);
    assert!(!other.is_loop(), "a user of the first server is another connection");
    let mut second = watch_port(&detector, (1, 8080), 8080, user, &tasks);
    second.target_connected(addr("198.51.100.5:40001"), addr("203.0.113.1:8080"));
    let third = watch_port(&detector, (0, 8080), 8080, "198.51.100.5:40001", &tasks);
    assert!(second.is_loop() && third.is_loop());
    drop((first, second, third, other));
    is_forgotten(&detector);
}
