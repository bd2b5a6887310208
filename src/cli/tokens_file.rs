//! The file of named proxies with their tokens and rights, which is read again when it changes.

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use rustix::process::geteuid;
use tokio::sync::watch;

use super::{file_watch::FileWatch, text_file};
use crate::{
    config::ProxyEntries,
    server::Credentials,
    telemetry::{EventKind, Telemetry},
};

#[cfg(test)]
mod tests;

/// The largest file in bytes: 1,000 entries of a kilobyte.
const MAX_BYTES: usize = 1024 * 1024;

/// How often the file is checked for a change: a revocation is urgent, and one stat(2) a second costs nothing.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The bits of a file's mode that let others than its owner read or write it.
const OPEN_TO_OTHERS: u32 = 0o077;

/// The file of entries.
#[derive(Debug)]
pub(super) struct TokensFile {
    /// Its path.
    path: PathBuf,
}

impl TokensFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or an entry is wrong. The message names the place.
    pub(super) fn open(path: &Path) -> anyhow::Result<(Self, ProxyEntries)> {
        let file = Self { path: path.to_owned() };
        let entries = file.read()?;
        Ok((file, entries))
    }

    /// Reads the file.
    fn read(&self) -> anyhow::Result<ProxyEntries> {
        let name = format!("{} (--tokens)", self.path.display());
        let cannot_read = || format!("cannot read the tokens from {name}");
        let file = File::open(&self.path).with_context(cannot_read)?;
        let metadata = file.metadata().with_context(cannot_read)?;
        let is_own = metadata.uid() == geteuid().as_raw() || metadata.uid() == 0;
        // Who reads a token or its hash can connect as its proxy, and who writes one gives himself all rights.
        ensure!(
            !metadata.is_file() || is_own && metadata.mode() & OPEN_TO_OTHERS == 0,
            "{name}: other users can read or change it: make it yours alone (chown, chmod 600 {})",
            self.path.display()
        );
        let text = text_file::read(file, MAX_BYTES).with_context(cannot_read)?;
        ProxyEntries::parse(&text).with_context(|| name.clone())
    }

    /// Reads the file again when it has changed and when `reload` changes, and gives the entries to `credentials`. If it is
    /// wrong, reports that and changes nothing. Never completes.
    pub(super) async fn follow(
        self,
        credentials: Credentials,
        telemetry: &Telemetry,
        reload: watch::Receiver<()>,
    ) {
        let mut watch = FileWatch::new(vec![self.path.clone()], reload, CHECK_INTERVAL);
        loop {
            watch.changed().await;
            match self.read() {
                Ok(entries) => credentials.replace_entries(entries),
                Err(error) => _ = telemetry.emit(EventKind::TokensInvalid { reason: format!("{error:#}") }),
            }
        }
    }
}
