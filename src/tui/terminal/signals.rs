//! Signal handling: each signal sets a flag and wakes the input loop through a socket pair.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rustix::process::{Signal, getpgrp, getsid, kill_current_process_group};
use signal_hook::{
    SigId,
    consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH},
    flag, low_level,
};

/// How long, at most, [`Signals::suspend_process_group`] waits for its own SIGTSTP to be caught.
const SELF_SIGNAL_TIMEOUT: Duration = Duration::from_millis(200);

/// The signals that the cockpit handles: a flag for each, and a socket pair that makes `poll` return.
///
/// Other handlers (tokio's) may be registered beside these: the registry calls all of them.
#[derive(Debug)]
pub(crate) struct TerminalSignals {
    /// The number of each signal, and whether it was raised since its flag was last taken.
    flags: Vec<(i32, Arc<AtomicBool>)>,
    /// The read end that becomes readable when any of the signals is raised.
    wakeup: UnixStream,
    /// The registered handlers, to be removed on drop.
    ids: Vec<SigId>,
}

impl TerminalSignals {
    /// Registers handlers for INT, TERM, HUP, TSTP, CONT and WINCH, except for those `ignored`.
    ///
    /// # Errors
    /// No descriptor is left, or the system refuses a handler.
    pub(crate) fn listen(ignored: &[i32]) -> io::Result<Self> {
        let (wakeup, write) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        let mut signals = Self { flags: Vec::new(), wakeup, ids: Vec::new() };
        let handled = [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH];
        for signal in handled.into_iter().filter(|signal| !ignored.contains(signal)) {
            let raised = Arc::new(AtomicBool::new(false));
            // The flag is registered before the socket, so that it is set by the time the input loop wakes.
            signals.ids.push(flag::register(signal, raised.clone())?);
            signals.ids.push(low_level::pipe::register(signal, write.try_clone()?)?);
            signals.flags.push((signal, raised));
        }
        Ok(signals)
    }

    /// Empties the socket that woke the input loop. The flags stay set.
    pub(crate) fn drain(&mut self) {
        let mut buffer = [0; 64];
        while matches!(self.wakeup.read(&mut buffer), Ok(read) if read > 0) {}
    }

    /// Returns whether the signal was raised since the last call, and clears its flag.
    fn take(&self, signal: i32) -> bool {
        self.flags.iter().any(|(known, raised)| *known == signal && raised.swap(false, SeqCst))
    }

    /// Returns whether another process sent SIGINT or SIGTERM, and clears both flags.
    pub(crate) fn take_terminate(&self) -> bool {
        // No short circuit: both flags have to be cleared.
        self.take(SIGINT) | self.take(SIGTERM)
    }

    /// Returns whether the terminal hung up (SIGHUP), and clears the flag.
    pub(crate) fn take_hangup(&self) -> bool {
        self.take(SIGHUP)
    }

    /// Returns whether another process asked this one to suspend (SIGTSTP), and clears the flag.
    pub(crate) fn take_suspend(&self) -> bool {
        self.take(SIGTSTP)
    }

    /// Returns whether this process was continued after it had been stopped (SIGCONT), and clears the flag.
    pub(crate) fn take_continue(&self) -> bool {
        self.take(SIGCONT)
    }

    /// Returns whether the terminal changed its size (SIGWINCH), and clears the flag.
    pub(crate) fn take_resize(&self) -> bool {
        self.take(SIGWINCH)
    }

    /// Stops this process group as the terminal's `^Z` would, and returns when the shell continues it. The caller
    /// must have restored the terminal.
    ///
    /// The whole process group is signalled, as the terminal driver does for `^Z`: under `cargo run` the shell waits
    /// for cargo, and would not notice that only cargo's child stopped.
    pub(crate) fn suspend_process_group(&self) {
        _ = kill_current_process_group(Signal::TSTP);
        // This process catches its own copy of the signal too, perhaps on another thread and a little later. A copy
        // that was caught after the process continued would suspend it a second time.
        let deadline = Instant::now() + SELF_SIGNAL_TIMEOUT;
        while !self.take(SIGTSTP) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Stop, as the signal's default action would have.
        _ = low_level::emulate_default_handler(SIGTSTP);
        self.take(SIGTSTP);
        self.take(SIGCONT);
    }

    /// Returns whether a shell controls this process and could continue it after a stop. Without one, `^Z` would
    /// freeze every stream for good. A parent that ignored SIGTSTP does not want its children to stop either.
    pub(crate) fn has_job_control(&self) -> bool {
        let is_handled = self.flags.iter().any(|(signal, _)| *signal == SIGTSTP);
        is_handled && getsid(None).is_ok_and(|session| session != getpgrp())
    }
}

impl AsFd for TerminalSignals {
    /// Returns the descriptor that becomes readable when a signal arrives, for `poll`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}

impl Drop for TerminalSignals {
    /// Removes the signal handlers.
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}
