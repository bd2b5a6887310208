use std::{sync::Arc, time::Instant};

use super::{Core, proxy::Proxy, switch::Switch};
use crate::{
    control::{Command, Done, MAX_WEIGHT, Refused, Reply, Scope},
    ids::{Direction, ProxyId, Rate, StreamKey},
    link::RateLimit,
    telemetry::{EventKind, GoneReason, Limits, StreamStats},
};

impl Core {
    /// Does what the operator orders, and tells everybody that it was the operator.
    pub(super) fn execute(self: &Arc<Self>, command: &Command) -> Reply {
        if let Command::SetWeight(_, weight) = command
            && !(1..=MAX_WEIGHT).contains(weight)
        {
            return Err(Refused::Weight);
        }
        let streams = self.act(command).ok_or(Refused::Gone)?;
        self.telemetry.emit(EventKind::OperatorActed { what: command.to_string() });
        Ok(Done { streams })
    }

    /// How many streams it touched; `None` if what the command names is not there.
    fn act(&self, command: &Command) -> Option<usize> {
        match command {
            Command::KillStream(key) => self.on_stream(*key, |switch| switch.cancel().cancel()),
            Command::PauseStream(key) => self.on_stream(*key, |switch| switch.set_paused(true)),
            Command::ResumeStream(key) => self.on_stream(*key, |switch| switch.set_paused(false)),
            Command::SetPriority(key, priority) => {
                self.on_stream(*key, |switch| switch.set_priority(*priority))
            }
            Command::KillUser(user) => self.users.kill(*user),
            Command::KickProxy(id) => self.on_proxy(*id, |proxy| {
                proxy.leave(GoneReason::Kicked);
                proxy.link.close(&GoneReason::Kicked);
            }),
            Command::SetLimit(scope, direction, rate) => self.set_limit(scope, *direction, *rate),
            Command::DrainProxy(id) => self.on_proxy(*id, |proxy| proxy.set_draining(true)),
            Command::UndrainProxy(id) => self.on_proxy(*id, |proxy| proxy.set_draining(false)),
            Command::SetWeight(id, weight) => self.on_proxy(*id, |proxy| proxy.stats.set_weight(*weight)),
            Command::SetPolicy(key, policy) => {
                let service = self.service(key)?;
                service.pool.set_policy(*policy);
                service.guard.stats().set_policy(*policy);
                // Those that are open stay where they are.
                Some(0)
            }
        }
    }

    fn on_stream(&self, key: StreamKey, act: impl FnOnce(&Switch)) -> Option<usize> {
        let switch = self.streams.get(&key).map(|switch| switch.clone())?;
        act(&switch);
        Some(1)
    }

    fn on_proxy(&self, id: ProxyId, act: impl FnOnce(&Proxy)) -> Option<usize> {
        let proxy = self.proxies.get(&id).map(|proxy| proxy.clone())?;
        let streams = proxy.link.streams();
        act(&proxy);
        Some(streams)
    }

    fn set_limit(&self, scope: &Scope, direction: Direction, rate: Option<Rate>) -> Option<usize> {
        let set = |limit: &RateLimit, shown: &Limits| {
            limit.set(direction, rate, Instant::now());
            shown.set(direction, rate);
        };
        match scope {
            Scope::Stream(key) => self.on_stream(*key, |switch| switch.set_limit(direction, rate)),
            Scope::User(id) => {
                let (stats, limit) = self.users.limit(*id)?;
                set(&limit, &stats.limits);
                Some(self.limits_changed(|stream| stream.key.user == *id))
            }
            Scope::Proxy(id) => {
                let proxy = self.proxies.get(id).map(|proxy| proxy.clone())?;
                set(&proxy.limit, &proxy.stats.limits);
                Some(self.limits_changed(|stream| stream.proxy().is_some_and(|proxy| proxy.id == *id)))
            }
            Scope::Service(key) => {
                let service = self.service(key)?;
                set(&service.limit, &service.guard.stats().limits);
                Some(self.limits_changed(|stream| stream.user.service.key == *key))
            }
        }
    }

    /// Wakes the streams that wait for what held before. An operator types this: looking at all streams, a hundred
    /// thousand at the most, is cheaper than lists that every connection would have to keep.
    fn limits_changed(&self, concerns: impl Fn(&StreamStats) -> bool) -> usize {
        let concerned = self.streams.iter().filter(|switch| concerns(switch.stats()));
        // First listed, then woken: what they do might want the list.
        let switches: Vec<_> = concerned.map(|switch| switch.clone()).collect();
        switches.iter().for_each(|switch| switch.limits_changed());
        switches.len()
    }
}
