//! The upper bound of the kernel's retransmission timeout (`TCP_RTO_MAX_MS`).
//!
//! One of the four modules with `unsafe`; the others are `tcp_info`, `reuse_port` and `runtime::signal_disposition`. No crate
//! wraps this socket option.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// The socket option, which the crate libc does not name yet: since Linux 6.15.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// The bounds of what the kernel accepts.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// Returns the upper bound of the retransmission timeout for a connection with this RTT: one and a half RTTs, and at least
/// a second. The timeout that the kernel computes is hardly ever longer before its first doubling, and the first segment
/// after an interruption arrives within two RTTs and a second.
pub(super) fn max_timeout(rtt: Duration) -> Duration {
    (rtt * 3 / 2).clamp(BOUNDS.0, BOUNDS.1)
}

/// Sets the upper bound of the retransmission timeout of a TCP connection.
///
/// The kernel doubles the timeout after each retransmission without an answer, up to two minutes. After an interruption
/// of the path, a connection therefore stalls again for about as long as the interruption lasted. With this bound it
/// continues within a second and half an RTT, on a path with a long RTT within two RTTs. The price is one small segment per second during the interruption.
///
/// # Errors
/// The kernel is older than Linux 6.15.
#[allow(unsafe_code)]
pub(super) fn set_max_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let timeout = timeout.clamp(BOUNDS.0, BOUNDS.1);
    let millis = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `socket` is borrowed and therefore open. The kernel reads `length` bytes, which is the size of `millis`.
    let result = unsafe {
        let value = (&raw const millis).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_RTO_MAX_MS, value, length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
