//! What is wrong with a file of entries.

use super::{super::near_miss::UnknownKey, entry::MAX_PROXY_ENTRIES};

/// What is wrong with the entries `[[proxy]]` of a configuration. The message names the place, and contains no value of a
/// secret key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyEntriesError {
    /// The text is not TOML.
    #[error("line {line}: {what}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// A key that does not exist.
    #[error("{place}: {key}")]
    Unknown {
        /// The entry; or the file.
        place: String,
        /// The key.
        key: UnknownKey,
    },
    /// A value that a key cannot have, or a key that is missing.
    #[error("{place}: {key}: {why}")]
    Invalid {
        /// The entry.
        place: String,
        /// The key.
        key: &'static str,
        /// What is wrong with its value, and what to write.
        why: String,
    },
    /// Two entries have the same name.
    #[error("there are two entries with the name «{0}»: give each another one")]
    SameName(String),
    /// Two entries have the same token, so that nothing tells their proxies apart.
    #[error("«{0}» and «{1}» have the same token: make one for each (`underpass token`)")]
    SameToken(String, String),
    /// More entries than a handshake can try.
    #[error("there are {0} entries; the maximum is {MAX_PROXY_ENTRIES}")]
    TooMany(usize),
}
