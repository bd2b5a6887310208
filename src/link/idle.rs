//! The idle timeout of a stream.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::control::StreamControl;

/// How often a stream is examined within its idle timeout. Nothing is recorded when a stream relays data, so that an
/// idle timeout costs no chunk anything; a stream therefore ends up to a quarter of the timeout late.
const CHECKS_PER_TIMEOUT: u32 = 4;

impl StreamControl {
    /// Completes when the stream has relayed no byte in either direction for `timeout`, or for up to a quarter more.
    /// The time for which the operator has paused it, or its link has no channel, does not count.
    pub async fn wait_idle(&self, timeout: Duration) {
        let mut relayed = self.relayed_bytes();
        let mut active_at = Instant::now();
        loop {
            sleep(timeout / CHECKS_PER_TIMEOUT).await;
            let now_relayed = self.relayed_bytes();
            if now_relayed != relayed || self.is_paused() || !self.link().has_channel() {
                (relayed, active_at) = (now_relayed, Instant::now());
            } else if active_at.elapsed() >= timeout {
                return;
            }
        }
    }

    /// Returns a number that grows with every byte that the local socket has sent or taken, or that the peer's socket
    /// has taken; `None` once the stream has ended.
    fn relayed_bytes(&self) -> Option<u64> {
        self.link().read(|state| state.mux.relayed_bytes(self.endpoint().shared().number()))
    }

    /// Returns whether the operator has paused the stream.
    fn is_paused(&self) -> bool {
        self.endpoint().lock_delivery().is_paused
    }
}
