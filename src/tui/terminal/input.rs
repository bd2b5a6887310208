use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{Key, Mouse, Signals, Tty, keys::Parser};

/// How long the rest of a sequence may take before an escape alone is the Escape key. A network hop seldom cuts a
/// sequence in two; a person waits for nothing shorter than this.
const ESCAPE_WAIT: Duration = Duration::from_millis(30);

/// Why the wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Keys, a signal, or the time is up.
    Normally,
    /// The terminal vanished. Nothing may be read from it any more: it would answer at once, for ever.
    TerminalGone,
}

/// The keyboard.
#[derive(Debug, Default)]
pub(crate) struct Input {
    parser: Parser,
}

impl Input {
    /// What the mouse did since this was asked last.
    pub(crate) fn take_mice(&mut self) -> Vec<Mouse> {
        self.parser.take_mice()
    }

    /// Waits for keys, a signal, or `deadline`, whichever comes first.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub(crate) fn wait(
        &mut self,
        tty: &Tty,
        signals: &mut Signals,
        deadline: Instant,
        keys: &mut Vec<Key>,
    ) -> io::Result<Woken> {
        let mut timeout = deadline.saturating_duration_since(Instant::now());
        if self.parser.is_waiting() {
            timeout = timeout.min(ESCAPE_WAIT);
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut fds = [
            PollFd::from_borrowed_fd(tty.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (terminal, signal) = (fds[0].revents(), fds[1].revents());
        if signal.contains(PollFlags::IN) {
            signals.drain();
        }
        if terminal.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Ok(Woken::TerminalGone);
        }
        if terminal.contains(PollFlags::IN) {
            let mut buffer = [0; 1024];
            match rustix::io::read(tty, &mut buffer) {
                Ok(0) => return Ok(Woken::TerminalGone),
                Ok(read) => self.parser.feed(&buffer[..read], keys),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return Ok(Woken::TerminalGone),
            }
        } else if self.parser.is_waiting() {
            self.parser.flush(keys);
        }
        Ok(Woken::Normally)
    }
}
