//! TCP connections to `HOST:PORT`: the name is resolved, and its addresses are tried beside each other.

use std::{fmt, io, mem::MaybeUninit, net::SocketAddr, sync::Arc, time::Duration};

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    happy_eyeballs::{AttemptSchedule, FailedAddress, connect_first},
    name_cache::{Freshness, NameCache},
    socket::{disable_pacing_on_loopback, refuse_self_connection, set_common_options},
};

/// How long before the end of a connect an attempt without a permit fails, so that the error tells that none was left.
const PERMIT_MARGIN: Duration = Duration::from_millis(10);

/// How many sockets all attempts to reach the server may take together beside the first one of each channel. In an
/// outage each of 8 channels has 15 such attempts, without which it would resume later; with 64 channels these and
/// their first ones are the share of the tunnel in 1,024 descriptors.
const MAX_EXTRA_SERVER_SOCKETS: usize = 192;

/// How long connecting may take, and how much effort it is worth.
#[derive(Debug, Clone, Copy)]
pub struct ConnectPolicy<'a> {
    /// How long resolving the name and connecting may take together.
    timeout: Duration,
    /// The interval of further attempts to an address that does not answer; `None` for one attempt per address.
    repeat_interval: Option<Duration>,
    /// How recent the addresses of the name must be.
    freshness: Freshness,
    /// Holds one permit for each socket that may exist beside the first one of a connect; `None` for any number.
    extra_sockets: Option<&'a Semaphore>,
}

impl<'a> ConnectPolicy<'a> {
    /// The policy for the target of a stream: one attempt per address, within `timeout`. Addresses are used for 30 s;
    /// older ones still serve while a lookup renews them, so that no stream waits for the resolver but the first.
    pub fn for_target(timeout: Duration) -> Self {
        let freshness = Freshness { max_age: Duration::from_secs(30), max_wait: Duration::ZERO };
        Self { timeout, repeat_interval: None, freshness, extra_sockets: None }
    }

    /// Limits the sockets that attempts to further addresses take while the first attempt is pending: each holds a
    /// permit of `sockets`, and waits until there is one or the first attempt has failed. The caller accounts for the
    /// first socket.
    #[must_use]
    pub fn with_extra_sockets(self, sockets: &'a Semaphore) -> Self {
        Self { extra_sockets: Some(sockets), ..self }
    }
}

/// Why no connection to `HOST:PORT` was established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name could not be resolved.
    #[error("cannot resolve the name: {0}")]
    Resolve(Arc<io::Error>),
    /// No address accepted the connection.
    #[error("{}", Failures(.failed, *.timeout))]
    Addresses {
        /// Every address that was tried.
        failed: Vec<FailedAddress>,
        /// How long connecting was permitted to take.
        timeout: Duration,
    },
}

impl ConnectError {
    /// Returns the kind of failure of all addresses together: a timeout if one of them did not answer, else a refusal
    /// if one refused the connection, else the error of the first one.
    pub fn kind(&self) -> io::ErrorKind {
        let failed = match self {
            Self::Resolve(error) => return error.kind(),
            Self::Addresses { failed, .. } => failed,
        };
        let kinds =
            || failed.iter().map(|one| one.error.as_ref().map_or(io::ErrorKind::TimedOut, io::Error::kind));
        let precedence = [io::ErrorKind::TimedOut, io::ErrorKind::ConnectionRefused];
        let found = precedence.into_iter().find(|kind| kinds().any(|one| one == *kind));
        found.or_else(|| kinds().next()).unwrap_or(io::ErrorKind::Other)
    }

    /// Returns whether this host has no descriptor or no memory for a connection: then the failure says nothing about
    /// the address.
    pub fn is_exhausted(&self) -> bool {
        let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].map(Errno::raw_os_error);
        let is_exhausted =
            |error: &io::Error| error.raw_os_error().is_some_and(|code| exhausted.contains(&code));
        match self {
            Self::Resolve(error) => is_exhausted(error),
            Self::Addresses { failed, .. } => {
                failed.iter().any(|one| one.error.as_ref().is_some_and(is_exhausted))
            }
        }
    }

    /// Returns whether no packet has left this host: the name could not be resolved, or there is no route to any
    /// address. It happens while this host changes its network, and a retry costs the other side nothing.
    pub fn is_local(&self) -> bool {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable};
        let is_unreachable = |error: &io::Error| {
            matches!(error.kind(), AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable)
        };
        match self {
            Self::Resolve(_) => true,
            Self::Addresses { failed, .. } => {
                failed.iter().all(|one| one.error.as_ref().is_some_and(is_unreachable))
            }
        }
    }
}

/// Displays which addresses were tried and why each failed.
struct Failures<'a>(&'a [FailedAddress], Duration);

impl fmt::Display for Failures<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, FailedAddress { address, error }) in self.0.iter().enumerate() {
            f.write_str(if n > 0 { "; " } else { "" })?;
            match error {
                Some(error) => write!(f, "{address}: {error}")?,
                None => write!(f, "{address}: no answer within {:?}", self.1)?,
            }
        }
        Ok(())
    }
}

/// Establishes TCP connections to names, and remembers their addresses and which of them answered.
#[derive(Debug)]
pub struct Connector {
    /// The addresses of names that were connected to.
    names: NameCache,
    /// Holds one permit for each socket that may exist beside the first one of each connect to the server.
    server_sockets: Semaphore,
}

impl Default for Connector {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector {
    /// Creates a connector that resolves names with getaddrinfo(3).
    pub fn new() -> Self {
        Self::with_names(NameCache::new())
    }

    /// Creates a connector that resolves `HOST:PORT` with `lookup`, which may block its thread. For tests.
    pub fn with_lookup(lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self::with_names(NameCache::with_lookup(lookup))
    }

    /// Creates a connector that resolves names with `names`.
    fn with_names(names: NameCache) -> Self {
        Self { names, server_sockets: Semaphore::new(MAX_EXTRA_SERVER_SOCKETS) }
    }

    /// Returns the policy for the server. An address that does not answer gets another attempt every 500 ms: after an
    /// interruption of the path the kernel would send the next SYN after up to 8 s more. An attempt may be pending
    /// until the whole connect times out, after 20 s, because the RTT may be seconds. The name is looked up each time,
    /// since the server may have moved; but not for longer than a second if the old addresses are known. All connects
    /// to the server share the sockets beside the first one of each.
    pub fn server_policy(&self) -> ConnectPolicy<'_> {
        ConnectPolicy {
            timeout: Duration::from_secs(20),
            repeat_interval: Some(Duration::from_millis(500)),
            freshness: Freshness { max_age: Duration::from_secs(1), max_wait: Duration::from_secs(1) },
            extra_sockets: Some(&self.server_sockets),
        }
    }

    /// Returns the addresses of `HOST:PORT` that [`connect`](Self::connect) would try.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub async fn resolve(
        &self,
        name: &str,
        policy: ConnectPolicy<'_>,
    ) -> Result<Vec<SocketAddr>, Arc<io::Error>> {
        match name.parse::<SocketAddr>() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.names.resolve(name, policy.freshness).await,
        }
    }

    /// Connects to `HOST:PORT`: to the address of the name that answers first (Happy Eyeballs, RFC 8305). The
    /// connection has the usual socket options. Dropping the future cancels all attempts.
    ///
    /// The connection is reset when it is closed (`SO_LINGER` of zero) from its first moment: if the caller gives up
    /// while the other side accepts, that side must not take the closed connection for an empty but complete stream.
    ///
    /// # Errors
    /// The name cannot be resolved, or no address has accepted the connection in time.
    pub async fn connect(&self, to: &str, policy: ConnectPolicy<'_>) -> Result<TcpStream, ConnectError> {
        let ConnectPolicy { timeout, repeat_interval, freshness, extra_sockets } = policy;
        let schedule = AttemptSchedule { deadline: Instant::now() + timeout, repeat_interval };
        let failure = |failed| ConnectError::Addresses { failed, timeout };
        let first_socket = Semaphore::new(1);
        let sockets = extra_sockets.map(|extra| (&first_socket, extra));
        let connect = |address| connect_within(address, sockets, schedule.deadline);
        if let Ok(address) = to.parse::<SocketAddr>() {
            return connect_first(&[address], schedule, connect)
                .await
                .map(|(_, stream)| stream)
                .map_err(failure);
        }
        let resolved = timeout_at(schedule.deadline, self.names.resolve(to, freshness)).await;
        let resolved = resolved.unwrap_or_else(|_| {
            let text = format!("the resolver did not answer within {timeout:?}");
            Err(Arc::new(io::Error::new(io::ErrorKind::TimedOut, text)))
        });
        let addresses = resolved.map_err(ConnectError::Resolve)?;
        match connect_first(&addresses, schedule, connect).await {
            Ok((address, stream)) => {
                self.names.prefer(to, address);
                Ok(stream)
            }
            Err(failed) => {
                self.names.expire(to);
                Err(failure(failed))
            }
        }
    }
}

/// Connects to one address, with a permit of one of `sockets`: of the first, which holds the one for the socket that
/// the caller of the connect accounts for, or of the other. Waits for a permit, and fails as if no descriptor were left
/// if there is none until shortly before `deadline`, at which the whole connect ends as a timeout.
async fn connect_within(
    address: SocketAddr,
    sockets: Option<(&Semaphore, &Semaphore)>,
    deadline: Instant,
) -> io::Result<TcpStream> {
    let Some((first, extra)) = sockets else { return connect_to(address).await };
    let permit = async {
        tokio::select! {
            biased;
            permit = first.acquire() => permit,
            permit = extra.acquire() => permit,
        }
    };
    let permit = timeout_at(deadline - PERMIT_MARGIN, permit).await;
    // Neither semaphore is ever closed.
    let Ok(Ok(_permit)) = permit else { return Err(Errno::MFILE.into()) };
    connect_to(address).await
}

/// Connects to one address, with the usual socket options and with `SO_LINGER` of zero.
async fn connect_to(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    disable_pacing_on_loopback(&SockRef::from(&socket), addr.ip());
    socket.set_linger(Some(Duration::ZERO))?;
    let stream = establish(socket, addr).await?;
    // Keepalive detects a peer host that lost power; this host would notice its own power loss.
    set_common_options(&SockRef::from(&stream), !addr.ip().is_loopback());
    Ok(stream)
}

/// Connects a non-blocking socket to one address.
///
/// Unlike tokio's connect it does not read `SO_ERROR`. A target that answers without a request and resets may have done
/// so by the time that this task runs; its answer is in the receive queue then, and the error belongs after it.
async fn establish(socket: Socket, addr: SocketAddr) -> io::Result<TcpStream> {
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    // Returns the error of a connection that was not established.
    match SockRef::from(&stream).peek(&mut [MaybeUninit::uninit()]) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => refuse_self_connection(&stream, addr.port()).map(|()| stream),
    }
}

#[cfg(test)]
mod tests;
