//! Which records of the time before the log of an attached cockpit gets.

use super::*;
use crate::telemetry::{Event, EventKind};

/// 2026-11-28, 12:00:00 UTC.
const NOON_MS: u64 = 1_795_867_200_000;

/// A refusal that happened so many milliseconds after noon.
fn refused(port: u16, after_ms: u64) -> Event {
    let (addr, service) = (([192, 0, 2, 7], port).into(), "8080".parse().unwrap());
    let kind = EventKind::UserRejected { addr, service, reason: "banned".to_owned() };
    Event { epoch_ms: NOON_MS + after_ms, kind }
}

/// What a server has kept.
fn kept(events: &[Event]) -> RecentFailures {
    RecentFailures { events: events.to_vec(), dropped: 0 }
}

/// The record that the server logs for an event, which it takes a moment later.
fn logged(event: &Event) -> LogRecord {
    LogRecord {
        epoch_ms: event.epoch_ms + 1,
        level: LogLevel::Warn,
        target: LIFECYCLE_TARGET.into(),
        text: event.kind.to_string(),
    }
}

#[test]
fn records_have_the_time_of_the_event_and_the_date_of_another_day() {
    let event = refused(1, 0);
    let of_today = Earlier::default().take(kept(std::slice::from_ref(&event)), NOON_MS + 1000);
    assert_eq!(of_today[0].epoch_ms, NOON_MS);
    assert_eq!(of_today[0].text, "user connection from 192.0.2.7:1 to service 8080:default refused: banned");
    let of_yesterday = Earlier::default().take(kept(&[event]), NOON_MS + 86_400_000);
    assert_eq!(of_yesterday[0].text, format!("2026-11-28 {}", of_today[0].text));
}

#[test]
fn what_is_kept_and_logged_as_well_is_in_the_log_once() {
    let mut earlier = Earlier::default();
    let (first, second) = (refused(1, 0), refused(2, 10));
    assert_eq!(earlier.take(kept(&[first, second.clone()]), NOON_MS).len(), 2);
    assert!(earlier.has(&logged(&second)));
    assert!(!earlier.has(&logged(&second)), "the same again is another one");
    assert!(!earlier.has(&logged(&refused(3, 20))));
}

#[test]
fn after_a_reconnect_only_what_happened_meanwhile_is_added() {
    let mut earlier = Earlier::default();
    let (first, second, third) = (refused(1, 0), refused(2, 5000), refused(3, 9000));
    earlier.take(kept(std::slice::from_ref(&first)), NOON_MS);
    assert!(!earlier.has(&logged(&second)));
    let after = earlier.take(kept(&[first.clone(), second.clone(), third.clone()]), NOON_MS);
    assert_eq!(after.iter().map(|record| record.epoch_ms).collect::<Vec<_>>(), [third.epoch_ms]);
    // Another process numbers nothing on from this one.
    earlier.reset();
    assert_eq!(earlier.take(kept(&[first, second, third]), NOON_MS).len(), 3);
}

#[test]
fn the_log_says_how_much_it_lacks() {
    let recent = RecentFailures { events: vec![refused(1, 0)], dropped: 7 };
    let records = Earlier::default().take(recent, NOON_MS);
    assert_eq!(records.len(), 2);
    assert!(records[0].text.starts_with("7 older refusals and failures are not kept"), "{}", records[0].text);
}
