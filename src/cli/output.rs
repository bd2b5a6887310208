//! What the program writes to stdout and stderr itself, besides the log.
//!
//! `println!` and `eprintln!` panic where the output is a closed pipe or a full device. Here such a failure is
//! ignored: the text has no reader any more, and the program continues.

use std::{
    fmt,
    io::{self, Write},
};

/// Writes `underpass: ` and the message to stderr, as one line.
pub(super) fn complain(message: impl fmt::Display) {
    // In one write: a line must not be mixed with those of another thread.
    _ = io::stderr().write_all(format!("underpass: {message}\n").as_bytes());
}

/// Writes the text to stdout.
pub(super) fn print(text: impl fmt::Display) {
    _ = try_print(text);
}

/// Writes the text to stdout, for a command that is of no use without a reader.
///
/// # Errors
/// The I/O error, such as a closed pipe.
pub(super) fn try_print(text: impl fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.to_string().as_bytes()).and_then(|()| stdout.flush())
}
