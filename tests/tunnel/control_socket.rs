//! The control socket of the real program, spoken to by a raw client as `socat` is one: permissions, bounds, requests,
//! the audit trail, and the examples of `assets/control-protocol.md`.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
};

use crate::support::{
    Running,
    process::{Process, Signal, TOKEN},
    soon,
    target::{self, OriginTarget},
};
use underpass::cli::demo::DemoFile;

/// A file that is larger than what a test downloads.
const ENDLESS: DemoFile = DemoFile { seed: 1, size: 1 << 36 };

/// The runtime directory of one test, which is removed with it. A short path: that of a socket may have 107 bytes.
pub(crate) struct RuntimeDirectory(pub(crate) PathBuf);

impl RuntimeDirectory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("up-{}-{name}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        Self(path)
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.sock"))
    }

    /// Starts a server with a control socket in this directory. Returns it and the address of its tunnel port.
    pub(crate) async fn server(&self, more: &[&str]) -> (Process, SocketAddr) {
        let mut server = self.server_at("127.0.0.1:0", more);
        let addr = server.listens().await;
        (server, addr)
    }

    /// Starts a server with a control socket in this directory, and its tunnel port at `listen`.
    pub(crate) fn server_at(&self, listen: &str, more: &[&str]) -> Process {
        let args =
            ["server", "--listen", listen, "--bind", "127.0.0.1", "--no-tui", "--token", TOKEN, "--plain"];
        self.underpass(&[&args[..], more].concat())
    }

    /// Runs underpass with this runtime directory.
    pub(crate) fn underpass(&self, args: &[&str]) -> Process {
        Process::underpass_with(args, |command| {
            command.env("RUNTIME_DIRECTORY", &self.0).env_remove("UNDERPASS_CONTROL");
        })
    }

    /// Runs a command for the server to its end. Returns its exit status, stdout and stderr.
    pub(crate) async fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut process = self.underpass(args);
        let status = process.exit().await;
        (status.code().unwrap_or(-1), process.stdout(), process.stderr())
    }
}

impl Drop for RuntimeDirectory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads to the end of a connection. Returns whether it was reset.
async fn is_reset(mut socket: TcpStream) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match socket.read(&mut buffer).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A client that knows nothing but lines.
pub(crate) struct RawClient {
    reader: BufReader<tokio::net::unix::OwnedReadHalf>,
    writer: tokio::net::unix::OwnedWriteHalf,
}

impl RawClient {
    /// Connects, and returns the greeting, too.
    pub(crate) async fn connect(path: &Path) -> (Self, Value) {
        let (reader, writer) = UnixStream::connect(path).await.unwrap().into_split();
        let mut client = Self { reader: BufReader::new(reader), writer };
        let greeting = client.line().await.unwrap();
        (client, greeting)
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Returns the text of the next line; `None` at the end of the connection.
    pub(crate) async fn text(&mut self) -> Option<String> {
        let mut line = String::new();
        soon("a line", self.reader.read_line(&mut line)).await.ok().filter(|read| *read > 0)?;
        Some(line)
    }

    /// Returns the next line; `None` at the end of the connection.
    pub(crate) async fn line(&mut self) -> Option<Value> {
        let line = self.text().await?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    pub(crate) async fn ask(&mut self, line: &str) -> Value {
        self.send(line).await;
        self.line().await.unwrap()
    }

    /// Returns the content of `ok`.
    pub(crate) async fn ok(&mut self, line: &str) -> Value {
        let mut answer = self.ask(line).await;
        assert!(answer["error"].is_null(), "{line}: {answer}");
        answer["ok"].take()
    }
}

/// A server with a control socket, a proxy with an origin, and one download that does not end.
pub(crate) struct World {
    pub(crate) directory: RuntimeDirectory,
    pub(crate) server: Process,
    proxy: Process,
    _origin: OriginTarget,
    pub(crate) public: SocketAddr,
    /// The user, who reads; whether the connection was reset.
    user: Running<bool>,
}

impl World {
    pub(crate) async fn start(name: &str, more: &[&str]) -> Self {
        let directory = RuntimeDirectory::new(name);
        let (server, addr) = directory.server(more).await;
        let origin = target::origin(Some(2_000_000)).await;
        let (to, addr) = (origin.addr.to_string(), addr.to_string());
        let args = [
            "proxy", "--server", &addr, "--port", "0", "--to", &to, "--token", TOKEN, "--plain", "--name",
            "edge-1",
        ];
        let mut proxy = Process::underpass(&args);
        let public = SocketAddr::from(([127, 0, 0, 1], proxy.serves().await.port));
        let user = Self::download(public).await;
        Self { directory, server, proxy, _origin: origin, public, user }
    }

    /// Starts a download that does not end, and waits for its first bytes. Returns whether it was reset.
    pub(crate) async fn download(public: SocketAddr) -> Running<bool> {
        let mut user = TcpStream::connect(public).await.unwrap();
        user.write_all(format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", ENDLESS.path()).as_bytes())
            .await
            .unwrap();
        let mut first = vec![0; 1000];
        soon("the first bytes", user.read_exact(&mut first)).await.unwrap();
        Running::start(is_reset(user))
    }

    pub(crate) async fn client(&self) -> RawClient {
        RawClient::connect(&self.directory.socket("server")).await.0
    }

    /// Returns the key of the only open stream.
    pub(crate) async fn key(&self) -> String {
        let streams = self.client().await.ok(r#"{"do":"ps"}"#).await;
        assert_eq!(streams["streams"].as_array().unwrap().len(), 1, "{streams}");
        streams["streams"][0]["key"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn the_server_greets_and_its_socket_is_for_its_user_alone() {
    let directory = RuntimeDirectory::new("greet");
    let (mut server, _) = directory.server(&[]).await;
    let path = directory.socket("server");
    server.line(&format!("control socket {}", path.display())).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&path), mode(&directory.0)), (0o600, 0o700));
    let (mut client, greeting) = RawClient::connect(&path).await;
    assert_eq!(greeting["underpass"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&greeting["protocol"], &greeting["role"]), (&json!(1), &json!("server")));
    let boot = greeting["boot"].as_str().unwrap();
    assert!(boot.len() == 16 && boot.bytes().all(|digit| digit.is_ascii_hexdigit()), "{greeting}");
    let me = client.ok(r#"{"id":7,"do":"whoami"}"#).await;
    assert_eq!((&me["pid"], &me["access"]), (&json!(std::process::id()), &json!("operate")));
    let state = client.ok(r#"{"do":"state"}"#).await;
    assert_eq!((&state["draining"], &state["pid"]), (&json!(false), &json!(server.pid())));
    server.signal(Signal::Term).await;
    assert_eq!(server.exit().await.code(), Some(0), "{}", server.output());
    assert!(!path.exists(), "the socket is removed at the end");
    assert_eq!(client.line().await, None);
}

#[tokio::test]
async fn lists_have_the_rows_of_the_cockpit() {
    let world = World::start("lists", &[]).await;
    let mut client = world.client().await;
    let streams =
        client.ok(r#"{"id":1,"do":"ps","filter":"proxy=edge-1 down>1 !state:wait","over_ms":200}"#).await;
    let row = &streams["streams"][0];
    assert_eq!((&row["proxy_name"], &row["state"]), (&json!("edge-1"), &json!("open")), "{streams}");
    assert!(row["down_rate"].as_u64().unwrap() > 1, "{row}");
    assert!(row["content"].as_str().unwrap().starts_with("GET /"), "{row}");
    assert_eq!((&streams["open"], &streams["matching"]), (&json!(1), &json!(1)));
    let none = client.ok(r#"{"do":"ps","filter":"proxy=edge-10"}"#).await;
    assert_eq!((&none["open"], &none["matching"]), (&json!(1), &json!(0)), "{none}");
    let proxies = client.ok(r#"{"do":"proxies"}"#).await;
    assert_eq!(proxies["proxies"][0]["name"], "edge-1", "{proxies}");
    assert!(!client.ok(r#"{"do":"channels"}"#).await["channels"].as_array().unwrap().is_empty());
    let service = format!("{}:default", world.public.port());
    assert_eq!(client.ok(r#"{"do":"services"}"#).await["services"][0]["service"], service.as_str());
    assert_eq!(client.ok(r#"{"do":"users"}"#).await["users"][0]["address"], "127.0.0.1");
    assert_eq!(client.ok(r#"{"do":"totals"}"#).await["streams"], 1);
}

#[tokio::test]
async fn a_change_is_performed_and_audited_with_who_what_and_outcome() {
    let mut world = World::start("audit", &[]).await;
    let key = world.key().await;
    let mut client = world.client().await;
    assert_eq!(client.ok(&format!(r#"{{"do":"pause","stream":"{key}"}}"#)).await["affected_streams"], 1);
    assert_eq!(client.ok(r#"{"do":"ps"}"#).await["streams"][0]["state"], "paused");
    client.ok(&format!(r#"{{"do":"resume","stream":"{key}"}}"#)).await;
    client.ok(&format!(r#"{{"do":"limit","target":"{key}","down":"500K"}}"#)).await;
    assert_eq!(client.ok(r#"{"do":"ps"}"#).await["streams"][0]["limit_down"], 500_000);
    client.ok(&format!(r#"{{"do":"priority","stream":"{key}","priority":"high"}}"#)).await;
    client.ok(r#"{"do":"drain","proxy":"edge-1"}"#).await;
    assert_eq!(client.ok(r#"{"do":"proxies"}"#).await["proxies"][0]["state"], "drain");
    client.ok(r#"{"do":"undrain","proxy":"P1"}"#).await;
    client.ok(r#"{"do":"weight","proxy":"edge-1","weight":3}"#).await;
    client
        .ok(&format!(r#"{{"do":"policy","service":"{}","policy":"peak-ewma"}}"#, world.public.port()))
        .await;
    assert_eq!(client.ok(r#"{"do":"services"}"#).await["services"][0]["policy"], "peak-ewma");
    client.ok(&format!(r#"{{"do":"kill","stream":"{key}"}}"#)).await;
    assert!(world.user.end("the download").await);
    let error = client.ask(&format!(r#"{{"id":9,"do":"kill","stream":"{key}"}}"#)).await;
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(9), &json!("not-found")), "{error}");
    let uid = fs::metadata(world.directory.socket("server")).unwrap().uid();
    let who = format!("uid={uid} pid={}", std::process::id());
    let pause = world.server.line(&format!("operator: pause stream {key}")).await;
    assert!(pause.contains(&format!("{who} streams=1")), "{pause}");
    let first = world.server.line(&format!("operator: kill stream {key}")).await;
    assert!(first.contains(&format!("{who} streams=1")), "{first}");
    let second = world.server.line(&format!("operator: kill stream {key}")).await;
    assert!(second.contains(&who) && second.contains("failed="), "{second}");
    drop(world.proxy);
}

#[tokio::test]
async fn events_follow_until_the_credit_is_used() {
    let world = World::start("events", &[]).await;
    let mut follower = world.client().await;
    assert_eq!(follower.ask(r#"{"id":2,"do":"events","credit":1}"#).await, json!({ "id": 2, "ok": {} }));
    let key = world.key().await;
    let mut operator = world.client().await;
    operator.ok(&format!(r#"{{"do":"pause","stream":"{key}"}}"#)).await;
    operator.ok(&format!(r#"{{"do":"resume","stream":"{key}"}}"#)).await;
    let paused = follower.line().await.unwrap();
    assert_eq!(paused["id"], 2);
    assert!(paused["event"].to_string().contains("pause"), "{paused}");
    // The next line is the answer to the next request: no event without credit.
    follower.ok(r#"{"id":3,"do":"totals"}"#).await;
    follower.send(r#"{"id":2,"do":"credit","add":5}"#).await;
    let resumed = follower.line().await.unwrap();
    assert!(resumed["event"].to_string().contains("resume"), "{resumed}");
}

#[tokio::test]
async fn a_banned_network_is_refused_until_it_is_unbanned() {
    let mut world = World::start("ban", &[]).await;
    let mut client = world.client().await;
    assert_eq!(client.ok(r#"{"do":"ban","network":"127.0.0.0/8"}"#).await["affected_streams"], 1);
    assert!(world.user.end("the download").await);
    let refused = TcpStream::connect(world.public).await.unwrap();
    assert!(soon("the end of the refused connection", is_reset(refused)).await);
    world.server.line("banned by the operator").await;
    assert_eq!(client.ok(r#"{"do":"bans"}"#).await["networks"], json!(["127.0.0.0/8"]));
    let other = client.ask(r#"{"do":"unban","network":"127.0.0.1"}"#).await;
    assert_eq!(other["error"]["code"], "not-found", "{other}");
    client.ok(r#"{"do":"unban","network":"127.0.0.0/8"}"#).await;
    World::download(world.public).await;
}

#[tokio::test]
async fn broken_requests_are_answered_and_only_a_long_line_ends_the_connection() {
    let directory = RuntimeDirectory::new("broken");
    let (_server, _) = directory.server(&[]).await;
    let (mut client, _) = RawClient::connect(&directory.socket("server")).await;
    for (line, code) in [
        ("hello", "invalid-json"),
        (r#"{"id":1,"do":"frobnicate"}"#, "unknown-request"),
        (r#"{"id":1,"do":"kill"}"#, "invalid-request"),
    ] {
        assert_eq!(client.ask(line).await["error"]["code"], code, "{line}");
    }
    assert_eq!(client.ok(r#"{"id":1,"do":"totals","unknown":{"field":[true]}}"#).await["streams"], 0);
    let long = format!(r#"{{"do":"ps","filter":"{}"}}"#, "x".repeat(1 << 20));
    // It may be closed before all of it is written.
    _ = client.writer.write_all(long.as_bytes()).await;
    let error = client.line().await.unwrap();
    assert_eq!(error["error"]["code"], "line-too-long", "{error}");
    assert_eq!(client.line().await, None);
    let (mut next, _) = RawClient::connect(&directory.socket("server")).await;
    next.ok(r#"{"do":"totals"}"#).await;
}

/// A client that does not read costs nothing: others are served, and so are the streams.
#[tokio::test]
async fn a_hundred_clients_are_served_while_one_reads_nothing() {
    let world = World::start("hundred", &[]).await;
    let path = world.directory.socket("server");
    let stalled = UnixStream::connect(&path).await.unwrap();
    let requests = r#"{"do":"ps"}"#.to_owned() + "\n";
    // Until neither the server nor the kernel takes more.
    let mut sent = 0;
    loop {
        stalled.writable().await.unwrap();
        let writing = tokio::time::timeout(std::time::Duration::from_millis(300), async {
            loop {
                stalled.writable().await.unwrap();
                match stalled.try_write(requests.as_bytes()) {
                    Ok(written) => return written,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        match writing.await {
            Ok(written) => sent += written,
            Err(_) => break,
        }
    }
    println!("the stalled client sent {sent} bytes of requests");
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(RawClient::connect(&path).await.0);
    }
    for (id, client) in clients.iter_mut().enumerate() {
        client.send(&json!({ "id": id, "do": "ps" }).to_string()).await;
    }
    for (id, client) in clients.iter_mut().enumerate() {
        let answer = client.line().await.unwrap();
        assert_eq!(answer["id"], id);
        assert_eq!(answer["ok"]["streams"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn more_connections_than_the_maximum_are_told_so() {
    let directory = RuntimeDirectory::new("maximum");
    let (_server, _) = directory.server(&[]).await;
    let path = directory.socket("server");
    let mut clients = Vec::new();
    for _ in 0..128 {
        clients.push(RawClient::connect(&path).await.0);
    }
    // Idle ones give way.
    for _ in 0..128 {
        let (mut client, greeting) = RawClient::connect(&path).await;
        assert_eq!(greeting["access"], "operate", "{greeting}");
        client.send(r#"{"id":1,"do":"events"}"#).await;
        assert!(client.line().await.unwrap()["ok"].is_object());
        clients.push(client);
    }
    let (_, refusal) = RawClient::connect(&path).await;
    assert_eq!(refusal["error"]["code"], "busy", "{refusal}");
    drop(clients);
    // The places are free again once the server has noticed.
    soon("a free place", async {
        while RawClient::connect(&path).await.1["error"]["code"] == "busy" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
