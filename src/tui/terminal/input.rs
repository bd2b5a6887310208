//! Waits for terminal input, signals or a deadline, and parses the input into keys, mouse events and pasted text.

use std::{io, os::fd::AsFd, time::Instant};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{InputEvent, TerminalSignals, Tty, keys::InputParser};

/// Why [`TerminalInput::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    /// Input arrived, a signal was raised, or the deadline passed.
    Ready,
    /// The terminal disappeared (hang-up, error or end of file). It must not be polled again: `poll` would return
    /// immediately each time and spin.
    TerminalGone,
}

/// The input side of the terminal: keyboard, mouse and paste.
#[derive(Debug)]
pub(crate) struct TerminalInput {
    /// Assembles events from the bytes of the terminal.
    parser: InputParser,
    /// When bytes were read last: an incomplete sequence is given up some time after it.
    last_read: Instant,
}

impl TerminalInput {
    /// Creates the input side of a terminal from which nothing has been read yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { parser: InputParser::default(), last_read: now }
    }

    /// Waits until input arrives, a signal is raised or `deadline` passes, and appends what the operator did to
    /// `events`. Keys of one call arrived together. Without `with_keys` nothing is read, and only the end of the
    /// terminal is noticed.
    ///
    /// # Errors
    /// `poll` fails.
    pub(crate) fn wait(
        &mut self,
        tty: &Tty,
        with_keys: bool,
        signals: &mut TerminalSignals,
        deadline: Instant,
        events: &mut Vec<InputEvent>,
    ) -> io::Result<WaitOutcome> {
        let give_up_at = self.parser.timeout().map(|timeout| self.last_read + timeout);
        let deadline = give_up_at.map_or(deadline, |at| at.min(deadline));
        let timeout = deadline.saturating_duration_since(Instant::now());
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
            // As much as the kernel's terminal buffer holds, so that keys that arrived together are read together.
            let mut buffer = [0; 4096];
            self.last_read = Instant::now();
            match rustix::io::read(tty, &mut buffer) {
                Ok(0) => return Ok(WaitOutcome::TerminalGone),
                Ok(read) => self.parser.feed(&buffer[..read], events),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => return Ok(WaitOutcome::TerminalGone),
            }
        } else if give_up_at.is_some_and(|at| Instant::now() >= at) {
            self.parser.flush(events);
        }
        Ok(WaitOutcome::Ready)
    }
}
