//! What a proxy remembers from one link to the next: where to connect, what to register, how long to wait, what was logged.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backoff::Backoff,
    channel_supervisor::MAX_BACKOFF_IN_OUTAGE,
    error::{ProxyError, ServerLinkError},
    server_link::{OldLinks, ServeOutcome, ServerLink},
};
use crate::{config::ProxyConfig, ids::ServiceKey};

/// How often the same failure to connect is logged.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The state of a proxy between two links.
#[derive(Debug)]
pub(super) struct ServingState {
    /// The pauses between attempts.
    backoff: Backoff,
    /// The service to register for; after the first success with the port that the server chose.
    service: ServiceKey,
    /// Whether the proxy has been registered once: token and port are right then. What the operator of the server changes
    /// later, he may change again.
    has_served: bool,
    /// Whether the last attempt was refused for good. The handshake and the text format have no checksums: what looks like a
    /// wrong token may be corruption in transit, which a second attempt tells apart.
    was_refused: bool,
    /// The link that received the last GOAWAY, whose streams still continue. It sends its own GOAWAY once the proxy has
    /// registered elsewhere.
    old_link: Option<Arc<ServerLink>>,
    /// All links that received GOAWAY and continue.
    old_links: OldLinks,
    /// The successor that the last GOAWAY named. It is tried once: it may never become reachable.
    successor: Option<String>,
    /// When the last failure was logged, and its text: in an outage there are two attempts in a second.
    last_warning: Option<(Instant, String)>,
}

impl ServingState {
    /// Creates the state of a proxy that has not connected yet.
    pub(super) fn new(config: &ProxyConfig) -> Self {
        Self {
            backoff: Backoff::new(config.min_backoff, config.max_backoff),
            service: config.service.clone(),
            has_served: false,
            was_refused: false,
            old_link: None,
            old_links: OldLinks::default(),
            successor: None,
            last_warning: None,
        }
    }

    /// Returns the address to connect to next: that of the successor if the last GOAWAY named one, else `configured`.
    pub(super) fn next_server(&mut self, configured: &str) -> String {
        self.successor.take().unwrap_or_else(|| configured.to_owned())
    }

    /// Returns the service to register for.
    pub(super) fn service(&self) -> &ServiceKey {
        &self.service
    }

    /// Returns the id of the link that the next one replaces at the server's request, if there is one.
    pub(super) fn link_to_replace(&self) -> Option<[u8; 16]> {
        self.old_link.as_ref()?.id_to_replace()
    }

    /// Records that the server has accepted the registration and assigned `service`. The link before this one, if its streams
    /// continue, sends its GOAWAY.
    pub(super) fn registered(&mut self, service: ServiceKey) {
        self.service = service;
        self.has_served = true;
        self.backoff.reset();
        self.last_warning = None;
        if let Some(old_link) = self.old_link.take() {
            old_link.hand_over();
        }
    }

    /// Records why `link` to `server` serves no new streams any more. Returns it as the error that is reported. A link that was
    /// not lost is kept for its streams.
    pub(super) fn stopped_serving(
        &mut self,
        server: &str,
        link: &Arc<ServerLink>,
        outcome: ServeOutcome,
    ) -> ServerLinkError {
        let error = match outcome {
            ServeOutcome::Lost => return ServerLinkError::Lost,
            ServeOutcome::GoAway { successor } => {
                self.successor = successor;
                ServerLinkError::GoAway
            }
            ServeOutcome::Replaced => {
                self.successor = Some(server.to_owned());
                ServerLinkError::Replaced
            }
        };
        self.old_link = Some(link.clone());
        self.old_links.push(link.clone());
        error
    }

    /// Records a failure. Returns it if it may pass, and `None` if it has to be confirmed by another attempt at once.
    ///
    /// # Errors
    /// The server has refused the proxy for good, twice.
    pub(super) fn failed(
        &mut self,
        error: ServerLinkError,
        server: &str,
    ) -> Result<Option<ServerLinkError>, ProxyError> {
        let error =
            if self.has_served { Err(error) } else { error.into_permanent(server, self.service.port) };
        match error {
            Ok(refusal) if self.was_refused => Err(refusal),
            Ok(refusal) => {
                tracing::debug!("{refusal}; asking once more");
                self.was_refused = true;
                Ok(None)
            }
            Err(error) => {
                self.was_refused = false;
                Ok(Some(error))
            }
        }
    }

    /// Returns how long to wait after a failure, at most `max_backoff`, and logs it, unless the same one was logged a moment
    /// ago.
    pub(super) fn pause_after(
        &mut self,
        error: &ServerLinkError,
        server: &str,
        max_backoff: Duration,
    ) -> Duration {
        let max_pause = if error.is_outage() { MAX_BACKOFF_IN_OUTAGE } else { max_backoff };
        let pause = self.backoff.next_pause().min(max_pause);
        let text = format!("no link to server {server}: {error}");
        let is_known = |(at, last): &(Instant, String)| at.elapsed() < WARNING_INTERVAL && *last == text;
        if !self.last_warning.as_ref().is_some_and(is_known) {
            tracing::warn!("{text}; retrying in {pause:.1?}");
            self.last_warning = Some((Instant::now(), text));
        }
        pause
    }
}

#[cfg(test)]
mod tests;
