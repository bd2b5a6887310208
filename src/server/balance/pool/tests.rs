//! Unit tests of the pool: shares under each policy, while members and weights change.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU32},
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::*;

impl<T> From<&Arc<T>> for Member<T> {
    /// Returns a member that admits all users.
    fn from(proxy: &Arc<T>) -> Self {
        Self { proxy: proxy.clone(), networks: UserNetworks::default() }
    }
}

#[derive(Debug)]
struct TestProxy {
    name: &'static str,
    is_available: AtomicBool,
    weight: AtomicU32,
    load: Arc<ProxyLoad>,
}

impl TestProxy {
    fn new(name: &'static str) -> Self {
        Self { name, is_available: AtomicBool::new(true), weight: AtomicU32::new(1), load: Arc::default() }
    }
}

impl Candidate for TestProxy {
    fn is_available(&self) -> bool {
        self.is_available.load(Relaxed)
    }

    fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    fn load(&self) -> &ProxyLoad {
        &self.load
    }
}

fn pool(names: &[&'static str]) -> (Pool<TestProxy>, Vec<Arc<TestProxy>>) {
    let pool = Pool::new(Policy::RoundRobin);
    let proxies: Vec<_> = names.iter().map(|name| Arc::new(TestProxy::new(name))).collect();
    proxies.iter().for_each(|proxy| pool.join(proxy));
    (pool, proxies)
}

fn shares(pool: &Pool<TestProxy>, picks: usize) -> HashMap<&'static str, usize> {
    let mut shares = HashMap::new();
    for _ in 0..picks {
        *shares.entry(pool.pick(&[], None).unwrap().name).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_gives_all_available_members_equal_shares() {
    let (pool, proxies) = pool(&["a", "b", "c"]);
    assert_eq!(shares(&pool, 300), HashMap::from([("a", 100), ("b", 100), ("c", 100)]));
    proxies[1].is_available.store(false, Relaxed);
    assert_eq!(shares(&pool, 300), HashMap::from([("a", 150), ("c", 150)]));
    pool.leave(&proxies[0]);
    assert_eq!(shares(&pool, 10), HashMap::from([("c", 10)]));
    proxies[2].is_available.store(false, Relaxed);
    assert!(pool.pick(&[], None).is_none());
}

/// The seed document computed `abs(counter) % n`, and `abs` of the smallest integer is negative.
#[test]
fn round_robin_survives_the_overflow_of_its_counter() {
    let (pool, _proxies) = pool(&["a", "b", "c"]);
    pool.rotation.store(u64::MAX - 150, Relaxed);
    assert!(shares(&pool, 300).values().all(|share| (99..=101).contains(share)));
}

#[test]
fn concurrent_picks_stay_fair_while_members_join_and_leave() {
    let (pool, proxies) = pool(&["a", "b"]);
    let guest = Arc::new(TestProxy::new("guest"));
    let totals = thread::scope(|scope| {
        let pickers: Vec<_> = (0..4).map(|_| scope.spawn(|| shares(&pool, 20_000))).collect();
        for _ in 0..500 {
            pool.join(&guest);
            pool.leave(&guest);
        }
        pickers.into_iter().map(|picker| picker.join().unwrap()).fold(HashMap::new(), |mut sum, shares| {
            shares.into_iter().for_each(|(name, share)| *sum.entry(name).or_insert(0usize) += share);
            sum
        })
    });
    let (a, b) = (totals["a"] as f64, totals["b"] as f64);
    assert!((a / b - 1.0).abs() < 0.05, "{totals:?}");
    assert_eq!(shares(&pool, 10), HashMap::from([("a", 5), ("b", 5)]));
    drop(proxies);
}

#[test]
fn weighted_shares_are_exact_also_after_weights_change() {
    let (pool, proxies) = pool(&["a", "b", "c"]);
    pool.set_policy(Policy::Weighted);
    proxies[0].weight.store(5, Relaxed);
    proxies[2].weight.store(2, Relaxed);
    assert_eq!(shares(&pool, 80), HashMap::from([("a", 50), ("b", 10), ("c", 20)]));
    shares(&pool, 3);
    proxies[1].weight.store(3, Relaxed);
    assert_eq!(shares(&pool, 100), HashMap::from([("a", 50), ("b", 30), ("c", 20)]));
    proxies[0].is_available.store(false, Relaxed);
    assert_eq!(shares(&pool, 100), HashMap::from([("b", 60), ("c", 40)]));
}

#[test]
fn least_streams_respects_weights_and_alternates_between_equal_members() {
    let (pool, proxies) = pool(&["a", "b", "c"]);
    pool.set_policy(Policy::LeastStreams);
    assert_eq!(shares(&pool, 300), HashMap::from([("a", 100), ("b", 100), ("c", 100)]));
    proxies[2].weight.store(2, Relaxed);
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(pool.pick(&[], None).unwrap().load.begin_stream());
    }
    let active: Vec<_> = proxies.iter().map(|proxy| proxy.load.active_streams()).collect();
    assert_eq!(active, [10, 10, 20]);
    drop(open);
    assert!(proxies.iter().all(|proxy| proxy.load.active_streams() == 0));
}

#[test]
fn peak_ewma_avoids_a_slow_member_unless_the_others_are_busy() {
    let (pool, proxies) = pool(&["slow", "b", "c"]);
    pool.set_policy(Policy::PeakEwma);
    proxies[0].load.record_latency(Duration::from_millis(500));
    proxies[1].load.record_latency(Duration::from_millis(50));
    proxies[2].load.record_latency(Duration::from_millis(50));
    let shares = shares(&pool, 3000);
    // Of the three equally likely pairs, one consists of «b» and «c», and each of the two others has the slow one.
    assert!(!shares.contains_key("slow") && shares["b"] > 800 && shares["c"] > 800, "{shares:?}");
    // Unless the others have many open streams.
    let _open: Vec<_> =
        proxies[1..].iter().flat_map(|proxy| (0..20).map(|_| proxy.load.begin_stream())).collect();
    assert!((0..100).any(|_| pool.pick(&[], None).unwrap().name == "slow"));
}

#[test]
fn a_member_that_was_tried_is_not_picked_again() {
    for policy in Policy::ALL {
        let (pool, proxies) = pool(&["a", "b", "c"]);
        pool.set_policy(policy);
        for _ in 0..50 {
            assert_eq!(pool.pick(&proxies[..2], None).unwrap().name, "c", "{policy}");
            assert!(pool.pick(&proxies, None).is_none(), "{policy}");
        }
    }
}

#[test]
fn a_user_is_assigned_to_members_that_admit_its_address() {
    let user = |n: u8| IpAddr::from([192, 0, 2, n]);
    for policy in Policy::ALL {
        let (pool, proxies) = pool(&["a", "b", "c"]);
        pool.set_policy(policy);
        let networks = "allow=192.0.2.1".parse().unwrap();
        pool.join(Member { proxy: proxies[0].clone(), networks });
        pool.join(Member { proxy: proxies[1].clone(), networks: "deny=192.0.2.0/30".parse().unwrap() });
        let picked = |tried: &[_], n| pool.pick(tried, Some(user(n))).map(|proxy| proxy.name);
        for _ in 0..20 {
            assert_eq!(picked(&proxies[2..], 1), Some("a"), "{policy}");
            assert_eq!(picked(&[], 2), Some("c"), "{policy}");
            assert_ne!(picked(&[], 9), Some("a"), "{policy}");
            assert_eq!(picked(&proxies[2..], 2), None, "{policy}");
        }
        assert!((0..100).any(|_| pool.pick(&[], None).unwrap().name == "a"), "{policy}: no user");
        pool.leave(&proxies[2]);
        assert_eq!(pool.check_user(user(1)), Ok(()));
        assert!(matches!(pool.check_user(user(2)), Err(NetworkRefusal::Denied(..))));
        // Joining again replaces the networks.
        pool.join(&proxies[1]);
        assert_eq!(picked(&[], 2), Some("b"), "{policy}");
        proxies.iter().for_each(|proxy| pool.leave(proxy));
        assert_eq!(pool.check_user(user(2)), Ok(()), "a user may wait for the first proxy");
    }
}

proptest! {
    /// Members join, leave and become unavailable; after each change, every available member gets exactly its share.
    #[test]
    fn shares_stay_exact_while_members_join_leave_and_become_unavailable(
        changes in prop::collection::vec((0usize..8, 0u8..3), 1..40),
        weighted: bool,
    ) {
        let pool = Pool::new(if weighted { Policy::Weighted } else { Policy::RoundRobin });
        let proxies: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| Arc::new(TestProxy::new(name))).into();
        for (index, proxy) in proxies.iter().enumerate() {
            proxy.weight.store(index as u32 + 1, Relaxed);
        }
        let mut is_member = [false; 8];
        for (index, change) in changes {
            match change {
                0 => pool.join(&proxies[index]),
                1 => pool.leave(&proxies[index]),
                _ => _ = proxies[index].is_available.fetch_xor(true, Relaxed),
            }
            is_member[index] = if change == 2 { is_member[index] } else { change == 0 };
            let is_eligible = |&index: &usize| is_member[index] && proxies[index].is_available.load(Relaxed);
            let share = |index: usize| if weighted { proxies[index].weight() as usize } else { 3 };
            let expected: HashMap<_, _> =
                (0..8).filter(is_eligible).map(|index| (proxies[index].name, share(index))).collect();
            prop_assert_eq!(&shares(&pool, expected.values().sum()), &expected);
        }
    }
}
