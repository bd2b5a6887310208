//! What the integration tests share and what needs no tunnel: targets to tunnel to, real clients, real processes.
//!
//! Everything here ends when its guard is dropped, and every wait has a deadline.

#![allow(dead_code, unreachable_pub, unused_imports, clippy::unwrap_used, clippy::expect_used, missing_docs)]

pub mod client;
pub mod process;
pub mod target;

use std::time::Duration;

/// What nothing on loopback takes, a busy machine with two cores included.
pub const LONG: Duration = Duration::from_secs(30);

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
