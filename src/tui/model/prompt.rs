//! A line that the operator types, and what it is for.

use super::{cursor::Cursor, line_edit::LineEdit, stream_row::RowId};
use crate::{
    control::LimitScope,
    ids::{ProxyId, ServiceKey},
};

/// A prompt: one line of text that is being typed.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    /// What the typed text is used for.
    pub(crate) kind: PromptKind,
    /// The text typed so far, and the text cursor in it.
    pub(crate) line: LineEdit,
    /// Why the text typed so far is invalid; `None` where it is valid or has not been checked yet.
    pub(crate) error: Option<String>,
}

/// What the text of a [`Prompt`] is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PromptKind {
    /// The filter of the table of streams; applied while it is typed.
    Filter {
        /// The filter that Esc restores.
        before: String,
        /// The cursor that each new filter starts from: a half-typed filter may hide the selected row for a while.
        cursor: Cursor<RowId>,
    },
    /// The text that shown log records contain; applied while it is typed.
    LogFilter {
        /// The text that Esc restores.
        before: String,
    },
    /// The text that listed entries of the help contain.
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
    /// Each of these streams for itself.
    Streams(Vec<RowId>),
    /// All streams of one object together.
    Scope(LimitScope),
}
