//! One server of a proxy: connect, serve, reconnect with backoff, independently of the other servers.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    channel_supervisor::STABLE_AFTER,
    error::{ProxyError, ServerLinkError},
    link_connector::LinkConnector,
    server_link::{ServeOutcome, ServerLink},
    serving_state::ServingState,
};
use crate::{config::ServerEndpoint, runtime::Tasks};

/// How long the link that is replaced waits for the registrations on the new one: a little less than a draining server
/// waits for its proxies.
const HANDOVER_LIMIT: Duration = Duration::from_secs(4);

/// One server of a proxy, and the link to it.
#[derive(Debug)]
pub(super) struct ServerSession {
    /// The configured address of the server, and how it is verified.
    endpoint: ServerEndpoint,
    /// The link on which the server opens new streams; `None` while there is none.
    link: Mutex<Option<Arc<ServerLink>>>,
    /// Whether the server has refused the proxy for good, and has not accepted it since.
    is_refused: AtomicBool,
}

impl ServerSession {
    /// Creates the session with a server that is not connected yet.
    pub(super) fn new(endpoint: ServerEndpoint) -> Self {
        Self { endpoint, link: Mutex::default(), is_refused: AtomicBool::new(false) }
    }

    /// Returns the configured address of the server, `HOST:PORT`.
    pub(super) fn address(&self) -> &str {
        &self.endpoint.address
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

    /// Connects and serves, again and again. Returns only if the server refuses the proxy for good before the first
    /// success.
    pub(super) async fn keep_serving(&self, connector: &LinkConnector) -> Result<Infallible, ProxyError> {
        let result = self.serve_repeatedly(connector).await;
        self.is_refused.store(true, Relaxed);
        result
    }

    /// See [`keep_serving`](Self::keep_serving).
    async fn serve_repeatedly(&self, connector: &LinkConnector) -> Result<Infallible, ProxyError> {
        let (config, board) = (connector.config(), connector.board());
        let mut state = ServingState::new(config);
        loop {
            let server = state.next_server(&self.endpoint);
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
                    if !matches!(outcome, ServeOutcome::Replaced) {
                        self.link.lock().take();
                        board.clear();
                    }
                    let error = state.stopped_serving(&server, &link, outcome, config);
                    if !matches!(error, ServerLinkError::Lost) {
                        connector.tasks().spawn("draining link", async move { link.finish().await });
                        if begin.elapsed() >= STABLE_AFTER {
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

/// Starts the task that has `old` send its GOAWAY once each service was granted or refused on `new`. A draining server closes its
/// ports after that GOAWAY, and its successor has to have opened all of them by then.
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
