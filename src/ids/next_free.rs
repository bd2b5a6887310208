//! Numbers that are not in use.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[cfg(test)]
mod tests;

/// Returns the first number after `last`, at least 1, for which `is_used` is false, and stores it in `last`. After 2^32
/// numbers it begins again at 1: a server that runs for months must not give one number to two objects, of which the
/// first may still exist. `is_used` must be false for some number.
pub fn next_free_id(last: &AtomicU32, is_used: impl Fn(u32) -> bool) -> u32 {
    loop {
        let id = last.fetch_add(1, Relaxed).wrapping_add(1);
        if id != 0 && !is_used(id) {
            return id;
        }
    }
}
