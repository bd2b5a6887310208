//! Unit tests of the table of users.

use super::*;

fn users() -> (Arc<Telemetry>, Arc<Users>, Arc<ServiceStats>) {
    let telemetry = Telemetry::new();
    let users = Users::new(telemetry.clone(), CancellationToken::new(), &RateLimitCount::default());
    let service = telemetry.service_opened("8080".parse().unwrap());
    (telemetry, users, service.stats().clone())
}

#[test]
fn connections_from_one_address_are_numbered_streams_of_one_user() {
    let (telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    let leases: Vec<_> = (0..3).map(|_| users.admit(&service, addr, |_| false).unwrap()).collect();
    let user = leases[0].key.user;
    assert_eq!(
        leases.iter().map(|lease| lease.key).collect::<Vec<_>>(),
        [1, 2, 3].map(|n| StreamKey::new(user, n))
    );
    assert_ne!(users.admit(&service, "192.0.2.2".parse().unwrap(), |_| false).unwrap().key.user, user);
    assert_eq!(telemetry.totals().users_current, 2);
}

#[test]
fn an_idle_user_keeps_its_id_for_the_retention_time() {
    let (telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    let first = users.admit(&service, addr, |_| false).unwrap().key;
    let retention = Duration::from_secs(5);
    users.remove_idle(Instant::now(), retention);
    assert_eq!(users.admit(&service, addr, |_| false).unwrap().key, StreamKey::new(first.user, 2));
    users.remove_idle(Instant::now() + retention, retention);
    assert_eq!((telemetry.totals().users_current, users.len()), (0, 0));
}

#[test]
fn the_next_connection_of_a_killed_user_is_a_new_user() {
    let (_telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    let lease = users.admit(&service, addr, |_| false).unwrap();
    assert_eq!(users.kill(lease.key.user), Some(1));
    assert!(lease.cancel().is_cancelled());
    assert_eq!(users.kill(lease.key.user), None);
    let next = users.admit(&service, addr, |_| false).unwrap();
    drop(lease);
    assert!(!next.cancel().is_cancelled());
    users.remove_idle(Instant::now() + Duration::from_secs(9), Duration::from_secs(5));
    assert_eq!(users.len(), 1, "the new user still has a connection");
}

/// A load balancer in front of a public port is one user, which opens 2^32 streams in days.
#[test]
fn after_the_last_stream_number_those_of_open_streams_are_skipped() {
    let (_telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    let first = users.admit(&service, addr, |_| false).unwrap();
    first.user.last_stream.store(u32::MAX - 1, std::sync::atomic::Ordering::Relaxed);
    let is_open = |key| key == first.key;
    let keys = [(); 3].map(|()| users.admit(&service, addr, is_open).unwrap().key);
    assert_eq!(keys, [u32::MAX, 2, 3].map(|number| StreamKey::new(first.key.user, number)));
}
