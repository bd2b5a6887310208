use super::{Cursor, LineEdit, RowId};
use crate::{
    control::Scope,
    ids::{ProxyId, ServiceKey},
};

/// What is being typed, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(crate) what: Asked,
    pub(crate) line: LineEdit,
    /// What is wrong with it, so far.
    pub(crate) wrong: Option<String>,
}

/// What a [`Prompt`] is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The filter, with the one that Esc brings back, and what was selected: what is typed may hide it for a while.
    Filter {
        before: String,
        cursor: Cursor<RowId>,
    },
    /// What the log has to contain, likewise.
    LogFilter {
        before: String,
    },
    /// What entries of the help have to contain.
    Help,
    Command,
    /// How fast these may go.
    Limit(Limited),
    /// A proxy's weight.
    Weight(ProxyId),
    /// A service's policy.
    Policy(ServiceKey),
}

/// What a limit is for: pinned when it is asked for, whatever moves meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Limited {
    Streams(Vec<RowId>),
    Scope(Scope),
}
