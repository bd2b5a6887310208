//! Unit tests of `TCP_INFO`: field offsets and plausible figures.

use std::{
    io::{Read, Write},
    mem::offset_of,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
};

use libc::tcp_info;

use super::*;

/// The offsets in `struct tcp_info` of the kernel's `include/uapi/linux/tcp.h`, a stable interface that only grows at
/// its end.
#[test]
fn field_offsets_match_the_kernel() {
    let offsets = [
        (offset_of!(tcp_info, tcpi_snd_mss), 16),
        (offset_of!(tcp_info, tcpi_unacked), 24),
        (offset_of!(tcp_info, tcpi_last_ack_recv), 56),
        (offset_of!(tcp_info, tcpi_rtt), 68),
        (offset_of!(tcp_info, tcpi_rttvar), 72),
        (offset_of!(tcp_info, tcpi_snd_cwnd), 80),
        (offset_of!(tcp_info, tcpi_total_retrans), 100),
        (offset_of!(tcp_info, tcpi_bytes_acked), 120),
        (offset_of!(tcp_info, tcpi_notsent_bytes), 144),
        (offset_of!(tcp_info, tcpi_min_rtt), 148),
        (offset_of!(tcp_info, tcpi_delivery_rate), 160),
        (offset_of!(tcp_info, tcpi_bytes_sent), 200),
        (offset_of!(tcp_info, tcpi_bytes_retrans), 208),
    ];
    for (ours, kernels) in offsets {
        assert_eq!(ours, kernels);
    }
}

#[test]
fn statistics_of_a_connection_are_plausible() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    near.write_all(&[7; 100_000]).unwrap();
    far.read_exact(&mut [0; 100_000]).unwrap();
    // The last acknowledgement may be in flight; data in the other direction carries it.
    far.write_all(b"all").unwrap();
    near.read_exact(&mut [0; 3]).unwrap();
    let info = read(near.as_fd()).unwrap();
    assert!(!info.smoothed_rtt.is_zero() && info.min_rtt <= info.smoothed_rtt, "{info:?}");
    assert!(info.delivery_rate > 0 && info.congestion_window > 0, "{info:?}");
    assert_eq!((info.unsent_bytes, info.bytes_in_flight), (0, 0), "{info:?}");
    // The peer does not read, so that the kernel fills its buffers.
    near.set_nonblocking(true).unwrap();
    while near.write(&[7; 65_536]).is_ok() {}
    let stuck = read(near.as_fd()).unwrap();
    assert!(stuck.unsent_bytes + stuck.bytes_in_flight > 0, "{stuck:?}");
}

#[test]
fn a_udp_socket_has_no_tcp_info() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert!(read(socket.as_fd()).is_err());
}
