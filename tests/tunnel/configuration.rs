//! Configuration files as a user meets them: where they are found, and what is said of mistakes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use crate::support::process::{Process, TOKEN};

/// A directory of one test, empty at its begin and removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("configuration-{name}"));
        _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("underpass")).unwrap();
        Self(path)
    }

    /// Writes a file that only its owner can read. Returns its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs underpass in this directory of configurations. Returns its exit status and output.
async fn run(line: &str, directory: &Directory) -> (Option<i32>, String) {
    let words: Vec<_> = line.split(' ').collect();
    let mut process = Process::underpass_with(&words, |command| {
        command.env("XDG_CONFIG_HOME", &directory.0);
    });
    (process.exit().await.code(), process.output())
}

#[tokio::test]
async fn files_are_found_checked_and_shown() {
    let directory = Directory::new("check");
    let (status, output) = run("config check", &directory).await;
    let places = directory.0.join("underpass/server.toml");
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains(&places.display().to_string()) && output.contains("name one"), "{output}");

    directory.write("underpass/server.toml", "polcy = \"weighted\"\nwait = \"5s\"\n");
    directory
        .write("underpass/proxy.toml", "server = \"example.org:7000\"\nport = 8080\nto = \"127.0.0.1:80\"\n");
    let (status, output) = run("config check", &directory).await;
    assert_eq!(status, Some(2), "{output}");
    let name = places.display();
    let expected = [
        format!("underpass: {name}: line 1: there is no setting «polcy»; did you mean «policy»?"),
        format!(
            "underpass: {name}: line 2: wait: expected a number of seconds without a unit, such as 10 or 0.5"
        ),
    ];
    for line in expected {
        assert!(output.lines().any(|found| found == line), "{line}\n{output}");
    }
    assert!(output.contains("proxy.toml: valid configuration of a proxy"), "{output}");
    let (status, server) = run("server", &directory).await;
    assert_eq!(status, Some(2), "{server}");
    assert!(server.contains("line 1: there is no setting «polcy»"), "{server}");

    // What the file names is checked, too.
    directory.write("underpass/server.toml", "cert = \"missing.pem\"\ntoken-file = \"missing\"\n");
    let (status, output) = run(&format!("config check {name}"), &directory).await;
    assert_eq!((status, output.lines().count()), (Some(2), 2), "{output}");
    assert!(output.contains("underpass/missing.pem (--cert)"), "{output}");
    assert!(output.contains("underpass/missing (--token-file)"), "{output}");

    directory.write("underpass/server.toml", &format!("policy = \"weighted\"\ntoken = \"{TOKEN}\"\n"));
    let (status, output) = run("config show server --wait 7", &directory).await;
    assert_eq!(status, Some(0), "{output}");
    let line = |key: &str| output.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
    assert!(line("policy").ends_with(&format!("# {name}, line 1")), "{output}");
    assert!(line("wait").ends_with("# command line") && line("listen").ends_with("# default"), "{output}");
    assert!(line("token").contains("\"***\"") && !output.contains(TOKEN), "{output}");
}
