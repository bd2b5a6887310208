//! Waits for terminal input, signals or a deadline, and parses the input into keys and mouse events.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{Key, MouseEvent, TerminalSignals, Tty, keys::InputParser};

/// How long the parser waits for the rest of an escape sequence before it takes a lone escape byte as the Escape key.
/// A network seldom splits a sequence across packets, and no person notices a delay this short.
const ESCAPE_TIMEOUT: Duration = Duration::from_millis(30);

/// Why [`TerminalInput::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    /// Input arrived, a signal was raised, or the deadline passed.
    Ready,
    /// The terminal disappeared (hang-up, error or end of file). It must not be polled again: `poll` would return
    /// immediately each time and spin.
    TerminalGone,
}

/// The input side of the terminal: keyboard and mouse.
#[derive(Debug, Default)]
pub(crate) struct TerminalInput {
    /// Assembles keys and mouse events from the bytes of the terminal.
    parser: InputParser,
}

impl TerminalInput {
    /// Returns the mouse events received since the last call, the oldest first.
    pub(crate) fn take_mouse_events(&mut self) -> Vec<MouseEvent> {
        self.parser.take_mouse_events()
    }

    /// Waits until input arrives, a signal is raised or `deadline` passes, and appends the parsed keys to `keys`. Without
    /// `with_keys` nothing is read, and only the end of the terminal is noticed.
    ///
    /// # Errors
    /// `poll` fails.
    pub(crate) fn wait(
        &mut self,
        tty: &Tty,
        with_keys: bool,
        signals: &mut TerminalSignals,
        deadline: Instant,
        keys: &mut Vec<Key>,
    ) -> io::Result<WaitOutcome> {
        let mut timeout = deadline.saturating_duration_since(Instant::now());
        if self.parser.has_partial_sequence() {
            timeout = timeout.min(ESCAPE_TIMEOUT);
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut fds = [
            PollFd::from_borrowed_fd(tty.as_fd(), if with_keys { PollFlags::IN } else { PollFlags::empty() }),
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
            return Ok(WaitOutcome::TerminalGone);
        }
        if terminal.contains(PollFlags::IN) {
            let mut buffer = [0; 1024];
            match rustix::io::read(tty, &mut buffer) {
                Ok(0) => return Ok(WaitOutcome::TerminalGone),
                Ok(read) => self.parser.feed(&buffer[..read], keys),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return Ok(WaitOutcome::TerminalGone),
            }
        } else if self.parser.has_partial_sequence() {
            self.parser.flush(keys);
        }
        Ok(WaitOutcome::Ready)
    }
}
