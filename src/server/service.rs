//! A service: one public port and the pool of proxies that serve it. Plain state; the task that runs the port is in
//! `public_port`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::balance::{Candidate, Pool};
use crate::{
    ids::{Policy, ServiceKey},
    link::RateLimit,
    telemetry::{ServiceGuard, ServiceStats},
};

/// One public port and the pool of proxies `P` that serve it. Generic, because a proxy holds its services: this file
/// must not depend on the proxy's.
#[derive(Debug)]
pub(super) struct Service<P> {
    /// The public port and the group of its proxies.
    pub(super) key: ServiceKey,
    /// The proxies that are registered for the service.
    pub(super) pool: Pool<P>,
    /// The rate limit of all streams of this service together.
    pub(super) limit: Arc<RateLimit>,
    /// Cancelled when the server closes its public ports.
    pub(super) close: CancellationToken,
    /// The telemetry guard of the service; its drop reports that the service was closed.
    guard: ServiceGuard,
    /// The number of user connections that wait for a proxy.
    pending_users: AtomicUsize,
    /// The number of user connections that are admitted and have not ended, those that wait for a proxy included.
    open_users: AtomicUsize,
}

impl<P: Candidate> Service<P> {
    /// Creates a service without proxies. `policy` selects the proxy for each stream until the operator changes it.
    pub(super) fn new(
        guard: ServiceGuard,
        policy: Policy,
        limit: Arc<RateLimit>,
        close: CancellationToken,
    ) -> Arc<Self> {
        guard.stats().set_policy(policy);
        Arc::new(Self {
            key: guard.stats().key.clone(),
            pool: Pool::new(policy),
            limit,
            close,
            guard,
            pending_users: AtomicUsize::new(0),
            open_users: AtomicUsize::new(0),
        })
    }

    /// Reports that the service was opened.
    pub(super) fn report_opened(&self) {
        self.guard.report_opened();
    }

    /// Returns the counters of the service, for display.
    pub(super) fn stats(&self) -> &Arc<ServiceStats> {
        self.guard.stats()
    }

    /// Changes how new streams are distributed over the proxies. Open streams are not affected.
    pub(super) fn set_policy(&self, policy: Policy) {
        self.pool.set_policy(policy);
        self.guard.stats().set_policy(policy);
    }

    /// Returns whether the service has neither a proxy nor a user that waits for one.
    pub(super) fn is_unused(&self) -> bool {
        self.pool.is_empty() && self.pending_users.load(SeqCst) == 0
    }

    /// Waits until the service has had no proxy for `timeout` without interruption.
    pub(super) async fn wait_idle(&self, timeout: Duration) {
        let mut size = self.pool.watch();
        loop {
            // Neither wait can fail: the sender of the watch channel lives in `self`.
            _ = size.wait_for(|&size| size == 0).await;
            if tokio::time::timeout(timeout, size.wait_for(|&size| size > 0)).await.is_err() {
                return;
            }
        }
    }
}

/// One user connection that waits for a proxy of `service`. While there is one, the service stays open.
#[derive(Debug)]
pub(super) struct PendingUser<P>(Arc<Service<P>>);

impl<P> PendingUser<P> {
    /// Counts one more waiting user connection.
    pub(super) fn new(service: &Arc<Service<P>>) -> Self {
        service.pending_users.fetch_add(1, SeqCst);
        Self(service.clone())
    }

    /// Returns the service that the user connected to.
    pub(super) fn service(&self) -> &Arc<Service<P>> {
        &self.0
    }
}

impl<P> Drop for PendingUser<P> {
    fn drop(&mut self) {
        self.0.pending_users.fetch_sub(1, SeqCst);
    }
}

/// Counts one user connection of a service until it is dropped.
#[derive(Debug)]
pub(super) struct OpenUser<P>(Arc<Service<P>>);

impl<P> OpenUser<P> {
    /// Counts one more user connection of `service`. Returns `None` if it has `max` already.
    pub(super) fn new(service: &Arc<Service<P>>, max: usize) -> Option<Self> {
        let counted = Self(service.clone());
        let before = service.open_users.fetch_add(1, SeqCst);
        // Dropping it takes the connection back.
        (before < max).then_some(counted)
    }
}

impl<P> Drop for OpenUser<P> {
    fn drop(&mut self) {
        self.0.open_users.fetch_sub(1, SeqCst);
    }
}
