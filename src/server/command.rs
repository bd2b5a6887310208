use std::sync::Arc;

use super::{Core, switch::Switch};
use crate::{
    control::{Command, Done, Refused, Reply},
    ids::StreamKey,
    telemetry::{EventKind, GoneReason},
};

impl Core {
    /// Does what the operator orders, and tells everybody that it was the operator.
    pub(super) fn execute(self: &Arc<Self>, command: &Command) -> Reply {
        let streams = match command {
            Command::KillStream(key) => self.on_stream(*key, |switch| switch.cancel().cancel()),
            Command::PauseStream(key) => self.on_stream(*key, |switch| switch.set_paused(true)),
            Command::ResumeStream(key) => self.on_stream(*key, |switch| switch.set_paused(false)),
            Command::SetPriority(key, priority) => {
                self.on_stream(*key, |switch| switch.set_priority(*priority))
            }
            Command::KillUser(user) => self.users.kill(*user),
            Command::KickProxy(id) => self.proxies.get(id).map(|proxy| proxy.clone()).map(|proxy| {
                let streams = proxy.link.streams();
                proxy.leave(GoneReason::Kicked);
                proxy.link.close(&GoneReason::Kicked);
                streams
            }),
            Command::SetLimit(..)
            | Command::DrainProxy(_)
            | Command::UndrainProxy(_)
            | Command::SetWeight(..)
            | Command::SetPolicy(..) => None,
        };
        let streams = streams.ok_or(Refused::Gone)?;
        self.telemetry.emit(EventKind::OperatorActed { what: command.to_string() });
        Ok(Done { streams })
    }

    fn on_stream(&self, key: StreamKey, act: impl FnOnce(&Switch)) -> Option<usize> {
        let switch = self.streams.get(&key).map(|switch| switch.clone())?;
        act(&switch);
        Some(1)
    }
}
