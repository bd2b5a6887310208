use super::row::RowId;
use crate::ids::StreamKey;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether to kill one stream: pinned when the dialog opened, whatever moves meanwhile.
    Kill { row: RowId, key: StreamKey },
    /// Whether to quit although streams are open.
    Quit,
}

/// What can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Button {
    Cancel,
    Kill,
    Drain,
    Quit,
}

impl Button {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cancel => "Cancel",
            Self::Kill => "Kill",
            Self::Drain => "Drain first",
            Self::Quit => "Quit now",
        }
    }

    /// Whether it ends streams.
    pub(crate) fn destroys(self) -> bool {
        matches!(self, Self::Kill | Self::Quit)
    }
}

/// A question with buttons. The first one, *Cancel*, has the focus when it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialog {
    pub(crate) question: Question,
    focus: usize,
}

impl Dialog {
    pub(crate) fn new(question: Question) -> Self {
        Self { question, focus: 0 }
    }

    pub(crate) fn buttons(&self) -> &'static [Button] {
        match self.question {
            Question::Kill { .. } => &[Button::Cancel, Button::Kill],
            Question::Quit => &[Button::Cancel, Button::Drain, Button::Quit],
        }
    }

    pub(crate) fn focused(&self) -> Button {
        self.buttons().get(self.focus).copied().unwrap_or(Button::Cancel)
    }

    /// The button that does what is asked about.
    pub(crate) fn yes(&self) -> Button {
        match self.question {
            Question::Kill { .. } => Button::Kill,
            Question::Quit => Button::Quit,
        }
    }

    /// Moves the focus, round and round.
    pub(crate) fn turn(&mut self, forward: bool) {
        let count = self.buttons().len();
        self.focus = (self.focus + if forward { 1 } else { count - 1 }) % count;
    }
}
