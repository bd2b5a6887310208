//! The error codes of REFUSED frames, which end a handshake.

use std::fmt;

/// Why a peer refused the handshake: the error code of a [`Refused`](super::Frame::Refused) frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum RefusalCode {
    /// The proxy's HMAC does not verify: another token or another resume secret. The refusal does not say which,
    /// because that would help an attacker who guesses.
    WrongToken = 1,
    /// The peer speaks another protocol version.
    UnsupportedVersion = 2,
    /// The server has no link with the id and epoch that HELLO names.
    UnknownLink = 3,
    /// The proxy already has the maximum number of channels.
    TooManyChannels = 4,
    /// A frame arrived that the state of the handshake does not allow.
    UnexpectedFrame = 5,
    /// Any code that this version does not know.
    Unspecified = 6,
    /// The server has its maximum of channels and public ports. A descriptor may become free: the proxy tries again.
    ServerFull = 7,
    /// The proxy came without TLS, and the server serves proxies of the binary format with TLS only.
    TlsRequired = 8,
    /// The token has expired.
    TokenExpired = 9,
    /// As many proxies are connected with the token as its entry permits. One may disconnect: the proxy tries again.
    TooManyProxies = 10,
    /// The proxy's address has sent too many wrong tokens, and is blocked for a while. The proxy tries again.
    AddressBlocked = 11,
}

impl RefusalCode {
    /// Every code, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::WrongToken,
        Self::UnsupportedVersion,
        Self::UnknownLink,
        Self::TooManyChannels,
        Self::UnexpectedFrame,
        Self::Unspecified,
        Self::ServerFull,
        Self::TlsRequired,
        Self::TokenExpired,
        Self::TooManyProxies,
        Self::AddressBlocked,
    ];

    /// Returns the code with the number `code`, or [`Unspecified`](Self::Unspecified) if this version has none.
    pub fn from_wire(code: u16) -> Self {
        Self::ALL.into_iter().find(|known| *known as u16 == code).unwrap_or(Self::Unspecified)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongToken => {
                "wrong token: compare it with the server's, which is in its --token-file, --tokens or --state-dir"
            }
            Self::UnsupportedVersion => "unsupported protocol version",
            Self::UnknownLink => "no such link: the session to resume does not exist (any more)",
            Self::TooManyChannels => "the proxy already has the maximum number of channels",
            Self::UnexpectedFrame => "unexpected message in the handshake",
            Self::ServerFull => {
                "the server has its maximum of channels and public ports: raise its limit of file descriptors (ulimit -n)"
            }
            Self::TlsRequired => {
                "the server requires TLS: remove --plain from the proxy's options; if the proxy predates TLS, replace it by \
                 one of the server's version"
            }
            Self::TokenExpired => "the token has expired: ask the operator of the server for another date, or for a new token",
            Self::TooManyProxies => "the maximum of proxies is connected with this token",
            Self::AddressBlocked => {
                "this address is blocked for a while, because it has sent too many wrong tokens: wait, or ask the operator of \
                 the server to unblock it (`:unblock` in the cockpit)"
            }
            Self::Unspecified => "the peer refused the handshake with an unknown code",
        })
    }
}
