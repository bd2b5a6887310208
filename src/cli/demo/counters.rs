//! Counters of the demo's users.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::{client::TransferError, http::TrafficCounters};

/// Maximum number of error messages kept for the summary; the first errors are the most telling ones.
const MAX_ERRORS: usize = 5;

/// Transfers and bytes as the users of a [`DemoLoad`](super::DemoLoad) see them on their side of the tunnel. The
/// counters can be read while the load runs.
#[derive(Debug, Default)]
pub struct LoadCounters {
    /// Transfers started.
    started: AtomicU64,
    /// Downloads that completed with the expected bytes.
    downloads: AtomicU64,
    /// Uploads that completed and that the origin confirmed with the expected checksum.
    uploads: AtomicU64,
    /// Transfers that delivered a wrong byte, or whose checksum did not match.
    checksum_failures: AtomicU64,
    /// Transfers that failed with an error other than wrong bytes.
    failed: AtomicU64,
    /// Transfers that ended without a result, because the load was stopped.
    cancelled: AtomicU64,
    /// Bytes read from and written to the users' sockets.
    traffic: TrafficCounters,
    /// Messages of the first failed transfers, at most [`MAX_ERRORS`].
    errors: Mutex<Vec<String>>,
}

/// The values of [`LoadCounters`] at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Transfers started, each on its own connection.
    pub started: u64,
    /// Downloads that completed with the expected bytes.
    pub downloads: u64,
    /// Uploads that completed and that the origin confirmed with the expected checksum.
    pub uploads: u64,
    /// Transfers that delivered a byte that was never sent. Must be 0.
    pub checksum_failures: u64,
    /// Transfers that failed with an error that the user sees: refused, reset, truncated, killed by the operator.
    pub failed: u64,
    /// Transfers that were still open when the load ended and cancelled them.
    pub cancelled: u64,
    /// Bytes read from the users' sockets, HTTP heads included, as a tunnel counts them.
    pub down: u64,
    /// Bytes written to the users' sockets, HTTP heads included.
    pub up: u64,
    /// Messages of the first failed transfers, at most five.
    pub errors: Vec<String>,
}

impl LoadReport {
    /// Returns how many transfers are open.
    pub fn open(&self) -> u64 {
        let ended = self.downloads + self.uploads + self.checksum_failures + self.failed + self.cancelled;
        self.started.saturating_sub(ended)
    }
}

impl LoadCounters {
    /// Reads all counters one after the other; a transfer that ends meanwhile may still be reported as open.
    pub fn report(&self) -> LoadReport {
        LoadReport {
            downloads: self.downloads.load(Relaxed),
            uploads: self.uploads.load(Relaxed),
            checksum_failures: self.checksum_failures.load(Relaxed),
            failed: self.failed.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            started: self.started.load(Relaxed),
            down: self.traffic.bytes_read(),
            up: self.traffic.bytes_written(),
            errors: self.errors.lock().clone(),
        }
    }

    /// Returns the counters of the bytes on the users' sockets.
    pub(super) fn traffic(&self) -> &TrafficCounters {
        &self.traffic
    }

    /// Counts a started transfer.
    pub(super) fn start(&self) -> TransferGuard<'_> {
        self.started.fetch_add(1, Relaxed);
        TransferGuard { counters: self, has_ended: false }
    }
}

/// Guard of an open transfer. If it is dropped without [`end`](Self::end), the transfer counts as cancelled, so that an
/// aborted task is counted too.
#[derive(Debug)]
pub(super) struct TransferGuard<'a> {
    /// The counters that the transfer's result is added to.
    counters: &'a LoadCounters,
    /// Whether the result was counted, so that the drop counts nothing.
    has_ended: bool,
}

impl TransferGuard<'_> {
    /// Counts the transfer by its result, and keeps the message of one of the first errors.
    pub(super) fn end(mut self, upload: bool, result: &Result<(), TransferError>) {
        self.has_ended = true;
        let counters = self.counters;
        let counter = match result {
            Ok(()) if upload => &counters.uploads,
            Ok(()) => &counters.downloads,
            Err(TransferError::Corrupt(_)) => &counters.checksum_failures,
            Err(TransferError::Connect(_) | TransferError::Truncated { .. } | TransferError::Status(_)) => {
                &counters.failed
            }
        };
        counter.fetch_add(1, Relaxed);
        if let Err(error) = result {
            let mut errors = counters.errors.lock();
            if errors.len() < MAX_ERRORS {
                errors.push(format!("{}: {error}", if upload { "upload" } else { "download" }));
            }
        }
    }
}

impl Drop for TransferGuard<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.counters.cancelled.fetch_add(1, Relaxed);
        }
    }
}
