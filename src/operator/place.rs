//! Where control sockets are, for the process that creates one and for the one that looks for it.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use socket2::{Domain, SockAddr, Socket, Type};

/// The extension of a control socket.
const EXTENSION: &str = "sock";

/// The longest path of a Unix socket in bytes (`sun_path` of Linux, less its NUL).
pub(super) const MAX_PATH_BYTES: usize = 107;

/// The directory of the sockets of root.
const ROOT_DIRECTORY: &str = "/run/underpass";

/// Reads an environment variable that contains a path. An argument, because a test must not change the environment.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// Reads a variable of this process: the [`Variable`] outside of tests.
pub fn environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// Returns the directory where this process creates its control socket: that which systemd has created for the service,
/// the usual one of root, or that of the XDG specification. `None` if there is none.
pub(super) fn own_directory(variable: Variable<'_>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    // systemd separates several directories by colons.
    let of_service = absolute("RUNTIME_DIRECTORY")
        .and_then(|paths| paths.to_str().and_then(|paths| paths.split(':').next()).map(PathBuf::from));
    if of_service.is_some() {
        return of_service;
    }
    let user = Uid::effective();
    if user.is_root() {
        return Some(PathBuf::from(ROOT_DIRECTORY));
    }
    // The variable is missing after `su` and in jobs of cron.
    let of_user = || Some(PathBuf::from(format!("/run/user/{user}"))).filter(|path| path.is_dir());
    Some(absolute("XDG_RUNTIME_DIR").or_else(of_user)?.join("underpass"))
}

/// Returns the directories where the sockets of running processes may be: this user's, and those of services in `/run`.
fn searched_directories(variable: Variable<'_>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = own_directory(variable).into_iter().collect();
    // As root for a user's, and the other way round for a member of a group that may use root's.
    found.push(PathBuf::from(ROOT_DIRECTORY));
    // A unit chooses its own name: `RuntimeDirectory=underpass-proxy`.
    let services = fs::read_dir("/run").into_iter().flatten().flatten();
    found.extend(services.map(|entry| entry.path()).filter(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("underpass"))
    }));
    found.sort();
    found.dedup();
    found
}

/// Returns the path of the socket with this name in a directory.
pub(super) fn socket_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.{EXTENSION}"))
}

/// A process with a control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name: that of its socket, without the extension.
    pub name: String,
    /// The path of its socket.
    pub path: PathBuf,
    /// Whether this process may connect to it.
    pub is_permitted: bool,
}

/// Finds the processes of this machine whose control sockets are in the usual directories, sorted by name. Those that
/// left a socket behind are not among them.
pub fn instances(variable: Variable<'_>) -> Vec<Instance> {
    let mut found: Vec<Instance> = searched_directories(variable)
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION))
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let is_permitted = match probe(&path) {
                Probe::Alive => true,
                Probe::Forbidden => false,
                Probe::Dead | Probe::Unknown => return None,
            };
            Some(Instance { name, path, is_permitted })
        })
        .collect();
    found.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    found
}

/// What an attempt to connect to a socket shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// A process listens on it.
    Alive,
    /// This process may not connect to it.
    Forbidden,
    /// Nothing listens on it, or it does not exist.
    Dead,
    /// It cannot be told, or another kind of program listens on it.
    Unknown,
}

/// Connects to a socket without waiting, and closes the connection.
pub(super) fn probe(path: &Path) -> Probe {
    let connected = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    match connected() {
        Ok(()) => Probe::Alive,
        // Its queue of connections is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Probe::Alive,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Probe::Forbidden,
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Probe::Dead
        }
        // A socket for datagrams, or no descriptor is left.
        Err(_) => Probe::Unknown,
    }
}

/// Returns whether there is a socket at `path`; an error if something else is.
pub(super) fn is_socket(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(metadata) if metadata.file_type().is_socket() => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket")),
    }
}

#[cfg(test)]
mod tests;
