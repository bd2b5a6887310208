//! Unit tests of the table of users.

use super::*;

fn users() -> (Arc<Telemetry>, Arc<Users>, Arc<ServiceStats>) {
    let telemetry = Telemetry::new();
    let key = UserIdKey::new([7; 32]);
    let users = Users::new(telemetry.clone(), CancellationToken::new(), &RateLimitCount::default(), key);
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
fn a_user_that_returns_has_the_same_id_and_goes_on_counting_its_streams() {
    let (telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    let first = users.admit(&service, addr, |_| false).unwrap().key;
    let retention = Duration::from_secs(5);
    users.remove_idle(Instant::now(), retention);
    assert_eq!(users.admit(&service, addr, |_| false).unwrap().key, StreamKey::new(first.user, 2));
    users.remove_idle(Instant::now() + retention, retention);
    assert_eq!((telemetry.totals().users_current, users.len()), (0, 0));
    assert_eq!(users.admit(&service, addr, |_| false).unwrap().key, StreamKey::new(first.user, 3));
    assert_eq!(telemetry.totals().users_current, 1);
}

/// With a kept key, a restarted server is such a table.
#[test]
fn another_table_with_the_same_key_has_the_same_ids() {
    let (_, users, service) = users();
    let (_, restarted, same_service) = self::users();
    for number in 0..100 {
        let addr = IpAddr::from([192, 0, 2, number]);
        let key = users.admit(&service, addr, |_| false).unwrap().key;
        assert_eq!(restarted.admit(&same_service, addr, |_| false).unwrap().key, key);
    }
}

/// Found by trying addresses: two whose first id is the same. Of 24 bits, 5,000 users have one such pair.
fn colliding_addresses() -> [IpAddr; 2] {
    let key = UserIdKey::new([7; 32]);
    let mut by_id = HashMap::new();
    let addresses = (0..).map(|number: u32| IpAddr::from(number.to_be_bytes()));
    addresses
        .into_iter()
        .find_map(|addr| by_id.insert(key.derive(8080, addr, 0), addr).map(|other| [other, addr]))
        .unwrap()
}

#[test]
fn no_two_users_have_one_id_whether_present_or_departed() {
    let [first, second] = colliding_addresses();
    let (_, users, service) = users();
    let one = users.admit(&service, first, |_| false).unwrap();
    let other = users.admit(&service, second, |_| false).unwrap();
    let (one_id, other_id) = (one.key.user, other.key.user);
    assert_ne!(one_id, other_id);
    assert_eq!(users.kill(other_id), Some(1));
    assert!(other.cancel().is_cancelled() && !one.cancel().is_cancelled());
    // The second comes back first, and must not take the id that names the first in the history.
    drop((one, other));
    users.remove_idle(Instant::now() + Duration::from_secs(9), Duration::ZERO);
    assert_eq!(users.len(), 0);
    assert_eq!(users.admit(&service, second, |_| false).unwrap().key, StreamKey::new(other_id, 2));
    assert_eq!(users.admit(&service, first, |_| false).unwrap().key, StreamKey::new(one_id, 2));
}

#[test]
fn a_killed_user_keeps_its_id_and_its_next_connection_is_served() {
    let (_telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    let lease = users.admit(&service, addr, |_| false).unwrap();
    assert_eq!(users.kill(lease.key.user), Some(1));
    assert!(lease.cancel().is_cancelled());
    let next = users.admit(&service, addr, |_| false).unwrap();
    assert_eq!(next.key, StreamKey::new(lease.key.user, 2));
    drop(lease);
    assert!(!next.cancel().is_cancelled());
    users.remove_idle(Instant::now() + Duration::from_secs(9), Duration::from_secs(5));
    assert_eq!(users.len(), 1, "the user still has a connection");
    assert_eq!(users.kill(UserChannelId::new(next.key.user.bits() ^ 1)), None);
}

/// A load balancer in front of a public port is one user, which opens 2^32 streams in days.
#[test]
fn after_the_last_stream_number_those_of_open_streams_are_skipped() {
    let (_telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    let first = users.admit(&service, addr, |_| false).unwrap();
    first.user.last_stream.store(u32::MAX - 1, Relaxed);
    let is_open = |key| key == first.key;
    let keys = [(); 3].map(|()| users.admit(&service, addr, is_open).unwrap().key);
    assert_eq!(keys, [u32::MAX, 2, 3].map(|number| StreamKey::new(first.key.user, number)));
}

/// An attacker with many addresses, such as those of one IPv6 network, leaves users behind that are kept for five
/// seconds.
#[test]
fn in_a_full_table_a_new_user_displaces_the_one_that_left_first() {
    let (telemetry, mut users, service) = users();
    Arc::get_mut(&mut users).unwrap().max_users = 3;
    let admit = |last: u8| users.admit(&service, IpAddr::from([192, 0, 2, last]), |_| false);
    let mut left = [1, 2, 3].map(|last| admit(last).unwrap().key.user);
    // The first one comes back and leaves again, after the other two.
    drop(admit(1).unwrap());
    left.rotate_left(1);
    let joined = [4, 5, 6].map(|last| {
        let lease = admit(last).unwrap();
        assert!(users.find_limit(left[usize::from(last) - 4]).is_none(), "{last}");
        assert_eq!((users.len(), telemetry.totals().users_current), (3, 3));
        lease
    });
    assert!(admit(7).is_none(), "all are connected");
    assert!(admit(4).is_some(), "it is known");
    drop(joined);
    users.remove_idle(Instant::now(), Duration::ZERO);
    assert_eq!((users.len(), telemetry.totals().users_current), (0, 0));
}

#[test]
fn a_user_that_connects_again_and_again_is_kept_once() {
    let (_telemetry, users, service) = users();
    let addr = "192.0.2.1".parse().unwrap();
    for _ in 0..100 {
        drop(users.admit(&service, addr, |_| false).unwrap());
    }
    assert_eq!(users.table.lock().idle.len(), 1);
    let retention = Duration::from_secs(5);
    users.remove_idle(Instant::now() + retention - Duration::from_secs(1), retention);
    assert_eq!(users.len(), 1);
    users.remove_idle(Instant::now() + retention, retention);
    assert_eq!((users.len(), users.table.lock().idle.len()), (0, 0));
}
