//! Attributes that the operator has changed ahead of the server, and for how long the snapshots do not overwrite them.
//!
//! A snapshot may be older than the reply to the command: of a server in another process the two arrive on connections
//! of their own, in any order. Without this a row that was just paused was shown as open once more, and a second `p`
//! in that time paused it again.

use std::time::{Duration, Instant};

use crate::tui::CommandId;

/// How long the attributes are kept without a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the attributes are kept after the command was executed, if no snapshot has them. Then another
/// operator has changed them again.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(1);

/// The last command that changed attributes of a row ahead of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steered {
    /// The number of the command.
    command: CommandId,
    /// Whether the server has executed it.
    is_executed: bool,
    /// When snapshots overwrite the attributes in any case.
    until: Instant,
}

impl Steered {
    /// Records that the attributes were changed by this command, which has no reply yet.
    pub(crate) fn by(command: CommandId, now: Instant) -> Self {
        Self { command, is_executed: false, until: now + REPLY_TIMEOUT }
    }

    /// Records the reply to a command; `is_executed` says that it succeeded. Returns the state after it: none where the
    /// command failed, because then the server's attributes are right. Replies to earlier commands change nothing.
    pub(crate) fn replied(self, command: CommandId, is_executed: bool, now: Instant) -> Option<Self> {
        match (command == self.command, is_executed) {
            (false, _) => Some(self),
            (true, false) => None,
            (true, true) => Some(Self { is_executed, until: now + SNAPSHOT_TIMEOUT, ..self }),
        }
    }

    /// Returns whether a snapshot must not overwrite the attributes. `is_equal` says whether it has the same.
    pub(super) fn outlasts_snapshot(self, is_equal: bool, now: Instant) -> bool {
        now < self.until && !(self.is_executed && is_equal)
    }
}
