//! How the key of user ids is kept.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt, path::PathBuf, process};

use super::*;

/// A directory of one test, removed at the end.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_key_is_generated_once_for_its_owner_alone_and_replaced_by_a_random_one_where_it_is_unusable() {
    let directory = Directory(std::env::temp_dir().join(format!("underpass-user-ids-{}", process::id())));
    let id = |key: UserIdKey| key.derive(8080, IpAddr::from([192, 0, 2, 1]), 0);
    let first = id(load(Some(&directory.0)));
    let path = directory.0.join("user-id-key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(id(load(Some(&directory.0))), first);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.len(), 65);
    // Not 2^-24 by chance, three times.
    let is_random = || id(load(Some(&directory.0))) != id(load(Some(&directory.0)));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).unwrap();
    assert!(is_random(), "another user may have written it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "not a key").unwrap();
    assert!(is_random());
    assert_eq!(fs::read_to_string(&path).unwrap(), "not a key", "the file of the operator is left alone");
    assert_ne!(id(load(Some(Path::new("/dev/null")))), first);
}
