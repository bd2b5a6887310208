//! Whether there is a terminal that can show the cockpit.

use std::{
    ffi::OsStr,
    io::{IsTerminal, stdin, stdout},
    thread,
    time::{Duration, Instant},
};

use rustix::termios::tcgetwinsize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGTTOU};

use super::{log::LogDestination, output};
use crate::{
    runtime::{ignore_signal, is_signal_ignored},
    tui,
};

/// How long to wait for a terminal to report its size. `docker run -t` starts the program first and sets the size of
/// its terminal some milliseconds later.
const SIZE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a terminal cannot show the cockpit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Obstacle {
    /// Stdin or stdout is a file, a pipe or another device.
    #[error("stdin or stdout is no terminal")]
    NoTerminal,
    /// The shell started the program with `&`. Using the terminal would stop it (SIGTTOU), with its tunnel port open.
    #[error("started in the background of the terminal")]
    Background,
    /// `TERM` is not set, or says that the terminal cannot move its cursor.
    #[error("the terminal cannot position its cursor (environment variable TERM is {})", if *.is_set { "dumb" } else { "not set" })]
    Dumb {
        /// Whether `TERM` is set.
        is_set: bool,
    },
    /// The terminal reports no rows or no columns, as a serial line does.
    #[error("the terminal does not report its size (`stty rows 24 cols 80` sets it)")]
    UnknownSize,
}

/// Returns where the log goes, which also decides whether the cockpit is opened: it needs stdin and stdout to be a
/// terminal that can show it. If that is all that is missing, one line on stderr says what.
pub(super) fn log_destination(no_tui: bool) -> LogDestination {
    if no_tui {
        return LogDestination::Stderr;
    }
    match obstacle() {
        None => LogDestination::Cockpit,
        Some(Obstacle::NoTerminal) => LogDestination::Stderr,
        Some(obstacle) => {
            output::complain(format_args!("{obstacle}: the log follows here instead of the cockpit"));
            LogDestination::Stderr
        }
    }
}

/// Returns what keeps this process from showing the cockpit; `None` if nothing does.
pub(super) fn obstacle() -> Option<Obstacle> {
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Some(Obstacle::NoTerminal);
    }
    let has_size = || tcgetwinsize(stdout()).is_ok_and(|size| size.ws_row > 0 && size.ws_col > 0);
    let term = std::env::var_os("TERM");
    let found = find_obstacle(tui::is_in_foreground(stdin()), term.as_deref(), || has_size_soon(has_size));
    if found.is_some() {
        // A process in the background of a terminal with `stty tostop` would be stopped by its first line.
        ignore_signal(SIGTTOU);
    }
    found
}

/// Returns what keeps a terminal from showing the cockpit; `None` if nothing does.
fn find_obstacle(
    is_in_foreground: bool,
    term: Option<&OsStr>,
    has_size: impl FnOnce() -> bool,
) -> Option<Obstacle> {
    let term = term.filter(|term| !term.is_empty());
    if !is_in_foreground {
        Some(Obstacle::Background)
    } else if term.is_none_or(|term| term == "dumb") {
        Some(Obstacle::Dumb { is_set: term.is_some() })
    } else {
        (!has_size()).then_some(Obstacle::UnknownSize)
    }
}

/// Waits until the terminal has a size, for at most [`SIZE_TIMEOUT`].
fn has_size_soon(has_size: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + SIZE_TIMEOUT;
    while !has_size() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Returns those signals of the cockpit that this process was started to ignore.
pub(super) fn ignored_signals() -> Vec<i32> {
    [SIGINT, SIGTERM, SIGHUP, SIGTSTP].into_iter().filter(|&signal| is_signal_ignored(signal)).collect()
}

#[cfg(test)]
mod tests;
