use std::{borrow::Cow, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

use super::Workers;
use crate::telemetry::{EventKind, Telemetry};

/// The owner of every task of a server or a proxy: counts them, tells of a panic, waits for the last one.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    workers: Workers,
    stop: CancellationToken,
    telemetry: Arc<Telemetry>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new(telemetry: Arc<Telemetry>, workers: Workers) -> Self {
        Self { tracker: TaskTracker::new(), workers, stop: CancellationToken::new(), telemetry }
    }

    /// Runs `future` as a task on the worker that this is called on. If it panics, its guards clean up, an event
    /// tells, and all others go on.
    pub fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn(self.guarded(name.into(), future));
    }

    /// Runs `future` on the worker with this number; numbers go round.
    pub fn spawn_on(
        &self,
        worker: usize,
        name: impl Into<Cow<'static, str>>,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn_on(self.guarded(name.into(), future), self.workers.handle(worker));
    }

    /// The number of the worker whose turn it is.
    pub fn next_worker(&self) -> usize {
        self.workers.take_turn()
    }

    /// Not an async block, which would hold the future twice: what it captured, and what it waits for.
    fn guarded<F: Future<Output = ()>>(
        &self,
        name: Cow<'static, str>,
        future: F,
    ) -> impl Future<Output = ()> + use<F> {
        let telemetry = self.telemetry.clone();
        // What the future left half done is dropped with it; nothing of it is looked at again.
        AssertUnwindSafe(future).catch_unwind().map(move |done| {
            if done.is_err() {
                telemetry.emit(EventKind::TaskPanicked { task: name.into_owned() });
            }
        })
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Asks all tasks that listen to [`stopped`](Self::stopped) to end.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ready once [`stop`](Self::stop) was called.
    pub fn stopped(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// The token behind [`stop`](Self::stop), for what lives below these tasks.
    pub fn token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Waits until the last one has ended.
    pub async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
