//! Configuration files as a user meets them: where they are found, what is said of mistakes, and what a running server
//! takes over.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf};

use underpass::{cli::demo::DemoFile, wire::handshake::Token};

use crate::support::{
    client::{Fetched, download, fetch},
    process::{Process, Signal, TOKEN},
    target,
};

/// The keys of every server of these tests.
const SERVER: &str = "listen = \"127.0.0.1:0\"\nbind = \"127.0.0.1\"\nno-tui = true\n";

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

/// Starts a server of this file without a controlling terminal, as a service has none.
async fn service(file: &str) -> (Process, SocketAddr) {
    let mut server = Process::service(&["server", "--config", file]);
    let addr = server.listens().await;
    (server, addr)
}

fn proxy(server: SocketAddr, port: u16, to: SocketAddr, token: &str) -> Process {
    let (server, port, to) = (server.to_string(), port.to_string(), to.to_string());
    Process::underpass(&["proxy", "--server", &server, "--port", &port, "--to", &to, "--token", token])
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
async fn a_reload_keeps_open_streams_and_an_invalid_file_changes_nothing() {
    let directory = Directory::new("reload");
    let common = format!("{SERVER}token = \"{TOKEN}\"\n");
    let file = directory.write("server.toml", &common);
    let (mut server, addr) = service(&file).await;
    let origin = target::origin(2_000_000).await;
    let mut proxy = proxy(addr, 0, origin.addr, TOKEN);
    let public = SocketAddr::new(addr.ip(), proxy.serves().await.port);
    let long = DemoFile { seed: 3, size: 8_000_000 };
    let download = download(public, long);
    origin.when_open(1, crate::support::LONG).await;

    directory.write("server.toml", &format!("{common}polcy = \"weighted\"\ndeny = [\"127.0.0.0/8\"]\n"));
    server.signal(Signal::Hup).await;
    let line = server.line("the configuration stays as it is").await;
    assert!(
        line.ends_with(&format!("{file}: line 5: there is no setting «polcy»; did you mean «policy»?")),
        "{line}"
    );
    assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);

    directory.write(
        "server.toml",
        &format!("{common}policy = \"weighted\"\ndeny = [\"127.0.0.0/8\"]\nworkers = 3\n"),
    );
    server.signal(Signal::Hup).await;
    let line = server.line("read the configuration again").await;
    assert!(line.contains("policy = \"weighted\"") && line.contains("deny = [\"127.0.0.0/8\"]"), "{line}");
    let line = server.line("a restart is needed for").await;
    assert!(line.ends_with("workers = 3"), "{line}");
    fetch(public, "/file/1000").await.unwrap_err();
    server.line("127.0.0.1 is in the denied network 127.0.0.0/8 (server option --deny)").await;

    fs::remove_file(&file).unwrap();
    server.signal(Signal::Hup).await;
    server.line("cannot read the configuration: No such file").await;
    fetch(public, "/file/1000").await.unwrap_err();

    directory.write("server.toml", &common);
    server.signal(Signal::Hup).await;
    server.line("read the configuration again").await;
    assert_eq!(fetch(public, "/file/1000").await.unwrap().length, 1000);
    assert!(!download.has_ended(), "it was too short to show anything");
    assert_eq!(download.end("the open download").await, Ok(Fetched::from(long)));
    server.signal(Signal::Term).await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
}

#[tokio::test]
async fn entries_of_proxies_in_the_file_are_read_again() {
    let directory = Directory::new("entries");
    let (alice, bob) = (Token::random(), Token::random());
    let entry =
        |name: &str, token: &Token| format!("[[proxy]]\nname = \"{name}\"\ntoken = \"{}\"\n", token.reveal());
    let file = directory.write("server.toml", &format!("{SERVER}{}", entry("alice", &alice)));
    let (mut server, addr) = service(&file).await;
    let origin = target::origin(1_000_000).await;
    let mut first = proxy(addr, 0, origin.addr, alice.reveal());
    first.serves().await;
    directory.write("server.toml", SERVER);
    server.signal(Signal::Hup).await;
    server.line("it has no entries [[proxy]] any more").await;
    directory.write("server.toml", &format!("{SERVER}{}", entry("bob", &bob)));
    server.signal(Signal::Hup).await;
    let line = server.line("read the configuration again").await;
    assert!(line.ends_with("changed: [[proxy]]"), "{line}");
    // It has served, so that it keeps trying.
    first.line("wrong token").await;
    proxy(addr, 0, origin.addr, bob.reveal()).serves().await;
}

#[tokio::test]
async fn a_proxy_takes_over_other_services_and_keeps_the_streams_of_the_others() {
    let directory = Directory::new("services");
    let (_server, addr) = Process::server(TOKEN, &[]).await;
    let (first, second) = (target::origin(2_000_000).await, target::origin(2_000_000).await);
    let service = |port: u16, to: SocketAddr| format!("[[service]]\npublic = {port}\nto = \"{to}\"\n");
    let common = format!("server = \"{addr}\"\ntoken = \"{TOKEN}\"\nname = \"lab\"\n");
    let one = format!("{common}{}", service(0, first.addr));
    let file = directory.write("proxy.toml", &one);
    let mut proxy = Process::service(&["proxy", "--config", &file]);
    let public = SocketAddr::new(addr.ip(), proxy.serves().await.port);
    let long = DemoFile { seed: 4, size: 8_000_000 };
    let download = download(public, long);
    first.when_open(1, crate::support::LONG).await;

    directory.write("proxy.toml", &format!("{one}[[service]]\npublic = 1\n"));
    proxy.signal(Signal::Hup).await;
    let line = proxy.line("the configuration stays as it is").await;
    assert!(line.contains(&format!("{file}: line 7: service 2: to: it is missing")), "{line}");

    directory.write("proxy.toml", &format!("{one}{}", service(0, second.addr)));
    proxy.signal(Signal::Hup).await;
    proxy.line("read the configuration again; changed: service = ").await;
    let added = SocketAddr::new(addr.ip(), proxy.serves().await.port);
    assert_eq!(fetch(added, "/file/1000").await.unwrap().length, 1000);
    assert!(second.traffic.bytes_written() >= 1000);
    assert!(!download.has_ended(), "it was too short to show anything");
    assert_eq!(download.end("the open download").await, Ok(Fetched::from(long)));
    proxy.signal(Signal::Term).await;
    assert_eq!(proxy.exit().await.code(), Some(0), "{}", proxy.output());
}

#[tokio::test]
async fn a_proxy_takes_over_other_servers_and_keeps_the_streams_of_the_others() {
    let directory = Directory::new("servers");
    let ((_first, one), (_second, two)) =
        (Process::server(TOKEN, &[]).await, Process::server(TOKEN, &[]).await);
    let origin = target::origin(2_000_000).await;
    let text = |servers: &str| {
        let service = format!("[[service]]\npublic = 0\nto = \"{}\"\n", origin.addr);
        format!("server = [{servers}]\ntoken = \"{TOKEN}\"\n{service}")
    };
    let file = directory.write("proxy.toml", &text(&format!("\"{one}\"")));
    let mut proxy = Process::service(&["proxy", "--config", &file]);
    let public = SocketAddr::new(one.ip(), proxy.serves().await.port);
    let long = DemoFile { seed: 4, size: 8_000_000 };
    let download = download(public, long);
    origin.when_open(1, crate::support::LONG).await;

    directory.write("proxy.toml", &text(&format!("\"{one}\", \"{two}\", \"{two}\"")));
    proxy.signal(Signal::Hup).await;
    let line = proxy.line("the configuration stays as it is").await;
    assert!(line.contains(&format!("{file}: line 1: server: {two} is given twice")), "{line}");

    directory.write("proxy.toml", &text(&format!("\"{two}\", \"{one}\"")));
    proxy.signal(Signal::Hup).await;
    proxy.line("read the configuration again; changed: server = ").await;
    let added = SocketAddr::new(two.ip(), proxy.serves().await.port);
    assert_eq!(fetch(added, "/file/1000").await.unwrap().length, 1000);

    directory.write("proxy.toml", &text(&format!("\"{two}\"")));
    proxy.signal(Signal::Hup).await;
    proxy.line(&format!("server {one} is not in the configuration any more")).await;
    assert_eq!(fetch(added, "/file/1000").await.unwrap().length, 1000);
    assert!(!download.has_ended(), "it was too short to show anything");
    assert_eq!(download.end("the open download").await, Ok(Fetched::from(long)));
    proxy.signal(Signal::Term).await;
    assert_eq!(proxy.exit().await.code(), Some(0), "{}", proxy.output());
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
