use std::{future::Future, panic::AssertUnwindSafe, pin::pin, sync::Arc, task::Poll};

use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

use crate::telemetry::{EventKind, Telemetry};

/// The owner of every task of a server or a proxy: counts them, tells of a panic, waits for the last one.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    telemetry: Arc<Telemetry>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), telemetry }
    }

    /// Runs `future` as a task. If it panics, its guards clean up, an event tells, and all others go on.
    pub fn spawn(&self, name: impl Into<String>, future: impl Future<Output = ()> + Send + 'static) {
        let telemetry = self.telemetry.clone();
        let name = name.into();
        self.tracker.spawn(async move {
            let mut future = pin!(future);
            let guarded = std::future::poll_fn(|context| {
                // What the future left half done is dropped with it; nothing of it is looked at again.
                match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                    Ok(poll) => poll.map(Ok),
                    Err(_) => Poll::Ready(Err(())),
                }
            });
            if guarded.await.is_err() {
                telemetry.emit(EventKind::TaskPanicked { task: name });
            }
        });
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
