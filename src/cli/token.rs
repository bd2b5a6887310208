//! The token: what its text may be, and the token that the server generates and keeps.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use rustix::process::geteuid;

use super::text_file;
use crate::wire::handshake::Token;

/// The longest token in bytes. Longer ones are probably another file.
pub(super) const MAX_BYTES: usize = 1024;

/// The name of the file in the state directory.
const FILE_NAME: &str = "token";

/// The bits of a file's mode that let other users write to it.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The bits of a file's mode that let all users read or write it. A group is taken for intended.
const OPEN_TO_ALL: u32 = 0o006;

/// Parses the text of a token: everything but white space around it.
///
/// # Errors
/// What is wrong with the text; the message does not contain it.
pub(super) fn parse(text: &str) -> Result<Token, String> {
    // Editors of some systems begin a file with a byte order mark.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err("the token is blank: write at least one character, or leave the token out".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err(
            "the token contains line breaks or other control characters: it is one line of text".to_owned()
        );
    }
    if text.len() > MAX_BYTES {
        return Err(format!("the token is longer than {MAX_BYTES} bytes"));
    }
    Ok(Token::new(text))
}

/// Reads the token from a file of the operator's.
///
/// # Errors
/// The file cannot be read, or contains no token.
pub(super) fn read_file(path: &Path) -> anyhow::Result<Token> {
    let read = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        // A pipe, as from `--token-file <(pass underpass)`, has a mode too.
        if metadata.is_file() && metadata.mode() & OPEN_TO_ALL != 0 {
            tracing::warn!("all users of this machine can read the token: chmod o= {}", path.display());
        }
        text_file::read(file, MAX_BYTES + 2)
    };
    let text =
        read().with_context(|| format!("cannot read the token from {} (--token-file)", path.display()))?;
    parse(&text).map_err(|why| anyhow::anyhow!("{} (--token-file): {why}", path.display()))
}

/// Where the server's token is from.
#[derive(Debug)]
pub(super) enum TokenOrigin {
    /// The operator gave it.
    Given,
    /// The server generated it, now or at an earlier start, and keeps it in this file.
    Kept(PathBuf),
    /// The server generated it, and cannot keep it for the reason in the text: it changes with the next start.
    Volatile(String),
}

/// Returns the token that the server generated at an earlier start and kept in a state directory, or generates one and
/// keeps it. Without that, all proxies would have to get another token after each restart.
///
/// `requested` is the directory that the operator chose. `is_shown` says whether the operator sees the token on a
/// terminal: then one that cannot be kept is better than none.
///
/// # Errors
/// There is no directory to keep it in, and the operator chose one or would not see the token; or the file is there and
/// cannot be used.
pub(super) fn generate(requested: Option<&Path>, is_shown: bool) -> anyhow::Result<(Token, TokenOrigin)> {
    let directory = requested
        .map(Path::to_owned)
        .or_else(|| state_directory(|name| std::env::var_os(name).map(PathBuf::from)));
    let kept = match &directory {
        Some(directory) => keep(directory),
        None => Err(anyhow::anyhow!("no directory for it: neither HOME nor STATE_DIRECTORY is set")),
    };
    let is_unusable = directory.as_ref().is_some_and(|directory| directory.join(FILE_NAME).exists());
    match kept {
        Ok((token, path)) => Ok((token, TokenOrigin::Kept(path))),
        Err(error) if is_shown && requested.is_none() && !is_unusable => {
            Ok((Token::random(), TokenOrigin::Volatile(format!("{error:#}"))))
        }
        Err(error) => Err(error.context(
            "no token was given, and a generated one cannot be kept; set --token-file or --state-dir",
        )),
    }
}

/// Returns the directory of files that outlast the process: that which systemd has created for the service, the usual one
/// of root, or that of the XDG specification. `None` if no variable names one.
fn state_directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
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

/// Reads the token that is kept in `directory`, or generates one and keeps it there. Returns the path of its file, too.
fn keep(directory: &Path) -> anyhow::Result<(Token, PathBuf)> {
    let path = directory.join(FILE_NAME);
    if let Some(token) = read_kept(&path)? {
        return Ok((token, path));
    }
    let created = create(directory, &path);
    created.with_context(|| format!("cannot keep a token in {}", directory.display()))?;
    // Read again: another server may have been faster.
    let token = read_kept(&path)?.with_context(|| format!("{} has disappeared", path.display()))?;
    Ok((token, path))
}

/// Generates a token and writes it to a new file that only its owner can read. Without effect if the file exists.
fn create(directory: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Complete before it has its name, so that no crash and no other server meets half of it.
    let temporary = directory.join(format!(".{FILE_NAME}-{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file
        .write_all(format!("{}\n", Token::random().reveal()).as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Not every file system has links; renaming may replace the token of a server that starts at the same time.
            Err(_) => fs::rename(&temporary, path),
            Ok(()) => Ok(()),
        });
    _ = fs::remove_file(&temporary);
    written
}

/// Reads a token that a server has kept; `None` if there is no such file.
///
/// # Errors
/// It cannot be read, contains no token, or another user may have written it.
fn read_kept(path: &Path) -> anyhow::Result<Option<Token>> {
    let name = path.display();
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(|| format!("cannot read the kept token from {name}"))?,
    };
    let metadata = file.metadata().with_context(|| format!("cannot read the kept token from {name}"))?;
    ensure!(metadata.is_file(), "{name} is not a file");
    let is_own = metadata.uid() == geteuid().as_raw() || metadata.uid() == 0;
    // A user who chooses the token can register proxies.
    ensure!(
        is_own && metadata.mode() & WRITABLE_BY_OTHERS == 0,
        "another user may have written {name}: remove it, or make it yours alone (chown, chmod 600)"
    );
    if metadata.mode() & OPEN_TO_ALL != 0 {
        tracing::warn!("all users of this machine can read the token: chmod 600 {name}");
    }
    let text = text_file::read(file, MAX_BYTES + 2)
        .with_context(|| format!("cannot read the kept token from {name}"))?;
    match parse(&text) {
        Ok(token) => Ok(Some(token)),
        Err(why) => bail!("{name}: {why}; remove the file for a new token"),
    }
}

#[cfg(test)]
mod tests;
