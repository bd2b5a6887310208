//! Owned tasks: spawned on a worker, counted, and joined by their owner.

use std::{borrow::Cow, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

use super::workers::Workers;
use crate::telemetry::{EventKind, Telemetry};

/// Owner of all tasks of a server or a proxy. Counts them, reports panics, and waits for the last one.
#[derive(Debug, Clone)]
pub struct Tasks {
    /// Counts the running tasks and waits for their end.
    tracker: TaskTracker,
    /// The worker threads that the tasks are spawned on.
    workers: Workers,
    /// Cancelled to ask all tasks to end.
    stop: CancellationToken,
    /// Receives the events of panicked tasks.
    telemetry: Arc<Telemetry>,
}

impl Tasks {
    /// Creates an owner without tasks, which spawns on `workers` and reports panics to `telemetry`.
    pub fn new(telemetry: Arc<Telemetry>, workers: Workers) -> Self {
        Self { tracker: TaskTracker::new(), workers, stop: CancellationToken::new(), telemetry }
    }

    /// Spawns `future` as a task on the current worker. If it panics, its guards clean up, an event with `name`
    /// reports the panic, and all other tasks continue.
    pub fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn(self.with_panic_report(name.into(), future));
    }

    /// Spawns `future` as a task on the worker with this number, modulo the number of workers.
    pub fn spawn_on(
        &self,
        worker: usize,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn_on(self.with_panic_report(name.into(), future), self.workers.handle(worker));
    }

    /// Returns the number of the worker thread for the next connection, in round robin.
    pub fn next_worker(&self) -> usize {
        self.workers.next_index()
    }

    /// Wraps `future` so that a panic is caught and reported. This is not an async block, which would contain the
    /// future twice: as a captured variable, and as the future that it awaits.
    fn with_panic_report<F: Future<Output = ()>>(
        &self,
        name: Cow<'static, str>,
        future: F,
    ) -> impl Future<Output = ()> + use<F> {
        let telemetry = self.telemetry.clone();
        // Unwind-safe, because the state that a panicking future leaves inconsistent is dropped with it.
        AssertUnwindSafe(future).catch_unwind().map(move |result| {
            if result.is_err() {
                telemetry.emit(EventKind::TaskPanicked { task: name.into_owned() });
            }
        })
    }

    /// Returns the number of running tasks.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Returns whether no task is running.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Asks all tasks that listen to [`stopped`](Self::stopped) to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until [`stop`](Self::stop) was called.
    pub fn stopped(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// Returns the token that [`stop`](Self::stop) cancels, for child tokens of these tasks.
    pub fn token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Waits until the last task has ended.
    pub async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
