//! What a peer speaks that is no proxy or server of underpass, as far as its first bytes tell: an operator understands
//! "an HTTP request", and not which rule of a frame or line it violates.

use std::fmt;

/// A protocol that is not one of the tunnel port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignProtocol {
    /// A request of HTTP/1, or the preface of HTTP/2.
    HttpRequest,
    /// A response of HTTP/1.
    HttpResponse,
    /// An SSH identification string.
    Ssh,
    /// Any other bytes.
    Unknown,
}

impl ForeignProtocol {
    /// Methods by which a request line is recognised that is longer than what was received.
    const METHODS: [&'static [u8]; 6] = [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT "];

    /// Recognises a protocol by the first bytes of a peer.
    pub(super) fn of(first: &[u8]) -> Self {
        let line = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_request = line.windows(6).any(|window| window == b" HTTP/")
            || Self::METHODS.iter().any(|method| first.starts_with(method));
        match first {
            [b'S', b'S', b'H', b'-', ..] => Self::Ssh,
            [b'H', b'T', b'T', b'P', b'/', ..] => Self::HttpResponse,
            _ if is_request => Self::HttpRequest,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpRequest => "an HTTP request",
            Self::HttpResponse => "an HTTP response",
            Self::Ssh => "an SSH identification string",
            Self::Unknown => "data of an unknown protocol",
        })
    }
}
