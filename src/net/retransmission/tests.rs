//! Unit tests of the bound of the retransmission timeout, and of the receive window.

use std::{
    io::Write,
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

/// The kernel offers 64 KiB until the reader has taken as much, for which a sender in slow start waits where segments
/// are lost.
#[test]
fn the_receive_window_is_open_before_data_has_arrived() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (receiver, _) = listener.accept().unwrap();
    let buffer = || socket2::SockRef::from(&receiver).recv_buffer_size().unwrap();
    let before = buffer();
    open_receive_window(receiver.as_fd(), 1 << 20).unwrap();
    assert!(buffer() >= (1 << 20).max(before), "{before} → {}", buffer());
    // The threshold is one byte again: a single byte wakes the reader.
    sender.write_all(b"1").unwrap();
    let mut readable = [rustix::event::PollFd::new(&receiver, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut readable, Some(&timeout)).unwrap(), 1);
}
