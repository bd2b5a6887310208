//! How proxy and server prove to each other that they hold the same token, without sending it.
//!
//! ```text
//!          proxy                                     server
//!  ClientHandshake::start                     ServerHandshake::new
//!     Greeted ─────────── HELLO ───────────────▶ Waiting
//!     Greeted ◀───────── CHALLENGE ───────────── Challenged      the server looks up the link, if one is named
//!     Proved  ─────────── PROOF ───────────────▶ Challenged
//!     Proved  ◀───────── WELCOME ─────────────── Verified        the server numbers link and channel
//!       done                                       done
//! ```
//!
//! Any other frame, and anything that does not verify, ends the handshake with a [`HandshakeError`]; in its place
//! either side may send [`HandshakeError::refusal`]. The state is consumed by the frame, so a connection is good for
//! one guess.
//!
//! What this keeps out, and what not:
//!
//! - *Replay:* a proof covers the server's nonce of this one connection, the server's proof the proxy's nonce. A
//!   recorded one is worth nothing under another nonce.
//! - *Reflection:* the two proofs are made under different labels, and the server's covers the proxy's. Neither can
//!   pass for the other, and a server that opens a handshake to a proxy learns nothing that it can send back.
//! - *Tampering:* the proofs cover every field of HELLO and WELCOME.
//! - *Taking over a link:* all proxies may share one token, so a HELLO that names a link must also prove the resume
//!   secret which only that link's proxy was given. Without TLS whoever listens reads that secret in WELCOME.
//! - *Guessing:* whoever records a handshake, or plays the server once, can try tokens against the proof at leisure.
//!   A random token of 32 characters is beyond that; a short word is not.
//! - *A relay in the middle* passes the messages on unchanged and then owns what follows. Only the channel's TLS helps
//!   against that, best with its exporter value bound in: see [`Transcript::exporter`].

use super::{Frame, TunnelAction, TunnelMessage, binary::FrameType};

mod client;
mod proof;
mod server;
#[cfg(test)]
mod tests;
mod token;

pub use client::{ClientHandshake, ClientStep};
pub use proof::{Transcript, client_proof, server_proof, verify_client, verify_server};
pub use server::{ServerHandshake, ServerStep, Verified};
pub use token::Token;

/// The version of the binary format that this side speaks.
pub const VERSION: u16 = 1;

/// The feature that frames carry checksums, see [`binary`](super::binary). For channels without TLS, which has its own.
pub const CHECKSUMS: u32 = 1;

/// The longest reason of a peer's refusal that is kept, in characters.
const MAX_REASON: usize = 200;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The proxy's proof does not verify: another token, another resume secret, or something on the way was changed.
    /// Which of them it was is not told, for that would help whoever is guessing.
    #[error("wrong token")]
    WrongToken,
    /// The proxy speaks another version.
    #[error("version {theirs} is not spoken here, version {VERSION} is")]
    Version {
        /// The version that its HELLO names.
        theirs: u16,
    },
    /// The proxy wants to join or resume a link that this server does not have. It may still ask for a new one.
    #[error("no such link")]
    UnknownLink,
    /// The server puts a feature in force that the proxy has not offered.
    #[error("the server asks for what this proxy cannot do")]
    Features,
    /// A frame that has no place here.
    #[error("{0} has no place in this handshake")]
    Unexpected(FrameType),
    /// The server's proof does not verify: it does not hold the token, and nothing may be sent to it.
    #[error("the server does not hold the token")]
    ServerNotProved,
    /// The peer refused and gave this reason, stripped of what could harm a terminal.
    #[error("{0}")]
    Refused(String),
}

impl HandshakeError {
    /// Whether the link that was named is not there, by our own look or by the peer's word.
    pub fn is_unknown_link(&self) -> bool {
        match self {
            Self::UnknownLink => true,
            Self::Refused(reason) => *reason == Self::UnknownLink.to_string(),
            _ => false,
        }
    }

    /// The frame that tells the peer why: an `ERROR` message with the reason.
    pub fn refusal(&self) -> Frame {
        Frame::Message(TunnelMessage::control(TunnelAction::Error, self.to_string()))
    }

    /// What a frame means that is not the one waited for.
    fn instead(frame: &Frame) -> Self {
        match frame {
            Frame::Message(TunnelMessage { key: None, action: TunnelAction::Error, data }) => {
                Self::Refused(crate::ids::clean(&String::from_utf8_lossy(data), MAX_REASON))
            }
            other => Self::Unexpected(other.kind()),
        }
    }
}
