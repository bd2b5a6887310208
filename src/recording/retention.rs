//! Names of files, and which of them are deleted.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{EXTENSION, reader::files_in};
use crate::telemetry::civil_date;

/// What the names of our files begin with; others in the directory are left alone.
const PREFIX: &str = "underpass-";

/// Returns the path of a file that begins at `at`, in milliseconds since the Unix epoch. Names sort by time.
pub(super) fn path_of(dir: &Path, at: u64, attempt: u32) -> PathBuf {
    let (days, second) = (at / 86_400_000, at / 1000 % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let suffix = if attempt == 0 { String::new() } else { format!("-{attempt}") };
    dir.join(format!(
        "{PREFIX}{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}{second:02}Z{suffix}.{EXTENSION}"
    ))
}

/// Deletes the oldest recordings until the rest takes at most `max_bytes`, and those that were last written more than
/// `max_age` before `now`, in milliseconds since the Unix epoch.
pub(super) fn prune(dir: &Path, max_bytes: u64, max_age: Duration, now: u64) -> io::Result<()> {
    let mut kept = 0u64;
    for path in files_in(dir)?.into_iter().rev() {
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            continue;
        }
        let Ok(metadata) = path.metadata() else { continue };
        let written = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let is_old = Duration::from_millis(now).saturating_sub(written) > max_age;
        kept = kept.saturating_add(metadata.len());
        if kept > max_bytes || is_old {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
