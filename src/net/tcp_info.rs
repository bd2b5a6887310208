//! The kernel's statistics of a TCP connection (`TCP_INFO`).
//!
//! One of the five modules with `unsafe`; the others are `reuse_port`, `retransmission`, `inherited` and
//! `runtime::signal_disposition`. Neither the standard library nor the crates that wrap socket options (socket2,
//! rustix) read `TCP_INFO`, and the system call takes a pointer.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use crate::{mux::TransportSample, telemetry::TcpInfo};

/// Reads the kernel's statistics of a TCP connection as the kernel writes them.
///
/// # Errors
/// `socket` is not a TCP connection, or getsockopt(2) failed for another reason.
#[allow(unsafe_code)]
pub(super) fn read_raw(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
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
    // SAFETY: the struct consists of integers, for which every bit pattern is valid. Fields that an older kernel does
    // not write stay zero.
    Ok(unsafe { info.assume_init() })
}

/// Returns how many bytes were sent that the receiver has not acknowledged cumulatively.
fn unacknowledged_bytes(info: &libc::tcp_info) -> u64 {
    // The kernel counts the SYN as one acknowledged byte. Where this host could not send a segment (no route, the
    // interface is down) it counts each attempt as sent, for ever; but not as a segment in flight.
    let sent = info.tcpi_bytes_sent.saturating_sub(info.tcpi_bytes_retrans);
    sent.saturating_sub(info.tcpi_bytes_acked)
        .min(u64::from(info.tcpi_unacked) * u64::from(info.tcpi_snd_mss))
}

/// Reads the kernel's statistics of a TCP connection for telemetry.
///
/// # Errors
/// `socket` is not a TCP connection, or getsockopt(2) failed for another reason.
pub(super) fn read(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let info = read_raw(socket)?;
    let micros = |us: u32| Duration::from_micros(us.into());
    Ok(TcpInfo {
        smoothed_rtt: micros(info.tcpi_rtt),
        rtt_deviation: micros(info.tcpi_rttvar),
        min_rtt: micros(info.tcpi_min_rtt),
        retransmitted_segments: info.tcpi_total_retrans.into(),
        delivery_rate: info.tcpi_delivery_rate,
        unsent_bytes: info.tcpi_notsent_bytes.into(),
        acknowledged_bytes: info.tcpi_bytes_acked,
        last_ack_age: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        received_segments: info.tcpi_data_segs_in.into(),
        bytes_in_flight: unacknowledged_bytes(&info),
        congestion_window: u64::from(info.tcpi_snd_cwnd) * u64::from(info.tcpi_snd_mss),
    })
}

/// Reads what the congestion control of a channel needs of the kernel's statistics.
///
/// # Errors
/// `socket` is not a TCP connection, or getsockopt(2) failed for another reason.
pub(super) fn sample(socket: BorrowedFd<'_>) -> io::Result<TransportSample> {
    Ok(sample_of(&read_raw(socket)?))
}

/// Selects from the kernel's statistics what the congestion control of a channel needs.
fn sample_of(info: &libc::tcp_info) -> TransportSample {
    let segments = u64::from(info.tcpi_unacked + info.tcpi_retrans)
        .saturating_sub(u64::from(info.tcpi_sacked) + u64::from(info.tcpi_lost));
    let segment_len = u64::from(info.tcpi_snd_mss);
    TransportSample {
        rtt: Duration::from_micros(info.tcpi_rtt.into()),
        // The kernel counts segments, and a message or an acknowledgement of a stream takes one of its own.
        in_flight: (segments * segment_len).min(unacknowledged_bytes(info)),
        cwnd_used: segments * segment_len,
        unsent: info.tcpi_notsent_bytes.into(),
        delivered: info.tcpi_bytes_acked + u64::from(info.tcpi_sacked) * segment_len,
        cwnd: u64::from(info.tcpi_snd_cwnd) * segment_len,
        sent_segments: info.tcpi_data_segs_out.into(),
        retransmitted_segments: info.tcpi_total_retrans.into(),
        is_recovering: info.tcpi_sacked > 0 || info.tcpi_lost > 0 || info.tcpi_retrans > 0,
    }
}

#[cfg(test)]
mod tests;
