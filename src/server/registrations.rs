//! What one proxy has registered for, and the requests for any port that it may repeat. Plain state, which the proxy
//! holds behind its lock.

use std::{collections::HashMap, sync::Arc};

use super::service::Service;

#[cfg(test)]
mod tests;

/// What a proxy of type `P` has registered for, and is about to. Generic, because the proxy holds it.
#[derive(Debug)]
pub(super) struct Registrations<P> {
    /// The services by public port.
    services: HashMap<u16, Registered<P>>,
    /// The number of searches for a free port that have not ended. Each counts as a service, so that a proxy cannot
    /// have any number of searches at the same time.
    searches: usize,
    /// The numbered requests for any port that were granted, or for which a search has not ended.
    any_port_requests: HashMap<u32, AnyPort>,
}

/// A service that a proxy has registered for.
#[derive(Debug)]
struct Registered<P> {
    /// The service.
    service: Arc<Service<P>>,
    /// The number of the request for any port that it was granted to.
    any_port_request: Option<u32>,
}

/// The state of a numbered request for any port.
#[derive(Debug)]
enum AnyPort {
    /// A port is being looked for.
    Searching,
    /// The request was granted this port.
    Granted(u16),
}

/// A request for any port that was received before.
#[derive(Debug)]
pub(super) enum Repeated<P> {
    /// It was granted this service.
    Granted(Arc<Service<P>>),
    /// It will be answered.
    Searching,
}

impl<P> Default for Registrations<P> {
    fn default() -> Self {
        Self { services: HashMap::new(), searches: 0, any_port_requests: HashMap::new() }
    }
}

impl<P> Registrations<P> {
    /// Returns the number of services, and of searches that will become one.
    pub(super) fn count(&self) -> usize {
        self.services.len() + self.searches
    }

    /// Iterates over the services.
    pub(super) fn services(&self) -> impl Iterator<Item = &Arc<Service<P>>> {
        self.services.values().map(|registered| &registered.service)
    }

    /// Returns what became of the request for any port with this number; `None` if it is a new one.
    pub(super) fn find_any_port(&self, number: u32) -> Option<Repeated<P>> {
        Some(match self.any_port_requests.get(&number)? {
            AnyPort::Searching => Repeated::Searching,
            AnyPort::Granted(port) => Repeated::Granted(self.services.get(port)?.service.clone()),
        })
    }

    /// Counts a search for the request with this number.
    pub(super) fn begin_search(&mut self, number: Option<u32>) {
        self.searches += 1;
        self.any_port_requests.extend(number.map(|number| (number, AnyPort::Searching)));
    }

    /// Counts a search no more. A request that was not granted meanwhile may be made again.
    pub(super) fn end_search(&mut self, number: Option<u32>) {
        self.searches -= 1;
        if let Some(number) = number
            && let Some(AnyPort::Searching) = self.any_port_requests.get(&number)
        {
            self.any_port_requests.remove(&number);
        }
    }

    /// Returns whether the proxy is registered for exactly this service.
    pub(super) fn contains(&self, service: &Arc<Service<P>>) -> bool {
        let known = self.services.get(&service.key.port);
        known.is_some_and(|known| Arc::ptr_eq(&known.service, service))
    }

    /// Returns whether the proxy is registered for a public port.
    pub(super) fn serves(&self, port: u16) -> bool {
        self.services.contains_key(&port)
    }

    /// Adds a service, which was granted to the request for any port with this number, if to one.
    pub(super) fn insert(&mut self, service: Arc<Service<P>>, any_port_request: Option<u32>) {
        let port = service.key.port;
        self.services.insert(port, Registered { service, any_port_request });
        self.any_port_requests.extend(any_port_request.map(|number| (number, AnyPort::Granted(port))));
    }

    /// Removes the service of a port and returns it; `None` if the proxy is not registered for the port.
    pub(super) fn remove(&mut self, port: u16) -> Option<Arc<Service<P>>> {
        let Registered { service, any_port_request } = self.services.remove(&port)?;
        any_port_request.and_then(|number| self.any_port_requests.remove(&number));
        Some(service)
    }

    /// Removes all services and returns them. The searches go on.
    pub(super) fn remove_all(&mut self) -> Vec<Arc<Service<P>>> {
        self.any_port_requests.retain(|_, request| matches!(request, AnyPort::Searching));
        self.services.drain().map(|(_, registered)| registered.service).collect()
    }
}
