//! Changes of the tokens while the server runs: other rights, revocation and expiry.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{core::Core, grants::Grant, proxy::RemoteProxy};
use crate::{
    config::ProxyEntries,
    ids::Direction,
    telemetry::{DisconnectReason, EventKind},
    wire::ResetCode,
};

/// How often a proxy whose token has ended is checked for open streams.
const STREAMS_CHECK_INTERVAL: Duration = Duration::from_millis(100);

impl Core {
    /// Applies other entries, and reports what has changed. Proxies whose token has no entry any more are disconnected.
    pub(super) fn replace_entries(self: &Arc<Self>, entries: &ProxyEntries) {
        let (grants, changes) = self.grants.load().replaced_by(entries, &self.limit_count);
        self.grants.store(Arc::new(grants));
        self.apply_rates();
        // A proxy that was refused until now may have got its entry.
        self.wrong_tokens.forget_all();
        let names = |grants: &[Arc<Grant>]| grants.iter().map(|grant| grant.name()).collect();
        self.telemetry.emit(EventKind::TokensChanged {
            added: changes.added,
            changed: names(&changes.changed),
            revoked: names(&changes.revoked),
        });
        for grant in changes.revoked {
            self.end_proxies_of(&grant, false);
        }
        // An entry may have got a date that is over.
        self.end_expired();
    }

    /// Disconnects the proxies whose tokens have expired.
    pub(super) fn end_expired(self: &Arc<Self>) {
        for grant in self.grants.load().end_expired(self.clock.epoch_ms()) {
            self.end_proxies_of(&grant, true);
        }
    }

    /// Sets the rate limits of all entries, and wakes the streams of those that have changed.
    pub(super) fn apply_rates(&self) {
        let now = std::time::Instant::now();
        for grant in self.grants.load().entries() {
            let rate = grant.entry().and_then(|entry| entry.rate());
            let is_other = Direction::ALL.map(|direction| grant.set_rate(direction, rate, now));
            if is_other.contains(&true) {
                let proxies: Vec<_> = self.proxies_of(grant).iter().map(|proxy| proxy.id).collect();
                self.wake_limited_streams(|handle| {
                    handle.proxy().is_some_and(|proxy| proxies.contains(&proxy))
                });
            }
        }
    }

    /// Returns the connected proxies of a grant.
    pub(super) fn proxies_of(&self, grant: &Arc<Grant>) -> Vec<Arc<RemoteProxy>> {
        self.proxies
            .iter()
            .filter(|proxy| Arc::ptr_eq(proxy.grant(), grant))
            .map(|proxy| proxy.clone())
            .collect()
    }

    /// Disconnects the proxies of a grant that has ended: they get no new stream and cannot resume from now on, and
    /// their open streams have the drain timeout to end.
    fn end_proxies_of(self: &Arc<Self>, grant: &Arc<Grant>, has_expired: bool) {
        let proxies = self.proxies_of(grant);
        if !proxies.is_empty() {
            self.telemetry.emit(EventKind::TokenEnded {
                entry: grant.name(),
                has_expired,
                proxies: proxies.len(),
                within: self.config().drain_timeout,
            });
        }
        for proxy in proxies {
            self.end_proxy(proxy);
        }
    }

    /// Disconnects a proxy whose token has ended.
    pub(super) fn end_proxy(self: &Arc<Self>, proxy: Arc<RemoteProxy>) {
        proxy.start_closing(DisconnectReason::TokenEnded);
        // It connects again at once, and is told why that is refused.
        proxy.link.send_go_away(ResetCode::Shutdown);
        let deadline = Instant::now() + self.config().drain_timeout;
        self.tasks.spawn(format!("end of proxy {}", proxy.id), async move {
            let streams_ended = async {
                while proxy.link.stream_count() > 0 {
                    sleep(STREAMS_CHECK_INTERVAL).await;
                }
            };
            tokio::select! {
                () = streams_ended => {}
                () = sleep_until(deadline) => {}
                () = proxy.link.wait_ended() => return,
            }
            proxy.link.close(&DisconnectReason::TokenEnded);
        });
    }
}
