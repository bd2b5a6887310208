//! Worker threads, busy-polling before they sleep, and owned tasks. Must not know what the tasks do.

mod busy_poll;
mod tasks;
mod wake_ups;
mod workers;

pub(crate) use busy_poll::record_activity;
pub use tasks::Tasks;
pub(crate) use wake_ups::count as wake_up_count;
pub use workers::{WorkerThreads, Workers};
