//! One stream on the proxy: connects to the target, says who the user is if the target expects that, and relays.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    link_services::LinkServices,
    loop_detector::{LoopDetector, WatchedStream, target_port},
    observer::{LinkObserver, ObservedStream},
    open_streams::OpenStreams,
    registrations::PortOwner,
    service_list::ServiceEntry,
};
use crate::{
    config::ProxyConfig,
    ids::ServiceKey,
    link::{Stream, StreamOutcome},
    net::{ConnectError, ConnectPolicy, Connector, addresses},
    runtime::Tasks,
    telemetry::{EndReason, ServedStream},
    wire::{
        Open, ResetCode,
        proxy_protocol::{self, ProxyHeader},
    },
};

/// How long a stream may still wait for its target once the proxy drains. A name server or a target that does not
/// answer would otherwise take the whole drain timeout, although no user gets anything from it; and the server has the
/// user's bytes, so that another proxy, or this one after a restart, may serve the stream.
const CONNECT_TIMEOUT_OF_DRAIN: Duration = Duration::from_millis(500);

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
    /// Cancelled when the proxy drains.
    pub(super) draining: CancellationToken,
    /// Shows the stream to operators; `None` for a proxy without a control socket.
    pub(super) observer: Option<LinkObserver>,
}

impl StreamContext {
    /// Completes when the proxy has drained for [`CONNECT_TIMEOUT_OF_DRAIN`].
    async fn drain_excludes_waiting(&self) {
        self.draining.cancelled().await;
        tokio::time::sleep(CONNECT_TIMEOUT_OF_DRAIN).await;
    }
}

/// Connects to the target of its service for one stream and relays between the two until the stream ends. If no
/// connection to the target can be established, or the target leads back to the public port, resets the stream with a
/// code that says why.
pub(super) async fn serve_stream(context: StreamContext, stream: Stream, open: Open) {
    let key = open.key;
    // Identifies the user in this log; the target sees the proxy's address, unless it gets a header of the PROXY
    // protocol.
    let user = open.user.map(|user| tracing::field::display(user.client));
    // Usually known already. A stream may overtake the answer that assigns its port.
    let owner = tokio::select! {
        biased;
        owner = context.services.wait_for_owner(open.port) => owner,
        _ = stream.wait_for_reset() => return,
        () = context.tasks.stopped() => return stream.reset(ResetCode::Shutdown),
        () = context.drain_excludes_waiting() => return stream.reset(ResetCode::Shutdown),
    };
    let PortOwner::Service(service) = owner else {
        tracing::debug!(
            user,
            "stream {key} refused: this proxy does not serve public port {} any more",
            open.port
        );
        return stream.reset(context.services.not_served_code());
    };
    let target_port = target_port(&service.config.target);
    let watched = context.loops.watch(&open, context.server, target_port, context.tasks.token());
    // In the text format OPEN names no port.
    let port = match open.port {
        0 => context.services.granted_port(&service).unwrap_or(0),
        port => port,
    };
    let service_key = ServiceKey { port, group: service.config.key.group.clone() };
    let observed = context.observer.as_ref();
    let observed =
        observed.map(|link| link.stream_opened(&open, &service_key, stream.control(), watched.token()));
    let shown = observed.as_ref().map(ObservedStream::stats);
    let served = ServedStream::open(context.streams.stats.as_ref(), shown, &service_key);
    if let Some(served) = &served {
        stream.count(served.clone());
        // From here on, because it is how the link knows that this is the side of the target. The end removes it.
        if let Some(shown) = shown {
            shown.set_details_source(Some(Arc::new(stream.control())));
        }
    }
    let serving =
        ServedConnection { context: &context, open, service, watched, served, observed: observed.as_ref() };
    let reason = serving.run(stream).await;
    if let Some(observed) = observed {
        observed.end(reason);
    }
}

/// A stream whose service is known, without its end of the link.
struct ServedConnection<'a> {
    /// What serving needs.
    context: &'a StreamContext,
    /// How the server has opened the stream.
    open: Open,
    /// The service of its public port.
    service: Arc<ServiceEntry>,
    /// Compares its connections with those of other streams.
    watched: WatchedStream,
    /// Counts it; `None` for a proxy without metrics and control socket.
    served: Option<Arc<ServedStream>>,
    /// Shows it to operators; `None` for a proxy without a control socket.
    observed: Option<&'a ObservedStream>,
}

impl ServedConnection<'_> {
    /// Returns the token that is cancelled when the stream is to end.
    fn token(&self) -> &CancellationToken {
        self.observed.map_or(self.watched.token(), ObservedStream::token)
    }

    /// Returns the reset code for a stream that is cancelled, and the reason for operators. Logs a forwarding loop.
    fn cancelled(&self) -> (ResetCode, EndReason) {
        let key = self.open.key;
        if self.observed.is_some_and(ObservedStream::is_killed) {
            return (ResetCode::Killed, EndReason::Killed);
        }
        if !self.watched.is_loop() {
            return (ResetCode::Shutdown, EndReason::Shutdown);
        }
        self.context.streams.log.log(|| {
            tracing::warn!(
                user = self.open.user.map(|user| tracing::field::display(user.client)),
                "stream {key}: forwarding loop: the target {} leads back to public port {} of this proxy; change the target",
                self.service.config.target,
                self.open.port
            );
        });
        (ResetCode::ForwardingLoop, EndReason::ForwardingLoop)
    }

    /// Connects to the target and relays. Returns why the stream has ended.
    async fn run(mut self, stream: Stream) -> EndReason {
        let StreamContext { config, connector, streams, .. } = self.context;
        let (key, service) = (self.open.key, self.service.clone());
        let target = &service.config.target;
        let user = self.open.user.map(|user| tracing::field::display(user.client));
        // The permit of the stream covers one connection; attempts to further addresses of the target need their own.
        let policy = ConnectPolicy::for_target(config.dial_timeout).with_extra_sockets(&streams.sockets);
        let connected = tokio::select! {
            // Polled first: the connection would be the next one of the loop. Also when the proxy stops: the attempt
            // may last for as long as a name server or the target does not answer.
            biased;
            () = self.token().cancelled() => {
                let (code, reason) = self.cancelled();
                stream.reset(code);
                return reason;
            }
            connected = connector.connect(target, policy) => connected,
            // The user disconnected meanwhile. Dropping the attempt resets the connection if it was just established.
            code = stream.wait_for_reset() => return reset_reason(code),
            () = self.context.drain_excludes_waiting() => {
                stream.reset(ResetCode::Shutdown);
                return EndReason::Shutdown;
            }
        };
        let socket = match connected {
            Ok(socket) => socket,
            Err(error) => {
                if let Some(served) = &self.served {
                    served.connect_failed();
                }
                streams.log.log(|| tracing::warn!(user, "stream {key}: cannot connect to {target}: {error}"));
                stream.reset(connect_error_code(&error));
                return EndReason::TargetConnectFailed(error.to_string());
            }
        };
        if let Some(served) = &self.served {
            served.connected();
        }
        if self.watched.is_watched()
            && let Ok((local, peer)) = addresses(&socket)
        {
            self.watched.target_connected(local, peer);
        }
        stream.accept();
        if let Some(observed) = self.observed {
            observed.connected();
        }
        tracing::debug!(user, "stream {key}: connected to {target}");
        if let Some(version) = service.config.proxy_protocol {
            // A connection without a user is a health check of a load balancer in front of the server.
            let header = ProxyHeader::new(self.open.user, self.open.port);
            let header = Bytes::from(proxy_protocol::encode(version, header));
            let written = tokio::select! {
                written = stream.write_preamble(&socket, header) => written,
                () = self.token().cancelled() => {
                    let (code, reason) = self.cancelled();
                    stream.reset(code);
                    return reason;
                }
            };
            if let Err(error) = written {
                streams.log.log(|| {
                    tracing::info!(
                        user,
                        "stream {key}: cannot send the PROXY protocol header to {target}: {error}"
                    );
                });
                stream.reset(ResetCode::TargetIoError);
                return EndReason::TargetSocketError;
            }
        }
        let mut cancelled = EndReason::Shutdown;
        let on_cancel = || {
            let (code, reason) = self.cancelled();
            cancelled = reason;
            code
        };
        let (outcome, _) = stream.relay(socket, ResetCode::TargetIoError, self.token(), on_cancel).await;
        match outcome {
            StreamOutcome::Finished => {
                tracing::debug!(user, "stream {key} finished");
                EndReason::Finished
            }
            StreamOutcome::SocketFailed(error) => {
                let log =
                    || tracing::info!(user, "stream {key}: I/O error on the target's connection: {error}");
                streams.log.log(log);
                EndReason::TargetSocketError
            }
            StreamOutcome::Reset(code) => {
                streams.log.log(|| match code {
                    ResetCode::ChannelLost => {
                        tracing::info!(user, "stream {key} ended: all channels to the server were lost");
                    }
                    code => tracing::info!(user, "stream {key} was reset by the server: {code}"),
                });
                reset_reason(code)
            }
            StreamOutcome::Cancelled => cancelled,
        }
    }
}

/// Returns why a stream has ended that the server has reset, or whose link has ended.
fn reset_reason(code: ResetCode) -> EndReason {
    match code {
        ResetCode::Killed => EndReason::Killed,
        ResetCode::UserIoError => EndReason::UserSocketError,
        ResetCode::ProxyTimeout => EndReason::ProxyTimeout,
        ResetCode::IdleTimeout => EndReason::IdleTimeout,
        ResetCode::Shutdown => EndReason::Shutdown,
        ResetCode::ChannelLost => EndReason::ProxyGone,
        other => EndReason::Protocol(format!("reset by the server: {other}")),
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
