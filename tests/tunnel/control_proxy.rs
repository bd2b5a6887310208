//! The control socket of a real proxy: its streams, users and links, and what an operator can do to them there.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::{Value, json};
use underpass::telemetry::Bottleneck;

use crate::{
    control_socket::{RawClient, RuntimeDirectory, World},
    control_watch::Watching,
    support::{
        Running,
        process::{Process, TOKEN},
        soon,
        target::{self, OriginTarget},
    },
};

/// A server and a proxy with control sockets, an origin, and one download that does not end.
struct ObservedProxy {
    directory: RuntimeDirectory,
    running: Process,
    proxy: Process,
    _origin: OriginTarget,
    /// The address of the tunnel port.
    server: String,
    /// Whether the connection of the user was reset, once it has ended.
    user: Running<bool>,
}

impl ObservedProxy {
    async fn start(name: &str) -> Self {
        let directory = RuntimeDirectory::new(name);
        let (running, server) = directory.server(&[]).await;
        let origin = target::origin(Some(2_000_000)).await;
        let (to, server) = (origin.addr.to_string(), server.to_string());
        let args = ["proxy", "--server", &server, "--port", "0", "--to", &to, "--token", TOKEN, "--plain"];
        let mut proxy = directory.underpass(&args);
        let public = SocketAddr::from(([127, 0, 0, 1], proxy.serves().await.port));
        let user = World::download(public).await;
        Self { directory, running, proxy, _origin: origin, server, user }
    }

    fn socket(&self) -> PathBuf {
        self.directory.socket("proxy")
    }

    async fn client(&self) -> RawClient {
        RawClient::connect(&self.socket()).await.0
    }
}

/// Returns the only row of a list.
async fn only(client: &mut RawClient, request: &str, name: &str) -> Value {
    let mut list = client.ok(request).await;
    assert_eq!(list[name].as_array().map(Vec::len), Some(1), "{list}");
    list[name][0].take()
}

#[tokio::test]
async fn a_proxy_lists_its_streams_under_the_keys_of_the_server_and_leaves_out_what_it_does_not_know() {
    let world = ObservedProxy::start("plists").await;
    let mut client = world.client().await;
    let (mut server, _) = RawClient::connect(&world.directory.socket("server")).await;
    let theirs = only(&mut server, r#"{"do":"ps"}"#, "streams").await;
    let ours = only(&mut client, r#"{"do":"ps","over_ms":200}"#, "streams").await;
    for same in ["key", "address", "service", "state"] {
        assert_eq!(ours[same], theirs[same], "{same}");
    }
    assert_eq!(
        (&ours["priority"], &ours["content"], &ours["limit_down"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(ours["proxy_name"], world.server, "the server takes the place of a proxy");
    assert!(ours["down"].as_u64() > Some(0) && ours["down_rate"].as_u64() > Some(0), "{ours}");
    let filtered = client.ok(r#"{"do":"ps","filter":"down>1 state:open","sort":"down","over_ms":100}"#).await;
    assert_eq!(filtered["matching"], 1);
    let link = only(&mut client, r#"{"do":"proxies"}"#, "proxies").await;
    assert_eq!(
        (&link["name"], &link["streams"], &link["weight"]),
        (&json!(world.server), &json!(1), &Value::Null)
    );
    assert_eq!(link["services"], json!([ours["service"]]));
    let channels = client.ok(r#"{"do":"channels"}"#).await;
    let channels = channels["channels"].as_array().unwrap();
    let sum = |field: &str| channels.iter().filter_map(|channel| channel[field].as_u64()).sum::<u64>();
    assert!(sum("sent") >= ours["down"].as_u64().unwrap() && sum("received") > 0, "{channels:?}");
    assert_eq!(sum("streams"), 1);
    let user = only(&mut client, r#"{"do":"users"}"#, "users").await;
    assert_eq!((&user["address"], &user["streams"]), (&json!("127.0.0.1"), &json!(1)));
    let totals = client.ok(r#"{"do":"totals"}"#).await;
    assert_eq!((&totals["streams"], &totals["users"]), (&json!(1), &json!(1)));
    for (list, expected) in
        [("streams", "SERVER"), ("proxies", "LINK"), ("channels", "P1/1"), ("users", "127.0.0.1")]
    {
        let (code, output, errors) = world.directory.run(&["ps", list, "--control", "proxy"]).await;
        assert!(code == 0 && output.contains(expected), "{list}: {output}{errors}");
        assert!(!output.contains("PRIO") && !output.contains("WEIGHT"), "{output}");
    }
}

#[tokio::test]
async fn an_operator_of_a_proxy_pauses_and_kills_its_streams_and_is_sent_to_the_server_for_the_rest() {
    let mut world = ObservedProxy::start("pacts").await;
    let (mut client, mut follower) = (world.client().await, world.client().await);
    follower.ok(r#"{"id":1,"do":"events"}"#).await;
    let key = only(&mut client, r#"{"do":"ps"}"#, "streams").await["key"].clone();
    for (request, state) in [("pause", "paused"), ("resume", "open")] {
        client.ok(&json!({ "do": request, "stream": key }).to_string()).await;
        assert_eq!(only(&mut client, r#"{"do":"ps"}"#, "streams").await["state"], state);
    }
    for refused in [
        json!({ "do": "limit", "target": key, "down": "1M" }),
        json!({ "do": "priority", "stream": key, "priority": "high" }),
        json!({ "do": "drain", "proxy": "P1" }),
        json!({ "do": "ban", "network": "192.0.2.0/24" }),
    ] {
        let error = client.ask(&refused.to_string()).await["error"].take();
        assert_eq!(error["code"], "unsupported", "{refused}: {error}");
        assert!(error["message"].to_string().contains("its server"), "{error}");
    }
    client.ok(&json!({ "do": "kill", "stream": key }).to_string()).await;
    assert!(world.user.end("the reset").await, "a killed stream is reset");
    let ended = soon("the end", async {
        loop {
            let line = follower.line().await.unwrap();
            if !line["event"]["kind"]["stream_ended"].is_null() {
                return line;
            }
        }
    })
    .await;
    assert_eq!(ended["event"]["kind"]["stream_ended"]["reason"], "killed", "{ended}");
    let gone = client.ask(&json!({ "do": "kill", "stream": key }).to_string()).await;
    assert_eq!(gone["error"]["code"], "not-found", "{gone}");
    // The log of the proxy has the audit, and no second line about what it logs in its own words.
    world.proxy.line(&format!("operator: kill stream {} uid=", key.as_str().unwrap())).await;
    assert!(!world.proxy.output().contains("stream_ended") && !world.proxy.output().contains("opened from"));
}

/// Both sides of the link measure how a stream flows; what a proxy sends is the download, and its socket the target's.
#[tokio::test]
async fn the_details_of_a_stream_at_a_proxy_name_the_bottleneck_as_the_server_does() {
    let world = ObservedProxy::start("pflow").await;
    let request = json!({ "id": 5, "do": "watch", "credit": 1 });
    let mut watching = Watching::over(world.client().await, request).await;
    watching.until("the stream", |snapshot| snapshot.streams.len() == 1).await;
    let number = watching.decoder.snapshot().streams[0].number;
    watching.send(json!({ "id": 5, "do": "interest", "selected": [number] })).await;
    // The origin sends 2 MB/s, and the user reads all of it.
    watching
        .until("the target as the bottleneck", |snapshot| {
            let selected = snapshot.selected.first().map(|selected| &selected.details);
            selected.is_some_and(|flow| {
                flow.download_bottleneck == Some(Bottleneck::Target)
                    && flow.upload_bottleneck.is_none()
                    && flow.download_window > 0
                    && flow.upload_window > 0
                    && flow.upload_in_flight == 0
                    && flow.connect_latency.is_some()
            })
        })
        .await;
    let key = watching.decoder.snapshot().streams[0].key.to_string();
    world.client().await.ok(&json!({ "do": "pause", "stream": key }).to_string()).await;
    watching
        .until("the operator as the bottleneck", |snapshot| {
            let selected = snapshot.selected.first().map(|selected| &selected.details);
            selected.is_some_and(|flow| flow.download_bottleneck == Some(Bottleneck::Operator))
        })
        .await;
}

#[tokio::test]
async fn a_watcher_of_a_proxy_sees_its_streams_and_the_loss_of_its_server() {
    let mut world = ObservedProxy::start("pwatch").await;
    let request = json!({ "id": 5, "do": "watch", "credit": 1, "log": true });
    let mut watching = Watching::over(world.client().await, request).await;
    watching.until("the stream", |snapshot| snapshot.streams.len() == 1).await;
    let down = watching.decoder.snapshot().streams[0].down;
    watching.until("more bytes", |snapshot| snapshot.streams[0].down > down).await;
    let snapshot = watching.decoder.snapshot();
    assert_eq!(
        (&*snapshot.proxies[0].name, snapshot.users.len(), snapshot.services.len()),
        (&*world.server, 1, 1)
    );
    assert!(
        snapshot.streams[0].channel.is_some()
            && snapshot.proxies[0].channels.iter().any(|one| one.tcp.is_some())
    );
    world.running.kill_9().await;
    watching
        .until("the grace period", |snapshot| {
            snapshot
                .proxies
                .iter()
                .all(|server| server.grace_remaining.is_some() || server.channels.is_empty())
        })
        .await;
}
