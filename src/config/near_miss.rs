//! Unknown keys of configuration files, which are probably misspelt ones.

use std::fmt;

use crate::ids::near_miss;

/// A key that does not exist in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The unknown key, without control characters.
    name: String,
    /// The existing key that it is most similar to, if one is similar.
    near: Option<String>,
}

impl UnknownKey {
    /// Describes the key `name`, which is not one of `known`.
    pub fn new<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let near = near_miss(name, known).map(str::to_owned);
        Self { name: name.chars().filter(|c| !c.is_control()).collect(), near }
    }

    /// Returns the first key of `table` that is not one of `known`.
    pub(super) fn find(table: &toml::Table, known: &[&'static str]) -> Option<Self> {
        let name = table.keys().find(|name| !known.contains(&name.as_str()))?;
        Some(Self::new(name, known.iter().copied()))
    }
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no setting «{}»", self.name)?;
        self.near.as_ref().map_or(Ok(()), |near| write!(f, "; did you mean «{near}»?"))
    }
}
