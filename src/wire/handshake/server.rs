//! The server's side of the handshake, sans-IO.

use std::{fmt, sync::Arc};

use super::{
    error::HandshakeError,
    proof::{Transcript, server_proof, verify_client},
    token_key::TokenKey,
};
use crate::wire::{Frame, Hello, HelloMode, Welcome, binary::VERSION};

/// The server's side of a handshake; the state diagram is in [`handshake`](super).
///
/// - Commands: [`new`](Self::new), [`with_exporter`](Self::with_exporter); [`with_secret`](Self::with_secret) once
///   [`link`](Self::link) names a link.
/// - Handle: [`on_frame`](Self::on_frame) for every frame of the proxy, until it returns [`ServerStep::Verified`].
pub struct ServerHandshake {
    /// The keys of the tokens of which the proxy must prove one.
    keys: Arc<[TokenKey]>,
    /// The nonce of this server's CHALLENGE.
    nonce: [u8; 32],
    /// The resume secret of the link that HELLO names, if the server has that link.
    secret: Option<[u8; 32]>,
    /// The exporter value of the TLS session; empty without TLS.
    exporter: Vec<u8>,
    /// The frame of the proxy that is expected next.
    state: ServerHandshakeState,
}

/// The state of a [`ServerHandshake`].
#[derive(Debug)]
enum ServerHandshakeState {
    /// Nothing was received; the server expects HELLO.
    AwaitingHello,
    /// CHALLENGE was sent; the server expects PROOF.
    ChallengeSent {
        /// The proxy's HELLO.
        hello: Hello,
    },
}

/// The result of handling a frame of the proxy.
#[derive(Debug)]
pub enum ServerStep {
    /// Send the frame and continue with the new state.
    Send(ServerHandshake, Frame),
    /// The proxy has proved that it knows the token, and the resume secret if it names a link.
    Verified(VerifiedProxy),
}

impl ServerHandshake {
    /// Creates a handshake that expects a HELLO and the proof of one of `keys`. `nonce` must come from a cryptographic
    /// random number generator and never be reused.
    pub fn new(keys: impl Into<Arc<[TokenKey]>>, nonce: [u8; 32]) -> Self {
        Self {
            keys: keys.into(),
            nonce,
            secret: None,
            exporter: vec![],
            state: ServerHandshakeState::AwaitingHello,
        }
    }

    /// Binds the handshake to the TLS session below it. Both sides must do that, or neither. See
    /// [`Transcript::exporter`].
    pub fn with_exporter(self, exporter: impl Into<Vec<u8>>) -> Self {
        Self { exporter: exporter.into(), ..self }
    }

    /// Returns the id and the epoch of the link that the proxy's HELLO wants to join or resume; `None` before HELLO and
    /// for a new link. If the server has that link, the caller passes the resume secret of that epoch to
    /// [`with_secret`](Self::with_secret) before it handles the next frame; otherwise that frame fails the handshake.
    pub fn link(&self) -> Option<([u8; 16], u32)> {
        match &self.state {
            ServerHandshakeState::ChallengeSent { hello } if hello.mode != HelloMode::New => {
                Some((hello.link, hello.epoch))
            }
            ServerHandshakeState::AwaitingHello | ServerHandshakeState::ChallengeSent { .. } => None,
        }
    }

    /// Requires the proxy's proof to include this resume secret, which is that of the [`link`](Self::link).
    pub fn with_secret(self, secret: [u8; 32]) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// Requires the proof of this key alone, with which the proxy of the [`link`](Self::link) was authenticated.
    pub fn with_key(self, key: TokenKey) -> Self {
        Self { keys: [key].into(), ..self }
    }

    /// Handles the proxy's next frame.
    ///
    /// # Errors
    ///
    /// Any [`HandshakeError`] that the server can find. The connection must be closed.
    pub fn on_frame(self, frame: Frame) -> Result<ServerStep, HandshakeError> {
        match (self.state, frame) {
            (ServerHandshakeState::AwaitingHello, Frame::Hello(hello)) if hello.version != VERSION => {
                Err(HandshakeError::Version { theirs: hello.version })
            }
            (ServerHandshakeState::AwaitingHello, Frame::Hello(hello)) => {
                let challenge = Frame::Challenge { nonce: self.nonce };
                Ok(ServerStep::Send(
                    Self { state: ServerHandshakeState::ChallengeSent { hello }, ..self },
                    challenge,
                ))
            }
            (ServerHandshakeState::ChallengeSent { hello }, Frame::Proof { mac }) => {
                // A new link has no secret yet, whatever the caller passed. Any other must have one; otherwise the
                // token alone would let one proxy take over the link of another.
                let secret = match (hello.mode, self.secret) {
                    (HelloMode::New, _) => None,
                    (HelloMode::Join | HelloMode::Resume, Some(secret)) => Some(secret),
                    (HelloMode::Join | HelloMode::Resume, None) => return Err(HandshakeError::UnknownLink),
                };
                let (nonce, exporter) = (self.nonce, self.exporter);
                let transcript = Transcript {
                    hello: &hello,
                    challenge: &nonce,
                    secret: secret.as_ref(),
                    exporter: &exporter,
                };
                let found = verify_client(&self.keys, &transcript, &mac);
                let key = found.ok_or(HandshakeError::WrongToken)?.clone();
                Ok(ServerStep::Verified(VerifiedProxy { hello, key, nonce, secret, exporter, mac }))
            }
            (ServerHandshakeState::AwaitingHello | ServerHandshakeState::ChallengeSent { .. }, other) => {
                Err(HandshakeError::from_unexpected(&other))
            }
        }
    }
}

impl fmt::Debug for ServerHandshake {
    /// Omits the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A proxy whose proof was verified and that expects WELCOME.
pub struct VerifiedProxy {
    /// The proxy's HELLO.
    pub hello: Hello,
    /// The key of the token that the proxy has proved, which keys the server's proof in WELCOME, too.
    pub key: TokenKey,
    /// The nonce of the server's CHALLENGE.
    nonce: [u8; 32],
    /// The resume secret that the proxy has proved; `None` for a new link.
    secret: Option<[u8; 32]>,
    /// The exporter value of the TLS session; empty without TLS.
    exporter: Vec<u8>,
    /// The proxy's proof, which the server's proof covers.
    mac: [u8; 32],
}

impl VerifiedProxy {
    /// Returns the WELCOME frame that admits the proxy: `welcome` with the server's proof in its `mac`.
    pub fn welcome(self, mut welcome: Welcome) -> Frame {
        welcome.mac = server_proof(&self.key, &self.transcript(), &self.mac, &welcome);
        Frame::Welcome(welcome)
    }

    /// Returns the part of the handshake that both proofs cover.
    fn transcript(&self) -> Transcript<'_> {
        Transcript {
            hello: &self.hello,
            challenge: &self.nonce,
            secret: self.secret.as_ref(),
            exporter: &self.exporter,
        }
    }
}

impl fmt::Debug for VerifiedProxy {
    /// Omits the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedProxy").field("hello", &self.hello).finish_non_exhaustive()
    }
}
