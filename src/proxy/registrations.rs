//! What a proxy has asked one server for on one link, and what the server has answered. Sans-IO: no socket, task or
//! clock.
//!
//! Each service has at most one unanswered request. Requests are pipelined, up to [`MAX_UNANSWERED`]; a server that
//! does not number its answers gets them one by one. A request that is not answered, because its channel was lost, is
//! repeated under its number, which the server recognises.
//!
//! The server may open streams of a service before its answer arrives, on another channel. A requested port belongs to
//! its service from the request on, and a stream of an unknown port waits while any port was requested and none
//! assigned yet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    backoff::PAUSE_AFTER_REFUSAL,
    error::{Refusal, ServiceRefusal},
    loop_detector::target_port,
    registration::{Granted, Registration, Request},
    service_list::{ServiceEntry, ServiceId, ServiceList},
};
use crate::{
    config::ProxyConfig,
    ids::ServiceKey,
    wire::{
        AddProxy, RemoveProxy, ResetCode, TunnelAction, TunnelMessage,
        binary::{SERVICES, USER_NETWORKS},
    },
};

#[cfg(test)]
mod tests;

/// How many requests may be unanswered: half of what a server queues as answers for a proxy that does not read.
const MAX_UNANSWERED: usize = 128;

/// After how long without an answer a request is repeated: the channel that carried one of both was probably lost.
/// Repeating it on a path with a longer RTT changes nothing.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// The same for a server that does not number its answers, where a repetition may be taken for another request.
const REPEAT_UNNUMBERED_AFTER: Duration = Duration::from_secs(30);

/// The public ports that one server has assigned, by service: those of the next link to it. Shared by all links to the
/// server.
#[derive(Debug, Default)]
pub(super) struct AssignedPorts(Mutex<HashMap<ServiceId, u16>>);

/// What the proxy has registered at one server.
#[derive(Debug)]
pub(super) struct Registrations {
    /// Every service that the server has been asked for, or is to be.
    services: HashMap<ServiceId, Registration>,
    /// The services at present, in the order of the configuration.
    list: ServiceList,
    /// The service that gets the streams of each public port.
    ports: HashMap<u16, Arc<ServiceEntry>>,
    /// The services of which the next request has to be determined.
    queue: VecDeque<ServiceId>,
    /// The services of the unanswered requests by number, and when each request was sent last.
    unanswered: BTreeMap<u32, (ServiceId, Instant)>,
    /// When refused services are requested again.
    retries: BTreeSet<(Instant, ServiceId)>,
    /// The ports of services that are being removed, and the services that wait for them.
    leaving: HashMap<u16, Option<ServiceId>>,
    /// The number of the last request.
    last_number: u32,
    /// The features in force on the link.
    features: u32,
    /// Whether the peer speaks the text format, in which a stream does not name its port.
    is_text: bool,
    /// What has happened since the last report.
    events: Vec<ServiceEvent>,
    /// The ports that the server has assigned, for the next link.
    assigned: Arc<AssignedPorts>,
    /// The configuration: weight and pauses.
    config: Arc<ProxyConfig>,
}

/// What happened to a service, for the log.
#[derive(Debug)]
pub(super) enum ServiceEvent {
    /// The server serves it, under this key.
    Registered(Arc<ServiceEntry>, ServiceKey),
    /// The server serves it already, and its new streams get another target, or other users are admitted.
    Changed(Arc<ServiceEntry>, ServiceKey),
    /// The server does not serve it; it is asked again after this time.
    Refused(ServiceRefusal, Duration),
    /// The server serves it through this proxy no more.
    Removed(ServiceKey),
}

/// Which service a stream belongs to.
#[derive(Debug, Clone)]
pub(super) enum PortOwner {
    /// This one.
    Service(Arc<ServiceEntry>),
    /// One whose port is not known yet.
    Pending,
    /// None of this proxy.
    Unknown,
}

/// How far the registrations of a new link are.
#[derive(Debug)]
pub(super) enum Progress {
    /// At least one service is served.
    Serving,
    /// Every service was refused.
    AllRefused(Vec<ServiceRefusal>),
    /// No service is served yet.
    Waiting,
}

impl Registrations {
    /// Creates the registrations of a new link on which these protocol features are in force. Nothing has been
    /// requested.
    pub(super) fn new(
        config: Arc<ProxyConfig>,
        list: ServiceList,
        features: u32,
        is_text: bool,
        assigned: Arc<AssignedPorts>,
    ) -> Self {
        assigned.0.lock().retain(|id, _| list.iter().any(|entry| entry.id == *id));
        let mut registrations = Self {
            services: HashMap::new(),
            list: ServiceList::new(Vec::new()),
            ports: HashMap::new(),
            queue: VecDeque::new(),
            unanswered: BTreeMap::new(),
            retries: BTreeSet::new(),
            leaving: HashMap::new(),
            last_number: 0,
            features,
            is_text,
            events: Vec::new(),
            assigned,
            config,
        };
        registrations.set_list(list);
        registrations
    }

    /// Returns whether this link can register the services of `list`. One of the text format keeps its only service
    /// until it ends, because no stream says which one it belongs to: the users of the port before would reach the
    /// target of another one.
    pub(super) fn can_follow(&self, list: &ServiceList) -> bool {
        let ids = |list: &ServiceList| list.iter().map(|entry| entry.id).collect::<Vec<_>>();
        !self.is_text || ids(&self.list) == ids(list)
    }

    /// Sets the services that are to be served. New streams get the targets of `list` from now on.
    pub(super) fn set_list(&mut self, list: ServiceList) {
        let wanted: HashSet<_> = list.iter().map(|entry| entry.id).collect();
        for (id, registration) in &mut self.services {
            if registration.is_wanted && !wanted.contains(id) {
                registration.is_wanted = false;
                if let Some(port) = registration.port() {
                    if self.ports.get(&port).is_some_and(|owner| owner.id == *id) {
                        self.ports.remove(&port);
                    }
                    self.leaving.insert(port, None);
                }
                self.queue.push_back(*id);
            }
        }
        // Requested ports first, so that the server assigns none of them to a service that asks for any.
        let is_any = |entry: &&Arc<ServiceEntry>| entry.config.key.port == 0;
        let ordered = list.iter().filter(|entry| !is_any(entry)).chain(list.iter().filter(is_any));
        for entry in ordered {
            match self.services.get_mut(&entry.id) {
                Some(known) if Arc::ptr_eq(&known.entry, entry) => continue,
                Some(known) => {
                    known.entry = entry.clone();
                    // The server may accept it with another configuration.
                    known.refusal = None;
                    if let Some(granted) = &known.granted {
                        self.events.push(ServiceEvent::Changed(entry.clone(), granted.key.clone()));
                    }
                    if let Some(owner) = known.port().and_then(|port| self.ports.get_mut(&port)) {
                        owner.clone_from(entry);
                    }
                }
                None => _ = self.services.insert(entry.id, Registration::new(entry.clone(), &self.config)),
            }
            self.queue.push_back(entry.id);
        }
        self.list = list;
    }

    /// Returns the next message to send to the server at `now`; `None` if there is none before the next answer, change
    /// or [deadline](Self::next_deadline).
    pub(super) fn next_request(&mut self, now: Instant) -> Option<TunnelMessage> {
        let repeat_after = self.repeat_after();
        let is_overdue = |sent: Instant| now.saturating_duration_since(sent) >= repeat_after;
        if let Some((&number, (id, sent))) =
            self.unanswered.iter_mut().find(|(_, (_, sent))| is_overdue(*sent))
        {
            *sent = now;
            let id = *id;
            return self.message(number, id);
        }
        while let Some(&(at, id)) = self.retries.first().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, id));
            if let Some(registration) = self.services.get_mut(&id) {
                registration.refusal = None;
                self.queue.push_back(id);
            }
        }
        let max = if self.is_numbered() { MAX_UNANSWERED } else { 1 };
        while self.unanswered.len() < max {
            let id = self.queue.pop_front()?;
            let Some(request) = self.request_of(id, now) else { continue };
            self.last_number = self.last_number.wrapping_add(1);
            self.unanswered.insert(self.last_number, (id, now));
            self.services.get_mut(&id)?.request = Some(request);
            return self.message(self.last_number, id);
        }
        None
    }

    /// Returns when [`next_request`](Self::next_request) has to be called again although nothing has happened.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let repetition = self.unanswered.values().map(|(_, sent)| *sent + self.repeat_after()).min();
        let retry = self.retries.first().map(|(at, _)| *at);
        [repetition, retry].into_iter().flatten().min()
    }

    /// Handles the answer to the request with this number; without a number, to the only one.
    pub(super) fn on_answer(
        &mut self,
        number: Option<u32>,
        answer: Result<ServiceKey, Refusal>,
        now: Instant,
    ) {
        let number = match number {
            Some(number) => number,
            None => match self.unanswered.first_key_value() {
                Some((&number, _)) if !self.is_numbered() => number,
                _ => return,
            },
        };
        let Some((id, _)) = self.unanswered.remove(&number) else { return };
        let Some(registration) = self.services.get_mut(&id) else { return };
        let Some(request) = registration.request.take() else { return };
        match (request, answer) {
            (Request::Add(_, networks), Ok(key)) => self.on_granted(id, Granted { key, networks }, now),
            (Request::Add(key, _), Err(refusal)) => self.on_refused(id, key.port, refusal, now),
            // The server has nothing left to remove, whatever it answers.
            (Request::Remove(port), _) => self.on_removed(id, port),
        }
        self.queue.push_back(id);
    }

    /// Returns the service to which the streams of a public port belong.
    pub(super) fn owner_of(&self, port: u16) -> PortOwner {
        // In the text format OPEN names no port, and there is one service.
        let owner = if self.is_text { self.list.iter().next() } else { self.ports.get(&port) };
        match owner {
            Some(entry) => PortOwner::Service(entry.clone()),
            None if self.awaits_any_port() && !self.leaving.contains_key(&port) => PortOwner::Pending,
            None => PortOwner::Unknown,
        }
    }

    /// Returns how far the registrations are.
    pub(super) fn progress(&self) -> Progress {
        let mut refusals = Vec::new();
        for registration in self.list.iter().filter_map(|entry| self.services.get(&entry.id)) {
            match (&registration.granted, &registration.refusal) {
                (Some(_), _) => return Progress::Serving,
                (None, Some(refusal)) => {
                    refusals.push(ServiceRefusal::new(&registration.entry, refusal.clone()))
                }
                (None, None) => {}
            }
        }
        if refusals.len() < self.list.len() { Progress::Waiting } else { Progress::AllRefused(refusals) }
    }

    /// Returns the services that the server serves through this link, in the order of the configuration.
    pub(super) fn served(&self) -> Vec<(Arc<ServiceEntry>, ServiceKey)> {
        let served = self.list.iter().filter_map(|entry| {
            let granted = self.services.get(&entry.id)?.granted.as_ref()?;
            Some((entry.clone(), granted.key.clone()))
        });
        served.collect()
    }

    /// Returns the code for a stream of a port that this proxy does not serve any more. A server without the feature
    /// takes the one for that for an internal error, and would not offer the user to another proxy.
    pub(super) fn not_served_code(&self) -> ResetCode {
        if self.is_numbered() { ResetCode::NotServed } else { ResetCode::LimitExceeded }
    }

    /// Returns whether nothing is to be asked, and no answer is awaited.
    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.unanswered.is_empty()
    }

    /// Returns what has happened since the last call.
    pub(super) fn take_events(&mut self) -> Vec<ServiceEvent> {
        std::mem::take(&mut self.events)
    }

    /// Returns whether the server numbers its answers.
    fn is_numbered(&self) -> bool {
        self.features & SERVICES != 0
    }

    /// Returns whether a request for any port is unanswered.
    fn awaits_any_port(&self) -> bool {
        let request = |(id, _): &(ServiceId, Instant)| self.services.get(id)?.request.as_ref();
        self.unanswered.values().filter_map(request).any(Request::is_for_any_port)
    }

    /// Returns after how long an unanswered request is repeated.
    fn repeat_after(&self) -> Duration {
        if self.is_numbered() { REPEAT_AFTER } else { REPEAT_UNNUMBERED_AFTER }
    }

    /// Returns what the server has to be asked for a service next. `None` if that is nothing, or something else comes
    /// first.
    fn request_of(&mut self, id: ServiceId, now: Instant) -> Option<Request> {
        let registration = self.services.get(&id)?;
        if registration.request.is_some() {
            return None;
        }
        if !registration.is_wanted {
            // No request is unanswered: a port is one that the server has granted.
            if let Some(port) = registration.port() {
                if self.is_numbered() {
                    return Some(Request::Remove(port));
                }
                // An older server keeps the port until the link ends; streams of it are refused.
                self.on_removed(id, port);
            }
            self.services.remove(&id);
            return None;
        }
        let config = &registration.entry.config;
        let is_granted = |granted: &Granted| granted.networks == config.user_networks;
        if registration.refusal.is_some() || registration.granted.as_ref().is_some_and(is_granted) {
            return None;
        }
        let key =
            ServiceKey { port: self.assigned.port_of(&registration.entry), group: config.key.group.clone() };
        if let Some(waiting) = self.leaving.get_mut(&key.port) {
            *waiting = Some(id);
            return None;
        }
        if let Some(owner) = self.ports.get(&key.port).filter(|owner| owner.id != id) {
            let refusal = Refusal::port_of_another(key.port, &owner.name());
            self.on_refused(id, key.port, refusal, now);
            return None;
        }
        let networks = config.user_networks.clone();
        if !networks.is_empty() && self.features & USER_NETWORKS == 0 && !self.is_text {
            self.on_refused(id, key.port, Refusal::networks_not_supported(), now);
            return None;
        }
        if key.port != 0 {
            self.ports.insert(key.port, registration.entry.clone());
        }
        Some(Request::Add(key, networks))
    }

    /// Returns the message of the unanswered request of a service.
    fn message(&self, number: u32, id: ServiceId) -> Option<TunnelMessage> {
        let registration = self.services.get(&id)?;
        Some(match registration.request.as_ref()? {
            Request::Add(service, networks) => {
                let request = AddProxy {
                    service: service.clone(),
                    target_port: target_port(&registration.entry.config.target),
                    weight: self.config.weight,
                    has_networks: !networks.is_empty(),
                    number: self.is_numbered().then_some(number),
                };
                TunnelMessage::control(TunnelAction::AddProxy(request), networks.to_string())
            }
            Request::Remove(port) => {
                TunnelMessage::control(TunnelAction::RemoveProxy(RemoveProxy { number, port: *port }), "")
            }
        })
    }

    /// Records that the server serves a service.
    fn on_granted(&mut self, id: ServiceId, granted: Granted, now: Instant) {
        let port = granted.key.port;
        if let Some(owner) = self.ports.get(&port).filter(|owner| owner.id != id) {
            // Its streams would reach the wrong target.
            let refusal = Refusal::port_of_another(port, &owner.name());
            return self.on_refused(id, port, refusal, now);
        }
        let Some(registration) = self.services.get_mut(&id) else { return };
        if registration.is_wanted {
            self.ports.insert(port, registration.entry.clone());
            self.assigned.0.lock().insert(id, port);
        } else {
            self.leaving.entry(port).or_default();
        }
        if registration.granted.is_none() && registration.is_wanted {
            self.events.push(ServiceEvent::Registered(registration.entry.clone(), granted.key.clone()));
        }
        registration.granted = Some(granted);
        registration.backoff.reset();
        registration.reported = None;
    }

    /// Records that the server does not serve a service, which was requested with this port.
    fn on_refused(&mut self, id: ServiceId, port: u16, refusal: Refusal, now: Instant) {
        let Some(registration) = self.services.get_mut(&id) else { return };
        if !registration.is_wanted {
            return self.release(port);
        }
        if registration.granted.is_none() && self.ports.get(&port).is_some_and(|owner| owner.id == id) {
            self.ports.remove(&port);
        }
        // What was granted once is right; what the operator of the server has changed since, he may change again.
        let may_pass = !refusal.is_permanent || self.assigned.0.lock().contains_key(&id);
        let pause = if may_pass { registration.backoff.next_pause() } else { PAUSE_AFTER_REFUSAL };
        self.retries.insert((now + pause, id));
        let reported = registration.reported.replace(refusal.reason.clone());
        if reported.as_ref() != Some(&refusal.reason) {
            let refusal = ServiceRefusal::new(&registration.entry, refusal.clone());
            self.events.push(ServiceEvent::Refused(refusal, pause));
        }
        registration.refusal = Some(refusal);
    }

    /// Records that the server does not serve a service any more, because this proxy has asked for that.
    fn on_removed(&mut self, id: ServiceId, port: u16) {
        if let Some(granted) = self.services.get_mut(&id).and_then(|registration| registration.granted.take())
        {
            self.events.push(ServiceEvent::Removed(granted.key));
        }
        self.release(port);
    }

    /// Lets the service register that waits for the removal of another one on its port.
    fn release(&mut self, port: u16) {
        self.queue.extend(self.leaving.remove(&port).flatten());
    }
}

impl AssignedPorts {
    /// Returns the port to request for a service: that of the last link, if there was one.
    fn port_of(&self, entry: &ServiceEntry) -> u16 {
        self.0.lock().get(&entry.id).copied().unwrap_or(entry.config.key.port)
    }
}
