//! The proxies of one service, and the policies by which one of them is selected for a new stream.

use std::{
    cmp::Ordering,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    load::ProxyLoad,
    smooth_round_robin::{SmoothRoundRobin, WeightedCandidate},
};
use crate::ids::{NetworkRefusal, Policy, UserNetworks};

#[cfg(test)]
mod tests;

/// The largest number of candidates among which least-streams compares all. Of more, it compares two random ones,
/// which is nearly as good.
const MAX_COMPARED: usize = 16;

/// A member of a pool, to which streams can be assigned.
pub(in crate::server) trait Candidate {
    /// Returns whether a new stream may be assigned to the candidate now.
    fn is_available(&self) -> bool;
    /// Returns the candidate's share of new streams, relative to the other members.
    fn weight(&self) -> u32;
    /// Returns the candidate's open streams and latency.
    fn load(&self) -> &ProxyLoad;
}

/// A proxy in a pool, with the users that it admits to the pool's service.
#[derive(Debug)]
pub(in crate::server) struct Member<T> {
    /// The proxy.
    pub(in crate::server) proxy: Arc<T>,
    /// The networks of the users that may be assigned to it.
    pub(in crate::server) networks: UserNetworks,
}

impl<T> Clone for Member<T> {
    fn clone(&self) -> Self {
        Self { proxy: self.proxy.clone(), networks: self.networks.clone() }
    }
}

/// The proxies of one service and the policy by which one of them is selected for each new stream.
///
/// [`pick`](Self::pick) reads the list of members that is current when it begins; joining and leaving replace the
/// whole list. Round robin takes no lock, the weighted policy takes one for some hundred nanoseconds.
#[derive(Debug)]
pub(in crate::server) struct Pool<T> {
    /// The current members, in the order in which they joined.
    members: ArcSwap<Vec<Member<T>>>,
    /// The number of the current [`Policy`].
    policy: AtomicU8,
    /// The number of streams that round robin has assigned so far. It wraps after 2^64, which shifts the rotation
    /// once and cannot produce an index outside the list.
    rotation: AtomicU64,
    /// The scores by which the weighted policy spreads the streams.
    weighted: Mutex<SmoothRoundRobin>,
    /// Serialises changes of the list of members. Picks do not take it.
    change_lock: Mutex<()>,
    /// Publishes the number of members after each change.
    size: watch::Sender<usize>,
}

impl<T: Candidate> Pool<T> {
    /// Creates a pool without members.
    pub(in crate::server) fn new(policy: Policy) -> Self {
        Self {
            members: ArcSwap::default(),
            policy: AtomicU8::new(policy as u8),
            rotation: AtomicU64::new(0),
            weighted: Mutex::default(),
            change_lock: Mutex::new(()),
            size: watch::Sender::new(0),
        }
    }

    /// Adds a proxy to the members, or replaces the networks of one that is, and wakes the users that wait for a proxy.
    pub(in crate::server) fn join(&self, member: impl Into<Member<T>>) {
        self.add(member.into());
        self.wake_waiting();
    }

    /// Adds a proxy to the members, or replaces the networks of one that is, and wakes no task, because the caller
    /// holds a lock. It calls [`wake_waiting`](Self::wake_waiting) once it has released that.
    pub(in crate::server) fn add(&self, member: Member<T>) {
        self.change_members(|members| {
            match members.iter_mut().find(|known| Arc::ptr_eq(&known.proxy, &member.proxy)) {
                Some(known) => *known = member,
                None => members.push(member),
            }
        });
    }

    /// Removes a proxy from the members. Does nothing if it is none.
    pub(in crate::server) fn leave(&self, member: &Arc<T>) {
        self.change_members(|members| members.retain(|known| !Arc::ptr_eq(&known.proxy, member)));
        self.wake_waiting();
    }

    /// Wakes all receivers of [`watch`](Self::watch), so that waiting users try again: a member may have become
    /// available.
    pub(in crate::server) fn wake_waiting(&self) {
        // Reads the list itself, so that the last of several changes at the same time is published last.
        self.size.send_modify(|size| *size = self.members.load().len());
    }

    /// Replaces the list of members by a changed copy. The caller publishes its length, which wakes tasks.
    fn change_members(&self, change: impl FnOnce(&mut Vec<Member<T>>)) {
        let _serialised = self.change_lock.lock();
        let mut members = Vec::clone(&self.members.load());
        change(&mut members);
        self.members.store(Arc::new(members));
    }

    /// Returns a receiver of the number of members. It is also notified when a member may have become available.
    pub(in crate::server) fn watch(&self) -> watch::Receiver<usize> {
        self.size.subscribe()
    }

    /// Returns whether no proxy is registered for the service.
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.members.load().is_empty()
    }

    /// Decides whether a user with this address is admitted to the service: whether any of its members, available now
    /// or not, admits it. Without members that is not known yet, and the user may wait for one.
    ///
    /// # Errors
    /// Why one of the members does not admit the user.
    pub(in crate::server) fn check_user(&self, addr: IpAddr) -> Result<(), NetworkRefusal> {
        let members = self.members.load();
        let mut refusal = Ok(());
        for member in members.iter() {
            refusal = member.networks.check(addr);
            if refusal.is_ok() {
                break;
            }
        }
        refusal
    }

    /// Sets the policy by which members are selected from now on.
    pub(in crate::server) fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u8, Relaxed);
    }

    /// Selects the member for the next stream by the current policy, among those that are available, admit the `user`
    /// (`None`: no user, whom all admit) and are not in `tried`. Returns `None` if there is none.
    pub(in crate::server) fn pick(&self, tried: &[Arc<T>], user: Option<IpAddr>) -> Option<Arc<T>> {
        let members = self.members.load();
        let is_eligible = |member: &&Member<T>| {
            member.proxy.is_available()
                && !tried.iter().any(|one| Arc::ptr_eq(one, &member.proxy))
                && user.is_none_or(|user| member.networks.check(user).is_ok())
        };
        let eligible = members.iter().filter(is_eligible).map(|member| &member.proxy);
        let count = eligible.clone().count();
        if count == 0 {
            return None;
        }
        let is_first_attempt = tried.is_empty();
        let picked = match Policy::from_number(self.policy.load(Relaxed)).unwrap_or_default() {
            Policy::RoundRobin => eligible.clone().nth(self.next_in_rotation(count, is_first_attempt)),
            Policy::Weighted => {
                let available = members.iter().filter(|member| member.proxy.is_available());
                let candidates = available.clone().map(|member| WeightedCandidate {
                    id: Arc::as_ptr(&member.proxy).addr(),
                    weight: member.proxy.weight(),
                    is_excluded: !is_eligible(&member),
                });
                let index = self.weighted.lock().pick(candidates);
                let picked = index.and_then(|index| available.clone().nth(index)).filter(is_eligible);
                picked.map(|member| &member.proxy)
            }
            Policy::LeastStreams if count > MAX_COMPARED => {
                better_of_two(eligible.clone(), count, compare_streams_per_weight)
            }
            // The comparison starts at another member each time, so that equally loaded members alternate.
            Policy::LeastStreams => {
                let start = self.next_in_rotation(count, is_first_attempt);
                let rotated = eligible.clone().cycle().skip(start).take(count);
                rotated.min_by(|a, b| compare_streams_per_weight(a, b))
            }
            Policy::PeakEwma => {
                let now = Instant::now();
                let cost = |member: &Arc<T>| member.load().cost(now);
                better_of_two(eligible.clone(), count, |a, b| cost(a).total_cmp(&cost(b)))
            }
        };
        // A member may have become unavailable since they were counted.
        picked.or_else(|| eligible.clone().next()).cloned()
    }

    /// Returns the next index of the rotation over `count` eligible members. The rotation covers the eligible members
    /// and not the whole list: skipping from an unavailable member to the next one would give that one a double
    /// share.
    fn next_in_rotation(&self, count: usize, is_first_attempt: bool) -> usize {
        // Only the first attempt for a stream advances the rotation. If retries advanced it too, each stream that two
        // members refuse would advance it by two, and all streams would try the two in the same order.
        let index = self.rotation.fetch_add(u64::from(is_first_attempt), Relaxed) % count as u64;
        usize::try_from(index).unwrap_or_default()
    }
}

/// Compares two members by the number of their open streams divided by their weight.
fn compare_streams_per_weight<T: Candidate>(a: &Arc<T>, b: &Arc<T>) -> Ordering {
    // Cross-multiplied, which avoids the division.
    let scaled =
        |one: &Arc<T>, other: &Arc<T>| u64::from(one.load().active_streams()) * u64::from(other.weight());
    scaled(a, b).cmp(&scaled(b, a))
}

/// Returns the lesser of two different random members (power of two choices). If each stream took the least loaded
/// member of all, simultaneous streams would all take the same one, until their effect on it can be measured.
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
