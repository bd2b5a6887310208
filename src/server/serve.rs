use std::{net::SocketAddr, sync::Arc};

use tokio::{io::Interest, net::TcpStream};
use tokio_util::sync::CancellationToken;

use super::{
    Core,
    proxy::Proxy,
    service::{Service, Waiting},
    switch::Switch,
};
use crate::{
    ids::StreamKey,
    telemetry::{EndReason, EventKind, StreamGuard},
    transport::{Ended, Stream, arm, tune},
    wire::ResetCode,
};

/// Serves one user connection from its first moment to its last.
pub(super) async fn serve(core: &Arc<Core>, waiting: Waiting, socket: TcpStream, addr: SocketAddr) {
    let service = waiting.service().clone();
    tune(&socket);
    // Until all has been carried, every way out of here is a reset.
    arm(&socket);
    let Ok(_permit) = core.permits.clone().try_acquire_owned() else {
        return core.refuse(&service, addr, "as many streams as the server may have are open");
    };
    let Some(lease) = core.users.admit(service.guard.stats(), addr.ip()) else {
        return core.refuse(&service, addr, "too many users");
    };
    let stream = core.telemetry.stream_opened(lease.key, addr, lease.guard().stats());
    let switch = Arc::new(Switch::new(lease.cancel().child_token(), stream.stats().clone()));
    let _listed = Listed::new(core, lease.key, &switch);
    let reason = carry(core, waiting, socket, addr, &stream, &switch).await;
    stream.end(reason);
}

/// Keeps a connection where the operator finds it.
struct Listed<'a> {
    core: &'a Core,
    key: StreamKey,
}

impl<'a> Listed<'a> {
    fn new(core: &'a Core, key: StreamKey, switch: &Arc<Switch>) -> Self {
        core.streams.insert(key, switch.clone());
        Self { core, key }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.core.streams.remove(&self.key);
    }
}

async fn carry(
    core: &Core,
    waiting: Waiting,
    socket: TcpStream,
    addr: SocketAddr,
    guard: &StreamGuard,
    switch: &Switch,
) -> EndReason {
    let (cancel, service) = (switch.cancel(), waiting.service());
    let (proxy, stream) = match assign(core, service, &socket, addr, guard, cancel).await {
        Ok(assigned) => assigned,
        Err(reason) => {
            if reason == EndReason::NoProxy {
                let reason = format!("no proxy came within {:?}", core.config.wait);
                core.telemetry.emit(EventKind::UserRefused { addr, service: service.key.clone(), reason });
            }
            return reason;
        }
    };
    if let Some(channel) = proxy.channel_stats(&stream) {
        guard.assigned(&proxy.stats, &channel);
    }
    drop(waiting);
    switch.connect(stream.steering());
    match stream.carry(socket, ResetCode::UserGone, cancel, || core.cancelled_code()).await {
        Ended::Finished => EndReason::Finished,
        Ended::SocketFailed(_) => EndReason::UserReset,
        Ended::Cancelled => core.why_cancelled(),
        Ended::Reset(code) => match code {
            ResetCode::TargetGone => EndReason::TargetReset,
            ResetCode::TargetRefused | ResetCode::TargetTimeout | ResetCode::TargetUnreachable => {
                EndReason::TargetRefused(code.to_string())
            }
            // A stream moves to another channel as long as there is one: with its last channel the proxy is gone.
            ResetCode::ChannelLost | ResetCode::Shutdown => EndReason::ProxyGone,
            other => EndReason::Protocol(other.to_string()),
        },
    }
}

/// Gives the stream to the proxy whose turn it is, or waits for one to come.
async fn assign(
    core: &Core,
    service: &Service,
    socket: &TcpStream,
    addr: SocketAddr,
    guard: &StreamGuard,
    cancel: &CancellationToken,
) -> Result<(Arc<Proxy>, Stream), EndReason> {
    let mut size = service.pool.watch();
    let wait = tokio::time::sleep(core.config.wait);
    let mut wait = std::pin::pin!(wait);
    loop {
        size.mark_unchanged();
        // Each is asked once: one that is full or about to go passes its turn to the next.
        let candidates = *size.borrow();
        for _ in 0..=candidates {
            let Some(proxy) = service.pool.pick() else { break };
            match proxy.link.open(guard.stats().clone(), service.key.port, Some(addr), core.config.sniff) {
                Ok(stream) => return Ok((proxy, stream)),
                Err(error) => tracing::debug!("proxy {} takes no stream: {error}", proxy.id),
            }
        }
        tokio::select! {
            _ = size.changed() => {}
            // Those that were full may have room again.
            () = tokio::time::sleep(core.config.wait / 20) => {}
            () = &mut wait => return Err(EndReason::NoProxy),
            () = cancel.cancelled() => return Err(core.why_cancelled()),
            // An end is no error: a user may send its request, shut down, and wait for the answer.
            _ = socket.ready(Interest::ERROR) => return Err(EndReason::UserGaveUp),
        }
    }
}

impl Core {
    fn cancelled_code(&self) -> ResetCode {
        if self.hard_stop.is_cancelled() { ResetCode::Shutdown } else { ResetCode::Killed }
    }

    fn why_cancelled(&self) -> EndReason {
        if self.hard_stop.is_cancelled() { EndReason::Shutdown } else { EndReason::Killed }
    }
}
