//! What a shell completes while a server runs: keys, names and addresses, by the script of `underpass completions
//! bash`.

use std::time::{Duration, Instant};

use crate::{
    control_socket::{RuntimeDirectory, World},
    support::process::Process,
};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_underpass");

/// Completes a command line, which ends at the cursor, as bash does. Returns the candidates.
async fn complete(directory: &RuntimeDirectory, line: &str) -> Vec<String> {
    let script = format!(
        "PATH=${{PROGRAM%/*}}:$PATH; source <(underpass completions bash)
         COMP_LINE={line:?} COMP_POINT={} COMP_WORDS=({line}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
         [[ $COMP_LINE == *' ' ]] && COMP_CWORD=$((COMP_CWORD + 1))
         _underpass_live underpass \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    let mut command = tokio::process::Command::new("bash");
    command.args(["--norc", "-c", &script]).env("PROGRAM", PROGRAM);
    command.env("RUNTIME_DIRECTORY", &directory.0).env_remove("UNDERPASS_CONTROL");
    let mut shell = Process::spawn(command);
    assert_eq!(shell.exit().await.code(), Some(0), "{}", shell.output());
    assert_eq!(shell.stderr(), "", "{line}");
    shell.stdout().lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_what_the_server_has() {
    let world = World::start("complete", &[]).await;
    let key = world.key().await;
    let (user, number) = key.split_once(':').unwrap();
    let service = world.public.port().to_string();
    world.client().await.ok(r#"{"do":"ban","network":"192.0.2.0/24"}"#).await;
    let lower = user.to_lowercase();
    for (line, expected) in [
        ("underpass kill ", vec![key.as_str(), user]),
        // Behind the colon, at which bash begins another word.
        (&format!("underpass kill {user}:"), vec![number]),
        (&format!("underpass pause {lower}"), vec![key.as_str()]),
        ("underpass kick ", vec!["edge-1"]),
        ("underpass weight ed", vec!["edge-1"]),
        ("underpass limit ", vec![key.as_str(), user, service.as_str(), "edge-1"]),
        ("underpass limit edge-1 do", vec!["down"]),
        ("underpass policy ", vec![service.as_str()]),
        ("underpass ban ", vec!["127.0.0.1"]),
        ("underpass unban ", vec!["192.0.2.0/24"]),
        ("underpass attach ", vec!["server"]),
        ("underpass kick --control ", vec!["server"]),
        ("underpass kick --control server ", vec!["edge-1"]),
        ("underpass kick --control other ed", vec![]),
    ] {
        assert_eq!(complete(&world.directory, line).await, expected, "{line}");
    }
    // What the command line itself knows is completed as before.
    assert_eq!(complete(&world.directory, "underpass shutd").await, ["shutdown"]);
    assert!(complete(&world.directory, "underpass kill --f").await.contains(&"--filter".to_owned()));
}

#[tokio::test]
async fn completion_is_silent_and_quick_without_a_server_and_where_it_does_not_answer() {
    let directory = RuntimeDirectory::new("complete-none");
    let run = async |control: &str| {
        let begin = Instant::now();
        let (code, output, errors) =
            directory.run(&["complete", "--", "kick", "--control", control, ""]).await;
        assert_eq!((code, output.as_str(), errors.as_str()), (0, "", ""), "{control}");
        begin.elapsed()
    };
    run("/nowhere/x.sock").await;
    std::fs::create_dir_all(&directory.0).unwrap();
    let path = directory.socket("silent");
    let silent = tokio::net::UnixListener::bind(&path).unwrap();
    let waited = run(path.to_str().unwrap()).await;
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    drop(silent);
}
