//! How the token of a file is read, and how a generated one is kept.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process,
};

use super::*;

/// A directory of one test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("underpass-token-{name}-{}", process::id()));
        _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn write(&self, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        fs::create_dir_all(&self.0).unwrap();
        let path = self.0.join(KEPT.name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_error_of_a_token_file_names_the_file_and_the_option() {
    let directory = Directory::new("file");
    let error = |path: &Path| format!("{:#}", read_file(path).unwrap_err());
    let missing = Path::new("/nonexistent/token");
    assert_eq!(
        error(missing),
        "cannot read the token from /nonexistent/token (--token-file): No such file or directory (os error 2)"
    );
    assert!(error(Path::new("/")).contains("cannot read the token from / (--token-file): Is a directory"));
    assert!(error(Path::new("/dev/zero")).contains("/dev/zero (--token-file): it is longer than"));
    assert!(error(Path::new("/dev/null")).contains("/dev/null (--token-file): the token is blank"));
    let path = directory.write(b"\xff\xfe", 0o600);
    assert!(error(&path).contains("it is not text in UTF-8"));
    let path = directory.write("secret\n", 0o600);
    assert!(error(&path).contains("(--token-file): the token is too short"));
    let path = directory.write("vK8dR2xQ9mWz4LpT7cYb\n", 0o600);
    assert_eq!(read_file(&path).unwrap().reveal(), "vK8dR2xQ9mWz4LpT7cYb");
}

#[test]
fn a_generated_token_is_kept_for_its_owner_alone_and_used_again() {
    let directory = Directory::new("kept");
    let (token, origin) = generate(Some(&directory.0), false).unwrap();
    let KeptIn::File(path) = origin else { panic!("{origin:?}") };
    assert_eq!(path, directory.0.join(KEPT.name));
    assert_eq!(fs::metadata(&directory.0).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", token.reveal()));
    // Nothing else is left.
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
    assert_eq!(generate(Some(&directory.0), false).unwrap().0.reveal(), token.reveal());
}

#[test]
fn a_blank_kept_token_is_refused() {
    let directory = Directory::new("blank");
    let path = directory.write("", 0o600);
    let error = format!("{:#}", generate(Some(&directory.0), false).unwrap_err());
    assert!(error.contains(&format!("{}: the token is blank", path.display())), "{error}");
    assert!(error.contains("remove the file"), "{error}");
}
