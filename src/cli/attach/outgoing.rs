//! What the cockpit sends to the server that it is attached to.

use crate::{control::Command, feed::Interest, tui::CommandId};

/// What the cockpit sends to the server.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A command, and the number by which the cockpit knows it.
    Command(CommandId, Command),
    /// What the screen shows.
    Interest(Interest),
    /// The server may send this many more lines.
    Credit(u64),
}
