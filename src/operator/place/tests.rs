//! Where sockets are looked for.

use super::*;

#[test]
fn the_directory_of_the_service_comes_first() {
    let of = |name: &str| match name {
        "RUNTIME_DIRECTORY" => Some(PathBuf::from("/run/a:/run/b")),
        "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/7")),
        _ => None,
    };
    assert_eq!(own_directory(&of), Some(PathBuf::from("/run/a")));
    let without_service = |name: &str| of(name).filter(|_| name != "RUNTIME_DIRECTORY");
    let expected = if Uid::effective().is_root() { "/run/underpass" } else { "/run/user/7/underpass" };
    assert_eq!(own_directory(&without_service), Some(PathBuf::from(expected)));
}
