//! TCP sockets: the transport connection of a channel, and the socket options that all connections get.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Shutdown, SocketAddr},
    os::fd::AsFd,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::{io::Interest, net::TcpStream};

use super::congestion_control;
use crate::{mux::TransportSample, telemetry::TcpInfo};

/// How long a connection is idle before the kernel sends keepalive probes (`TCP_KEEPIDLE`).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// The interval between two keepalive probes (`TCP_KEEPINTVL`).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The transport connection of a channel: everything that a channel needs of it. TLS can be added behind these methods
/// without a change above them. None of them takes `&mut self`, which would force reading and writing into one task.
#[derive(Debug)]
pub struct ChannelSocket(TcpStream);

impl ChannelSocket {
    /// Wraps a TCP connection as a channel's socket, without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Sets `TCP_USER_TIMEOUT` (RFC 5482): the kernel aborts the connection once sent data was not acknowledged, or the
    /// peer's receive window was zero, for `timeout`. On other systems than Linux only the channel's pings detect that.
    pub(crate) fn set_user_timeout(&self, timeout: Duration) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&self.0).set_tcp_user_timeout(Some(timeout)) {
            tracing::debug!("cannot set the socket option TCP_USER_TIMEOUT: {error}");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = timeout;
    }

    /// Bounds the kernel's retransmission timeout (`TCP_RTO_MAX_MS`) for a connection with this RTT, so that the connection
    /// continues soon after an interruption of its path. Has no effect on other systems than Linux 6.15 and later.
    pub(crate) fn bound_retransmission_timeout(&self, rtt: Duration) {
        #[cfg(target_os = "linux")]
        if let Err(error) =
            super::retransmission::set_max_timeout(self.0.as_fd(), super::retransmission::max_timeout(rtt))
        {
            tracing::trace!("cannot set the socket option TCP_RTO_MAX_MS: {error}");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = rtt;
    }

    /// Sets `TCP_NOTSENT_LOWAT`: the socket is not writable while its send buffer holds `bytes` or more that the kernel has
    /// not sent yet. Has no effect on other systems than Linux.
    pub(crate) fn set_notsent_lowat(&self, bytes: u32) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&self.0).set_tcp_notsent_lowat(bytes) {
            tracing::debug!("cannot set the socket option TCP_NOTSENT_LOWAT: {error}");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }

    /// Reads the kernel's statistics of the connection (`TCP_INFO`). Returns `None` on other systems than Linux, and if the
    /// system call fails.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        #[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
        return super::tcp_info::read(self.0.as_fd()).ok();
        #[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
        None
    }

    /// Returns the RTT that the kernel has measured so far; `None` if it has measured none, and on other systems than Linux.
    pub(crate) fn handshake_rtt(&self) -> Option<Duration> {
        self.tcp_info().map(|tcp| tcp.smoothed_rtt).filter(|rtt| !rtt.is_zero())
    }

    /// Returns the local and the remote address of the connection, IPv4-mapped ones as IPv4.
    ///
    /// # Errors
    /// The connection was aborted.
    pub(crate) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        addresses(&self.0)
    }

    /// Returns whether the peer is on this host: its address is a loopback address.
    pub(crate) fn is_loopback(&self) -> bool {
        self.0.peer_addr().is_ok_and(|addr| addr.ip().to_canonical().is_loopback())
    }

    /// Reads what the congestion control of the channel needs of the kernel's statistics (`TCP_INFO`). Returns `None` on
    /// other systems than Linux, and if the system call fails.
    pub(crate) fn transport_sample(&self) -> Option<TransportSample> {
        #[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
        return super::tcp_info::sample(self.0.as_fd()).ok();
        #[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
        None
    }

    /// Requests the congestion control with this name from the kernel. Where it does not offer that one, the connection
    /// keeps the one that it has.
    pub fn request_congestion_control(&self, name: &str) {
        if let Err(error) = congestion_control::set(&SockRef::from(&self.0), name) {
            tracing::debug!("cannot set the socket option TCP_CONGESTION to {name}: {error}");
        }
    }

    /// Returns the name of the connection's congestion control; `None` on other systems than Linux.
    pub fn congestion_control(&self) -> Option<String> {
        congestion_control::get(&SockRef::from(&self.0))
    }

    /// Chooses how the connection is closed: with an RST (`SO_LINGER` of zero), or with a FIN. The choice also holds when
    /// the kernel closes the socket of a killed process.
    pub(crate) fn set_reset_on_close(&self, enabled: bool) {
        set_linger(&self.0, enabled.then_some(Duration::ZERO));
    }

    /// Registers the socket with the I/O driver of the tokio runtime that this is called on.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub fn move_to_current_runtime(self) -> io::Result<Self> {
        TcpStream::from_std(self.0.into_std()?).map(Self)
    }

    /// Waits until the socket is readable.
    ///
    /// # Errors
    /// The tokio runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// Waits until the socket is writable.
    ///
    /// # Errors
    /// The tokio runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// Polls for the socket being readable. Only the task that polled last is woken.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }

    /// Polls for the socket being writable. Only the task that polled last is woken.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    /// Reads into the spare capacity of `buf` without waiting. Returns the number of bytes; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is no data, otherwise an I/O error on the connection.
    pub fn try_read(&self, buf: &mut BytesMut) -> io::Result<usize> {
        try_read(&self.0, buf)
    }

    /// Shuts down the write direction: the kernel sends a FIN after the data.
    ///
    /// # Errors
    /// An I/O error on the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&self.0).shutdown(Shutdown::Write)
    }

    /// Writes as much of `slices` as the send buffer accepts without waiting. Returns the number of bytes.
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full, otherwise an I/O error on the connection.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        try_write(&self.0, slices)
    }
}

/// Writes as much of `slices` as the send buffer of `stream` accepts without waiting. Returns the number of bytes.
///
/// # Errors
/// `WouldBlock` if the send buffer is full, otherwise an I/O error on the connection.
pub(crate) fn try_write(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        // send(2) has less to check than writev(2), and most responses are in one piece.
        [one] => stream.try_write(one),
        many => stream.try_write_vectored(many),
    }
}

/// Reads from `stream` into the spare capacity of `buf` without waiting. Returns the number of bytes; 0 is the end of the
/// stream.
///
/// A short read means that the receive buffer is empty. The function then clears tokio's readiness, so that the next attempt
/// returns `WouldBlock` without a system call: for small messages this saves one call of three.
pub(crate) fn try_read(stream: &TcpStream, buf: &mut impl BufMut) -> io::Result<usize> {
    let capacity = buf.chunk_mut().len();
    let mut read = 0;
    // Data that arrives meanwhile sets the readiness again: tokio clears only the readiness that it reported before.
    let result = stream.try_io(Interest::READABLE, || {
        read = stream.try_read_buf(buf)?;
        if 0 < read && read < capacity { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if read == 0 => Err(error),
        _ => Ok(read),
    }
}

/// Returns an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) as the IPv4 address that it stands for, and any other
/// address unchanged.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip if ip == addr.ip() => addr,
        ip => SocketAddr::new(ip, addr.port()),
    }
}

/// Returns the local address of a connection, an IPv4-mapped one as IPv4.
///
/// # Errors
/// The connection was aborted.
pub(crate) fn local_address(stream: &TcpStream) -> io::Result<SocketAddr> {
    stream.local_addr().map(canonical)
}

/// Returns the local and the remote address of a connection, IPv4-mapped ones as IPv4.
///
/// # Errors
/// The connection was aborted.
pub(crate) fn addresses(stream: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    Ok((canonical(stream.local_addr()?), canonical(stream.peer_addr()?)))
}

/// Fails if a connection that was established to `port` has no other end than itself.
///
/// Where nothing listens on a port of the ephemeral range, the kernel may choose that very port as the local one, and the
/// connection attempt meets itself (simultaneous open, RFC 9293, section 3.5): some thousand attempts to a target that was
/// being restarted were enough. The sender then receives its own bytes, and the target cannot bind its port.
///
/// Closing such a connection with an RST (`SO_LINGER` of zero) frees the port at once; after a FIN it would be in TIME_WAIT.
///
/// # Errors
/// `ConnectionRefused`, which the attempt would have had with any other local port.
pub(crate) fn refuse_self_connection(stream: &TcpStream, port: u16) -> io::Result<()> {
    // The remote port is known, and mostly tells the two ends apart without another system call.
    if stream.local_addr()?.port() != port {
        return Ok(());
    }
    let (local, peer) = addresses(stream)?;
    if local != peer {
        return Ok(());
    }
    enable_reset_on_close(stream);
    let text = "nothing listens on the port (the attempt to connect to it met itself)";
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
}

/// Selects Reno as the congestion control of a loopback connection, which cannot be congested.
///
/// A congestion control with pacing (BBR, where the system uses it) arms a timer for nearly every segment there, which cost
/// a third of the throughput. Reno is available on every Linux.
pub(crate) fn disable_pacing_on_loopback(socket: &SockRef<'_>, addr: IpAddr) {
    if cfg!(target_os = "linux")
        && addr.is_loopback()
        && let Err(error) = congestion_control::set(socket, "reno")
    {
        tracing::debug!("cannot set the socket option TCP_CONGESTION to reno: {error}");
    }
}

/// Sets the options that every socket gets: `TCP_NODELAY`, and with `keepalive` also `SO_KEEPALIVE`, so that a peer host
/// that lost power is detected.
///
/// With Nagle's algorithm a response of a header and a body would wait 40 ms for a delayed acknowledgement; batching in user
/// space replaces it.
pub(crate) fn set_common_options(socket: &Socket, keepalive: bool) {
    let times = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let keepalive_result = if keepalive { socket.set_tcp_keepalive(&times) } else { Ok(()) };
    for result in [socket.set_tcp_nodelay(true), keepalive_result] {
        if let Err(error) = result {
            // Setting an option fails on a connection that was aborted; the next read reports the cause.
            tracing::debug!("cannot set the socket options TCP_NODELAY or SO_KEEPALIVE: {error}");
        }
    }
}

/// Makes closing `stream` send an RST (`SO_LINGER` of zero), whether this process closes it, panics, or is killed. The peer
/// therefore never takes a truncated stream for a complete one.
pub(crate) fn enable_reset_on_close(stream: &impl AsFd) {
    set_linger(stream, Some(Duration::ZERO));
}

/// Makes closing `stream` send a FIN again, because the stream is complete.
pub(crate) fn disable_reset_on_close(stream: &TcpStream) {
    set_linger(stream, None);
}

/// Sets `SO_LINGER` of a socket: zero makes closing it send an RST, `None` a FIN. A failure is only logged.
fn set_linger(stream: &impl AsFd, linger: Option<Duration>) {
    if let Err(error) = SockRef::from(stream).set_linger(linger) {
        tracing::debug!("cannot set the socket option SO_LINGER: {error}");
    }
}
