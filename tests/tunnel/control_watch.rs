//! `watch` on the control socket: the state of the server as it is, for as many lines as the client has granted.

use std::time::Duration;

use serde_json::json;

use crate::{
    control_socket::{RawClient, World},
    support::soon,
};
use underpass::{
    feed::{Decoded, Decoder, Item, Line},
    telemetry::Snapshot,
};

/// A client that watches.
pub(crate) struct Watching {
    client: RawClient,
    pub(crate) decoder: Decoder,
}

impl Watching {
    async fn start(world: &World, request: serde_json::Value) -> Self {
        Self::over(world.client().await, request).await
    }

    pub(crate) async fn over(client: RawClient, request: serde_json::Value) -> Self {
        let mut watching = Self { client, decoder: Decoder::default() };
        watching.send(request).await;
        watching
    }

    pub(crate) async fn send(&mut self, request: serde_json::Value) {
        self.client.send(&request.to_string()).await;
    }

    async fn line(&mut self) -> Line {
        let text = self.client.text().await.unwrap();
        Line::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Grants lines until the snapshot is as expected.
    pub(crate) async fn until(&mut self, what: &str, expected: impl Fn(&Snapshot) -> bool) {
        soon(what, async {
            while !expected(self.decoder.snapshot()) {
                self.send(json!({ "id": 5, "do": "credit", "add": 1 })).await;
                let line = self.line().await;
                self.decoder.apply(line).unwrap();
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_watcher_sees_streams_come_change_and_go() {
    let world = World::start("watch", &[]).await;
    let mut watching = Watching::start(&world, json!({ "id": 5, "do": "watch", "credit": 1 })).await;
    let first = watching.line().await;
    assert_eq!((first.id, first.seq), (Some(5), 1));
    assert_eq!(watching.decoder.apply(first).unwrap(), Decoded::Snapshot);
    let snapshot = watching.decoder.snapshot().clone();
    assert_eq!((snapshot.streams.len(), snapshot.proxies.len(), snapshot.services.len()), (1, 1, 1));
    assert_eq!(&*snapshot.proxies[0].name, "edge-1");
    let key = world.key().await;
    assert_eq!(snapshot.streams[0].key.to_string(), key);
    let down = snapshot.streams[0].down;
    watching.until("more bytes", |snapshot| snapshot.streams[0].down > down).await;
    let mut client = world.client().await;
    client.ok(&json!({ "do": "pause", "stream": key }).to_string()).await;
    watching.until("the pause", |snapshot| snapshot.streams[0].paused).await;
    client.ok(&json!({ "do": "kill", "stream": key }).to_string()).await;
    watching.until("the end", |snapshot| snapshot.streams.is_empty()).await;
}

/// Nothing is made for a client that grants nothing, and the next line is the final state.
#[tokio::test]
async fn a_watcher_without_credit_gets_nothing_and_then_the_final_state() {
    let world = World::start("credit", &[]).await;
    let mut watching =
        Watching::start(&world, json!({ "id": 5, "do": "watch", "credit": 1, "log": true })).await;
    let first = watching.line().await;
    watching.decoder.apply(first).unwrap();
    let key = world.key().await;
    let mut client = world.client().await;
    // More events and log records than are kept for a watcher.
    for _ in 0..50 {
        for _ in 0..50 {
            client.send(&json!({ "do": "pause", "stream": key }).to_string()).await;
            client.send(&json!({ "do": "resume", "stream": key }).to_string()).await;
        }
        for _ in 0..100 {
            assert_eq!(client.line().await.unwrap()["ok"]["affected_streams"], 1);
        }
    }
    client.ok(&json!({ "do": "priority", "stream": key, "priority": "urgent" }).to_string()).await;
    let nothing = tokio::time::timeout(Duration::from_millis(300), watching.line()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    watching.send(json!({ "id": 5, "do": "credit", "add": 20_000 })).await;
    let (mut missed, mut events, mut records) = (0, 0, 0);
    soon("the final state", async {
        loop {
            let line = watching.line().await;
            events += u64::from(line.event().is_some());
            records += u64::from(line.log().is_some());
            if let Some(Item::Missed(count)) = line.clone().into_item() {
                missed += count.events;
                assert!(count.log > 0 || count.events > 0, "{count:?}");
            }
            if watching.decoder.apply(line).unwrap() == Decoded::Snapshot {
                break;
            }
        }
    })
    .await;
    println!("events sent {events}, missed {missed}; log records sent {records}");
    assert_eq!(events + missed, 5001, "each event is sent or counted");
    assert!(missed > 0 && records > 0);
    assert_eq!(watching.decoder.snapshot().streams[0].priority.to_string(), "urgent");
}

/// The example of the document: one line for each line.
#[tokio::test]
async fn a_watcher_that_grants_one_line_at_a_time_gets_events_too() {
    let world = World::start("single", &[]).await;
    let mut watching = Watching::start(&world, json!({ "id": 5, "do": "watch", "credit": 1 })).await;
    let first = watching.line().await;
    watching.decoder.apply(first).unwrap();
    let key = world.key().await;
    world.client().await.ok(&json!({ "do": "pause", "stream": key }).to_string()).await;
    soon("the event and the state", async {
        let (mut has_event, mut has_state) = (false, false);
        while !(has_event && has_state) {
            watching.send(json!({ "id": 5, "do": "credit", "add": 1 })).await;
            let line = watching.line().await;
            has_event |= line.event().is_some_and(|event| event.kind.to_string().contains("pause stream"));
            watching.decoder.apply(line).unwrap();
            has_state |= watching.decoder.snapshot().streams[0].paused;
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_watch_and_one_without_a_number_are_refused() {
    let world = World::start("refused", &[]).await;
    let mut client = world.client().await;
    let error = client.ask(r#"{"id":"a","do":"watch","credit":1}"#).await;
    assert!(error["error"]["message"].to_string().contains("has to be a number"), "{error}");
    client.send(r#"{"id":5,"do":"watch","credit":0}"#).await;
    let error = client.ask(r#"{"id":6,"do":"watch","credit":1}"#).await;
    assert!(error["error"]["message"].to_string().contains("watches already"), "{error}");
    let error = client.ask(r#"{"id":6,"do":"interest","streams":[1]}"#).await;
    assert!(error["error"]["message"].to_string().contains("that of the request"), "{error}");
}
