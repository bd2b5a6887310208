//! What other tasks and threads ask of the task that drives a channel.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::Waker,
};

use futures_util::task::AtomicWaker;

/// Requests to the driver of a channel. Each is a flag, and the driver is woken when one is set.
///
/// A wait for each of them by a future of its own (`Notify`, `CancellationToken`) costs two locks whenever the driver
/// is polled: with them, the driver's loop took a sixth of the instructions of an HTTP request.
#[derive(Debug, Default)]
pub(super) struct DriverSignals {
    /// Wakes the driver's task.
    waker: AtomicWaker,
    /// Whether the driver has to flush the channel, or to set its timer again.
    is_flush_requested: AtomicBool,
    /// Whether data waits for the next report of the kernel's view of the connection, which the driver has to make in a
    /// moment.
    is_sample_due: AtomicBool,
    /// Whether the driver has to end.
    is_stopped: AtomicBool,
}

impl DriverSignals {
    /// Has `waker` woken by later requests. For the driver only, before it checks the flags.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Has the driver flush the channel, and set its timer again if its time has moved.
    pub(super) fn request_flush(&self) {
        set(&self.is_flush_requested, &self.waker);
    }

    /// Returns whether a flush was requested since the last call.
    pub(super) fn take_flush_request(&self) -> bool {
        self.is_flush_requested.load(SeqCst) && self.is_flush_requested.swap(false, SeqCst)
    }

    /// Has the driver report the kernel's view of the connection in a moment. Apart from a request to flush, which
    /// would do so at once: each flush asks for another report, and the driver would never wait for the time between
    /// two of them.
    pub(super) fn request_sample(&self) {
        set(&self.is_sample_due, &self.waker);
    }

    /// Records that the kernel's view of the connection is being reported, so that no further report is due.
    pub(super) fn sample_taken(&self) {
        self.is_sample_due.store(false, SeqCst);
    }

    /// Returns whether data waits for the next report of the kernel's view of the connection.
    pub(super) fn is_sample_due(&self) -> bool {
        self.is_sample_due.load(SeqCst)
    }

    /// Has the driver end.
    pub(super) fn stop(&self) {
        set(&self.is_stopped, &self.waker);
    }

    /// Returns whether the driver has to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(SeqCst)
    }
}

/// Sets `flag`, and wakes the driver unless it was set before: then the driver was woken, and has not looked at it yet.
fn set(flag: &AtomicBool, waker: &AtomicWaker) {
    if !flag.swap(true, SeqCst) {
        waker.wake();
    }
}
