//! Operator commands, the words with which operators give them, and the bounded queue that carries them to the server,
//! with a reply for each.
//!
//! The front end never waits: it [tries to send](CommandSender::try_send) and polls for the [`CommandReply`] later.
//! This module must not depend on the front end or on the server.

mod command;
mod queue;
mod stream_filter;
mod words;

pub use crate::ids::MAX_WEIGHT;
pub use command::{Capabilities, Command, CommandError, CommandReply, Executed, LimitScope};
pub use queue::{CommandRequest, CommandSender, command_queue};
pub use stream_filter::{FilterError, FilterField, FilterFigure, FilteredStream, StreamFilter};
pub use words::{
    LimitChange, ProxyRef, SORT_KEYS, Target, parse_limits, parse_policy, parse_rate, parse_weight,
};
