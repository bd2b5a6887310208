use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, TryAcquireError},
};

use super::{
    Core,
    balance::ActiveStreamGuard,
    operator_handle::OperatorHandle,
    proxy::RemoteProxy,
    service::{PendingUser, Service},
    users::UserLease,
};
use crate::{
    ids::StreamKey,
    link::{
        NewStream, RateLimit, RetryableConnection, Stream, StreamControl, StreamOutcome, StreamRateLimits,
    },
    telemetry::{EndReason, EventKind, StreamGuard},
    wire::ResetCode,
};

/// Serves one user connection from its first moment to its last.
pub(super) async fn serve(
    core: &Arc<Core>,
    waiting: PendingUser,
    permit: Result<OwnedSemaphorePermit, TryAcquireError>,
    socket: TcpStream,
    addr: SocketAddr,
) {
    let service = waiting.service().clone();
    let Ok(_permit) = permit else {
        return core.refuse(&service, addr, "as many streams as the server may have are open");
    };
    let Some(lease) = core.users.admit(service.guard.stats(), addr.ip()) else {
        return core.refuse(&service, addr, "too many users");
    };
    let stream = core.telemetry.stream_opened(lease.key, addr, lease.guard().stats());
    let own = RateLimit::new(&core.limit_count);
    let handle = Arc::new(OperatorHandle::new(
        service.key.clone(),
        lease.cancel().child_token(),
        own,
        stream.stats().clone(),
    ));
    let _listed = ListedStream::new(core, lease.key, &handle);
    let user = UserConnection { addr, lease: &lease, guard: &stream, handle: &handle };
    let reason = carry(core, waiting, socket, &user).await;
    stream.end(reason);
}

/// What there is of a user connection beside its socket.
struct UserConnection<'a> {
    addr: SocketAddr,
    lease: &'a UserLease,
    guard: &'a StreamGuard,
    handle: &'a OperatorHandle,
}

/// Keeps a connection where the operator finds it.
struct ListedStream<'a> {
    core: &'a Core,
    key: StreamKey,
}

impl<'a> ListedStream<'a> {
    fn new(core: &'a Core, key: StreamKey, handle: &Arc<OperatorHandle>) -> Self {
        core.streams.insert(key, handle.clone());
        Self { core, key }
    }
}

impl Drop for ListedStream<'_> {
    fn drop(&mut self) {
        self.core.streams.remove(&self.key);
    }
}

/// How many other proxies a stream is given to after the first, as long as no target has seen anything of it.
const OTHERS: usize = 3;

async fn carry(core: &Core, waiting: PendingUser, socket: TcpStream, user: &UserConnection<'_>) -> EndReason {
    let service = waiting.service().clone();
    let mut waiting = Some(waiting);
    let mut connection = RetryableConnection::from(socket);
    let mut tried = Vec::new();
    let mut before = None;
    loop {
        let assigned = assign(core, &service, connection.socket(), user, &tried, before.as_ref()).await;
        let (proxy, stream, _busy) = match assigned {
            Ok(assigned) => assigned,
            Err(EndReason::NoProxy) => {
                // Nobody else can do better: what the last one said stands.
                return before.unwrap_or_else(|| {
                    let reason = format!("no proxy came within {:?}", core.config.proxy_wait_timeout);
                    let (addr, service) = (user.addr, service.key.clone());
                    core.telemetry.emit(EventKind::UserRejected { addr, service, reason });
                    EndReason::NoProxy
                });
            }
            Err(reason) => return reason,
        };
        if let Some(channel) = proxy.channel_stats(&stream) {
            user.guard.assigned(&proxy.stats, &channel);
        }
        waiting.take();
        let (reason, untouched) = carry_by(core, &proxy, stream, connection, user).await;
        match untouched {
            Some(again) if tried.len() < OTHERS => {
                tracing::info!(
                    "stream {} was not served by {}, another may: {reason}",
                    user.lease.key,
                    proxy.id
                );
                connection = again;
                before = Some(reason);
                tried.push(proxy);
                waiting = Some(PendingUser::new(&service));
            }
            _ => return reason,
        }
    }
}

/// Has one proxy carry the stream. Beside the reason of its end what another may carry instead, if the proxy was at
/// fault and no target has seen anything.
async fn carry_by(
    core: &Core,
    proxy: &RemoteProxy,
    stream: Stream,
    connection: RetryableConnection,
    user: &UserConnection<'_>,
) -> (EndReason, Option<RetryableConnection>) {
    let cancel = user.handle.cancel();
    let control = stream.control();
    user.handle.attach(proxy.id, control.clone());
    user.guard.stats().set_details_source(Some(Arc::new(control.clone())));
    let given_up = cancel.child_token();
    let why = || if cancel.is_cancelled() { core.cancelled_code() } else { ResetCode::TargetTimeout };
    let mut carried = std::pin::pin!(stream.relay(connection, ResetCode::UserIoError, &given_up, why));
    let (ended, untouched) = tokio::select! {
        ended = &mut carried => ended,
        () = unanswered(&control, core.config.open_timeout) => {
            given_up.cancel();
            carried.await
        }
    };
    match ended {
        StreamOutcome::Finished => (EndReason::Finished, None),
        StreamOutcome::SocketFailed(_) => (EndReason::UserSocketError, None),
        StreamOutcome::Cancelled if cancel.is_cancelled() => (core.why_cancelled(), None),
        StreamOutcome::Cancelled => {
            proxy.load.failed();
            (EndReason::TargetConnectFailed(ResetCode::TargetTimeout.to_string()), untouched)
        }
        StreamOutcome::Reset(code) if code.is_connect_failure() => {
            proxy.load.failed();
            (EndReason::TargetConnectFailed(code.to_string()), untouched)
        }
        StreamOutcome::Reset(code) => match code {
            ResetCode::TargetIoError => (EndReason::TargetSocketError, None),
            // A stream moves to another channel as long as there is one: with its last channel the proxy is gone.
            ResetCode::ChannelLost | ResetCode::Shutdown => (EndReason::ProxyGone, untouched),
            other => (EndReason::Protocol(other.to_string()), None),
        },
    }
}

/// Ready if after `limit` the proxy has not said whether the target is there: its user would wait for ever.
async fn unanswered(control: &StreamControl, limit: Duration) {
    tokio::time::sleep(limit).await;
    if !control.is_awaiting_accept() {
        std::future::pending::<()>().await;
    }
}

impl UserConnection<'_> {
    fn new_stream(&self, core: &Core, service: &Service, proxy: &RemoteProxy) -> NewStream {
        let limits = [self.handle.limit(), self.lease.limit(), &proxy.limit, &service.limit];
        NewStream {
            stats: self.guard.stats().clone(),
            port: service.key.port,
            user: Some(self.addr),
            inspect: core.config.inspect_protocols,
            limits: StreamRateLimits::new(limits.map(Arc::clone)),
            latency_observer: proxy.answers.clone(),
        }
    }
}

/// Gives the stream to the proxy whose turn it is, or waits for one to come. Not to one of the `refused`, who had it
/// already; and whose target is not there, as was said `before`, does not wait for another.
async fn assign(
    core: &Core,
    service: &Service,
    socket: &TcpStream,
    user: &UserConnection<'_>,
    refused: &[Arc<RemoteProxy>],
    before: Option<&EndReason>,
) -> Result<(Arc<RemoteProxy>, Stream, ActiveStreamGuard), EndReason> {
    let cancel = user.handle.cancel();
    let mut size = service.pool.watch();
    let wait = tokio::time::sleep(core.config.proxy_wait_timeout);
    let mut wait = std::pin::pin!(wait);
    loop {
        size.mark_unchanged();
        // Each is asked once: one that is full or about to go passes its turn to the next.
        let mut tried = refused.to_vec();
        while let Some(proxy) = service.pool.pick(&tried) {
            // Before it is open: who picks at the same moment should know.
            let busy = proxy.load.begin();
            match proxy.link.open(user.new_stream(core, service, &proxy)) {
                Ok(stream) => return Ok((proxy, stream, busy)),
                Err(error) => tracing::debug!("proxy {} takes no stream: {error}", proxy.id),
            }
            tried.push(proxy);
        }
        if let Some(EndReason::TargetConnectFailed(_)) = before {
            return Err(EndReason::NoProxy);
        }
        tokio::select! {
            _ = size.changed() => {}
            // Those that were full may have room again.
            () = tokio::time::sleep(core.config.proxy_wait_timeout / 20) => {}
            () = &mut wait => return Err(EndReason::NoProxy),
            () = cancel.cancelled() => return Err(core.why_cancelled()),
            // An end is no error: a user may send its request, shut down, and wait for the answer.
            _ = socket.ready(Interest::ERROR) => return Err(EndReason::UserAborted),
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
