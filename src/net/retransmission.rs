//! Socket options of Linux that no crate wraps: the upper bound of the retransmission timeout (`TCP_RTO_MAX_MS`), and
//! the release of buffers whose size was fixed (`SO_BUF_LOCK`).
//!
//! One of the five modules with `unsafe`; the others are `tcp_info`, `reuse_port`, `inherited` and
//! `runtime::signal_disposition`.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// The socket option, which the crate libc does not name yet: since Linux 6.15.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// The socket option, which the crate libc does not name yet: since Linux 5.14.
const SO_BUF_LOCK: libc::c_int = 72;

/// The bounds of what the kernel accepts.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));

/// Returns the upper bound of the retransmission timeout for a connection with this RTT: one and a half RTTs, and at
/// least a second. The timeout that the kernel computes is hardly ever longer before its first doubling, and the first
/// segment after an interruption arrives within two RTTs and a second.
pub(super) fn max_timeout(rtt: Duration) -> Duration {
    (rtt * 3 / 2).clamp(BOUNDS.0, BOUNDS.1)
}

/// Sets the upper bound of the retransmission timeout of a TCP connection.
///
/// The kernel doubles the timeout after each retransmission without an answer, up to two minutes. After an interruption
/// of the path, a connection therefore stalls again for about as long as the interruption lasted. With this bound it
/// continues within a second and half an RTT, on a path with a long RTT within two RTTs. The price is one small segment
/// per second during the interruption.
///
/// # Errors
/// The kernel is older than Linux 6.15.
pub(super) fn set_max_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let timeout = timeout.clamp(BOUNDS.0, BOUNDS.1);
    let millis = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, millis)
}

/// Has the kernel choose the sizes of a socket's buffers again, after `SO_RCVBUF` has fixed one.
///
/// # Errors
/// The kernel is older than Linux 5.14.
pub(super) fn unlock_buffers(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, SO_BUF_LOCK, 0)
}

/// Has the kernel offer a receive window of up to `bytes` at once, and enlarge it further as usual.
///
/// The receive buffer grows with a threshold of `SO_RCVLOWAT`, and stays as large when the threshold falls again.
/// `SO_RCVBUF` would fix its size, at no more than `net.core.rmem_max`.
///
/// # Errors
/// The socket is closed.
pub(super) fn open_receive_window(socket: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1)
}

/// Sets a socket option whose value is an integer.
///
/// # Errors
/// The kernel does not know the option, or refuses the value.
#[allow(unsafe_code)]
fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `socket` is borrowed and therefore open. The kernel reads `length` bytes, which is the size of `value`.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
