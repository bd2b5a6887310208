//! The task that keeps the registrations of one link equal to the services of the configuration.

use std::{sync::Arc, time::Instant};

use tokio::time::sleep_until;

use super::{
    link_services::LinkServices,
    loop_detector::target_port,
    registrations::ServiceEvent,
    server_link::GoAwayState,
    service_list::ServiceEntry,
    serving_board::{ServedService, ServingBoard},
    shared_parts::SharedParts,
};
use crate::{ids::ServiceKey, link::Link, net::ConnectPolicy};

/// How many services are logged one by one. Of more, the log at the default level has one line once all are answered.
const MAX_LOGGED_SERVICES: usize = 32;

/// Sends requests and repeats them, reports the answers, and follows the changes of the configuration.
pub(super) struct Registrar {
    /// The link to the server.
    pub(super) link: Arc<Link>,
    /// What was requested and answered on it.
    pub(super) services: Arc<LinkServices>,
    /// Whether the server leaves, or another link registers the services.
    pub(super) go_away: Arc<GoAwayState>,
    /// Where the services that the server serves are published.
    pub(super) board: ServingBoard,
    /// The number of the server.
    pub(super) server: usize,
    /// The services of the configuration, and what a warning about a target needs.
    pub(super) shared: SharedParts,
}

impl Registrar {
    /// Registers until the link has ended, its server leaves, another link has taken its place or has to, or the
    /// proxy stops.
    pub(super) async fn run(self) {
        let mut lists = self.shared.lists.clone();
        // The configuration may have changed since the link was opened.
        lists.mark_changed();
        loop {
            while let Some(request) = self.services.next_request(Instant::now()) {
                // While the link has no channel the request is lost, and repeated later.
                self.link.send_on_any_channel(request);
            }
            // A service may have been refused without asking.
            self.services.notify_changed();
            self.report();
            let deadline = self.services.next_deadline();
            let due = deadline.unwrap_or_else(Instant::now).into();
            tokio::select! {
                () = self.services.woken() => {}
                () = sleep_until(due), if deadline.is_some() => {}
                Ok(()) = lists.changed() => {
                    let list = lists.borrow_and_update().clone();
                    if !self.services.set_list(list) {
                        tracing::info!(
                            server = self.board.label(),
                            "the services have changed, and a link of the text format keeps its own: replacing the link"
                        );
                        return self.go_away.set_outdated();
                    }
                }
                () = self.link.wait_ended() => return,
                () = self.go_away.wait_superseded() => return,
                () = self.shared.tasks.stopped() => return,
            }
        }
    }

    /// Publishes and logs what has changed, once the link serves.
    fn report(&self) {
        let Some(events) = self.services.take_events() else { return };
        let served = self.services.served();
        let ports = served.iter().map(|(entry, key)| (key.port, target_port(&entry.config.target)));
        self.shared.loops.set_services(self.server, ports.collect());
        let published = served.iter().map(|(entry, key)| ServedService {
            server: self.board.server().clone(),
            service: key.clone(),
            target: entry.config.target.clone(),
        });
        self.board.publish(published.collect(), || self.link.has_ended() || self.go_away.is_superseded());
        let (server, total) = (self.board.label(), self.shared.lists.borrow().len());
        let are_many = total > MAX_LOGGED_SERVICES;
        if are_many && self.services.is_settled() {
            tracing::info!(server, "serving {} of {total} services", served.len());
        }
        for event in events {
            match event {
                ServiceEvent::Registered(entry, key) => {
                    let target = &entry.config.target;
                    if are_many {
                        tracing::debug!(server, "serving {key}, forwarding its streams to {target}");
                    } else {
                        tracing::info!(server, "serving {key}, forwarding its streams to {target}");
                    }
                    self.warn_if_target_may_be_public_port(entry, key);
                }
                ServiceEvent::Changed(entry, key) => {
                    tracing::info!(
                        server,
                        "service {key} changed, forwarding its new streams to {}",
                        entry.config.target
                    );
                }
                ServiceEvent::Refused(refusal, pause) => {
                    tracing::warn!(server, "service {refusal}; asking again in {pause:.1?}");
                }
                ServiceEvent::Removed(key) => tracing::info!(server, "service {key} removed"),
            }
        }
    }

    /// Starts a task that logs a warning if the target of a service is probably its own public port.
    ///
    /// The proxy serves nevertheless: the server may listen for its users on one address of its host, and the target on
    /// another. If it is a loop indeed, its first stream is refused
    /// ([`LoopDetector`](super::loop_detector::LoopDetector)).
    fn warn_if_target_may_be_public_port(&self, entry: Arc<ServiceEntry>, service: ServiceKey) {
        let path = self.shared.loops.path(self.server);
        let Some(path) = path.filter(|_| target_port(&entry.config.target) == Some(service.port)) else {
            return;
        };
        let SharedParts { config, connector, tasks, .. } = self.shared.clone();
        self.shared.tasks.spawn("check of the target", async move {
            let (policy, target) = (ConnectPolicy::for_target(config.dial_timeout), &entry.config.target);
            let addresses = tokio::select! {
                addresses = connector.resolve(target, policy) => addresses.unwrap_or_default(),
                () = tasks.stopped() => return,
            };
            if addresses.iter().any(|address| path.may_lead_to_server(address.ip().to_canonical())) {
                tracing::warn!(
                    "the target {target} seems to be the public port of service {service} itself: its streams will be \
                     refused if it leads back to this proxy; the target must be what the service forwards to"
                );
            }
        });
    }
}
