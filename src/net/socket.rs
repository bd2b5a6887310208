use std::{
    io::{self, IoSlice},
    net::{IpAddr, Shutdown, SocketAddr},
    os::fd::AsFd,
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::{
    io::Interest,
    net::{TcpSocket, TcpStream, lookup_host},
};

use crate::telemetry::TcpInfo;

/// All that a channel needs of its connection. TLS goes behind these methods, and nothing above them changes:
/// none of them needs the exclusive access that would force reading and writing into one task.
#[derive(Debug)]
pub struct ChannelSocket(TcpStream);

impl ChannelSocket {
    /// A channel over plain TCP.
    pub fn plain(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Makes the connection fail once the other side has acknowledged nothing, or had no room, for `time`
    /// (`TCP_USER_TIMEOUT`, RFC 5482). Elsewhere than on Linux only the pings find out.
    pub(crate) fn give_up_after(&self, time: Duration) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&self.0).set_tcp_user_timeout(Some(time)) {
            tracing::debug!("cannot bound how long a channel waits: {error}");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = time;
    }

    /// Makes the connection take no more while it has as many bytes that it has not sent yet (`TCP_NOTSENT_LOWAT`).
    pub(crate) fn keep_unsent_below(&self, bytes: u32) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&self.0).set_tcp_notsent_lowat(bytes) {
            tracing::debug!("cannot bound what a channel's socket keeps: {error}");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }

    /// What the kernel measured of it so far. Only Linux tells.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        #[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
        return super::tcp_info::read(self.0.as_fd()).ok();
        #[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
        None
    }

    /// Whether closing the connection resets it, whoever closes it: also the kernel of a process that was killed.
    pub(crate) fn arm(&self, armed: bool) {
        set_linger(&self.0, armed.then_some(Duration::ZERO));
    }

    /// Has the runtime that this is called on look after the connection from now on.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub fn rehome(self) -> io::Result<Self> {
        TcpStream::from_std(self.0.into_std()?).map(Self)
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Waits until there is room to write.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// Reads into the free room of `buf`. 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing, else the connection has failed.
    pub fn try_read(&self, buf: &mut BytesMut) -> io::Result<usize> {
        read_some(&self.0, buf)
    }

    /// Tells the other side that nothing more will be written.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&self.0).shutdown(Shutdown::Write)
    }

    /// Writes as much of `slices` as fits.
    ///
    /// # Errors
    /// `WouldBlock` if nothing fits, else the connection has failed.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        write_some(&self.0, slices)
    }
}

/// Writes as much of `slices` as fits.
///
/// # Errors
/// `WouldBlock` if nothing fits, else the connection has failed.
pub(crate) fn write_some(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        // send(2) has less to look at than writev(2), and most answers are in one piece.
        [one] => stream.try_write(one),
        many => stream.try_write_vectored(many),
    }
}

/// Reads into the free room of `buf`. 0 is the end.
///
/// Less than there is room for means that the socket is empty. The runtime is told so, and the next try says
/// `WouldBlock` without a system call: for small messages that is one call of three.
pub(crate) fn read_some(stream: &TcpStream, buf: &mut impl BufMut) -> io::Result<usize> {
    let room = buf.chunk_mut().len();
    let mut read = 0;
    // What arrives meanwhile counts as news: only the readiness that was there before is taken back.
    let told = stream.try_io(Interest::READABLE, || {
        read = stream.try_read_buf(buf)?;
        if 0 < read && read < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match told {
        Err(error) if read == 0 => Err(error),
        _ => Ok(read),
    }
}

/// Connects to an address, or to the first of a name's that answers, and tunes the connection. It is armed from
/// its first moment: who gives up while the other side takes it in must not leave there a stream that is empty and whole.
///
/// # Errors
/// The name has no address, or none of them answers.
pub async fn connect(to: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for addr in lookup_host(to).await? {
        match connect_to(addr).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect_to(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    do_not_pace(&SockRef::from(&socket), addr.ip());
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    let stream = socket.connect(addr).await?;
    // A machine does not lose its own power unnoticed.
    tune(&SockRef::from(&stream), !addr.ip().is_loopback());
    Ok(stream)
}

/// Where a connection does not leave the machine, nothing on its way can be crowded. A congestion control that paces
/// (bbr, where the system has chosen it) arms a timer there for nearly every segment, and a third of what could be
/// carried was lost by that. Reno is there on every Linux.
pub(crate) fn do_not_pace(socket: &SockRef<'_>, addr: IpAddr) {
    #[cfg(target_os = "linux")]
    if addr.is_loopback()
        && let Err(error) = socket.set_tcp_congestion(b"reno")
    {
        tracing::debug!("cannot choose a congestion control: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, addr);
}

/// Sets what every socket of ours needs: no Nagle (a response of a header and a body would wait 40 ms for a delayed
/// acknowledgement; batching replaces it), and keep-alive where it `may_vanish`, so that a peer that lost its power is
/// noticed at last.
pub(crate) fn tune(socket: &Socket, may_vanish: bool) {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let kept_alive = if may_vanish { socket.set_tcp_keepalive(&keepalive) } else { Ok(()) };
    for result in [socket.set_tcp_nodelay(true), kept_alive] {
        if let Err(error) = result {
            // It fails where the connection is gone already; the next read says so with more to tell.
            tracing::debug!("cannot tune a socket: {error}");
        }
    }
}

/// From now on closing `stream` resets it, whoever closes it and why: an error here, a panic, the kernel after
/// `kill -9`. Whatever cuts a stream short, the other side never takes it for a whole one.
pub(crate) fn arm(stream: &impl AsFd) {
    set_linger(stream, Some(Duration::ZERO));
}

/// Everything has arrived: closing `stream` is an orderly end again.
pub(crate) fn disarm(stream: &TcpStream) {
    set_linger(stream, None);
}

fn set_linger(stream: &impl AsFd, linger: Option<Duration>) {
    if let Err(error) = SockRef::from(stream).set_linger(linger) {
        tracing::debug!("cannot set how a socket closes: {error}");
    }
}
