//! What answers a proxy that is no server of underpass, as far as its first bytes tell: an operator understands "an
//! HTTP response", and not which rule of a frame it violates.

use std::fmt;

/// A protocol that is not the one of the tunnel port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignProtocol {
    /// A response of HTTP/1.
    HttpResponse,
    /// An SSH identification string.
    Ssh,
    /// Any other bytes.
    Unknown,
}

impl ForeignProtocol {
    /// Recognises a protocol by the first bytes of a peer.
    pub(super) fn of(first: &[u8]) -> Self {
        match first {
            [b'S', b'S', b'H', b'-', ..] => Self::Ssh,
            [b'H', b'T', b'T', b'P', b'/', ..] => Self::HttpResponse,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpResponse => "an HTTP response",
            Self::Ssh => "an SSH identification string",
            Self::Unknown => "data of an unknown protocol",
        })
    }
}
