//! A registered link to a server, and the GOAWAY that the server may send on it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{link::Link, wire::ResetCode};

/// A link to a server that has accepted the registration.
#[derive(Debug)]
pub(super) struct ServerLink {
    /// The link to the server: the session over all of its channels.
    link: Arc<Link>,
    /// Whether the server has sent GOAWAY on this link.
    go_away: Arc<GoAwayState>,
}

/// Whether the server has sent GOAWAY, and the successor that it named.
#[derive(Debug, Default)]
pub(super) struct GoAwayState {
    /// Cancelled when GOAWAY, or EXIT from a server of the text format, was received.
    received: CancellationToken,
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
}

impl GoAwayState {
    /// Records that GOAWAY was received. Returns whether this is the first one; the server sends it on every channel.
    pub(super) fn record(&self) -> bool {
        let is_first = !self.is_received();
        self.received.cancel();
        is_first
    }

    /// Stores the address of the successor, `HOST:PORT`, that the draining server named.
    pub(super) fn set_successor(&self, address: String) {
        *self.successor.lock() = Some(address);
    }

    /// Returns whether GOAWAY was received.
    pub(super) fn is_received(&self) -> bool {
        self.received.is_cancelled()
    }

    /// Waits until GOAWAY is received.
    pub(super) async fn wait_received(&self) {
        self.received.cancelled().await;
    }
}

impl ServerLink {
    /// Wraps a link whose registration was accepted.
    pub(super) fn new(link: Arc<Link>, go_away: Arc<GoAwayState>) -> Self {
        Self { link, go_away }
    }

    /// Waits until the server has sent GOAWAY or the link has ended, and returns which.
    pub(super) async fn serve(&self) -> ServeOutcome {
        tokio::select! {
            // Polled in this order: a server without open streams closes the link directly after its GOAWAY, and the
            // GOAWAY is the more precise reason.
            biased;
            () = self.go_away.wait_received() => {
                ServeOutcome::GoAway { successor: self.go_away.successor.lock().take() }
            }
            () = self.link.run_until_ended() => ServeOutcome::Lost,
        }
    }

    /// Waits until the link has ended, which after a GOAWAY it does when its last stream has ended.
    pub(super) async fn finish(&self) {
        self.link.run_until_ended().await;
    }

    /// Sends GOAWAY: the server assigns no new streams to this proxy. Streams that it opened before it received the
    /// GOAWAY are still served.
    pub(super) fn send_go_away(&self) {
        self.link.send_go_away(ResetCode::Shutdown);
    }
}
