//! The services that a proxy is to serve at present, and what another list of them changes.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use crate::{config::ServiceConfig, ids::ServiceKey};

#[cfg(test)]
mod tests;

/// Identifies a service of this proxy as long as it has it, also when its target changes and whatever port a server
/// assigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServiceId(u64);

/// One service of this proxy. Another configuration of it is another entry with the same id.
#[derive(Debug)]
pub(super) struct ServiceEntry {
    /// Identifies the service.
    pub(super) id: ServiceId,
    /// The requested port, the target, and the users that are admitted.
    pub(super) config: ServiceConfig,
}

impl ServiceEntry {
    /// Returns the name by which the service is reported: `8080:default`, or with the target if any port is requested.
    pub(super) fn name(&self) -> String {
        match self.config.key.port {
            0 => format!("{} (to {})", self.config.key, self.config.target),
            _ => self.config.key.to_string(),
        }
    }
}

/// The services that a proxy is to serve, in the order of its configuration. Cloning shares the entries.
#[derive(Debug, Clone)]
pub(super) struct ServiceList {
    /// The services.
    entries: Arc<[Arc<ServiceEntry>]>,
    /// The number of the last id that was given.
    last_id: u64,
}

/// What another list of services changes, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceChanges {
    /// The services that were not in the list before.
    pub added: Vec<ServiceKey>,
    /// The services with another target or other users.
    pub changed: Vec<ServiceKey>,
    /// The services that are not in the list any more.
    pub removed: Vec<ServiceKey>,
}

impl ServiceChanges {
    /// Returns whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl fmt::Display for ServiceChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (added, changed, removed) = (self.added.len(), self.changed.len(), self.removed.len());
        write!(f, "services added: {added}, changed: {changed}, removed: {removed}")
    }
}

impl ServiceList {
    /// Creates the list of a new proxy.
    pub(super) fn new(services: Vec<ServiceConfig>) -> Self {
        Self { entries: [].into(), last_id: 0 }.replaced_by(services).0
    }

    /// Returns the list of these services, and what it changes. A service with the requested port and group of an
    /// earlier one is the same service; of several that request any port, those with the same target first.
    pub(super) fn replaced_by(&self, services: Vec<ServiceConfig>) -> (Self, ServiceChanges) {
        let mut earlier: HashMap<&ServiceKey, VecDeque<&Arc<ServiceEntry>>> = HashMap::new();
        for entry in self.entries.iter() {
            earlier.entry(&entry.config.key).or_default().push_back(entry);
        }
        let mut take = |service: &ServiceConfig, is_same: &dyn Fn(&ServiceConfig) -> bool| {
            let candidates = earlier.get_mut(&service.key)?;
            let index = candidates.iter().position(|entry| is_same(&entry.config))?;
            candidates.remove(index)
        };
        let mut kept: Vec<_> = services.iter().map(|service| take(service, &|old| old == service)).collect();
        for is_same_target in [true, false] {
            for (service, kept) in services.iter().zip(&mut kept).filter(|(_, kept)| kept.is_none()) {
                *kept = take(service, &|old| !is_same_target || old.target == service.target);
            }
        }
        let (mut changes, mut last_id) = (ServiceChanges::default(), self.last_id);
        let entries = services.into_iter().zip(kept).map(|(config, kept)| {
            let id = match kept {
                Some(entry) if entry.config == config => return entry.clone(),
                Some(entry) => {
                    changes.changed.push(config.key.clone());
                    entry.id
                }
                None => {
                    last_id += 1;
                    changes.added.push(config.key.clone());
                    ServiceId(last_id)
                }
            };
            Arc::new(ServiceEntry { id, config })
        });
        let entries = entries.collect();
        let removed = self.entries.iter().filter(|entry| {
            let left = earlier.get(&entry.config.key);
            left.is_some_and(|left| left.iter().any(|left| left.id == entry.id))
        });
        changes.removed = removed.map(|entry| entry.config.key.clone()).collect();
        (Self { entries, last_id }, changes)
    }

    /// Iterates over the services.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.entries.iter()
    }

    /// Returns the number of services.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
