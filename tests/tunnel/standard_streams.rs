//! A stdout or stderr that is closed, a full device or a pipe without a reader changes neither exit status nor
//! behaviour.

use crate::support::process::{Process, STATE};

/// The redirections of both outputs that make writing to them fail, as bash understands them.
const BROKEN: [&str; 4] = [">&- 2>&-", ">/dev/full 2>/dev/full", ">/dev/full 2>&-", "> >(exit) 2> >(exit)"];

/// Runs the program in bash with these arguments and redirections. Returns its exit status.
async fn status(arguments: &str, redirections: &str) -> Option<i32> {
    let program = env!("CARGO_BIN_EXE_underpass");
    let mut command = tokio::process::Command::new("bash");
    command.args(["-c", &format!("'{program}' {arguments} {redirections}")]);
    command
        .env_remove("UNDERPASS_TOKEN")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("STATE_DIRECTORY", STATE);
    let mut process = Process::spawn(command);
    let status = process.exit().await.code();
    assert_eq!(process.output(), "");
    status
}

/// `println!` and `eprintln!` panic there, which ends the program with 101 and without its clean-up.
#[tokio::test]
async fn a_broken_output_does_not_change_the_exit_status() {
    for redirections in BROKEN {
        for (arguments, expected) in [
            ("--help", 0),
            ("server --help", 0),
            ("--version", 0),
            ("server --policy fair", 2),
            ("server --listen 192.0.2.1:0 --token vK8dR2xQ9mWz4LpT7cYb --no-tui", 1),
            ("proxy --server h:1 --port 1 --to h:1", 1),
            ("demo --no-tui --duration 0", 0),
        ] {
            let status = status(arguments, redirections).await;
            assert_eq!(status, Some(expected), "{arguments} {redirections}");
        }
    }
}
