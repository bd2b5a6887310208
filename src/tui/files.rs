//! Files that the operator exports, and the escape sequence that copies text to the clipboard.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::msg::ExportFile;
use crate::telemetry::civil_date;

/// Returns the escape sequence that puts `text` into the terminal's clipboard (OSC 52). Terminals without it ignore
/// it.
pub(crate) fn clipboard(text: &str) -> Vec<u8> {
    format!("\x1b]52;c;{}\x07", STANDARD.encode(text)).into_bytes()
}

/// Writes a file to the working directory, or to the directory for temporary files where that fails. Never overwrites
/// a file. Returns its path, or a message for the operator.
pub(crate) fn save(saved: &ExportFile) -> Result<String, String> {
    let name = format!("underpass-{}-{}.{}", saved.name, stamp(SystemTime::now()), saved.extension);
    let here = std::env::current_dir().unwrap_or_default();
    let path = match write(&here, &name, &saved.text) {
        Err(_) => write(&std::env::temp_dir(), &name, &saved.text),
        written => written,
    };
    path.map(|path| path.display().to_string()).map_err(|error| format!("{name} was not written: {error}"))
}

/// Creates a new file in the directory that only its owner can read, and writes the text to it. Fails if the file
/// exists.
fn write(directory: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = directory.join(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // The file contains addresses of users and what they request.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}

/// Formats a time in UTC, with milliseconds, for a file name: `20261122-214205-123`.
fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let (second, millis) = (second % 60, since.subsec_millis());
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{millis:03}")
}

#[cfg(test)]
mod tests;
