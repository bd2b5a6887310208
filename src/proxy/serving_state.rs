//! What a proxy remembers of a server from one link to the next: where to connect, how long to wait, what was logged.

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
use crate::config::{ProxyConfig, ProxyFormat, ServerEndpoint};

/// How often the same failure to connect is logged.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// The state of a proxy between two links.
#[derive(Debug)]
pub(super) struct ServingState {
    /// The pauses between attempts.
    backoff: Backoff,
    /// Whether the proxy has been registered once: token and port are right then. What the operator of the server
    /// changes later, he may change again.
    has_served: bool,
    /// Whether the last attempt was refused for good. The handshake and the text format have no checksums: what looks
    /// like a wrong token may be corruption in transit, which a second attempt tells apart.
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
            has_served: false,
            was_refused: false,
            old_link: None,
            old_links: OldLinks::default(),
            successor: None,
            last_warning: None,
        }
    }

    /// Returns the server to connect to next: the successor if the last GOAWAY named one, else the `configured` one.
    pub(super) fn next_server(&mut self, configured: &ServerEndpoint) -> ServerEndpoint {
        match self.successor.take() {
            Some(address) => ServerEndpoint { address, ..configured.clone() },
            None => configured.clone(),
        }
    }

    /// Returns the id of the link that the next one replaces at the server's request, if there is one.
    pub(super) fn link_to_replace(&self) -> Option<[u8; 16]> {
        self.old_link.as_ref()?.id_to_replace()
    }

    /// Records that the server has accepted a registration. Returns the link before this one, if its streams continue.
    /// It is to send its GOAWAY once all services are registered on the new one.
    pub(super) fn registered(&mut self) -> Option<Arc<ServerLink>> {
        self.has_served = true;
        self.backoff.reset();
        self.last_warning = None;
        self.old_link.take()
    }

    /// Returns the link before the one that is being established, if its streams continue, for a proxy that gives the
    /// server up.
    pub(super) fn take_old_link(&mut self) -> Option<Arc<ServerLink>> {
        self.old_link.take()
    }

    /// Records why `link` to `server` serves no new streams any more. Returns it as the error that is reported. A link
    /// that was not lost is kept for its streams.
    pub(super) fn stopped_serving(
        &mut self,
        server: &ServerEndpoint,
        link: &Arc<ServerLink>,
        outcome: ServeOutcome,
        config: &ProxyConfig,
    ) -> ServerLinkError {
        let error = match outcome {
            ServeOutcome::Lost => return ServerLinkError::Lost,
            ServeOutcome::GoAway { successor } => {
                self.successor = successor.filter(|address| may_follow(server, address, config.format));
                ServerLinkError::GoAway
            }
            ServeOutcome::Outdated => {
                self.successor = Some(server.address.clone());
                ServerLinkError::Outdated
            }
            ServeOutcome::Replaced => {
                self.successor = Some(server.address.clone());
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
        let error = if self.has_served { Err(error) } else { error.into_permanent(server) };
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

    /// Returns how long to wait after a failure, at most `max_backoff`, and logs it, unless the same one was logged a
    /// moment ago.
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

/// Returns whether the proxy may connect to the successor of `server`, as it may connect to that. Logs why it may not:
/// the successor is named by the server, and the configuration has permitted clear text for that address alone.
fn may_follow(server: &ServerEndpoint, successor: &str, format: ProxyFormat) -> bool {
    let successor = ServerEndpoint { address: successor.to_owned(), ..server.clone() };
    let exposure = successor.exposure(format);
    if let Some(exposure) = exposure {
        tracing::warn!(
            "not following server {} to its successor {}: {exposure}; connecting to the configured server again. Use TLS, or \
             give --insecure if the network is private",
            server.address,
            successor.address
        );
    }
    exposure.is_none()
}

#[cfg(test)]
mod tests;
