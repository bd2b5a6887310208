//! How many channels a link should have, and how many tasks keep one each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{config::ChannelCount, mux::ChannelWish};

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
    /// How many tasks keep a channel established. A task whose channel is being retired does not count any more.
    keepers: Mutex<u16>,
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
            *keepers = keepers.saturating_sub(1);
            drop(keepers);
            self.0.has_keeper_panicked.store(true, SeqCst);
            self.0.target.send_modify(|_| {});
        }
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
    /// Creates the target of a new link, which has no channels and no keepers.
    pub(super) fn new(limits: ChannelCount) -> Self {
        Self {
            limits,
            wishes: Mutex::default(),
            target: watch::Sender::new(limits.initial()),
            keepers: Mutex::new(0),
            has_keeper_panicked: AtomicBool::new(false),
        }
    }

    /// Stores the wish of one side. That of the server comes from the network and is limited here. Returns the target
    /// before and after, if it changes.
    pub(super) fn set_wish(&self, wish: ChannelWish) -> Option<(u16, u16)> {
        let mut wishes = self.wishes.lock();
        match wish {
            ChannelWish::Own(plan) => wishes.own = plan.to,
            ChannelWish::Server(wanted) => wishes.server = wanted,
        }
        let to = self.limits.limit(wishes.own.max(wishes.server));
        let mut from = to;
        self.target.send_if_modified(|target| {
            from = std::mem::replace(target, to);
            from != to
        });
        (from != to).then_some((from, to))
    }

    /// Returns a receiver of the number of channels that the link should have.
    pub(super) fn subscribe(&self) -> watch::Receiver<u16> {
        self.target.subscribe()
    }

    /// Counts one more keeper if there are fewer than the target. Returns whether there were: then the caller spawns
    /// it.
    pub(super) fn add_keeper(&self) -> bool {
        let mut keepers = self.keepers.lock();
        let is_missing = *keepers < *self.target.borrow();
        *keepers += u16::from(is_missing);
        is_missing
    }

    /// Counts one keeper less if there are more than the target. Returns whether there were: then the caller ends one,
    /// or calls [`restore_keeper`](Self::restore_keeper).
    pub(super) fn remove_keeper(&self) -> bool {
        let mut keepers = self.keepers.lock();
        let is_surplus = *keepers > *self.target.borrow();
        *keepers -= u16::from(is_surplus);
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
        *self.keepers.lock() += 1;
    }
}

#[cfg(test)]
mod tests;
