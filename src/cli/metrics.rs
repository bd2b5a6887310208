//! The address of `--metrics`: opened at the start, and handed over in a zero-downtime restart.

use std::{convert::Infallible, future::pending, io, net::SocketAddr, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::metrics::{MetricsBindError, MetricsListener};

/// How often a server that takes over tries to get the address from the one that drains.
const TAKE_OVER_INTERVAL: Duration = Duration::from_millis(250);

/// The address for scrapers and health checks.
#[derive(Debug)]
pub(super) struct MetricsEndpoint {
    /// The address that was asked for.
    addr: SocketAddr,
    /// The socket; `None` while the server that is replaced has the address.
    listener: Option<MetricsListener>,
    /// Whether another process may have the same ports (`--reuse-port`). Its address is not shared: of two processes
    /// that answer in turn, every counter would seem to be reset again and again.
    is_handover: bool,
}

impl MetricsEndpoint {
    /// Listens on `addr`, if there is one. With `is_handover` the address may still be in use.
    ///
    /// # Errors
    /// The address is not available, or in use; the message says what to do.
    pub(super) fn open(addr: Option<SocketAddr>, is_handover: bool) -> anyhow::Result<Option<Self>> {
        let Some(addr) = addr else { return Ok(None) };
        if !addr.ip().is_loopback() {
            tracing::warn!(
                "metrics on {addr} need no password: each client that can connect reads the names of services and proxies, and \
                 their traffic (option --metrics)"
            );
        }
        let listener = match MetricsListener::bind(addr) {
            Ok(listener) => Some(listener),
            Err(error) if is_handover && error.error.kind() == io::ErrorKind::AddrInUse => {
                tracing::info!("metrics: waiting for the server that has {addr} to drain");
                None
            }
            Err(error) => anyhow::bail!("{error}{}", remedy(&error)),
        };
        Ok(Some(Self { addr, listener, is_handover }))
    }

    /// Answers scrapers with `serve`; in a zero-downtime restart from the drain of the server before on, and until
    /// `draining`. Never completes.
    pub(super) async fn serve<F: Future<Output = Infallible>>(
        endpoint: Option<Self>,
        draining: &CancellationToken,
        serve: impl FnOnce(MetricsListener) -> F,
    ) -> Infallible {
        let Some(Self { addr, listener, is_handover }) = endpoint else { return pending().await };
        let listener = match listener {
            Some(listener) => listener,
            None => take_over(addr).await,
        };
        tracing::info!("metrics on http://{}/metrics", listener.addr());
        tokio::select! {
            never = serve(listener) => match never {},
            () = draining.cancelled(), if is_handover => pending().await,
        }
    }
}

/// Returns what to do about an address that cannot be opened; empty if the error says enough.
fn remedy(error: &MetricsBindError) -> String {
    match error.error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another program has the port (`ss -ltnp sport = :{}` shows it): choose another one",
            error.addr.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have that address (`ip addr` lists its addresses): choose one of them"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => "; low ports need root: choose a higher port".to_owned(),
        _ => String::new(),
    }
}

/// Waits until the address is free, and listens on it.
async fn take_over(addr: SocketAddr) -> MetricsListener {
    loop {
        tokio::time::sleep(TAKE_OVER_INTERVAL).await;
        if let Ok(listener) = MetricsListener::bind(addr) {
            return listener;
        }
    }
}
