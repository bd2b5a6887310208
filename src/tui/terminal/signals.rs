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

/// How long a signal to ourselves may take to be caught.
const CAUGHT: Duration = Duration::from_millis(200);

/// The signals that the cockpit looks at, each a flag, and a pipe that wakes whoever waits.
///
/// Other handlers (tokio's) may stand beside these: the registry calls all of them.
#[derive(Debug)]
pub(crate) struct Signals {
    flags: Vec<(i32, Arc<AtomicBool>)>,
    pipe: UnixStream,
    ids: Vec<SigId>,
}

impl Signals {
    /// Listens.
    ///
    /// # Errors
    /// The system is out of descriptors, or refuses a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let mut signals = Self { flags: Vec::new(), pipe, ids: Vec::new() };
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH] {
            let raised = Arc::new(AtomicBool::new(false));
            // The flag first: whoever is woken by the pipe must find it set.
            signals.ids.push(flag::register(signal, raised.clone())?);
            signals.ids.push(low_level::pipe::register(signal, write.try_clone()?)?);
            signals.flags.push((signal, raised));
        }
        Ok(signals)
    }

    /// Forgets what woke the waiter; the flags stay.
    pub(crate) fn drain(&mut self) {
        let mut buffer = [0; 64];
        while matches!(self.pipe.read(&mut buffer), Ok(read) if read > 0) {}
    }

    fn take(&self, signal: i32) -> bool {
        self.flags.iter().any(|(of, raised)| *of == signal && raised.swap(false, SeqCst))
    }

    /// Whether somebody outside asked us to end (`SIGINT`, `SIGTERM`).
    pub(crate) fn asked_to_end(&self) -> bool {
        // Both flags are to be cleared.
        self.take(SIGINT) | self.take(SIGTERM)
    }

    /// Whether the terminal hung up.
    pub(crate) fn hung_up(&self) -> bool {
        self.take(SIGHUP)
    }

    /// Whether somebody outside asked us to stop for a while.
    pub(crate) fn asked_to_stop(&self) -> bool {
        self.take(SIGTSTP)
    }

    /// Whether we came back from being stopped.
    pub(crate) fn continued(&self) -> bool {
        self.take(SIGCONT)
    }

    /// Whether the terminal has a new size.
    pub(crate) fn resized(&self) -> bool {
        self.take(SIGWINCH)
    }

    /// Stops this process as the terminal would, and returns when it goes on. The terminal must have been left.
    ///
    /// The whole group is signalled, as the terminal driver does for `^Z`: with `cargo run` the shell waits for
    /// cargo, and would never notice that only its child stopped.
    pub(crate) fn stop_here(&self) {
        _ = kill_current_process_group(Signal::TSTP);
        // Our own copy of that signal is caught, but perhaps on another thread and a little later. One that came after
        // we are back would stop us again.
        let deadline = Instant::now() + CAUGHT;
        while !self.take(SIGTSTP) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        // Do what it would have done.
        _ = low_level::emulate_default_handler(SIGTSTP);
        self.take(SIGTSTP);
        self.take(SIGCONT);
    }

    /// Whether there is a shell that could bring a stopped process back. Without one, `^Z` would freeze every
    /// stream for good.
    pub(crate) fn can_stop() -> bool {
        getsid(None).is_ok_and(|session| session != getpgrp())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            low_level::unregister(id);
        }
    }
}
