//! One stream on the proxy: connects to the target and relays.

use std::{io, sync::Arc};

use crate::{
    config::ProxyConfig,
    link::{Stream, StreamOutcome},
    net::{ConnectPolicy, Connector},
    runtime::Tasks,
    wire::{Open, ResetCode},
};

/// Connects to the target for one stream and relays between the two until the stream ends. If no connection to the
/// target can be established, resets the stream with a code that says why.
pub(super) async fn serve_stream(
    config: Arc<ProxyConfig>,
    connector: Arc<Connector>,
    tasks: Tasks,
    stream: Stream,
    open: Open,
) {
    // Identifies the user in this log; the target sees the proxy's address only.
    let user = open.user.map(tracing::field::display);
    let (key, target) = (open.key, &config.target);
    let connected = tokio::select! {
        connected = connector.connect(target, ConnectPolicy::for_target(config.dial_timeout)) => connected,
        // The user disconnected meanwhile. Dropping the attempt resets the connection if it was just established.
        _ = stream.wait_for_reset() => return,
    };
    let socket = match connected {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(user, "stream {key}: cannot connect to {target}: {error}");
            return stream.reset(connect_error_code(error.kind()));
        }
    };
    stream.accept();
    tracing::debug!(user, "stream {key}: connected to {target}");
    let relay = stream.relay(socket, ResetCode::TargetIoError, tasks.token(), || ResetCode::Shutdown);
    match relay.await.0 {
        StreamOutcome::Finished => tracing::debug!(user, "stream {key} finished"),
        StreamOutcome::SocketFailed(error) => {
            tracing::info!(user, "stream {key}: I/O error on the target's connection: {error}");
        }
        StreamOutcome::Reset(code) => tracing::info!(user, "stream {key} was reset by the server: {code}"),
        StreamOutcome::Cancelled => {}
    }
}

/// Returns the reset code for an error of connect(2) or of the name resolution.
fn connect_error_code(kind: io::ErrorKind) -> ResetCode {
    match kind {
        io::ErrorKind::ConnectionRefused => ResetCode::TargetRefused,
        io::ErrorKind::TimedOut => ResetCode::TargetTimeout,
        _ => ResetCode::TargetUnreachable,
    }
}
