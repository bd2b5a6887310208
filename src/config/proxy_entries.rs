//! The proxies that a server knows by name, each with its token and its rights: the entries `[[proxy]]`.

mod entry;
mod expiry;
mod raw;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use super::{
    mistakes::{Mistake, Mistakes},
    raw_table::{RawTable, RawValue},
};
use crate::wire::handshake::TokenKey;

pub use entry::{MAX_PROXY_ENTRIES, ProxyEntry};

/// The key of the entries in a file.
const KEY: &str = "proxy";

/// The entries `[[proxy]]` of a server's configuration, each with another name and another token.
///
/// ```toml
/// [[proxy]]
/// name = "alice"
/// token-hash = "sha256:…"              # or token = "underpass_…"
/// ports = [8080, "9000-9100"]
/// groups = ["default"]
/// proxies = 2
/// channels = 16
/// streams = 1000
/// rate = "10M"
/// expires = 2027-12-31
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyEntries(Vec<ProxyEntry>);

impl ProxyEntries {
    /// The keys of an entry.
    pub const KEYS: &[&str] = &raw::KEYS;

    /// Parses the text of a file that has nothing but entries.
    ///
    /// # Errors
    /// All mistakes with their places. The messages contain no value of a secret key.
    pub fn parse(text: &str) -> Result<Self, Mistakes> {
        let file = RawTable::parse(text)?;
        let others = file.keys.iter().filter(|key| key.name != KEY);
        let mistakes: Vec<_> =
            others.map(|key| Mistake::unknown(key.line, "outside of [[proxy]]", &key.name, [KEY])).collect();
        if mistakes.is_empty() { Self::of(&file) } else { Err(Mistakes(mistakes)) }
    }

    /// Reads the entries of a file that may have other keys, too.
    ///
    /// # Errors
    /// All mistakes with their places. The messages contain no value of a secret key.
    pub fn of(file: &RawTable) -> Result<Self, Mistakes> {
        let Some(key) = file.get(KEY) else { return Ok(Self::default()) };
        let tables = match &key.value {
            RawValue::Tables(tables) => tables.as_slice(),
            RawValue::List(values) if values.is_empty() => &[],
            _ => {
                let why = "each entry begins with a line [[proxy]], in two pairs of brackets";
                return Err(Mistake::at(key.line, KEY, why).into());
            }
        };
        if tables.len() > MAX_PROXY_ENTRIES {
            let why = format!("there are {} entries; the maximum is {MAX_PROXY_ENTRIES}", tables.len());
            return Err(Mistake::of_file("", why).into());
        }
        let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
        for (index, table) in tables.iter().enumerate() {
            match raw::resolve(index, table) {
                Ok(entry) => entries.push((table.line, entry)),
                Err(wrong) => mistakes.extend(wrong),
            }
        }
        mistakes.extend(repetitions(&entries));
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        Ok(Self(entries.into_iter().map(|(_, entry)| entry).collect()))
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entries, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ProxyEntry> {
        self.0.iter()
    }

    /// Returns the name of the entry with this key.
    pub fn name_of(&self, key: &TokenKey) -> Option<&str> {
        self.iter().find(|entry| entry.key == *key).map(ProxyEntry::name)
    }
}

/// Returns the entries, with their lines, that have the name or the token of an earlier one: nothing would tell their
/// proxies apart.
fn repetitions(entries: &[(usize, ProxyEntry)]) -> Vec<Mistake> {
    let (mut names, mut keys, mut mistakes) = (HashSet::new(), HashMap::new(), Vec::new());
    for (line, entry) in entries {
        let name = &entry.name;
        if !names.insert(name) {
            let why = format!("there are two entries with the name «{name}»: give each another one");
            mistakes.push(Mistake::at(*line, "", why));
        } else if let Some(other) = keys.insert(&entry.key, name) {
            let why =
                format!("«{other}» and «{name}» have the same token: make one for each (`underpass token`)");
            mistakes.push(Mistake::at(*line, "", why));
        }
    }
    mistakes
}
