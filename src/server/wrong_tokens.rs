//! Addresses that send wrong tokens: their refusals are delayed, then they are blocked for a while.
//!
//! A token of 128 bits cannot be found by trying. This keeps attempts from filling the log, and makes them visible.
//! It must not become a weapon: a client that shares an address with a proxy, behind a NAT, must not be able to keep
//! that proxy out. Therefore a right token is never delayed or refused, also from a blocked address: each one is
//! compared with all entries first. An address from which a proxy is connected, or was within the last hour, is only
//! delayed.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::ids::AddressBlock;

/// Wrong tokens of an address whose refusal is not delayed: those of an operator who looks for the right one.
const UNDELAYED: u32 = 3;

/// The delay of the next refusal, which doubles with each further one up to [`MAX_DELAY`].
const MIN_DELAY: Duration = Duration::from_millis(250);

/// The longest delay of a refusal: less than a proxy waits for an answer.
const MAX_DELAY: Duration = Duration::from_secs(4);

/// The number of wrong tokens at which an address is blocked.
pub(super) const MAX_WRONG_TOKENS: u32 = 10;

/// How long an address is blocked, and how long its wrong tokens are remembered after the last one.
pub(super) const BLOCK_TIME: Duration = Duration::from_secs(10 * 60);

/// How long an address is not blocked after its last proxy has disconnected: longer than a machine takes to restart.
const KNOWN_TIME: Duration = Duration::from_secs(60 * 60);

/// The most addresses of each kind that are remembered. Where there are more, those with the fewest wrong tokens, and
/// the oldest of them, are forgotten: a botnet cannot displace an address that is blocked before it has sent as many
/// itself.
const MAX_ADDRESSES: usize = 4096;

/// Counts wrong tokens by address.
#[derive(Debug, Default)]
pub(super) struct WrongTokens {
    /// The addresses.
    addresses: Mutex<Addresses>,
}

/// The addresses that are remembered.
#[derive(Debug, Default)]
struct Addresses {
    /// Those that have sent wrong tokens.
    failed: HashMap<AddressBlock, Failures, foldhash::fast::RandomState>,
    /// Those of proxies.
    known: HashMap<AddressBlock, KnownAddress, foldhash::fast::RandomState>,
}

/// The wrong tokens of one address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    /// Their number.
    count: u32,
    /// When the last one arrived.
    last: Instant,
    /// Whether the address is blocked, from the last one on.
    is_blocked: bool,
}

/// An address from which proxies have connected with a right token.
#[derive(Debug, Clone, Copy)]
struct KnownAddress {
    /// How many are connected.
    proxies: usize,
    /// When the last one disconnected, if none is connected.
    last: Instant,
}

/// What follows from a wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Penalty {
    /// How long the refusal is to be delayed.
    pub(super) delay: Duration,
    /// Whether the address is blocked from now on.
    pub(super) is_newly_blocked: bool,
}

/// Keeps the address of a connected proxy from being blocked, until it is dropped and for an hour after that.
#[derive(Debug)]
pub(super) struct ConnectedAddress {
    /// Where the address is remembered.
    tokens: Arc<WrongTokens>,
    /// The address.
    address: AddressBlock,
}

impl Failures {
    /// Returns whether they are forgotten at `now`.
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= BLOCK_TIME
    }
}

impl WrongTokens {
    /// Returns for how long wrong tokens from `address` are still refused without being counted; `None`: they are
    /// counted.
    pub(super) fn blocked_for(&self, address: AddressBlock, now: Instant) -> Option<Duration> {
        let addresses = self.addresses.lock();
        let failures =
            addresses.failed.get(&address).filter(|known| known.is_blocked && !known.is_over(now))?;
        Some(BLOCK_TIME.saturating_sub(now.saturating_duration_since(failures.last)))
    }

    /// Counts a wrong token of `address`.
    pub(super) fn record(&self, address: AddressBlock, now: Instant) -> Penalty {
        let mut addresses = self.addresses.lock();
        let is_known = addresses.known.get(&address).is_some_and(|known| known.is_protected(now));
        let before = addresses.failed.get(&address).copied().filter(|failures| !failures.is_over(now));
        let count = before.map_or(0, |failures| failures.count).saturating_add(1);
        let is_blocked = count >= MAX_WRONG_TOKENS && !is_known;
        if before.is_none() && addresses.failed.len() >= MAX_ADDRESSES {
            forget_least(&mut addresses.failed, |failures| (failures.count, failures.last));
        }
        addresses.failed.insert(address, Failures { count, last: now, is_blocked });
        let doublings = count.saturating_sub(UNDELAYED + 1).min(16);
        let delay =
            if count <= UNDELAYED { Duration::ZERO } else { (MIN_DELAY * (1 << doublings)).min(MAX_DELAY) };
        let was_blocked = before.is_some_and(|failures| failures.is_blocked);
        Penalty { delay, is_newly_blocked: is_blocked && !was_blocked }
    }

    /// Forgets the wrong tokens of `address`. Returns whether it was blocked.
    pub(super) fn unblock(&self, address: AddressBlock) -> bool {
        self.addresses.lock().failed.remove(&address).is_some_and(|failures| failures.is_blocked)
    }

    /// Forgets all wrong tokens: they may be right ones now.
    pub(super) fn forget_all(&self) {
        self.addresses.lock().failed.clear();
    }

    /// Remembers that a proxy has connected from `address` with a right token, until the result is dropped and for an
    /// hour after that.
    pub(super) fn proxy_connected(self: &Arc<Self>, address: AddressBlock, now: Instant) -> ConnectedAddress {
        let mut addresses = self.addresses.lock();
        if addresses.known.len() >= MAX_ADDRESSES && !addresses.known.contains_key(&address) {
            forget_least(&mut addresses.known, |known| (u32::from(known.proxies > 0), known.last));
        }
        addresses.known.entry(address).or_insert(KnownAddress { proxies: 0, last: now }).proxies += 1;
        ConnectedAddress { tokens: self.clone(), address }
    }

    /// Forgets what is over at `now`.
    pub(super) fn remove_old(&self, now: Instant) {
        let mut addresses = self.addresses.lock();
        addresses.failed.retain(|_, failures| !failures.is_over(now));
        addresses.known.retain(|_, known| known.is_protected(now));
    }
}

impl KnownAddress {
    /// Returns whether the address is only delayed at `now`.
    fn is_protected(&self, now: Instant) -> bool {
        self.proxies > 0 || now.saturating_duration_since(self.last) < KNOWN_TIME
    }
}

/// Removes the entry with the lowest value.
fn forget_least<V>(
    entries: &mut HashMap<AddressBlock, V, foldhash::fast::RandomState>,
    value: impl Fn(&V) -> (u32, Instant),
) {
    let least = entries.iter().min_by_key(|(_, entry)| value(entry)).map(|(address, _)| *address);
    least.and_then(|address| entries.remove(&address));
}

impl Drop for ConnectedAddress {
    fn drop(&mut self) {
        let mut addresses = self.tokens.addresses.lock();
        // Missing if it was displaced by more proxies than addresses are remembered.
        if let Some(known) = addresses.known.get_mut(&self.address) {
            known.proxies = known.proxies.saturating_sub(1);
            known.last = Instant::now();
        }
    }
}
