//! Why a handshake failed, and the frame that tells the peer.

use crate::{
    ids::clean,
    wire::{
        Frame, RefusalCode, TunnelAction, TunnelMessage,
        binary::{FrameType, VERSION},
    },
};

/// The longest sentence that is kept of a refusal by a peer of another version, in characters.
const MAX_REASON: usize = 200;

/// The first protocol version that has REFUSED frames.
const FIRST_VERSION_WITH_CODES: u16 = 2;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Found by the server: the proxy's HMAC does not verify. The proxy uses another token or another resume secret, or
    /// the handshake was corrupted in transit. The peer is not told which, because that would help an attacker who
    /// guesses.
    #[error("wrong token")]
    WrongToken,
    /// Found by the server: the proxy speaks another protocol version.
    #[error("protocol version {theirs} is not supported, the server speaks version {VERSION}")]
    Version {
        /// The version in the proxy's HELLO.
        theirs: u16,
    },
    /// Found by the server: it has no link with the id and epoch that the proxy wants to join or resume. The proxy may
    /// ask for a new link.
    #[error("no such link: the session to resume does not exist (any more)")]
    UnknownLink,
    /// Found by the server: the proxy already has the maximum number of channels.
    #[error("the proxy already has the maximum number of channels")]
    TooManyChannels,
    /// Found by the server: the proxy came without TLS, which this server requires.
    #[error("{}", RefusalCode::TlsRequired)]
    TlsRequired,
    /// Found by the server: the token is right, and its entry does not permit the connection.
    #[error("{reason}")]
    NotPermitted {
        /// What the proxy is told.
        code: RefusalCode,
        /// Which rule of which entry, for the operator of the server.
        reason: String,
    },
    /// Found by the proxy: the server puts a feature in force that the proxy did not offer.
    #[error("the server selected a protocol feature that this proxy did not offer")]
    Features,
    /// Found by either side: a frame that the state of the handshake does not allow.
    #[error("unexpected message in the handshake ({0})")]
    Unexpected(FrameType),
    /// Found by the proxy: the server's HMAC does not verify, so the server does not know the token. The proxy sends
    /// it nothing more.
    #[error("the server could not prove that it has the same token")]
    ServerNotProved,
    /// Reported by the peer in a REFUSED frame.
    #[error("{}", describe_refusal(*code, *version))]
    Refused {
        /// Why the peer refuses.
        code: RefusalCode,
        /// The protocol version that the peer speaks.
        version: u16,
    },
    /// Reported by a peer of a protocol version that has no REFUSED frames, which refuses with a sentence. The sentence
    /// is sanitized, and used for display only.
    #[error("the peer does not support protocol version {VERSION}: {0}")]
    RefusedByOtherVersion(String),
}

/// Returns the text of a refusal for people.
fn describe_refusal(code: RefusalCode, peer_version: u16) -> String {
    match code {
        RefusalCode::UnsupportedVersion => {
            format!("protocol version {VERSION} is not supported, the peer speaks version {peer_version}")
        }
        code => code.to_string(),
    }
}

impl HandshakeError {
    /// Returns whether the server does not have the link that the proxy named, as found by this side or reported by
    /// the peer.
    pub fn is_unknown_link(&self) -> bool {
        matches!(self, Self::UnknownLink | Self::Refused { code: RefusalCode::UnknownLink, .. })
    }

    /// Returns whether only an operator can remove the reason: another token, another version, another server. The
    /// other errors may pass by themselves. So may one of these, where the handshake, which has no checksums, was
    /// corrupted in transit: only a second attempt shows that.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::WrongToken
            | Self::Version { .. }
            | Self::TlsRequired
            | Self::Features
            | Self::ServerNotProved
            | Self::RefusedByOtherVersion(_) => true,
            Self::Refused { code, .. } => matches!(
                code,
                RefusalCode::WrongToken
                    | RefusalCode::UnsupportedVersion
                    | RefusalCode::TlsRequired
                    | RefusalCode::TokenExpired
            ),
            Self::UnknownLink | Self::TooManyChannels | Self::NotPermitted { .. } | Self::Unexpected(_) => {
                false
            }
        }
    }

    /// Returns the frame that reports this error to the peer: REFUSED, or, for a proxy whose version does not have that
    /// frame, a MESSAGE with the action `ERROR` and the sentence that names both versions.
    pub fn refusal(&self) -> Frame {
        let code = match self {
            Self::Version { theirs } if *theirs < FIRST_VERSION_WITH_CODES => {
                return Frame::Message(TunnelMessage::control(TunnelAction::Error, self.to_string()));
            }
            Self::Version { .. } => RefusalCode::UnsupportedVersion,
            Self::WrongToken => RefusalCode::WrongToken,
            Self::UnknownLink => RefusalCode::UnknownLink,
            Self::TooManyChannels => RefusalCode::TooManyChannels,
            Self::TlsRequired => RefusalCode::TlsRequired,
            Self::NotPermitted { code, .. } => *code,
            Self::Unexpected(_) => RefusalCode::UnexpectedFrame,
            Self::Features
            | Self::ServerNotProved
            | Self::Refused { .. }
            | Self::RefusedByOtherVersion(_) => RefusalCode::Unspecified,
        };
        Frame::Refused { code, version: VERSION }
    }

    /// Returns the error for a frame that is not the expected one: the peer's refusal, or an unexpected frame.
    pub(super) fn from_unexpected(frame: &Frame) -> Self {
        match frame {
            Frame::Refused { code, version } => Self::Refused { code: *code, version: *version },
            Frame::Message(TunnelMessage { key: None, action: TunnelAction::Error, data }) => {
                Self::RefusedByOtherVersion(clean(&String::from_utf8_lossy(data), MAX_REASON))
            }
            other => Self::Unexpected(other.kind()),
        }
    }
}
