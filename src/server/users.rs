//! The table of users: one entry for each client address on each service.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::departed_users::{DepartedUser, DepartedUsers, UserAddr};
use crate::{
    ids::{StreamKey, UserChannelId, UserIdKey, next_free_id},
    link::{RateLimit, RateLimitCount},
    telemetry::{ServiceStats, TableMutex, Telemetry, UserGuard, UserStats},
};

#[cfg(test)]
mod tests;

/// The maximum number of users in the table. User ids have 24 bits: with 2^20 in use, one of 16 is taken, so that a
/// free one is found after few attempts. More than the 1,000,000 connections that `--max-streams` allows at most: one
/// of a full table has no connection, and makes room.
const MAX_USERS: usize = 1 << 20;

/// One client address on one service.
#[derive(Debug)]
pub(super) struct User {
    /// The id by which screens, logs and commands name the user.
    id: UserChannelId,
    /// The telemetry guard of the user; its drop reports that the user has left.
    guard: UserGuard,
    /// The number of the user's last stream. Streams are numbered from 1 for each user; after 2^32 of them, which a
    /// load balancer in front of a port opens in days, the numbers of ended ones are used again.
    last_stream: AtomicU32,
    /// The rate limit of all streams of this user together.
    limit: Arc<RateLimit>,
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
    /// The key from which user ids are derived.
    id_key: UserIdKey,
    /// The most users that the table may hold, beside those that have left.
    max_users: usize,
    /// The users by address and by id.
    table: TableMutex<UserTable>,
}

/// The users by address, those that have left, and the address of each id.
#[derive(Debug, Default)]
struct UserTable {
    /// The users by service port and client address.
    by_addr: HashMap<UserAddr, UserEntry>,
    /// Users whose last connection had ended at the given time, the first one in front. Those that have connected again
    /// are passed over, so that neither the removal nor a full table searches all users.
    idle: VecDeque<(UserAddr, Instant)>,
    /// The users that have left, whose ids no other user gets.
    departed: DepartedUsers,
    /// The key in `by_addr` or `departed` of each user, by user id.
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
    /// Whether the user is in [`UserTable::idle`], where each is at most once.
    is_queued: bool,
    /// Aborts the streams of this user when it is cancelled: those that were admitted since the user was last killed.
    cancel: CancellationToken,
}

/// Keeps a user in the table for the lifetime of one of its connections. After the last one, the user stays for the
/// retention time, so that a client with one connection after the other does not come and go; its id is kept for
/// longer.
#[derive(Debug)]
pub(super) struct UserLease {
    /// The table of users. Weak, so that a lease that outlives the server does not keep it.
    users: Weak<Users>,
    /// The user's key in the table: service port and client address.
    addr: UserAddr,
    /// The user that the connection belongs to.
    user: Arc<User>,
    /// Aborts the connection, with the others that the user has now.
    cancel: CancellationToken,
    /// The key of the connection's stream.
    pub(super) key: StreamKey,
}

impl UserTable {
    /// Returns the id of a user that is not in the table, and the number of its last stream: those that it had before,
    /// or the id that is derived from its address. Where another user has that one, present or departed, the next one
    /// is derived, so that no id names two users. `None` if all ids are taken, which `MAX_USERS` prevents.
    fn assign_id(&mut self, addr: UserAddr, key: &UserIdKey) -> Option<DepartedUser> {
        if let Some(departed) = self.departed.take(&addr) {
            return Some(departed);
        }
        let (port, ip) = addr;
        let mut derived = (0..=u32::MAX).map(|attempt| key.derive(port, ip, attempt));
        let id = derived.find(|id| !self.by_id.contains_key(id))?;
        self.by_id.insert(id, addr);
        Some(DepartedUser { id, last_stream: 0 })
    }

    /// Removes the user that has had no connection for the longest time, if its last one ended at `before` or earlier,
    /// or in any case without that. Its id is kept. Returns the entry, whose guard must be dropped after the table was
    /// unlocked, because that emits an event.
    fn remove_first_idle(&mut self, before: Option<Instant>) -> Option<UserEntry> {
        // A user that has connected since it was queued goes to the end of the queue, at most once.
        for _ in 0..2 * self.idle.len() {
            let &(addr, since) = self.idle.front()?;
            if before.is_some_and(|before| since > before) {
                return None;
            }
            self.idle.pop_front();
            let Some(entry) = self.by_addr.get_mut(&addr) else { continue };
            entry.is_queued = false;
            match entry.idle_since {
                // Queued when its last connection ends.
                None => {}
                Some(left) if left > before.unwrap_or(since) => {
                    entry.is_queued = true;
                    self.idle.push_back((addr, left));
                }
                Some(_) => {
                    let entry = self.by_addr.remove(&addr)?;
                    let last_stream = entry.user.last_stream.load(Relaxed);
                    if let Some(forgotten) =
                        self.departed.add(addr, DepartedUser { id: entry.user.id, last_stream })
                    {
                        self.by_id.remove(&forgotten.id);
                    }
                    return Some(entry);
                }
            }
        }
        None
    }
}

impl UserLease {
    /// Returns the token that aborts the connection when the user is killed.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
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
        let UserTable { by_addr, idle, .. } = &mut *table;
        if let Some(entry) = by_addr.get_mut(&self.addr) {
            entry.connections -= 1;
            if entry.connections == 0 {
                let now = Instant::now();
                entry.idle_since = Some(now);
                if !std::mem::replace(&mut entry.is_queued, true) {
                    idle.push_back((self.addr, now));
                }
            }
        }
    }
}

impl Users {
    /// Creates an empty table whose user ids are derived from `id_key`. Cancelling `abort` aborts the streams of all
    /// users.
    pub(super) fn new(
        telemetry: Arc<Telemetry>,
        abort: CancellationToken,
        limit_count: &RateLimitCount,
        id_key: UserIdKey,
    ) -> Arc<Self> {
        Arc::new(Self {
            telemetry,
            abort,
            limit_count: limit_count.clone(),
            id_key,
            max_users: MAX_USERS,
            table: TableMutex::default(),
        })
    }

    /// Admits a connection from `ip` to a service: adds the user if it is new, and assigns the next stream id, except
    /// those that are open. In a full table a new user displaces the one that has had no connection for the longest
    /// time, so that no client keeps others out with the addresses of users that have left. Returns `None` if
    /// [`MAX_USERS`] are connected.
    pub(super) fn admit(
        self: &Arc<Self>,
        service: &Arc<ServiceStats>,
        ip: IpAddr,
        is_open: impl Fn(StreamKey) -> bool,
    ) -> Option<UserLease> {
        let addr = (service.key.port, ip);
        // Dropped after the lock is released: its guard emits an event.
        let mut _displaced = None;
        let mut table = self.table.lock();
        let is_new = !table.by_addr.contains_key(&addr);
        if is_new {
            if table.by_addr.len() >= self.max_users {
                _displaced = Some(table.remove_first_idle(None)?);
            }
            let DepartedUser { id, last_stream } = table.assign_id(addr, &self.id_key)?;
            let user = User {
                id,
                guard: self.telemetry.register_user(id, ip, service),
                last_stream: AtomicU32::new(last_stream),
                limit: RateLimit::new(&self.limit_count),
            };
            let cancel = self.abort.child_token();
            let entry = UserEntry {
                user: Arc::new(user),
                connections: 0,
                idle_since: None,
                is_queued: false,
                cancel,
            };
            table.by_addr.insert(addr, entry);
        }
        let entry = table.by_addr.get_mut(&addr)?;
        entry.connections += 1;
        entry.idle_since = None;
        let (user, cancel) = (entry.user.clone(), entry.cancel.clone());
        // An event must not be emitted under the lock, for which all new connections wait. Of two connections that a
        // new user opens at the same time, the second may therefore be reported before the user is.
        drop(table);
        if is_new {
            user.guard.report_joined();
        }
        let stream = next_free_id(&user.last_stream, |number| is_open(StreamKey::new(user.id, number)));
        let key = StreamKey::new(user.id, stream);
        Some(UserLease { users: Arc::downgrade(self), addr, user, cancel, key })
    }

    /// Aborts all streams that a user has now. Its next connection belongs to the same user. Returns the number of its
    /// connections, or `None` if there is no such user.
    pub(super) fn kill(&self, id: UserChannelId) -> Option<usize> {
        let (cancel, connections) = {
            let mut table = self.table.lock();
            let UserTable { by_addr, by_id, .. } = &mut *table;
            let entry = by_addr.get_mut(by_id.get(&id)?)?;
            (std::mem::replace(&mut entry.cancel, self.abort.child_token()), entry.connections)
        };
        cancel.cancel();
        Some(connections)
    }

    /// Returns the counters and the rate limit of a user, or `None` if there is no such user.
    pub(super) fn find_limit(&self, id: UserChannelId) -> Option<(Arc<UserStats>, Arc<RateLimit>)> {
        let table = self.table.lock();
        let user = &table.by_addr.get(table.by_id.get(&id)?)?.user;
        Some((user.guard.stats().clone(), user.limit.clone()))
    }

    /// Removes the users whose last connection ended at least `retention` before `now`. Their ids are kept.
    pub(super) fn remove_idle(&self, now: Instant, retention: Duration) {
        let mut removed = Vec::new();
        if let Some(before) = now.checked_sub(retention) {
            let mut table = self.table.lock();
            removed.extend(std::iter::from_fn(|| table.remove_first_idle(Some(before))));
        }
        // Dropping the guards emits events, which must not happen under the lock.
        drop(removed);
    }

    /// Returns the number of users in the table.
    pub(super) fn len(&self) -> usize {
        self.table.lock().by_addr.len()
    }
}
