//! What the servers of a proxy serve through it at the moment, for those who wait for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::watch;

use crate::ids::ServiceKey;

/// A service that a server serves through this proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedService {
    /// The configured address of the server, `HOST:PORT`.
    pub server: Arc<str>,
    /// The public port and the group.
    pub service: ServiceKey,
    /// The target of its new streams, `HOST:PORT`.
    pub target: String,
}

/// Publishes the services that one server serves, beside those of the other servers of the proxy.
#[derive(Debug, Clone)]
pub(super) struct ServingBoard {
    /// The configured address of the server.
    server: Arc<str>,
    /// Whether the proxy has or had several servers, so that a log line has to name its own.
    is_one_of_several: Arc<AtomicBool>,
    /// The services that all servers serve.
    served: Arc<watch::Sender<Vec<ServedService>>>,
}

impl ServingBoard {
    /// Creates the board of the server at the address `server`.
    pub(super) fn new(
        server: &str,
        is_one_of_several: Arc<AtomicBool>,
        served: Arc<watch::Sender<Vec<ServedService>>>,
    ) -> Self {
        Self { server: server.into(), is_one_of_several, served }
    }

    /// Replaces what this server serves, unless `is_outdated` says that another link has begun to publish.
    pub(super) fn publish(&self, services: Vec<ServedService>, is_outdated: impl FnOnce() -> bool) {
        self.served.send_if_modified(|served| {
            // Asked here, because the changes of all links are serialised here.
            if is_outdated() {
                return false;
            }
            served.retain(|service| service.server != self.server);
            served.extend(services);
            true
        });
    }

    /// Publishes that this server serves nothing.
    pub(super) fn clear(&self) {
        self.publish(Vec::new(), || false);
    }

    /// Returns the configured address of the server.
    pub(super) fn server(&self) -> &Arc<str> {
        &self.server
    }

    /// Returns the server as a field of a log line; `None` for a proxy with one server, whose lines need not name it.
    pub(super) fn label(&self) -> Option<tracing::field::DisplayValue<Arc<str>>> {
        self.is_one_of_several.load(Relaxed).then(|| tracing::field::display(self.server.clone()))
    }
}
