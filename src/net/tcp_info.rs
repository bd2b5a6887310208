//! The kernel's statistics of a TCP connection (`TCP_INFO`).
//!
//! One of the two modules with `unsafe`; the other is `reuse_port`. Neither the standard library nor the crates that wrap
//! socket options (socket2, rustix) read `TCP_INFO`, and the system call takes a pointer.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use crate::telemetry::TcpInfo;

/// Reads the kernel's statistics of a TCP connection.
///
/// # Errors
/// `socket` is not a TCP connection, or getsockopt(2) failed for another reason.
#[allow(unsafe_code)]
pub(super) fn read(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `socket` is borrowed and therefore open. The kernel writes at most `length` bytes, which is the size of
    // `info`, and both pointers are valid until the call returns.
    let result = unsafe {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        libc::getsockopt(socket.as_raw_fd(), level, option, info.as_mut_ptr().cast(), &mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the struct consists of integers, for which every bit pattern is valid. Fields that an older kernel does not
    // write stay zero.
    let info = unsafe { info.assume_init() };
    let micros = |us: u32| Duration::from_micros(us.into());
    Ok(TcpInfo {
        smoothed_rtt: micros(info.tcpi_rtt),
        min_rtt: micros(info.tcpi_min_rtt),
        retransmitted_segments: info.tcpi_total_retrans.into(),
        delivery_rate: info.tcpi_delivery_rate,
        unsent_bytes: info.tcpi_notsent_bytes.into(),
        // The kernel counts the SYN as one acknowledged byte.
        bytes_in_flight: info
            .tcpi_bytes_sent
            .saturating_sub(info.tcpi_bytes_retrans)
            .saturating_sub(info.tcpi_bytes_acked),
        congestion_window: u64::from(info.tcpi_snd_cwnd) * u64::from(info.tcpi_snd_mss),
    })
}

#[cfg(test)]
mod tests;
