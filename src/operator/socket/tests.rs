//! The socket is for its owner from the first moment, belongs to one process, and is removed.

use std::{
    os::unix::net::UnixStream,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::*;
use crate::operator::ControlGroup;

/// A directory that is removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("underpass-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn create(&self, name: &str, may_be_numbered: bool) -> Result<ControlSocket, SocketError> {
        self.create_for(name, may_be_numbered, &AccessRules::default())
    }

    fn create_for(
        &self,
        name: &str,
        may_be_numbered: bool,
        rules: &AccessRules,
    ) -> Result<ControlSocket, SocketError> {
        let choice = SocketChoice::Named { name: name.to_owned(), may_be_numbered };
        ControlSocket::create(&choice, rules, &|variable| {
            (variable == "RUNTIME_DIRECTORY").then(|| self.0.clone())
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.sock"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone_and_is_removed() {
    let directory = Directory::new();
    let socket = directory.create("server", false).unwrap();
    let path = directory.path("server");
    assert_eq!(
        (mode(&path), mode(&directory.0), mode(&directory.0.join("server.sock.lock"))),
        (0o600, 0o700, 0o600)
    );
    assert_eq!(place::probe(&path), Probe::Alive);
    drop(socket);
    assert!(!path.exists());
}

/// A peer that connects between bind(2) and chmod(2) would keep its connection.
#[test]
fn the_socket_has_its_mode_before_it_listens() {
    let directory = Directory::new();
    create_directory(&directory.0).unwrap();
    let path = directory.path("server");
    let lock = lock_name(&path).unwrap().unwrap();
    let (_socket, _name) = bind(&path, lock).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(UnixStream::connect(&path).is_err(), "it does not listen yet");
}

#[tokio::test]
async fn a_socket_that_a_dead_process_left_is_replaced() {
    let directory = Directory::new();
    create_directory(&directory.0).unwrap();
    let path = directory.path("server");
    // Dropping a listener leaves its file.
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists());
    let _socket = directory.create("server", false).unwrap();
    assert_eq!(place::probe(&path), Probe::Alive);
}

#[tokio::test]
async fn a_name_belongs_to_one_process() {
    let directory = Directory::new();
    let first = directory.create("server", false).unwrap();
    assert!(matches!(directory.create("server", false), Err(SocketError::InUse(_))));
    let second = directory.create("server", true).unwrap();
    assert_eq!(second.path(), directory.path("server-2"));
    drop(first);
    let third = directory.create("server", true).unwrap();
    assert_eq!(third.path(), directory.path("server"));
}

#[tokio::test]
async fn the_socket_of_another_program_and_other_files_are_left_alone() {
    let directory = Directory::new();
    create_directory(&directory.0).unwrap();
    let _other = StdListener::bind(directory.path("server")).unwrap();
    assert!(matches!(directory.create("server", false), Err(SocketError::InUse(_))));
    let _datagrams = std::os::unix::net::UnixDatagram::bind(directory.path("datagrams")).unwrap();
    assert!(matches!(directory.create("datagrams", false), Err(SocketError::InUse(_))));
    fs::write(directory.path("file"), "mine").unwrap();
    let error = directory.create("file", false).unwrap_err().to_string();
    assert!(error.contains("exists and is no socket") && error.contains("--control"), "{error}");
    assert_eq!(fs::read_to_string(directory.path("file")).unwrap(), "mine");
}

#[tokio::test]
async fn a_directory_of_others_and_a_long_path_are_refused_with_advice() {
    let directory = Directory::new();
    create_directory(&directory.0).unwrap();
    fs::set_permissions(&directory.0, Permissions::from_mode(0o777)).unwrap();
    let error = directory.create("server", false).unwrap_err().to_string();
    assert!(error.contains("other users may write to it"), "{error}");
    let here = SocketChoice::Path(directory.0.join("here.sock"));
    let error = ControlSocket::create(&here, &AccessRules::default(), &|_| None).unwrap_err().to_string();
    assert!(error.contains("other users may write to it"), "{error}");
    // As /tmp: others cannot replace what is not theirs.
    fs::set_permissions(&directory.0, Permissions::from_mode(0o1777)).unwrap();
    drop(ControlSocket::create(&here, &AccessRules::default(), &|_| None).unwrap());
    let error = ControlSocket::create(
        &SocketChoice::Path(directory.0.join("x".repeat(108))),
        &AccessRules::default(),
        &|_| None,
    );
    let error = error.unwrap_err().to_string();
    assert!(error.contains("may have 107") && error.contains("--control PATH"), "{error}");
}

/// Only where a group is named may others than the owner connect.
#[tokio::test]
async fn the_socket_is_opened_to_one_group_or_to_all_for_two() {
    let own = nix::unistd::Gid::effective().as_raw();
    let group = |gid| Some(ControlGroup { name: gid_name(gid), gid });
    let directory = Directory::new();
    let one = AccessRules { operators: group(own), readers: None };
    let socket = directory.create_for("one", false, &one).unwrap();
    assert_eq!((mode(socket.path()), mode(&directory.0)), (0o660, 0o750));
    assert_eq!(fs::metadata(socket.path()).unwrap().gid(), own);
    let two = AccessRules { operators: group(own), readers: group(own + 1) };
    let socket = directory.create_for("two", false, &two).unwrap();
    assert_eq!((mode(socket.path()), mode(&directory.0)), (0o666, 0o755));
    assert!(socket.warning.is_none());
}

fn gid_name(gid: u32) -> String {
    format!("group {gid}")
}
