use std::{io, sync::Arc};

use crate::{
    config::ProxyConfig,
    link::{Stream, StreamOutcome},
    net::connect,
    runtime::Tasks,
    wire::{Open, ResetCode},
};

/// Carries one stream to the target.
pub(super) async fn serve(config: Arc<ProxyConfig>, tasks: Tasks, stream: Stream, open: Open) {
    // Identifies the user in this log; the target sees the proxy's address only.
    let user = open.user.map(tracing::field::display);
    let dialled = tokio::select! {
        dialled = tokio::time::timeout(config.dial_timeout, connect(&config.target)) => dialled,
        // The user has gone; the target need not hear of it.
        _ = stream.wait_for_reset() => return,
    };
    let code = match dialled {
        Ok(Ok(socket)) => {
            stream.accept();
            tracing::debug!(user, "stream {} is open", open.key);
            let carried =
                stream.relay(socket, ResetCode::TargetIoError, tasks.token(), || ResetCode::Shutdown);
            match carried.await.0 {
                StreamOutcome::Finished => tracing::debug!(user, "stream {} finished", open.key),
                StreamOutcome::SocketFailed(error) => {
                    tracing::info!(user, "stream {}: the target failed: {error}", open.key)
                }
                StreamOutcome::Reset(code) => {
                    tracing::info!(user, "stream {} was ended by the server: {code}", open.key)
                }
                StreamOutcome::Cancelled => {}
            }
            return;
        }
        Ok(Err(error)) => {
            tracing::warn!(user, "stream {}: cannot connect to {}: {error}", open.key, config.target);
            code_of(&error)
        }
        Err(_) => {
            tracing::warn!(
                user,
                "stream {}: {} did not answer in {:?}",
                open.key,
                config.target,
                config.dial_timeout
            );
            ResetCode::TargetTimeout
        }
    };
    stream.reset(code);
}

fn code_of(error: &io::Error) -> ResetCode {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ResetCode::TargetRefused,
        io::ErrorKind::TimedOut => ResetCode::TargetTimeout,
        _ => ResetCode::TargetUnreachable,
    }
}
