//! Helpers of the integration tests: targets to tunnel to, real clients, real processes, relays that cut connections,
//! and the tunnel itself.
//!
//! Dropping the guard of a helper stops it. Every wait has a timeout.

#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used, clippy::expect_used, missing_docs)]

pub mod binary;
pub mod client;
pub mod exposition;
pub mod link;
pub mod preload;
pub mod process;
pub mod relay;
pub mod target;
pub mod text;
pub mod tunnel;

use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

/// Timeout of a wait that succeeds at once on loopback, long enough for a busy machine with two cores.
pub const LONG: Duration = Duration::from_secs(30);

/// Returns the limit for what the tunnel promises to do within a second, such as ending a killed stream at both ends.
///
/// With `UNDERPASS_TIMING=1` it is that second: `.ci/run` measures it so with no other test beside. Without, it is ten
/// seconds, because on a machine that does other work a second passes before a thread runs.
pub fn promised_second() -> Duration {
    Duration::from_secs(if std::env::var_os("UNDERPASS_TIMING").is_some() { 1 } else { 10 })
}

/// Returns the limit for what the tunnel promises to do at once, such as ending a killed stream whose sender and
/// receiver are fast: 100 ms with `UNDERPASS_TIMING=1`, and otherwise as long as [`promised_second`].
pub fn promised_moment() -> Duration {
    if std::env::var_os("UNDERPASS_TIMING").is_some() {
        Duration::from_millis(100)
    } else {
        promised_second()
    }
}

/// Runs `future` for at most [`LONG`]. Panics with `what` after that.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    within(LONG, what, future).await
}

/// Runs `future` for at most `limit`. Panics with `what` after that.
pub async fn within<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// A task that runs beside the test. Dropping it aborts the task.
pub struct Running<T> {
    tasks: JoinSet<T>,
    handle: AbortHandle,
}

impl<T: Send + 'static> Running<T> {
    /// Spawns `future`.
    pub fn start(future: impl Future<Output = T> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        let handle = tasks.spawn(future);
        Self { tasks, handle }
    }

    /// Waits for the result of the task, at most [`LONG`].
    pub async fn end(self, what: &str) -> T {
        self.end_within(LONG, what).await
    }

    /// Waits for the result of the task, at most `limit`.
    pub async fn end_within(mut self, limit: Duration, what: &str) -> T {
        within(limit, what, self.tasks.join_next()).await.expect("it ends once").expect("it does not panic")
    }

    /// Returns whether the task has ended.
    pub fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }
}
