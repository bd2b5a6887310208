//! Admission of user connections: from which networks, how many may be open in total, for one service and from one
//! client address, and how many may arrive in a second.
//!
//! It is decided by the accept loop, before anything is allocated for a connection: one that is refused costs its
//! descriptor for no longer than closing takes, so that the maxima bound the descriptors of users.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    balance::Candidate,
    service::{OpenUser, Service},
};
use crate::{
    config::ServerConfig,
    ids::{AddressBlock, Network, NetworkRefusal, NetworkSet, UserNetworks},
};

#[cfg(test)]
mod tests;

/// The time over which the rate of new connections of one address is measured: so many connections as it may open in
/// this time, it may open at once.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// All permits of the semaphore: more than there can be connections, and as many as a semaphore can hold on a 32-bit
/// machine, so that `acquire_many` can ask for all of them.
const ALL_PERMITS: u32 = u32::MAX >> 3;

/// What limits the user connections of a server.
#[derive(Debug)]
struct UserLimits {
    /// The networks of the users that the server admits to any service.
    networks: UserNetworks,
    /// The most connections in total.
    max_streams: usize,
    /// The most connections of one service.
    max_per_service: usize,
    /// The most connections from one client address.
    max_per_address: usize,
    /// How many new connections one client address may open in a second; `None`: any number.
    max_per_second: Option<NonZeroU32>,
}

/// Limits the user connections of a server.
#[derive(Debug)]
pub(super) struct UserAdmission {
    /// The limits, which may be replaced.
    limits: ArcSwap<UserLimits>,
    /// The networks whose users the operator has banned, until the server ends.
    banned: ArcSwap<NetworkSet>,
    /// The same networks as the operator named them, at most [`UserNetworks::MAX`]; the set joins neighbours.
    named_bans: Mutex<BTreeSet<Network>>,
    /// Counts the open connections: one permit of [`ALL_PERMITS`] for each. A shutdown waits until all are back.
    permits: Arc<Semaphore>,
    /// What each client address uses. An address has an entry while it has connections; with a rate limit also until
    /// its rate has recovered, at most [`RATE_INTERVAL`] after its last new connection, and the next removal, which is
    /// once a second. So there are no more entries than connections that are open or were admitted in the last two
    /// seconds.
    addresses: Mutex<HashMap<AddressBlock, AddressUse, foldhash::fast::RandomState>>,
}

/// What one client address uses.
#[derive(Debug)]
struct AddressUse {
    /// Its open connections.
    streams: usize,
    /// When all of its connections would have arrived if they came at the permitted rate: the theoretical arrival time
    /// of the generic cell rate algorithm (ITU-T I.371), a token bucket of one value. In the past if it is slower.
    arrived_until: Instant,
}

/// Keeps an admitted connection counted. Dropping it uncounts the connection in all limits.
#[derive(Debug)]
pub(super) struct AdmittedUser<P> {
    /// Counts the connection in the total.
    _permit: OwnedSemaphorePermit,
    /// Counts the connection for its address.
    _address: AddressLease,
    /// Counts the connection for its service.
    _service: OpenUser<P>,
}

/// Keeps a connection counted whose user is not known yet: for the server and for the service.
#[derive(Debug)]
pub(super) struct ReservedUser<P> {
    /// Counts the connection in the total.
    permit: OwnedSemaphorePermit,
    /// Counts the connection for its service.
    service: OpenUser<P>,
}

/// Counts a connection for its client address until it is dropped.
#[derive(Debug)]
struct AddressLease {
    /// Where the address is counted.
    admission: Arc<UserAdmission>,
    /// The client address.
    address: AddressBlock,
}

/// What refused a user connection. Its text names the option that changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserRefusal {
    /// The operator has banned the network of this address.
    Banned(IpAddr, Network),
    /// The server does not admit users of this address.
    ServerNetworks(NetworkRefusal),
    /// No proxy of the service admits users of this address.
    ProxyNetworks(NetworkRefusal),
    /// The server has its maximum of connections.
    Total(usize),
    /// The service has its maximum of connections.
    Service(usize),
    /// The client address has its maximum of connections.
    Address(AddressBlock, usize),
    /// The client address opens connections faster than permitted.
    Rate(AddressBlock, NonZeroU32),
}

/// Returns the option that lets such users in, or keeps them out.
fn option_of(refusal: NetworkRefusal) -> &'static str {
    match refusal {
        NetworkRefusal::Denied(..) => "--deny",
        NetworkRefusal::NotAllowed(_) => "--allow",
    }
}

impl fmt::Display for UserRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Banned(addr, network) => {
                write!(
                    f,
                    "{addr} is in the network {network}, banned by the operator (`underpass unban {network}`)"
                )
            }
            Self::ServerNetworks(refusal) => {
                write!(f, "{refusal} (server option {})", option_of(*refusal))
            }
            Self::ProxyNetworks(refusal) => {
                write!(f, "{refusal} of any proxy of the service (proxy option {})", option_of(*refusal))
            }
            Self::Total(max) => {
                write!(f, "the maximum of {max} open user connections is reached (option --max-streams)")
            }
            Self::Service(max) => write!(
                f,
                "the service has its maximum of {max} open connections (option --max-streams-per-service)"
            ),
            Self::Address(address, max) => write!(
                f,
                "{address} has its maximum of {max} open connections (option --max-streams-per-address)"
            ),
            Self::Rate(address, max) => write!(
                f,
                "{address} opens more than {max} connections per second (option --max-connections-per-second)"
            ),
        }
    }
}

impl UserLimits {
    /// Takes the limits from a configuration.
    fn new(config: &ServerConfig) -> Self {
        Self {
            networks: config.user_networks.clone(),
            max_streams: config.max_streams,
            max_per_service: config.max_streams_per_service(),
            max_per_address: config.max_streams_per_address(),
            max_per_second: config.max_connections_per_second,
        }
    }
}

impl UserAdmission {
    /// Creates the admission control with the limits of `config`, without any connection.
    pub(super) fn new(config: &ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            limits: ArcSwap::from_pointee(UserLimits::new(config)),
            banned: ArcSwap::default(),
            named_bans: Mutex::default(),
            permits: Arc::new(Semaphore::new(ALL_PERMITS as usize)),
            addresses: Mutex::default(),
        })
    }

    /// Replaces the limits by those of `config`, for new connections.
    pub(super) fn replace_limits(&self, config: &ServerConfig) {
        let limits = UserLimits::new(config);
        let has_no_rate = limits.max_per_second.is_none();
        self.limits.store(Arc::new(limits));
        if has_no_rate {
            // Without a rate limit nothing removes them later.
            self.addresses.lock().retain(|_, address| address.streams > 0);
        }
    }

    /// Decides whether users with the address `ip` are admitted to `service`.
    ///
    /// # Errors
    /// The networks that do not contain the address, or that do.
    pub(super) fn check_networks<P: Candidate>(
        &self,
        service: &Service<P>,
        ip: IpAddr,
    ) -> Result<(), UserRefusal> {
        if let Some(network) = self.banned.load().find(ip) {
            return Err(UserRefusal::Banned(ip, network));
        }
        self.limits.load().networks.check(ip).map_err(UserRefusal::ServerNetworks)?;
        service.pool.check_user(ip).map_err(UserRefusal::ProxyNetworks)
    }

    /// Refuses the users of a network from now on. Returns all that are banned.
    pub(super) fn ban(&self, network: Network) -> Vec<Network> {
        self.change_bans(|bans| _ = bans.insert(network))
    }

    /// Admits the users of a network again that was banned. Returns all that are still banned; `None` if this one was
    /// not.
    pub(super) fn unban(&self, network: Network) -> Option<Vec<Network>> {
        let mut was_banned = false;
        let bans = self.change_bans(|bans| was_banned = bans.remove(&network));
        was_banned.then_some(bans)
    }

    /// Returns whether one more network can be banned, or this one is banned already.
    pub(super) fn has_room_for_ban(&self, network: Network) -> bool {
        let bans = self.named_bans.lock();
        bans.len() < UserNetworks::MAX || bans.contains(&network)
    }

    /// Returns whether the users of this address are banned.
    pub(super) fn is_banned(&self, ip: IpAddr) -> bool {
        self.banned.load().find(ip).is_some()
    }

    /// Changes which networks are banned, and returns them.
    fn change_bans(&self, change: impl FnOnce(&mut BTreeSet<Network>)) -> Vec<Network> {
        let mut bans = self.named_bans.lock();
        change(&mut bans);
        self.banned.store(Arc::new(NetworkSet::new(bans.iter().copied())));
        bans.iter().copied().collect()
    }

    /// Counts one more connection to `service` whose user is not known yet.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) fn reserve<P>(&self, service: &Arc<Service<P>>) -> Result<ReservedUser<P>, UserRefusal> {
        let limits = self.limits.load();
        let total = UserRefusal::Total(limits.max_streams);
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| total)?;
        // Of connections that are admitted at the same time, each counts all others: rather one too few than one too
        // many.
        if self.admitted() > limits.max_streams {
            return Err(total);
        }
        let full = UserRefusal::Service(limits.max_per_service);
        let service = OpenUser::new(service, limits.max_per_service).ok_or(full)?;
        Ok(ReservedUser { permit, service })
    }

    /// Admits a connection whose place was reserved, and whose user with the address `ip` became known at `now`.
    ///
    /// # Errors
    /// The limit that is reached. Then the connection counts for none.
    pub(super) fn admit_reserved<P>(
        self: &Arc<Self>,
        reserved: ReservedUser<P>,
        ip: IpAddr,
        now: Instant,
    ) -> Result<AdmittedUser<P>, UserRefusal> {
        let address = AddressBlock::from(ip);
        self.admit_address(address, now)?;
        let address = AddressLease { admission: self.clone(), address };
        Ok(AdmittedUser { _permit: reserved.permit, _address: address, _service: reserved.service })
    }

    /// Admits a connection from `ip` to `service` that arrived at `now`.
    ///
    /// # Errors
    /// The limit that is reached, or the networks that do not contain the address. A refused connection counts for
    /// none.
    pub(super) fn admit<P: Candidate>(
        self: &Arc<Self>,
        service: &Arc<Service<P>>,
        ip: IpAddr,
        now: Instant,
    ) -> Result<AdmittedUser<P>, UserRefusal> {
        self.check_networks(service, ip)?;
        let reserved = self.reserve(service)?;
        self.admit_reserved(reserved, ip, now)
    }

    /// Counts one more connection of `address` that arrived at `now`.
    fn admit_address(&self, address: AddressBlock, now: Instant) -> Result<(), UserRefusal> {
        let limits = self.limits.load();
        let mut addresses = self.addresses.lock();
        let (streams, arrived_until) = match addresses.get(&address) {
            Some(known) => (known.streams, known.arrived_until.max(now)),
            None => (0, now),
        };
        if streams >= limits.max_per_address {
            return Err(UserRefusal::Address(address, limits.max_per_address));
        }
        let next = match limits.max_per_second {
            None => now,
            Some(max) => arrived_until + RATE_INTERVAL / max.get(),
        };
        if let Some(max) = limits.max_per_second
            && next.saturating_duration_since(now) > RATE_INTERVAL
        {
            return Err(UserRefusal::Rate(address, max));
        }
        addresses.insert(address, AddressUse { streams: streams + 1, arrived_until: next });
        Ok(())
    }

    /// Removes the entries of addresses without connections whose rate has recovered by `now`.
    pub(super) fn remove_idle(&self, now: Instant) {
        if self.limits.load().max_per_second.is_some() {
            self.addresses.lock().retain(|_, address| address.streams > 0 || address.arrived_until > now);
        }
    }

    /// Waits until every admitted connection has ended. None is admitted meanwhile, because the semaphore is fair;
    /// after it, connections are admitted again.
    pub(super) async fn wait_all_ended(&self) {
        // Acquiring fails only on a closed semaphore, and this one is never closed.
        _ = self.permits.acquire_many(ALL_PERMITS).await;
    }

    /// Returns how many connections are admitted.
    pub(super) fn admitted(&self) -> usize {
        ALL_PERMITS as usize - self.permits.available_permits()
    }
}

impl Drop for AddressLease {
    fn drop(&mut self) {
        let mut addresses = self.admission.addresses.lock();
        let Some(known) = addresses.get_mut(&self.address) else { return };
        known.streams -= 1;
        if known.streams == 0 && self.admission.limits.load().max_per_second.is_none() {
            addresses.remove(&self.address);
        }
    }
}
