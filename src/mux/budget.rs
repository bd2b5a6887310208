//! The memory budget that limits the growth of flow-control windows.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A budget, in bytes, for the growth of all windows beyond their initial size.
///
/// It bounds what peers can make this process buffer, however many streams and links they have. Clones share it.
#[derive(Debug, Clone)]
pub struct WindowBudget(Arc<AtomicU64>);

impl WindowBudget {
    /// Creates a budget of `bytes` bytes, none of which is reserved.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Returns how many bytes of the budget are not reserved.
    pub fn available(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Reserves `bytes` bytes for the growth of windows, or all that are available if these are fewer. Returns how
    /// many were reserved.
    pub(super) fn reserve(&self, bytes: u64) -> u64 {
        if bytes == 0 {
            return 0;
        }
        let before =
            self.0.fetch_update(Relaxed, Relaxed, |available| Some(available - available.min(bytes)));
        before.unwrap_or_default().min(bytes)
    }

    /// Returns reserved bytes to the budget.
    pub(super) fn release(&self, bytes: u64) {
        self.0.fetch_add(bytes, Relaxed);
    }
}
