//! A decoder rebuilds what an encoder was given, whatever changes, whichever snapshots the consumer could not take, and
//! from lines that an earlier version has written.

mod budget;
mod compatibility;
mod world;

use proptest::prelude::*;

use super::*;
use crate::telemetry::{Event, EventKind, LogLevel, LogRecord, Snapshot};
use world::World;

/// Passes a line through its JSON, as a consumer gets it.
fn carried(line: &Line) -> Line {
    let json = line.to_json().unwrap();
    let parsed = Line::parse(&json).unwrap();
    assert_eq!(parsed, *line, "{}", String::from_utf8_lossy(&json));
    parsed
}

/// Returns the snapshot with its streams sorted by number: their order says nothing.
fn sorted(snapshot: &Snapshot) -> Snapshot {
    let mut sorted = snapshot.clone();
    sorted.streams.sort_by_key(|stream| stream.number);
    sorted
}

proptest! {
    /// A consumer without credit gets no line; the next one makes good for it.
    #[test]
    fn a_decoded_snapshot_equals_the_original_whichever_are_skipped(
        seed: u64,
        is_skipped in proptest::collection::vec(any::<bool>(), 1..40),
        restart_at in 0..60usize,
    ) {
        let mut world = World::new(seed);
        let (mut encoder, mut decoder) = (Encoder::new(Pace::EXACT), Decoder::default());
        for (at, is_skipped) in is_skipped.into_iter().enumerate() {
            world.step();
            if at == restart_at {
                encoder.restart();
            }
            if !is_skipped {
                let line = encoder.snapshot(&world.snapshot, &Interest::default());
                prop_assert_eq!(decoder.apply(carried(&line)).unwrap(), Decoded::Snapshot);
                prop_assert_eq!(sorted(decoder.snapshot()), sorted(&world.snapshot));
            }
        }
    }

    /// At the pace of a screen, rows on the screen are exact and nothing is late for longer than one round.
    #[test]
    fn a_paced_decoder_is_exact_in_view_and_catches_up_with_the_rest(seed: u64, steps in 1..30usize) {
        let mut world = World::new(seed);
        let pace = Pace { counted: 2, changed: 2, keyed: 2, percentiles: 1 };
        let (mut encoder, mut decoder) = (Encoder::new(pace), Decoder::default());
        for _ in 0..steps {
            world.step();
            let viewed = |number: &u64| number.is_multiple_of(3);
            let interest = Interest {
                streams: world.snapshot.streams.iter().map(|stream| stream.number).filter(viewed).collect(),
                ..Interest::default()
            }.bounded();
            decoder.apply(carried(&encoder.snapshot(&world.snapshot, &interest))).unwrap();
            let (decoded, original) = (sorted(decoder.snapshot()), sorted(&world.snapshot));
            prop_assert_eq!(decoded.totals, original.totals);
            prop_assert_eq!(decoded.streams.len(), original.streams.len());
            for (decoded, original) in decoded.streams.iter().zip(&original.streams) {
                prop_assert_eq!(&decoded.info, &original.info);
                prop_assert!(decoded.down <= original.down && decoded.up <= original.up);
                if viewed(&original.number) {
                    prop_assert_eq!(decoded, original);
                }
            }
        }
        // Nothing changes any more. Each round takes at most one change for each row, and the steps as many more.
        for _ in 0..2 * (world.rows() + 1) {
            decoder.apply(carried(&encoder.snapshot(&world.snapshot, &Interest::default()))).unwrap();
        }
        prop_assert_eq!(sorted(decoder.snapshot()), sorted(&world.snapshot));
    }
}

/// An idle server costs a line of a few bytes.
#[test]
fn a_change_without_changes_contains_the_time_alone() {
    let mut world = World::new(1);
    (0..20).for_each(|_| world.step());
    let mut encoder = Encoder::new(Pace::EXACT);
    encoder.snapshot(&world.snapshot, &Interest::default());
    let line = encoder.snapshot(&world.snapshot, &Interest::default());
    let uptime = world.snapshot.uptime.as_micros();
    let expected = format!(r#"{{"seq":2,"changes":{{"uptime_us":{uptime}}}}}"#);
    assert_eq!(String::from_utf8(line.to_json().unwrap()).unwrap(), expected);
}

#[test]
fn items_between_snapshots_arrive_unchanged_and_in_order() {
    let mut encoder = Encoder::new(Pace::EXACT);
    let mut decoder = Decoder::default();
    let event = Event { epoch_ms: 7, kind: EventKind::TaskPanicked { task: "\"x\"\n".into() } };
    let record =
        LogRecord { epoch_ms: 8, level: LogLevel::Warn, target: "lifecycle".into(), text: "é\u{1b}".into() };
    let missed = Missed { events: 3, log: 0 };
    let lines = [encoder.event(event.clone()), encoder.log(record.clone()), encoder.missed(missed)];
    assert_eq!(lines.each_ref().map(|line| line.seq), [1, 2, 3]);
    let [first, second, third] = lines.map(|line| decoder.apply(carried(&line)).unwrap());
    assert_eq!(
        (first, second, third),
        (Decoded::Event(event), Decoded::Log(record), Decoded::Missed(missed))
    );
}

/// After a lost line the figures would be wrong without a sign of it.
#[test]
fn a_decoder_refuses_changes_after_a_gap_until_the_next_snapshot() {
    let mut world = World::new(2);
    let (mut encoder, mut decoder) = (Encoder::new(Pace::EXACT), Decoder::default());
    let mut line = |world: &mut World, is_whole| {
        world.step();
        if is_whole {
            encoder.restart();
        }
        encoder.snapshot(&world.snapshot, &Interest::default())
    };
    let first = line(&mut world, false);
    let _lost = line(&mut world, false);
    let (third, fourth, whole) = (line(&mut world, false), line(&mut world, false), line(&mut world, true));
    assert!(matches!(decoder.apply(fourth.clone()), Err(DecodeError::NoSnapshot)));
    decoder.apply(first).unwrap();
    assert!(matches!(decoder.apply(third), Err(DecodeError::Gap { expected: 2, got: 3 })));
    assert!(matches!(decoder.apply(fourth), Err(DecodeError::NoSnapshot)));
    assert_eq!(decoder.apply(whole).unwrap(), Decoded::Snapshot);
    assert_eq!(sorted(decoder.snapshot()), sorted(&world.snapshot));
}

/// Changes that do not fit are an error and never a panic.
#[test]
fn changes_that_do_not_fit_are_refused() {
    for changes in [
        r#"{"uptime_us":1,"streams":{"gone":[99]}}"#,
        r#"{"uptime_us":1,"streams":{"counters":{"steps":[99],"down":[1]}}}"#,
        r#"{"uptime_us":1,"streams":{"counters":{"steps":[],"down":[1]}}}"#,
        r#"{"uptime_us":1,"users":{"counters":{"steps":[18446744073709551615,1]}}}"#,
        r#"{"uptime_us":1,"services":{"set":[["80:default",{"down":1}]]}}"#,
        r#"{"uptime_us":1,"proxies":{"gone":["P1"]}}"#,
        r#"{"uptime_us":1,"totals":{"down":"many"}}"#,
    ] {
        let mut decoder = Decoder::default();
        decoder.apply(Line::parse(br#"{"seq":1,"snapshot":{}}"#).unwrap()).unwrap();
        let line = Line::parse(format!(r#"{{"seq":2,"changes":{changes}}}"#).as_bytes()).unwrap();
        let error = decoder.apply(line).unwrap_err();
        assert!(matches!(error, DecodeError::UnknownRow | DecodeError::Patch(_)), "{changes}: {error}");
    }
}
