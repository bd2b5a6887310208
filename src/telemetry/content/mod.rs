//! What a stream carries: the protocol and request that inspection detected in its first bytes.

mod shortfall;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use shortfall::{Shortfall, TransferEnd};

/// The detected protocol of a stream and what identifies its request. The text comes from the peers; inspection has
/// removed control characters and bounded its length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// HTTP/1: the request whose response is being delivered, or the last one.
    Http {
        /// The request method.
        method: Arc<str>,
        /// The request target without the query, which may be long and often contains secrets.
        target: Arc<str>,
        /// The status code of the response; `None` before it arrived.
        status: Option<u16>,
        /// The progress of the response body; `None` while its size is unknown.
        body: Option<Progress>,
    },
    /// TLS.
    Tls {
        /// The server name in the ClientHello (SNI), if it has one.
        sni: Option<Arc<str>>,
    },
    /// SSH.
    Ssh {
        /// The identification string (RFC 4253) of the side that sent it first.
        banner: Option<Arc<str>>,
    },
    /// Another or unknown protocol.
    Tcp,
}

impl Content {
    /// Returns the progress of the HTTP response body, if its size is known.
    pub fn body(&self) -> Option<Progress> {
        match self {
            Self::Http { body, .. } => *body,
            _ => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { method, target, .. } => write!(f, "{method} {target}"),
            Self::Tls { sni: Some(name) } => write!(f, "TLS {name}"),
            Self::Tls { sni: None } => f.write_str("TLS"),
            Self::Ssh { .. } => f.write_str("SSH"),
            Self::Tcp => f.write_str("TCP"),
        }
    }
}

/// The position and size of one download within a stream. A kept-alive HTTP connection carries several in sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Progress {
    /// The number of bytes that the stream had delivered to the user when the download began.
    pub begun: u64,
    /// The size of the download in bytes; never 0.
    pub size: u64,
}

impl Progress {
    /// Returns how many bytes of the download have been delivered, given that the stream has delivered `down` in total.
    pub fn arrived(&self, down: u64) -> u64 {
        down.saturating_sub(self.begun).min(self.size)
    }

    /// Returns the delivered fraction of the download, from 0 to 1, given that the stream has delivered `down` in
    /// total.
    pub fn share(&self, down: u64) -> f64 {
        self.arrived(down) as f64 / self.size.max(1) as f64
    }
}
