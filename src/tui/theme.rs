//! What things look like. Only styles that a view names by meaning; no view names a colour.

use ratatui::style::{Color, Modifier, Style};

/// The styles of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Theme {
    /// Ordinary text: the terminal's own colour.
    pub(crate) text: Style,
    /// What should be seen first.
    pub(crate) strong: Style,
    /// Labels, units, what rarely matters.
    pub(crate) dim: Style,
    /// Zeroes, ended rows, what is only there for completeness.
    pub(crate) faint: Style,
    /// Rules and the grounds of bars.
    pub(crate) rule: Style,
    /// The mark before a section's title, keys in the footer.
    pub(crate) accent: Style,
    /// To the user.
    pub(crate) down: Style,
    /// From the user.
    pub(crate) up: Style,
    /// A share of the load.
    pub(crate) load: Style,
    /// All is well.
    pub(crate) ok: Style,
    /// Worth a look.
    pub(crate) warn: Style,
    /// Failed, or about to destroy something.
    pub(crate) bad: Style,
    /// The selected row; patched over what the cells have.
    pub(crate) selected: Style,
    /// The focused button of a dialog.
    pub(crate) button: Style,
    /// The focused button of a dialog, where it destroys something.
    pub(crate) danger_button: Style,
}

impl Theme {
    /// 256 colours on a dark ground.
    pub(crate) fn dark() -> Self {
        let colour = |index| Style::new().fg(Color::Indexed(index));
        Self {
            text: Style::new(),
            strong: Style::new().add_modifier(Modifier::BOLD),
            dim: colour(246),
            faint: colour(241),
            rule: colour(238),
            accent: colour(80),
            down: colour(75),
            up: colour(215),
            load: colour(73),
            ok: colour(114),
            warn: colour(221),
            bad: colour(203),
            selected: Style::new().bg(Color::Indexed(237)).add_modifier(Modifier::BOLD),
            button: Style::new().bg(Color::Indexed(80)).fg(Color::Indexed(16)).add_modifier(Modifier::BOLD),
            danger_button: Style::new()
                .bg(Color::Indexed(203))
                .fg(Color::Indexed(16))
                .add_modifier(Modifier::BOLD),
        }
    }

    /// No colour at all: weight and reversal alone tell things apart. Not even a reset is hidden behind `NO_COLOR`,
    /// because the writer drops whole attribute changes with it, and the selection would vanish.
    pub(crate) fn plain() -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let dim = plain.add_modifier(Modifier::DIM);
        let reversed = bold.add_modifier(Modifier::REVERSED);
        Self {
            text: plain,
            strong: bold,
            dim: plain,
            faint: dim,
            rule: dim,
            accent: bold,
            down: plain,
            up: plain,
            load: plain,
            ok: plain,
            warn: bold,
            bad: bold,
            selected: reversed,
            button: reversed,
            danger_button: reversed,
        }
    }

    /// The one that fits the environment: [`plain`](Self::plain) where `NO_COLOR` is set and not empty.
    pub(crate) fn detect() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::plain(),
            _ => Self::dark(),
        }
    }
}
