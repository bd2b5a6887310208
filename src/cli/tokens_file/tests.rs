//! Which tokens files are read, and when again.

use std::{fs, os::unix::fs::PermissionsExt, process};

use super::*;

/// A tokens file of one test, removed at the end.
struct Written(PathBuf);

impl Written {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("underpass-tokens-{name}-{}", process::id())))
    }

    /// Replaces the file as an editor does: by another one with its name.
    fn write(&self, text: &str, mode: u32) {
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

fn entry(name: &str) -> String {
    format!("[[proxy]]\nname = \"{name}\"\ntoken = \"{}\"\n", Token::random().reveal())
}

#[test]
fn a_file_that_others_can_read_or_that_is_wrong_is_refused_with_its_name_and_the_remedy() {
    let file = Written::new("wrong");
    let error = || format!("{:#}", TokensFile::open(&file.0, None).unwrap_err());
    let name = format!("{} (--tokens)", file.0.display());
    assert!(error().contains(&format!("cannot read the tokens from {name}: No such file")), "{}", error());
    for mode in [0o640, 0o604, 0o620, 0o602] {
        file.write(&entry("alice"), mode);
        assert!(error().starts_with(&name) && error().contains("chmod 600"), "{}", error());
    }
    file.write("[[proxy]]\nname = \"alice\"\ntoken = \"secret\"\n", 0o600);
    assert!(
        error().starts_with(&format!("{name}: line 3: entry 1 («alice»): token: the token is too short")),
        "{}",
        error()
    );
    assert!(!error().contains("secret"), "{}", error());
    file.write(&"#".repeat(MAX_BYTES + 1), 0o600);
    assert!(error().contains("it is longer than"), "{}", error());
    file.write(&entry("alice"), 0o600);
    assert!(TokensFile::open(&file.0, None).unwrap().1.iter().all(|entry| entry.name() == "alice"));
}

/// Otherwise its proxy could do everything, whatever the entry says.
#[test]
fn an_entry_with_the_token_of_the_command_line_is_refused() {
    let file = Written::new("same");
    let token = Token::random();
    file.write(
        &format!("[[proxy]]\nname = \"alice\"\ntoken-hash = \"{}\"\n", token.key().reveal_hash()),
        0o600,
    );
    let error = format!("{:#}", TokensFile::open(&file.0, Some(&token)).unwrap_err());
    assert!(error.contains("«alice» has the token of --token") && !error.contains(token.reveal()), "{error}");
    let (opened, _) = TokensFile::open(&file.0, Some(&Token::random())).unwrap();
    let source = Source { unlimited: Some(token.key()), ..opened.source };
    assert!(source.read_again().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_read_again_and_a_wrong_one_changes_nothing() {
    let file = Written::new("changed");
    file.write(&entry("alice"), 0o600);
    let (tokens, entries) = TokensFile::open(&file.0, None).unwrap();
    let credentials = Credentials::new(None, entries);
    let (telemetry, mut current) = (Telemetry::new(), credentials.watch_entries());
    let mut events = telemetry.subscribe();
    let (request, reload) = watch::channel(());
    let following = tokens.follow(credentials.clone(), &telemetry, reload);
    let check = async {
        let names =
            |entries: &ProxyEntries| entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>();
        file.write(&entry("bob"), 0o600);
        current.changed().await.unwrap();
        assert_eq!(names(&current.borrow_and_update()), ["bob"]);
        // One event for one wrong version, although the file is looked at every second.
        file.write("[[proxy]]\nnmae = \"carol\"\n", 0o600);
        let EventKind::TokensInvalid { reason } = events.recv().await.unwrap().kind else { panic!() };
        assert!(reason.contains("did you mean «name»?"), "{reason}");
        tokio::time::sleep(5 * CHECK_INTERVAL).await;
        assert!(events.try_recv().is_err() && !current.has_changed().unwrap());
        // Reported again when the operator asks.
        request.send(()).unwrap();
        assert!(matches!(events.recv().await.unwrap().kind, EventKind::TokensInvalid { .. }));
        fs::remove_file(&file.0).unwrap();
        let EventKind::TokensInvalid { reason } = events.recv().await.unwrap().kind else { panic!() };
        assert!(reason.contains("No such file"), "{reason}");
        // Emptied, as a program does that is about to write it.
        file.write("", 0o600);
        let EventKind::TokensInvalid { reason } = events.recv().await.unwrap().kind else { panic!() };
        assert!(reason.contains("it has no entries: to revoke all tokens, leave one entry"), "{reason}");
        assert!(!current.has_changed().unwrap());
        // A directory stands for all that is no file: not even opened.
        fs::remove_file(&file.0).unwrap();
        fs::create_dir(&file.0).unwrap();
        tokio::time::sleep(5 * CHECK_INTERVAL).await;
        assert!(events.try_recv().is_err() && !current.has_changed().unwrap());
        fs::remove_dir(&file.0).unwrap();
        file.write(&entry("dave"), 0o600);
        current.changed().await.unwrap();
        assert_eq!(names(&current.borrow_and_update()), ["dave"]);
    };
    tokio::select! {
        () = following => unreachable!("never completes"),
        () = check => {}
    }
}
