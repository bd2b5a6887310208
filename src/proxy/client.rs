//! The proxy's main loop: connect, serve, reconnect with backoff, drain.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    channel_supervisor::STABLE_AFTER,
    error::{ProxyError, ServerLinkError},
    link_connector::LinkConnector,
    loop_detector::LoopDetector,
    open_streams::OpenStreams,
    server_link::{ServeOutcome, ServerLink},
    serving_state::ServingState,
};
use crate::{
    config::ProxyConfig,
    ids::ServiceKey,
    mux::MemoryBudget,
    net::Connector,
    runtime::{Tasks, Workers},
    telemetry::Telemetry,
    wire::handshake::Token,
};

/// How long the tasks of a proxy that ends may take to reset their streams and to send GOAWAY. A task that takes longer is
/// ended with the process.
const CLEANUP_TIMEOUT: Duration = Duration::from_millis(1500);

/// How many streams beyond its maximum a proxy has memory for, so that it can refuse them with a reason.
const MAX_REFUSED_STREAMS: usize = 64;

/// A proxy: connects to the server, registers for a public port and relays its streams to the target.
#[derive(Debug)]
pub struct Proxy {
    /// The configuration of the proxy.
    config: Arc<ProxyConfig>,
    /// The secret that proxy and server prove to each other.
    token: Token,
    /// Establishes TCP connections to servers and to the target.
    connector: Arc<Connector>,
    /// Compares the users of all streams with the connections to the target.
    loops: Arc<LoopDetector>,
    /// What the proxy counts, for its metrics. It has no cockpit.
    telemetry: Arc<Telemetry>,
    /// Spawns and joins all tasks of the proxy.
    tasks: Tasks,
    /// The memory budget of the buffers of all streams.
    memory: MemoryBudget,
    /// Publishes the registered service; `None` while no link is registered.
    service: watch::Sender<Option<ServiceKey>>,
    /// The link on which the server opens new streams; `None` while there is none.
    link: Mutex<Option<Arc<ServerLink>>>,
    /// The open streams of all links, which a drain waits for.
    streams: OpenStreams,
    /// Cancelled to drain: no new streams, and the proxy ends when the open ones have.
    draining: CancellationToken,
}

impl Proxy {
    /// Creates a proxy that is not connected yet.
    pub fn new(config: ProxyConfig, token: Token, workers: Workers) -> Self {
        let telemetry = Telemetry::new();
        let memory = MemoryBudget::new(config.memory_budget, config.max_streams + MAX_REFUSED_STREAMS);
        telemetry.set_memory_source(Arc::new(memory.clone()));
        Self {
            loops: Arc::new(LoopDetector::new(&config.target)),
            streams: OpenStreams::new(config.max_streams),
            memory,
            config: Arc::new(config),
            token,
            connector: Arc::default(),
            tasks: Tasks::new(telemetry.clone(), workers),
            telemetry,
            service: watch::Sender::new(None),
            link: Mutex::default(),
            draining: CancellationToken::new(),
        }
    }

    /// Replaces the connector, which resolves names with getaddrinfo(3) by default. For tests.
    #[must_use]
    pub fn with_connector(mut self, connector: Connector) -> Self {
        self.connector = Arc::new(connector);
        self
    }

    /// Returns what the proxy counts.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Returns a receiver of the service that the proxy is registered for; `None` while it is registered with no
    /// server.
    pub fn watch_service(&self) -> watch::Receiver<Option<ServiceKey>> {
        self.service.subscribe()
    }

    /// Drains: sends GOAWAY, so that the server opens no new streams, and ends [`run`](Self::run) when the open ones
    /// have ended or the drain timeout has expired.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends [`run`](Self::run) at once: sends GOAWAY and resets the open streams.
    pub fn stop(&self) {
        self.tasks.stop();
    }

    /// Serves until it is [drained](Self::drain) or [stopped](Self::stop). Lost links are established again.
    ///
    /// # Errors
    /// [`ProxyError`] if the server refuses the handshake or the registration before the first success, for a reason that
    /// only an operator can remove.
    pub async fn run(&self) -> Result<(), ProxyError> {
        let result = tokio::select! {
            Err(error) = self.keep_serving() => Err(error),
            () = self.tasks.stopped() => Ok(()),
            () = self.draining.cancelled() => Ok(()),
        };
        if result.is_ok() {
            tokio::select! {
                () = self.finish_streams() => {}
                () = self.tasks.stopped() => {}
            }
        }
        self.service.send_replace(None);
        self.tasks.stop();
        if timeout(CLEANUP_TIMEOUT, self.tasks.join()).await.is_err() {
            tracing::warn!("tasks that have not ended after {CLEANUP_TIMEOUT:?}: {}", self.tasks.len());
        }
        result
    }

    /// Sends GOAWAY, and waits until every stream has ended or the drain timeout has expired.
    async fn finish_streams(&self) {
        // Taken first: sending flushes the channels, which must not happen under the lock.
        let link = self.link.lock().take();
        if let Some(link) = link {
            link.send_go_away();
        }
        let streams = &self.streams.tracker;
        tracing::info!("draining, streams still open: {}", streams.len());
        streams.close();
        if timeout(self.config.drain_timeout, streams.wait()).await.is_err() {
            tracing::warn!("drain timeout expired; streams aborted: {}", streams.len());
        }
    }

    /// Connects and serves, again and again. Returns only if the server refuses the proxy for good before the first
    /// success.
    async fn keep_serving(&self) -> Result<Infallible, ProxyError> {
        let mut state = ServingState::new(&self.config);
        let connector = LinkConnector::new(
            &self.config,
            &self.token,
            &self.connector,
            &self.loops,
            &self.tasks,
            &self.streams,
            &self.memory,
        );
        loop {
            let server = state.next_server(&self.config.server);
            let error = match connector.connect(&server, state.service(), state.link_to_replace()).await {
                Ok((link, assigned)) => {
                    tracing::info!("serving {assigned}, forwarding its streams to {}", self.config.target);
                    self.service.send_replace(Some(assigned.clone()));
                    state.registered(assigned);
                    let begin = Instant::now();
                    let link = Arc::new(link);
                    *self.link.lock() = Some(link.clone());
                    let outcome = link.serve().await;
                    if !matches!(outcome, ServeOutcome::Replaced) {
                        self.link.lock().take();
                        self.service.send_replace(None);
                    }
                    let error = state.stopped_serving(&server, &link, outcome);
                    if !matches!(error, ServerLinkError::Lost) {
                        self.tasks.spawn("draining link", async move { link.finish().await });
                        if begin.elapsed() >= STABLE_AFTER {
                            continue;
                        }
                        // A server that answers every registration with GOAWAY is not asked again at once.
                    }
                    error
                }
                Err(error) => error,
            };
            let Some(error) = state.failed(error, &server)? else { continue };
            // A link that is to be replaced serves until it ends.
            if self.link.lock().as_ref().is_some_and(|link| link.has_ended()) {
                self.service.send_replace(None);
            }
            tokio::time::sleep(state.pause_after(&error, &server, self.config.max_backoff)).await;
        }
    }
}
