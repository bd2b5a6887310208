//! The rows of users: client addresses with open streams, and those that have left recently.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    RowId,
    rate_meter::{RateMeters, SampleClock},
};
use crate::{
    ids::{RateLimits, ServiceKey, UserChannelId},
    telemetry::UserSnapshot,
};

/// How long the row of a user that has left is kept: as long as the rows of its streams.
const KEEP_LEFT: Duration = Duration::from_secs(300);
/// How many users that have left are kept, so that those with one connection do not crowd out the others.
const MAX_LEFT: usize = 50;

/// How long rows that are sorted by a figure keep their places.
const RESORT_INTERVAL: Duration = Duration::from_secs(1);

/// What the users are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum UserSort {
    /// When they connected, the first one first: rows keep their places.
    #[default]
    Connected,
    /// The rates of both directions together, the fastest first.
    Traffic,
    /// The bytes of both directions together, the most first.
    Bytes,
    /// The open streams, the most first.
    Streams,
}

impl UserSort {
    /// All orders, as the operator steps through them.
    const ALL: [Self; 4] = [Self::Connected, Self::Traffic, Self::Bytes, Self::Streams];

    /// Returns the order after (or before) this one, cyclically.
    pub(crate) fn next(self, forward: bool) -> Self {
        let step = if forward { 1 } else { Self::ALL.len() - 1 };
        Self::ALL[(self as usize + step) % Self::ALL.len()]
    }

    /// Returns the name of the order on the screen.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connected => "age",
            Self::Traffic => "traffic",
            Self::Bytes => "bytes",
            Self::Streams => "streams",
        }
    }
}

/// The row of one user: a client address on one service. Rates are in bytes per second.
#[derive(Debug, Clone)]
pub(crate) struct UserRow {
    /// The IP address from which the user connects.
    pub(crate) addr: IpAddr,
    /// The public port that the user connected to, and its group.
    pub(crate) service: ServiceKey,
    /// When the user opened its first stream; after it had left, when it returned. Its figures count from then.
    pub(crate) since: Instant,
    /// When the user was found to have left; `None` while it is connected.
    pub(crate) left: Option<Instant>,
    /// Bytes forwarded to this user since it first connected.
    pub(crate) down: u64,
    /// Bytes forwarded from this user since it first connected.
    pub(crate) up: u64,
    /// Bytes per second forwarded to this user, over the last second.
    pub(crate) down_rate: f64,
    /// Bytes per second forwarded from this user, over the last second.
    pub(crate) up_rate: f64,
    /// How many streams of this user are open.
    pub(crate) streams: u64,
    /// How many streams this user has opened since it first connected.
    pub(crate) streams_total: u64,
    /// The rate limits that the operator set for all streams of this user together.
    pub(crate) limits: RateLimits,
    /// The serial number that snapshots give the user; another one after it has returned.
    number: u64,
    /// The number of the last snapshot that contained the user; 0 before the first, and after it has returned.
    last_sample: u64,
}

/// Identifies a line of the sessions screen: a user, or a stream of an unfolded user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserLine {
    User(UserChannelId),
    /// A stream of this user, in the row below it.
    Stream(UserChannelId, RowId),
}

impl UserLine {
    /// Returns the user of this line, or the user of its stream.
    pub(crate) fn user(self) -> UserChannelId {
        match self {
            Self::User(user) | Self::Stream(user, _) => user,
        }
    }
}

/// The rows of all users, in the order in which they connected, so that rows keep their places, unless the operator
/// sorts them by a figure.
#[derive(Debug, Clone, Default)]
pub(crate) struct UserRows {
    /// The rows of users, each at its slot; `None` where the slot is free.
    slots: Vec<Option<UserRow>>,
    /// The free indices of `slots`, which new users take first.
    free: Vec<usize>,
    /// The index in `slots` of each user's row.
    by_id: HashMap<UserChannelId, usize>,
    /// The ids of all users, as `sort` says; those that have connected since `sorted_at` are at the end.
    order: Vec<UserChannelId>,
    /// What `order` is sorted by.
    sort: UserSort,
    /// When `order` was sorted; `None` before the first time.
    sorted_at: Option<Instant>,
    /// The users that have left, and when; the first one first. A user that has returned since is one of them, too.
    departures: VecDeque<(UserChannelId, Instant)>,
    /// The number of users that have not left.
    connected: usize,
    /// For each position of the last snapshot, the number and the slot of its user: in the next one they are mostly
    /// the same.
    slot_hints: Vec<(u64, usize)>,
    /// The times of the last samples, by which `meters` computes rates.
    clock: SampleClock,
    /// The byte counters of each slot at the last samples, from which rates are computed.
    meters: RateMeters,
    /// The number of the last snapshot; the first is 1.
    sample_number: u64,
}

impl UserRows {
    /// Returns the ids of all users, in the order of [`sort`](Self::sort).
    pub(crate) fn order(&self) -> &[UserChannelId] {
        &self.order
    }

    /// Returns what the users are sorted by.
    pub(crate) fn sort(&self) -> UserSort {
        self.sort
    }

    /// Sorts the users by another figure.
    pub(crate) fn set_sort(&mut self, sort: UserSort, now: Instant) {
        self.sort = sort;
        self.sort_order(now);
    }

    /// Sorts `order`. Users that have left are behind the others, and equal ones in the order in which they connected.
    fn sort_order(&mut self, now: Instant) {
        self.sorted_at = Some(now);
        let mut order = std::mem::take(&mut self.order);
        order.sort_by_cached_key(|id| {
            let user = self.get(*id);
            let figure = user.map_or(0, |user| match self.sort {
                UserSort::Connected => 0,
                UserSort::Traffic => (user.down_rate + user.up_rate) as u64,
                UserSort::Bytes => user.down.saturating_add(user.up),
                UserSort::Streams => user.streams,
            });
            let is_behind = self.sort != UserSort::Connected && user.is_none_or(|user| user.left.is_some());
            (is_behind, Reverse(figure), user.map(|user| user.number))
        });
        self.order = order;
    }

    /// Returns the number of users that have not left.
    pub(crate) fn connected_count(&self) -> usize {
        self.connected
    }

    /// Returns the row of a user; `None` where the user has not been seen, or has left long ago.
    pub(crate) fn get(&self, id: UserChannelId) -> Option<&UserRow> {
        self.slots[*self.by_id.get(&id)?].as_ref()
    }

    /// Applies the users of a snapshot, which has them in the order in which they connected.
    pub(crate) fn sample(&mut self, snapshots: &[UserSnapshot], now: Instant, server_started: Instant) {
        self.clock.tick(now);
        self.sample_number += 1;
        let mut slot_hints = std::mem::take(&mut self.slot_hints);
        slot_hints.resize(snapshots.len(), (u64::MAX, 0));
        for (snapshot, hint) in snapshots.iter().zip(&mut slot_hints) {
            if hint.0 != snapshot.number {
                *hint = (snapshot.number, self.slot_of(snapshot, server_started));
            }
            let Some(user) = &mut self.slots[hint.1] else { continue };
            let is_first = user.last_sample + 1 != self.sample_number;
            user.last_sample = self.sample_number;
            user.limits = snapshot.limits;
            (user.down, user.up) = (snapshot.down, snapshot.up);
            (user.streams, user.streams_total) = (snapshot.streams_open, snapshot.streams_total);
            let rates = self.meters.record(&self.clock, hint.1, is_first, (snapshot.down, snapshot.up));
            (user.down_rate, user.up_rate) = (rates.0.into(), rates.1.into());
        }
        self.slot_hints = slot_hints;
        if self.connected > snapshots.len() {
            self.mark_missing_as_left(now);
        }
        self.drop_departed(now);
        let is_due = |at| now.saturating_duration_since(at) >= RESORT_INTERVAL;
        if self.sort != UserSort::Connected && self.sorted_at.is_none_or(is_due) {
            self.sort_order(now);
        }
    }

    /// Returns the index in `slots` of this user's row, after adding a row if the user is new. One that has returned
    /// has its row again.
    fn slot_of(&mut self, snapshot: &UserSnapshot, server_started: Instant) -> usize {
        let since = server_started + snapshot.connected_at;
        if let Some(&known) = self.by_id.get(&snapshot.id) {
            if let Some(user) = self.slots[known].as_mut().filter(|user| user.number != snapshot.number) {
                self.connected += usize::from(user.left.take().is_some());
                (user.number, user.since, user.last_sample) = (snapshot.number, since, 0);
            }
            return known;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.meters.reserve(self.slots.len());
            self.slots.len() - 1
        });
        self.slots[slot] = Some(UserRow {
            addr: snapshot.addr,
            service: snapshot.service.clone(),
            since,
            left: None,
            down: 0,
            up: 0,
            down_rate: 0.0,
            up_rate: 0.0,
            streams: 0,
            streams_total: 0,
            limits: RateLimits::default(),
            number: snapshot.number,
            last_sample: 0,
        });
        self.connected += 1;
        self.by_id.insert(snapshot.id, slot);
        self.order.push(snapshot.id);
        slot
    }

    /// Marks the users that the last snapshot does not contain: they have left, and have no streams and no limits any
    /// more.
    fn mark_missing_as_left(&mut self, now: Instant) {
        for id in &self.order {
            let slot = self.by_id.get(id).and_then(|slot| self.slots.get_mut(*slot)?.as_mut());
            let is_missing =
                |user: &&mut UserRow| user.left.is_none() && user.last_sample != self.sample_number;
            if let Some(user) = slot.filter(is_missing) {
                user.left = Some(now);
                (user.down_rate, user.up_rate, user.streams) = (0.0, 0.0, 0);
                user.limits = RateLimits::default();
                self.departures.push_back((*id, now));
                self.connected -= 1;
            }
        }
    }

    /// Drops the users that left more than [`KEEP_LEFT`] ago, and the first ones beyond [`MAX_LEFT`].
    fn drop_departed(&mut self, now: Instant) {
        let mut has_dropped = false;
        while let Some(&(id, at)) = self.departures.front() {
            let slot = self.by_id.get(&id).copied();
            let is_gone = |slot: &usize| self.slots[*slot].as_ref().is_some_and(|user| user.left == Some(at));
            let slot = slot.filter(is_gone);
            let is_expired = now.saturating_duration_since(at) >= KEEP_LEFT;
            if slot.is_some() && !is_expired && self.departures.len() <= MAX_LEFT {
                break;
            }
            self.departures.pop_front();
            if let Some(slot) = slot {
                self.by_id.remove(&id);
                self.slots[slot] = None;
                self.free.push(slot);
                has_dropped = true;
            }
        }
        if has_dropped {
            let by_id = &self.by_id;
            self.order.retain(|id| by_id.contains_key(id));
        }
    }
}
