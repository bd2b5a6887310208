//! The control socket as a file: created for its owner alone, taken over from a process that has died, and removed at
//! the end.
//!
//! The name belongs to the process that holds the lock on the file `NAME.sock.lock` beside it (flock(2)), which the
//! kernel releases however the process ends. Only the holder creates and removes the socket, so that a process that
//! ends cannot remove the socket of its successor.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
            net::UnixListener as StdListener,
        },
    },
    path::{Path, PathBuf},
};

use nix::unistd::Uid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::{
    peer::AccessRules,
    place::{self, MAX_PATH_BYTES, Probe, Variable},
};

/// How many connections the kernel queues until they are accepted.
const BACKLOG: i32 = 128;

/// How many names are tried for a process whose operator has chosen none: `server`, `server-2` and so on.
const MAX_NAMES: usize = 16;

/// The bit of a directory's mode with which only the owner of a file replaces it, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// The bits of a directory's mode that let other users create files in it.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where a process wants its control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketChoice {
    /// In the usual directory.
    Named {
        /// The name that the operator has chosen, or that of the role.
        name: String,
        /// Whether a free name like it is as good, because the operator has chosen none.
        may_be_numbered: bool,
    },
    /// At this path.
    Path(PathBuf),
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// No directory for it is known.
    #[error(
        "no directory for the control socket: XDG_RUNTIME_DIR is not set and /run/user/{0} does not exist; give --control PATH, \
         or --control off if none is wanted"
    )]
    NoDirectory(Uid),
    /// Another process has it.
    #[error("another process has the control socket {}: choose another name or path (--control NAME|PATH)", .0.display())]
    InUse(PathBuf),
    /// The path is longer than the system permits.
    #[error(
        "the path of the control socket has {} bytes, and may have {MAX_PATH_BYTES}: choose a shorter one (--control PATH): {}",
        .0.as_os_str().len(), .0.display()
    )]
    PathTooLong(PathBuf),
    /// Other users could replace the socket.
    #[error(
        "{} belongs to another user, or other users may write to it, so that they could replace the control socket: `chmod 700` and \
         `chown` it, or choose another place (--control PATH)",
        .0.display()
    )]
    UnsafeDirectory(PathBuf),
    /// An I/O error.
    #[error("cannot create the control socket {}: {error}; choose another place (--control PATH), or none (--control off)", path.display())]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
}

/// The name of a control socket, which belongs to this process until it is dropped. Dropping it removes the socket.
#[derive(Debug)]
struct OwnedName {
    /// The path of the socket.
    path: PathBuf,
    /// Holds the lock on the name.
    _lock: File,
}

impl Drop for OwnedName {
    fn drop(&mut self) {
        // Before the lock is released: afterwards it may be the socket of another process.
        _ = fs::remove_file(&self.path);
    }
}

/// A control socket that accepts connections. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct ControlSocket {
    /// Accepts connections.
    pub(super) listener: UnixListener,
    /// Keeps the name.
    name: OwnedName,
    /// Why members of the groups cannot connect; `None` if they can, or none are named.
    pub(super) warning: Option<String>,
}

impl ControlSocket {
    /// Returns the path of the socket.
    pub(super) fn path(&self) -> &Path {
        &self.name.path
    }

    /// Creates the socket: its directory with mode 0700 if it is missing, and the socket with mode 0600, wider only for
    /// the groups of `rules`. A socket that no process listens on any more is replaced. Needs the context of a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`SocketError`]
    pub(super) fn create(
        choice: &SocketChoice,
        rules: &AccessRules,
        variable: Variable<'_>,
    ) -> Result<Self, SocketError> {
        match choice {
            SocketChoice::Path(path) => {
                if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    create_directory(parent)
                        .map_err(|error| SocketError::Io { path: path.clone(), error })?;
                    check_directory(parent, STICKY)?;
                }
                Self::create_at(path, rules, None)
            }
            SocketChoice::Named { name, may_be_numbered } => {
                let directory = place::own_directory(variable)
                    .ok_or_else(|| SocketError::NoDirectory(Uid::effective()))?;
                let path = place::socket_path(&directory, name);
                create_directory(&directory)
                    .map_err(|error| SocketError::Io { path: path.clone(), error })?;
                check_directory(&directory, 0)?;
                let mut created = Self::create_at(&path, rules, Some(&directory));
                for number in 2..=MAX_NAMES {
                    if !may_be_numbered || !matches!(created, Err(SocketError::InUse(_))) {
                        break;
                    }
                    let path = place::socket_path(&directory, &format!("{name}-{number}"));
                    created = Self::create_at(&path, rules, Some(&directory));
                }
                created
            }
        }
    }

    /// Creates the socket at `path`, whose directory exists. `directory` is that which may be opened to groups.
    fn create_at(path: &Path, rules: &AccessRules, directory: Option<&Path>) -> Result<Self, SocketError> {
        if path.as_os_str().len() > MAX_PATH_BYTES {
            return Err(SocketError::PathTooLong(path.to_owned()));
        }
        let failed = |error| SocketError::Io { path: path.to_owned(), error };
        let lock = lock_name(path).map_err(failed)?.ok_or_else(|| SocketError::InUse(path.to_owned()))?;
        if place::is_socket(path).map_err(failed)? {
            // One without our lock is that of another program.
            if place::probe(path) != Probe::Dead {
                return Err(SocketError::InUse(path.to_owned()));
            }
            fs::remove_file(path).map_err(failed)?;
        }
        let (socket, name) = bind(path, lock).map_err(failed)?;
        let warning = open_to_groups(path, directory, rules).err();
        // Connections are refused until now, with whatever mode.
        socket.listen(BACKLOG).map_err(failed)?;
        let listener = UnixListener::from_std(StdListener::from(OwnedFd::from(socket))).map_err(failed)?;
        Ok(Self { listener, name, warning })
    }
}

/// Locks the name of the socket at `path`; `None` if another process has it.
fn lock_name(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // A link in a directory of others must not make this process create a file elsewhere.
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = options.open(name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Binds a socket to `path`, with mode 0600, which does not listen yet.
fn bind(path: &Path, lock: File) -> io::Result<(Socket, OwnedName)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // On Linux the file gets the mode of the socket. Where that fails, no client can connect before the mode is set
    // below.
    let file = File::from(OwnedFd::from(socket));
    _ = file.set_permissions(Permissions::from_mode(0o600));
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    let name = OwnedName { path: path.to_owned(), _lock: lock };
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok((socket, name))
}

/// Lets the members of the groups connect. With one group, the socket belongs to it; two groups cannot own one file, so
/// that all users may connect then, and the peer's groups decide.
///
/// # Errors
/// A message for the operator. The socket is for its owner alone then.
fn open_to_groups(path: &Path, directory: Option<&Path>, rules: &AccessRules) -> Result<(), String> {
    let groups: Vec<_> = [&rules.operators, &rules.readers].into_iter().flatten().collect();
    let Some(first) = groups.first() else { return Ok(()) };
    let is_one = groups.iter().all(|group| group.gid == first.gid);
    let set = |path: &Path, one: u32, several: u32| {
        if is_one {
            chown(path, None, Some(first.gid))?;
        }
        fs::set_permissions(path, Permissions::from_mode(if is_one { one } else { several }))
    };
    let failed = |path: &Path, error: io::Error| {
        format!(
            "members of the group «{}» cannot use the control socket: cannot give it {}: {error}; run as root or as a member of \
             the group",
            first.name,
            path.display()
        )
    };
    if let Some(directory) = directory {
        // Members list it: commands without a name look for the sockets that there are.
        set(directory, 0o750, 0o755).map_err(|error| failed(directory, error))?;
    }
    set(path, 0o660, 0o666).map_err(|error| failed(path, error))
}

/// Creates a directory for this user alone, with the missing ones above it. Without effect if it exists.
fn create_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Checks that other users cannot replace files in a directory. It may be writable to all if it has the mode
/// `but_with`.
fn check_directory(directory: &Path, but_with: u32) -> Result<(), SocketError> {
    let is_safe = fs::metadata(directory).is_ok_and(|metadata| {
        let is_own = metadata.uid() == Uid::effective().as_raw() || metadata.uid() == 0;
        let mode = metadata.mode();
        is_own && (mode & WRITABLE_BY_OTHERS == 0 || mode & but_with != 0)
    });
    if is_safe { Ok(()) } else { Err(SocketError::UnsafeDirectory(directory.to_owned())) }
}

#[cfg(test)]
mod tests;
