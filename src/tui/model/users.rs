use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    RowId,
    meter::{Meter, SampleClock},
};
use crate::{
    ids::{RateLimits, ServiceKey, UserChannelId},
    telemetry::UserSnapshot,
};

/// One user.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) addr: IpAddr,
    pub(crate) service: ServiceKey,
    pub(crate) age: Duration,
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) down_rate: f64,
    pub(crate) up_rate: f64,
    pub(crate) streams: u64,
    pub(crate) streams_ever: u64,
    pub(crate) limits: RateLimits,
    meters: (Meter, Meter),
    seen: u64,
}

/// A row of the users on the screen of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserLine {
    User(UserChannelId),
    /// One of the streams of the user above, who is unfolded.
    Stream(UserChannelId, RowId),
}

impl UserLine {
    /// Whose it is.
    pub(crate) fn user(self) -> UserChannelId {
        match self {
            Self::User(user) | Self::Stream(user, _) => user,
        }
    }
}

/// The users that are there, the first to come first: they do not dance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    all: HashMap<UserChannelId, User>,
    order: Vec<UserChannelId>,
    clock: SampleClock,
    sample: u64,
}

impl Users {
    pub(crate) fn order(&self) -> &[UserChannelId] {
        &self.order
    }

    pub(crate) fn get(&self, id: UserChannelId) -> Option<&User> {
        self.all.get(&id)
    }

    /// Takes what a snapshot says.
    pub(crate) fn sample(&mut self, snapshots: &[UserSnapshot], now: Instant) {
        self.clock.tick(now);
        self.sample += 1;
        let before = self.order.len();
        for snapshot in snapshots {
            let order = &mut self.order;
            let user = self.all.entry(snapshot.id).or_insert_with(|| {
                order.push(snapshot.id);
                User {
                    addr: snapshot.addr,
                    service: snapshot.service.clone(),
                    age: snapshot.age,
                    down: 0,
                    up: 0,
                    down_rate: 0.0,
                    up_rate: 0.0,
                    streams: 0,
                    streams_ever: 0,
                    limits: RateLimits::default(),
                    meters: Default::default(),
                    seen: 0,
                }
            });
            user.seen = self.sample;
            (user.age, user.limits) = (snapshot.age, snapshot.limits);
            (user.down, user.up) = (snapshot.down, snapshot.up);
            (user.streams, user.streams_ever) = (snapshot.streams_open, snapshot.streams_ever);
            user.meters.0.note(&self.clock, snapshot.down);
            user.meters.1.note(&self.clock, snapshot.up);
            user.down_rate = user.meters.0.per_second(&self.clock);
            user.up_rate = user.meters.1.per_second(&self.clock);
        }
        if self.all.len() > snapshots.len() {
            let sample = self.sample;
            self.all.retain(|_, user| user.seen == sample);
            let all = &self.all;
            self.order.retain(|id| all.contains_key(id));
        }
        if self.order.len() > before {
            let all = &self.all;
            // The oldest first; those that a first snapshot brings have no order of their own.
            self.order.sort_by_key(|id| all.get(id).map(|user| std::cmp::Reverse(user.age)));
        }
    }
}
