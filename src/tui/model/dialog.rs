//! Dialogs that ask the operator to confirm what cannot be undone.

use std::time::{Duration, Instant};

use super::stream_row::RowId;
use crate::ids::{ProxyId, StreamKey, UserChannelId};

/// With more streams at stake than this, the operator has to type their number.
const MAX_STREAMS_WITHOUT_NUMBER: u64 = 10;

/// The longest number that can be typed into a dialog to confirm it, in digits.
const MAX_TYPED_DIGITS: usize = 9;

/// How long a dialog has to be on the screen before it can be confirmed. Nobody answers a question sooner; letters that
/// follow each other faster come from a paste on a terminal without bracketed paste.
const CONFIRM_DELAY: Duration = Duration::from_millis(100);

/// A stream that the operator asked to kill. Fixed when the dialog opens: both row and key must still match when it
/// is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KillTarget {
    /// The row of the stream in the table. Row ids are never reused.
    pub(crate) row: RowId,
    /// The key of the stream, which the command to the server names.
    pub(crate) key: StreamKey,
}

/// What the operator is asked to confirm. Numbers are those of when the dialog opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// The kill of these streams.
    Kill(Vec<KillTarget>),
    /// The kill of all streams of a user.
    KillUser {
        /// The user whose streams are killed.
        user: UserChannelId,
        /// How many open streams the user had.
        streams: u64,
    },
    /// The closing of all channels of a proxy.
    Kick {
        /// The proxy whose channels are closed.
        proxy: ProxyId,
        /// How many open streams the proxy carried.
        streams: u64,
    },
    /// The end of the program while streams are open.
    Quit {
        /// How long streams may continue if the operator drains first; `None` where draining is not offered.
        drain_timeout: Option<Duration>,
    },
}

impl Confirmation {
    /// Returns the question in one or two words, for a terminal without room for the dialog.
    pub(crate) fn short_text(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill?",
            Self::KillUser { .. } => "kill user?",
            Self::Kick { .. } => "kick?",
            Self::Quit { .. } => "quit?",
        }
    }
}

/// A button of a confirmation dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Button {
    /// Closes the dialog; nothing is done.
    Cancel,
    /// Kills the streams, or the streams of the user.
    Kill,
    /// Closes all channels of the proxy.
    Kick,
    /// Lets open streams finish before the program ends.
    Drain,
    /// Ends the program, and open streams with it.
    Quit,
}

impl Button {
    /// Returns the text on the button.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cancel => "Cancel",
            Self::Kill => "Kill",
            Self::Kick => "Kick",
            Self::Drain => "Drain first",
            Self::Quit => "Quit now",
        }
    }

    /// Returns what pressing the button does, in one or two words, for the key hints.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Kill => "kill",
            Self::Kick => "kick",
            Self::Drain => "drain first",
            Self::Quit => "quit now",
        }
    }

    /// Returns whether the button ends open streams at once.
    pub(crate) fn is_destructive(self) -> bool {
        matches!(self, Self::Kill | Self::Kick | Self::Quit)
    }
}

/// An open confirmation dialog. *Cancel*, the first button, has the focus when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dialog {
    /// What the operator is asked to confirm.
    pub(crate) question: Confirmation,
    /// The digits typed so far of the number of streams that confirms the dialog.
    pub(crate) typed: String,
    /// The index of the button that has the focus, counted from 0 at the left.
    focus: usize,
    /// When the dialog opened.
    opened_at: Instant,
}

impl Dialog {
    /// Opens a dialog with no digits typed and the focus on *Cancel*.
    pub(crate) fn new(question: Confirmation, now: Instant) -> Self {
        Self { question, typed: String::new(), focus: 0, opened_at: now }
    }

    /// Returns whether the dialog opened so recently that a key cannot be the answer to it.
    pub(crate) fn is_too_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.opened_at) < CONFIRM_DELAY
    }

    /// Returns the buttons of the dialog, from left to right.
    pub(crate) fn buttons(&self) -> &'static [Button] {
        match self.question {
            Confirmation::Kill(_) | Confirmation::KillUser { .. } => &[Button::Cancel, Button::Kill],
            Confirmation::Kick { .. } => &[Button::Cancel, Button::Kick],
            Confirmation::Quit { drain_timeout: Some(_) } => &[Button::Cancel, Button::Drain, Button::Quit],
            Confirmation::Quit { drain_timeout: None } => &[Button::Cancel, Button::Quit],
        }
    }

    /// Returns the button that has the focus: Enter presses it.
    pub(crate) fn focused(&self) -> Button {
        self.buttons().get(self.focus).copied().unwrap_or(Button::Cancel)
    }

    /// Returns the button that does what the dialog asks about: the last one.
    pub(crate) fn confirm_button(&self) -> Button {
        self.buttons().last().copied().unwrap_or(Button::Cancel)
    }

    /// Moves the focus to the next button (`forward`) or to the previous one, cyclically.
    pub(crate) fn move_focus(&mut self, forward: bool) {
        let count = self.buttons().len();
        self.focus = (self.focus + if forward { 1 } else { count - 1 }) % count;
    }

    /// Returns the number of streams that the operator has to type to confirm; `None` if so few streams are affected
    /// that a key is enough.
    pub(crate) fn required_number(&self) -> Option<u64> {
        let streams = match &self.question {
            Confirmation::Kill(targets) => targets.len() as u64,
            Confirmation::KillUser { streams, .. } | Confirmation::Kick { streams, .. } => *streams,
            Confirmation::Quit { .. } => 0,
        };
        (streams > MAX_STREAMS_WITHOUT_NUMBER).then_some(streams)
    }

    /// Returns whether the dialog requires a number that has not been typed yet, or not correctly.
    pub(crate) fn lacks_number(&self) -> bool {
        self.required_number().is_some_and(|number| self.typed != number.to_string())
    }

    /// Returns whether pressing the button has an effect: a destructive button only has one once the required number
    /// has been typed. With a wrong number *Cancel* has none either: Enter behind it was meant to confirm.
    pub(crate) fn allows(&self, button: Button) -> bool {
        !self.lacks_number() || (button == Button::Cancel && self.typed.is_empty())
    }

    /// Returns whether the key of [`DialogIntent::Confirm`](crate::tui::intent::DialogIntent::Confirm) confirms the
    /// dialog. It does not end the program, with all streams: ordinary text contains that letter.
    pub(crate) fn has_confirm_key(&self) -> bool {
        !matches!(self.question, Confirmation::Quit { .. })
    }

    /// Appends a digit to the number that confirms the dialog, up to [`MAX_TYPED_DIGITS`].
    pub(crate) fn type_digit(&mut self, digit: char) {
        if self.typed.len() < MAX_TYPED_DIGITS {
            self.typed.push(digit);
        }
        self.focus_by_number();
    }

    /// Removes the last digit of the number that confirms the dialog.
    pub(crate) fn delete_digit(&mut self) {
        self.typed.pop();
        self.focus_by_number();
    }

    /// Moves the focus to the button that confirms once the right number has been typed, so that Enter presses it, and
    /// back to *Cancel* while the number is another.
    fn focus_by_number(&mut self) {
        self.focus = if self.lacks_number() { 0 } else { self.buttons().len() - 1 };
    }
}
