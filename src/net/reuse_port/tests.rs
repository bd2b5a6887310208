//! Unit tests of handing a shared port over to a second listener.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd,
};

use super::*;
use crate::net::Listener;

#[tokio::test]
async fn new_connections_go_to_the_second_listener() {
    let old = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), true).unwrap();
    let addr = old.local_addr().unwrap();
    let connect =
        |addr: SocketAddr| -> Vec<_> { (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect() };
    let new = Listener::bind(addr, true).unwrap();
    let _shared = connect(addr);
    divert(old.as_fd()).unwrap();
    let _later = connect(addr);
    let of_old = std::iter::from_fn(|| old.try_accept().ok()).count();
    let of_new = std::iter::from_fn(|| new.try_accept().ok()).count();
    // Each listener gets a share of the first hundred; with that many connections neither gets all of them.
    assert!((1..100).contains(&of_old), "{of_old}");
    assert_eq!(of_old + of_new, 200);
    drop(old);
    let _alone = connect(addr);
    assert_eq!(std::iter::from_fn(|| new.try_accept().ok()).count(), 100);
}

#[tokio::test]
async fn a_single_listener_keeps_its_connections() {
    let only = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), true).unwrap();
    divert(only.as_fd()).unwrap();
    let user = TcpStream::connect(only.local_addr().unwrap()).unwrap();
    let (_, from) = only.accept().await.unwrap();
    assert_eq!(from, user.local_addr().unwrap());
}
