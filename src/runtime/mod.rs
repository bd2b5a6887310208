//! Worker threads, busy-polling before they sleep, owned tasks, the disposition of signals, and the process's limit of
//! descriptors. Must not know what the tasks do.

mod busy_poll;
mod descriptors;
mod signal_disposition;
mod tasks;
mod wake_ups;
mod workers;

pub(crate) use busy_poll::record_activity;
pub use descriptors::{descriptor_limit, raise_descriptor_limit};
pub use signal_disposition::{ignore_signal, is_signal_ignored};
pub use tasks::Tasks;
pub(crate) use wake_ups::count as wake_up_count;
pub use workers::{WorkerThreads, Workers};
