//! Idle connections give way to new ones; those that are in use do not.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::*;
use crate::{
    control,
    operator::ServerHandle,
    telemetry::{LogBroadcast, Telemetry},
};

/// Returns a control server with a socket in a new directory, for at most `max_connections`.
fn server(name: &str, max_connections: usize) -> (ControlServer, PathBuf) {
    let dir = std::env::temp_dir().join(format!("up-{}-{name}", std::process::id()));
    let path = dir.join("c.sock");
    let (commands, _) = control::command_queue();
    let server = ServerHandle { telemetry: Telemetry::new(), commands, log: LogBroadcast::default() };
    let process =
        ProcessHandle { drain: CancellationToken::new(), abort: CancellationToken::new(), reload: None };
    let options = ControlOptions {
        choice: SocketChoice::Path(path.clone()),
        rules: AccessRules::default(),
        hands_over: false,
        max_connections,
    };
    (ControlServer::open(options, Subject::Server(server), process).unwrap(), path)
}

/// A client that knows nothing but lines.
struct RawClient(BufReader<UnixStream>);

impl RawClient {
    /// Connects, and reads the greeting, or the refusal.
    async fn connect(path: &Path) -> (Self, Value) {
        let mut client = Self(BufReader::new(UnixStream::connect(path).await.unwrap()));
        let greeting = client.line().await.unwrap();
        (client, greeting)
    }

    /// Returns the next line; `None` at the end of the connection.
    async fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await.ok()?;
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Sends a request and returns its answer.
    async fn ask(&mut self, request: &str) -> Value {
        self.0.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        self.line().await.unwrap()
    }
}

#[tokio::test]
async fn idle_connections_give_way_and_those_in_use_do_not() {
    let (mut server, path) = server("idle", 4);
    let mut serving = JoinSet::new();
    serving.spawn(async move { server.serve().await });
    let (mut asked, _) = RawClient::connect(&path).await;
    assert_eq!(asked.ask(r#"{"id":1,"do":"whoami"}"#).await["id"], 1);
    let (mut follower, _) = RawClient::connect(&path).await;
    assert!(follower.ask(r#"{"id":1,"do":"events"}"#).await["ok"].is_object());
    let (mut watcher, _) = RawClient::connect(&path).await;
    assert!(watcher.ask(r#"{"id":7,"do":"watch","interval_ms":50,"credit":1000}"#).await["id"] == 7);
    let (mut silent, _) = RawClient::connect(&path).await;
    // The one that has never asked goes first, then the one that has, and both are told why.
    let mut clients = Vec::new();
    for idle in [&mut silent, &mut asked] {
        let (mut client, _) = RawClient::connect(&path).await;
        assert!(client.ask(r#"{"id":1,"do":"events"}"#).await["ok"].is_object());
        clients.push(client);
        let why = idle.line().await.unwrap();
        assert_eq!((&why["id"], &why["error"]["code"]), (&Value::Null, &"busy".into()), "{why}");
        assert!(idle.line().await.is_none());
    }
    // None is idle any more.
    let (_, refusal) = RawClient::connect(&path).await;
    assert_eq!(refusal["error"]["code"], "busy", "{refusal}");
    assert_eq!(watcher.line().await.unwrap()["id"], 7);
    serving.shutdown().await;
    _ = std::fs::remove_dir_all(path.parent().unwrap());
}

/// Spawns a connection of the user `key`, which ends when it has to give way.
fn connect(server: &mut ControlServer, key: u32) -> Arc<Activity> {
    let activity = Arc::new(Activity::new());
    let waiting = activity.clone();
    server.spawn(key, activity.clone(), async move { waiting.displaced().await });
    activity
}

#[tokio::test]
async fn idle_connections_of_the_owner_give_way_to_the_owner_only() {
    const OTHER: u32 = 1000;
    let (mut server, path) = server("owner", 16);
    let others: Vec<_> = (0..2).map(|_| connect(&mut server, OTHER)).collect();
    let owners: Vec<_> = (0..14).map(|_| connect(&mut server, OWNER)).collect();
    // An eighth of all is the maximum of one user.
    let maximum = server.reached_maximum(OTHER + 1).unwrap();
    assert_eq!(
        maximum.to_string(),
        "the control socket has its maximum of 16 connections; close one and try again"
    );
    assert!(server.displace_idle(OTHER + 1, maximum).await);
    assert!(others[0].order().is_none() && server.reached_maximum(OTHER + 1).is_none());
    assert!(others[1].try_begin());
    connect(&mut server, OWNER);
    let maximum = server.reached_maximum(OTHER).unwrap();
    assert!(
        !server.displace_idle(OTHER, maximum).await,
        "no idle connection of the owner may give way to others"
    );
    assert!(owners.iter().all(|activity| activity.order().is_some()));
    assert!(server.displace_idle(OWNER, maximum).await);
    assert!(owners[0].order().is_none() && owners[1].order().is_some());
    server.close().await;
    _ = std::fs::remove_dir_all(path.parent().unwrap());
}

#[tokio::test]
async fn idle_connections_of_a_user_give_way_to_its_own_new_ones() {
    const OTHER: u32 = 1000;
    let (mut server, path) = server("user", 16);
    let stranger = connect(&mut server, OTHER + 1);
    let own: Vec<_> = (0..2).map(|_| connect(&mut server, OTHER)).collect();
    let maximum = server.reached_maximum(OTHER).unwrap();
    assert!(matches!(maximum, Maximum::User(2)), "{maximum}");
    assert!(server.displace_idle(OTHER, maximum).await);
    assert!(own[0].order().is_none() && own[1].order().is_some() && stranger.order().is_some());
    assert!(server.reached_maximum(OTHER).is_none());
    server.close().await;
    _ = std::fs::remove_dir_all(path.parent().unwrap());
}

#[tokio::test]
async fn all_members_of_groups_together_have_half_of_the_connections() {
    let (mut server, path) = server("members", 16);
    for key in [1, 1, 2, 2, 3, 3, 4, 4] {
        assert!(server.reached_maximum(key).is_none());
        connect(&mut server, key);
    }
    let maximum = server.reached_maximum(5).unwrap();
    assert!(matches!(maximum, Maximum::Others(8)), "{maximum}");
    assert!(server.reached_maximum(OWNER).is_none());
    server.close().await;
    _ = std::fs::remove_dir_all(path.parent().unwrap());
}

#[tokio::test]
async fn a_further_watcher_is_told_that_there_are_too_many() {
    let (mut server, path) = server("watchers", 32);
    let mut serving = JoinSet::new();
    serving.spawn(async move { server.serve().await });
    let mut watchers = Vec::new();
    for number in 1..=17 {
        let (mut client, _) = RawClient::connect(&path).await;
        let answer = client.ask(r#"{"id":7,"do":"watch","interval_ms":50,"credit":1000}"#).await;
        assert_eq!(answer["error"]["code"] == "busy", number == 17, "watcher {number}: {answer}");
        watchers.push(client);
    }
    serving.shutdown().await;
    _ = std::fs::remove_dir_all(path.parent().unwrap());
}
