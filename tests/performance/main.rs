//! Tests that compare durations or measure the memory of processes. They run one at a time: [`exclusive`] gives a test
//! the machine for itself, as far as this binary is concerned.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod memory;
mod parallel_downloads;
#[path = "../support/mod.rs"]
mod support;

use tokio::sync::{Mutex, MutexGuard};

/// Waits until no other test of this binary runs, and keeps the others waiting until the guard is dropped.
async fn exclusive() -> MutexGuard<'static, ()> {
    static EXCLUSIVE: Mutex<()> = Mutex::const_new(());
    EXCLUSIVE.lock().await
}
