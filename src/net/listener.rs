//! Listening TCP sockets whose connections inherit the usual socket options.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::socket::{canonical, disable_pacing_on_loopback, enable_reset_on_close, set_common_options};
use crate::telemetry::assert_no_table_locked;

/// The accept backlog of listen(2): how many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket. Accepted connections have the usual socket options and belong to no tokio runtime yet: the
/// worker that serves one registers it with `TcpStream::from_std`.
///
/// tokio's own listener registers each connection with the runtime that accepts it, from which it had to be moved
/// again.
#[derive(Debug)]
pub struct Listener(AsyncFd<StdListener>);

impl Listener {
    /// Listens on `addr` with `SO_REUSEADDR`, so that a restarted server can bind a port that has connections in
    /// TIME_WAIT; and with `SO_REUSEPORT` if `reuse_port` is set, so that other processes of the same user can listen
    /// on the same port.
    ///
    /// # Errors
    /// The address is in use or not available.
    pub fn bind(addr: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        Self::open(addr, reuse_port, false)
    }

    /// Listens like [`bind`](Self::bind), for users: accepted connections are reset when they are closed (`SO_LINGER`
    /// of zero), until the stream is complete.
    ///
    /// # Errors
    /// The address is in use or not available.
    pub fn bind_with_reset_on_close(addr: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        Self::open(addr, reuse_port, true)
    }

    /// Takes over a socket that listens already, from the service manager, with the usual options.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub fn from_inherited(listener: StdListener) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        disable_pacing_on_loopback(&SockRef::from(&listener), addr.ip());
        set_common_options(&SockRef::from(&listener), true);
        Self::register(listener)
    }

    /// Creates a listening socket on `addr` with the usual options; `reset_on_close` makes accepted connections send
    /// an RST when they are closed.
    fn open(addr: SocketAddr, reuse_port: bool, reset_on_close: bool) -> io::Result<Self> {
        assert_no_table_locked();
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.set_nonblocking(true)?;
        // Accepted connections inherit these options, which saves as many system calls for each. Setting the congestion
        // control of an accepted connection would be too late, because pacing that has begun continues.
        disable_pacing_on_loopback(&SockRef::from(&socket), addr.ip());
        set_common_options(&socket, true);
        if reset_on_close {
            // Before listen(2), so that the first connection inherits it too.
            enable_reset_on_close(&socket);
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Self::register(socket.into())
    }

    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for types whose descriptor may change; the descriptor of std's listener does not"
    )]
    /// Registers a listening socket with the runtime.
    fn register(listener: StdListener) -> io::Result<Self> {
        AsyncFd::with_interest(listener, Interest::READABLE).map(Self)
    }

    /// Returns the address that the listener is bound to.
    ///
    /// # Errors
    /// getsockname(2) failed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// Waits for the next connection. Returns it with the client's address.
    ///
    /// # Errors
    /// Those of accept(2): the client has aborted the connection, or the process has no descriptor or memory for it.
    pub async fn accept(&self) -> io::Result<(StdStream, SocketAddr)> {
        self.0.async_io(Interest::READABLE, accept).await
    }

    /// Accepts a connection from the backlog without waiting. Calls accept(2) even if tokio has not seen the listener
    /// readable yet.
    ///
    /// # Errors
    /// `WouldBlock` if the backlog is empty, and those of [`accept`](Self::accept).
    pub fn try_accept(&self) -> io::Result<(StdStream, SocketAddr)> {
        accept(self.0.get_ref())
    }

    /// Directs new connections on a port with `SO_REUSEPORT` to the process that began to listen on it after this one,
    /// for a zero-downtime restart. Other systems than Linux cannot do that: connections that arrive while this
    /// listener is closed may be lost there.
    pub fn divert_new_connections(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = super::reuse_port::divert(self.as_fd()) {
            tracing::debug!(
                "cannot direct new connections to the successor (socket option SO_ATTACH_REUSEPORT_CBPF): {error}"
            );
        }
    }
}

impl AsFd for Listener {
    /// Returns the descriptor of the listening socket.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// Accepts one connection and makes it non-blocking. Returns the address of an IPv4 client of an IPv6 listener as IPv4:
/// limits, logs, screens and OPEN know each client by one address, whatever the server listens on.
fn accept(listener: &StdListener) -> io::Result<(StdStream, SocketAddr)> {
    let (stream, addr) = listener.accept()?;
    let addr = canonical(addr);
    stream.set_nonblocking(true)?;
    // On Linux accepted connections inherit the options of their listener; other systems may not do that.
    #[cfg(not(target_os = "linux"))]
    {
        set_common_options(&SockRef::from(&stream), true);
        if SockRef::from(listener).linger()?.is_some() {
            enable_reset_on_close(&stream);
        }
    }
    Ok((stream, addr))
}

#[cfg(test)]
mod tests;
