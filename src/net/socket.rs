//! TCP sockets: the transport connection of a channel, and the socket options that all connections get.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, Shutdown, SocketAddr},
    os::fd::AsFd,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::TcpStream;

use super::{
    congestion_control,
    nonblocking::{try_read, try_write},
    tls_session::TlsSession,
};
use crate::{mux::TransportSample, telemetry::TcpInfo};

/// From this RTT on, the receive window of a channel is enlarged at once.
const MIN_OPENED_RTT: Duration = Duration::from_millis(20);

/// The receive window, in bytes, that a channel asks for then: 80 Mbit/s over 200 ms. The kernel
/// takes at most half of its own maximum (`net.ipv4.tcp_rmem`).
#[cfg(target_os = "linux")]
const OPENED_WINDOW: i32 = 2 << 20;

/// The receive window, in bytes, that a connection gets once its receive buffer is not fixed any more.
#[cfg(target_os = "linux")]
const RELEASED_WINDOW: i32 = 256 * 1024;

/// How long a connection is idle before the kernel sends keepalive probes (`TCP_KEEPIDLE`).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// The interval between two keepalive probes (`TCP_KEEPINTVL`).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The transport connection of a channel, TCP or TLS over TCP: everything that a channel needs of it. Only the driver
/// reads; any thread may write meanwhile, one at a time. No method takes `&mut self`, which would force both into one
/// task.
///
/// With TLS, what is above it has to allow for three things. Bytes may wait to be read although the socket is not
/// readable; [`readable`](Self::readable) and `poll_readable` take care of that. Bytes that were written may wait to be
/// sent (`unsent_bytes`), also such that the TLS session itself answers the peer with; they must be flushed when the
/// socket is writable. And an orderly end has to be announced (`announce_end`), otherwise the peer takes it for a
/// truncation.
#[derive(Debug)]
pub struct ChannelSocket {
    /// The TCP connection.
    stream: TcpStream,
    /// The TLS session; `None` without TLS.
    tls: Option<Box<TlsSession>>,
}

impl ChannelSocket {
    /// Wraps a TCP connection as a channel's socket, without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    /// Has all that follows on the connection pass through this TLS session.
    pub(super) fn set_tls(&mut self, session: TlsSession) {
        self.tls = Some(Box::new(session));
    }

    /// Returns whether the connection uses TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns keying material of the TLS session (RFC 8446, section 7.5), which only its two ends know; `None` without
    /// TLS.
    pub fn exporter(&self) -> Option<[u8; 32]> {
        self.tls.as_ref().map(|session| session.exporter())
    }

    /// Returns how many bytes of TLS wait to be sent, about: no less than 1 if there are any, and 0 without TLS.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |session| session.unsent_bytes())
    }

    /// Returns whether bytes wait to be read for which the socket does not become readable.
    fn has_plaintext(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.has_plaintext())
    }

    /// Sets `TCP_USER_TIMEOUT` (RFC 5482): the kernel aborts the connection once sent data was not acknowledged, or the
    /// peer's receive window was zero, for `timeout`. On other systems than Linux only the channel's pings detect that.
    pub(crate) fn set_user_timeout(&self, timeout: Duration) {
        #[cfg(target_os = "linux")]
        if let Err(error) = SockRef::from(&self.stream).set_tcp_user_timeout(Some(timeout)) {
            tracing::debug!("cannot set the socket option TCP_USER_TIMEOUT: {error}");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = timeout;
    }

    /// Bounds the kernel's retransmission timeout (`TCP_RTO_MAX_MS`) for a connection with this RTT, so that the
    /// connection continues soon after an interruption of its path. Has no effect on other systems than Linux 6.15 and
    /// later.
    pub(crate) fn bound_retransmission_timeout(&self, rtt: Duration) {
        #[cfg(target_os = "linux")]
        if let Err(error) = super::retransmission::set_max_timeout(
            self.stream.as_fd(),
            super::retransmission::max_timeout(rtt),
        ) {
            tracing::trace!("cannot set the socket option TCP_RTO_MAX_MS: {error}");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = rtt;
    }

    /// Enlarges the receive window at once.
    ///
    /// The kernel starts with 64 KiB, and doubles that for each RTT in which the reader has taken as much. Segments
    /// behind a lost one are not taken: on a path with losses, the sender waited for the window for several round trips
    /// of its slow start, which BBR took for a full path. Has no effect on other systems than Linux.
    fn open_receive_window(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = super::retransmission::open_receive_window(self.stream.as_fd(), OPENED_WINDOW) {
            tracing::debug!("cannot set the socket option SO_RCVLOWAT: {error}");
        }
    }

    /// Limits what waits in the send buffer, as [`set_notsent_lowat`] does, and enlarges the receive window if the RTT
    /// is long.
    pub(crate) fn set_buffers(&self, max_unsent: u32, rtt: Option<Duration>) {
        set_notsent_lowat(&self.stream, max_unsent);
        if rtt.is_some_and(|rtt| rtt >= MIN_OPENED_RTT) {
            self.open_receive_window();
        }
    }

    /// Reads the kernel's statistics of the connection (`TCP_INFO`). Returns `None` on other systems than Linux, and if
    /// the system call fails.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        #[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
        return super::tcp_info::read(self.stream.as_fd()).ok();
        #[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
        None
    }

    /// Returns the RTT that the kernel has measured so far; `None` if it has measured none, and on other systems than
    /// Linux.
    pub(crate) fn handshake_rtt(&self) -> Option<Duration> {
        self.tcp_info().map(|tcp| tcp.smoothed_rtt).filter(|rtt| !rtt.is_zero())
    }

    /// Returns the local and the remote address of the connection, IPv4-mapped ones as IPv4.
    ///
    /// # Errors
    /// The connection was aborted.
    pub(crate) fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        addresses(&self.stream)
    }

    /// Returns whether the peer is on this host: its address is a loopback address.
    pub(crate) fn is_loopback(&self) -> bool {
        self.stream.peer_addr().is_ok_and(|addr| addr.ip().to_canonical().is_loopback())
    }

    /// Reads what the congestion control of the channel needs of the kernel's statistics (`TCP_INFO`). Returns `None`
    /// on other systems than Linux, and if the system call fails.
    pub(crate) fn transport_sample(&self) -> Option<TransportSample> {
        #[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
        return super::tcp_info::sample(self.stream.as_fd()).ok();
        #[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"))))]
        None
    }

    /// Requests the congestion control with this name from the kernel. Where it does not offer that one, the connection
    /// keeps the one that it has.
    pub fn request_congestion_control(&self, name: &str) {
        if let Err(error) = congestion_control::set(&SockRef::from(&self.stream), name) {
            tracing::debug!("cannot set the socket option TCP_CONGESTION to {name}: {error}");
        }
    }

    /// Returns the name of the connection's congestion control; `None` on other systems than Linux.
    pub fn congestion_control(&self) -> Option<String> {
        congestion_control::get(&SockRef::from(&self.stream))
    }

    /// Chooses how the connection is closed: with an RST (`SO_LINGER` of zero), or with a FIN. The choice also holds
    /// when the kernel closes the socket of a killed process.
    pub(crate) fn set_reset_on_close(&self, enabled: bool) {
        set_linger(&self.stream, enabled.then_some(Duration::ZERO));
    }

    /// Registers the socket with the I/O driver of the tokio runtime that this is called on.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub fn move_to_current_runtime(self) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::from_std(self.stream.into_std()?)?, tls: self.tls })
    }

    /// Waits until there may be something to read.
    ///
    /// # Errors
    /// The tokio runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        if self.has_plaintext() {
            return Ok(());
        }
        self.stream.readable().await
    }

    /// Waits until the socket is writable.
    ///
    /// # Errors
    /// The tokio runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Polls for something to read. Only the task that polled last is woken.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_plaintext() {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_read_ready(cx)
    }

    /// Polls for the socket being writable. Only the task that polled last is woken.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    /// Reads into the spare capacity of `buf` without waiting. Returns the number of bytes; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is no data. With TLS, `UnexpectedEof` for an end that the peer has not announced, which
    /// any host on the path can cause, and `InvalidData` if the peer violates TLS or its bytes were changed in transit.
    /// Otherwise an I/O error on the connection.
    pub fn try_read(&self, buf: &mut BytesMut) -> io::Result<usize> {
        match &self.tls {
            None => try_read(&self.stream, buf),
            Some(session) => session.try_read(&self.stream, buf),
        }
    }

    /// Announces that nothing follows what was written (close_notify), as far as the send buffer takes it. Does nothing
    /// without TLS, where the FIN says it.
    pub(crate) fn announce_end(&self) {
        if let Some(session) = &self.tls
            && let Err(error) = session.send_close_notify(&self.stream)
        {
            tracing::debug!("cannot announce the end of the TLS session: {error}");
        }
    }

    /// Shuts down the write direction: the kernel sends a FIN after the data.
    ///
    /// # Errors
    /// An I/O error on the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.announce_end();
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }

    /// Writes as much of `slices` as the send buffer accepts without waiting. Returns the number of bytes. With TLS,
    /// some of them may be unsent yet; another call, also one with nothing to write, sends them first.
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full, otherwise an I/O error on the connection.
    pub fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.tls {
            None => try_write(&self.stream, slices),
            Some(session) => session.try_write(&self.stream, slices),
        }
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
/// Where nothing listens on a port of the ephemeral range, the kernel may choose that very port as the local one, and
/// the connection attempt meets itself (simultaneous open, RFC 9293, section 3.5): some thousand attempts to a target
/// that was being restarted were enough. The sender then receives its own bytes, and the target cannot bind its port.
///
/// Closing such a connection with an RST (`SO_LINGER` of zero) frees the port at once; after a FIN it would be in
/// TIME_WAIT.
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

/// Sets `TCP_NOTSENT_LOWAT`: the socket is not writable while its send buffer holds `bytes` or more that the kernel has
/// not sent yet; 0 selects the system's default. Has no effect on other systems than Linux.
pub(crate) fn set_notsent_lowat(stream: &TcpStream, bytes: u32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(bytes) {
        tracing::debug!("cannot set the socket option TCP_NOTSENT_LOWAT: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, bytes);
}

/// Fixes the size of a socket's receive buffer (`SO_RCVBUF`), so that the kernel does not enlarge it while data is
/// read.
pub(crate) fn fix_receive_buffer(stream: &TcpStream, bytes: usize) {
    if let Err(error) = SockRef::from(stream).set_recv_buffer_size(bytes) {
        tracing::debug!("cannot set the socket option SO_RCVBUF: {error}");
    }
}

/// Lets the kernel enlarge a receive buffer again that was [fixed](fix_receive_buffer). Where it cannot (Linux before
/// 5.14, other systems), the buffer gets a fixed size that suffices for most paths.
pub(crate) fn release_receive_buffer(stream: &TcpStream) {
    const LARGE: usize = 4 << 20;
    #[cfg(target_os = "linux")]
    if super::retransmission::unlock_buffers(stream.as_fd()).is_ok() {
        // It is enlarged at once: the kernel does so itself only for a reader that takes more in one RTT than ever
        // before, which one that has emptied the small buffer each time may never do.
        if let Err(error) = super::retransmission::open_receive_window(stream.as_fd(), RELEASED_WINDOW) {
            tracing::debug!("cannot set the socket option SO_RCVLOWAT: {error}");
        }
        return;
    }
    fix_receive_buffer(stream, LARGE);
}

/// Selects Reno as the congestion control of a loopback connection, which cannot be congested.
///
/// A congestion control with pacing (BBR, where the system uses it) arms a timer for nearly every segment there, which
/// cost a third of the throughput. Reno is available on every Linux.
pub(crate) fn disable_pacing_on_loopback(socket: &SockRef<'_>, addr: IpAddr) {
    if cfg!(target_os = "linux")
        && addr.is_loopback()
        && let Err(error) = congestion_control::set(socket, "reno")
    {
        tracing::debug!("cannot set the socket option TCP_CONGESTION to reno: {error}");
    }
}

/// Sets the options that every socket gets: `TCP_NODELAY`, and with `keepalive` also `SO_KEEPALIVE`, so that a peer
/// host that lost power is detected.
///
/// With Nagle's algorithm a response of a header and a body would wait 40 ms for a delayed acknowledgement; batching in
/// user space replaces it.
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

/// Makes closing `stream` send an RST (`SO_LINGER` of zero), whether this process closes it, panics, or is killed. The
/// peer therefore never takes a truncated stream for a complete one.
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
