//! Worker threads, busy-polling before sleeping, and owned tasks. Knows nothing of what the tasks do.

mod busy_poll;
mod tasks;
mod workers;

pub(crate) use busy_poll::record_activity;
pub use tasks::Tasks;
pub use workers::{WorkerThreads, Workers};
