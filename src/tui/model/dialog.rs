use std::time::Duration;

use super::stream_row::RowId;
use crate::ids::{ProxyId, StreamKey, UserChannelId};

/// From how many streams on a key is not enough, and the number has to be typed.
const MANY: u64 = 10;

/// One stream to be killed: pinned when the dialog opened, whatever moves meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KillTarget {
    pub(crate) row: RowId,
    pub(crate) key: StreamKey,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// Whether to kill these streams.
    Kill(Vec<KillTarget>),
    /// Whether to kill all streams of a user; how many there were when it was asked.
    KillUser { user: UserChannelId, streams: u64 },
    /// Whether to kick a proxy; how many streams it carried when it was asked.
    Kick { proxy: ProxyId, streams: u64 },
    /// Whether to quit although streams are open; for how long they may go on where it `drains` first.
    Quit { drains: Option<Duration> },
}

/// What can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Button {
    Cancel,
    Kill,
    Kick,
    Drain,
    Quit,
}

impl Button {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cancel => "Cancel",
            Self::Kill => "Kill",
            Self::Kick => "Kick",
            Self::Drain => "Drain first",
            Self::Quit => "Quit now",
        }
    }

    /// Whether it ends streams.
    pub(crate) fn destroys(self) -> bool {
        matches!(self, Self::Kill | Self::Kick | Self::Quit)
    }
}

/// A question with buttons. The first one, *Cancel*, has the focus when it opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dialog {
    pub(crate) question: Confirmation,
    /// What was typed so far of the number that confirms.
    pub(crate) typed: String,
    focus: usize,
}

impl Dialog {
    pub(crate) fn new(question: Confirmation) -> Self {
        Self { question, typed: String::new(), focus: 0 }
    }

    pub(crate) fn buttons(&self) -> &'static [Button] {
        match self.question {
            Confirmation::Kill(_) | Confirmation::KillUser { .. } => &[Button::Cancel, Button::Kill],
            Confirmation::Kick { .. } => &[Button::Cancel, Button::Kick],
            Confirmation::Quit { drains: Some(_) } => &[Button::Cancel, Button::Drain, Button::Quit],
            Confirmation::Quit { drains: None } => &[Button::Cancel, Button::Quit],
        }
    }

    pub(crate) fn focused(&self) -> Button {
        self.buttons().get(self.focus).copied().unwrap_or(Button::Cancel)
    }

    /// The button that does what is asked about.
    pub(crate) fn yes(&self) -> Button {
        self.buttons().last().copied().unwrap_or(Button::Cancel)
    }

    /// Moves the focus, round and round.
    pub(crate) fn turn(&mut self, forward: bool) {
        let count = self.buttons().len();
        self.focus = (self.focus + if forward { 1 } else { count - 1 }) % count;
    }

    /// The number that has to be typed, where so much is at stake.
    pub(crate) fn number(&self) -> Option<u64> {
        let streams = match &self.question {
            Confirmation::Kill(targets) => targets.len() as u64,
            Confirmation::KillUser { streams, .. } | Confirmation::Kick { streams, .. } => *streams,
            Confirmation::Quit { .. } => 0,
        };
        (streams > MANY).then_some(streams)
    }

    /// Whether the button may be pressed: always, or once the number stands there.
    pub(crate) fn allows(&self, button: Button) -> bool {
        !button.destroys() || self.number().is_none_or(|number| self.typed == number.to_string())
    }

    /// Takes a digit, or gives the last one back.
    pub(crate) fn type_in(&mut self, digit: Option<char>) {
        match digit {
            Some(digit) if self.typed.len() < 9 => self.typed.push(digit),
            Some(_) => {}
            None => _ = self.typed.pop(),
        }
    }
}
