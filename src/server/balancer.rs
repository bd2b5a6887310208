//! Load balancers in front of the server: they name the address of each user or proxy in a header of the PROXY
//! protocol.
//!
//! From the addresses that the operator trusts a header is required, and from all others it is not interpreted, because
//! its sender chooses the address in it. The address takes the place of the connection's own in everything that
//! follows: networks, limits, admission, events, screens, and the header that a target receives.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::pending_table::{PendingSlot, PendingTable};
use crate::{
    config::ServerConfig,
    ids::NetworkSet,
    net::{ReadHeaderError, has_data, read_proxy_header},
    telemetry::seconds,
    wire::{UserAddresses, proxy_protocol::ProxyHeader},
};

/// How long a connection that a load balancer has opened for itself may send nothing before it is served like a user's.
/// Most health checks close it at once, which need not concern the proxies; some wait for the target to speak first.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_millis(250);

/// The load balancers in front of the server.
#[derive(Debug)]
pub(super) struct Balancers {
    /// The addresses from which a header is required.
    trusted: ArcSwap<NetworkSet>,
    /// How long a header may take.
    timeout: Duration,
    /// The connections to public ports whose header is not complete: where the table is full, a new one displaces one
    /// of the address that has most. Those to the tunnel port are in the tables of
    /// [`Admission`](super::admission::Admission).
    pending_users: Arc<PendingTable<()>>,
}

/// One connection to a public port whose header is not complete. Dropping it frees its slot.
#[derive(Debug)]
pub(super) struct PendingHeader {
    /// Cancelled when the connection was displaced by a newer one, and has to be closed.
    displaced: CancellationToken,
    /// The slot of the connection.
    _slot: PendingSlot<()>,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// The address of the user or the proxy; that of a load balancer which does not know it, or which has opened the
    /// connection for itself.
    pub(super) addr: SocketAddr,
    /// The address that the user or the proxy has connected to, if a load balancer has named it; else it is that of the
    /// socket.
    pub(super) public: Option<SocketAddr>,
    /// Whether a load balancer has opened the connection for itself (LOCAL): a health check, which no user has caused.
    pub(super) is_health_check: bool,
}

impl From<SocketAddr> for Origin {
    /// Returns the origin of a connection from `addr` without a load balancer.
    fn from(addr: SocketAddr) -> Self {
        Self { addr, public: None, is_health_check: false }
    }
}

/// Why a connection of a load balancer was closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BalancerError {
    /// The header could not be read.
    #[error("{0} (from an address of --trust-proxy-protocol)")]
    Header(#[from] ReadHeaderError),
    /// The header took longer than this.
    #[error("no complete PROXY protocol header within {} (from an address of --trust-proxy-protocol)", seconds(*.0))]
    Timeout(Duration),
    /// The connection was displaced by a newer one.
    #[error("too many connections without a complete PROXY protocol header: displaced by a newer one")]
    Displaced,
    /// A health check has ended before it sent anything.
    #[error("health check of a load balancer")]
    HealthCheck,
}

impl BalancerError {
    /// Returns whether load balancers do so when they check that the port is open: it is no failure.
    pub(super) fn is_usual(&self) -> bool {
        matches!(self, Self::HealthCheck | Self::Header(ReadHeaderError::Closed))
    }
}

impl Balancers {
    /// Returns the load balancers that the configuration trusts.
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            trusted: ArcSwap::from_pointee(config.trusted_balancers.clone()),
            timeout: config.handshake_step_timeout,
            pending_users: PendingTable::new(config.max_pending_handshakes / 2),
        }
    }

    /// Replaces the addresses from which a header is required, for new connections.
    pub(super) fn replace_trusted(&self, trusted: NetworkSet) {
        self.trusted.store(Arc::new(trusted));
    }

    /// Returns whether a connection from `addr` has to begin with a header.
    pub(super) fn is_trusted(&self, addr: SocketAddr) -> bool {
        self.trusted.load().find(addr.ip()).is_some()
    }

    /// Admits a connection from `addr` to a public port, whose header is to be read.
    pub(super) fn admit(&self, addr: SocketAddr) -> PendingHeader {
        let displaced = CancellationToken::new();
        let slot = self.pending_users.insert((), addr.ip().into(), displaced.clone());
        PendingHeader { displaced, _slot: slot }
    }

    /// Reads the header of a user's connection from `addr`. A health check that sends nothing else is not served.
    ///
    /// # Errors
    /// [`BalancerError`]; the connection must be closed.
    pub(super) async fn read_user(
        &self,
        pending: PendingHeader,
        socket: &TcpStream,
        addr: SocketAddr,
    ) -> Result<Origin, BalancerError> {
        tokio::select! {
            origin = self.read_origin(socket, addr, HEALTH_CHECK_TIMEOUT) => origin,
            () = pending.displaced.cancelled() => Err(BalancerError::Displaced),
        }
    }

    /// Reads the header of a proxy's connection from `addr` to the tunnel port. A health check that sends nothing else
    /// is no proxy: those speak first.
    ///
    /// # Errors
    /// [`BalancerError`]; the connection must be closed.
    pub(super) async fn read_proxy(
        &self,
        displaced: &CancellationToken,
        socket: &TcpStream,
        addr: SocketAddr,
    ) -> Result<Origin, BalancerError> {
        let origin = async {
            let origin = self.read_origin(socket, addr, self.timeout).await?;
            // In version 1, a health check is a connection that the load balancer does not name.
            if origin.public.is_none()
                && let Ok(false) = tokio::time::timeout(self.timeout, has_data(socket)).await
            {
                return Err(BalancerError::HealthCheck);
            }
            Ok(origin)
        };
        tokio::select! {
            origin = origin => origin,
            () = displaced.cancelled() => Err(BalancerError::Displaced),
        }
    }

    /// Reads the header of a connection from `addr`. If a load balancer has opened it for itself, waits for the first
    /// byte behind the header, at most `max_silence`.
    ///
    /// # Errors
    /// [`BalancerError`]; the connection must be closed.
    async fn read_origin(
        &self,
        socket: &TcpStream,
        addr: SocketAddr,
        max_silence: Duration,
    ) -> Result<Origin, BalancerError> {
        let header = tokio::time::timeout(self.timeout, read_proxy_header(socket)).await;
        match header.map_err(|_| BalancerError::Timeout(self.timeout))?? {
            ProxyHeader::Relayed { client, public } => {
                Ok(Origin { addr: client, public: Some(public), is_health_check: false })
            }
            ProxyHeader::Unknown => Ok(addr.into()),
            ProxyHeader::Local => match tokio::time::timeout(max_silence, has_data(socket)).await {
                Ok(false) => Err(BalancerError::HealthCheck),
                Ok(true) | Err(_) => Ok(Origin { is_health_check: true, ..addr.into() }),
            },
        }
    }
}

impl Origin {
    /// Returns the ends of the user's connection; `None` if it is not of a user. `local` is the address of the socket.
    pub(super) fn user_addresses(self, local: Option<SocketAddr>) -> Option<UserAddresses> {
        let addresses = UserAddresses { client: self.addr, public: self.public.or(local) };
        (!self.is_health_check).then_some(addresses)
    }
}
