//! What the kernel does with a signal of this process (sigaction(2)).
//!
//! One of the five modules with `unsafe`; the others are `tcp_info`, `reuse_port`, `retransmission` and `inherited` of
//! `net`. The crates signal-hook and rustix neither read a disposition nor set one to "ignore".

use std::{mem, ptr};

use libc::c_int;

/// Returns whether `signal` is ignored: because the parent process ignored it when it started this one, as `nohup` does
/// with SIGHUP and a shell without job control with SIGINT of a command that ends in `&`.
#[allow(unsafe_code)]
pub fn is_signal_ignored(signal: c_int) -> bool {
    // SAFETY: all bytes zero are a valid `sigaction`: integers, a null handler (SIG_DFL) and an empty mask. The kernel
    // writes to `current` only, and a null pointer for the new action changes nothing.
    unsafe {
        let mut current: libc::sigaction = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &raw mut current) == 0 && current.sa_sigaction == libc::SIG_IGN
    }
}

/// Ignores `signal` from now on. A handler that does nothing would be no replacement: the kernel ends a write to the
/// terminal from the background (SIGTTOU) only if the signal is ignored, and repeats it for ever after a handler.
#[allow(unsafe_code)]
pub fn ignore_signal(signal: c_int) {
    // SAFETY: SIG_IGN runs no code of this process.
    unsafe {
        libc::signal(signal, libc::SIG_IGN);
    }
}

#[cfg(test)]
mod tests;
