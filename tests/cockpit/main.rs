//! The cockpit end to end: the real program runs its demo in a pseudo-terminal.
//!
//! Linux only, because the tests need all of 127.0.0.0/8 on loopback.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations
)]

mod acting;
mod download;
mod endings;
mod guest;
mod job_control;
mod leaving;
mod live;
mod log;
mod pasting;
#[path = "../support/preload.rs"]
mod preload;
mod terminal;
mod token;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use terminal::Terminal;

/// Waits until no other test of this binary runs: each demo keeps two cores busy, and the tests have timeouts.
pub fn exclusive() -> MutexGuard<'static, ()> {
    static EXCLUSIVE: Mutex<()> = Mutex::new(());
    EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the limit for what the tunnel promises to do within a second: that second with `UNDERPASS_TIMING=1`, as
/// `.ci/run` measures it with no other test beside, and ten seconds without.
pub fn promised_second() -> Duration {
    Duration::from_secs(if std::env::var_os("UNDERPASS_TIMING").is_some() { 1 } else { 10 })
}

/// Starts the demo and waits until its header counts open streams.
pub fn demo(size: (u16, u16), environment: &[(&str, &str)]) -> Terminal {
    let terminal = Terminal::underpass(&["demo"], size, environment);
    terminal.until("streams", |screen| (open(&screen.contents())? > 0).then_some(()));
    terminal
}

/// Returns the number of open streams in the header.
pub fn open(screen: &str) -> Option<u64> {
    let head = screen.lines().next()?;
    let words: Vec<&str> = head.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "open")?;
    words.get(at.checked_sub(1)?)?.replace(',', "").parse().ok()
}
