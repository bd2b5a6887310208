//! The orderly closing of a channel that a link does not need.

use std::sync::Arc;

use super::handle::Link;

impl Link {
    /// Begins to close one channel in an orderly way, because the link does not need it: its streams move to other
    /// channels first, and its driver ends with [`DisconnectReason::Retired`](crate::telemetry::DisconnectReason).
    /// Returns false, and does nothing, if it is the only one. For a proxy.
    pub fn retire_channel(self: &Arc<Self>) -> bool {
        let is_retiring = self.with(|state| state.mux.retire_channel().is_some());
        self.flush();
        is_retiring
    }
}
