//! Waiting until files of the operator change.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::watch;

/// How often the files are looked at. A certificate is renewed days before it expires; who cannot wait sends SIGHUP.
/// Notifications of the kernel (inotify) would not tell of changes on network file systems, and of a switched symbolic
/// link only those who watch each directory on its way.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// How long files have to stay as they are before they are read: a program that does not replace a file as a whole
/// writes it in parts.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// Watches files for changes.
#[derive(Debug)]
pub(super) struct FileWatch {
    /// The files. Symbolic links are followed.
    paths: Vec<PathBuf>,
    /// The versions of the files that were seen last; `None` for a file that cannot be looked at.
    versions: Vec<Option<Version>>,
    /// The versions that were reported last.
    reported: Vec<Option<Version>>,
    /// How often the files are looked at.
    interval: Duration,
}

/// What tells two versions of a file apart: device and inode, size, and when content and inode were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    /// Device and inode: another file behind the same name, as a rename and a switched symbolic link make it.
    file: (u64, u64),
    /// The size in bytes.
    bytes: u64,
    /// When the content was changed, in seconds and nanoseconds.
    modified: (i64, i64),
    /// When the inode was changed: also by programs that set the time of the content.
    changed: (i64, i64),
}

impl FileWatch {
    /// Watches `paths` from now on: created before they are read for the first time. They are looked at every
    /// `interval`.
    pub(super) fn new(paths: Vec<PathBuf>, interval: Duration) -> Self {
        let versions = versions(&paths);
        Self { paths, reported: versions.clone(), versions, interval }
    }

    /// Waits until a file has changed, or `reload` changes, with which the operator wants the files to be read again;
    /// then until two looks in succession find the same versions. Read the files after that: a change meanwhile is
    /// reported by the next call.
    pub(super) async fn changed(&mut self, reload: &mut watch::Receiver<()>) {
        let mut is_requested = false;
        loop {
            let is_settling = is_requested || self.versions != self.reported;
            let pause = if is_settling { self.interval.min(SETTLE_TIME) } else { self.interval };
            tokio::select! {
                // The sender is dropped where SIGHUP has another meaning.
                Ok(()) = reload.changed() => is_requested = true,
                () = tokio::time::sleep(pause) => {}
            }
            let has_settled = self.is_unchanged().await;
            if has_settled && (is_requested || self.versions != self.reported) {
                self.reported.clone_from(&self.versions);
                return;
            }
        }
    }

    /// Looks at the files, and returns whether they are those that were seen last.
    pub(super) async fn is_unchanged(&mut self) -> bool {
        let paths = self.paths.clone();
        // On another thread: a network file system may not answer for a while.
        let Ok(versions) = tokio::task::spawn_blocking(move || versions(&paths)).await else { return false };
        versions == std::mem::replace(&mut self.versions, versions.clone())
    }
}

/// Returns the versions of all files.
fn versions(paths: &[PathBuf]) -> Vec<Option<Version>> {
    paths.iter().map(|path| version(path)).collect()
}

/// Returns the version of a file; `None` if it cannot be looked at.
fn version(path: &Path) -> Option<Version> {
    let metadata = fs::metadata(path).ok()?;
    Some(Version {
        file: (metadata.dev(), metadata.ino()),
        bytes: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests;
