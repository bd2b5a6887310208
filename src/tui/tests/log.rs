//! The log screen: what a search finds, and that every record can be read in full.

use super::fixture::{Fixture, key_of};
use crate::{
    telemetry::{LogLevel, LogRecord},
    tui::{
        msg::Msg,
        terminal::{Key, KeyCode},
    },
};

/// Appends a record.
fn log(fixture: &mut Fixture, level: LogLevel, text: &str) {
    let record = LogRecord { epoch_ms: 3_661_000, level, target: "lifecycle".into(), text: text.to_owned() };
    fixture.model.log_screen.push(record);
}

/// Opens the log screen and searches.
fn search(fixture: &mut Fixture, words: &str) -> String {
    fixture.press("4/");
    fixture.type_in(words);
    fixture.send(Msg::Key(key_of('>')));
    fixture.text()
}

#[test]
fn a_search_finds_levels_by_name_and_words_in_any_order_and_case() {
    let mut fixture = Fixture::empty(120, 36);
    log(&mut fixture, LogLevel::Warn, "connection from 192.0.2.1:5 to the tunnel port refused: wrong token");
    log(&mut fixture, LogLevel::Warn, "registration of proxy P2 lab refused: port 80 is not allowed");
    log(
        &mut fixture,
        LogLevel::Warn,
        "user connection from 192.0.2.9:7 to service 8080:default refused: full",
    );
    log(&mut fixture, LogLevel::Info, "stream 3F9A1C:1 ended: finished");
    for words in ["WARN", "warn", "Refused", "refused PORT", "warn refused"] {
        let text = search(&mut fixture, words);
        assert!(text.contains("refused") && !text.contains("finished"), "{words}: {text}");
    }
    for (words, count) in [("WARN", 3), ("token refused", 1), ("info ended", 1), ("error", 0)] {
        let text = search(&mut fixture, words);
        let found = text.lines().filter(|line| line.contains("01:01:01Z")).count();
        assert_eq!(found, count, "{words}: {text}");
    }
}

/// A record of 600 characters, without a place to break it in its middle, is shown to its end, and paging shows each
/// record.
#[test]
fn every_record_can_be_read_in_full_on_a_small_terminal() {
    for (width, height) in [(120, 36), (80, 24), (60, 15)] {
        let mut fixture = Fixture::empty(width, height);
        for number in 0..40 {
            let long = "x".repeat(200);
            let text = format!("record {number}: {} {long} end-of-{number}", "some words ".repeat(20));
            log(&mut fixture, LogLevel::Info, &text);
        }
        let mut seen = search(&mut fixture, "record");
        for _ in 0..60 {
            fixture.send(Msg::Key(Key::plain(KeyCode::PageUp)));
            seen.push_str(&fixture.text());
        }
        for number in 0..40 {
            assert!(seen.contains(&format!("record {number}:")), "{width}: begin of {number}");
            assert!(seen.contains(&format!("end-of-{number}")), "{width}: end of {number}");
        }
        assert!(seen.matches("xxx").count() > 40, "{seen}");
        // The oldest page, and back to the newest one.
        assert!(fixture.text().contains("end-of-0"), "{}", fixture.text());
        for _ in 0..60 {
            fixture.send(Msg::Key(Key::plain(KeyCode::PageDown)));
        }
        assert!(fixture.text().contains("end-of-39"), "{}", fixture.text());
    }
}
