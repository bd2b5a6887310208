use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Something that streams can be given to.
pub(super) trait Candidate {
    /// Whether it takes a new stream now.
    fn is_available(&self) -> bool;
}

/// The proxies of one service, taken in turn.
///
/// Picking takes no lock: it reads the list that was current when it began and a counter. The list is replaced whole
/// when a proxy joins or leaves.
#[derive(Debug)]
pub(super) struct Pool<T> {
    members: ArcSwap<Vec<Arc<T>>>,
    /// Counts picks. It wraps after 2^64 of them, which shifts the turn once and never leaves the list.
    turn: AtomicU64,
    /// Serialises changes of the list, not the picks.
    changing: Mutex<()>,
    size: watch::Sender<usize>,
}

impl<T: Candidate> Pool<T> {
    pub(super) fn new() -> Self {
        Self {
            members: ArcSwap::default(),
            turn: AtomicU64::new(0),
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

    /// The member whose turn it is. The turn goes round those that are available, not round the list: stepping from
    /// one that is not to the next would give that one a double share.
    pub(super) fn pick(&self) -> Option<Arc<T>> {
        let members = self.members.load();
        let available = members.iter().filter(|member| member.is_available()).count() as u64;
        if available == 0 {
            return None;
        }
        let turn = self.turn.fetch_add(1, Relaxed) % available;
        let mut left = members.iter().filter(|member| member.is_available());
        // Somebody may have gone since they were counted.
        let nth = usize::try_from(turn).ok().and_then(|turn| left.nth(turn));
        nth.or_else(|| members.iter().find(|member| member.is_available())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicBool, thread};

    use super::*;

    #[derive(Debug)]
    struct Proxy(&'static str, AtomicBool);

    impl Candidate for Proxy {
        fn is_available(&self) -> bool {
            self.1.load(Relaxed)
        }
    }

    fn pool(names: &[&'static str]) -> (Pool<Proxy>, Vec<Arc<Proxy>>) {
        let pool = Pool::new();
        let proxies: Vec<_> = names.iter().map(|name| Arc::new(Proxy(name, AtomicBool::new(true)))).collect();
        proxies.iter().for_each(|proxy| pool.join(proxy));
        (pool, proxies)
    }

    fn shares(pool: &Pool<Proxy>, picks: usize) -> HashMap<&'static str, usize> {
        let mut shares = HashMap::new();
        for _ in 0..picks {
            *shares.entry(pool.pick().unwrap().0).or_default() += 1;
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
        assert!(pool.pick().is_none());
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
        let guest = Arc::new(Proxy("guest", AtomicBool::new(true)));
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
}
