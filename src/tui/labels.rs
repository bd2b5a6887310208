//! Texts that only the host of the cockpit knows.

use std::time::Duration;

/// What the cockpit is to the server that it shows. It decides what quitting means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// The cockpit of the server itself: quitting ends the server.
    #[default]
    Server,
    /// The cockpit of another process: quitting detaches, and the server continues.
    Attached,
    /// A recording, which cannot be changed.
    Replay,
}

/// Texts for the header and for screens that have nothing else to show yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// What the cockpit is to the server.
    pub role: Role,
    /// The kind of program, shown beside its name: `demo`. Empty for a plain server.
    pub title: String,
    /// The address on which the server listens for proxies: `0.0.0.0:7000`.
    pub listen: String,
    /// The command that joins another machine as a proxy of this server; shown while no proxy is connected.
    pub join: Option<String>,
    /// The part of [`join`](Self::join) that is a secret. It is shown while no proxy is connected, and else only on demand.
    pub secret: Option<String>,
    /// A command that opens a stream, such as `curl -O http://127.0.0.1:8080/big.iso`, where the host knows one.
    /// Shown while there is no stream, and beside [`join`](Self::join).
    pub curl: Option<String>,
    /// How long open streams may continue after the operator starts a drain; `None` where the host ends them
    /// at once.
    pub drain: Option<Duration>,
}

/// What is shown in place of a secret, whatever its length.
const MASK: &str = "***";

/// The option of the join command whose word is the fingerprint of the server's key.
const FINGERPRINT_OPTION: &str = "--fingerprint ";

impl Labels {
    /// Puts the fingerprint of another key into the join command, whichever it had before; not into one that has none, because
    /// proxies verify the server otherwise.
    pub(crate) fn set_fingerprint(&mut self, fingerprint: &str) {
        let Some(join) = &mut self.join else { return };
        if let Some(at) = join.find(FINGERPRINT_OPTION) {
            let begin = at + FINGERPRINT_OPTION.len();
            let end = join[begin..].find(' ').map_or(join.len(), |length| begin + length);
            join.replace_range(begin..end, fingerprint);
        }
    }

    /// Returns `text` without the secret.
    pub(crate) fn mask(&self, text: &str) -> String {
        match &self.secret {
            Some(secret) if !secret.is_empty() => text.replace(secret.as_str(), MASK),
            _ => text.to_owned(),
        }
    }
}
