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
        (offset_of!(tcp_info, tcpi_sacked), 28),
        (offset_of!(tcp_info, tcpi_lost), 32),
        (offset_of!(tcp_info, tcpi_retrans), 36),
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

/// Regression test: with each segment counted as a full one, the acknowledgements of four downloads, of 26 bytes each,
/// were 80 KB in flight. They kept the windows of all channels full at an RTT of 200 ms, and pings waited for 10 s.
#[test]
fn short_segments_are_few_bytes_in_flight() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut info = read_raw(near.as_fd()).unwrap();
    let (segments, len) = (56, 26);
    (info.tcpi_snd_mss, info.tcpi_unacked) = (1448, segments);
    info.tcpi_bytes_acked = 1 + 100 * len;
    info.tcpi_bytes_sent = 100 * len + u64::from(segments) * len;
    let sample = sample_of(&info);
    assert_eq!((sample.in_flight, sample.cwnd_used), (56 * 26 - 1, 56 * 1448));
    assert_eq!(sample.delivered, 1 + 100 * len);

    // Full segments: one is missing, and three behind it were received. All bytes count as unacknowledged, and those
    // that are on the network as in flight.
    (info.tcpi_sacked, info.tcpi_lost, info.tcpi_retrans) = (3, 1, 1);
    info.tcpi_bytes_sent = info.tcpi_bytes_acked + (56 + 1) * 1448;
    info.tcpi_bytes_retrans = 1448;
    let sample = sample_of(&info);
    assert_eq!(sample.in_flight, 53 * 1448);
    assert_eq!(sample.delivered, info.tcpi_bytes_acked + 3 * 1448);
}

#[test]
fn a_udp_socket_has_no_tcp_info() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert!(read(socket.as_fd()).is_err());
}
