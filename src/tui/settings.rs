use std::time::Duration;

use super::{
    columns::{StreamColumn, TableColumn},
    keymap::Keymap,
    model::{ColumnSelection, DisplayOptions, Model},
    suggest::near_miss,
    terminal::{Key, KeyCode},
    theme::Theme,
};
use crate::control::Capabilities;

/// How the operator wants the cockpit. Everything has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `dark`, `light`, `ansi`, `safe` or `none`; with none named, `none` under `NO_COLOR` and `dark` else.
    pub theme: Option<String>,
    /// Rates in bits.
    pub bits: bool,
    /// Nothing but ASCII; with nothing said, where the locale is not UTF-8.
    pub ascii: Option<bool>,
    /// Clicks and the wheel from the start.
    pub mouse: bool,
    /// How often samples are taken at most.
    pub refresh: Duration,
    /// No key that ends, kicks or changes anything but the display.
    pub read_only: bool,
    /// The columns of the table, as far as there is room for them; the first ones stay longest. With none named, the
    /// width of the screen decides.
    pub columns: Option<Vec<String>>,
    /// Other keys for actions: the action's name and its keys, as `kill` and `d ctrl-k`.
    pub keys: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: None,
            bits: false,
            ascii: None,
            mouse: false,
            refresh: Duration::from_millis(100),
            read_only: false,
            columns: None,
            keys: Vec::new(),
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Settings {
    /// Whether all of it makes sense: to be asked before the terminal is taken over.
    ///
    /// # Errors
    /// The first thing that does not, by its name.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.find_theme()?;
        self.choice()?;
        self.keymap(Capabilities::all()).map(drop)
    }

    fn find_theme(&self) -> Result<Theme, SettingsError> {
        let Some(name) = &self.theme else { return Ok(Theme::detect()) };
        Theme::named(name).ok_or_else(|| {
            let near = near_miss(name, Theme::NAMES.iter().map(ToString::to_string));
            let hint = near.map(|near| format!(" (did you mean «{near}»?)")).unwrap_or_default();
            SettingsError(format!("there is no theme «{name}»{hint}; there are {}", Theme::NAMES.join(", ")))
        })
    }

    fn choice(&self) -> Result<ColumnSelection, SettingsError> {
        let Some(names) = &self.columns else { return Ok(ColumnSelection::default()) };
        let named = |name: &String| {
            StreamColumn::named(name).ok_or_else(|| {
                let all: Vec<&str> = StreamColumn::ALL.iter().map(|column| column.name()).collect();
                let near = near_miss(name, all.iter().map(ToString::to_string));
                let hint = near.map(|near| format!("; did you mean «{near}»?")).unwrap_or_default();
                SettingsError(format!("there is no column «{name}»{hint} There are {}", all.join(", ")))
            })
        };
        Ok(ColumnSelection::only(names.iter().map(named).collect::<Result<_, _>>()?))
    }

    fn keymap(&self, capabilities: Capabilities) -> Result<Keymap, SettingsError> {
        let mut keymap = Keymap::new(capabilities);
        for (action, keys) in &self.keys {
            let parsed: Result<Vec<Key>, _> = keys.split_whitespace().map(key).collect();
            keymap.rebind(action, &parsed?, keys).map_err(SettingsError)?;
        }
        Ok(keymap)
    }

    /// Makes a new model look as the operator wants it. What is wrong was told by [`check`](Self::check).
    pub(crate) fn apply(&self, model: &mut Model, capabilities: Capabilities) {
        let capabilities = if self.read_only { Capabilities::none() } else { capabilities };
        model.theme = self.find_theme().unwrap_or_else(|_| Theme::detect());
        model.keymap = self.keymap(capabilities).unwrap_or_else(|_| Keymap::new(capabilities));
        model.streams_screen.columns = self.choice().unwrap_or_default();
        let ascii = self.ascii.unwrap_or_else(|| !locale_is_utf8(|name| std::env::var(name).ok()));
        model.display =
            DisplayOptions { bits: self.bits, mouse: self.mouse, ascii, ..DisplayOptions::default() };
    }
}

/// Whether the locale says that characters are UTF-8. One that says nothing, as in most containers, is given the
/// benefit of the doubt: terminals have been UTF-8 for twenty years.
fn locale_is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let named =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
    named.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        // The language of a locale is no character set: `de_DE` alone is Latin-1, `C` alone is ASCII.
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A key by its name: `d`, `ctrl-k`, `F5`, `space`, `enter`.
fn key(name: &str) -> Result<Key, SettingsError> {
    let bad = || SettingsError(format!("«{name}» is no key; keys are d, ctrl-k, F5, space, enter, delete …"));
    let lower = name.to_ascii_lowercase();
    if let Some(letter) = lower.strip_prefix("ctrl-") {
        let mut letters = letter.chars();
        return match (letters.next(), letters.next()) {
            // Enter, Tab and Escape are bytes of their own, and ^C must stay a way out.
            (Some(c @ 'a'..='z'), None) if !"cijm".contains(c) => Ok(Key::ctrl(c)),
            _ => Err(bad()),
        };
    }
    let mut chars = name.chars();
    if let (Some(c), None) = (chars.next(), chars.next()) {
        return if c.is_control() || c == ' ' { Err(bad()) } else { Ok(Key::char(c)) };
    }
    let code = match lower.as_str() {
        "space" => return Ok(Key::char(' ')),
        "enter" => KeyCode::Enter,
        "tab" => KeyCode::Tab,
        "delete" | "del" => KeyCode::Delete,
        "backspace" => KeyCode::Backspace,
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "home" => KeyCode::Home,
        "end" => KeyCode::End,
        "pageup" => KeyCode::PageUp,
        "pagedown" => KeyCode::PageDown,
        other => match other.strip_prefix('f').and_then(|n| n.parse().ok()) {
            Some(n @ 1..=12) => KeyCode::F(n),
            _ => return Err(bad()),
        },
    };
    Ok(Key::plain(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |theme: Option<&str>, keys: &[(&str, &str)]| {
            let keys = keys.iter().map(|(a, k)| ((*a).to_owned(), (*k).to_owned())).collect();
            let settings = Settings { theme: theme.map(str::to_owned), keys, ..Settings::default() };
            settings.check().map_err(|bad| bad.to_string())
        };
        assert_eq!(check(None, &[("kill", "d ctrl-k"), ("quit", "F10")]), Ok(()));
        assert!(check(Some("drak"), &[]).unwrap_err().contains("did you mean «dark»"));
        assert!(check(None, &[("kil", "d")]).unwrap_err().contains("did you mean «kill»"));
        let columns = |names: &[&str]| {
            let columns = Some(names.iter().map(|name| (*name).to_owned()).collect());
            Settings { columns, ..Settings::default() }.check().map_err(|bad| bad.to_string())
        };
        assert_eq!(columns(&["service", "down", "up"]), Ok(()));
        assert!(columns(&["stream", "servce"]).unwrap_err().contains("did you mean «service»"));
        for bad in ["ctrl-c", "ctrl-m", "F13", "meta-x", "ctrl-"] {
            assert!(check(None, &[("kill", bad)]).unwrap_err().contains("is no key"), "{bad}");
        }
    }

    #[test]
    fn the_locale_tells_whether_there_is_more_than_ascii() {
        let utf8 = |all: &str, lang: &str| {
            let (all, lang) = (all.to_owned(), lang.to_owned());
            locale_is_utf8(|name| match name {
                "LC_ALL" => Some(all.clone()),
                "LANG" => Some(lang.clone()),
                _ => None,
            })
        };
        assert!(utf8("", "de_DE.UTF-8") && utf8("C.utf8", "C") && utf8("", ""));
        assert!(!utf8("POSIX", "en_US.UTF-8") && !utf8("", "C") && !utf8("", "de_DE"));
    }
}
