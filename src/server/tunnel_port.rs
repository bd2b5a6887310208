//! The tunnel port: accepts connections of proxies and turns each into a channel after its handshake.

use std::{
    net::{SocketAddr, TcpStream as StdStream},
    sync::Arc,
};

use tokio::net::TcpStream;

use super::{
    accept::accept_loop, admission::PendingConnection, admit_binary::admit_binary, admit_text::admit_text,
    admitted_channel::AdmittedChannel, core::Core,
};
use crate::{
    net::{ChannelSocket, DetectedFormat, Listener, Negotiation, NegotiationError},
    telemetry::seconds,
    wire::{Frame, binary::VERSION, handshake::HandshakeError},
};

/// Accepts connections of proxies until the server drains, then closes the port and sends GOAWAY to every proxy.
pub(super) async fn run(core: Arc<Core>, listener: Listener) {
    accept_loop(&listener, &core.telemetry, core.draining.cancelled(), |socket, addr| {
        let pending = core.admission.admit(addr.ip().into());
        core.tasks.spawn("handshake", admit_connection(core.clone(), pending, socket, addr));
    })
    .await;
    // Before the GOAWAY: a proxy that reconnects because of it must not reach this server again.
    drop(listener);
    // Collected first: sending flushes the channels, which must not happen while a part of the map is locked.
    let proxies: Vec<_> = core.proxies.iter().map(|proxy| proxy.clone()).collect();
    proxies.iter().for_each(|proxy| core.send_go_away(proxy));
}

/// Runs the handshake of one connection, and starts a task that drives it as a channel if the handshake succeeds. Any
/// failure is reported and closes the connection, and so does a newer connection that displaces this one.
async fn admit_connection(
    core: Arc<Core>,
    mut pending: PendingConnection,
    socket: StdStream,
    addr: SocketAddr,
) {
    let socket = match TcpStream::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return core.report_handshake_failure(addr, &error.to_string(), false),
    };
    let is_relayed = core.balancers.is_trusted(addr);
    let Some(addr) = proxy_address(&core, &mut pending, &socket, addr).await else { return };
    let channel = {
        let socket = ChannelSocket::plain(socket);
        if let Some(name) = core.config().congestion.requested_name(socket.is_loopback()) {
            socket.request_congestion_control(name);
        }
        let mut negotiation = Negotiation::new(socket);
        negotiation.set_step_timeout(core.config().handshake_step_timeout);
        let timeout = core.config().handshake_timeout;
        let displaced = pending.displaced().clone();
        tokio::select! {
            // A deadline for each message, so that a silent connection is soon closed, and one for the whole handshake.
            // With one for each read, a peer that sends a byte per second would count against the limit of
            // unauthenticated connections for ever.
            handshake = tokio::time::timeout(timeout, handshake(&core, pending, negotiation, addr)) => match handshake {
                Ok(Ok(channel)) => channel,
                // The block was reported when it began; its attempts must not fill the log.
                Ok(Err(error @ (NegotiationError::Abandoned | NegotiationError::AddressBlocked))) => {
                    return tracing::debug!("connection from {addr}: {error}");
                }
                // A health check or a port scan. One of the load balancer that has sent its header is expected, and
                // not counted.
                Ok(Err(error @ NegotiationError::Unused)) => {
                    if !is_relayed {
                        core.telemetry.count_failed_handshake();
                    }
                    return tracing::debug!("connection from {addr}: {error}");
                }
                // A proxy that was refused its port still dials its other channels, and one that reconnects after a
                // restart of the server asks for its old link first. Neither is what the operator looks for among the
                // refusals.
                Ok(Err(NegotiationError::Refused(error))) if error.is_unknown_link() => {
                    core.telemetry.count_failed_handshake();
                    return tracing::debug!("connection from {addr}: {error}");
                }
                Ok(Err(error)) => {
                    return core.report_handshake_failure(addr, &error.to_string(), error.is_refusal());
                }
                Err(_) => {
                    let reason = format!("handshake timeout after {}", seconds(timeout));
                    return core.report_handshake_failure(addr, &reason, false);
                }
            },
            () = displaced.cancelled() => {
                let reason = "too many unauthenticated connections: displaced by a newer one";
                return core.report_handshake_failure(addr, reason, true);
            }
            () = core.draining.cancelled() => return,
        }
    };
    // Distributes the channels of one proxy, and the first channels of different proxies, over the worker threads.
    let id = channel.id();
    let worker = id.proxy.0 as usize + usize::from(id.index);
    let owned = core.clone();
    core.tasks.spawn_on(worker, format!("channel {id}"), async move { channel.run(&owned, addr).await });
}

/// Detects TLS and the format of a proxy's connection (binary or text) from its first bytes, and runs the handshakes of
/// TLS and of that format. A proxy of the binary format without TLS is refused where the server has TLS.
async fn handshake(
    core: &Arc<Core>,
    pending: PendingConnection,
    mut negotiation: Negotiation,
    addr: SocketAddr,
) -> Result<AdmittedChannel, NegotiationError> {
    let mut format = negotiation.detect_format().await?;
    if let DetectedFormat::Tls = format {
        let tls = core.config().tls.clone().ok_or(NegotiationError::TlsDisabled)?;
        negotiation.accept_tls(&tls).await?;
        format = negotiation.detect_format().await?;
    }
    match format {
        DetectedFormat::Tls => unreachable!("TLS is detected only on a connection without it"),
        DetectedFormat::Binary if core.config().tls.is_some() && !negotiation.is_tls() => {
            refuse_without_tls(negotiation).await
        }
        DetectedFormat::Binary => admit_binary(core, pending, negotiation, addr).await,
        DetectedFormat::Text => admit_text(core, pending, negotiation, addr).await,
    }
}

/// Refuses a proxy of the binary format that came without TLS: a man in the middle might have had it do so. A proxy of
/// another protocol version is refused for that: it need not know the code for TLS, and TLS would not help it.
async fn refuse_without_tls(mut negotiation: Negotiation) -> Result<AdmittedChannel, NegotiationError> {
    // Read first: closing the connection while HELLO is unread would reset it, and the proxy might never get the
    // reason.
    let error = match negotiation.recv_frame().await? {
        Frame::Hello(hello) if hello.version != VERSION => HandshakeError::Version { theirs: hello.version },
        _ => HandshakeError::TlsRequired,
    };
    negotiation.send_last_frame(&error.refusal()).await?;
    Err(error.into())
}

/// Returns the address of the proxy that has connected from `addr`: that in the header, where a load balancer is in
/// front. From then on the connection counts for that address. Returns `None`, and has reported why, if there is no
/// valid header.
async fn proxy_address(
    core: &Core,
    pending: &mut PendingConnection,
    socket: &TcpStream,
    addr: SocketAddr,
) -> Option<SocketAddr> {
    if !core.balancers.is_trusted(addr) {
        return Some(addr);
    }
    let origin = tokio::select! {
        origin = core.balancers.read_proxy(pending.displaced(), socket, addr) => origin,
        () = core.draining.cancelled() => return None,
    };
    match origin {
        // It would count as a program of this machine, which `--text loopback` trusts.
        Ok(origin) if origin.public.is_none() && addr.ip().to_canonical().is_loopback() => {
            let reason = "the load balancer on this machine does not name the address of the proxy";
            core.report_handshake_failure(addr, reason, true);
        }
        Ok(origin) => {
            pending.set_block(origin.addr.ip().into());
            return Some(origin.addr);
        }
        Err(error) if error.is_usual() => tracing::debug!("connection from {addr}: {error}"),
        Err(error) => core.report_handshake_failure(addr, &error.to_string(), false),
    }
    None
}
