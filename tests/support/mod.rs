//! What the integration tests share and targets to tunnel to, real clients, real processes, a
//! wire that can be cut, and the tunnel itself.
//!
//! Everything here ends when its guard is dropped, and every wait has a deadline.

#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used, clippy::expect_used, missing_docs)]

pub mod binary;
pub mod client;
pub mod link;
pub mod process;
pub mod relay;
pub mod target;
pub mod text;
pub mod tunnel;

use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

/// What nothing on loopback takes, a busy machine with two cores included.
pub const LONG: Duration = Duration::from_secs(30);

/// Returns the limit for what the tunnel promises to do within a second, such as ending a killed stream at both ends.
///
/// With `UNDERPASS_TIMING=1` it is that second: `.ci/run` measures it so with no other test beside. Without, it is ten
/// seconds, because on a machine that does other work a second passes before a thread runs.
pub fn promised_second() -> Duration {
    Duration::from_secs(if std::env::var_os("UNDERPASS_TIMING").is_some() { 1 } else { 10 })
}

/// `future` within [`LONG`], or a panic that says what never happened.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    within(LONG, what, future).await
}

/// `future` within `limit`, or a panic that says what never happened.
pub async fn within<F: Future>(limit: Duration, what: &str, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Something that runs beside the test. Dropping it ends it.
pub struct Running<T> {
    tasks: JoinSet<T>,
    handle: AbortHandle,
}

impl<T: Send + 'static> Running<T> {
    /// Runs `future`.
    pub fn start(future: impl Future<Output = T> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        let handle = tasks.spawn(future);
        Self { tasks, handle }
    }

    /// Waits for its end.
    pub async fn end(self, what: &str) -> T {
        self.end_within(LONG, what).await
    }

    /// [`end`](Self::end) with another deadline.
    pub async fn end_within(mut self, limit: Duration, what: &str) -> T {
        within(limit, what, self.tasks.join_next()).await.expect("it ends once").expect("it does not panic")
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }
}
