//! How a port that two servers share passes from the older to the newer.
//!
//! The second place of two with `unsafe`, for the same reason as the first: no crate wraps this socket option.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Sends connections that come from now on to the second of those who listen on the port of `socket` and share it
/// (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)). What has begun stays where it began.
///
/// Without that, whoever shares a port gets a share of what comes until the moment it closes, and a connection whose
/// first packet it had got, but not the last of the handshake, is reset by closing.
///
/// The kernel numbers them in the order in which they began to listen, so that of two the first is the older. Where there
/// is no second, its choice is what it was.
///
/// # Errors
/// The port is not shared, or the kernel is too old (Linux 4.5).
#[allow(unsafe_code)]
pub(super) fn divert(socket: BorrowedFd<'_>) -> io::Result<()> {
    // What the program returns is the number of who gets the connection.
    let (code, second) = ((libc::BPF_RET | libc::BPF_K) as u16, 1);
    let mut program = [libc::sock_filter { code, jt: 0, jf: 0, k: second }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `socket` is borrowed, so that it is open. The kernel reads `length` bytes, which is the size of `program`,
    // and the one instruction that it says it points to; both live until the call returns.
    let result = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const program).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddr, TcpStream},
        os::fd::AsFd,
    };

    use super::*;
    use crate::net::Listener;

    #[tokio::test]
    async fn what_comes_after_a_hand_over_goes_to_the_other() {
        let old = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), true).unwrap();
        let addr = old.local_addr().unwrap();
        let connect =
            |addr: SocketAddr| -> Vec<_> { (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect() };
        let new = Listener::bind(addr, true).unwrap();
        let _shared = connect(addr);
        divert(old.as_fd()).unwrap();
        let _later = connect(addr);
        let of_old = std::iter::from_fn(|| old.accept_now().ok()).count();
        let of_new = std::iter::from_fn(|| new.accept_now().ok()).count();
        // Of the first hundred each has a share: with so many it is never all.
        assert!((1..100).contains(&of_old), "{of_old}");
        assert_eq!(of_old + of_new, 200);
        drop(old);
        let _alone = connect(addr);
        assert_eq!(std::iter::from_fn(|| new.accept_now().ok()).count(), 100);
    }

    #[tokio::test]
    async fn a_port_that_nobody_shares_stays_where_it_is() {
        let only = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), true).unwrap();
        divert(only.as_fd()).unwrap();
        let user = TcpStream::connect(only.local_addr().unwrap()).unwrap();
        let (_, from) = only.accept().await.unwrap();
        assert_eq!(from, user.local_addr().unwrap());
    }
}
