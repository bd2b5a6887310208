//! Services and users are shown for as long as they exist, and nothing is left of streams that have ended.

use super::*;
use crate::{ids::Priority, wire::UserAddresses};

/// Returns what a server opens for the user `id` at `client`.
fn open(id: u32, stream: u32, client: Option<&str>) -> Open {
    let user = client.map(|client| UserAddresses { client: client.parse().unwrap(), public: None });
    let key = StreamKey::new(UserChannelId::new(id), stream);
    Open { stream: 2, key, port: 8080, priority: Priority::Normal, window: 0, user }
}

/// Returns a service of one server.
fn served(server: &str, service: &str) -> ServedService {
    ServedService {
        server: server.into(),
        service: service.parse().unwrap(),
        target: "127.0.0.1:9".to_owned(),
    }
}

#[test]
fn a_user_is_shown_until_its_last_stream_has_ended_and_no_table_grows() {
    let telemetry = Telemetry::of_proxy();
    let observer = Observer::new(telemetry.clone());
    let service = "8080".parse().unwrap();
    let open_stream = |open| {
        let (stats, user) = observer.new_stream(&open, &service);
        (telemetry.announce_stream(stats), user)
    };
    let (first, user) = open_stream(open(1, 1, Some("192.0.2.1:5000")));
    let (second, again) = open_stream(open(1, 2, Some("192.0.2.1:5001")));
    // Another server may have given the same id to another user.
    let (third, other) = open_stream(open(1, 1, Some("192.0.2.9:5000")));
    // A server of the text format does not tell addresses.
    let (fourth, unknown) = open_stream(open(2, 1, None));
    assert!(user == again && user != other && other != unknown);
    let shown = telemetry.snapshot();
    assert_eq!((shown.users.len(), shown.streams.len(), shown.totals.streams_open), (3, 4, 4));
    assert_eq!((shown.users[0].streams_open, shown.streams[0].info.addr.port()), (2, 5000));
    drop(first);
    observer.release_user(user);
    assert_eq!(telemetry.snapshot().users.len(), 3, "its second stream is open");
    drop((second, third, fourth));
    [user, other, unknown].into_iter().for_each(|user| observer.release_user(user));
    let left = telemetry.snapshot();
    assert_eq!((left.users.len(), left.streams.len(), left.totals.streams_total), (0, 0, 4));
    assert!(observer.users.lock().is_empty());
}

#[test]
fn services_are_shown_while_a_server_serves_them_and_each_server_has_its_own() {
    let telemetry = Telemetry::of_proxy();
    let observer = Arc::new(Observer::new(telemetry.clone()));
    let links = ["a:7000", "b:7000"].map(|server| observer.link_opened(server, UNKNOWN_USER));
    let shown = || {
        let snapshot = telemetry.snapshot();
        let services: Vec<_> = snapshot.services.iter().map(|service| service.key.to_string()).collect();
        let of_servers = snapshot.proxies.iter().map(|server| server.services.len()).collect::<Vec<_>>();
        (services, of_servers)
    };
    observer.set_served(&[served("a:7000", "8080"), served("b:7000", "8080"), served("b:7000", "8081")]);
    assert_eq!(shown(), (vec!["8080:default".to_owned(), "8081:default".to_owned()], vec![1, 2]));
    observer.set_served(&[served("a:7000", "8080")]);
    assert_eq!(shown(), (vec!["8080:default".to_owned()], vec![1, 0]));
    observer.set_served(&[]);
    drop(links);
    assert_eq!(shown(), (vec![], vec![]));
}

/// A client that follows events gets those of the link and of its services, in order.
#[test]
fn links_and_services_are_events_that_name_the_server() {
    let telemetry = Telemetry::of_proxy();
    let mut events = telemetry.subscribe();
    let observer = Arc::new(Observer::new(telemetry));
    let link = observer.link_opened("a:7000", "192.0.2.1:7000".parse().unwrap());
    observer.set_served(&[served("a:7000", "8080")]);
    link.end(DisconnectReason::GoAway);
    let texts: Vec<String> = std::iter::from_fn(|| Some(events.try_recv().ok()?.kind.to_string())).collect();
    assert_eq!(
        texts,
        [
            "link to server a:7000 established (192.0.2.1:7000)",
            "service 8080:default opened",
            "link to server a:7000 ended: announced that it leaves (GOAWAY)",
        ]
    );
}
