//! Which proxy of a service gets the next stream.

mod load;
mod smooth;

use std::{
    cmp::Ordering,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

pub(super) use load::{ActiveStreamGuard, ProxyLoad};

use crate::ids::Policy;
use smooth::{SmoothRoundRobin, WeightedCandidate};

/// Up to so many candidates all are compared; of more, the better of two taken at random is nearly as good.
const COMPARE_ALL: usize = 16;

/// Something that streams can be given to.
pub(super) trait Candidate {
    /// Whether it takes a new stream now.
    fn is_available(&self) -> bool;
    /// Its share beside others'.
    fn weight(&self) -> u32;
    /// What it has to do.
    fn load(&self) -> &ProxyLoad;
}

/// The proxies of one service, and who gets the next stream.
///
/// Picking reads the list that was current when it began; the list is replaced whole when a proxy joins or leaves. In
/// turn takes no lock, by weight takes one for some hundred nanoseconds.
#[derive(Debug)]
pub(super) struct Pool<T> {
    members: ArcSwap<Vec<Arc<T>>>,
    policy: AtomicU8,
    /// Counts picks. It wraps after 2^64 of them, which shifts the turn once and never leaves the list.
    turn: AtomicU64,
    smooth: Mutex<SmoothRoundRobin>,
    /// Serialises changes of the list, not the picks.
    changing: Mutex<()>,
    size: watch::Sender<usize>,
}

impl<T: Candidate> Pool<T> {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            members: ArcSwap::default(),
            policy: AtomicU8::new(policy as u8),
            turn: AtomicU64::new(0),
            smooth: Mutex::default(),
            changing: Mutex::new(()),
            size: watch::Sender::new(0),
        }
    }

    /// Adds a member, unless it is in already.
    pub(super) fn join(&self, member: &Arc<T>) {
        self.change(|members| {
            if !members.iter().any(|known| Arc::ptr_eq(known, member)) {
                members.push(member.clone());
            }
        });
    }

    /// Takes a member out.
    pub(super) fn leave(&self, member: &Arc<T>) {
        self.change(|members| members.retain(|known| !Arc::ptr_eq(known, member)));
    }

    /// Makes those look again who wait for a member: one may have become available.
    pub(super) fn look_again(&self) {
        self.change(|_| {});
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<T>>)) {
        let _changing = self.changing.lock();
        let mut members = Vec::clone(&self.members.load());
        change(&mut members);
        let size = members.len();
        self.members.store(Arc::new(members));
        self.size.send_replace(size);
    }

    /// Follows how many members there are.
    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.size.subscribe()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.load().is_empty()
    }

    /// From now on members are picked in this way.
    pub(super) fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u8, Relaxed);
    }

    /// The member that gets the next stream: one that is available, and none of `tried`.
    pub(super) fn pick(&self, tried: &[Arc<T>]) -> Option<Arc<T>> {
        let members = self.members.load();
        let may =
            |member: &&Arc<T>| member.is_available() && !tried.iter().any(|one| Arc::ptr_eq(one, member));
        let left = members.iter().filter(may);
        let count = left.clone().count();
        if count == 0 {
            return None;
        }
        let picked = match Policy::from_number(self.policy.load(Relaxed)).unwrap_or_default() {
            Policy::RoundRobin => left.clone().nth(self.turn(count, tried.is_empty())),
            Policy::Weighted => {
                let available = members.iter().filter(|member| member.is_available());
                let weighted = available.clone().map(|member| WeightedCandidate {
                    id: Arc::as_ptr(member).addr(),
                    weight: member.weight(),
                    passed_over: !may(&member),
                });
                let index = self.smooth.lock().pick(weighted);
                index.and_then(|index| available.clone().nth(index)).filter(may)
            }
            Policy::LeastStreams if count > COMPARE_ALL => better_of_two(left.clone(), count, fewer_streams),
            // Those that are alike take turns: the search begins with another each time.
            Policy::LeastStreams => {
                let first = self.turn(count, tried.is_empty());
                left.clone().cycle().skip(first).take(count).min_by(|a, b| fewer_streams(a, b))
            }
            Policy::PeakEwma => {
                let now = Instant::now();
                let cost = |member: &Arc<T>| member.load().cost(now);
                better_of_two(left.clone(), count, |a, b| cost(a).total_cmp(&cost(b)))
            }
        };
        // Somebody may have gone since they were counted.
        picked.or_else(|| left.clone().next()).cloned()
    }

    /// The turn goes round those that may be picked, not round the list: stepping from one that may not to the next
    /// would give that one a double share.
    fn turn(&self, count: usize, first: bool) -> usize {
        // Who is asked in place of another does not use up a turn: else two that pass everything on to each other would
        // always be asked in the same order.
        let turn = self.turn.fetch_add(u64::from(first), Relaxed) % count as u64;
        usize::try_from(turn).unwrap_or_default()
    }
}

/// Which has fewer streams for its weight.
fn fewer_streams<T: Candidate>(a: &Arc<T>, b: &Arc<T>) -> Ordering {
    let of = |one: &Arc<T>, other: &Arc<T>| u64::from(one.load().active()) * u64::from(other.weight());
    of(a, b).cmp(&of(b, a))
}

/// The lesser of two different ones, taken at random. Everybody who took the least of all would take the same one,
/// until what they cause there can be measured.
fn better_of_two<'a, T>(
    members: impl Iterator<Item = &'a Arc<T>> + Clone,
    count: usize,
    compare: impl Fn(&'a Arc<T>, &'a Arc<T>) -> Ordering,
) -> Option<&'a Arc<T>> {
    let first = rand::random_range(0..count);
    let second = (first + rand::random_range(1..count.max(2))) % count;
    let (first, second) = (members.clone().nth(first)?, members.clone().nth(second)?);
    Some(if compare(second, first).is_lt() { second } else { first })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::atomic::{AtomicBool, AtomicU32},
        thread,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct TestProxy(&'static str, AtomicBool, AtomicU32, Arc<ProxyLoad>);

    impl TestProxy {
        fn new(name: &'static str) -> Self {
            Self(name, AtomicBool::new(true), AtomicU32::new(1), Arc::default())
        }
    }

    impl Candidate for TestProxy {
        fn is_available(&self) -> bool {
            self.1.load(Relaxed)
        }

        fn weight(&self) -> u32 {
            self.2.load(Relaxed)
        }

        fn load(&self) -> &ProxyLoad {
            &self.3
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
            *shares.entry(pool.pick(&[]).unwrap().0).or_default() += 1;
        }
        shares
    }

    #[test]
    fn everybody_available_gets_the_same_share() {
        let (pool, proxies) = pool(&["a", "b", "c"]);
        assert_eq!(shares(&pool, 300), HashMap::from([("a", 100), ("b", 100), ("c", 100)]));
        proxies[1].1.store(false, Relaxed);
        assert_eq!(shares(&pool, 300), HashMap::from([("a", 150), ("c", 150)]));
        pool.leave(&proxies[0]);
        assert_eq!(shares(&pool, 10), HashMap::from([("c", 10)]));
        proxies[2].1.store(false, Relaxed);
        assert!(pool.pick(&[]).is_none());
    }

    /// The seed took `abs(counter) % n`, and `abs` of the smallest number is negative.
    #[test]
    fn the_counter_may_overflow() {
        let (pool, _proxies) = pool(&["a", "b", "c"]);
        pool.turn.store(u64::MAX - 150, Relaxed);
        assert!(shares(&pool, 300).values().all(|share| (99..=101).contains(share)));
    }

    #[test]
    fn picks_from_many_threads_stay_fair_while_members_come_and_go() {
        let (pool, proxies) = pool(&["a", "b"]);
        let guest = Arc::new(TestProxy::new("guest"));
        let totals = thread::scope(|scope| {
            let pickers: Vec<_> = (0..4).map(|_| scope.spawn(|| shares(&pool, 20_000))).collect();
            for _ in 0..500 {
                pool.join(&guest);
                pool.leave(&guest);
            }
            pickers.into_iter().map(|picker| picker.join().unwrap()).fold(
                HashMap::new(),
                |mut sum, shares| {
                    shares.into_iter().for_each(|(name, share)| *sum.entry(name).or_insert(0usize) += share);
                    sum
                },
            )
        });
        let (a, b) = (totals["a"] as f64, totals["b"] as f64);
        assert!((a / b - 1.0).abs() < 0.05, "{totals:?}");
        assert_eq!(shares(&pool, 10), HashMap::from([("a", 5), ("b", 5)]));
        drop(proxies);
    }

    #[test]
    fn weights_are_kept_exactly_also_when_they_change() {
        let (pool, proxies) = pool(&["a", "b", "c"]);
        pool.set_policy(Policy::Weighted);
        proxies[0].2.store(5, Relaxed);
        proxies[2].2.store(2, Relaxed);
        assert_eq!(shares(&pool, 80), HashMap::from([("a", 50), ("b", 10), ("c", 20)]));
        shares(&pool, 3);
        proxies[1].2.store(3, Relaxed);
        assert_eq!(shares(&pool, 100), HashMap::from([("a", 50), ("b", 30), ("c", 20)]));
        proxies[0].1.store(false, Relaxed);
        assert_eq!(shares(&pool, 100), HashMap::from([("b", 60), ("c", 40)]));
    }

    #[test]
    fn the_fewest_streams_for_the_weight_win_and_those_alike_take_turns() {
        let (pool, proxies) = pool(&["a", "b", "c"]);
        pool.set_policy(Policy::LeastStreams);
        assert_eq!(shares(&pool, 300), HashMap::from([("a", 100), ("b", 100), ("c", 100)]));
        proxies[2].2.store(2, Relaxed);
        let mut open = Vec::new();
        for _ in 0..40 {
            open.push(pool.pick(&[]).unwrap().3.begin());
        }
        let active: Vec<_> = proxies.iter().map(|proxy| proxy.3.active()).collect();
        assert_eq!(active, [10, 10, 20]);
        drop(open);
        assert!(proxies.iter().all(|proxy| proxy.3.active() == 0));
    }

    #[test]
    fn who_answers_slowly_is_left_alone_by_peak_ewma() {
        let (pool, proxies) = pool(&["slow", "b", "c"]);
        pool.set_policy(Policy::PeakEwma);
        proxies[0].3.answered(Duration::from_millis(500));
        proxies[1].3.answered(Duration::from_millis(50));
        proxies[2].3.answered(Duration::from_millis(50));
        let shares = shares(&pool, 3000);
        // Of the three pairs that are drawn alike, one holds each of them without the other.
        assert!(!shares.contains_key("slow") && shares["b"] > 800 && shares["c"] > 800, "{shares:?}");
        // Unless the others have their hands full.
        let _busy: Vec<_> = proxies[1..].iter().flat_map(|proxy| (0..20).map(|_| proxy.3.begin())).collect();
        assert!((0..100).any(|_| pool.pick(&[]).unwrap().0 == "slow"));
    }

    #[test]
    fn who_was_tried_is_not_picked_again() {
        for policy in Policy::ALL {
            let (pool, proxies) = pool(&["a", "b", "c"]);
            pool.set_policy(policy);
            for _ in 0..50 {
                assert_eq!(pool.pick(&proxies[..2]).unwrap().0, "c", "{policy}");
                assert!(pool.pick(&proxies).is_none(), "{policy}");
            }
        }
    }

    proptest! {
        /// Members come, go, and stop taking streams; in between, whoever is there gets its exact share.
        #[test]
        fn everybody_gets_its_share_while_members_come_and_go(
            changes in prop::collection::vec((0usize..8, 0u8..3), 1..40),
            weighted: bool,
        ) {
            let pool = Pool::new(if weighted { Policy::Weighted } else { Policy::RoundRobin });
            let proxies: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| Arc::new(TestProxy::new(name))).into();
            for (index, proxy) in proxies.iter().enumerate() {
                proxy.2.store(index as u32 + 1, Relaxed);
            }
            let mut there = [false; 8];
            for (index, change) in changes {
                match change {
                    0 => pool.join(&proxies[index]),
                    1 => pool.leave(&proxies[index]),
                    _ => _ = proxies[index].1.fetch_xor(true, Relaxed),
                }
                there[index] = if change == 2 { there[index] } else { change == 0 };
                let left = |&index: &usize| there[index] && proxies[index].1.load(Relaxed);
                let share = |index: usize| if weighted { proxies[index].weight() as usize } else { 3 };
                let expected: HashMap<_, _> =
                    (0..8).filter(left).map(|index| (proxies[index].0, share(index))).collect();
                prop_assert_eq!(&shares(&pool, expected.values().sum()), &expected);
            }
        }
    }
}
