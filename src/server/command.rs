use std::{sync::Arc, time::Instant};

use super::{Core, operator_handle::OperatorHandle, proxy::RemoteProxy};
use crate::{
    control::{Command, CommandError, CommandReply, Executed, LimitScope, MAX_WEIGHT},
    ids::{Direction, ProxyId, Rate, StreamKey},
    link::RateLimit,
    telemetry::{DisconnectReason, EventKind, RateLimitGauges},
};

impl Core {
    /// Does what the operator orders, and tells everybody that it was the operator.
    pub(super) fn execute(self: &Arc<Self>, command: &Command) -> CommandReply {
        if let Command::SetWeight(_, weight) = command
            && !(1..=MAX_WEIGHT).contains(weight)
        {
            return Err(CommandError::WeightOutOfRange);
        }
        let streams = self.act(command).ok_or(CommandError::NotFound)?;
        self.telemetry.emit(EventKind::OperatorActed { what: command.to_string() });
        Ok(Executed { affected_streams: streams })
    }

    /// How many streams it touched; `None` if what the command names is not there.
    fn act(&self, command: &Command) -> Option<usize> {
        match command {
            Command::KillStream(key) => self.on_stream(*key, |handle| handle.cancel().cancel()),
            Command::PauseStream(key) => self.on_stream(*key, |handle| handle.set_paused(true)),
            Command::ResumeStream(key) => self.on_stream(*key, |handle| handle.set_paused(false)),
            Command::SetPriority(key, priority) => {
                self.on_stream(*key, |handle| handle.set_priority(*priority))
            }
            Command::KillUser(user) => self.users.kill(*user),
            Command::KickProxy(id) => self.on_proxy(*id, |proxy| {
                proxy.leave(DisconnectReason::Kicked);
                proxy.link.close(&DisconnectReason::Kicked);
            }),
            Command::SetLimit(scope, direction, rate) => self.set_limit(scope, *direction, *rate),
            Command::DrainProxy(id) => self.on_proxy(*id, |proxy| proxy.set_draining(true)),
            Command::UndrainProxy(id) => self.on_proxy(*id, |proxy| proxy.set_draining(false)),
            Command::SetWeight(id, weight) => self.on_proxy(*id, |proxy| proxy.set_weight(*weight)),
            Command::SetPolicy(key, policy) => {
                let service = self.service(key)?;
                service.pool.set_policy(*policy);
                service.guard.stats().set_policy(*policy);
                // Those that are open stay where they are.
                Some(0)
            }
        }
    }

    fn on_stream(&self, key: StreamKey, act: impl FnOnce(&OperatorHandle)) -> Option<usize> {
        let handle = self.streams.get(&key).map(|handle| handle.clone())?;
        act(&handle);
        Some(1)
    }

    fn on_proxy(&self, id: ProxyId, act: impl FnOnce(&RemoteProxy)) -> Option<usize> {
        let proxy = self.proxies.get(&id).map(|proxy| proxy.clone())?;
        let streams = proxy.link.streams();
        act(&proxy);
        Some(streams)
    }

    fn set_limit(&self, scope: &LimitScope, direction: Direction, rate: Option<Rate>) -> Option<usize> {
        let set = |limit: &RateLimit, shown: &RateLimitGauges| {
            limit.set(direction, rate, Instant::now());
            shown.set(direction, rate);
        };
        match scope {
            LimitScope::Stream(key) => self.on_stream(*key, |handle| handle.set_limit(direction, rate)),
            LimitScope::User(id) => {
                let (stats, limit) = self.users.limit(*id)?;
                set(&limit, &stats.limits);
                Some(self.limits_changed(|handle| handle.key().user == *id))
            }
            LimitScope::Proxy(id) => {
                let proxy = self.proxies.get(id).map(|proxy| proxy.clone())?;
                set(&proxy.limit, &proxy.stats.limits);
                Some(self.limits_changed(|handle| handle.proxy() == Some(*id)))
            }
            LimitScope::Service(key) => {
                let service = self.service(key)?;
                set(&service.limit, &service.guard.stats().limits);
                Some(self.limits_changed(|handle| handle.service() == key))
            }
        }
    }

    /// Wakes the streams that wait for what held before. An operator types this: looking at all streams, a hundred
    /// thousand at the most, is cheaper than lists that every connection would have to keep.
    fn limits_changed(&self, concerns: impl Fn(&OperatorHandle) -> bool) -> usize {
        let concerned = self.streams.iter().filter(|handle| concerns(handle));
        // First listed, then woken: what they do might want the list.
        let handles: Vec<_> = concerned.map(|handle| handle.clone()).collect();
        handles.iter().for_each(|handle| handle.rate_limits_changed());
        handles.len()
    }
}
