//! A registered link to a server, and the GOAWAY that the server may send on it.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::link_services::LinkServices;
use crate::{link::Link, telemetry::DisconnectReason, wire::ResetCode};

/// A link to a server that has accepted the registration.
#[derive(Debug)]
pub(super) struct ServerLink {
    /// The link to the server: the session over all of its channels.
    link: Arc<Link>,
    /// The id of the link, by which the server knows it; `None` in the text format, which has none.
    id: Option<[u8; 16]>,
    /// Whether the server has sent GOAWAY on this link.
    go_away: Arc<GoAwayState>,
    /// The services of the link.
    services: Arc<LinkServices>,
}

/// Whether the server has sent GOAWAY, and the successor that it named.
#[derive(Debug, Default)]
pub(super) struct GoAwayState {
    /// Cancelled when GOAWAY, or EXIT from a server of the text format, was received: the server leaves.
    received: CancellationToken,
    /// Cancelled when the server has asked for another link, because the stream numbers of this one run out. The server
    /// stays, and with it this link until its last stream has ended.
    is_replacement_requested: CancellationToken,
    /// Cancelled when another link registers the services of the proxy, and this one does so no more.
    superseded: CancellationToken,
    /// Cancelled when the link cannot register the services of the changed configuration, so that another one has to.
    outdated: CancellationToken,
    /// The address of the server to connect to instead, `HOST:PORT`, from the SUCCESSOR message before the GOAWAY.
    successor: Mutex<Option<String>>,
}

/// Why a registered link serves no new streams any more.
#[derive(Debug)]
pub(super) enum ServeOutcome {
    /// The link ended: all channels were lost, and it was not resumed within the grace period.
    Lost,
    /// The server sent GOAWAY. Open streams continue.
    GoAway {
        /// The address of the server to connect to instead, if one was named.
        successor: Option<String>,
    },
    /// The server asks for another link, because the stream numbers of this one run out. It opens streams on this one
    /// until there is another.
    Replaced,
    /// The link cannot register the services of the changed configuration. It serves those before until there is
    /// another.
    Outdated,
}

impl GoAwayState {
    /// Records that GOAWAY was received. Returns whether this is the first one with this meaning; the server sends it
    /// on every channel.
    pub(super) fn record(&self, code: Option<ResetCode>) -> bool {
        let is_replaced = code == Some(ResetCode::LinkReplaced);
        let token = if is_replaced { &self.is_replacement_requested } else { &self.received };
        let is_first = !token.is_cancelled();
        token.cancel();
        is_first
    }

    /// Stores the address of the successor, `HOST:PORT`, that the draining server named.
    pub(super) fn set_successor(&self, address: String) {
        *self.successor.lock() = Some(address);
    }

    /// Returns whether the server has asked for another link instead of this one.
    pub(super) fn is_replacement_requested(&self) -> bool {
        self.is_replacement_requested.is_cancelled()
    }

    /// Has another link established, because this one cannot register the services of the changed configuration.
    pub(super) fn set_outdated(&self) {
        self.outdated.cancel();
    }

    /// Returns whether GOAWAY was received.
    pub(super) fn is_received(&self) -> bool {
        self.received.is_cancelled()
    }

    /// Waits until GOAWAY was received, or another link registers the services of the proxy.
    pub(super) async fn wait_superseded(&self) {
        tokio::select! {
            () = self.received.cancelled() => {}
            () = self.superseded.cancelled() => {}
        }
    }

    /// Returns whether GOAWAY was received, or another link registers the services of the proxy.
    pub(super) fn is_superseded(&self) -> bool {
        self.is_received() || self.superseded.is_cancelled()
    }

    /// Waits until GOAWAY is received.
    pub(super) async fn wait_received(&self) {
        self.received.cancelled().await;
    }
}

impl ServerLink {
    /// Wraps a link on which a registration was accepted.
    pub(super) fn new(
        link: Arc<Link>,
        id: Option<[u8; 16]>,
        go_away: Arc<GoAwayState>,
        services: Arc<LinkServices>,
    ) -> Self {
        Self { link, id, go_away, services }
    }

    /// Publishes the services of the link from now on, and logs them.
    pub(super) fn begin_serving(&self) {
        self.services.begin_serving();
    }

    /// Returns the id of the link if the server has asked for another one instead of it.
    pub(super) fn id_to_replace(&self) -> Option<[u8; 16]> {
        self.id.filter(|_| self.go_away.is_replacement_requested())
    }

    /// Waits until the server has sent GOAWAY, server or configuration want another link, or the link has ended, and
    /// returns which.
    pub(super) async fn serve(&self) -> ServeOutcome {
        tokio::select! {
            // Polled in this order: a server without open streams closes the link directly after its GOAWAY, and the
            // GOAWAY is the more precise reason.
            biased;
            () = self.go_away.wait_received() => {
                ServeOutcome::GoAway { successor: self.go_away.successor.lock().take() }
            }
            () = self.go_away.is_replacement_requested.cancelled() => ServeOutcome::Replaced,
            () = self.go_away.outdated.cancelled() => ServeOutcome::Outdated,
            () = self.link.run_until_ended() => ServeOutcome::Lost,
        }
    }

    /// Returns whether the link has a channel now.
    pub(super) fn has_channel(&self) -> bool {
        self.link.has_channel()
    }

    /// Returns whether the link has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.link.has_ended()
    }

    /// Waits until the link has ended, which after a GOAWAY it does when its last stream has ended.
    pub(super) async fn finish(&self) {
        self.link.run_until_ended().await;
    }

    /// Sends GOAWAY: the server assigns no new streams to this proxy. Streams that it opened before it received the
    /// GOAWAY are still served.
    pub(super) fn send_go_away(&self) {
        // The server would refuse what is still requested.
        self.go_away.superseded.cancel();
        self.link.send_go_away(ResetCode::Shutdown);
    }

    /// Sends GOAWAY on a link that is not needed any more, while server and proxy stay: the server assigns no new
    /// streams to it, and closes it after its last one. Until then it is resumed if its channels are lost.
    pub(super) fn retire(&self) {
        self.go_away.superseded.cancel();
        self.link.send_go_away(ResetCode::LinkReplaced);
    }

    /// Waits until the link has ended, for a task that is not its owner.
    pub(super) async fn wait_ended(&self) {
        self.link.wait_ended().await;
    }

    /// Waits until each service was granted or refused on this link.
    pub(super) async fn wait_settled(&self) {
        self.services.wait_settled().await;
    }

    /// Sends GOAWAY after the proxy has registered on another link. If the server stays, the open streams of this one
    /// continue as before.
    pub(super) fn hand_over(&self) {
        if self.go_away.is_received() { self.send_go_away() } else { self.retire() }
    }
}

/// How many links may continue beside the one that serves new streams. An honest server replaces a link after days, and
/// drains once; another could make a proxy open link after link and keep each.
const MAX_OLD_LINKS: usize = 8;

/// The links that have received GOAWAY and continue until their last stream has ended, oldest first.
#[derive(Debug, Default)]
pub(super) struct OldLinks(VecDeque<Arc<ServerLink>>);

impl OldLinks {
    /// Adds a link. Forgets those that have ended, and closes the oldest if there are [`MAX_OLD_LINKS`] already.
    pub(super) fn push(&mut self, link: Arc<ServerLink>) {
        self.0.retain(|old| !old.has_ended());
        if self.0.len() >= MAX_OLD_LINKS
            && let Some(oldest) = self.0.pop_front()
        {
            tracing::warn!(
                "more than {MAX_OLD_LINKS} links received GOAWAY and still have streams; closing the oldest"
            );
            oldest.link.close(&DisconnectReason::GoAway);
        }
        self.0.push_back(link);
    }
}

#[cfg(test)]
mod tests;
