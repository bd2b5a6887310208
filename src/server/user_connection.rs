//! One user connection: admission, assignment to a proxy, relaying, and redispatch to another proxy that may serve it
//! when the first one fails before any target has received a byte.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{io::Interest, net::TcpStream};

use super::{
    balance::ActiveStreamGuard,
    balancer::Origin,
    core::Core,
    grants::{GrantRefusal, GrantUse, Resource},
    operator_handle::OperatorHandle,
    proxy::RemoteProxy,
    service::{PendingUser, Service},
    user_admission::UserRefusal,
    users::UserLease,
};
use crate::{
    ids::StreamKey,
    link::{
        NewStream, RateLimit, RetryableConnection, Stream, StreamControl, StreamOutcome, StreamRateLimits,
    },
    mux::OpenError,
    net::local_address,
    telemetry::{EndReason, StreamGuard, seconds},
    wire::{ResetCode, UserAddresses},
};

/// How many more proxies a connection is offered to after the first one failed to serve it, as long as no target has
/// received any of its bytes.
const MAX_REDISPATCHES: usize = 3;

/// How many proxies one attempt to open a stream tries, beside those that failed. Each search skips those that were
/// tried, so with all of them the time would grow with the cube of the number of proxies that take no stream.
const MAX_PROXIES_PER_ATTEMPT: usize = 16;

/// How long a user may still wait for a proxy once the server drains and has closed its public ports. No proxy can
/// connect any more; one that is connected may only have had no room for a moment.
const PROXY_TIMEOUT_OF_DRAIN: Duration = Duration::from_millis(500);

/// How often a connection that waits for a proxy tries all of them again within the wait timeout, at equal intervals:
/// a proxy that did not read from its channels may do so again, which nothing announces.
const RETRIES_PER_WAIT: u32 = 20;

/// Serves one user connection from its admission to its end. `pending` keeps the service open until a proxy is
/// assigned.
pub(super) async fn serve(
    core: &Arc<Core>,
    pending: PendingUser<RemoteProxy>,
    socket: TcpStream,
    origin: Origin,
) {
    let addr = origin.addr;
    let service = pending.service().clone();
    let Some(lease) = core.users.admit(service.stats(), addr.ip(), |key| core.streams.contains_key(&key))
    else {
        return core.report_rejected_user(
            &service.key,
            addr,
            "the maximum number of users (2^20) is reached".to_owned(),
        );
    };
    let stats = core.telemetry.new_stream(lease.key, addr, lease.guard().stats());
    let handle = Arc::new(OperatorHandle::new(
        lease.key,
        service.key.clone(),
        lease.cancel().child_token(),
        RateLimit::new(&core.limit_count),
        stats.clone(),
    ));
    // Before it is shown: a program that reads the events may act on the stream at once.
    let listed = ListedStream::new(core, lease.key, &handle);
    let guard = core.telemetry.announce_stream(stats);
    // Between the accept and here the ban of its network did not find the stream.
    if core.user_admission.is_banned(addr.ip()) {
        handle.cancel().cancel();
    }
    let addresses = origin.user_addresses(local_address(&socket).ok());
    let user =
        UserConnection { addr, addresses, service: &service, lease: &lease, guard: &guard, handle: &handle };
    let reason = user.relay_with_redispatch(core, pending, socket).await;
    // Commands after the event of its end must not find it.
    drop(listed);
    guard.end(reason);
}

/// An entry in the server's table of open streams, where operator commands find it. Dropping it removes the entry.
struct ListedStream<'a> {
    /// The server whose table contains the entry.
    core: &'a Core,
    /// The key under which the stream is in the table.
    key: StreamKey,
}

impl<'a> ListedStream<'a> {
    /// Adds the entry of a connection to the table.
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

/// An admitted user connection, without its socket.
struct UserConnection<'a> {
    /// The user's address.
    addr: SocketAddr,
    /// The ends of the user's connection, for the proxy; `None` for a health check of a load balancer.
    addresses: Option<UserAddresses>,
    /// The service that the user connected to.
    service: &'a Service<RemoteProxy>,
    /// Keeps the user in the table of users; contains the stream's key.
    lease: &'a UserLease,
    /// The telemetry guard of the stream: reports its assignment and its end.
    guard: &'a StreamGuard,
    /// The operator's handle: pause, priority, rate limit, kill.
    handle: &'a OperatorHandle,
}

/// A stream that was opened for a connection, and the proxy that serves it.
struct Assignment {
    /// The proxy that was selected for the user connection.
    proxy: Arc<RemoteProxy>,
    /// The stream that was opened to that proxy for the user connection.
    stream: Stream,
    /// Count the stream in the proxy's load and among those of its token until it ends.
    _active: (ActiveStreamGuard, GrantUse),
}

/// Why no stream was opened for a connection.
enum AssignError {
    /// No proxy took a stream within the wait timeout, or none is left that could reach the target.
    NoProxy,
    /// Every proxy that could serve the connection has its maximum of streams; which one, if it is that of a token.
    ProxiesFull(Option<GrantRefusal>),
    /// No proxy of the service admits the user any more.
    NotAdmitted(UserRefusal),
    /// The connection ended while it waited for a proxy.
    Ended(EndReason),
}

/// Why no proxy took a stream now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NoStream {
    /// No proxy is connected that may serve the connection, or one of them takes no stream for a reason that may pass.
    NotNow,
    /// Every connected proxy that may serve the connection has its maximum of streams; which one, if it is that of a
    /// token.
    ProxiesFull(Option<GrantRefusal>),
}

impl UserConnection<'_> {
    /// Assigns the connection to a proxy and relays it. If that proxy fails to serve it and no target has received
    /// any byte, assigns it to another one, up to [`MAX_REDISPATCHES`] times. Returns why the connection ended.
    async fn relay_with_redispatch(
        &self,
        core: &Core,
        pending: PendingUser<RemoteProxy>,
        socket: TcpStream,
    ) -> EndReason {
        let service = pending.service().clone();
        let mut pending = Some(pending);
        let mut connection = RetryableConnection::from(socket);
        let mut failed_proxies = Vec::new();
        let mut last_failure = None;
        loop {
            let assigned =
                self.assign(core, connection.socket(), &failed_proxies, last_failure.as_ref()).await;
            let Assignment { proxy, stream, _active } = match assigned {
                Ok(assignment) => assignment,
                Err(AssignError::Ended(reason)) => return reason,
                Err(AssignError::NoProxy) => {
                    return last_failure.unwrap_or_else(|| {
                        let timeout = seconds(core.config().proxy_wait_timeout);
                        let reason = format!("no proxy became available within {timeout} (option --wait)");
                        self.report_rejected(core, reason, EndReason::NoProxy)
                    });
                }
                Err(AssignError::NotAdmitted(refusal)) => {
                    return last_failure.unwrap_or_else(|| {
                        self.report_rejected(core, refusal.to_string(), EndReason::NoProxy)
                    });
                }
                Err(AssignError::ProxiesFull(refusal)) => {
                    return last_failure.unwrap_or_else(|| {
                        let max = core.config().max_streams_per_proxy();
                        let reason = refusal.map(|refusal| refusal.to_string()).unwrap_or_else(|| {
                            format!(
                                "each proxy of the service has its maximum of {max} streams (option --max-streams-per-proxy)"
                            )
                        });
                        self.report_rejected(core, reason, EndReason::ProxiesFull)
                    });
                }
            };
            if let Some(channel) = proxy.channel_stats(&stream) {
                self.guard.assigned(&proxy.stats, &channel);
            }
            pending.take();
            let (reason, retryable) = self.relay_through(core, &proxy, stream, connection).await;
            match retryable {
                Some(retryable) if failed_proxies.len() < MAX_REDISPATCHES => {
                    let (key, failed) = (self.lease.key, proxy.id);
                    core.redispatch_log.log(|| {
                        tracing::info!(
                            "stream {key}: proxy {failed} failed to serve it ({reason}); trying another proxy"
                        );
                    });
                    connection = retryable;
                    last_failure = Some(reason);
                    failed_proxies.push(proxy);
                    pending = Some(PendingUser::new(&service));
                }
                _ => return reason,
            }
        }
    }

    /// Reports that the connection is refused because no proxy takes it; `reason` names the option. Returns `end`, the
    /// reason of the connection's end.
    fn report_rejected(&self, core: &Core, reason: String, end: EndReason) -> EndReason {
        core.report_rejected_user(&self.service.key, self.addr, reason);
        end
    }

    /// Relays the connection through `stream` until it ends. Returns the reason; and the connection, if the proxy or
    /// the connection to the target failed and no target has received any byte, so that another proxy may serve it.
    async fn relay_through(
        &self,
        core: &Core,
        proxy: &RemoteProxy,
        stream: Stream,
        connection: RetryableConnection,
    ) -> (EndReason, Option<RetryableConnection>) {
        let cancel = self.handle.cancel();
        let control = stream.control();
        self.handle.attach(proxy.id, control.clone());
        self.guard.stats().set_details_source(Some(Arc::new(control.clone())));
        // Cancelled by the operator or the shutdown, through `cancel`, or here at a timeout.
        let give_up = cancel.child_token();
        let timeout = OnceLock::new();
        let reset_code = || match timeout.get() {
            Some(code) if !cancel.is_cancelled() => *code,
            _ => core.cancel_reset_code(),
        };
        let relay = stream.relay(connection, ResetCode::UserIoError, &give_up, reset_code);
        let mut relay = std::pin::pin!(relay);
        let (outcome, retryable) = tokio::select! {
            ended = &mut relay => ended,
            code = timed_out(&control, core.config().open_timeout, core.config().idle_timeout) => {
                _ = timeout.set(code);
                give_up.cancel();
                relay.await
            }
        };
        match outcome {
            StreamOutcome::Finished => (EndReason::Finished, None),
            StreamOutcome::SocketFailed(_) => (EndReason::UserSocketError, None),
            StreamOutcome::Cancelled if cancel.is_cancelled() => (core.cancel_end_reason(), None),
            StreamOutcome::Cancelled if timeout.get() == Some(&ResetCode::IdleTimeout) => {
                (EndReason::IdleTimeout, None)
            }
            StreamOutcome::Cancelled => {
                proxy.load.record_failure();
                (EndReason::ProxyTimeout, retryable)
            }
            StreamOutcome::Reset(code) if code.is_connect_failure() => {
                proxy.load.record_failure();
                (EndReason::TargetConnectFailed(code.to_string()), retryable)
            }
            StreamOutcome::Reset(code) => match code {
                ResetCode::TargetIoError => (EndReason::TargetSocketError, None),
                // A stream fails over to another channel while there is one. So the loss of its channel ends it only
                // when that was the proxy's last one and the grace period is over.
                ResetCode::ChannelLost | ResetCode::Shutdown if proxy.is_kicked() => {
                    (EndReason::ProxyKicked, retryable)
                }
                ResetCode::ChannelLost | ResetCode::Shutdown => (EndReason::ProxyGone, retryable),
                ResetCode::ForwardingLoop => {
                    proxy.load.record_failure();
                    (EndReason::ForwardingLoop, None)
                }
                // It has asked to be taken out of the service, or will not serve it anyway.
                ResetCode::NotServed => {
                    proxy.load.record_failure();
                    (EndReason::ProxyGone, retryable)
                }
                // The proxy, or its host, has no room for another stream; another proxy may have.
                ResetCode::LimitExceeded => {
                    proxy.load.record_failure();
                    (EndReason::ProxyReset(code.to_string()), retryable)
                }
                ResetCode::ProtocolViolation => (EndReason::Protocol(code.to_string()), None),
                other => (EndReason::ProxyReset(other.to_string()), None),
            },
        }
    }

    /// Opens a stream to the proxy that the service's policy selects, except to `failed_proxies`. If none is connected,
    /// or none takes a stream for a reason that may pass, waits for one until the wait timeout; but not where all have
    /// their maximum of streams, since a flood would hold the descriptors of users that nothing promises to serve, and
    /// not after a proxy has refused the connection or has not answered, so that the user learns of that failure at
    /// once.
    async fn assign(
        &self,
        core: &Core,
        socket: &TcpStream,
        failed_proxies: &[Arc<RemoteProxy>],
        last_failure: Option<&EndReason>,
    ) -> Result<Assignment, AssignError> {
        let cancel = self.handle.cancel();
        let timeout = core.config().proxy_wait_timeout;
        let mut pool_changes = self.service.pool.watch();
        let wait = tokio::time::sleep(timeout);
        let mut wait = std::pin::pin!(wait);
        let mut drained = std::pin::pin!(core.drain_excludes_waiting());
        loop {
            pool_changes.mark_unchanged();
            match self.open_stream(core, failed_proxies) {
                Ok(assignment) => return Ok(assignment),
                Err(NoStream::ProxiesFull(refusal)) => return Err(AssignError::ProxiesFull(refusal)),
                Err(NoStream::NotNow) => {}
            }
            let has_left =
                |failure: &EndReason| matches!(failure, EndReason::ProxyGone | EndReason::ProxyKicked);
            if last_failure.is_some_and(|failure| !has_left(failure)) {
                return Err(AssignError::NoProxy);
            }
            // The proxies may have changed since the user was admitted, or there was none.
            if let Some(user) = self.addresses {
                let admitted = self.service.pool.check_user(user.client.ip());
                admitted.map_err(|refusal| AssignError::NotAdmitted(UserRefusal::ProxyNetworks(refusal)))?;
            }
            tokio::select! {
                _ = pool_changes.changed() => {}
                () = tokio::time::sleep(timeout / RETRIES_PER_WAIT) => {}
                () = &mut wait => return Err(AssignError::NoProxy),
                () = cancel.cancelled() => return Err(AssignError::Ended(core.cancel_end_reason())),
                () = &mut drained => return Err(AssignError::Ended(EndReason::Shutdown)),
                // Only an error: a user may send its request, close its sending direction (FIN) and wait for the
                // answer.
                _ = socket.ready(Interest::ERROR) => {
                    return Err(AssignError::Ended(EndReason::UserAborted));
                }
            }
        }
    }

    /// Tries available proxies, up to [`MAX_PROXIES_PER_ATTEMPT`] and each once, in the order of the service's policy,
    /// except `failed_proxies`. Returns the first stream that could be opened; a proxy that has its maximum of streams,
    /// or is about to close, opens none.
    fn open_stream(&self, core: &Core, failed_proxies: &[Arc<RemoteProxy>]) -> Result<Assignment, NoStream> {
        let mut tried = failed_proxies.to_vec();
        let (mut are_all_full, mut refused) = (true, None);
        let max_tried = failed_proxies.len() + MAX_PROXIES_PER_ATTEMPT;
        while tried.len() < max_tried {
            let user = self.addresses.map(|user| user.client.ip());
            let Some(proxy) = self.service.pool.pick(&tried, user) else {
                let is_any_full = are_all_full && tried.len() > failed_proxies.len();
                return Err(if is_any_full { NoStream::ProxiesFull(refused) } else { NoStream::NotNow });
            };
            // Counted before the stream is open, so that a simultaneous pick already sees the load.
            let active = proxy.load.begin_stream();
            let counted = match proxy.grant().admit(Resource::Streams, 0) {
                Ok(counted) => counted,
                Err(refusal) => {
                    refused = Some(refusal);
                    tried.push(proxy);
                    continue;
                }
            };
            match proxy.link.open(self.new_stream(core, &proxy)) {
                Ok(stream) => return Ok(Assignment { proxy, stream, _active: (active, counted) }),
                Err(error) => {
                    tracing::debug!("proxy {} takes no new stream: {error}", proxy.id);
                    are_all_full &= error == OpenError::TooManyStreams;
                }
            }
            tried.push(proxy);
        }
        // Others may have room: the next attempt begins with another proxy.
        Err(NoStream::NotNow)
    }

    /// Returns the parameters of a stream through `proxy`.
    fn new_stream(&self, core: &Core, proxy: &RemoteProxy) -> NewStream {
        let (user, of_token) = (self.lease.limit(), &proxy.grant().limit);
        let limits = [self.handle.limit(), user, &proxy.limit, &self.service.limit, of_token];
        NewStream {
            stats: self.guard.stats().clone(),
            port: self.service.key.port,
            user: self.addresses,
            inspect: core.config().inspect_protocols,
            limits: StreamRateLimits::new(limits.map(Arc::clone)),
            latency_observer: proxy.latency_recorder.clone(),
        }
    }
}

/// Completes when one of the two timeouts has expired, with the code that the proxy receives: it has not answered OPEN,
/// or the stream is idle.
async fn timed_out(
    control: &StreamControl,
    open_timeout: Duration,
    idle_timeout: Option<Duration>,
) -> ResetCode {
    let idle = async {
        match idle_timeout {
            Some(timeout) => control.wait_idle(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = accept_timeout(control, open_timeout) => ResetCode::ProxyTimeout,
        () = idle => ResetCode::IdleTimeout,
    }
}

/// Completes if the proxy has not answered OPEN within `timeout`, whether it reached the target or not: without this
/// limit the user would wait for ever. Otherwise never completes.
async fn accept_timeout(control: &StreamControl, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    if !control.is_awaiting_accept() {
        std::future::pending::<()>().await;
    }
}

impl Core {
    /// Completes when the public ports have been closed for [`PROXY_TIMEOUT_OF_DRAIN`] because the server drains.
    async fn drain_excludes_waiting(&self) {
        self.close_ports.cancelled().await;
        tokio::time::sleep(PROXY_TIMEOUT_OF_DRAIN).await;
    }

    /// Returns the reset code that the proxy receives for a cancelled stream: shutdown or killed.
    fn cancel_reset_code(&self) -> ResetCode {
        if self.abort.is_cancelled() { ResetCode::Shutdown } else { ResetCode::Killed }
    }

    /// Returns the reason to report for a cancelled user connection: shutdown or killed.
    fn cancel_end_reason(&self) -> EndReason {
        if self.abort.is_cancelled() { EndReason::Shutdown } else { EndReason::Killed }
    }
}
