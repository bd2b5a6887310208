//! The text of events.

use super::*;
use crate::ids::Direction;

/// Returns the end of a stream with this reason and these bytes.
fn ended(reason: EndReason, down: u64, up: u64) -> EventKind {
    EventKind::StreamEnded {
        key: StreamKey::new(UserChannelId::new(0x3F9A1C), 1),
        reason,
        down,
        up,
        addr: "192.0.2.7:51000".parse().unwrap(),
        service: "8080".parse().unwrap(),
        proxy: Some(ProxyId(1)),
        proxy_name: Some("lab".into()),
        lasted: Duration::from_millis(1_234),
        time_to_first_byte: None,
        shortfall: None,
        content: None,
    }
}

/// One name for one kind, in the log and on the control socket.
#[test]
fn the_name_of_a_kind_is_that_of_its_json() {
    let (service, proxy) = ("8080".parse::<ServiceKey>().unwrap(), ProxyId(1));
    for event in [
        ended(EndReason::Finished, 1, 1),
        EventKind::Listening { addr: "127.0.0.1:1".parse().unwrap() },
        EventKind::ServiceOpened { service: service.clone() },
        EventKind::GracePeriodStarted { proxy, grace: Duration::ZERO },
        EventKind::UserRejected { addr: "127.0.0.1:1".parse().unwrap(), service, reason: String::new() },
        EventKind::DrainDeadlineSet { open_streams: 1, within: Duration::ZERO },
        EventKind::TaskPanicked { task: String::new() },
    ] {
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json.as_object().unwrap().keys().next().unwrap(), event.name(), "{json}");
    }
    // The error lists the names of all kinds.
    let error = serde_json::from_value::<EventKind>("?".into()).unwrap_err().to_string();
    for name in error.split('`').skip(3).step_by(2) {
        assert!(include_str!("name.rs").contains(&format!("=> \"{name}\",")), "{name}");
    }
}

/// The names are written by hand, one for each kind: each is that of its variant, and is one that its JSON can have.
#[test]
fn each_kind_has_the_name_of_its_variant() {
    let source = include_str!("name.rs");
    let arms =
        source.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" { .. } => "));
    let names: Vec<&str> = arms
        .map(|(variant, name)| {
            let name = name.trim_matches(['"', ',']);
            let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
            assert_eq!(words.collect::<String>(), variant);
            name
        })
        .collect();
    let error = serde_json::from_str::<EventKind>("\"none\"").unwrap_err().to_string();
    let of_json: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    assert_eq!((names.len(), names), (36, of_json));
}

/// The log has one line for each stream: its end, and that of a health check only on request. A failure is shown also
/// where no byte had passed.
#[test]
fn only_streams_with_data_and_failures_are_logged_at_info_and_above() {
    let refused = EndReason::TargetConnectFailed("the target refused the connection".to_owned());
    for (event, is_detail, is_warning) in [
        (ended(EndReason::Finished, 20, 7), false, false),
        (ended(EndReason::Finished, 0, 7), false, false),
        (ended(EndReason::Finished, 0, 0), true, false),
        (ended(EndReason::UserSocketError, 0, 0), true, false),
        (ended(EndReason::UserAborted, 0, 0), true, false),
        (ended(EndReason::IdleTimeout, 0, 0), true, false),
        (ended(EndReason::IdleTimeout, 20, 7), false, false),
        (ended(EndReason::ProxiesFull, 0, 0), false, true),
        (ended(refused, 0, 0), false, true),
        (ended(EndReason::ProxyTimeout, 0, 0), false, true),
        (ended(EndReason::ForwardingLoop, 0, 0), false, true),
    ] {
        assert_eq!((event.is_detail(), event.is_warning()), (is_detail, is_warning), "{event}");
    }
}

#[test]
fn the_end_of_a_stream_names_all_that_its_only_line_in_the_log_must_tell() {
    let mut event = ended(EndReason::Finished, 20, 7);
    let text = "stream 3F9A1C:1 ended: finished (down 20 bytes, up 7 bytes) user=192.0.2.7:51000 \
                service=8080:default proxy=P1 proxy_name=lab seconds=1.234";
    assert_eq!(event.to_string(), format!("{text} ended_by=both"));
    let EventKind::StreamEnded { time_to_first_byte, .. } = &mut event else { unreachable!() };
    *time_to_first_byte = Some(Duration::from_micros(56_789));
    assert_eq!(event.to_string(), format!("{text} ttfb_seconds=0.057 ended_by=both"));
}

/// An operator searches the log for who was refused.
#[test]
fn every_refusal_says_refused() {
    let addr = "192.0.2.7:51000".parse().unwrap();
    let reason = String::new;
    let service: ServiceKey = "8080".parse().unwrap();
    for event in [
        EventKind::HandshakeFailed { addr, reason: reason(), is_refusal: true },
        EventKind::RegistrationRefused { proxy: ProxyId(1), name: "lab".into(), reason: reason() },
        EventKind::UserRejected { addr, service, reason: reason() },
    ] {
        assert!(event.to_string().contains(" refused: ") && event.is_warning(), "{event}");
    }
    let failed = EventKind::HandshakeFailed { addr, reason: reason(), is_refusal: false };
    assert!(!failed.to_string().contains("refused"), "the peer went away by itself: {failed}");
}

#[test]
fn a_configured_duration_is_shown_in_seconds_with_at_most_one_decimal() {
    for (millis, text) in [(29_999, "30 s"), (999, "1 s"), (500, "0.5 s"), (2_500, "2.5 s"), (0, "0 s")] {
        assert_eq!(seconds(Duration::from_millis(millis)), text);
    }
}

/// The reasons that can cut a transfer short name how far it had come, and whether that was a failure.
#[test]
fn a_transfer_that_was_cut_short_is_never_called_finished() {
    let of = |transferred, size| Shortfall {
        direction: Direction::Down,
        transferred,
        size: Some(size),
        is_user_closed: false,
    };
    let shortfall = of(161_000_000, 200_000_000);
    for (reason, text, is_failure) in [
        (EndReason::Short, "short: 161M of 200M", true),
        (EndReason::TargetSocketError, "short: 161M of 200M, target connection reset or failed", true),
        (EndReason::ProxyGone, "short: 161M of 200M, link to the proxy lost", true),
        (EndReason::UserClosed, "ended by the user at 161M of 200M (FIN)", false),
        (EndReason::UserSocketError, "ended by the user at 161M of 200M (RST or I/O error)", false),
        (EndReason::Killed, "killed by the operator at 161M of 200M", false),
        (EndReason::Shutdown, "server shutdown at 161M of 200M", false),
    ] {
        assert_eq!((reason.describe(Some(&shortfall)).as_str(), reason.is_failure()), (text, is_failure));
    }
    assert_eq!(
        EndReason::Short.describe(Some(&of(199_999_990, 200_000_000))),
        "short: all but 10 bytes of 200M"
    );
    assert_eq!(of(199_999_990, 200_000_000).short(), "10 missing");
    let chunked = Shortfall { size: None, ..shortfall };
    assert_eq!(
        (chunked.to_string().as_str(), chunked.short().as_str()),
        ("161M of unknown size", "161M of ?")
    );
    let upload = Shortfall { direction: Direction::Up, ..shortfall };
    assert_eq!(
        (upload.to_string().as_str(), upload.short().as_str()),
        ("161M of 200M of the upload", "↑161M of 200M")
    );
    for bytes in [0, 999, 99_949_999, 99_950_000, 999_499_999, u64::MAX / 2] {
        for size in [1, 1000, 99_900_000, u64::MAX] {
            assert!(of(bytes.min(size - 1), size).short().chars().count() <= 14);
        }
    }
}
