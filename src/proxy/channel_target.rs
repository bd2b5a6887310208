//! How many channels a link should have, and how many tasks keep one each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    config::ChannelCount,
    mux::{ChannelWish, min_channels},
};

/// How many channels may be opened at once beyond the first ones: twice as many as from the fewest to the most. Their
/// number follows the wishes of the server, which could change them thirty times a second.
const MAX_OPENINGS: u16 = 2 * (ChannelCount::MAX_AUTO - ChannelCount::MIN_AUTO);

/// How long it takes until one more channel may be opened, when so many were. A channel that is not needed is closed
/// after 30 s at the earliest, so that an honest server does not wait for this.
const OPENING_INTERVAL: Duration = Duration::from_secs(5);

/// The number of channels that a link should have, from the wishes of both sides, and the number of tasks that keep
/// one channel established each.
#[derive(Debug)]
pub(super) struct ChannelTarget {
    /// The limits that the operator has set.
    limits: ChannelCount,
    /// What the two sides wish for the data that they send.
    wishes: Mutex<Wishes>,
    /// The number of channels that the link should have: the larger wish, within the limits.
    target: watch::Sender<u16>,
    /// The tasks that keep a channel established each.
    keepers: Mutex<Keepers>,
    /// Whether a keeper has panicked since [`take_panic`](Self::take_panic) was called.
    has_keeper_panicked: AtomicBool,
}

/// Guard of a keeper: see [`ChannelTarget::guard_keeper`].
#[derive(Debug)]
pub(super) struct KeeperGuard(Arc<ChannelTarget>);

impl Drop for KeeperGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut keepers = self.0.keepers.lock();
            keepers.count = keepers.count.saturating_sub(1);
            drop(keepers);
            self.0.has_keeper_panicked.store(true, SeqCst);
            self.0.target.send_modify(|_| {});
        }
    }
}

/// The tasks that keep a channel established each, and how many more may be started.
#[derive(Debug)]
struct Keepers {
    /// Their number. A task whose channel is being retired does not count any more.
    count: u16,
    /// How many may be started now.
    openings_left: u16,
    /// When `openings_left` was last increased, or was full.
    refilled_at: Instant,
}

impl Keepers {
    /// Takes one of the openings, if one is left at `now`.
    fn take_opening(&mut self, now: Instant) -> bool {
        let intervals =
            now.saturating_duration_since(self.refilled_at).as_secs() / OPENING_INTERVAL.as_secs();
        let earned = u16::try_from(intervals).unwrap_or(u16::MAX);
        let left = self.openings_left.saturating_add(earned);
        if left >= MAX_OPENINGS {
            // The first channels may be more.
            self.openings_left = self.openings_left.max(MAX_OPENINGS);
            self.refilled_at = now;
        } else {
            self.openings_left = left;
            self.refilled_at += OPENING_INTERVAL * u32::from(earned);
        }
        let is_left = self.openings_left > 0;
        self.openings_left -= u16::from(is_left);
        is_left
    }
}

/// How many channels each side wishes for the data that it sends.
#[derive(Debug, Default)]
struct Wishes {
    /// The wish of this proxy; 0 before the first.
    own: u16,
    /// The wish of the server; 0 before the first.
    server: u16,
}

impl ChannelTarget {
    /// Creates the target of a new link, which has no channels and no keepers, over a path with this RTT; `None` if it
    /// is unknown.
    pub(super) fn new(limits: ChannelCount, rtt: Option<Duration>) -> Self {
        // Not on the wish of the planner, whose first report comes with the first data: channels that are opened then
        // come too late for it.
        let initial = rtt.map_or(limits.fewest(), |rtt| limits.limit(min_channels(rtt)));
        Self {
            limits,
            wishes: Mutex::default(),
            target: watch::Sender::new(initial),
            keepers: Mutex::new(Keepers {
                count: 0,
                openings_left: initial.saturating_add(MAX_OPENINGS),
                refilled_at: Instant::now(),
            }),
            has_keeper_panicked: AtomicBool::new(false),
        }
    }

    /// Stores the wish of one side. That of the server comes from the network and is limited here. Returns the target
    /// before and after, if it changes.
    pub(super) fn set_wish(&self, wish: ChannelWish) -> Option<(u16, u16)> {
        {
            let mut wishes = self.wishes.lock();
            match wish {
                ChannelWish::Own(plan) => wishes.own = plan.to,
                ChannelWish::Server(wanted) => wishes.server = wanted,
            }
        }
        let mut change = None;
        // Wakes tasks, but not under a lock. Reads the wishes itself, so that the last of several counts.
        self.target.send_if_modified(|target| {
            let wishes = self.wishes.lock();
            let to = self.limits.limit(wishes.own.max(wishes.server));
            let from = std::mem::replace(target, to);
            change = (from != to).then_some((from, to));
            change.is_some()
        });
        change
    }

    /// Returns a receiver of the number of channels that the link should have.
    pub(super) fn subscribe(&self) -> watch::Receiver<u16> {
        self.target.subscribe()
    }

    /// Counts one more keeper if there are fewer than the target, and another channel may be opened at `now`. Returns
    /// whether it is counted: then the caller spawns it.
    pub(super) fn add_keeper(&self, now: Instant) -> bool {
        let mut keepers = self.keepers.lock();
        let is_added = keepers.count < *self.target.borrow() && keepers.take_opening(now);
        keepers.count += u16::from(is_added);
        is_added
    }

    /// Returns when [`add_keeper`](Self::add_keeper) should be called again because a channel is missing that must not
    /// be opened yet; `None` if none is.
    pub(super) fn next_opening(&self) -> Option<Instant> {
        let keepers = self.keepers.lock();
        (keepers.count < *self.target.borrow()).then(|| keepers.refilled_at + OPENING_INTERVAL)
    }

    /// Counts one keeper less if there are more than the target. Returns whether there were: then the caller ends one,
    /// or calls [`restore_keeper`](Self::restore_keeper).
    pub(super) fn remove_keeper(&self) -> bool {
        let mut keepers = self.keepers.lock();
        let is_surplus = keepers.count > *self.target.borrow();
        keepers.count -= u16::from(is_surplus);
        is_surplus
    }

    /// Returns a guard of a keeper that was counted. If the keeper panics, it is counted no more, and those that
    /// [subscribe](Self::subscribe) to the target are notified, so that it is replaced.
    pub(super) fn guard_keeper(self: &Arc<Self>) -> KeeperGuard {
        KeeperGuard(self.clone())
    }

    /// Returns whether a keeper has panicked since the last call.
    pub(super) fn take_panic(&self) -> bool {
        self.has_keeper_panicked.swap(false, SeqCst)
    }

    /// Counts a keeper again that could not be ended.
    pub(super) fn restore_keeper(&self) {
        self.keepers.lock().count += 1;
    }
}

#[cfg(test)]
mod tests;
