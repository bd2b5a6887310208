//! The open streams of a proxy: how many there may be, how many of each server, and how long a drain waits for them.

use std::{collections::HashMap, mem, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::telemetry::{MAX_REFUSALS_PER_SECOND, ServedStats, Throttle};

#[cfg(test)]
mod tests;

/// The share of the maximum of streams that is kept for the servers of a proxy with several, in equal parts: 1/2. Of
/// two servers each may have three quarters of all streams, as a service of a server may.
const RESERVED_SHARE: usize = 2;

/// The open streams of all links of one proxy, limited because each takes a descriptor for its connection to the
/// target.
///
/// The users of one server could take all of them, and those of the others would be refused. Each of several servers
/// therefore has a reserve; what no reserve holds is for the first that comes.
#[derive(Debug, Clone)]
pub(super) struct OpenStreams {
    /// Waits for the end of all streams.
    pub(super) tracker: TaskTracker,
    /// Holds one permit for each connection to the target that may be open or attempted, less those of the reserves.
    pub(super) sockets: Arc<Semaphore>,
    /// Limits the log lines about single streams, which users cause.
    pub(super) log: Arc<Throttle>,
    /// Counts streams, links and channels for the metrics; `None` for a proxy without.
    pub(super) stats: Option<Arc<ServedStats>>,
    /// The maximum of open streams.
    max: usize,
    /// What is kept for each server.
    reserves: Arc<Mutex<Reserves>>,
}

/// What is kept for the servers of a proxy.
#[derive(Debug, Default)]
struct Reserves {
    /// How many streams each server can have in any case.
    guaranteed: usize,
    /// The servers by number.
    servers: HashMap<usize, ServerShare>,
}

/// The streams of one server.
#[derive(Debug, Default)]
struct ServerShare {
    /// How many are open.
    open: usize,
    /// Permits for those that are guaranteed and not open; `None` for none.
    reserve: Option<OwnedSemaphorePermit>,
}

/// The admission of one stream, until it is dropped.
#[derive(Debug)]
pub(super) struct AdmittedStream {
    /// The reserves, to which its permit may return.
    reserves: Arc<Mutex<Reserves>>,
    /// The number of the server that has opened it.
    server: usize,
    /// The permit; `None` once it is dropped.
    permit: Option<OwnedSemaphorePermit>,
}

impl OpenStreams {
    /// Creates the set without streams, of which at most `max` may be open.
    pub(super) fn new(max: usize) -> Self {
        Self {
            tracker: TaskTracker::new(),
            sockets: Arc::new(Semaphore::new(max)),
            log: Arc::new(Throttle::new(MAX_REFUSALS_PER_SECOND)),
            stats: None,
            max,
            reserves: Arc::default(),
        }
    }

    /// Divides the reserves among the servers with these numbers. A reserve that cannot be filled now is filled by
    /// streams that end.
    pub(super) fn set_servers(&self, servers: &[usize]) {
        let mut reserves = self.reserves.lock();
        let guaranteed = if servers.len() > 1 { self.max / (RESERVED_SHARE * servers.len()) } else { 0 };
        let mut former = mem::take(&mut reserves.servers);
        let shares = servers.iter().map(|server| (*server, former.remove(server).unwrap_or_default()));
        (reserves.guaranteed, reserves.servers) = (guaranteed, shares.collect());
        let surplus: Vec<_> =
            reserves.servers.values_mut().map(|share| share.take_surplus(guaranteed)).collect();
        // Dropping permits wakes tasks that wait for one, which must not happen under the lock.
        drop(reserves);
        drop((former, surplus));
        for share in self.reserves.lock().servers.values_mut() {
            let missing = share.missing(guaranteed).min(self.sockets.available_permits());
            let permits =
                self.sockets.clone().try_acquire_many_owned(u32::try_from(missing).unwrap_or(u32::MAX));
            permits.into_iter().for_each(|permits| share.add(permits));
        }
    }

    /// Returns the number of open streams.
    pub(super) fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Admits one more stream of a server, until what is returned is dropped. Returns `None` if the maximum is open,
    /// or is kept for the other servers.
    pub(super) fn admit(&self, server: usize) -> Option<AdmittedStream> {
        let mut reserves = self.reserves.lock();
        let share = reserves.servers.get_mut(&server);
        let reserved = share.and_then(ServerShare::take);
        let permit = reserved.or_else(|| self.sockets.clone().try_acquire_owned().ok())?;
        if let Some(share) = reserves.servers.get_mut(&server) {
            share.open += 1;
        }
        drop(reserves);
        Some(AdmittedStream { reserves: self.reserves.clone(), server, permit: Some(permit) })
    }
}

impl ServerShare {
    /// Returns how many permits the reserve lacks.
    fn missing(&self, guaranteed: usize) -> usize {
        guaranteed.saturating_sub(self.open + self.reserved())
    }

    /// Returns how many permits the reserve holds.
    fn reserved(&self) -> usize {
        self.reserve.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Adds permits to the reserve.
    fn add(&mut self, permits: OwnedSemaphorePermit) {
        match &mut self.reserve {
            Some(reserve) => reserve.merge(permits),
            None if permits.num_permits() > 0 => self.reserve = Some(permits),
            None => {}
        }
    }

    /// Takes one permit from the reserve.
    fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        match self.reserved() {
            0 => None,
            1 => self.reserve.take(),
            _ => self.reserve.as_mut()?.split(1),
        }
    }

    /// Takes what the reserve holds beyond what is guaranteed.
    fn take_surplus(&mut self, guaranteed: usize) -> Option<OwnedSemaphorePermit> {
        match self.reserved().saturating_sub(guaranteed.saturating_sub(self.open)) {
            0 => None,
            surplus if surplus == self.reserved() => self.reserve.take(),
            surplus => self.reserve.as_mut()?.split(surplus),
        }
    }
}

impl Drop for AdmittedStream {
    /// Returns the permit to a reserve that lacks one, else for the stream of any server.
    fn drop(&mut self) {
        let mut reserves = self.reserves.lock();
        let guaranteed = reserves.guaranteed;
        if let Some(share) = reserves.servers.get_mut(&self.server) {
            share.open -= 1;
        }
        let lacking = reserves.servers.values_mut().find(|share| share.missing(guaranteed) > 0);
        if let Some(share) = lacking {
            self.permit.take().into_iter().for_each(|permit| share.add(permit));
        }
        // A permit that is left is dropped after this guard of the lock, and may wake a task.
    }
}
