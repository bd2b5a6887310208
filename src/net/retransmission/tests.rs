//! Unit tests of the bound of the retransmission timeout.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
};

use super::*;

#[test]
fn the_bound_follows_the_rtt() {
    let ms = Duration::from_millis;
    assert_eq!([40, 500, 3600, 6000].map(|rtt| max_timeout(ms(rtt))), [1000, 1000, 5400, 9000].map(ms));
    assert_eq!(max_timeout(ms(100_000)), ms(120_000));
}

#[test]
fn a_kernel_with_the_option_accepts_the_bound() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    match set_max_timeout(socket.as_fd(), max_timeout(Duration::from_millis(40))) {
        Ok(()) => {}
        Err(error) => {
            // The setting of the system that came with the option.
            let has_option = std::path::Path::new("/proc/sys/net/ipv4/tcp_rto_max_ms").exists();
            assert!(!has_option, "{error}");
        }
    }
}

#[test]
fn a_udp_socket_has_no_retransmission_timeout() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert!(set_max_timeout(socket.as_fd(), Duration::from_secs(1)).is_err());
}
