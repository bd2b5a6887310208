//! Unit tests of the state between two links.

use super::*;
use crate::wire::ErrorCode;

fn state() -> ServingState {
    ServingState::new(&ProxyConfig::new("server:7000", "0".parse().unwrap(), "target:80"))
}

fn refusal() -> ServerLinkError {
    ServerLinkError::Registration { code: Some(ErrorCode::PortNotAllowed), reason: "no".into() }
}

#[test]
fn a_refusal_for_good_ends_the_proxy_only_if_it_is_repeated_before_the_first_success() {
    let mut first = state();
    assert!(matches!(first.failed(refusal(), "server:7000"), Ok(None)));
    assert!(first.failed(ServerLinkError::Lost, "server:7000").unwrap().is_some());
    assert!(matches!(first.failed(refusal(), "server:7000"), Ok(None)));
    assert!(first.failed(refusal(), "server:7000").is_err());
    let mut served = state();
    served.registered("8080".parse().unwrap());
    for _ in 0..3 {
        assert!(served.failed(refusal(), "server:7000").unwrap().is_some());
    }
    assert_eq!(served.service().port, 8080);
}

#[test]
fn the_same_failure_is_logged_once_in_an_interval() {
    let mut state = state();
    let mut logged = |error: &ServerLinkError| {
        let before = state.last_warning.take();
        state.last_warning.clone_from(&before);
        state.pause_after(error, "server:7000", Duration::from_secs(15));
        state.last_warning != before
    };
    assert!(logged(&ServerLinkError::Lost));
    assert!(!logged(&ServerLinkError::Lost));
    assert!(logged(&refusal()), "another failure");
    assert!(!logged(&refusal()));
    assert!(logged(&ServerLinkError::Lost));
}

#[test]
fn the_successor_of_a_goaway_is_tried_once() {
    let mut state = state();
    assert_eq!(state.next_server("server:7000"), "server:7000");
    state.successor = Some("other:7000".to_owned());
    assert_eq!([(); 2].map(|()| state.next_server("server:7000")), ["other:7000", "server:7000"]);
}
