//! What is drawn over a screen: dialogs, prompts, the help, and the notice line.

use std::time::Instant;

use super::{dialog::Dialog, prompt::Prompt};

/// What is drawn over the current screen. It receives the keys while it is open.
#[derive(Debug, Clone)]
pub(crate) enum Overlay {
    /// The help: key bindings, columns, states and figures.
    Help {
        /// The index of the first line of the help that is visible.
        scroll: usize,
        /// Only entries of the help that contain this text are listed; an empty text lists all.
        search: String,
    },
    /// A question that the operator has to confirm.
    Dialog(Dialog),
    /// A line of text that the operator types.
    Prompt(Prompt),
    /// The command that joins another machine as a proxy.
    AddProxy {
        /// Whether the token in it is shown.
        is_secret_shown: bool,
    },
    /// The list of table columns to show or hide.
    Columns {
        /// The focused column, as an index into [`StreamColumn::ALL`](super::StreamColumn::ALL).
        focus: usize,
    },
}

/// The importance of a notice; decides its mark and colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeLevel {
    /// An action succeeded.
    Success,
    /// Information; nothing was changed on the server.
    Info,
    /// An action failed, or something needs attention.
    Warning,
}

/// A message of one line about what just happened, shown until [`Model::expire_notice`](super::Model::expire_notice)
/// removes it.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// The message, on one line.
    pub(crate) text: String,
    /// Success, information or warning; decides the mark and the colour.
    pub(crate) level: NoticeLevel,
    /// Whether an overlay was open when the notice appeared: only then is it about the overlay, and may take the place
    /// of its key hints on a low terminal.
    pub(crate) is_about_overlay: bool,
    /// The time at which the notice is removed.
    pub(super) expires_at: Instant,
}
