//! The proxy: all of its servers, the services that it has at present, and its end.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::PAUSE_AFTER_REFUSAL,
    error::ProxyError,
    link_connector::LinkConnector,
    loop_detector::LoopDetector,
    observer::Observer,
    open_streams::OpenStreams,
    server_session::ServerSession,
    server_sessions::ServerSessions,
    service_list::{ServiceChanges, ServiceList},
    serving_board::{ServedService, ServingBoard},
    shared_parts::SharedParts,
};
use crate::{
    config::{ProxyConfig, ServerEndpoint, ServiceConfig, ServicesError},
    ids::{StreamKey, UserChannelId},
    mux::MemoryBudget,
    net::Connector,
    runtime::{Tasks, Workers},
    telemetry::{ServedStats, Telemetry},
    wire::handshake::Token,
};

/// How long the tasks of a proxy that ends may take to reset their streams and to send GOAWAY. A task that takes longer
/// is ended with the process.
const CLEANUP_TIMEOUT: Duration = Duration::from_millis(1500);

/// How many streams beyond its maximum a proxy has memory for, so that it can refuse them with a reason.
const MAX_REFUSED_STREAMS: usize = 64;

/// A proxy: connects to its servers, registers its services and relays their streams to the targets.
#[derive(Debug)]
pub struct Proxy {
    /// What all links have in common.
    shared: SharedParts,
    /// What the proxy counts, for its metrics and its operators.
    telemetry: Arc<Telemetry>,
    /// The services that the proxy is to serve.
    lists: watch::Sender<ServiceList>,
    /// The services that the servers serve, in no order of the servers.
    served: Arc<watch::Sender<Vec<ServedService>>>,
    /// The servers, each with its link.
    sessions: ServerSessions,
}

impl Proxy {
    /// Creates a proxy that is not connected yet.
    pub fn new(config: ProxyConfig, token: Token, workers: Workers) -> Self {
        let telemetry = Telemetry::of_proxy();
        let memory = MemoryBudget::new(config.memory_budget, config.max_streams + MAX_REFUSED_STREAMS);
        telemetry.set_memory_source(Arc::new(memory.clone()));
        let lists = watch::Sender::new(ServiceList::new(config.services.clone()));
        let streams = OpenStreams::new(config.max_streams);
        let sessions = ServerSessions::new(config.servers.clone(), streams.clone());
        let shared = SharedParts {
            token,
            connector: Arc::default(),
            loops: Arc::new(LoopDetector::default()),
            tasks: Tasks::new(telemetry.clone(), workers),
            streams,
            draining: CancellationToken::new(),
            observer: None,
            memory,
            lists: lists.subscribe(),
            config: Arc::new(config),
        };
        let served = Arc::new(watch::Sender::new(Vec::new()));
        Self { shared, telemetry, lists, served, sessions }
    }

    /// Replaces the connector, which resolves names with getaddrinfo(3) by default. For tests.
    #[must_use]
    pub fn with_connector(mut self, connector: Connector) -> Self {
        self.shared.connector = Arc::new(connector);
        self
    }

    /// Counts streams, links and channels in `stats`.
    #[must_use]
    pub fn with_stats(mut self, stats: Arc<ServedStats>) -> Self {
        self.shared.streams.stats = Some(stats);
        self
    }

    /// Counts streams, users, links and channels in [`telemetry`](Self::telemetry), for operators, who can act on the
    /// streams.
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.shared.observer = Some(Arc::new(Observer::new(self.telemetry.clone())));
        self
    }

    /// Resets the open streams with this key. Returns how many there were: none without [`observed`](Self::observed).
    pub fn kill_stream(&self, key: StreamKey) -> usize {
        self.shared.observer.as_ref().map_or(0, |observer| observer.kill(|stream| stream == key))
    }

    /// Resets the open streams of the users with this id. Returns how many there were.
    pub fn kill_user(&self, user: UserChannelId) -> usize {
        self.shared.observer.as_ref().map_or(0, |observer| observer.kill(|stream| stream.user == user))
    }

    /// Pauses or resumes the open streams with this key, in both directions. Returns how many there were.
    pub fn set_paused(&self, key: StreamKey, is_paused: bool) -> usize {
        self.shared.observer.as_ref().map_or(0, |observer| observer.set_paused(key, is_paused))
    }

    /// Returns whether a server can open streams now: a link that waits to be resumed has no channel for them.
    pub fn has_channel(&self) -> bool {
        self.sessions.all().iter().any(|session| session.has_channel())
    }

    /// Returns what the proxy counts.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Returns a receiver of the services that the servers serve through this proxy.
    pub fn watch_services(&self) -> watch::Receiver<Vec<ServedService>> {
        self.served.subscribe()
    }

    /// Changes what the proxy serves, on all of its links: added services are registered, removed ones get no new
    /// streams and are deregistered, and new streams of a changed service get its new target. Open streams, also those
    /// of removed services, continue until they end. Returns what has changed.
    ///
    /// # Errors
    /// [`ServicesError`] if one proxy cannot have these services; nothing has changed then.
    pub fn replace_services(&self, services: Vec<ServiceConfig>) -> Result<ServiceChanges, ServicesError> {
        self.shared.config.check_services(&services)?;
        let mut changes = ServiceChanges::default();
        self.lists.send_if_modified(|list| {
            (*list, changes) = list.replaced_by(services);
            !changes.is_empty()
        });
        Ok(changes)
    }

    /// Changes the servers whose users the proxy serves. A server with an address that was there before keeps its
    /// link, whose new channels are verified as `servers` says. An added one is connected to. A removed one opens no
    /// new streams, and its open ones continue until they end. The maximum of streams stays, and with it the
    /// descriptors for channels, which are divided at the start.
    pub fn replace_servers(&self, servers: Vec<ServerEndpoint>) {
        self.sessions.replace(servers);
    }

    /// Returns what lists the configured addresses of the servers, `HOST:PORT`, at present.
    pub fn server_addresses(&self) -> impl Fn() -> Vec<String> + Send + Sync + use<> {
        let sessions = self.sessions.watch();
        move || sessions.borrow().iter().map(|session| session.address()).collect()
    }

    /// Returns a counter of the open streams, which outlives the proxy.
    pub fn stream_counter(&self) -> impl Fn() -> usize + Send + Sync + use<> {
        let streams = self.shared.streams.clone();
        move || streams.count()
    }

    /// Drains: sends GOAWAY, so that the servers open no new streams, and ends [`run`](Self::run) when the open ones
    /// have ended or the drain timeout has expired.
    pub fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Ends [`run`](Self::run) at once: sends GOAWAY and resets the open streams.
    pub fn stop(&self) {
        self.shared.tasks.stop();
    }

    /// Serves until it is [drained](Self::drain) or [stopped](Self::stop). Lost links are established again.
    ///
    /// # Errors
    /// [`ProxyError`] if every server refuses the handshake or all services before the first success, for a reason that
    /// only an operator can remove.
    pub async fn run(&self) -> Result<(), ProxyError> {
        let tasks = &self.shared.tasks;
        let result = tokio::select! {
            error = self.keep_serving() => Err(error),
            () = self.show_services() => unreachable!("never completes"),
            () = tasks.stopped() => Ok(()),
            () = self.shared.draining.cancelled() => Ok(()),
        };
        if result.is_ok() {
            tokio::select! {
                () = self.finish_streams() => {}
                () = tasks.stopped() => {}
            }
        }
        self.served.send_replace(Vec::new());
        tasks.stop();
        if timeout(CLEANUP_TIMEOUT, tasks.join()).await.is_err() {
            tracing::warn!("tasks that have not ended after {CLEANUP_TIMEOUT:?}: {}", tasks.len());
        }
        result
    }

    /// Shows operators the services that the servers serve. Never completes.
    async fn show_services(&self) {
        let mut served = self.served.subscribe();
        if let Some(observer) = &self.shared.observer {
            // The sender lives in `self`.
            while served.changed().await.is_ok() {
                let served = served.borrow_and_update().clone();
                observer.set_served(&served);
            }
        }
        std::future::pending().await
    }

    /// Sends GOAWAY, and waits until every stream has ended or the drain timeout has expired.
    async fn finish_streams(&self) {
        self.sessions.all().iter().for_each(|session| session.send_go_away());
        let streams = &self.shared.streams.tracker;
        tracing::info!("draining, streams still open: {}", streams.len());
        streams.close();
        if timeout(self.shared.config.drain_timeout, streams.wait()).await.is_err() {
            tracing::warn!("drain timeout expired; streams aborted: {}", streams.len());
        }
    }

    /// Serves the users of all servers. Returns only if all of them refuse the proxy for good, with the last refusal,
    /// unless these are others than at the start: a mistake in a file that is read again does not end the open streams.
    async fn keep_serving(&self) -> ProxyError {
        let serve = async |session: Arc<ServerSession>, connector: LinkConnector, pause: Duration| {
            session.pause(pause).await;
            let result = session.keep_serving(&connector).await;
            (session, connector, result)
        };
        let (mut sessions, mut serving) = (self.sessions.watch(), FuturesUnordered::new());
        let (mut next_number, mut lists) = (0, 0);
        loop {
            let ended = tokio::select! {
                // Cannot fail: the sender lives in `self`.
                _ = sessions.changed() => {
                    lists += 1;
                    let mut added = sessions.borrow_and_update().clone();
                    added.retain(|session| session.number() >= next_number);
                    for session in added {
                        next_number = next_number.max(session.number() + 1);
                        let connector = self.connector_of(&session);
                        serving.push(serve(session, connector, Duration::ZERO));
                    }
                    continue;
                }
                Some(ended) = serving.next() => ended,
            };
            let (session, connector, Err(error)) = ended else { continue };
            let are_all_refused = self.sessions.all().iter().all(|session| session.is_refused());
            if are_all_refused && lists == 1 {
                return error;
            }
            let others = if are_all_refused { "" } else { ", and serving the others" };
            tracing::error!("{error}; asking this server again in {PAUSE_AFTER_REFUSAL:?}{others}");
            serving.push(serve(session, connector, PAUSE_AFTER_REFUSAL));
        }
    }

    /// Creates what establishes the links to a server.
    fn connector_of(&self, session: &ServerSession) -> LinkConnector {
        let board =
            ServingBoard::new(&session.address(), self.sessions.are_several().clone(), self.served.clone());
        LinkConnector::new(self.shared.clone(), session.number(), session.endpoint().clone(), board)
    }
}
