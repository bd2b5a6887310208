//! The services of one link: registered with the server, and found by the port of a stream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use tokio::sync::{Notify, watch};

use super::{
    error::Refusal,
    registrations::{PortOwner, Progress, Registrations, ServiceEvent},
    service_list::{ServiceEntry, ServiceList},
};
use crate::{
    ids::ServiceKey,
    telemetry::TableMutex,
    wire::{ResetCode, TunnelMessage},
};

/// The registrations of one link, shared by the link, the tasks of its streams and the one that registers.
#[derive(Debug)]
pub(super) struct LinkServices {
    /// What was requested and answered.
    registrations: TableMutex<Registrations>,
    /// Whether the link serves: until then its failure is reported as a whole.
    is_serving: AtomicBool,
    /// Notified when the task that registers has something to do.
    wake: Notify,
    /// Notified when the service of a port, or the progress, may be known.
    changed: watch::Sender<()>,
}

impl LinkServices {
    /// Creates the services of a link on which nothing was requested yet.
    pub(super) fn new(registrations: Registrations) -> Self {
        Self {
            registrations: TableMutex::new(registrations),
            is_serving: AtomicBool::new(false),
            wake: Notify::new(),
            changed: watch::Sender::new(()),
        }
    }

    /// Handles the server's answer to a request.
    pub(super) fn answer_received(&self, number: Option<u32>, answer: Result<ServiceKey, Refusal>) {
        self.registrations.lock().on_answer(number, answer, Instant::now());
        self.changed.send_replace(());
        self.wake.notify_one();
    }

    /// Has [`take_events`](Self::take_events) return what happens, from the beginning.
    pub(super) fn begin_serving(&self) {
        self.is_serving.store(true, SeqCst);
        self.wake.notify_one();
    }

    /// Waits until an answer was received, or the link serves.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Sets the services that are to be served, see [`Registrations::set_list`]. Returns whether this link can
    /// [register](Registrations::can_follow) them; it keeps those before if not.
    pub(super) fn set_list(&self, list: ServiceList) -> bool {
        let mut registrations = self.registrations.lock();
        let can_follow = registrations.can_follow(&list);
        if can_follow {
            registrations.set_list(list);
        }
        can_follow
    }

    /// Returns the next message to the server, see [`Registrations::next_request`].
    pub(super) fn next_request(&self, now: Instant) -> Option<TunnelMessage> {
        self.registrations.lock().next_request(now)
    }

    /// Returns when [`next_request`](Self::next_request) has to be called again although nothing has happened.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.registrations.lock().next_deadline()
    }

    /// Waits until each service was granted or refused.
    pub(super) async fn wait_settled(&self) {
        self.wait_for(|registrations| registrations.is_settled().then_some(())).await;
    }

    /// Returns the code for a stream of a port that this proxy does not serve any more.
    pub(super) fn not_served_code(&self) -> ResetCode {
        self.registrations.lock().not_served_code()
    }

    /// Returns whether nothing is to be asked, and no answer is awaited.
    pub(super) fn is_settled(&self) -> bool {
        self.registrations.lock().is_settled()
    }

    /// Returns what has happened since the last call; `None` if nothing has, or the link does not serve yet.
    pub(super) fn take_events(&self) -> Option<Vec<ServiceEvent>> {
        if !self.is_serving.load(SeqCst) {
            return None;
        }
        Some(self.registrations.lock().take_events()).filter(|events| !events.is_empty())
    }

    /// Returns the services that the server serves through this link, in the order of the configuration.
    pub(super) fn served(&self) -> Vec<(Arc<ServiceEntry>, ServiceKey)> {
        self.registrations.lock().served()
    }

    /// Returns the public port that the server has granted to a service; `None` before its answer.
    pub(super) fn granted_port(&self, service: &ServiceEntry) -> Option<u16> {
        self.served().into_iter().find_map(|(entry, key)| (entry.id == service.id).then_some(key.port))
    }

    /// Returns the service to which the streams of a public port belong. Waits while that is not known.
    pub(super) async fn wait_for_owner(&self, port: u16) -> PortOwner {
        let look = |registrations: &Registrations| match registrations.owner_of(port) {
            PortOwner::Pending => None,
            known => Some(known),
        };
        // Known but for the first streams: most need no receiver.
        let known = look(&self.registrations.lock());
        match known {
            Some(known) => known,
            None => self.wait_for(look).await,
        }
    }

    /// Waits until the server serves a service, or has refused all.
    pub(super) async fn wait_for_progress(&self) -> Progress {
        let look = |registrations: &Registrations| match registrations.progress() {
            Progress::Waiting => None,
            known => Some(known),
        };
        self.wait_for(look).await
    }

    /// Waits until `look` finds what it looks for in the registrations, and returns that.
    async fn wait_for<T>(&self, look: impl Fn(&Registrations) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            let found = look(&self.registrations.lock());
            if let Some(found) = found {
                return found;
            }
            // Cannot fail: the sender lives in `self`.
            _ = changes.changed().await;
        }
    }

    /// Has those that wait look again, after a refusal that the server had no part in.
    pub(super) fn notify_changed(&self) {
        self.changed.send_replace(());
    }
}
