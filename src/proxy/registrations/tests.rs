//! Unit tests of requests and answers: order, repetition, removal, what a stream belongs to.

use super::*;
use crate::{
    config::{ProxyFormat, ServiceConfig},
    wire::ErrorCode,
};

fn config() -> Arc<ProxyConfig> {
    Arc::new(ProxyConfig::new("server:7000", "1:default".parse().unwrap(), "target:80"))
}

fn services(services: &[(&str, &str)]) -> Vec<ServiceConfig> {
    services.iter().map(|(key, target)| ServiceConfig::new(key.parse().unwrap(), *target)).collect()
}

/// A link with these features and services, and the time.
struct Peer {
    list: ServiceList,
    registrations: Registrations,
    now: Instant,
}

impl Peer {
    fn new(features: u32, list: &[(&str, &str)]) -> Self {
        Self::with_assigned(features, ServiceList::new(services(list)), Arc::default())
    }

    fn with_assigned(features: u32, list: ServiceList, assigned: Arc<AssignedPorts>) -> Self {
        let registrations = Registrations::new(config(), list.clone(), features, false, assigned);
        Self { list, registrations, now: Instant::now() }
    }

    /// Returns the requests that are sent now.
    fn requests(&mut self) -> Vec<String> {
        let sent = std::iter::from_fn(|| self.registrations.next_request(self.now));
        sent.map(|message| message.action.to_string()).collect()
    }

    fn granted(&mut self, number: u32, key: &str) {
        self.registrations.on_answer(Some(number), Ok(key.parse().unwrap()), self.now);
    }

    fn refused(&mut self, number: u32, code: ErrorCode) {
        self.registrations.on_answer(Some(number), Err(Refusal::new(Some(code), "no".into())), self.now);
    }

    fn replace(&mut self, list: &[(&str, &str)]) {
        self.list = self.list.replaced_by(services(list)).0;
        self.registrations.set_list(self.list.clone());
    }

    /// Returns the target of a stream of this port.
    fn target(&self, port: u16) -> String {
        match self.registrations.owner_of(port) {
            PortOwner::Service(entry) => entry.config.target.clone(),
            other => format!("{other:?}"),
        }
    }

    fn served(&self) -> Vec<String> {
        self.registrations.served().iter().map(|(_, key)| key.to_string()).collect()
    }
}

#[test]
fn requests_are_pipelined_and_answered_in_any_order() {
    let mut peer = Peer::new(SERVICES, &[("80", "a:1"), ("0", "b:1"), ("0:web", "c:1")]);
    assert_eq!(
        peer.requests(),
        ["ADDPROXY:80:default:1:::1", "ADDPROXY:0:default:1:::2", "ADDPROXY:0:web:1:::3"]
    );
    // A stream may overtake the answer.
    assert_eq!((peer.target(80), peer.target(9000)), ("a:1".into(), "Pending".into()));
    peer.granted(3, "9000:web");
    assert!(matches!(peer.registrations.progress(), Progress::Serving));
    assert_eq!((peer.target(9000), peer.target(9001)), ("c:1".into(), "Pending".into()));
    peer.granted(2, "9001:default");
    peer.granted(1, "80:default");
    assert_eq!((peer.target(9001), peer.target(9002)), ("b:1".into(), "Unknown".into()));
    assert_eq!(peer.served(), ["80:default", "9001:default", "9000:web"]);
    assert!(peer.requests().is_empty() && peer.registrations.next_deadline().is_none());
    // Answers that nothing asked for change nothing.
    peer.granted(3, "1:default");
    peer.granted(99, "2:default");
    peer.registrations.on_answer(None, Ok("3:default".parse().unwrap()), peer.now);
    assert_eq!(peer.served().len(), 3);
}

#[test]
fn the_number_of_unanswered_requests_is_bounded() {
    let mut peer = Peer::new(SERVICES, &[("0", "a:1"); 300]);
    assert_eq!(peer.requests().len(), MAX_UNANSWERED);
    peer.granted(1, "9000:default");
    assert_eq!(peer.requests(), ["ADDPROXY:0:default:1:::129"]);
}

#[test]
fn an_unanswered_request_is_repeated_under_its_number() {
    let mut peer = Peer::new(SERVICES, &[("0", "a:1")]);
    let first = peer.requests();
    assert_eq!(peer.registrations.next_deadline(), Some(peer.now + REPEAT_AFTER));
    peer.now += REPEAT_AFTER;
    assert_eq!(peer.requests(), first);
    assert!(peer.requests().is_empty());
    peer.granted(1, "9000:default");
    peer.now += REPEAT_AFTER;
    assert!(peer.requests().is_empty());
}

/// A server of before the feature answers without a number, in the order of the requests.
#[test]
fn a_server_that_does_not_number_its_answers_gets_one_request_at_a_time() {
    let mut peer = Peer::new(0, &[("80", "a:1"), ("0", "b:1")]);
    assert_eq!(peer.requests(), ["ADDPROXY:80:default:1"]);
    let refusal = Refusal::new(Some(ErrorCode::PortInUse), "in use".into());
    peer.registrations.on_answer(None, Err(refusal), peer.now);
    assert_eq!(peer.requests(), ["ADDPROXY:0:default:1"]);
    peer.registrations.on_answer(None, Ok("9000:default".parse().unwrap()), peer.now);
    assert_eq!(peer.target(9000), "b:1");
    // It cannot be told that a service is removed. Its streams are refused, and it may return.
    peer.replace(&[("80", "a:1")]);
    assert!(peer.requests().is_empty());
    assert_eq!(peer.target(9000), "Unknown");
    peer.replace(&[("80", "a:1"), ("9000", "c:1")]);
    assert_eq!(peer.requests(), ["ADDPROXY:9000:default:1"]);
}

#[test]
fn a_removed_service_is_withdrawn_before_another_one_gets_its_port() {
    let mut peer = Peer::new(SERVICES, &[("80", "a:1"), ("81", "b:1")]);
    peer.requests();
    peer.granted(1, "80:default");
    peer.granted(2, "81:default");
    peer.replace(&[("81", "b:1")]);
    assert_eq!((peer.target(80), peer.target(81)), ("Unknown".into(), "b:1".into()));
    assert_eq!(peer.requests(), ["REMOVEPROXY:3:80"]);
    peer.replace(&[("81", "b:1"), ("80:web", "c:1")]);
    // The removal may arrive after a registration on another channel.
    assert!(peer.requests().is_empty());
    peer.registrations.on_answer(
        Some(3),
        Err(Refusal::new(None, "RESPONSE without a service".into())),
        peer.now,
    );
    assert_eq!(peer.requests(), ["ADDPROXY:80:web:1:::4"]);
    peer.granted(4, "80:web");
    assert_eq!((peer.target(80), peer.served()), ("c:1".into(), vec!["81:default".into(), "80:web".into()]));
}

#[test]
fn a_service_that_is_removed_before_its_answer_is_withdrawn_after_it() {
    let mut peer = Peer::new(SERVICES, &[("80", "a:1"), ("0", "b:1"), ("82", "c:1")]);
    peer.requests();
    peer.replace(&[("83", "d:1")]);
    assert_eq!(peer.requests(), ["ADDPROXY:83:default:1:::4"]);
    peer.granted(1, "80:default");
    peer.granted(3, "9000:default");
    peer.refused(2, ErrorCode::PortInUse);
    assert_eq!(peer.requests(), ["REMOVEPROXY:5:80", "REMOVEPROXY:6:9000"]);
    // The refused one has left nothing behind.
    peer.replace(&[("83", "d:1"), ("82", "c:1")]);
    assert_eq!(peer.requests(), ["ADDPROXY:82:default:1:::7"]);
    for number in [5, 6] {
        peer.registrations.on_answer(Some(number), Err(Refusal::new(None, String::new())), peer.now);
    }
    assert!(peer.requests().is_empty());
    assert_eq!(peer.registrations.services.len(), 2);
    assert!(peer.registrations.leaving.is_empty());
}

#[test]
fn a_changed_target_needs_no_request_and_changed_networks_do() {
    let mut peer = Peer::new(SERVICES | USER_NETWORKS, &[("80", "a:1")]);
    peer.requests();
    peer.granted(1, "80:default");
    peer.replace(&[("80", "b:1")]);
    assert!(peer.requests().is_empty());
    assert_eq!(peer.target(80), "b:1");
    let mut restricted = services(&[("80", "b:1")]);
    restricted[0].user_networks = "deny=::1".parse().unwrap();
    peer.list = peer.list.replaced_by(restricted).0;
    peer.registrations.set_list(peer.list.clone());
    assert_eq!(peer.requests(), ["ADDPROXY:80:default:1::networks:2"]);
    peer.granted(2, "80:default");
    assert!(peer.requests().is_empty());
}

#[test]
fn a_refusal_that_may_pass_is_asked_again_and_one_for_good_after_a_change() {
    let mut peer = Peer::new(SERVICES, &[("80", "a:1"), ("22", "b:1")]);
    peer.requests();
    peer.refused(1, ErrorCode::PortInUse);
    peer.refused(2, ErrorCode::PortNotAllowed);
    let Progress::AllRefused(refusals) = peer.registrations.progress() else { panic!() };
    assert_eq!(refusals.len(), 2);
    assert_eq!(peer.registrations.take_events().len(), 2);
    assert!(peer.requests().is_empty());
    peer.now = peer.registrations.next_deadline().unwrap();
    assert_eq!(peer.requests(), ["ADDPROXY:80:default:1:::3"]);
    peer.refused(3, ErrorCode::PortInUse);
    assert!(peer.registrations.take_events().is_empty(), "the same reason is reported once");
    peer.now = peer.registrations.next_deadline().unwrap();
    assert_eq!(peer.requests(), ["ADDPROXY:80:default:1:::4"]);
    peer.granted(4, "80:default");
    peer.replace(&[("80", "a:1"), ("22", "c:1")]);
    assert_eq!(peer.requests(), ["ADDPROXY:22:default:1:::5"]);
}

#[test]
fn an_old_server_refuses_networks_without_being_asked() {
    let mut restricted = services(&[("80", "a:1")]);
    restricted[0].user_networks = "deny=::1".parse().unwrap();
    let mut peer = Peer::with_assigned(SERVICES, ServiceList::new(restricted), Arc::default());
    assert!(peer.requests().is_empty());
    let Progress::AllRefused(refusals) = peer.registrations.progress() else { panic!() };
    assert!(refusals[0].to_string().contains("too old for --allow and --deny"), "{}", refusals[0]);
}

#[test]
fn the_next_link_asks_for_the_ports_of_the_last_one() {
    let assigned = Arc::<AssignedPorts>::default();
    let list = ServiceList::new(services(&[("0", "a:1"), ("0", "b:1")]));
    let mut peer = Peer::with_assigned(SERVICES, list, assigned.clone());
    peer.requests();
    peer.granted(1, "9000:default");
    peer.granted(2, "9001:default");
    let list = peer.list.replaced_by(services(&[("0", "b:1"), ("0", "c:1")])).0;
    let mut next = Peer::with_assigned(SERVICES, list, assigned.clone());
    assert_eq!(next.requests(), ["ADDPROXY:9001:default:1:::1", "ADDPROXY:9000:default:1:::2"]);
    // What was granted once is asked again, although it is refused for good now.
    next.refused(1, ErrorCode::PortNotAllowed);
    assert!(next.registrations.next_deadline().is_some_and(|at| at < next.now + REPEAT_AFTER));
    // Of services that are gone nothing is kept.
    let list = next.list.replaced_by(services(&[("80", "d:1")])).0;
    Peer::with_assigned(SERVICES, list, assigned.clone());
    assert!(assigned.0.lock().is_empty());
}

/// The streams of the text format name no port.
#[test]
fn all_streams_of_a_text_link_belong_to_its_service() {
    let config = Arc::new(ProxyConfig { format: ProxyFormat::Text, ..ProxyConfig::clone(&config()) });
    let list = ServiceList::new(services(&[("80", "a:1")]));
    let mut text = Registrations::new(config, list, 0, true, Arc::default());
    let request = text.next_request(Instant::now()).unwrap().action.to_string();
    assert_eq!(request, "ADDPROXY:80:default:1");
    assert!(matches!(text.owner_of(0), PortOwner::Service(_)));
}

/// The server would send the users of both to the same target.
#[test]
fn no_two_services_get_the_same_port() {
    let mut peer = Peer::new(SERVICES, &[("0", "a:1"), ("80", "b:1")]);
    // The requested port first, so that the server does not assign it.
    assert_eq!(peer.requests(), ["ADDPROXY:80:default:1:::1", "ADDPROXY:0:default:1:::2"]);
    peer.granted(1, "80:default");
    peer.granted(2, "80:default");
    assert_eq!((peer.target(80), peer.served()), ("b:1".into(), vec!["80:default".into()]));
    peer.now = peer.registrations.next_deadline().unwrap();
    assert_eq!(peer.requests(), ["ADDPROXY:0:default:1:::3"]);
    peer.granted(3, "9000:default");
    // A port that was assigned is requested by a new service.
    peer.replace(&[("0", "a:1"), ("80", "b:1"), ("9000", "c:1")]);
    assert!(peer.requests().is_empty());
    assert_eq!(peer.target(9000), "a:1");
    assert!(!peer.registrations.is_settled() || peer.registrations.next_deadline().is_some());
}
