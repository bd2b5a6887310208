//! Resolved names, kept for the many streams that connect to the same target.
//!
//! getaddrinfo(3) resolves them, because the names of targets are often found in `/etc/hosts`, by mDNS or in another
//! source of `nsswitch.conf`, which a DNS client such as hickory-resolver does not consult. It reports no lifetime, so
//! that one is chosen here. And it blocks a thread, of which a burst of streams must not start hundreds: one lookup per
//! name runs at a time, and at most [`MAX_LOOKUPS`] for all names.

use std::{
    collections::HashMap,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::happy_eyeballs::interleave_families;

/// The most lookups that run at the same time, each on a thread of its own.
const MAX_LOOKUPS: usize = 4;

/// The most names that are kept. A proxy needs one for each server and target, and has at most 1,024 services; servers
/// may name any number of successors.
const MAX_NAMES: usize = 2048;

/// The age up to which addresses are used if the name cannot be resolved again.
const MAX_STALE_AGE: Duration = Duration::from_secs(600);

/// How long a failed lookup is not repeated.
const FAILURE_LIFETIME: Duration = Duration::from_secs(1);

/// How long the address that was the first to accept a connection is tried first (RFC 6555, section 4.2: on the order
/// of ten minutes).
const PREFERENCE_LIFETIME: Duration = Duration::from_secs(600);

/// Resolves `HOST:PORT`, and blocks its thread meanwhile.
type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What a lookup found. All that wait for the same lookup share its error.
type LookupResult = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

/// The known names, `HOST:PORT`.
type Names = Mutex<HashMap<String, CachedName>>;

/// How recent resolved addresses must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    /// The age up to which addresses are used without another lookup.
    pub(super) max_age: Duration,
    /// How long to wait for another lookup before older addresses are used.
    pub(super) max_wait: Duration,
}

/// A cache of resolved names, which coalesces and limits lookups.
pub(super) struct NameCache {
    /// Resolves a name.
    lookup: Arc<Lookup>,
    /// One permit for each lookup that may run at the same time.
    permits: Arc<Semaphore>,
    /// The known names. Shared with the threads of running lookups, which store their results.
    names: Arc<Names>,
}

/// What is known about one name.
#[derive(Debug)]
struct CachedName {
    /// The addresses that the last successful lookup returned; empty before the first one.
    addresses: Arc<[SocketAddr]>,
    /// When `addresses` were resolved; `None` before the first success.
    resolved_at: Option<Instant>,
    /// Whether a connection attempt has found that `addresses` are not usable any more.
    is_expired: bool,
    /// The error of the last lookup and when it failed; `None` after a success.
    failure: Option<(Arc<io::Error>, Instant)>,
    /// Receives the result of the lookup that runs now.
    running: Option<watch::Receiver<Option<LookupResult>>>,
    /// The address that was the first to accept the last connection, and when.
    preferred: Option<(SocketAddr, Instant)>,
    /// When the name was last used.
    last_use: Instant,
}

/// What the cache knows about a name, compared with what is required.
#[derive(Debug)]
enum CachedAnswer {
    /// These addresses need no lookup.
    Fresh(Vec<SocketAddr>),
    /// These addresses should be looked up again.
    Stale(Vec<SocketAddr>),
    /// A lookup failed a moment ago, and no earlier one succeeded.
    Failed(Arc<io::Error>),
    /// The name was not looked up.
    Unknown,
}

impl fmt::Debug for NameCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameCache").field("names", &self.names).finish_non_exhaustive()
    }
}

impl NameCache {
    /// Creates an empty cache that resolves names with getaddrinfo(3).
    pub(super) fn new() -> Self {
        Self::with_lookup(|name| name.to_socket_addrs().map(Iterator::collect))
    }

    /// Creates an empty cache that resolves names with `lookup`, which may block its thread.
    pub(super) fn with_lookup(
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Self { lookup: Arc::new(lookup), permits, names: Arc::default() }
    }

    /// Returns the addresses of `name`, `HOST:PORT`, at least one, in the order in which they should be tried.
    ///
    /// Addresses that are older than `freshness` permits are looked up again. If that takes too long or fails, the
    /// older ones are returned, up to an age of [`MAX_STALE_AGE`]. Dropping the future does not stop a lookup that has
    /// begun; the cache then stores its result for the next caller.
    pub(super) async fn resolve(
        &self,
        name: &str,
        freshness: Freshness,
    ) -> Result<Vec<SocketAddr>, Arc<io::Error>> {
        match self.cached(name, freshness.max_age) {
            CachedAnswer::Fresh(addresses) => Ok(addresses),
            CachedAnswer::Stale(addresses) => {
                let lookup = self.look_up(name);
                let resolved = match freshness.max_wait {
                    // Polled once, which starts the lookup. A timer would wait for its next tick, a millisecond.
                    Duration::ZERO => lookup.now_or_never(),
                    max_wait => timeout(max_wait, lookup).await.ok(),
                };
                Ok(resolved.and_then(Result::ok).map_or(addresses, |resolved| self.sort(name, &resolved)))
            }
            CachedAnswer::Failed(error) => Err(error),
            CachedAnswer::Unknown => self.look_up(name).await.map(|resolved| self.sort(name, &resolved)),
        }
    }

    /// Records that `address` was the first address of `name` to accept a connection, so that it is tried first.
    pub(super) fn prefer(&self, name: &str, address: SocketAddr) {
        if let Some(known) = self.names.lock().get_mut(name) {
            known.preferred = Some((address, Instant::now()));
        }
    }

    /// Records that no address of `name` accepts connections: the next caller looks the name up again.
    pub(super) fn expire(&self, name: &str) {
        if let Some(known) = self.names.lock().get_mut(name) {
            known.is_expired = true;
        }
    }

    /// Returns what is known about `name`; addresses are fresh up to `max_age`.
    fn cached(&self, name: &str, max_age: Duration) -> CachedAnswer {
        let now = Instant::now();
        let mut names = self.names.lock();
        let Some(known) = names.get_mut(name) else { return CachedAnswer::Unknown };
        known.last_use = now;
        let has_just_failed = known.failure.as_ref().is_some_and(|(_, at)| now - *at < FAILURE_LIFETIME);
        match (known.resolved_at.map(|at| now - at), &known.failure) {
            (Some(age), _) if age < max_age && !known.is_expired => CachedAnswer::Fresh(known.sorted(now)),
            (Some(age), _) if age < MAX_STALE_AGE && has_just_failed => {
                CachedAnswer::Fresh(known.sorted(now))
            }
            (Some(age), _) if age < MAX_STALE_AGE => CachedAnswer::Stale(known.sorted(now)),
            (_, Some((error, _))) if has_just_failed => CachedAnswer::Failed(error.clone()),
            _ => CachedAnswer::Unknown,
        }
    }

    /// Sorts the addresses that a lookup of `name` returned into the order in which they should be tried.
    fn sort(&self, name: &str, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let preferred = self.names.lock().get(name).and_then(|known| known.preferred(Instant::now()));
        interleave_families(addresses, preferred)
    }

    /// Waits for the lookup of `name` that is running, or starts one as soon as the limit permits it.
    async fn look_up(&self, name: &str) -> LookupResult {
        let running = self.names.lock().get(name).and_then(CachedName::running);
        let mut running = match running {
            Some(running) => running,
            None => {
                let permit = self.permits.clone().acquire_owned().await;
                self.start_lookup(name, permit.map_err(|error| Arc::new(io::Error::other(error)))?)
            }
        };
        let result = running.wait_for(Option::is_some).await;
        // The sender is dropped without a result if the runtime ends.
        let result = result.ok().and_then(|result| result.clone());
        result.unwrap_or_else(|| Err(Arc::new(io::Error::other("the lookup was cancelled"))))
    }

    /// Starts a thread that looks `name` up and stores what it finds, unless another caller has started one meanwhile.
    /// Returns the receiver of the result.
    fn start_lookup(
        &self,
        name: &str,
        permit: OwnedSemaphorePermit,
    ) -> watch::Receiver<Option<LookupResult>> {
        let now = Instant::now();
        let (sender, receiver) = watch::channel(None);
        {
            let mut names = self.names.lock();
            if !names.contains_key(name) && names.len() >= MAX_NAMES {
                let oldest = names.iter().min_by_key(|(_, known)| known.last_use);
                let oldest = oldest.map(|(name, _)| name.clone());
                oldest.map(|oldest| names.remove(&oldest));
            }
            let known = names.entry(name.to_owned()).or_insert_with(|| CachedName::new(now));
            known.last_use = now;
            if let Some(running) = known.running() {
                return running;
            }
            known.running = Some(receiver.clone());
        }
        let (lookup, names, name) = (self.lookup.clone(), self.names.clone(), name.to_owned());
        // The thread owns the lookup: it ends, stores the result and frees its permit also if no caller waits any more.
        spawn_blocking(move || {
            let found = lookup(&name).and_then(|addresses| match addresses[..] {
                [] => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                [..] => Ok(addresses.into()),
            });
            let result = found.map_err(Arc::new);
            if let Some(known) = names.lock().get_mut(&name) {
                known.store(&result, Instant::now());
            }
            drop(permit);
            sender.send_replace(Some(result));
        });
        receiver
    }
}

impl CachedName {
    /// Creates the entry of a name that was not looked up yet.
    fn new(now: Instant) -> Self {
        Self {
            addresses: Arc::default(),
            resolved_at: None,
            is_expired: false,
            failure: None,
            running: None,
            preferred: None,
            last_use: now,
        }
    }

    /// Returns the receiver of the lookup that is running; `None` if none is.
    fn running(&self) -> Option<watch::Receiver<Option<LookupResult>>> {
        // The sender is dropped when the thread ends, also if it panics.
        self.running.clone().filter(|running| running.has_changed().is_ok())
    }

    /// Returns the address that was the first to accept a connection in the last ten minutes.
    fn preferred(&self, now: Instant) -> Option<SocketAddr> {
        self.preferred.filter(|(_, at)| now - *at < PREFERENCE_LIFETIME).map(|(address, _)| address)
    }

    /// Returns the addresses in the order in which they should be tried.
    fn sorted(&self, now: Instant) -> Vec<SocketAddr> {
        interleave_families(&self.addresses, self.preferred(now))
    }

    /// Stores the result of a lookup that has ended now. A failure leaves the addresses of earlier lookups.
    fn store(&mut self, result: &LookupResult, now: Instant) {
        self.running = None;
        match result {
            Ok(addresses) => {
                (self.addresses, self.resolved_at) = (addresses.clone(), Some(now));
                (self.is_expired, self.failure) = (false, None);
            }
            Err(error) => self.failure = Some((error.clone(), now)),
        }
    }
}

#[cfg(test)]
mod tests;
