//! The state directory: where the program keeps what it generates once, such as a token, for its owner alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use rustix::process::geteuid;

use super::text_file;
use crate::operator::environment;

/// The bits of a file's mode that let other users write to it.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The bits of a file's mode that let all users read or write it. A group is taken for intended.
const OPEN_TO_ALL: u32 = 0o006;

/// A secret text that the program generates once and keeps in a file of the state directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptFile {
    /// The name of the file in the directory.
    pub(super) name: &'static str,
    /// What the file contains, for messages: `token`.
    pub(super) content: &'static str,
    /// The longest text in bytes. A longer one is probably another file.
    pub(super) max_bytes: usize,
}

/// Where a generated text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeptIn {
    /// In this file, since this start or an earlier one.
    File(PathBuf),
    /// In memory only, for the reason in the text: another one is generated at the next start.
    Memory(String),
}

impl KeptFile {
    /// Returns the text that was generated at an earlier start and kept in the state directory, or generates one and
    /// keeps it there.
    ///
    /// `requested` is the directory that the operator chose; `None` is the [default](default_directory).
    /// `may_be_volatile` says whether a text that cannot be kept is better than none.
    ///
    /// # Errors
    /// The text cannot be kept, and the operator chose the directory or it must not be volatile; or the file is there
    /// and cannot be used; or no text can be generated.
    pub(super) fn load_or_generate(
        self,
        requested: Option<&Path>,
        may_be_volatile: bool,
        generate: impl Fn() -> anyhow::Result<String>,
    ) -> anyhow::Result<(String, KeptIn)> {
        let directory = requested.map(Path::to_owned).or_else(|| default_directory(environment));
        let kept = match &directory {
            Some(directory) => self.keep(directory, &generate),
            None => Err(anyhow::anyhow!(
                "no directory for the {}: neither HOME nor STATE_DIRECTORY is set; give --state-dir DIR",
                self.content
            )),
        };
        let is_unusable = directory.is_some_and(|directory| directory.join(self.name).exists());
        match kept {
            Ok((text, path)) => Ok((text, KeptIn::File(path))),
            Err(error) if may_be_volatile && requested.is_none() && !is_unusable => {
                Ok((generate()?, KeptIn::Memory(format!("{error:#}"))))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the text that is kept in `directory`, or generates one and keeps it there. Returns the path of its file,
    /// too.
    fn keep(
        self,
        directory: &Path,
        generate: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<(String, PathBuf)> {
        let path = directory.join(self.name);
        if let Some(text) = self.read(&path)? {
            return Ok((text, path));
        }
        let text = generate()?;
        if let Err(error) = self.create(directory, &path, &text) {
            let advice = advice(&error, directory);
            let failure = format!("cannot keep a {} in {}", self.content, directory.display());
            return Err(anyhow::anyhow!("{failure}: {error}{advice}"));
        }
        // Read again: another server may have been faster.
        let text = self.read(&path)?.with_context(|| format!("{} has disappeared", path.display()))?;
        Ok((text, path))
    }

    /// Writes `text` to a new file that only its owner can read. Without effect if the file exists.
    fn create(self, directory: &Path, path: &Path, text: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Complete before it has its name, so that no crash and no other server meets half of it.
        let temporary = directory.join(format!(".{}-{:016x}", self.name, rand::random::<u64>()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
            match fs::hard_link(&temporary, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                // Not every file system has links; renaming may replace the file of a server that starts at the same
                // time.
                Err(_) => fs::rename(&temporary, path),
                Ok(()) => Ok(()),
            }
        });
        _ = fs::remove_file(&temporary);
        written
    }

    /// Reads a text that a server has kept; `None` if there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or another user may have written it.
    fn read(self, path: &Path) -> anyhow::Result<Option<String>> {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        let (name, content) = (path.display(), self.content);
        let failed = || format!("cannot read the kept {content} from {name}");
        let file = match File::open(path) {
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(error) if error.kind() == PermissionDenied => {
                let user = geteuid().as_raw();
                bail!(
                    "{}: {error}; give it to this user (sudo chown {user} {name}), or choose --state-dir",
                    failed()
                )
            }
            opened => opened.with_context(failed)?,
        };
        let metadata = file.metadata().with_context(failed)?;
        ensure!(metadata.is_file(), "{name} is not a file");
        // A user who chooses the token can register proxies, and one who knows the key can pose as the server.
        ensure!(
            !is_writable_by_others(&metadata),
            "another user may have written {name}: remove it, or make it yours alone (chown, chmod 600)"
        );
        warn_if_open_to_all(&metadata, content, path);
        text_file::read(file, self.max_bytes).with_context(failed).map(Some)
    }
}

/// Returns whether a file belongs to the user of this process or to root.
pub(super) fn is_own(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw() || metadata.uid() == 0
}

/// Returns whether a user other than that of this process and root may have written a file.
pub(super) fn is_writable_by_others(metadata: &fs::Metadata) -> bool {
    !is_own(metadata) || metadata.mode() & WRITABLE_BY_OTHERS != 0
}

/// Logs a warning if all users of the machine can read or write the file with the secret `content`.
pub(super) fn warn_if_open_to_all(metadata: &fs::Metadata, content: &str, path: &Path) {
    // A pipe, as from `--token-file <(pass underpass)`, has a mode too.
    if metadata.is_file() && metadata.mode() & OPEN_TO_ALL != 0 {
        tracing::warn!("all users of this machine can read the {content}: chmod o= {}", path.display());
    }
}

/// Returns what to do about an error of creating a file in `directory`; empty if the error says enough.
fn advice(error: &io::Error, directory: &Path) -> String {
    directory_advice(error, directory, "--state-dir")
}

/// Returns what to do about an error of creating a file in `directory`, which `option` names; empty if the error says
/// enough.
pub(super) fn directory_advice(error: &io::Error, path: &Path, option: &str) -> String {
    let directory = path.display();
    match error.kind() {
        // mkdir(2) says that the file exists, and not that it is in the way.
        io::ErrorKind::AlreadyExists if !path.is_dir() => {
            format!("; {directory} is no directory: choose another one with {option}")
        }
        io::ErrorKind::PermissionDenied => {
            let user = geteuid().as_raw();
            format!(
                "; give it to this user (sudo install -d -m 700 -o {user} {directory}), or choose another one with {option}"
            )
        }
        io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::StorageFull
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::NotFound => format!("; choose another one with {option}"),
        _ => String::new(),
    }
}

/// Returns the directory of files that outlast the process: that which systemd has created for the service, the usual
/// one of root, or that of the XDG specification. `None` if no variable names one.
fn default_directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let variable = |name| variable(name).filter(|path| path.is_absolute());
    // systemd separates several directories by colons.
    let of_service = variable("STATE_DIRECTORY")
        .and_then(|paths| paths.to_str().and_then(|paths| paths.split(':').next()).map(PathBuf::from));
    if of_service.is_some() {
        return of_service;
    }
    if geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/underpass"));
    }
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    Some(state.join("underpass"))
}

#[cfg(test)]
mod tests;
