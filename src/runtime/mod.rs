//! Worker threads, busy-polling before they sleep, and owned tasks. Must not know what the tasks do.

mod busy_poll;
mod tasks;
mod workers;

pub(crate) use busy_poll::record_activity;
pub use tasks::Tasks;
pub use workers::{WorkerThreads, Workers};
