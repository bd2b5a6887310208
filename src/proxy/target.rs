//! One stream on the proxy: connects to the target, says who the user is if the target expects that, and relays.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    link_services::LinkServices,
    loop_detector::{LoopDetector, target_port},
    open_streams::OpenStreams,
    registrations::PortOwner,
};
use crate::{
    config::ProxyConfig,
    ids::ServiceKey,
    link::{Stream, StreamOutcome},
    net::{ConnectError, ConnectPolicy, Connector, addresses},
    runtime::Tasks,
    wire::{
        Open, ResetCode,
        proxy_protocol::{self, ProxyHeader},
    },
};

/// What serving a stream needs besides the stream: the same for all streams of a link.
pub(super) struct StreamContext {
    /// The configuration of the proxy: the connect timeout.
    pub(super) config: Arc<ProxyConfig>,
    /// The services of the link, with their targets.
    pub(super) services: Arc<LinkServices>,
    /// The number of the server.
    pub(super) server: usize,
    /// Connects to the target.
    pub(super) connector: Arc<Connector>,
    /// Compares the users of all streams with the connections to the target.
    pub(super) loops: Arc<LoopDetector>,
    /// Ends the stream when the proxy stops.
    pub(super) tasks: Tasks,
    /// The open streams of the proxy.
    pub(super) streams: OpenStreams,
}

/// Connects to the target of its service for one stream and relays between the two until the stream ends. If no connection to
/// the target can be established, or the target leads back to the public port, resets the stream with a code that says why.
pub(super) async fn serve_stream(context: StreamContext, stream: Stream, open: Open) {
    let StreamContext { config, services, server, connector, loops, tasks, streams } = context;
    // Identifies the user in this log; the target sees the proxy's address, unless it gets a header of the PROXY protocol.
    let user = open.user.map(|user| tracing::field::display(user.client));
    let key = open.key;
    // Usually known already. A stream may overtake the answer that assigns its port.
    let owner = tokio::select! {
        biased;
        owner = services.wait_for_owner(open.port) => owner,
        _ = stream.wait_for_reset() => return,
        () = tasks.stopped() => return stream.reset(ResetCode::Shutdown),
    };
    let PortOwner::Service(service) = owner else {
        tracing::debug!(
            user,
            "stream {key} refused: this proxy does not serve public port {} any more",
            open.port
        );
        return stream.reset(services.not_served_code());
    };
    let target = &service.config.target;
    let mut watched = loops.watch(&open, server, target_port(target), tasks.token());
    let refuse_loop = || {
        streams.log.log(|| {
            tracing::warn!(
                user,
                "stream {key}: forwarding loop: the target {target} leads back to public port {} of this proxy; change the target",
                open.port
            );
        });
        ResetCode::ForwardingLoop
    };
    let served = streams.stats.as_ref().map(|stats| {
        stats.stream_opened(&ServiceKey { port: open.port, group: service.config.key.group.clone() })
    });
    if let Some(served) = &served {
        stream.count(served.clone());
    }
    // The permit of the stream covers one connection; attempts to further addresses of the target need their own.
    let policy = ConnectPolicy::for_target(config.dial_timeout).with_extra_sockets(&streams.sockets);
    let connected = tokio::select! {
        // Polled first: the connection would be the next one of the loop.
        biased;
        () = watched.token().cancelled(), if watched.is_watched() => {
            return stream.reset(if watched.is_loop() { refuse_loop() } else { ResetCode::Shutdown });
        }
        connected = connector.connect(target, policy) => connected,
        // The user disconnected meanwhile. Dropping the attempt resets the connection if it was just established.
        _ = stream.wait_for_reset() => return,
        // The proxy stops. The attempt may last for as long as a name server or the target does not answer.
        () = tasks.stopped() => return stream.reset(ResetCode::Shutdown),
    };
    let socket = match connected {
        Ok(socket) => socket,
        Err(error) => {
            if let Some(served) = &served {
                served.connect_failed();
            }
            streams.log.log(|| tracing::warn!(user, "stream {key}: cannot connect to {target}: {error}"));
            return stream.reset(connect_error_code(&error));
        }
    };
    if let Some(served) = &served {
        served.connected();
    }
    if watched.is_watched()
        && let Ok((local, peer)) = addresses(&socket)
    {
        watched.target_connected(local, peer);
    }
    let cancelled = || if watched.is_loop() { refuse_loop() } else { ResetCode::Shutdown };
    stream.accept();
    tracing::debug!(user, "stream {key}: connected to {target}");
    if let Some(version) = service.config.proxy_protocol {
        // A connection without a user is a health check of a load balancer in front of the server.
        let header = ProxyHeader::new(open.user, open.port);
        let header = Bytes::from(proxy_protocol::encode(version, header));
        let written = tokio::select! {
            written = stream.write_preamble(&socket, header) => written,
            () = watched.token().cancelled() => return stream.reset(cancelled()),
        };
        if let Err(error) = written {
            streams.log.log(|| {
                tracing::info!(
                    user,
                    "stream {key}: cannot send the PROXY protocol header to {target}: {error}"
                );
            });
            return stream.reset(ResetCode::TargetIoError);
        }
    }
    let relay = stream.relay(socket, ResetCode::TargetIoError, watched.token(), cancelled);
    match relay.await.0 {
        StreamOutcome::Finished => tracing::debug!(user, "stream {key} finished"),
        StreamOutcome::SocketFailed(error) => {
            let log = || tracing::info!(user, "stream {key}: I/O error on the target's connection: {error}");
            streams.log.log(log);
        }
        StreamOutcome::Reset(code) => streams.log.log(|| match code {
            ResetCode::ChannelLost => {
                tracing::info!(user, "stream {key} ended: all channels to the server were lost");
            }
            code => tracing::info!(user, "stream {key} was reset by the server: {code}"),
        }),
        StreamOutcome::Cancelled => {}
    }
}

/// Returns the reset code for an error of connect(2) or of the name resolution.
fn connect_error_code(error: &ConnectError) -> ResetCode {
    match error.kind() {
        _ if error.is_exhausted() => ResetCode::LimitExceeded,
        io::ErrorKind::ConnectionRefused => ResetCode::TargetRefused,
        io::ErrorKind::TimedOut => ResetCode::TargetTimeout,
        _ => ResetCode::TargetUnreachable,
    }
}

#[cfg(test)]
mod tests;
