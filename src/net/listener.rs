use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    os::fd::{AsFd, BorrowedFd},
};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::socket::{arm, do_not_pace, tune};

/// How many connections may wait to be accepted.
const QUEUE: i32 = 1024;

/// A port that is listened on. Its connections are tuned before they are accepted, and nobody's yet: the runtime
/// that is to look after one takes it on with `TcpStream::from_std`.
///
/// tokio's own listener gives each connection to the runtime that accepts, from where it had to be taken again.
#[derive(Debug)]
pub struct Listener(AsyncFd<StdListener>);

impl Listener {
    /// Listens on `addr`. It may take a port whose last connections still linger in the kernel, so that a server that
    /// was restarted gets its ports again; and, if the port is `shared`, one on which others of the same user listen
    /// that share theirs too.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind(addr: SocketAddr, shared: bool) -> io::Result<Self> {
        Self::open(addr, shared, false)
    }

    /// The same for users: their connections are armed when they come.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn bind_armed(addr: SocketAddr, shared: bool) -> io::Result<Self> {
        Self::open(addr, shared, true)
    }

    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, for types whose descriptor may change; std's does not"
    )]
    fn open(addr: SocketAddr, shared: bool, armed: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        socket.set_nonblocking(true)?;
        // Its connections inherit all this, which saves each of them as many system calls; and for the pace it would
        // come too late once they are there, for pacing that has begun goes on.
        do_not_pace(&SockRef::from(&socket), addr.ip());
        tune(&socket, true);
        if armed {
            // Before it listens: who comes in that moment must not have a connection without.
            arm(&socket);
        }
        socket.bind(&addr.into())?;
        socket.listen(QUEUE)?;
        AsyncFd::with_interest(socket.into(), Interest::READABLE).map(Self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// Those of accept(2): the connection is gone already, or there is no descriptor or memory for it.
    pub async fn accept(&self) -> io::Result<(StdStream, SocketAddr)> {
        self.0.async_io(Interest::READABLE, accept).await
    }

    /// One that waits already, without asking the runtime, which may say that none does because it has not looked.
    ///
    /// # Errors
    /// `WouldBlock` if none waits, and those of [`accept`](Self::accept).
    pub fn accept_now(&self) -> io::Result<(StdStream, SocketAddr)> {
        accept(self.0.get_ref())
    }

    /// Has connections that come to a shared port from now on go to the other one who listens there. Elsewhere than on
    /// Linux there is no way to say that, and those that come in the moment of closing may be lost.
    pub fn hand_over(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = super::reuse_port::divert(self.as_fd()) {
            tracing::debug!("cannot hand a port over: {error}");
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

fn accept(listener: &StdListener) -> io::Result<(StdStream, SocketAddr)> {
    let (stream, addr) = listener.accept()?;
    stream.set_nonblocking(true)?;
    // Linux has connections inherit what is set on their listener; others are not known to.
    #[cfg(not(target_os = "linux"))]
    {
        tune(&SockRef::from(&stream), true);
        if SockRef::from(listener).linger()?.is_some() {
            arm(&stream);
        }
    }
    Ok((stream, addr))
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    #[tokio::test]
    async fn connections_come_tuned_and_armed() {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let (plain, armed) = (Listener::bind(any, false).unwrap(), Listener::bind_armed(any, false).unwrap());
        for (listener, linger) in [(plain, None), (armed, Some(Duration::ZERO))] {
            let _user = StdStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
            assert_eq!(socket.linger().unwrap(), linger);
            assert_eq!(stream.read_timeout().unwrap(), None);
            assert_eq!(listener.accept_now().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}
