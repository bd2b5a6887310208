//! What the kernel measures of a connection, read by `TCP_INFO`.
//!
//! One of two places with `unsafe`: neither the standard library nor the crates that wrap socket options (socket2, rustix)
//! read this one, and it takes a system call with a pointer.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use crate::telemetry::TcpInfo;

/// What the kernel measured of a TCP connection so far.
///
/// # Errors
/// It is no TCP connection, or no more.
#[allow(unsafe_code)]
pub(super) fn read(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `socket` is borrowed, so that it is open. The kernel writes at most `length` bytes, which is the size of
    // what `info` has room for, and both pointers are good until the call returns.
    let result = unsafe {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        libc::getsockopt(socket.as_raw_fd(), level, option, info.as_mut_ptr().cast(), &mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it has nothing but whole numbers in it, for which any bits will do. What an older kernel does not write
    // stays zero.
    let info = unsafe { info.assume_init() };
    let micros = |us: u32| Duration::from_micros(us.into());
    Ok(TcpInfo {
        smoothed_rtt: micros(info.tcpi_rtt),
        min_rtt: micros(info.tcpi_min_rtt),
        retransmitted_segments: info.tcpi_total_retrans.into(),
        delivery_rate: info.tcpi_delivery_rate,
        unsent_bytes: info.tcpi_notsent_bytes.into(),
        // The kernel counts the connection's own beginning as a byte that was acknowledged.
        bytes_in_flight: info
            .tcpi_bytes_sent
            .saturating_sub(info.tcpi_bytes_retrans)
            .saturating_sub(info.tcpi_bytes_acked),
        congestion_window: u64::from(info.tcpi_snd_cwnd) * u64::from(info.tcpi_snd_mss),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        mem::offset_of,
        net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
        os::fd::AsFd,
    };

    use libc::tcp_info;

    use super::*;

    /// As `struct tcp_info` of the kernel's `include/uapi/linux/tcp.h` has them: the interface to programs, which only
    /// grows at its end.
    #[test]
    fn fields_stand_where_the_kernel_puts_them() {
        let offsets = [
            (offset_of!(tcp_info, tcpi_snd_mss), 16),
            (offset_of!(tcp_info, tcpi_rtt), 68),
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
    fn a_connection_tells_how_it_fares() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(&[7; 100_000]).unwrap();
        far.read_exact(&mut [0; 100_000]).unwrap();
        // The last acknowledgement may be on its way; an answer carries it.
        far.write_all(b"all").unwrap();
        near.read_exact(&mut [0; 3]).unwrap();
        let info = read(near.as_fd()).unwrap();
        assert!(!info.smoothed_rtt.is_zero() && info.min_rtt <= info.smoothed_rtt, "{info:?}");
        assert!(info.delivery_rate > 0 && info.congestion_window > 0, "{info:?}");
        assert_eq!((info.unsent_bytes, info.bytes_in_flight), (0, 0), "{info:?}");
        // Nobody reads: the kernel takes what it has room for, and keeps it.
        near.set_nonblocking(true).unwrap();
        while near.write(&[7; 65_536]).is_ok() {}
        let stuck = read(near.as_fd()).unwrap();
        assert!(stuck.unsent_bytes + stuck.bytes_in_flight > 0, "{stuck:?}");
    }

    #[test]
    fn what_is_no_tcp_has_none() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(read(socket.as_fd()).is_err());
    }
}
