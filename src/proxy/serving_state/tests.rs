//! Unit tests of the state between two links.

use super::*;
use crate::{
    proxy::error::{Refusal, RefusedServices, ServiceRefusal},
    proxy::service_list::ServiceList,
    wire::ErrorCode,
};

fn config() -> ProxyConfig {
    ProxyConfig::new("server:7000", "0".parse().unwrap(), "target:80")
}

fn state() -> ServingState {
    ServingState::new(&config())
}

fn refusal() -> ServerLinkError {
    let list = ServiceList::new(config().services);
    let refusal = Refusal::new(Some(ErrorCode::PortNotAllowed), "no".into());
    let refused = list.iter().map(|entry| ServiceRefusal::new(entry, refusal.clone()));
    ServerLinkError::Registration(RefusedServices(refused.collect()))
}

#[test]
fn a_refusal_for_good_ends_the_proxy_only_if_it_is_repeated_before_the_first_success() {
    let mut first = state();
    assert!(matches!(first.failed(refusal(), "server:7000"), Ok(None)));
    assert!(first.failed(ServerLinkError::Lost, "server:7000").unwrap().is_some());
    assert!(matches!(first.failed(refusal(), "server:7000"), Ok(None)));
    assert!(first.failed(refusal(), "server:7000").is_err());
    let mut served = state();
    assert!(served.registered().is_none());
    for _ in 0..3 {
        assert!(served.failed(refusal(), "server:7000").unwrap().is_some());
    }
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
    let (mut state, configured) = (state(), ServerEndpoint::new("server:7000"));
    assert_eq!(state.next_server(&configured).address, "server:7000");
    state.successor = Some("other:7000".to_owned());
    let next = [(); 2].map(|()| state.next_server(&configured).address);
    assert_eq!(next, ["other:7000", "server:7000"]);
}

/// A server without TLS could send its proxies across the network, which the operator of the proxy has not permitted.
#[test]
fn a_successor_must_expose_no_more_than_the_configuration_permits() {
    let tls = crate::tls::ClientTls::accepting_any_certificate().unwrap();
    let plain = ServerEndpoint::new("127.0.0.1:7000");
    let encrypted = ServerEndpoint { tls: Some(tls), ..plain.clone() };
    let insecure = ServerEndpoint { insecure: true, ..encrypted.clone() };
    for (server, successor, may) in [
        (&plain, "127.0.0.1:7001", true),
        (&plain, "localhost:7001", true),
        (&plain, "192.0.2.1:7000", false),
        (&plain, "example.org:7000", false),
        (&encrypted, "192.0.2.1:7000", true),
    ] {
        assert_eq!(may_follow(server, successor, ProxyFormat::Binary), may, "{successor}");
    }
    let may_follow_with_text =
        |server: &ServerEndpoint| may_follow(server, "192.0.2.1:7000", ProxyFormat::Text);
    assert!(!may_follow_with_text(&encrypted), "the token itself is sent");
    assert!(
        may_follow_with_text(&ServerEndpoint { insecure: true, ..plain }) && may_follow_with_text(&insecure)
    );
}
