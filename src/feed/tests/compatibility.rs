//! Lines that earlier versions have written are understood for good, and lines of later ones as far as they can be.

use super::{super::*, carried, sorted, world::World};

/// The file with the lines that version 0.1 wrote of the world with the seed 19.
const LINES_0_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/feed/tests/lines-0.1.jsonl");

/// Returns the lines that this version writes of the same world.
fn lines_of_this_version() -> Vec<Line> {
    let mut world = World::new(19);
    let mut encoder = Encoder::new(Pace::EXACT);
    (0..8)
        .map(|_| {
            (0..4).for_each(|_| world.step());
            encoder.snapshot(&world.snapshot, &Interest::default())
        })
        .collect()
}

#[test]
fn lines_of_version_0_1_mean_the_same() {
    let (mut of_0_1, mut of_this) = (Decoder::default(), Decoder::default());
    let new = lines_of_this_version();
    let old = std::fs::read_to_string(LINES_0_1).unwrap();
    assert_eq!(old.lines().count(), new.len());
    for (old, new) in old.lines().zip(new) {
        of_0_1.apply(Line::parse(old.as_bytes()).unwrap()).unwrap();
        of_this.apply(carried(&new)).unwrap();
        assert_eq!(sorted(of_0_1.snapshot()), sorted(of_this.snapshot()));
    }
}

/// The file with the events of each kind, each reason of an end, and the log records that version 0.1 has written.
const ITEMS_0_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/feed/tests/items-0.1.jsonl");

/// What this version makes of each line is what it would write itself: no field is lost, and none has another name.
/// Each kind of event has a line; one that is added gets one.
#[test]
fn events_and_log_records_of_version_0_1_mean_the_same() {
    let (mut kinds, mut records, mut missed) = (std::collections::BTreeSet::new(), 0, 0);
    for line in std::fs::read_to_string(ITEMS_0_1).unwrap().lines() {
        let parsed = Line::parse(line.as_bytes()).unwrap();
        let again: serde_json::Value = serde_json::from_slice(&parsed.to_json().unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(line).unwrap());
        match parsed.into_item() {
            Some(Item::Event(event)) => _ = kinds.insert(event.kind.name()),
            Some(Item::Log(_)) => records += 1,
            Some(Item::Missed(_)) => missed += 1,
            other => panic!("{line}: {other:?}"),
        }
    }
    let error = serde_json::from_str::<crate::telemetry::EventKind>("\"none\"").unwrap_err().to_string();
    let all: std::collections::BTreeSet<&str> = error.split('`').skip(3).step_by(2).collect();
    assert_eq!(kinds, all);
    assert_eq!((records, missed), (5, 2));
}

#[test]
fn unknown_fields_and_lines_are_ignored() {
    let mut decoder = Decoder::default();
    for (line, expected) in [
        (
            r#"{"seq":1,"later":1,"snapshot":{"uptime_us":5,"later":{"x":[]},"totals":{"later":2,"down":3}}}"#,
            "Snapshot",
        ),
        (r#"{"seq":2,"something":{"else":true}}"#, "Unknown"),
        (r#"{"seq":3,"event":{"epoch_ms":1,"kind":{"later_kind":{"x":1}}}}"#, "Unknown"),
        (r#"{"seq":4,"event":{"epoch_ms":1,"kind":{"user_left":{"user":"3F9A1C","later":1}}}}"#, "Event"),
        (r#"{"seq":5,"changes":{"uptime_us":9,"later":7,"totals":{"up":4}}}"#, "Snapshot"),
    ] {
        let decoded = decoder.apply(Line::parse(line.as_bytes()).unwrap()).unwrap();
        assert!(format!("{decoded:?}").starts_with(expected), "{line}: {decoded:?}");
    }
    let totals = decoder.snapshot().totals;
    assert_eq!((totals.down, totals.up, decoder.snapshot().uptime.as_micros()), (3, 4, 9));
}

/// A server of a later version stays watchable: rows with its words are left out, and come back once they have known
/// ones.
#[test]
fn rows_with_words_of_a_later_version_are_left_out_and_the_line_is_understood() {
    let stream = |number: u64, phase: &str, down: u64| {
        format!(
            r#"{{"number":{number},"key":"3F9A1C:{number}","addr":"192.0.2.1:4000","service":"8080:default","opened_at_us":1,"changes":1,"down":{down},"phase":"{phase}"}}"#
        )
    };
    let service = |key: &str, policy: &str| {
        format!(
            r#"{{"key":"{key}","down":1,"up":0,"streams_open":0,"streams_total":0,"policy":"{policy}","limits":{{}},"latency":{{}}}}"#
        )
    };
    let mut decoder = Decoder::default();
    let mut apply = |line: String| {
        let decoded =
            decoder.apply(Line::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}")));
        assert_eq!(decoded.unwrap_or_else(|error| panic!("{error}: {line}")), Decoded::Snapshot, "{line}");
        let snapshot = decoder.snapshot();
        let streams: Vec<_> =
            sorted(snapshot).streams.iter().map(|stream| (stream.number, stream.down)).collect();
        let services: Vec<_> = snapshot.services.iter().map(|service| service.key.port).collect();
        (streams, services, decoder.unknown_rows())
    };
    let (known, later) = (stream(1, "open", 10), stream(2, "hibernating", 20));
    let (two, one) = (service("8081", "by-the-moon"), service("8080", "round-robin"));
    assert_eq!(
        apply(format!(
            r#"{{"seq":1,"snapshot":{{"uptime_us":5,"services":[{one},{two}],"streams":[{later},{known}]}}}}"#
        )),
        (vec![(1, 10)], vec![8080], 2)
    );
    // Counters of a row that was left out, and of one that was not.
    assert_eq!(
        apply(
            r#"{"seq":2,"changes":{"uptime_us":6,"streams":{"counters":{"steps":[1,1],"down":[5,5]}}}}"#
                .to_owned()
        ),
        (vec![(1, 15)], vec![8080], 2)
    );
    // A row that is known becomes one that is not, as a row and as a patch.
    let (changed, back) = (stream(1, "hibernating", 16), stream(2, "open", 30));
    assert_eq!(
        apply(format!(
            r#"{{"seq":3,"changes":{{"uptime_us":7,"streams":{{"rows":[{changed},{back}]}},"services":{{"set":[["8080:default",{{"policy":"by-the-moon"}}]]}}}}}}"#
        )),
        (vec![(2, 30)], vec![], 4)
    );
    assert_eq!(
        apply(r#"{"seq":4,"changes":{"uptime_us":8,"streams":{"gone":[1]},"services":{"gone":["8080:default","8081:default"]}}}"#.to_owned()),
        (vec![(2, 30)], vec![], 4)
    );
    // The next whole state has nothing unknown: from then on every row has to be there again.
    assert_eq!(
        apply(format!(r#"{{"seq":5,"snapshot":{{"uptime_us":9,"services":[{one}],"streams":[{known}]}}}}"#)),
        (vec![(1, 10)], vec![8080], 0)
    );
    let gone = Line::parse(br#"{"seq":6,"changes":{"uptime_us":10,"streams":{"gone":[7]}}}"#).unwrap();
    assert!(decoder.apply(gone).is_err());
}

/// A state that is understood in part would be shown as if it were whole.
#[test]
fn a_state_that_is_not_understood_is_an_error() {
    for line in [
        r#"{"seq":1,"snapshot":{"services":[{"key":"8080:default"}]}}"#,
        r#"{"seq":1,"changes":{"uptime_us":"x"}}"#,
        r#"{"snapshot":{}"#,
        "[]",
        r#"{"later":1,"event":{"kind":"x"}}"#,
    ] {
        assert!(Line::parse(line.as_bytes()).is_err(), "{line}");
    }
}
