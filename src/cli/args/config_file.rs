//! The configuration file of a server or a proxy: where it is, who may write it, and what it contains.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::services;
use crate::{
    cli::{state_dir::is_writable_by_others, text_file},
    config::{Mistake, Mistakes, ProxyEntries, RawKey, RawTable, user_directory},
    operator::Role,
};

/// The largest file in bytes: a thousand entries of a kilobyte.
const MAX_BYTES: usize = 1024 * 1024;

/// The bit of a file's mode that lets all users read it.
const READABLE_BY_ALL: u32 = 0o004;

/// Where a file is looked for that no argument names, beside the directory of the user.
const SYSTEM_DIRECTORY: &str = "/etc/underpass";

/// The file that the arguments are completed from.
#[derive(Debug, Args)]
pub(in crate::cli) struct ConfigFileArgs {
    /// Configuration file (TOML): each option is a key of the same name. Options of the command line win over
    /// environment variables, and those over the file; --OPTION=false turns off what the file turns on [default:
    /// server.toml or proxy.toml in $XDG_CONFIG_HOME/underpass (~/.config/underpass), else in /etc/underpass]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Role {
    /// All roles.
    pub(in crate::cli) const ALL: [Self; 2] = [Self::Server, Self::Proxy];

    /// Returns the role of a subcommand, if it has a configuration file.
    pub(super) fn of(subcommand: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == subcommand)
    }

    /// Returns what a file is for, by its keys: only one of a proxy names servers and services.
    ///
    /// # Errors
    /// It can be read only once, as a pipe can.
    pub(in crate::cli) fn guess(path: &Path) -> Result<Self, &'static str> {
        if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            return Err("a pipe is read once: say with --server or --proxy what it is for");
        }
        let table = File::open(path).and_then(|file| text_file::read(file, MAX_BYTES));
        let table = table.ok().and_then(|text| RawTable::parse(&text).ok());
        let is_of_proxy = |key: &RawKey| match &key.name[..] {
            "service" => true,
            // A table is the mistake of who expects one for each subcommand.
            "server" | "to" => !key.value.is_table(),
            _ => false,
        };
        let is_proxy = table.is_some_and(|table| table.keys.iter().any(is_of_proxy));
        Ok(if is_proxy { Self::Proxy } else { Self::Server })
    }

    /// Returns the name of the tables that a file can have, and the keys in one.
    pub(super) fn table_with_keys(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Server => ("proxy", ProxyEntries::KEYS),
            Self::Proxy => ("service", &services::KEYS),
        }
    }

    /// Returns the keys of tables that only a file can have.
    pub(super) fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Server => &["proxy"],
            Self::Proxy => &[],
        }
    }
}

/// What the settings depend on beside the command line and its file.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Surroundings<'a> {
    /// Reads an environment variable.
    pub(in crate::cli) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether files are looked for that no argument names.
    pub(in crate::cli) has_default_files: bool,
}

impl Surroundings<'_> {
    /// Those of this process.
    pub(in crate::cli) const PROCESS: Surroundings<'static> =
        Surroundings { variable: &|name| std::env::var_os(name), has_default_files: true };

    /// None at all: what remains is what the command line and its file say.
    pub(in crate::cli) const NONE: Surroundings<'static> =
        Surroundings { variable: &|_| None, has_default_files: false };

    /// Returns where a file is looked for that no argument names, the first one that exists.
    pub(in crate::cli) fn default_files(self, role: Role) -> Vec<PathBuf> {
        if !self.has_default_files {
            return Vec::new();
        }
        let variable =
            |name: &str| (self.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user = user_directory(variable);
        let system = Some(PathBuf::from(SYSTEM_DIRECTORY));
        user.into_iter().chain(system).map(|path| path.join(format!("{}.toml", role.as_str()))).collect()
    }
}

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ConfigFile {
    /// Its path.
    pub(in crate::cli) path: PathBuf,
    /// Its keys.
    pub(super) table: RawTable,
    /// What the operator should know about it.
    pub(super) warning: Option<String>,
}

/// What is wrong with a configuration file.
#[derive(Debug)]
pub(in crate::cli) struct ConfigFileError {
    /// Its path.
    pub(super) path: PathBuf,
    /// All mistakes that were found.
    pub(super) mistakes: Mistakes,
}

impl fmt::Display for ConfigFileError {
    /// Prints one line for each mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        self.mistakes.0.iter().enumerate().try_for_each(|(index, mistake)| {
            write!(f, "{}{path}: {mistake}", if index == 0 { "" } else { "\n" })
        })
    }
}

impl ConfigFileError {
    /// Creates the error of a file that cannot be used at all.
    fn unusable(path: &Path, why: String) -> Self {
        Self { path: path.to_owned(), mistakes: Mistake::of_file("", why).into() }
    }
}

impl ConfigFile {
    /// Reads the file that the command line names, or the first one of `defaults` that exists. `is_secret` says which
    /// keys are secret. Returns `None` if there is none.
    ///
    /// # Errors
    /// The named file does not exist, or the file cannot be used.
    pub(super) fn find(
        named: Option<&Path>,
        defaults: &[PathBuf],
        is_secret: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>, ConfigFileError> {
        if let Some(path) = named {
            let opened = File::open(path);
            return Self::read(path, opened, "", is_secret).map(Some);
        }
        for path in defaults {
            match File::open(path) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                opened => {
                    let advice = "; --config FILE names another one, and --config /dev/null none";
                    return Self::read(path, opened, advice, is_secret).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Reads a file that was opened. `advice` says what can be done if that is impossible.
    fn read(
        path: &Path,
        opened: io::Result<File>,
        advice: &str,
        is_secret: impl Fn(&str) -> bool,
    ) -> Result<Self, ConfigFileError> {
        let unreadable = |error| {
            ConfigFileError::unusable(path, format!("cannot read the configuration: {error}{advice}"))
        };
        let file = opened.map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let text = text_file::read(file, MAX_BYTES).map_err(unreadable)?;
        let table =
            RawTable::parse(&text).map_err(|mistakes| ConfigFileError { path: path.to_owned(), mistakes })?;
        let has_secret = table.keys.iter().any(|key| is_secret(&key.name));
        let warning =
            check_access(path, &metadata, has_secret).map_err(|why| ConfigFileError::unusable(path, why))?;
        Ok(Self { path: path.to_owned(), table, warning })
    }

    /// Returns what is wrong with the file, as an error.
    pub(super) fn error(&self, mistakes: Vec<Mistake>) -> ConfigFileError {
        ConfigFileError { path: self.path.clone(), mistakes: Mistakes(mistakes) }
    }
}

/// Checks who may write and read a file. Returns what the operator should know.
///
/// # Errors
/// Another user may have written it, who would then decide who may connect, and to where.
fn check_access(path: &Path, metadata: &Metadata, has_secret: bool) -> Result<Option<String>, String> {
    // A pipe, as from `--config <(…)`, and /dev/null have a mode, too.
    if !metadata.is_file() {
        return Ok(None);
    }
    let path = path.display();
    if is_writable_by_others(metadata) {
        return Err(format!("other users can change it: make it yours alone (chown, chmod go-w {path})"));
    }
    let is_open = has_secret && metadata.mode() & READABLE_BY_ALL != 0;
    Ok(is_open.then(|| format!("all users of this machine can read the token in {path}: chmod o= {path}")))
}
