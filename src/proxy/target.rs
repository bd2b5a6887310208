//! One stream on the proxy: connects to the target and relays.

use std::{io, sync::Arc};

use crate::{
    config::ProxyConfig,
    link::{Stream, StreamOutcome},
    net::connect,
    runtime::Tasks,
    telemetry::seconds,
    wire::{Open, ResetCode},
};

/// Connects to the target for one stream and relays between the two until the stream ends. If no connection to the
/// target can be established, resets the stream with a code that says why.
pub(super) async fn serve_stream(config: Arc<ProxyConfig>, tasks: Tasks, stream: Stream, open: Open) {
    // Identifies the user in this log; the target sees the proxy's address only.
    let user = open.user.map(tracing::field::display);
    let (key, target) = (open.key, &config.target);
    let connected = tokio::select! {
        connected = tokio::time::timeout(config.dial_timeout, connect(target)) => connected,
        // The user disconnected meanwhile. Dropping the attempt resets the connection if it was just established.
        _ = stream.wait_for_reset() => return,
    };
    let socket = match connected {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            tracing::warn!(user, "stream {key}: cannot connect to {target}: {error}");
            return stream.reset(connect_error_code(&error));
        }
        Err(_) => {
            let timeout = seconds(config.dial_timeout);
            tracing::warn!(user, "stream {key}: timeout after {timeout} while connecting to {target}");
            return stream.reset(ResetCode::TargetTimeout);
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
fn connect_error_code(error: &io::Error) -> ResetCode {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ResetCode::TargetRefused,
        io::ErrorKind::TimedOut => ResetCode::TargetTimeout,
        _ => ResetCode::TargetUnreachable,
    }
}
