//! Reading and setting the disposition of a signal.

use super::*;

#[test]
fn an_ignored_signal_is_reported() {
    // Changes nothing for other tests of this process: nothing uses SIGUSR2, and no test runs in a terminal's
    // background.
    assert!(!is_signal_ignored(libc::SIGUSR2));
    ignore_signal(libc::SIGUSR2);
    assert!(is_signal_ignored(libc::SIGUSR2));
    // The Rust runtime ignores SIGPIPE before main.
    assert!(is_signal_ignored(libc::SIGPIPE));
}
