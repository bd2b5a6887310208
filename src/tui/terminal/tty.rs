//! The terminal device: raw mode, the alternate screen, and their restoration.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;
use ratatui::layout::Size;
use rustix::{
    process::getpgrp,
    termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr},
};

/// The terminal that the cockpit has taken over, for [`restore`]: a process has only one.
static OPEN: Mutex<Weak<Tty>> = Mutex::new(Weak::new());

/// Selects the alternate screen, hides the cursor and turns line wrap off: a row that is one cell too wide must not
/// shift the rows below it. Enables bracketed paste (mode 2004): pasted text is not keys.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h";
/// Reverts [`ENTER`] and the mouse modes, after ending a synchronised update that may have been cut short.
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?2004l\x1b[?1006l\x1b[?1000l\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal, in raw mode and on the alternate screen after [`enter`](Self::enter). Dropping it restores it.
///
/// All methods take `&self`, so that the panic hook and [`restore`] can share it.
#[derive(Debug)]
pub(crate) struct Tty {
    /// The descriptor from which keys are read: standard input, or `/dev/tty` if that is not a terminal.
    input: File,
    /// The descriptor to which frames are written: standard output, unbuffered.
    output: File,
    /// The terminal's attributes before the cockpit changed them.
    original_attributes: Termios,
    /// Whether raw mode and the alternate screen are in effect.
    is_entered: AtomicBool,
}

impl Tty {
    /// Opens the terminal and enters raw mode and the alternate screen.
    ///
    /// # Errors
    /// Standard output is not a terminal, no controlling terminal exists, or its attributes cannot be set.
    pub(crate) fn open() -> io::Result<Arc<Self>> {
        let stdin = io::stdin();
        let input = if stdin.is_terminal() {
            File::from(stdin.as_fd().try_clone_to_owned()?)
        } else {
            // In `generate | underpass …` standard input is a pipe; keys come from the controlling terminal.
            File::open("/dev/tty")?
        };
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Err(io::Error::other("standard output is not a terminal"));
        }
        // An unbuffered file: `Stdout` is line-buffered behind a lock and would split a frame into several writes.
        let output = File::from(stdout.as_fd().try_clone_to_owned()?);
        let original_attributes = tcgetattr(&input)?;
        let is_entered = AtomicBool::new(false);
        let tty = Arc::new(Self { input, output, original_attributes, is_entered });
        *OPEN.lock() = Arc::downgrade(&tty);
        tty.enter()?;
        Ok(tty)
    }

    /// Enters raw mode and the alternate screen. May be called again after another program has reset the terminal,
    /// as a shell does with a job that returns to the foreground.
    ///
    /// # Errors
    /// The attributes cannot be set, or the terminal has disappeared.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.is_entered.store(true, SeqCst);
        let mut raw = self.original_attributes.clone();
        raw.make_raw();
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        (&self.output).write_all(ENTER)
    }

    /// Restores the terminal to its state before [`open`](Self::open). Does nothing if it is restored already, nor in
    /// the background: there the kernel would stop this process (SIGTTOU) where it is about to end, with its ports
    /// open, and the terminal belongs to another program, which has set it up for itself.
    pub(crate) fn leave(&self) {
        if self.is_entered.swap(false, SeqCst) && self.is_in_foreground() {
            // An error means that the terminal has disappeared; there is nothing left to restore. The attributes first:
            // writing to a terminal that takes no output blocks.
            _ = tcsetattr(&self.input, OptionalActions::Now, &self.original_attributes);
            _ = (&self.output).write_all(LEAVE);
        }
    }

    /// Returns whether this process is in the terminal's foreground process group. In the background, reading from the
    /// terminal and changing its attributes would stop the whole process (SIGTTIN, SIGTTOU), with all of its streams.
    pub(crate) fn is_in_foreground(&self) -> bool {
        is_in_foreground(&self.input)
    }

    /// Returns the terminal's size in cells; 0×0 where the terminal does not report one.
    pub(crate) fn size(&self) -> Size {
        tcgetwinsize(&self.output).map_or(Size::ZERO, |size| Size::new(size.ws_col, size.ws_row))
    }

    /// Writes an encoded frame without buffering, normally in one system call.
    ///
    /// # Errors
    /// The terminal has disappeared.
    pub(crate) fn write_frame(&self, frame: &[u8]) -> io::Result<()> {
        (&self.output).write_all(frame)
    }
}

impl AsFd for Tty {
    /// Returns the descriptor from which keys are read, for `poll`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}

impl Drop for Tty {
    /// Restores the terminal, if it has not been restored already.
    fn drop(&mut self) {
        self.leave();
    }
}

/// Restores the terminal that the cockpit has taken over, if it has. For a process that ends without waiting for the
/// cockpit. Blocks while the terminal takes no output.
pub fn restore() {
    let open = OPEN.lock().upgrade();
    if let Some(tty) = open {
        tty.leave();
    }
}

/// Returns whether this process is in the foreground process group of `terminal`. A terminal that is not the
/// controlling one of this process, or that has disappeared, has none of its process groups in the background.
pub fn is_in_foreground(terminal: impl AsFd) -> bool {
    tcgetpgrp(terminal).map_or(true, |foreground| foreground == getpgrp())
}
