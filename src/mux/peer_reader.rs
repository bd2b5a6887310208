//! What a sender knows of the peer's reader: its acknowledgements, and the windows that the peer grants.

use super::budget::{Claim, MemoryBudget};

/// What a sender knows of the peer's reader. A sender cannot see it: what the peer acknowledges is what the kernel
/// before the reader took, and only the peer knows whether the reader takes that.
#[derive(Debug)]
pub(super) struct PeerReader {
    /// The peer's first window in bytes; 0 before it is known.
    first_window: u32,
    /// Whether the peer has doubled its first window since, because its reader has taken something.
    is_raising: bool,
    /// Whether the peer has raised a small first window to the initial one, because its reader makes progress.
    is_proven: bool,
}

impl PeerReader {
    /// Creates the state of a stream with this first window in bytes.
    pub(super) fn new(first_window: u32) -> Self {
        Self { first_window, is_raising: false, is_proven: false }
    }

    /// Forgets the first window: that of the next [`on_window`](Self::on_window) is the first one.
    pub(super) fn forget_first_window(&mut self) {
        self.first_window = 0;
    }

    /// Records a window that the peer grants. `initial_window` is the one that it gives where it has enough memory.
    pub(super) fn on_window(&mut self, window: u32, initial_window: u64) {
        if self.first_window == 0 {
            self.first_window = window;
        }
        self.is_raising |= window / 2 >= self.first_window;
        self.is_proven |= self.is_raising && u64::from(window) >= initial_window;
    }

    /// Returns what buffers beyond the minimum are claimed for, after `acked` bytes were acknowledged.
    pub(super) fn claim(&self, acked: u64, initial_window: u64, budget: &MemoryBudget) -> Claim {
        let was_peer_filling = u64::from(self.first_window) < initial_window;
        if self.is_proven || acked >= budget.proven_acked_bytes(was_peer_filling) {
            Claim::Proven
        } else if self.is_raising {
            Claim::Raised
        } else if acked > 0 {
            Claim::Ramp
        } else {
            Claim::Unproven
        }
    }
}
