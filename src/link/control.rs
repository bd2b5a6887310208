//! Operator control of a stream while it is relayed: pause, priority, rate limits.

use std::sync::Arc;

use super::{
    endpoint::Endpoint,
    handle::{Link, Stream},
};
use crate::{ids::Priority, telemetry::ServedStream};

/// Controls a stream from outside the task that relays it. Outlives the stream, and then has no effect.
#[derive(Debug, Clone)]
pub struct StreamControl {
    /// The link that carries the stream: the session with one peer over all its channels.
    link: Arc<Link>,
    /// The end of the stream on this side, with its local socket.
    endpoint: Arc<Endpoint>,
}

impl Stream {
    /// Returns a handle by which the operator pauses the stream or changes its priority and rate limits while another
    /// task relays it.
    pub fn control(&self) -> StreamControl {
        StreamControl { link: self.link().clone(), endpoint: self.endpoint().clone() }
    }

    /// Has the bytes of a stream that the peer opened counted from now on.
    pub fn count(&self, served: Arc<ServedStream>) {
        let is_shown = served.shown().is_some();
        self.endpoint().shared().set_served(served);
        if is_shown {
            // The server has chosen the channel before.
            self.link().with(|state| {
                if let Some(channel) = state.mux.primary_channel(self.number()) {
                    state.show_channel(self.number(), channel);
                }
            });
        }
    }
}

impl StreamControl {
    /// Returns the link that carries the stream (the session with one peer over all its channels).
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Returns the end of the stream on this side, with its local socket.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Pauses or continues the stream. Nothing is closed: neither side receives flow-control credit while it is
    /// paused, so that TCP backpressure stops both senders, and data that was received already waits here within the
    /// window.
    pub fn set_paused(&self, is_paused: bool) {
        // Under the delivery lock: no byte is delivered any more once this has returned.
        self.endpoint.lock_delivery().is_paused = is_paused;
        self.link.with(|state| state.mux.set_paused(self.endpoint.shared().number(), is_paused));
        self.endpoint.wake();
        self.link.flush();
    }

    /// Returns whether the peer has yet to accept the stream. Always false for a text peer, which may send nothing
    /// until its target does.
    pub fn is_awaiting_accept(&self) -> bool {
        !self.endpoint.shared().is_accepted() && !self.link.with(|state| state.text.is_some())
    }

    /// Wakes the stream's relay task, so that it applies changed rate limits at once.
    pub fn rate_limits_changed(&self) {
        self.endpoint.wake();
    }

    /// Sets the stream's priority, which determines its share of the channel, in both directions.
    pub fn set_priority(&self, priority: Priority) {
        self.link.with(|state| state.mux.set_priority(self.endpoint.shared().number(), priority));
        self.link.flush();
    }
}
