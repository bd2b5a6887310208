//! One server of a proxy: connect, serve, reconnect with backoff, independently of the other servers.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    channel_supervisor::STABLE_AFTER,
    error::{ProxyError, ServerLinkError},
    link_connector::LinkConnector,
    server_link::{ServeOutcome, ServerLink},
    serving_state::ServingState,
};
use crate::{config::ServerEndpoint, runtime::Tasks};

/// How long the link that is replaced waits for the registrations on the new one: longer than a draining server waits
/// for its proxies, because a GOAWAY before all of them only makes it close its ports earlier.
const HANDOVER_LIMIT: Duration = Duration::from_secs(30);

/// One server of a proxy, and the link to it.
#[derive(Debug)]
pub(super) struct ServerSession {
    /// The number of the server, which no other one of the proxy gets.
    number: usize,
    /// The configured address of the server, which stays, and how it is verified.
    endpoint: Arc<ArcSwap<ServerEndpoint>>,
    /// The link on which the server opens new streams; `None` while there is none.
    link: Mutex<Option<Arc<ServerLink>>>,
    /// Whether the server has refused the proxy for good, and has not accepted it since.
    is_refused: AtomicBool,
    /// Notified when it is to be verified in another way.
    changed: Notify,
    /// Cancelled when the server is not one of the proxy any more.
    removed: CancellationToken,
}

impl ServerSession {
    /// Creates the session with a server that is not connected yet.
    pub(super) fn new(number: usize, endpoint: ServerEndpoint) -> Self {
        Self {
            number,
            endpoint: Arc::new(ArcSwap::from_pointee(endpoint)),
            link: Mutex::default(),
            is_refused: AtomicBool::new(false),
            changed: Notify::new(),
            removed: CancellationToken::new(),
        }
    }

    /// Returns the number of the server, which no other one of the proxy gets.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Returns the configured address of the server, and how it is verified.
    pub(super) fn endpoint(&self) -> &Arc<ArcSwap<ServerEndpoint>> {
        &self.endpoint
    }

    /// Returns the configured address of the server, `HOST:PORT`.
    pub(super) fn address(&self) -> String {
        self.endpoint.load().address.clone()
    }

    /// Ends [`keep_serving`](Self::keep_serving): the server opens no new streams, and the open ones continue.
    pub(super) fn remove(&self) {
        self.removed.cancel();
    }

    /// Replaces how the server is verified, for its next channels. A [pause](Self::pause) ends.
    pub(super) fn replace(&self, endpoint: ServerEndpoint) {
        self.endpoint.store(Arc::new(endpoint));
        self.changed.notify_waiters();
    }

    /// Waits for `pause`, or until the server is verified in another way or [removed](Self::remove).
    pub(super) async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.changed.notified() => {}
            () = self.removed.cancelled() => {}
        }
    }

    /// Returns whether there is a link with a channel, on which the server can open streams.
    pub(super) fn has_channel(&self) -> bool {
        let link = self.link.lock().clone();
        link.is_some_and(|link| link.has_channel())
    }

    /// Returns whether the server has refused the proxy for good, and has not accepted it since.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Relaxed)
    }

    /// Sends GOAWAY, if there is a link: the server opens no new streams.
    pub(super) fn send_go_away(&self) {
        // Taken first: sending flushes the channels, which must not happen under the lock.
        let link = self.link.lock().take();
        if let Some(link) = link {
            link.send_go_away();
        }
    }

    /// Connects and serves, again and again, until the server is [removed](Self::remove).
    ///
    /// # Errors
    /// The server refuses the proxy for good before the first success.
    pub(super) async fn keep_serving(&self, connector: &LinkConnector) -> Result<(), ProxyError> {
        let mut state = ServingState::new(connector.config());
        tokio::select! {
            result = self.serve_repeatedly(connector, &mut state) => {
                self.is_refused.store(true, Relaxed);
                result.map(|never| match never {})
            }
            () = self.removed.cancelled() => {
                self.leave(connector, state.take_old_link());
                Ok(())
            }
        }
    }

    /// Sends GOAWAY on the link, and on the one before if its streams continue. Both end with their last stream.
    fn leave(&self, connector: &LinkConnector, old_link: Option<Arc<ServerLink>>) {
        tracing::info!(
            "server {} is not in the configuration any more: no new streams from it, and open ones continue",
            self.address()
        );
        let link = self.link.lock().take();
        // One that is to be replaced serves until there is another, and has a task already.
        let link = link.filter(|link| !old_link.as_ref().is_some_and(|old| Arc::ptr_eq(old, link)));
        for link in old_link.iter().chain(&link) {
            link.retire();
        }
        connector.board().clear();
        let connector = connector.clone();
        connector.tasks().clone().spawn("draining link", async move {
            if let Some(link) = link {
                link.finish().await;
            }
            if let Some(old) = old_link {
                old.wait_ended().await;
            }
            connector.forget_server();
        });
    }

    /// See [`keep_serving`](Self::keep_serving).
    async fn serve_repeatedly(
        &self,
        connector: &LinkConnector,
        state: &mut ServingState,
    ) -> Result<Infallible, ProxyError> {
        let (config, board) = (connector.config(), connector.board());
        loop {
            let server = state.next_server(&self.endpoint.load());
            let error = match connector.connect(&server, state.link_to_replace()).await {
                Ok(link) => {
                    self.is_refused.store(false, Relaxed);
                    let begin = Instant::now();
                    let link = Arc::new(link);
                    *self.link.lock() = Some(link.clone());
                    if let Some(old_link) = state.registered() {
                        hand_over(connector.tasks(), old_link, link.clone());
                    }
                    link.begin_serving();
                    let outcome = link.serve().await;
                    if !matches!(outcome, ServeOutcome::Replaced | ServeOutcome::Outdated) {
                        self.link.lock().take();
                        board.clear();
                    }
                    let error = state.stopped_serving(&server, &link, outcome, config);
                    if !matches!(error, ServerLinkError::Lost) {
                        connector.tasks().spawn("draining link", async move { link.finish().await });
                        if begin.elapsed() >= STABLE_AFTER || matches!(error, ServerLinkError::Outdated) {
                            continue;
                        }
                        // A server that answers every registration with GOAWAY is not asked again at once.
                    }
                    error
                }
                Err(error) => error,
            };
            let Some(error) = state.failed(error, &server.address)? else { continue };
            // A link that is to be replaced serves until it ends.
            if self.link.lock().as_ref().is_some_and(|link| link.has_ended()) {
                board.clear();
            }
            tokio::time::sleep(state.pause_after(&error, &server.address, config.max_backoff)).await;
        }
    }
}

/// Starts the task that has `old` send its GOAWAY once each service was granted or refused on `new`. A draining server
/// closes its ports after that GOAWAY, and its successor has to have opened all of them by then.
fn hand_over(tasks: &Tasks, old: Arc<ServerLink>, new: Arc<ServerLink>) {
    let stopping = tasks.clone();
    tasks.spawn("handover", async move {
        tokio::select! {
            () = new.wait_settled() => {}
            () = tokio::time::sleep(HANDOVER_LIMIT) => {}
            () = old.wait_ended() => return,
            () = stopping.stopped() => return,
        }
        old.hand_over();
    });
}
