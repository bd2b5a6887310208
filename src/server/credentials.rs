//! Who may connect as a proxy: what the caller of a server gives it, and changes while it runs.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::{config::ProxyEntries, telemetry::epoch_ms, wire::handshake::Token};

/// The clock by which tokens expire.
#[derive(Clone)]
pub(super) struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// Returns the time in milliseconds since the Unix epoch.
    pub(super) fn epoch_ms(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// The tokens with which proxies may connect: one that may do everything, and those of the entries, which may be
/// replaced while the server runs. `Debug` prints none.
#[derive(Clone)]
pub struct Credentials {
    /// The token that may do everything, if there is one.
    pub(super) token: Option<Token>,
    /// The entries.
    pub(super) entries: watch::Sender<ProxyEntries>,
    /// The clock by which tokens expire.
    pub(super) clock: WallClock,
}

impl Credentials {
    /// Creates the credentials of a server with `entries`, and with `token`, which may do everything, unless there is
    /// none.
    pub fn new(token: Option<Token>, entries: ProxyEntries) -> Self {
        Self { token, entries: watch::Sender::new(entries), clock: WallClock(Arc::new(epoch_ms)) }
    }

    /// Replaces the clock by which tokens expire. For tests.
    #[must_use]
    pub fn with_clock(self, epoch_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: WallClock(Arc::new(epoch_ms)), ..self }
    }

    /// Replaces the entries of all servers that run with these credentials. Proxies whose token has no entry any more
    /// are disconnected. Returns whether they are others.
    pub fn replace_entries(&self, entries: ProxyEntries) -> bool {
        self.entries.send_if_modified(|current| {
            let is_other = *current != entries;
            *current = entries;
            is_other
        })
    }

    /// Returns a receiver of the entries that apply.
    pub fn watch_entries(&self) -> watch::Receiver<ProxyEntries> {
        self.entries.subscribe()
    }
}

impl From<Token> for Credentials {
    fn from(token: Token) -> Self {
        Self::new(Some(token), ProxyEntries::default())
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("entries", &*self.entries.borrow()).finish_non_exhaustive()
    }
}
