use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    ids::{StreamKey, UserChannelId},
    link::{RateLimit, RateLimitCount},
    telemetry::{ServiceStats, Telemetry, UserGuard, UserStats},
};

/// How many users there may be at once: well below what 24 bits can name without a long search.
const MAX_USERS: usize = 1 << 20;

/// One client address on one service.
#[derive(Debug)]
pub(super) struct User {
    guard: UserGuard,
    next_stream: AtomicU32,
    limit: Arc<RateLimit>,
    /// Ends all of its streams.
    cancel: CancellationToken,
}

/// Who is there: found by address when a connection comes, by id when the operator names one.
#[derive(Debug)]
pub(super) struct Users {
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
    limit_count: RateLimitCount,
    table: Mutex<UserTable>,
}

#[derive(Debug, Default)]
struct UserTable {
    by_addr: HashMap<(u16, IpAddr), UserEntry>,
    by_id: HashMap<UserChannelId, (u16, IpAddr)>,
}

#[derive(Debug)]
struct UserEntry {
    user: Arc<User>,
    connections: usize,
    idle_since: Option<Instant>,
}

/// Holds a user's place for one connection. While there is one, the user stays; after the last, it lingers.
#[derive(Debug)]
pub(super) struct UserLease {
    users: Weak<Users>,
    place: (u16, IpAddr),
    user: Arc<User>,
    /// The name of the connection's stream.
    pub(super) key: StreamKey,
}

impl UserLease {
    /// Ends this user's streams when it is cancelled.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.user.cancel
    }

    pub(super) fn guard(&self) -> &UserGuard {
        &self.user.guard
    }

    pub(super) fn limit(&self) -> &Arc<RateLimit> {
        &self.user.limit
    }
}

impl Drop for UserLease {
    fn drop(&mut self) {
        let Some(users) = self.users.upgrade() else { return };
        let mut table = users.table.lock();
        // A killed user has left the table, and the address may belong to a new one.
        if let Some(entry) = table.by_addr.get_mut(&self.place)
            && Arc::ptr_eq(&entry.user, &self.user)
        {
            entry.connections -= 1;
            if entry.connections == 0 {
                entry.idle_since = Some(Instant::now());
            }
        }
    }
}

impl Users {
    /// Nobody yet. All users' streams end when `stop` is cancelled.
    pub(super) fn new(
        telemetry: Arc<Telemetry>,
        stop: CancellationToken,
        limits: &RateLimitCount,
    ) -> Arc<Self> {
        Arc::new(Self { telemetry, stop, limit_count: limits.clone(), table: Mutex::default() })
    }

    /// A connection came. `None` if there are too many users.
    pub(super) fn admit(self: &Arc<Self>, service: &Arc<ServiceStats>, addr: IpAddr) -> Option<UserLease> {
        let place = (service.key.port, addr);
        let mut table = self.table.lock();
        let UserTable { by_addr, by_id } = &mut *table;
        if !by_addr.contains_key(&place) {
            if by_addr.len() >= MAX_USERS {
                return None;
            }
            let id = std::iter::repeat_with(|| UserChannelId::new(rand::random()))
                .find(|id| !by_id.contains_key(id))?;
            by_id.insert(id, place);
            let user = User {
                guard: self.telemetry.user_joined(id, addr, service),
                next_stream: AtomicU32::new(1),
                limit: RateLimit::new(&self.limit_count),
                cancel: self.stop.child_token(),
            };
            by_addr.insert(place, UserEntry { user: Arc::new(user), connections: 0, idle_since: None });
        }
        let entry = by_addr.get_mut(&place)?;
        entry.connections += 1;
        entry.idle_since = None;
        let user = entry.user.clone();
        let key = StreamKey::new(user.guard.stats().id, user.next_stream.fetch_add(1, Relaxed));
        Some(UserLease { users: Arc::downgrade(self), place, user, key })
    }

    /// Ends all streams of a user. The next connection from its address is a new user. How many streams it had, or
    /// `None` if there is no such user.
    pub(super) fn kill(&self, id: UserChannelId) -> Option<usize> {
        let entry = {
            let mut table = self.table.lock();
            let place = table.by_id.remove(&id)?;
            table.by_addr.remove(&place)?
        };
        entry.user.cancel.cancel();
        Some(entry.connections)
    }

    /// A user's counters and its limit.
    pub(super) fn limit(&self, id: UserChannelId) -> Option<(Arc<UserStats>, Arc<RateLimit>)> {
        let table = self.table.lock();
        let user = &table.by_addr.get(table.by_id.get(&id)?)?.user;
        Some((user.guard.stats().clone(), user.limit.clone()))
    }

    /// Lets users go whose last connection ended `linger` ago.
    pub(super) fn sweep(&self, now: Instant, linger: Duration) {
        let mut gone = Vec::new();
        {
            let mut table = self.table.lock();
            let UserTable { by_addr, by_id } = &mut *table;
            let is_gone = |entry: &UserEntry| {
                entry.idle_since.is_some_and(|since| now.saturating_duration_since(since) >= linger)
            };
            for (_, entry) in by_addr.extract_if(|_, entry| is_gone(entry)) {
                by_id.remove(&entry.user.guard.stats().id);
                gone.push(entry);
            }
        }
        // Their guards tell that they left; not under the lock.
        drop(gone);
    }

    pub(super) fn len(&self) -> usize {
        self.table.lock().by_addr.len()
    }
}

#[cfg(test)]
mod tests {
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
        let leases: Vec<_> = (0..3).map(|_| users.admit(&service, addr).unwrap()).collect();
        let user = leases[0].key.user;
        assert_eq!(
            leases.iter().map(|lease| lease.key).collect::<Vec<_>>(),
            [1, 2, 3].map(|n| StreamKey::new(user, n))
        );
        assert_ne!(users.admit(&service, "192.0.2.2".parse().unwrap()).unwrap().key.user, user);
        assert_eq!(telemetry.totals().users_current, 2);
    }

    #[test]
    fn a_user_lingers_so_that_the_next_download_keeps_its_id() {
        let (telemetry, users, service) = users();
        let addr = "192.0.2.1".parse().unwrap();
        let first = users.admit(&service, addr).unwrap().key;
        let linger = Duration::from_secs(5);
        users.sweep(Instant::now(), linger);
        assert_eq!(users.admit(&service, addr).unwrap().key, StreamKey::new(first.user, 2));
        users.sweep(Instant::now() + linger, linger);
        assert_eq!((telemetry.totals().users_current, users.len()), (0, 0));
    }

    #[test]
    fn a_killed_user_comes_back_as_another() {
        let (_telemetry, users, service) = users();
        let addr = "192.0.2.1".parse().unwrap();
        let lease = users.admit(&service, addr).unwrap();
        assert_eq!(users.kill(lease.key.user), Some(1));
        assert!(lease.cancel().is_cancelled());
        assert_eq!(users.kill(lease.key.user), None);
        let next = users.admit(&service, addr).unwrap();
        drop(lease);
        assert!(!next.cancel().is_cancelled());
        users.sweep(Instant::now() + Duration::from_secs(9), Duration::from_secs(5));
        assert_eq!(users.len(), 1, "the new one still has its connection");
    }
}
