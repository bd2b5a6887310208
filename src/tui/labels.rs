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

/// Which process the cockpit shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Subject {
    /// The tunnel server.
    #[default]
    Server,
    /// A proxy: in the place of proxies it has its links to servers. What only a server knows is left out: contents,
    /// priorities, limits, policies and weights.
    Proxy,
}

/// Texts for the header and for screens that have nothing else to show yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// What the cockpit is to the server.
    pub role: Role,
    /// Whether the process is a server or a proxy.
    pub subject: Subject,
    /// The kind of program, shown beside its name: `demo`. Empty for a plain server.
    pub title: String,
    /// The address on which the server listens for proxies: `0.0.0.0:7000`.
    pub listen: String,
    /// The command that joins another machine as a proxy of this server; shown while no proxy is connected.
    pub join: Option<String>,
    /// The part of [`join`](Self::join) that is a secret. It is shown while no proxy is connected, and else only on
    /// demand.
    pub secret: Option<String>,
    /// A command that opens a stream, such as `curl -O http://127.0.0.1:8080/big.iso`, where the host knows one.
    /// Shown while there is no stream, and beside [`join`](Self::join).
    pub curl: Option<String>,
    /// The command that shows the server again once the operator has left its terminal; `None` where nothing can.
    pub attach: Option<String>,
    /// How long open streams may continue after the operator starts a drain; `None` where the host ends them
    /// at once.
    pub drain: Option<Duration>,
}

/// What is shown in place of a secret, whatever its length.
const MASK: &str = "***";

/// The option of the join command whose word is the fingerprint of the server's key.
const FINGERPRINT_OPTION: &str = "--fingerprint ";

impl Labels {
    /// Returns whether the process is a proxy.
    pub(crate) fn is_of_proxy(&self) -> bool {
        self.subject == Subject::Proxy
    }

    /// Puts the fingerprint of another key into the join command, whichever it had before; not into one that has none,
    /// because proxies verify the server otherwise.
    pub(crate) fn set_fingerprint(&mut self, fingerprint: &str) {
        let Some(join) = &mut self.join else { return };
        if let Some(at) = join.find(FINGERPRINT_OPTION) {
            let begin = at + FINGERPRINT_OPTION.len();
            let end = join[begin..].find(' ').map_or(join.len(), |length| begin + length);
            join.replace_range(begin..end, fingerprint);
        }
    }

    /// Returns what the peers of the process's links are called: proxies, or the servers of a proxy.
    pub(crate) fn peers(&self, count: u64) -> &'static str {
        match (self.is_of_proxy(), count) {
            (false, 1) => "proxy",
            (false, _) => "proxies",
            (true, 1) => "server",
            (true, _) => "servers",
        }
    }

    /// Returns why a public port is closed.
    pub(crate) fn why_closed(&self) -> &'static str {
        if self.is_of_proxy() { "no server serves it through this proxy" } else { "no proxy serves it" }
    }

    /// Returns `text` without the secret.
    pub(crate) fn mask(&self, text: &str) -> String {
        match &self.secret {
            Some(secret) if !secret.is_empty() => text.replace(secret.as_str(), MASK),
            _ => text.to_owned(),
        }
    }
}
