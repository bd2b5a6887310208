//! Handing a port that two servers share (`SO_REUSEPORT`) from the older server to the newer.
//!
//! One of the five modules with `unsafe`; the others are `tcp_info`, `retransmission`, `inherited` and
//! `runtime::signal_disposition`. No crate wraps this socket option.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Directs new connections to the second listener in the `SO_REUSEPORT` group of `socket`
/// (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)). Connections whose TCP handshake has begun stay with their listener.
///
/// Without that the kernel distributes new connections over all listeners of the group until one closes, and closing
/// resets a connection whose SYN that listener had received but whose TCP handshake was not complete.
///
/// The kernel numbers the listeners in the order in which they began to listen, so that of two the first is the older
/// server. If there is no second listener, the option has no effect.
///
/// # Errors
/// The socket has no `SO_REUSEPORT`, or the kernel is older than Linux 4.5.
#[allow(unsafe_code)]
pub(super) fn divert(socket: BorrowedFd<'_>) -> io::Result<()> {
    // The value that the BPF program returns is the number of the listener that gets the connection.
    let (code, second) = ((libc::BPF_RET | libc::BPF_K) as u16, 1);
    let mut program = [libc::sock_filter { code, jt: 0, jf: 0, k: second }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `socket` is borrowed and therefore open. The kernel reads `length` bytes, which is the size of `program`,
    // and the one instruction that `program` points to; both outlive the call.
    let result = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const program).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
