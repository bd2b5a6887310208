//! The proxies that a server knows by name, each with its token and its rights: the entries `[[proxy]]`.

mod entry;
mod error;
mod expiry;
mod raw;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::wire::handshake::TokenKey;

pub use entry::{MAX_PROXY_ENTRIES, ProxyEntry};
pub use error::ProxyEntriesError;

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
    /// Parses the text of a file of entries.
    ///
    /// # Errors
    /// The first mistake and its place. The message contains no value of a secret key.
    pub fn parse(text: &str) -> Result<Self, ProxyEntriesError> {
        Self::new(raw::parse(text)?.into_iter().map(raw::RawProxyEntry::resolve).collect::<Result<_, _>>()?)
    }

    /// Checks entries against each other.
    fn new(entries: Vec<ProxyEntry>) -> Result<Self, ProxyEntriesError> {
        if entries.len() > MAX_PROXY_ENTRIES {
            return Err(ProxyEntriesError::TooMany(entries.len()));
        }
        let (mut names, mut keys) = (HashMap::new(), HashMap::new());
        for entry in &entries {
            if names.insert(&entry.name, ()).is_some() {
                return Err(ProxyEntriesError::SameName(entry.name.clone()));
            }
            if let Some(other) = keys.insert(&entry.key, &entry.name) {
                return Err(ProxyEntriesError::SameToken(other.clone(), entry.name.clone()));
            }
        }
        Ok(Self(entries))
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
