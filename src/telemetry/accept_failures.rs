//! The listeners that cannot accept connections at the moment.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The listeners on which accept(2) has failed last: since when, and why. At most one entry for each listener.
#[derive(Debug, Default)]
pub(super) struct FailingListeners(Mutex<HashMap<SocketAddr, (Instant, String)>>);

/// Reports that a listener cannot accept connections, until it is dropped: the listener has accepted one, or is closed.
#[derive(Debug)]
pub struct AcceptFailure<'a> {
    /// Where it is reported.
    all: &'a FailingListeners,
    /// The address of the listener.
    listener: SocketAddr,
}

impl Drop for AcceptFailure<'_> {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.listener);
    }
}

impl FailingListeners {
    /// Adds a listener until the returned guard is dropped.
    pub(super) fn add(&self, listener: SocketAddr, reason: String) -> AcceptFailure<'_> {
        self.0.lock().insert(listener, (Instant::now(), reason));
        AcceptFailure { all: self, listener }
    }

    /// Returns a listener that has accepted no connection for at least `time`, and why; `None` if there is none.
    pub(super) fn failing_for(&self, time: Duration) -> Option<(SocketAddr, String)> {
        let failing = self.0.lock();
        let found = failing.iter().find(|(_, (since, _))| since.elapsed() >= time);
        found.map(|(listener, (_, reason))| (*listener, reason.clone()))
    }
}
