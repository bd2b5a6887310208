//! The synchronisation primitives of `flat_combining`. The interleaving tests compile that file with those of a model
//! checker instead.

pub(super) use super::lock::CombinerMutex as Mutex;
pub(super) use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
