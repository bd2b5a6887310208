//! Operator commands and the bounded queue that carries them to the server, with a reply for each.
//!
//! The front end never waits: it [tries to send](CommandSender::try_send) and polls for the [`CommandReply`] later.
//! This module must not depend on the front end or on the server.

mod command;
mod queue;

pub use crate::ids::MAX_WEIGHT;
pub use command::{Capabilities, Command, CommandError, CommandReply, Executed, LimitScope};
pub use queue::{CommandRequest, CommandSender, command_queue};
