//! Intents: what the operator wants to do. Keys, the command line and the mouse are translated into this one type, and
//! [`update`](super::update::update) handles it in one match, so that each way of input can do the same.

use super::{
    model::{CursorStep, ExportFormat, KillTarget, LimitTarget, LineEditOp, LoadMeasure, ScreenId, Sort},
    source::PlaybackCommand,
    theme::Theme,
};
use crate::{
    control::{LimitChange, StreamFilter},
    ids::{AddressBlock, Network, Policy, Priority, ProxyId, ServiceKey, UserChannelId},
};

/// One thing that the operator wants. Where a variant has an optional target, `None` means what is selected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Intent {
    /// Moves the cursor of the current screen, or scrolls the log.
    Move(CursorStep),
    /// Selects the row of the streams table at this index.
    SelectRow(usize),
    /// Shows one of the four screens, and closes the detail of a stream.
    ShowScreen(ScreenId),
    /// Shows the screen whose tab is next to the right, or the first one after the last.
    NextScreen,
    /// Shows the screen whose tab is next to the left, or the last one before the first.
    PreviousScreen,
    /// Opens the detail of the selected stream; unfolds or folds the selected proxy or user.
    Open,
    /// Closes the detail of a stream.
    CloseDetail,
    /// Leaves the current screen, clears the filter, or clears the marks: the first of these that applies.
    Back,
    /// Shows the streams table, filtered to the selected proxy, service or user.
    ShowStreamsOfSelected,
    /// Shows the log, filtered to the selected object.
    ShowLogOfSelected,
    /// Shows more or fewer levels of the selected log target.
    ChangeLogLevels {
        /// Whether more levels are shown, else fewer.
        more: bool,
    },

    /// Asks for confirmation before streams are killed.
    AskToKill(KillScope),
    /// Kills these streams, except those that have ended since they were selected.
    Kill(Vec<KillTarget>),
    /// Kills all streams of this user.
    KillUser(UserChannelId),
    /// Asks for confirmation before the selected proxy is kicked.
    AskToKick,
    /// Closes all channels of the proxy; it may reconnect.
    Kick(ProxyId),
    /// Pauses or resumes the selected or marked streams.
    Pause(PauseChange),
    /// Changes the priority of the selected or marked streams.
    SetPriority(PriorityChange),
    /// Opens the prompt for a rate limit of what is selected.
    AskForLimit,
    /// Sets or removes rate limits of this target; with `None`, of what is selected.
    SetLimit(Option<LimitTarget>, Vec<LimitChange>),
    /// Drains the selected proxy, or undrains it.
    Drain(DrainChange),
    /// Opens the prompt for the weight of the selected proxy.
    AskForWeight,
    /// Sets the weight of this proxy for new streams; with `None`, of the selected proxy.
    SetWeight(Option<ProxyId>, u32),
    /// Opens the prompt for the balancing policy of the selected service.
    AskForPolicy,
    /// Sets the balancing policy of this service; with `None`, of the selected service.
    SetPolicy(Option<ServiceKey>, Policy),
    /// Unblocks an address that has sent wrong tokens.
    Unblock(AddressBlock),
    /// Bans the users of a network.
    Ban(Network),
    /// Admits the users of a banned network again.
    Unban(Network),

    /// Marks the selected stream, or unmarks it, and selects the next one.
    ToggleMark,
    /// Unmarks all streams.
    ClearMarks,
    /// Marks every listed stream that is open.
    MarkListed,
    /// Opens the prompt for the filter of the streams table.
    AskForFilter,
    /// Lists only the streams that pass this filter.
    SetFilter(StreamFilter),
    /// Opens the prompt for the text that shown log records contain.
    AskForLogFilter,
    /// Sorts the streams by the next column on the screen, or the users by the next figure.
    NextSortKey,
    PreviousSortKey,
    ReverseSort,
    /// Sorts the streams table by this key and direction.
    SetSort(Sort),
    /// Opens the list of columns.
    ChooseColumns,
    /// Shows or hides ended streams in the streams table.
    ToggleEnded,
    /// Writes the listed rows of the streams table to a file.
    Export(ExportFormat),

    ToggleLoadMeasure,
    SetLoadMeasure(LoadMeasure),
    /// Freezes the display, or unfreezes it.
    ToggleFreeze,
    ShorterChartWindow,
    LongerChartWindow,
    /// Sets the time span of charts, an index into [`CHART_WINDOWS`](super::model::CHART_WINDOWS).
    SetChartWindow(usize),
    /// Shows rates in bits, or in bytes.
    ToggleUnits,
    SetTheme(Box<Theme>),
    /// Enables or disables mouse reports of the terminal.
    ToggleMouse,
    /// Copies the name of the selected object.
    Copy,
    /// Writes the screen to a file, as text.
    Screenshot,
    /// Shows the command that joins another machine as a proxy.
    ShowJoinCommand,
    OpenCommandLine,
    OpenHelp,
    /// A command was named without the argument that it needs.
    MissingArgument,

    /// Controls the replay.
    Play(PlaybackCommand),
    /// Quits; asks for confirmation while streams are open.
    Quit,
    /// Quits at once; open streams end.
    QuitNow,
    /// Leaves the terminal; the server continues without a cockpit.
    Detach,
    /// Starts draining the server; a second time, ends the program at once.
    DrainServer,
    /// Closes the open overlay; without one, quits, and asks for confirmation while streams are open.
    Interrupt,
    /// Paints the whole screen again.
    Redraw,
    /// Suspends the program and returns to the shell.
    Suspend,

    /// Inside a dialog. Without effect while none is open, as are the next four without their overlay.
    Dialog(DialogIntent),
    Prompt(PromptIntent),
    Help(HelpIntent),
    Columns(ColumnListIntent),
    JoinCommand(JoinCommandIntent),
}

/// Which streams are to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KillScope {
    /// The marked streams, else the selected one.
    Selection,
    /// Every open stream that is listed.
    Listed,
    /// Every stream of the selected user.
    User,
}

/// How the pause of streams is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseChange {
    Pause,
    Resume,
    /// Resumes if all of the streams are paused, else pauses.
    Toggle,
}

/// How the priority of streams is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PriorityChange {
    /// One level up, each stream from its own.
    Raise,
    /// One level down, each stream from its own.
    Lower,
    Set(Priority),
}

impl PriorityChange {
    /// Returns the priority that a stream with the priority `before` gets.
    pub(crate) fn apply(self, before: Priority) -> Priority {
        match self {
            Self::Raise => before.raised(),
            Self::Lower => before.lowered(),
            Self::Set(priority) => priority,
        }
    }
}

/// How the draining of a proxy is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainChange {
    Start,
    Stop,
    Toggle,
}

/// What can be done in a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DialogIntent {
    NextButton,
    PreviousButton,
    /// Presses the focused button.
    Press,
    /// Presses the button that does what the dialog asks about, unless that ends the program.
    Confirm,
    Cancel,
    /// Types a digit of the number that confirms.
    TypeDigit(char),
    /// Removes the last digit typed.
    DeleteDigit,
}

/// What can be done in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromptIntent {
    /// Takes the text as typed.
    Accept,
    /// Closes the prompt; what was typed has no effect.
    Cancel,
    /// Completes the last word as far as that is unambiguous.
    Complete,
    /// Recalls an older line of the history, else a newer one.
    Recall { older: bool },
    /// Changes the text; Backspace on an empty line cancels.
    Edit(LineEditOp),
}

/// What can be done in the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HelpIntent {
    Scroll(CursorStep),
    /// Opens the prompt for the text that listed entries contain.
    Search,
    Close,
}

/// What can be done in the list of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnListIntent {
    Move(CursorStep),
    /// Shows the focused column, or hides it.
    Toggle,
    /// Lets the width of the screen decide again.
    Reset,
    Close,
}

/// What can be done where the join command is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinCommandIntent {
    Copy,
    ToggleSecret,
    Close,
}
