//! Several processes with control sockets, and the users who may use them.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use serde_json::json;

use crate::{
    control_socket::{RawClient, RuntimeDirectory},
    support::process::{Process, Signal, TOKEN},
};

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_second_server_has_another_name() {
    let directory = RuntimeDirectory::new("stale");
    let (mut first, _) = directory.server(&[]).await;
    first.kill_9().await;
    assert!(directory.socket("server").exists(), "a killed process leaves its socket");
    let (first, _) = directory.server(&[]).await;
    let (second, _) = directory.server(&[]).await;
    let pid = async |name: &str| RawClient::connect(&directory.socket(name)).await.1["pid"].clone();
    assert_eq!((pid("server").await, pid("server-2").await), (json!(first.pid()), json!(second.pid())));
    let (code, _, errors) = directory.run(&["ps"]).await;
    assert_eq!(code, 6, "{errors}");
    assert!(errors.contains("several are running; choose one with --control: server, server-2"), "{errors}");
    let (code, ..) = directory.run(&["ps", "--control", "server-2"]).await;
    assert_eq!(code, 0);
}

#[tokio::test]
async fn a_failure_to_create_the_socket_is_a_warning_with_what_to_do() {
    let directory = RuntimeDirectory::new("failure");
    let file = directory.0.join("file");
    fs::create_dir_all(&directory.0).unwrap();
    fs::write(&file, "").unwrap();
    let path = file.join("x.sock");
    let (mut server, _) = directory.server(&["--control", path.to_str().unwrap()]).await;
    let warning = server.line("cannot create the control socket").await;
    assert!(warning.contains("WARN") && warning.contains("--control off"), "{warning}");
    let (mut off, _) = directory.server(&["--control", "off"]).await;
    off.signal(Signal::Term).await;
    off.exit().await;
    assert!(!off.output().contains("control socket"), "{}", off.output());
}

/// Runs underpass as another user, with a supplementary group.
fn as_user(directory: &RuntimeDirectory, uid: u32, groups: &str, args: &[&str]) -> Process {
    let mut command = tokio::process::Command::new("setpriv");
    command
        .args([&format!("--reuid={uid}"), "--regid=4000002", groups, "--"])
        .arg(env!("CARGO_BIN_EXE_underpass"))
        .args(args)
        .env("RUNTIME_DIRECTORY", &directory.0);
    Process::spawn(command)
}

/// Needs root, for other users.
#[tokio::test]
async fn other_users_need_a_group_and_readers_change_nothing() {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root || !Path::new("/usr/bin/setpriv").exists() {
        println!("skipped: not root, or no setpriv");
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_underpass"));
    let is_reachable = program.ancestors().skip(1).all(|path| {
        path.as_os_str().is_empty() || fs::metadata(path).unwrap().permissions().mode() & 0o001 != 0
    });
    if !is_reachable {
        println!("skipped: other users cannot run {}", program.display());
        return;
    }
    let directory = RuntimeDirectory::new("groups");
    let groups = ["--control-group", "4000070", "--control-readers", "4000071"];
    let (mut server, _) = directory.server(&groups).await;
    let path = directory.socket("server");
    let path = path.to_str().unwrap();
    for (groups, args, code, expected) in [
        ("--clear-groups", &["ps", "--control", path][..], 1, "only the user of this process and root"),
        ("--groups=4000071", &["ps", "--control", path], 0, "STREAM"),
        ("--groups=4000071", &["drain", "edge", "--control", path], 1, "may only read"),
        ("--groups=4000070", &["drain", "edge", "--control", path], 5, "no proxy «edge» is connected"),
    ] {
        let mut process = as_user(&directory, 4_000_001, groups, args);
        let status = process.exit().await;
        assert_eq!(status.code(), Some(code), "{groups} {args:?}: {}", process.output());
        assert!(process.output().contains(expected), "{groups} {args:?}: {}", process.output());
    }
    let refused = server.line("operator: drain proxy=edge").await;
    assert!(refused.contains("uid=4000001") && refused.contains("may only read"), "{refused}");
}

/// The successor has the same name, and gets it when its predecessor begins to drain.
#[tokio::test]
async fn a_successor_takes_the_name_over() {
    let directory = RuntimeDirectory::new("handover");
    let (mut old, addr) = directory.server(&["--reuse-port"]).await;
    let path = directory.socket("server");
    let mut new = directory.server_at(&addr.to_string(), &["--reuse-port"]);
    new.line("which this one takes over").await;
    new.listens().await;
    let (mut client, greeting) = RawClient::connect(&path).await;
    assert_eq!(greeting["pid"], old.pid());
    client.ok(r#"{"do":"shutdown"}"#).await;
    new.line(&format!("control socket {}", path.display())).await;
    assert_eq!(RawClient::connect(&path).await.1["pid"], new.pid());
    assert_eq!(old.exit().await.code(), Some(0));
    assert_eq!(RawClient::connect(&path).await.1["pid"], new.pid(), "the old one leaves the socket alone");
    old.line("operator: shut down uid=").await;
}

/// A proxy answers for itself, also to the commands.
#[tokio::test]
async fn a_proxy_says_what_it_serves_and_is_shut_down() {
    let directory = RuntimeDirectory::new("proxy");
    let (_server, addr) = directory.server(&["--control", "off"]).await;
    let addr = addr.to_string();
    let args =
        ["proxy", "--server", &addr, "--port", "0", "--to", "127.0.0.1:9", "--token", TOKEN, "--plain"];
    let mut proxy = directory.underpass(&args);
    let service = proxy.serves().await.to_string();
    let (mut client, greeting) = RawClient::connect(&directory.socket("proxy")).await;
    assert_eq!((&greeting["role"], &greeting["pid"]), (&json!("proxy"), &json!(proxy.pid())));
    let state = client.ok(r#"{"do":"state"}"#).await;
    assert_eq!(state["services"][0], json!({ "service": service, "target": "127.0.0.1:9", "server": addr }));
    assert_eq!(state["links"], json!([{ "server": addr, "services": 1 }]));
    assert_eq!(client.ok(r#"{"do":"ps"}"#).await["streams"], json!([]));
    assert_eq!(client.ask(r#"{"do":"bans"}"#).await["error"]["code"], "unsupported");
    let (code, output, errors) = directory.run(&["shutdown"]).await;
    assert_eq!(
        (code, output.as_str()),
        (0, "draining; open streams have the drain timeout to end\n"),
        "{errors}"
    );
    assert_eq!(proxy.exit().await.code(), Some(0));
    proxy.line("operator: shut down uid=").await;
    assert!(!directory.socket("proxy").exists());
}
