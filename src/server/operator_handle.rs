//! The operator's handle on one user connection: kill, pause, priority and rate limit.
//!
//! The handle owns the values that the operator sets. Telemetry only receives a copy of each for display.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tokio_util::sync::CancellationToken;

use crate::{
    ids::{Direction, Priority, ProxyId, Rate, ServiceKey, StreamKey},
    link::{RateLimit, StreamControl},
    telemetry::{StreamStats, TableMutex},
};

/// What the operator can do to one user connection, from its admission to its end. A pause or a priority that is set
/// while the connection waits for a proxy is stored and applied as soon as a stream is open.
#[derive(Debug)]
pub(super) struct OperatorHandle {
    /// The stream key of the user connection.
    key: StreamKey,
    /// The service that the user connected to.
    service: ServiceKey,
    /// Aborts the connection when it is cancelled.
    cancel: CancellationToken,
    /// The connection's own rate limit, in addition to those of its user, proxy and service.
    limit: Arc<RateLimit>,
    /// The pause and the priority that the operator has set, and the stream that they apply to.
    settings: TableMutex<StreamSettings>,
    /// The telemetry counters of the stream, which receive a copy of each setting for display; no decision reads it.
    stats: Arc<StreamStats>,
}

/// The operator's current settings for one connection, and the open stream that they apply to.
#[derive(Debug, Default)]
struct StreamSettings {
    /// How often the settings have changed.
    changes: u64,
    /// Whether the operator has paused the connection.
    is_paused: bool,
    /// The scheduling priority of the connection's stream.
    priority: Priority,
    /// The proxy that serves the connection and the control of its stream; `None` until one is assigned.
    assigned: Option<(ProxyId, StreamControl)>,
}

impl OperatorHandle {
    /// Creates the handle of a connection that no proxy serves yet.
    pub(super) fn new(
        key: StreamKey,
        service: ServiceKey,
        cancel: CancellationToken,
        limit: Arc<RateLimit>,
        stats: Arc<StreamStats>,
    ) -> Self {
        Self { key, service, cancel, limit, settings: TableMutex::default(), stats }
    }

    /// Returns the address of the user.
    pub(super) fn user_addr(&self) -> SocketAddr {
        self.stats.addr
    }

    /// Returns the token that aborts the connection when it is cancelled.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Returns the key of the connection's stream.
    pub(super) fn key(&self) -> StreamKey {
        self.key
    }

    /// Returns the service that the user connected to.
    pub(super) fn service(&self) -> &ServiceKey {
        &self.service
    }

    /// Returns the proxy that serves the connection, or served it last; `None` until one is assigned.
    pub(super) fn proxy(&self) -> Option<ProxyId> {
        self.settings.lock().assigned.as_ref().map(|(proxy, _)| *proxy)
    }

    /// Returns the connection's own rate limit.
    pub(super) fn limit(&self) -> &Arc<RateLimit> {
        &self.limit
    }

    /// Attaches the stream that was opened to `proxy`, and applies the current pause and priority to it.
    pub(super) fn attach(&self, proxy: ProxyId, control: StreamControl) {
        let is_default = {
            let mut settings = self.settings.lock();
            settings.assigned = Some((proxy, control));
            !settings.is_paused && settings.priority == Priority::default()
        };
        if !is_default {
            self.apply();
        }
    }

    /// Applies the settings to the stream, if there is one. That delivers data and flushes channels, so no lock is held
    /// meanwhile; if the settings have changed before it is done, it applies the newer ones.
    fn apply(&self) {
        loop {
            let (changes, is_paused, priority, assigned) = {
                let settings = self.settings.lock();
                (settings.changes, settings.is_paused, settings.priority, settings.assigned.clone())
            };
            let Some((_, control)) = assigned else { return };
            control.set_paused(is_paused);
            control.set_priority(priority);
            if self.settings.lock().changes == changes {
                return;
            }
        }
    }

    /// Changes the settings, and applies them to the stream if there is one.
    fn change(&self, change: impl FnOnce(&mut StreamSettings)) {
        {
            let mut settings = self.settings.lock();
            settings.changes += 1;
            change(&mut settings);
        }
        self.apply();
    }

    /// Pauses or resumes the connection in both directions, now or as soon as a stream is attached.
    pub(super) fn set_paused(&self, is_paused: bool) {
        self.change(|settings| {
            settings.is_paused = is_paused;
            self.stats.set_paused(is_paused);
        });
    }

    /// Sets the scheduling priority of the connection's stream, now or as soon as one is attached.
    pub(super) fn set_priority(&self, priority: Priority) {
        self.change(|settings| {
            settings.priority = priority;
            self.stats.set_priority(priority);
        });
    }

    /// Sets or removes the connection's own rate limit in one direction.
    pub(super) fn set_limit(&self, direction: Direction, rate: Option<Rate>) {
        self.limit.set(direction, rate, Instant::now());
        self.stats.set_limit(direction, rate);
        self.rate_limits_changed();
    }

    /// Wakes the stream so that it reads its rate limits again, after one that applies to it has changed.
    pub(super) fn rate_limits_changed(&self) {
        let assigned = self.settings.lock().assigned.clone();
        if let Some((_, control)) = assigned {
            control.rate_limits_changed();
        }
    }
}
