//! Execution of the operator's commands.

use std::{sync::Arc, time::Instant};

use super::{core::Core, operator_handle::OperatorHandle, proxy::RemoteProxy};
use crate::{
    control::{Command, CommandError, CommandReply, Executed, LimitScope, MAX_WEIGHT},
    ids::{Direction, Operator, ProxyId, Rate, StreamKey},
    link::RateLimit,
    telemetry::{DisconnectReason, EventKind, RateLimitGauges},
};

impl Core {
    /// Executes a command, and reports it as an event: who gave it, and what came of it. One of the cockpit that had no
    /// effect is not reported; the cockpit shows why. Returns how many streams it affected.
    ///
    /// # Errors
    /// [`CommandError::NotFound`] if the command names an object that does not exist (any more),
    /// [`CommandError::WeightOutOfRange`] and [`CommandError::TooManyBans`]; nothing was changed.
    pub(super) fn execute(&self, command: &Command, by: Operator) -> CommandReply {
        let reply = self.try_execute(command);
        if reply.is_ok() || by != Operator::Cockpit {
            let outcome = reply.as_ref().map(|executed| executed.affected_streams).into();
            self.telemetry.emit(EventKind::OperatorActed { what: command.to_string(), by, outcome });
        }
        reply
    }

    /// Checks and applies a command. Returns how many streams it affected.
    fn try_execute(&self, command: &Command) -> CommandReply {
        if let Command::SetWeight(_, weight) = command
            && !(1..=MAX_WEIGHT).contains(weight)
        {
            return Err(CommandError::WeightOutOfRange);
        }
        if let Command::Ban(network) = command
            && !self.user_admission.has_room_for_ban(*network)
        {
            return Err(CommandError::TooManyBans);
        }
        let affected_streams = self.apply(command).ok_or(CommandError::NotFound)?;
        Ok(Executed { affected_streams })
    }

    /// Applies a command. Returns how many streams it affected, or `None` if the object that it names does not exist.
    fn apply(&self, command: &Command) -> Option<usize> {
        match command {
            Command::KillStream(key) => self.on_stream(*key, |handle| handle.cancel().cancel()),
            Command::PauseStream(key) => self.on_stream(*key, |handle| handle.set_paused(true)),
            Command::ResumeStream(key) => self.on_stream(*key, |handle| handle.set_paused(false)),
            Command::SetPriority(key, priority) => {
                self.on_stream(*key, |handle| handle.set_priority(*priority))
            }
            Command::KillUser(user) => self.users.kill(*user),
            Command::KickProxy(id) => self.on_proxy(*id, |proxy| {
                proxy.start_closing(DisconnectReason::Kicked);
                proxy.link.close(&DisconnectReason::Kicked);
            }),
            Command::SetLimit(scope, direction, rate) => self.set_limit(scope, *direction, *rate),
            Command::DrainProxy(id) => self.on_proxy(*id, |proxy| proxy.set_draining(true)),
            Command::UndrainProxy(id) => self.on_proxy(*id, |proxy| proxy.set_draining(false)),
            Command::SetWeight(id, weight) => self.on_proxy(*id, |proxy| proxy.set_weight(*weight)),
            Command::SetPolicy(key, policy) => {
                self.find_service(key)?.set_policy(*policy);
                // Open streams keep their proxy.
                Some(0)
            }
            Command::Unblock(address) => self.wrong_tokens.unblock(*address).then_some(0),
            Command::Ban(network) => {
                // Before the streams are reset, so that none of them begins again.
                self.telemetry.set_banned_networks(self.user_admission.ban(*network));
                Some(self.reset_streams(|handle| network.contains(handle.user_addr().ip())))
            }
            Command::Unban(network) => {
                self.telemetry.set_banned_networks(self.user_admission.unban(*network)?);
                Some(0)
            }
        }
    }

    /// Runs `act` on the handle of an open stream. Returns 1, or `None` if there is no such stream.
    fn on_stream(&self, key: StreamKey, act: impl FnOnce(&OperatorHandle)) -> Option<usize> {
        let handle = self.streams.get(&key).map(|handle| handle.clone())?;
        act(&handle);
        Some(1)
    }

    /// Runs `act` on a proxy. Returns how many streams it had before, or `None` if there is no such proxy.
    fn on_proxy(&self, id: ProxyId, act: impl FnOnce(&RemoteProxy)) -> Option<usize> {
        let proxy = self.proxies.get(&id).map(|proxy| proxy.clone())?;
        let streams = proxy.link.stream_count();
        act(&proxy);
        Some(streams)
    }

    /// Resets the streams that `applies` selects. Returns their number.
    fn reset_streams(&self, applies: impl Fn(&OperatorHandle) -> bool) -> usize {
        let selected = self.streams.iter().filter(|handle| applies(handle));
        // Collected first: a stream that ends takes itself out of the table, whose locks the iterator holds.
        let handles: Vec<Arc<_>> = selected.map(|handle| handle.clone()).collect();
        handles.iter().for_each(|handle| handle.cancel().cancel());
        handles.len()
    }

    /// Sets or removes the rate limit of `scope` in one direction. Returns the number of streams that the limit
    /// applies to, or `None` if the object does not exist.
    fn set_limit(&self, scope: &LimitScope, direction: Direction, rate: Option<Rate>) -> Option<usize> {
        let set = |limit: &RateLimit, displayed: &RateLimitGauges| {
            limit.set(direction, rate, Instant::now());
            displayed.set(direction, rate);
        };
        match scope {
            LimitScope::Stream(key) => self.on_stream(*key, |handle| handle.set_limit(direction, rate)),
            LimitScope::User(id) => {
                let (stats, limit) = self.users.find_limit(*id)?;
                set(&limit, &stats.limits);
                Some(self.wake_limited_streams(|handle| handle.key().user == *id))
            }
            LimitScope::Proxy(id) => {
                let proxy = self.proxies.get(id).map(|proxy| proxy.clone())?;
                set(&proxy.limit, &proxy.stats.limits);
                Some(self.wake_limited_streams(|handle| handle.proxy() == Some(*id)))
            }
            LimitScope::Service(key) => {
                let service = self.find_service(key)?;
                set(&service.limit, &service.stats().limits);
                Some(self.wake_limited_streams(|handle| handle.service() == key))
            }
        }
    }

    /// Wakes the streams that `applies` selects, so that they read their rate limits again instead of waiting as the
    /// old limit required. Returns their number. Visits all open streams, a hundred thousand at most: an operator
    /// issues this command rarely, and an index by proxy and service would cost every connection something.
    pub(super) fn wake_limited_streams(&self, applies: impl Fn(&OperatorHandle) -> bool) -> usize {
        let selected = self.streams.iter().filter(|handle| applies(handle));
        // Collected first: a stream that wakes may end and take itself out of the table, whose locks the iterator
        // holds.
        let handles: Vec<Arc<_>> = selected.map(|handle| handle.clone()).collect();
        handles.iter().for_each(|handle| handle.rate_limits_changed());
        handles.len()
    }
}
