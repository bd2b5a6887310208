use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use ratatui::layout::Size;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Alternate screen, cursor hidden, lines not wrapped: a row that is one cell too wide must not shift the rest.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
/// The reverse, after closing a synchronised update that may have been cut short.
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?1006l\x1b[?1000l\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal, in raw mode and on the alternate screen while [entered](Self::enter). Dropping it gives it back.
///
/// All methods take `&self`, so that the panic hook can hold it too.
#[derive(Debug)]
pub(crate) struct Tty {
    input: File,
    output: File,
    saved: Termios,
    entered: AtomicBool,
}

impl Tty {
    /// Finds the terminal and takes it over.
    ///
    /// # Errors
    /// There is no terminal, or it cannot be set.
    pub(crate) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let input = if stdin.is_terminal() {
            File::from(stdin.as_fd().try_clone_to_owned()?)
        } else {
            // `generate | underpass …` still has a terminal to read keys from.
            File::open("/dev/tty")?
        };
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Err(io::Error::other("standard output is no terminal"));
        }
        // A file of our own: `Stdout` is line-buffered behind a lock, and would cut a frame into several writes.
        let output = File::from(stdout.as_fd().try_clone_to_owned()?);
        let saved = tcgetattr(&input)?;
        let tty = Self { input, output, saved, entered: AtomicBool::new(false) };
        tty.enter()?;
        Ok(tty)
    }

    /// Takes the terminal over (again). Also right when something else has reset it meanwhile, as a shell does
    /// with a job that comes back to the foreground.
    ///
    /// # Errors
    /// The terminal cannot be set.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.entered.store(true, SeqCst);
        let mut raw = self.saved.clone();
        raw.make_raw();
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        (&self.output).write_all(ENTER)
    }

    /// Gives the terminal back as it was found; does nothing the second time.
    pub(crate) fn leave(&self) {
        if self.entered.swap(false, SeqCst) {
            // Nothing can be done about a failure: it means that the terminal is gone.
            _ = (&self.output).write_all(LEAVE);
            _ = tcsetattr(&self.input, OptionalActions::Now, &self.saved);
        }
    }

    /// How large it is; nothing where it does not tell.
    pub(crate) fn size(&self) -> Size {
        tcgetwinsize(&self.output).map_or(Size::ZERO, |size| Size::new(size.ws_col, size.ws_row))
    }

    /// Writes a frame in one go.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn write_frame(&self, frame: &[u8]) -> io::Result<()> {
        (&self.output).write_all(frame)
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        self.leave();
    }
}
