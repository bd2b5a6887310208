//! How a generated text is kept, and which kept ones are refused.

use std::{os::unix::fs::PermissionsExt as _, process};

use super::*;

/// The file of these tests.
const KEPT: KeptFile = KeptFile { name: "secret", content: "secret", max_bytes: 100 };

/// A directory of one test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("underpass-state-{name}-{}", process::id()));
        _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn write(&self, text: &str, mode: u32) -> PathBuf {
        fs::create_dir_all(&self.0).unwrap();
        let path = self.0.join(KEPT.name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Returns the kept text or a new one.
    fn load(&self) -> anyhow::Result<(String, KeptIn)> {
        KEPT.load_or_generate(Some(&self.0), true, || Ok(format!("{:032x}", rand::random::<u128>())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_generated_text_is_for_its_owner_alone_and_used_again() {
    let directory = Directory::new("kept");
    let (text, kept) = directory.load().unwrap();
    let path = directory.0.join(KEPT.name);
    assert_eq!(kept, KeptIn::File(path.clone()));
    assert_eq!(fs::metadata(&directory.0).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    // Nothing else is left.
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
    assert_eq!(directory.load().unwrap(), (text, kept));
}

#[test]
fn servers_that_start_at_the_same_time_keep_one_text() {
    let directory = Directory::new("race");
    let texts: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| directory.load().unwrap().0)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

#[test]
fn a_kept_text_that_another_user_can_write_is_refused() {
    let directory = Directory::new("writable");
    for mode in [0o602, 0o620] {
        let path = directory.write("chosen by another user", mode);
        let error = format!("{:#}", directory.load().unwrap_err());
        let expected =
            format!("another user may have written {}: remove it, or make it yours", path.display());
        assert!(error.contains(&expected) && error.contains("chmod 600"), "{error}");
    }
}

#[test]
fn a_directory_that_cannot_be_created_is_named_with_what_to_do() {
    // /dev/null is no directory, also for root.
    let error = KEPT.load_or_generate(Some(Path::new("/dev/null/state")), true, || Ok(String::new()));
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("/dev/null/") && error.contains("Not a directory"), "{error}");
    let denied = advice(&io::ErrorKind::PermissionDenied.into(), Path::new("/var/lib/underpass"));
    let user = geteuid().as_raw();
    let command = format!("(sudo install -d -m 700 -o {user} /var/lib/underpass)");
    assert!(denied.contains(&command) && denied.contains("--state-dir"), "{denied}");
}

#[test]
fn the_default_directory_follows_the_environment() {
    let of = |variables: &[(&str, &str)]| {
        default_directory(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, path)| PathBuf::from(path))
        })
    };
    let systemd = ("STATE_DIRECTORY", "/var/lib/tunnel:/var/lib/other");
    assert_eq!(of(&[systemd, ("HOME", "/root")]), Some("/var/lib/tunnel".into()));
    if geteuid().is_root() {
        return assert_eq!(of(&[("HOME", "/root")]), Some("/var/lib/underpass".into()));
    }
    assert_eq!(of(&[("HOME", "/home/me")]), Some("/home/me/.local/state/underpass".into()));
    assert_eq!(of(&[("HOME", "/home/me"), ("XDG_STATE_HOME", "/state")]), Some("/state/underpass".into()));
    assert_eq!(of(&[]), None);
}
