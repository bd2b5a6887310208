//! A line that the operator types, and what it is for.

use super::{cursor::Cursor, line_edit::LineEdit, stream_row::RowId};
use crate::{
    control::LimitScope,
    ids::{ProxyId, ServiceKey},
};

/// An open prompt: one line of text that the operator is typing.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    /// What the typed text is used for.
    pub(crate) kind: PromptKind,
    /// The text typed so far, and the text cursor in it.
    pub(crate) line: LineEdit,
    /// The number of the line of the history that was recalled, from 1 for the newest; 0 if none was.
    pub(crate) recalled: usize,
    /// Why the text typed so far is invalid; `None` where it is valid or has not been checked yet.
    pub(crate) error: Option<String>,
}

/// What the text of a [`Prompt`] is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PromptKind {
    /// The filter of the streams table; applied while it is typed.
    Filter {
        /// The filter before the prompt opened, which Esc restores.
        before: String,
        /// The cursor that each new filter starts from: a half-typed filter may hide the selected row for a while.
        cursor: Cursor<RowId>,
    },
    /// The filter of the log screen: the text that shown records contain. Applied while it is typed.
    LogFilter {
        /// The text that Esc restores.
        before: String,
    },
    /// The search in the help: the text that listed entries contain.
    Help,
    /// The command line.
    Command,
    /// A rate limit for these streams or this object.
    Limit(LimitTarget),
    /// The weight of this proxy.
    Weight(ProxyId),
    /// The balancing policy of this service.
    Policy(ServiceKey),
}

/// What a rate limit applies to. Fixed when the prompt opens, so that a cursor that moves later changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LimitTarget {
    /// Each of these streams: every one gets a limit of its own.
    Streams(Vec<RowId>),
    /// All streams of a user, proxy or service together: they share the limit.
    Scope(LimitScope),
}
