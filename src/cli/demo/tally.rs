use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::{client::TransferError, http::TrafficCounters};

/// Reasons kept to be printed at the end. The first ones tell most.
const MAX_NOTES: usize = 5;

/// What the users of a [`DemoLoad`](super::DemoLoad) counted, from their side of the tunnel. Live: read it at any time.
#[derive(Debug, Default)]
pub struct LoadCounters {
    started: AtomicU64,
    downloads: AtomicU64,
    uploads: AtomicU64,
    checksum_failures: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
    traffic: TrafficCounters,
    notes: Mutex<Vec<String>>,
}

/// A [`LoadCounters`] at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Transfers begun, each a connection of its own.
    pub started: u64,
    /// Downloads that were whole and right.
    pub downloads: u64,
    /// Uploads that were whole and right.
    pub uploads: u64,
    /// Transfers that brought a byte that was never sent. Must be 0.
    pub checksum_failures: u64,
    /// Transfers that failed so that the user saw it: refused, reset, cut short, killed by the operator.
    pub failed: u64,
    /// Transfers that the load itself gave up when it ended.
    pub abandoned: u64,
    /// Bytes read from the users' sockets, HTTP heads included, as a tunnel counts them.
    pub down: u64,
    /// Bytes written to the users' sockets, HTTP heads included.
    pub up: u64,
    /// Why the first of the failures failed.
    pub notes: Vec<String>,
}

impl LoadReport {
    /// Transfers under way.
    pub fn open(&self) -> u64 {
        let over = self.downloads + self.uploads + self.checksum_failures + self.failed + self.abandoned;
        self.started.saturating_sub(over)
    }
}

impl LoadCounters {
    /// All counters now.
    pub fn report(&self) -> LoadReport {
        LoadReport {
            downloads: self.downloads.load(Relaxed),
            uploads: self.uploads.load(Relaxed),
            checksum_failures: self.checksum_failures.load(Relaxed),
            failed: self.failed.load(Relaxed),
            abandoned: self.abandoned.load(Relaxed),
            started: self.started.load(Relaxed),
            down: self.traffic.bytes_read(),
            up: self.traffic.bytes_written(),
            notes: self.notes.lock().clone(),
        }
    }

    pub(super) fn traffic(&self) -> &TrafficCounters {
        &self.traffic
    }

    pub(super) fn start(&self) -> TransferGuard<'_> {
        self.started.fetch_add(1, Relaxed);
        TransferGuard { tally: self, over: false }
    }
}

/// One transfer under way. Dropping it unfinished counts it as abandoned: a task that is aborted cannot forget it.
#[derive(Debug)]
pub(super) struct TransferGuard<'a> {
    tally: &'a LoadCounters,
    over: bool,
}

impl TransferGuard<'_> {
    pub(super) fn end(mut self, upload: bool, result: &Result<(), TransferError>) {
        self.over = true;
        let tally = self.tally;
        let counter = match result {
            Ok(()) if upload => &tally.uploads,
            Ok(()) => &tally.downloads,
            Err(TransferError::Corrupt(_)) => &tally.checksum_failures,
            Err(TransferError::Connect(_) | TransferError::Truncated { .. } | TransferError::Status(_)) => {
                &tally.failed
            }
        };
        counter.fetch_add(1, Relaxed);
        if let Err(fault) = result {
            let mut notes = tally.notes.lock();
            if notes.len() < MAX_NOTES {
                notes.push(format!("{}: {fault}", if upload { "upload" } else { "download" }));
            }
        }
    }
}

impl Drop for TransferGuard<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.tally.abandoned.fetch_add(1, Relaxed);
        }
    }
}
