//! The descriptors of channels and public ports, and the share of each address that proxies connect from.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{config::ServerConfig, ids::AddressBlock};

#[cfg(test)]
mod tests;

/// The maximum of channels and public ports that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MaxChannelsAndPorts {
    /// That of all proxies together.
    #[error(
        "the maximum of {0} channels and public ports is reached: raise the limit of file descriptors (ulimit -n) or lower \
         --max-streams"
    )]
    Total(usize),
    /// That of the proxies from one address.
    #[error(
        "the proxies from {0} have their maximum of {1} channels and public ports (option --max-channels-per-address)"
    )]
    Address(AddressBlock, usize),
}

/// Reserves the descriptors of channels and public ports. Beside the total, each address has its maximum: the proxies
/// of one host, or one holder of the token with many links, do not keep all others out.
#[derive(Debug)]
pub(super) struct TunnelDescriptors {
    /// The most descriptors in total.
    max: usize,
    /// The most descriptors of the proxies from one address.
    max_per_address: AtomicUsize,
    /// Holds one permit for each descriptor that may be in use.
    permits: Arc<Semaphore>,
    /// The descriptors in use of each address. One without any has no entry.
    by_address: Mutex<HashMap<AddressBlock, usize>>,
}

/// A reserved descriptor of a channel or public port. Dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct TunnelDescriptor {
    /// Counts the descriptor in the total.
    _permit: OwnedSemaphorePermit,
    /// Where the descriptor is counted for its address.
    owner: Arc<TunnelDescriptors>,
    /// The address that the proxy has connected from.
    address: AddressBlock,
}

impl TunnelDescriptors {
    /// Creates the table with the limits of `config`, without any descriptor in use.
    pub(super) fn new(config: &ServerConfig) -> Arc<Self> {
        Arc::new(Self {
            max: config.max_channels_and_ports,
            max_per_address: config.max_channels_per_address().into(),
            permits: Arc::new(Semaphore::new(config.max_channels_and_ports)),
            by_address: Mutex::default(),
        })
    }

    /// Replaces the most descriptors of the proxies from one address. Those in use stay.
    pub(super) fn set_max_per_address(&self, max: usize) {
        self.max_per_address.store(max, Relaxed);
    }

    /// Reserves the descriptor of one more channel or public port of a proxy from `address`.
    ///
    /// # Errors
    /// The maximum that is in use.
    pub(super) fn reserve(
        self: &Arc<Self>,
        address: AddressBlock,
    ) -> Result<TunnelDescriptor, MaxChannelsAndPorts> {
        let total = MaxChannelsAndPorts::Total(self.max);
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| total)?;
        let mut by_address = self.by_address.lock();
        let in_use = by_address.get(&address).copied().unwrap_or_default();
        let max_per_address = self.max_per_address.load(Relaxed);
        if in_use >= max_per_address {
            return Err(MaxChannelsAndPorts::Address(address, max_per_address));
        }
        by_address.insert(address, in_use + 1);
        Ok(TunnelDescriptor { _permit: permit, owner: self.clone(), address })
    }
}

impl Drop for TunnelDescriptor {
    fn drop(&mut self) {
        let mut by_address = self.owner.by_address.lock();
        let Some(in_use) = by_address.get_mut(&self.address) else { return };
        *in_use -= 1;
        if *in_use == 0 {
            by_address.remove(&self.address);
        }
    }
}
