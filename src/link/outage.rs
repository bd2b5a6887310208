//! Channels on which the peer does not answer.

use std::sync::Arc;

use super::handle::Link;
use crate::telemetry::DisconnectReason;

impl Link {
    /// Returns whether the peer answers on at least one channel of the link.
    pub fn has_responsive_channel(&self) -> bool {
        self.read(|state| state.mux.has_responsive_channel())
    }

    /// Returns the number of channels on which the peer does not answer.
    pub fn unresponsive_channels(&self) -> usize {
        self.read(|state| state.mux.unresponsive_channels())
    }

    /// Closes a channel because the peer does not answer on it, if the link has it. Its streams continue on the others.
    pub fn close_unresponsive_channel(self: &Arc<Self>, channel: u16) {
        self.with(|state| state.stop_channel(channel, DisconnectReason::KeepaliveTimeout));
    }
}
