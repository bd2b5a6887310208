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
