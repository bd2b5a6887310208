//! The state of one service at a server: what the server has granted, what it is asked for, and why it has refused.

use std::sync::Arc;

use super::{backoff::Backoff, error::Refusal, service_list::ServiceEntry};
use crate::{
    config::ProxyConfig,
    ids::{ServiceKey, UserNetworks},
};

/// The state of one service at the server.
#[derive(Debug)]
pub(super) struct Registration {
    /// The service as it is to be.
    pub(super) entry: Arc<ServiceEntry>,
    /// Whether the service is in the list.
    pub(super) is_wanted: bool,
    /// What the server has granted.
    pub(super) granted: Option<Granted>,
    /// The unanswered request.
    pub(super) request: Option<Request>,
    /// Why the last request was refused. It is repeated once this is `None` again.
    pub(super) refusal: Option<Refusal>,
    /// The reason that was reported last: the same one is reported once.
    pub(super) reported: Option<String>,
    /// The pauses between requests that are refused.
    pub(super) backoff: Backoff,
}

/// A service as the server has it.
#[derive(Debug)]
pub(super) struct Granted {
    /// The public port and the group.
    pub(super) key: ServiceKey,
    /// The users that the server admits.
    pub(super) networks: UserNetworks,
}

/// An unanswered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// A registration with these users.
    Add(ServiceKey, UserNetworks),
    /// The end of a registration.
    Remove(u16),
}

impl Registration {
    /// Creates the state of a service that was not requested yet.
    pub(super) fn new(entry: Arc<ServiceEntry>, config: &ProxyConfig) -> Self {
        // Each refused service asks for itself, and a server logs each refusal.
        let backoff = Backoff::new(config.min_backoff, config.max_backoff * 4);
        Self { entry, is_wanted: true, granted: None, request: None, refusal: None, reported: None, backoff }
    }

    /// Returns the public port that the service has at the server, or has requested; `None` if it has none yet.
    pub(super) fn port(&self) -> Option<u16> {
        let requested = match &self.request {
            Some(Request::Add(key, _)) => Some(key.port).filter(|&port| port != 0),
            Some(Request::Remove(port)) => Some(*port),
            None => None,
        };
        self.granted.as_ref().map(|granted| granted.key.port).or(requested)
    }
}

impl Request {
    /// Returns whether the server is to choose the port.
    pub(super) fn is_for_any_port(&self) -> bool {
        matches!(self, Self::Add(ServiceKey { port: 0, .. }, _))
    }
}
