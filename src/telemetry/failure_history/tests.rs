//! What is kept of refusals and failures, and what is dropped.

use std::time::Duration;

use super::*;
use crate::{
    ids::ProxyId,
    telemetry::{Content, Telemetry},
};

/// A user that was refused.
fn refused_user(port: u16, reason: &str) -> EventKind {
    EventKind::UserRejected {
        addr: ([192, 0, 2, 7], port).into(),
        service: "8080".parse().unwrap(),
        reason: reason.to_owned(),
    }
}

/// A handshake that failed.
fn failed_handshake(port: u16) -> EventKind {
    let (addr, reason) = (([198, 51, 100, 1], port).into(), "no handshake".to_owned());
    EventKind::HandshakeFailed { addr, reason, is_refusal: false }
}

/// A stream that ended for this reason.
fn ended(reason: EndReason) -> EventKind {
    EventKind::StreamEnded {
        key: "3F9A1C:1".parse().unwrap(),
        reason,
        shortfall: None,
        down: 1,
        up: 1,
        addr: ([192, 0, 2, 7], 1).into(),
        service: "8080".parse().unwrap(),
        proxy: None,
        proxy_name: None,
        lasted: Duration::ZERO,
        time_to_first_byte: None,
        content: Some(std::sync::Arc::new(Content::Tcp)),
    }
}

/// Keeps these events.
fn history(kinds: impl IntoIterator<Item = EventKind>) -> FailureHistory {
    let history = FailureHistory::default();
    kinds.into_iter().for_each(|kind| history.keep(&Event { epoch_ms: 1, kind }));
    history
}

#[test]
fn refusals_and_failures_are_kept_in_their_order() {
    let lost = |reason| EventKind::ProxyDisconnected { proxy: ProxyId(1), name: "edge".to_owned(), reason };
    let kept = history([
        refused_user(1, "banned"),
        ended(EndReason::Finished),
        failed_handshake(2),
        lost(DisconnectReason::Kicked),
        lost(DisconnectReason::KeepaliveTimeout),
        refused_user(3, "banned"),
    ])
    .recent();
    let names: Vec<_> = kept.events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(names, ["user_rejected", "handshake_failed", "proxy_disconnected", "user_rejected"]);
    assert_eq!(kept.dropped, 0);
}

#[test]
fn a_flood_of_handshakes_displaces_no_refused_user() {
    let scanned = (0..1000).map(failed_handshake);
    let kept = history(std::iter::once(refused_user(7, "banned")).chain(scanned)).recent();
    assert_eq!(kept.events.len(), 1 + MAX_OF_GROUP);
    assert_eq!(kept.events[0].kind, refused_user(7, "banned"));
    assert_eq!(kept.events[MAX_OF_GROUP].kind, failed_handshake(999), "the newest ones are kept");
    assert_eq!(kept.dropped, 1000 - MAX_OF_GROUP as u64);
}

#[test]
fn what_is_kept_has_a_bounded_size_and_no_content() {
    let kept = history([refused_user(1, &"ä".repeat(10_000)), ended(EndReason::NoProxy)]).recent();
    let EventKind::UserRejected { reason, .. } = &kept.events[0].kind else { panic!() };
    assert_eq!(reason.chars().count(), MAX_REASON_CHARS + 1);
    assert!(matches!(&kept.events[1].kind, EventKind::StreamEnded { content: None, .. }));
}

#[test]
fn what_the_log_suppresses_is_counted() {
    let telemetry = Telemetry::new();
    let refusals = 500;
    (0..refusals).for_each(|port| _ = telemetry.emit(refused_user(port, "banned")));
    let recent = telemetry.recent_failures();
    assert!(recent.events.len() <= MAX_OF_GROUP);
    assert_eq!(recent.events.len() as u64 + recent.dropped, u64::from(refusals));
}
