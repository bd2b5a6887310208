//! The proxy client: dials the server, registers a public port, and dials the target for every stream.
//!
//! ```text
//!  connect ─► prove ─► register ─► serve ──all channels lost──► pause ─► connect …
//!     │         │          │
//!     │      refused    refused, the first time ─────────────► give up
//!     └── no answer ───────────────────────────► pause ─► connect …
//! ```
//!
//! A server that is about to end says so. Then another session begins, with the server's successor where it names one, and
//! the old one goes on beside it until its streams have ended.

mod backoff;
mod server_link;
mod target;

use std::{io, sync::Arc, time::Instant};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::ProxyConfig,
    ids::ServiceKey,
    net::NegotiationError,
    runtime::{Tasks, Workers},
    telemetry::Telemetry,
    wire::handshake::{HandshakeError, Token},
};
use backoff::Backoff;
use server_link::{LinkConnector, SETTLED, ServeOutcome, ServerLink};

/// Why a proxy gave up. What may pass by itself is tried again instead.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The server does not accept the token, or does not hold it itself.
    #[error("{server} refuses this proxy: {source}")]
    Refused {
        /// Which server.
        server: String,
        /// Why.
        source: HandshakeError,
    },
    /// The server does not give the public port.
    #[error("{server} does not give port {port}: {reason}")]
    Registration {
        /// Which server.
        server: String,
        /// Which port.
        port: u16,
        /// Why.
        reason: String,
    },
}

/// Why a session ended or never began.
#[derive(Debug, thiserror::Error)]
enum ServerLinkError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    #[error("the registration was refused: {0}")]
    Registration(String),
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the connection was lost")]
    Lost,
    #[error("the server takes no new users")]
    GoAway,
}

/// A proxy.
#[derive(Debug)]
pub struct Proxy {
    config: Arc<ProxyConfig>,
    token: Token,
    tasks: Tasks,
    serving: watch::Sender<Option<ServiceKey>>,
    /// The session that has users.
    session: Mutex<Option<Arc<ServerLink>>>,
    /// The streams of all sessions.
    streams: TaskTracker,
    draining: CancellationToken,
}

impl Proxy {
    /// A proxy that has not connected yet.
    pub fn new(config: ProxyConfig, token: Token, workers: Workers) -> Self {
        // A proxy shows its streams nowhere yet, so its bus has no listener.
        let tasks = Tasks::new(Telemetry::new(), workers);
        Self {
            config: Arc::new(config),
            token,
            tasks,
            serving: watch::Sender::new(None),
            session: Mutex::default(),
            streams: TaskTracker::new(),
            draining: CancellationToken::new(),
        }
    }

    /// Follows what it serves: `None` while no server gives it users.
    pub fn serving(&self) -> watch::Receiver<Option<ServiceKey>> {
        self.serving.subscribe()
    }

    /// Ends it once its streams have ended, or have had the time to; the server is told to send no more.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends it: streams are cut, the server is told.
    pub fn stop(&self) {
        self.tasks.stop();
    }

    /// Serves until it is [drained](Self::drain) or [stopped](Self::stop).
    ///
    /// # Errors
    /// [`ProxyError`] if the server refuses it for good.
    pub async fn run(&self) -> Result<(), ProxyError> {
        let result = tokio::select! {
            Err(error) = self.keep_serving() => Err(error),
            () = self.tasks.stopped() => Ok(()),
            () = self.draining.cancelled() => Ok(()),
        };
        if result.is_ok() {
            tokio::select! {
                () = self.drained() => {}
                () = self.tasks.stopped() => {}
            }
        }
        self.serving.send_replace(None);
        self.tasks.stop();
        self.tasks.join().await;
        result
    }

    /// Ready once every stream has ended, or time is up.
    async fn drained(&self) {
        if let Some(session) = self.session.lock().take() {
            session.go_away();
        }
        tracing::info!("draining, streams still open: {}", self.streams.len());
        self.streams.close();
        if timeout(self.config.drain_timeout, self.streams.wait()).await.is_err() {
            tracing::warn!("streams cut off: {}", self.streams.len());
        }
    }

    async fn keep_serving(&self) -> Result<std::convert::Infallible, ProxyError> {
        let mut backoff = Backoff::new((self.config.min_backoff, self.config.max_backoff));
        let mut service = self.config.service.clone();
        let mut served = false;
        // The session that was sent away last, and where to. To there it goes once: who is not there may never be.
        let (mut old, mut successor) = (None::<Arc<ServerLink>>, None::<String>);
        loop {
            let session = LinkConnector::new(&self.config, &self.token, &self.tasks, &self.streams);
            let server = successor.take().unwrap_or_else(|| self.config.server.clone());
            let error = match session.open(&server, &service).await {
                Ok((session, given)) => {
                    tracing::info!("serving {given}, carried to {}", self.config.target);
                    // The port that the system chose the first time is asked for by number from now on.
                    service = given;
                    served = true;
                    backoff.reset();
                    self.serving.send_replace(Some(service.clone()));
                    if let Some(old) = old.take() {
                        old.go_away();
                    }
                    let begin = Instant::now();
                    let session = Arc::new(session);
                    *self.session.lock() = Some(session.clone());
                    let end = session.serve().await;
                    self.session.lock().take();
                    self.serving.send_replace(None);
                    match end {
                        ServeOutcome::Lost => ServerLinkError::Lost,
                        ServeOutcome::GoAway { successor: named } => {
                            (old, successor) = (Some(session.clone()), named);
                            self.tasks.spawn("old session", async move { session.finish().await });
                            if begin.elapsed() >= SETTLED {
                                continue;
                            }
                            // One that sends everybody away at once is not asked again at once.
                            ServerLinkError::GoAway
                        }
                    }
                }
                Err(error) => error,
            };
            match error {
                // What once was right may have been changed on the way.
                ServerLinkError::Negotiation(NegotiationError::Refused(source))
                    if is_final(&source) && !served =>
                {
                    return Err(ProxyError::Refused { server, source });
                }
                // Later the port may still be held by our own lost session, or by a proxy that was faster.
                ServerLinkError::Registration(reason) if !served => {
                    let port = service.port;
                    return Err(ProxyError::Registration { server, port, reason });
                }
                error => {
                    let pause = backoff.pause();
                    tracing::warn!("{server}: {error}; trying again in {pause:.1?}");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Whether trying again is no use.
fn is_final(error: &HandshakeError) -> bool {
    !error.is_unknown_link()
}
