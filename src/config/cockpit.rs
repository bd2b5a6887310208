use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// The settings file of the cockpit as it is written: every key may be left out.
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
    /// `dark`, `light`, `ansi`, `safe` or `none`.
    pub theme: Option<String>,
    /// Seconds between two samples.
    pub refresh: Option<f64>,
    /// Rates in bits.
    pub bits: bool,
    /// Nothing but ASCII.
    pub ascii: Option<bool>,
    /// Clicks and the wheel.
    pub mouse: bool,
    /// No key that acts.
    pub read_only: bool,
    /// The columns of the table of streams, by their names.
    pub columns: Option<Vec<String>>,
    /// Other keys, by the name of the action.
    pub keys: BTreeMap<String, String>,
}

/// Why a settings file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CockpitFileError {
    /// It is no TOML, or a value is of the wrong kind.
    #[error("{0}")]
    Syntax(String),
    /// A key that nobody reads is a key that was meant otherwise.
    #[error("there is no setting «{name}»{}", hint(.near.as_deref()))]
    Unknown {
        /// The key.
        name: String,
        /// What it was probably meant to be.
        near: Option<String>,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean «{near}»?")).unwrap_or_default()
}

impl CockpitFile {
    const NAMES: [&str; 8] = ["theme", "refresh", "bits", "ascii", "mouse", "read_only", "columns", "keys"];

    /// Reads the text of a settings file.
    ///
    /// # Errors
    /// It is no TOML, or a key is not known.
    pub fn parse(text: &str) -> Result<Self, CockpitFileError> {
        let syntax =
            |error: toml::de::Error| CockpitFileError::Syntax(error.to_string().trim_end().to_owned());
        let table: toml::Table = text.parse().map_err(syntax)?;
        if let Some(name) = table.keys().find(|name| !Self::NAMES.contains(&name.as_str())) {
            let by_distance =
                Self::NAMES.iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
            let near = by_distance.filter(|(distance, _)| *distance <= 2).min();
            return Err(CockpitFileError::Unknown {
                name: name.chars().filter(|c| !c.is_control()).collect(),
                near: near.map(|(_, known)| (*known).to_owned()),
            });
        }
        toml::from_str(text).map_err(syntax)
    }

    /// Where the file is looked for, from what the environment says: `XDG_CONFIG_HOME`, or `.config` at home.
    pub fn path(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        // The specification has relative paths ignored.
        let named = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let directory = named.or_else(|| Some(variable("HOME")?.join(".config")))?;
        Some(directory.join("underpass").join("cockpit.toml"))
    }
}

#[cfg(test)]
mod tests;
