//! The colour themes. A style is named for its meaning; no view names a colour.

use ratatui::style::{Color, Modifier, Style};

/// The styles of one theme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Theme {
    /// The style of ordinary text, in the terminal's default colour.
    pub(crate) text: Style,
    /// The style of titles and the most important figure of a row.
    pub(crate) strong: Style,
    /// The style of labels, units and secondary text.
    pub(crate) dim: Style,
    /// The style of zeros, ended rows and hints.
    pub(crate) faint: Style,
    /// The style of rules, borders and the unfilled part of bars.
    pub(crate) rule: Style,
    /// The style of the mark before a section's title, keys in the footer, ids.
    pub(crate) accent: Style,
    /// The style of download: rates and bytes towards the user.
    pub(crate) down: Style,
    /// The style of upload: rates and bytes from the user.
    pub(crate) up: Style,
    /// The style of bars of load shares, and histograms.
    pub(crate) load: Style,
    /// The style of a healthy state.
    pub(crate) ok: Style,
    /// The style of a state that needs the operator's attention.
    pub(crate) warn: Style,
    /// The style of a failure, or the frame of a destructive dialog.
    pub(crate) error: Style,
    /// The style of the selected row, patched over the styles of its cells.
    pub(crate) selected: Style,
    /// The style of the focused button of a dialog.
    pub(crate) button: Style,
    /// The style of the focused button of a dialog if its action is destructive.
    pub(crate) danger_button: Style,
}

/// The colours of one theme, as indices of the terminal's 256-colour palette.
struct Palette {
    /// The colour of labels, units and secondary text.
    dim: u8,
    /// The colour of zeros, ended rows and hints.
    faint: u8,
    /// The colour of rules, borders and the unfilled part of bars.
    rule: u8,
    /// The colour of keys, ids, and the background of a focused button.
    accent: u8,
    /// The colour of download figures.
    down: u8,
    /// The colour of upload figures.
    up: u8,
    /// The colour of bars of load shares, and histograms.
    load: u8,
    /// The colour of healthy states.
    ok: u8,
    /// The colour of states that need the operator's attention.
    warn: u8,
    /// The colour of failures, and the background of a destructive button.
    error: u8,
    /// The colour of the background of the selected row.
    selected: u8,
    /// The colour of the label of a focused button.
    button_label: u8,
}

impl Theme {
    /// Returns the theme `dark`: 256 colours on a dark background.
    pub(crate) fn dark() -> Self {
        Self::of(Palette {
            dim: 247,
            faint: 243,
            rule: 238,
            accent: 80,
            down: 75,
            up: 215,
            load: 73,
            ok: 114,
            warn: 221,
            error: 203,
            selected: 237,
            button_label: 16,
        })
    }

    /// Builds the styles of a theme from its colours.
    fn of(palette: Palette) -> Self {
        let colour = |index| Style::new().fg(Color::Indexed(index));
        let button = |background| {
            let style = Style::new().bg(Color::Indexed(background)).fg(Color::Indexed(palette.button_label));
            style.add_modifier(Modifier::BOLD)
        };
        Self {
            text: Style::new(),
            strong: Style::new().add_modifier(Modifier::BOLD),
            dim: colour(palette.dim),
            faint: colour(palette.faint),
            rule: colour(palette.rule),
            accent: colour(palette.accent),
            down: colour(palette.down),
            up: colour(palette.up),
            load: colour(palette.load),
            ok: colour(palette.ok),
            warn: colour(palette.warn),
            error: colour(palette.error),
            selected: Style::new().bg(Color::Indexed(palette.selected)).add_modifier(Modifier::BOLD),
            button: button(palette.accent),
            danger_button: button(palette.error),
        }
    }

    /// Returns the theme `light`: 256 colours on a light background.
    pub(crate) fn light() -> Self {
        Self::of(Palette {
            dim: 240,
            faint: 244,
            rule: 250,
            accent: 30,
            down: 25,
            up: 130,
            load: 31,
            ok: 28,
            warn: 136,
            error: 160,
            selected: 254,
            button_label: 231,
        })
    }

    /// Returns the theme `ansi`: the sixteen standard colours, in the shades that the terminal's user has configured.
    pub(crate) fn ansi() -> Self {
        let theme = Self::of(Palette {
            dim: 8,
            faint: 8,
            rule: 8,
            accent: 6,
            down: 4,
            up: 3,
            load: 6,
            ok: 2,
            warn: 3,
            error: 1,
            selected: 0,
            button_label: 0,
        });
        // None of the sixteen is known to be a readable background, so the selection is reversed; with the default
        // foreground, so that the whole row has one background colour.
        let selected = Style::new().fg(Color::Reset).add_modifier(Modifier::REVERSED);
        Self { selected, dim: Style::new(), ..theme }
    }

    /// Returns the theme `safe`: blue, orange and brightness only (after Okabe and Ito), distinguishable with any
    /// colour vision.
    pub(crate) fn safe() -> Self {
        Self::of(Palette {
            dim: 247,
            faint: 243,
            rule: 238,
            accent: 117,
            down: 75,
            up: 214,
            load: 75,
            ok: 117,
            warn: 220,
            error: 202,
            selected: 237,
            button_label: 16,
        })
    }

    /// The names of the themes in the settings and on the command line.
    pub(crate) const NAMES: [&'static str; 5] = ["dark", "light", "ansi", "safe", "none"];

    /// Returns the theme of this name; `None` if there is none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "dark" => Self::dark(),
            "light" => Self::light(),
            "ansi" => Self::ansi(),
            "safe" => Self::safe(),
            "none" => Self::plain(),
            _ => return None,
        })
    }

    /// Returns the theme `none`: no colours; weight and reversal alone distinguish states. It is a theme of its own
    /// instead of crossterm's handling of `NO_COLOR`, which also drops resets of attributes, so that the selection
    /// would disappear.
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
            error: bold,
            selected: reversed,
            button: reversed,
            danger_button: reversed,
        }
    }

    /// Returns the default theme: [`plain`](Self::plain) if `NO_COLOR` is set and not empty, else
    /// [`dark`](Self::dark).
    pub(crate) fn detect() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::plain(),
            _ => Self::dark(),
        }
    }
}
