//! The file of named proxies with their tokens and rights, which is read again when it changes.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::sync::watch;

use super::{file_watch::FileWatch, state_dir::is_own, text_file};
use crate::{
    config::ProxyEntries,
    server::Credentials,
    telemetry::{EventKind, Telemetry},
    wire::handshake::{Token, TokenKey},
};

#[cfg(test)]
mod tests;

/// The largest file in bytes: 1,000 entries of a kilobyte.
const MAX_BYTES: usize = 1024 * 1024;

/// How often the file is checked for a change: a revocation is urgent. A change applies after the second look that
/// finds it, within a second.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The bits of a file's mode that let others than its owner read or write it.
const OPEN_TO_OTHERS: u32 = 0o077;

/// The file of entries.
#[derive(Debug)]
pub(super) struct TokensFile {
    /// Where it is, and what its entries must not contain.
    source: Source,
    /// Watches it since before it was read for the first time.
    watch: FileWatch,
}

/// A file of entries to read.
#[derive(Debug, Clone)]
struct Source {
    /// Its path.
    path: PathBuf,
    /// The key of the token that may do everything, if there is one.
    unlimited: Option<TokenKey>,
}

impl TokensFile {
    /// Reads the file at `path`. `unlimited` is the token that may do everything, if there is one.
    ///
    /// # Errors
    /// It cannot be read, others can read it, an entry is wrong, or one has the token `unlimited`. The message names
    /// the place.
    pub(super) fn open(path: &Path, unlimited: Option<&Token>) -> anyhow::Result<(Self, ProxyEntries)> {
        let source = Source { path: path.to_owned(), unlimited: unlimited.map(Token::key) };
        let watch = FileWatch::new(vec![source.path.clone()], CHECK_INTERVAL);
        let entries = source.read()?;
        Ok((Self { source, watch }, entries))
    }

    /// Reads the file again when it has changed and when `reload` changes, and gives the entries to `credentials`. If
    /// it is wrong, reports that and changes nothing. Never completes.
    pub(super) async fn follow(
        self,
        credentials: Credentials,
        telemetry: &Telemetry,
        mut reload: watch::Receiver<()>,
    ) {
        let Self { source, mut watch } = self;
        loop {
            watch.changed(&mut reload).await;
            let again = source.clone();
            // On another thread: a network file system may not answer for a while.
            let read = tokio::task::spawn_blocking(move || again.read_again()).await;
            if !watch.is_unchanged().await {
                // Perhaps half of a version. The whole one is read once it stays as it is.
                continue;
            }
            match read.unwrap_or_else(|error| Err(error.into())) {
                Ok(Some(entries)) => _ = credentials.replace_entries(entries),
                Ok(None) => {}
                Err(error) => _ = telemetry.emit(EventKind::TokensInvalid { reason: format!("{error:#}") }),
            }
        }
    }
}

/// Checks that no entry has the token that may do everything.
///
/// # Errors
/// The entry: nothing of what it says would apply.
pub(super) fn check_unlimited(entries: &ProxyEntries, unlimited: Option<&TokenKey>) -> anyhow::Result<()> {
    if let Some(entry) = unlimited.and_then(|key| entries.name_of(key)) {
        bail!(
            "«{entry}» has the token of --token, which may do everything: give it a token of its own (`underpass token`), or \
             start the server without --token"
        );
    }
    Ok(())
}

impl Source {
    /// Returns the name of the file for messages.
    fn name(&self) -> String {
        format!("{} (--tokens)", self.path.display())
    }

    /// Reads the file.
    fn read(&self) -> anyhow::Result<ProxyEntries> {
        let name = self.name();
        let cannot_read = || format!("cannot read the tokens from {name}");
        let file = File::open(&self.path).with_context(cannot_read)?;
        let metadata = file.metadata().with_context(cannot_read)?;
        // Who reads a token or its hash can connect as its proxy, and who writes one gives himself all rights.
        ensure!(
            !metadata.is_file() || is_own(&metadata) && metadata.mode() & OPEN_TO_OTHERS == 0,
            "{name}: other users can read or change it: make it yours alone (chown, chmod 600 {})",
            self.path.display()
        );
        let text = text_file::read(file, MAX_BYTES).with_context(cannot_read)?;
        let entries = ProxyEntries::parse(&text).with_context(|| name.clone())?;
        check_unlimited(&entries, self.unlimited.as_ref()).with_context(|| name.clone())?;
        Ok(entries)
    }

    /// Reads the file once more, while its entries apply. Returns `None` if it is none that can be read twice, such as
    /// the pipe of a shell.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), and a file without entries: rather one that was emptied to be written than the
    /// wish to disconnect all proxies.
    fn read_again(&self) -> anyhow::Result<Option<ProxyEntries>> {
        // Not opened: that would wait for a writer.
        if fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(None);
        }
        let entries = self.read()?;
        ensure!(
            !entries.is_empty(),
            "{}: it has no entries: to revoke all tokens, leave one entry whose token no proxy has, or stop the server",
            self.name()
        );
        Ok(Some(entries))
    }
}
