//! The operator's settings. [`RawSettings`] are as written in a file or on the command line; resolving them validates
//! every value once, before the terminal is taken over, and yields the types that the cockpit works with.

use std::time::Duration;

use super::{
    columns::{StreamColumn, TableColumn},
    keymap::{Keymap, parse_key},
    model::{ColumnSelection, DisplayOptions},
    terminal::Key,
    theme::Theme,
};
use crate::ids::near_miss_hint;

/// The default of [`RawSettings::refresh`].
const DEFAULT_REFRESH: Duration = Duration::from_millis(100);

/// Settings as written by the operator. Each has a default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSettings {
    /// `dark`, `light`, `ansi`, `safe` or `none`; by default `none` under `NO_COLOR`, else `dark`.
    pub theme: Option<String>,
    /// Whether rates are shown in bits per second.
    pub bits: bool,
    /// Whether only ASCII is drawn; by default where the locale is not UTF-8.
    pub ascii: Option<bool>,
    /// Whether the mouse is enabled at the start.
    pub mouse: bool,
    /// The shortest time between two samples.
    pub refresh: Duration,
    /// Whether all keys and commands that change the server are removed.
    pub read_only: bool,
    /// The columns of the streams table, the most important first: these are dropped last on a narrow screen. By
    /// default the width of the screen decides.
    pub columns: Option<Vec<String>>,
    /// Keys by name of action, such as `kill` and `d ctrl-k`.
    pub keys: Vec<(String, String)>,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self {
            theme: None,
            bits: false,
            ascii: None,
            mouse: false,
            refresh: DEFAULT_REFRESH,
            read_only: false,
            columns: None,
            keys: Vec::new(),
        }
    }
}

/// Valid settings of the cockpit. Created by [`RawSettings::resolve`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// The colour theme.
    pub(crate) theme: Theme,
    /// How figures and charts are drawn: units, characters, mouse.
    pub(crate) display: DisplayOptions,
    /// The columns of the streams table that the operator chose.
    pub(crate) columns: ColumnSelection,
    /// All bindings, with the operator's keys; the capabilities of the server are applied later.
    pub(crate) keymap: Keymap,
    /// The shortest time between two samples.
    pub(crate) refresh: Duration,
    /// Whether all keys and commands that change the server are removed.
    pub(crate) read_only: bool,
}

impl Default for Settings {
    /// The settings of an operator who wrote none, for the environment of this process.
    fn default() -> Self {
        Self {
            theme: Theme::detect(),
            display: DisplayOptions { ascii: !locale_is_utf8(environment), ..DisplayOptions::default() },
            columns: ColumnSelection::default(),
            keymap: Keymap::default(),
            refresh: DEFAULT_REFRESH,
            read_only: false,
        }
    }
}

/// Which setting is invalid, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl RawSettings {
    /// Validates the settings. Reads `NO_COLOR` and the locale from the environment, where these decide a default.
    ///
    /// # Errors
    /// The first invalid setting, with the nearest valid name.
    pub fn resolve(self) -> Result<Settings, SettingsError> {
        let Settings { theme, display, .. } = Settings::default();
        Ok(Settings {
            theme: self.theme.as_deref().map_or(Ok(theme), parse_theme)?,
            display: DisplayOptions {
                bits: self.bits,
                mouse: self.mouse,
                ascii: self.ascii.unwrap_or(display.ascii),
                ..display
            },
            columns: self.columns.as_deref().map_or(Ok(ColumnSelection::default()), parse_columns)?,
            keymap: parse_keymap(&self.keys)?,
            refresh: self.refresh,
            read_only: self.read_only,
        })
    }
}

/// Resolves the name of a colour theme; an unknown name is an error that lists the known ones.
fn parse_theme(name: &str) -> Result<Theme, SettingsError> {
    Theme::named(name).ok_or_else(|| unknown("theme", name, &Theme::NAMES))
}

/// Resolves the names of the columns of the streams table, the most important first; an unknown name is an error that
/// lists the known ones.
fn parse_columns(names: &[String]) -> Result<ColumnSelection, SettingsError> {
    let parse = |name: &String| {
        StreamColumn::named(name).ok_or_else(|| {
            let known: Vec<&str> = StreamColumn::ALL.iter().map(|column| column.name()).collect();
            unknown("column", name, &known)
        })
    };
    Ok(ColumnSelection::only(names.iter().map(parse).collect::<Result<_, _>>()?))
}

/// Replaces the default keys of actions: each pair is the name of an action and its keys, separated by blanks. An
/// unknown action or key, or a key with another meaning, is an error.
fn parse_keymap(bindings: &[(String, String)]) -> Result<Keymap, SettingsError> {
    let mut keymap = Keymap::default();
    for (action, keys) in bindings {
        let parsed: Result<Vec<Key>, _> = keys.split_whitespace().map(parse_key).collect();
        let parsed = parsed.map_err(|error| SettingsError(error.to_string()))?;
        keymap.rebind(action, &parsed, keys).map_err(SettingsError)?;
    }
    Ok(keymap)
}

/// Returns the error for a name that is none of `known`, with the nearest known name.
fn unknown(kind: &str, name: &str, known: &[&str]) -> SettingsError {
    let hint = near_miss_hint(name, known);
    SettingsError(format!("unknown {kind} «{name}»{hint} (known: {})", known.join(", ")))
}

/// Returns an environment variable of this process; `None` if it is not set or not UTF-8.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns whether the locale says that text is UTF-8. A locale that says nothing, as in most containers, counts as
/// UTF-8: current terminals are.
fn locale_is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        // A language alone names no character set: `de_DE` is Latin-1, `C` is ASCII.
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests;
