use std::sync::Arc;

use super::Core;
use crate::{
    control::{Command, Done, Refused, Reply},
    telemetry::{EventKind, GoneReason},
};

impl Core {
    /// Does what the operator orders, and tells everybody that it was the operator.
    pub(super) fn execute(self: &Arc<Self>, command: &Command) -> Reply {
        let streams = match command {
            Command::KillStream(key) => self.streams.get(key).map(|cancel| {
                cancel.cancel();
                1
            }),
            Command::KillUser(user) => self.users.kill(*user),
            Command::KickProxy(id) => self.proxies.get(id).map(|proxy| proxy.clone()).map(|proxy| {
                let streams = proxy.link.streams();
                proxy.leave(GoneReason::Kicked);
                proxy.link.close(&GoneReason::Kicked);
                streams
            }),
        };
        let streams = streams.ok_or(Refused::Gone)?;
        self.telemetry.emit(EventKind::OperatorActed { what: command.to_string() });
        Ok(Done { streams })
    }
}
