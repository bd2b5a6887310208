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

/// The colours of one look, by number.
struct Palette {
    dim: u8,
    faint: u8,
    rule: u8,
    accent: u8,
    down: u8,
    up: u8,
    load: u8,
    ok: u8,
    warn: u8,
    bad: u8,
    selected: u8,
    /// What stands on a button.
    ink: u8,
}

impl Theme {
    /// 256 colours on a dark ground.
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
            bad: 203,
            selected: 237,
            ink: 16,
        })
    }

    fn of(palette: Palette) -> Self {
        let colour = |index| Style::new().fg(Color::Indexed(index));
        let button = |ground| {
            let style = Style::new().bg(Color::Indexed(ground)).fg(Color::Indexed(palette.ink));
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
            bad: colour(palette.bad),
            selected: Style::new().bg(Color::Indexed(palette.selected)).add_modifier(Modifier::BOLD),
            button: button(palette.accent),
            danger_button: button(palette.bad),
        }
    }

    /// 256 colours on a light ground.
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
            bad: 160,
            selected: 254,
            ink: 231,
        })
    }

    /// The sixteen colours that every terminal has, in whatever shades its owner likes.
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
            bad: 1,
            selected: 0,
            ink: 0,
        });
        // Which of the sixteen could be a ground is not known: reversal always can, and of one colour it is one row.
        let selected = Style::new().fg(Color::Reset).add_modifier(Modifier::REVERSED);
        Self { selected, dim: Style::new(), ..theme }
    }

    /// Blue, orange and brightness only (Okabe and Ito): told apart with any kind of colour vision.
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
            bad: 202,
            selected: 237,
            ink: 16,
        })
    }

    /// What the settings and the command line call the themes.
    pub(crate) const NAMES: [&'static str; 5] = ["dark", "light", "ansi", "safe", "none"];

    /// The theme of that name.
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
