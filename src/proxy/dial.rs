use std::{io, sync::Arc};

use crate::{
    config::ProxyConfig,
    link::{Ended, Stream},
    net::connect,
    runtime::Tasks,
    wire::{OpenFrame, ResetCode},
};

/// Carries one stream to the target.
pub(super) async fn serve(config: Arc<ProxyConfig>, tasks: Tasks, stream: Stream, open: OpenFrame) {
    let dialled = tokio::select! {
        dialled = tokio::time::timeout(config.dial_timeout, connect(&config.target)) => dialled,
        // The user has gone; the target need not hear of it.
        _ = stream.reset_by_peer() => return,
    };
    let code = match dialled {
        Ok(Ok(socket)) => {
            stream.accept();
            tracing::debug!("stream {} is open", open.key);
            let carried = stream.carry(socket, ResetCode::TargetGone, tasks.token(), || ResetCode::Shutdown);
            match carried.await.0 {
                Ended::Finished => tracing::debug!("stream {} finished", open.key),
                Ended::SocketFailed(error) => {
                    tracing::info!("stream {}: the target failed: {error}", open.key)
                }
                Ended::Reset(code) => tracing::info!("stream {} was ended by the server: {code}", open.key),
                Ended::Cancelled => {}
            }
            return;
        }
        Ok(Err(error)) => {
            tracing::warn!("stream {}: cannot connect to {}: {error}", open.key, config.target);
            code_of(&error)
        }
        Err(_) => {
            tracing::warn!(
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
