//! What is drawn over a screen: dialogs, prompts, the help, and the notice line.

use std::time::Instant;

use super::{dialog::Dialog, prompt::Prompt};

/// A layer over the current screen. It receives the keys while it is open.
#[derive(Debug, Clone)]
pub(crate) enum Overlay {
    /// The list of key bindings.
    Help {
        /// Index of the first visible line.
        scroll: usize,
        /// Only entries that contain this text are listed; empty lists all.
        search: String,
    },
    /// A question that the operator has to confirm.
    Dialog(Dialog),
    /// A line of text that the operator types.
    Prompt(Prompt),
    /// The command that joins another machine as a proxy.
    AddProxy,
    /// The list of table columns to show or hide.
    Columns {
        /// The focused column, as an index into [`StreamColumn::ALL`](super::StreamColumn::ALL).
        focus: usize,
    },
}

/// How important a notice is; decides its mark and colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeLevel {
    /// An action succeeded.
    Success,
    /// Information; nothing was changed on the server.
    Info,
    /// An action failed, or something needs attention.
    Warning,
}

/// One line about what just happened, removed after [`Model::expire_notice`](super::Model::expire_notice) finds it due.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// The message, on one line.
    pub(crate) text: String,
    /// Success, information or warning; decides the mark and the colour.
    pub(crate) level: NoticeLevel,
    /// When the notice is removed.
    pub(super) expires_at: Instant,
}
