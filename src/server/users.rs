//! The table of users: one entry for each client address on each service.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak, atomic::AtomicU32},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{
    ids::{StreamKey, UserChannelId, next_free_id},
    link::{RateLimit, RateLimitCount},
    telemetry::{ServiceStats, TableMutex, Telemetry, UserGuard, UserStats},
};

#[cfg(test)]
mod tests;

/// The maximum number of users at the same time. User ids are random 24-bit numbers: with 2^20 in use, one of 16 is
/// taken, so that a free one is found after few attempts.
const MAX_USERS: usize = 1 << 20;

/// The port of a service and the address of a client: what makes a user.
type UserAddr = (u16, IpAddr);

/// One client address on one service.
#[derive(Debug)]
pub(super) struct User {
    /// The random id by which screens, logs and commands name the user.
    id: UserChannelId,
    /// The telemetry guard of the user; its drop reports that the user has left.
    guard: UserGuard,
    /// The number of the user's last stream. Streams are numbered from 1 for each user; after 2^32 of them, which a load
    /// balancer in front of a port opens in days, the numbers of ended ones are used again.
    last_stream: AtomicU32,
    /// The rate limit of all streams of this user together.
    limit: Arc<RateLimit>,
    /// Aborts all streams of this user when it is cancelled.
    cancel: CancellationToken,
}

/// All users: found by address when a connection arrives, and by id when the operator names one.
#[derive(Debug)]
pub(super) struct Users {
    /// Where the beginning and the end of each user are reported.
    telemetry: Arc<Telemetry>,
    /// Aborts the streams of all users when it is cancelled.
    abort: CancellationToken,
    /// Counts the rate limits that are set in the whole server.
    limit_count: RateLimitCount,
    /// The users by address and by id.
    table: TableMutex<UserTable>,
}

/// The users by address, and the address of each id. Both maps hold the same users.
#[derive(Debug, Default)]
struct UserTable {
    /// The users by service port and client address.
    by_addr: HashMap<UserAddr, UserEntry>,
    /// The key in `by_addr` of each user, by user id.
    by_id: HashMap<UserChannelId, UserAddr>,
}

/// A user in the table.
#[derive(Debug)]
struct UserEntry {
    /// The user of this entry.
    user: Arc<User>,
    /// The number of the user's open connections.
    connections: usize,
    /// When the last connection ended; `None` while there is one.
    idle_since: Option<Instant>,
}

/// Keeps a user in the table for the lifetime of one of its connections. After the last one, the user stays for the
/// retention time, so that its next connection has the same user id.
#[derive(Debug)]
pub(super) struct UserLease {
    /// The table of users. Weak, so that a lease that outlives the server does not keep it.
    users: Weak<Users>,
    /// The user's key in the table: service port and client address.
    addr: UserAddr,
    /// The user that the connection belongs to.
    user: Arc<User>,
    /// The key of the connection's stream.
    pub(super) key: StreamKey,
}

impl UserLease {
    /// Returns the token that aborts all streams of this user when it is cancelled.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.user.cancel
    }

    /// Returns the telemetry guard of the user.
    pub(super) fn guard(&self) -> &UserGuard {
        &self.user.guard
    }

    /// Returns the rate limit of all streams of this user together.
    pub(super) fn limit(&self) -> &Arc<RateLimit> {
        &self.user.limit
    }
}

impl Drop for UserLease {
    fn drop(&mut self) {
        let Some(users) = self.users.upgrade() else { return };
        let mut table = users.table.lock();
        // A killed user is no longer in the table, and its address may belong to a new one.
        if let Some(entry) = table.by_addr.get_mut(&self.addr)
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
    /// Creates an empty table. Cancelling `abort` aborts the streams of all users.
    pub(super) fn new(
        telemetry: Arc<Telemetry>,
        abort: CancellationToken,
        limit_count: &RateLimitCount,
    ) -> Arc<Self> {
        Arc::new(Self { telemetry, abort, limit_count: limit_count.clone(), table: TableMutex::default() })
    }

    /// Admits one connection from `ip` to `service`, and adds its user to the table if it is new. Its stream gets a key
    /// for which `is_open` is false. Returns `None` if there are [`MAX_USERS`] users.
    pub(super) fn admit(
        self: &Arc<Self>,
        service: &Arc<ServiceStats>,
        ip: IpAddr,
        is_open: impl Fn(StreamKey) -> bool,
    ) -> Option<UserLease> {
        let addr = (service.key.port, ip);
        let mut table = self.table.lock();
        let UserTable { by_addr, by_id } = &mut *table;
        let is_new = !by_addr.contains_key(&addr);
        if is_new {
            if by_addr.len() >= MAX_USERS {
                return None;
            }
            let id = std::iter::repeat_with(|| UserChannelId::new(rand::random()))
                .find(|id| !by_id.contains_key(id))?;
            by_id.insert(id, addr);
            let user = User {
                id,
                guard: self.telemetry.register_user(id, ip, service),
                last_stream: AtomicU32::new(0),
                limit: RateLimit::new(&self.limit_count),
                cancel: self.abort.child_token(),
            };
            by_addr.insert(addr, UserEntry { user: Arc::new(user), connections: 0, idle_since: None });
        }
        let entry = by_addr.get_mut(&addr)?;
        entry.connections += 1;
        entry.idle_since = None;
        let user = entry.user.clone();
        // An event must not be emitted under the lock, for which all new connections wait. Of two connections that a new
        // user opens at the same time, the second may therefore be reported before the user is.
        drop(table);
        if is_new {
            user.guard.report_joined();
        }
        let stream = next_free_id(&user.last_stream, |number| is_open(StreamKey::new(user.id, number)));
        let key = StreamKey::new(user.id, stream);
        Some(UserLease { users: Arc::downgrade(self), addr, user, key })
    }

    /// Aborts all streams of a user and removes it from the table, so that the next connection from its address is a
    /// new user. Returns the number of its connections, or `None` if there is no such user.
    pub(super) fn kill(&self, id: UserChannelId) -> Option<usize> {
        let entry = {
            let mut table = self.table.lock();
            let addr = table.by_id.remove(&id)?;
            table.by_addr.remove(&addr)?
        };
        entry.user.cancel.cancel();
        Some(entry.connections)
    }

    /// Returns the counters and the rate limit of a user, or `None` if there is no such user.
    pub(super) fn find_limit(&self, id: UserChannelId) -> Option<(Arc<UserStats>, Arc<RateLimit>)> {
        let table = self.table.lock();
        let user = &table.by_addr.get(table.by_id.get(&id)?)?.user;
        Some((user.guard.stats().clone(), user.limit.clone()))
    }

    /// Removes the users whose last connection ended at least `retention` before `now`.
    pub(super) fn remove_idle(&self, now: Instant, retention: Duration) {
        let mut removed = Vec::new();
        {
            let mut table = self.table.lock();
            let UserTable { by_addr, by_id } = &mut *table;
            let is_expired = |entry: &UserEntry| {
                entry.idle_since.is_some_and(|since| now.saturating_duration_since(since) >= retention)
            };
            for (_, entry) in by_addr.extract_if(|_, entry| is_expired(entry)) {
                by_id.remove(&entry.user.id);
                removed.push(entry);
            }
        }
        // Dropping the guards emits events, which must not happen under the lock.
        drop(removed);
    }

    /// Returns the number of users in the table.
    pub(super) fn len(&self) -> usize {
        self.table.lock().by_addr.len()
    }
}
