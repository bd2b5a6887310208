use std::sync::Arc;

use super::{Link, endpoint::Endpoint};
use crate::ids::Priority;

/// What an operator can do to a stream while it is carried, from outside the task that carries it.
#[derive(Debug, Clone)]
pub struct StreamControl {
    link: Arc<Link>,
    endpoint: Arc<Endpoint>,
}

impl StreamControl {
    pub(super) fn new(link: Arc<Link>, endpoint: Arc<Endpoint>) -> Self {
        Self { link, endpoint }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Holds the stream, or lets it go on. Nothing is closed: neither side gets credit, so that what sends there is
    /// stopped by its own TCP, and what has come already waits here within the window.
    pub fn set_paused(&self, paused: bool) {
        // Under the lock that delivering takes: nothing is delivered any more once this has returned.
        self.endpoint.delivery().paused = paused;
        self.link.with(|state| state.mux.set_paused(self.endpoint.number(), paused));
        self.endpoint.wake();
        self.link.flush();
    }

    /// Whether the peer owes a word on whether it takes the stream. Nothing is expected of a text peer: it may be
    /// silent until its target speaks.
    pub fn is_awaiting_accept(&self) -> bool {
        !self.endpoint.is_accepted() && !self.link.with(|state| state.text.is_some())
    }

    /// Makes the stream look anew at the limits that hold for it.
    pub fn rate_limits_changed(&self) {
        self.endpoint.wake();
    }

    /// Gives the stream another share of its channel, in both directions.
    pub fn set_priority(&self, priority: Priority) {
        self.link.with(|state| state.mux.set_priority(self.endpoint.number(), priority));
        self.link.flush();
    }
}
