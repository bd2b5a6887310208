//! The cockpit's settings file. Names of themes, columns, actions and keys stay text here and are resolved by the
//! cockpit, whose types this module must not know.

use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::near_miss::UnknownKey;
use serde::{Deserialize, Deserializer, de::Error as _};

/// The permitted interval between two samples of the cockpit, in seconds.
pub const REFRESH_RANGE: RangeInclusive<f64> = 0.1..=10.0;

/// The content of the cockpit's settings file. Every key may be omitted.
///
/// ```toml
/// theme = "light"
/// refresh = 0.25
/// bits = true
///
/// [keys]
/// kill = "d ctrl-k"
/// ```
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CockpitFile {
    /// The name of the color theme: `dark`, `light`, `ansi`, `safe` or `none`.
    pub theme: Option<String>,
    /// The interval between two samples, in the file a number of seconds within [`REFRESH_RANGE`].
    #[serde(deserialize_with = "refresh_interval")]
    pub refresh: Option<Duration>,
    /// Whether rates are shown in bits per second instead of bytes.
    pub bits: bool,
    /// Whether the screen uses ASCII characters only; `None` decides by the locale.
    pub ascii: Option<bool>,
    /// Whether the cockpit handles mouse clicks and the wheel.
    pub mouse: bool,
    /// Whether keys that act on streams, users, proxies or services are disabled.
    pub read_only: bool,
    /// The names of the columns of the table of streams, in their order.
    pub columns: Option<Vec<String>>,
    /// Key bindings: the name of an action, and the names of its keys separated by spaces.
    pub keys: BTreeMap<String, String>,
}

/// Reads a number of seconds within [`REFRESH_RANGE`].
fn refresh_interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !REFRESH_RANGE.contains(&seconds) {
        return Err(D::Error::custom("the refresh time is between 0.1 and 10 seconds"));
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// Why a settings file is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CockpitFileError {
    /// The text is not TOML, or a value has the wrong type or is out of range.
    #[error("{0}")]
    Syntax(String),
    /// A key that does not exist, which is probably a misspelt one.
    #[error("{0}")]
    Unknown(UnknownKey),
}

impl CockpitFile {
    /// The keys that exist.
    const NAMES: [&str; 8] = ["theme", "refresh", "bits", "ascii", "mouse", "read_only", "columns", "keys"];

    /// Parses the text of a settings file.
    ///
    /// # Errors
    /// The text is not TOML, a value is invalid, or a key is unknown.
    pub fn parse(text: &str) -> Result<Self, CockpitFileError> {
        let syntax =
            |error: toml::de::Error| CockpitFileError::Syntax(error.to_string().trim_end().to_owned());
        let table: toml::Table = text.parse().map_err(syntax)?;
        if let Some(key) = UnknownKey::find(&table, &Self::NAMES) {
            return Err(CockpitFileError::Unknown(key));
        }
        toml::from_str(text).map_err(syntax)
    }

    /// Returns the path of the settings file: `underpass/cockpit.toml` in `XDG_CONFIG_HOME`, or in `.config` of `HOME`.
    /// `env_var` reads an environment variable. Returns `None` if neither variable is set.
    pub fn path(env_var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        Some(user_directory(env_var)?.join("cockpit.toml"))
    }
}

/// Returns the directory of the user's configuration files: `underpass` in `XDG_CONFIG_HOME`, or in `.config` of
/// `HOME`.
/// `env_var` reads an environment variable. Returns `None` if neither variable is set.
pub fn user_directory(env_var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The XDG specification requires relative paths to be ignored.
    let configured = env_var("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let directory = configured.or_else(|| Some(env_var("HOME")?.join(".config")))?;
    Some(directory.join("underpass"))
}

#[cfg(test)]
mod tests;
