//! Worker threads, busy-polling before sleeping, and owned tasks. Knows nothing of what the tasks do.

mod spin;
mod tasks;
mod workers;

pub(crate) use spin::note;
pub use tasks::Tasks;
pub use workers::{WorkerThreads, Workers};
