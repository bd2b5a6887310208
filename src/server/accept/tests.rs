//! Tests of closing a listener.

use std::io::Read;

use super::*;

/// Connections may arrive faster than they are accepted, and a port that closes must not go on for ever.
#[tokio::test]
async fn a_port_that_closes_accepts_a_bounded_backlog_and_resets_the_rest() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let addr = listener.local_addr().unwrap();
    let users: Vec<_> = (0..8).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let mut admitted = Vec::new();
    close_after(listener, 3, |socket, addr| admitted.push((socket, addr))).unwrap();
    let from: Vec<_> = admitted.iter().map(|(_, addr)| *addr).collect();
    let expected: Vec<_> = users.iter().take(3).map(|user| user.local_addr().unwrap()).collect();
    assert_eq!(from, expected);
    for mut user in users.into_iter().skip(3) {
        assert_eq!(user.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
