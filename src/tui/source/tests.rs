//! The in-process source delivers the events that wait before a snapshot, and every reply once.

use super::*;
use crate::{
    control::{Executed, command_queue},
    ids::{StreamKey, UserChannelId},
    telemetry::LogLevel,
};

fn sample(source: &mut InProcessSource, with_log: bool) -> Vec<String> {
    let mut items = Vec::new();
    source.poll(PollRequest::Sample { with_log, selected: &[], visible: &[] }, &mut |update| {
        items.push(match update {
            SourceUpdate::Event(event) => event.kind.to_string(),
            SourceUpdate::Snapshot(snapshot) => format!("{} services", snapshot.services.len()),
            SourceUpdate::Log(record) => record.text,
            other => format!("{other:?}"),
        });
    });
    items
}

#[test]
fn events_come_before_the_snapshot_that_contains_their_effects() {
    let telemetry = Telemetry::new();
    let (control, _requests) = command_queue();
    let ring = LogRing::new();
    let mut source = InProcessSource::new(telemetry.clone(), control, ring.clone());
    let _service = telemetry.service_opened("8080".parse().unwrap());
    let record =
        LogRecord { epoch_ms: 0, level: LogLevel::Info, target: "test".into(), text: "logged".into() };
    ring.push(record);
    let opened = "service 8080:default opened";
    assert_eq!(sample(&mut source, false), [opened, "1 services"]);
    // The record was kept for a poll that asks for it.
    assert_eq!(sample(&mut source, true), ["logged", "1 services"]);
    assert_eq!(sample(&mut source, true), ["1 services"]);
}

#[test]
fn each_command_is_answered_once_under_its_id() {
    let (control, mut requests) = command_queue();
    let mut source = InProcessSource::new(Telemetry::new(), control, LogRing::new());
    let command = Command::KillStream(StreamKey::new(UserChannelId::new(1), 1));
    source.try_send(CommandId(7), command.clone()).unwrap();
    source.try_send(CommandId(8), command).unwrap();
    let replies = |source: &mut InProcessSource| {
        let mut replies = Vec::new();
        source.poll(PollRequest::Replies, &mut |update| match update {
            SourceUpdate::Reply(id, reply) => replies.push((id, reply)),
            other => panic!("{other:?}"),
        });
        replies
    };
    assert_eq!(replies(&mut source), []);
    let first = requests.try_recv().unwrap();
    first.reply.send(Ok(Executed { affected_streams: 1 })).unwrap();
    assert_eq!(replies(&mut source), [(CommandId(7), Ok(Executed { affected_streams: 1 }))]);
    // The server ends without an answer to the second one.
    drop(requests);
    assert_eq!(replies(&mut source), [(CommandId(8), Err(CommandError::ServerStopped))]);
    assert_eq!(replies(&mut source), []);
}
