//! The proxy's side of the handshake, sans-IO.

use std::fmt;

use super::{
    error::HandshakeError,
    proof::{Transcript, client_proof, verify_server},
    token::Token,
};
use crate::wire::{Frame, Hello, Welcome};

/// The proxy's side of a handshake; the state diagram is in [`handshake`](super).
///
/// Call [`start`](Self::start), then [`with_secret`](Self::with_secret) and [`with_exporter`](Self::with_exporter)
/// where they apply, then [`on_frame`](Self::on_frame) for every frame of the server.
pub struct ClientHandshake {
    /// The shared secret that both sides prove.
    token: Token,
    /// The proxy's HELLO, which the proofs cover.
    hello: Hello,
    /// The resume secret of the link that `hello` names; `None` for a new link.
    secret: Option<[u8; 32]>,
    /// The exporter value of the TLS session; empty without TLS.
    exporter: Vec<u8>,
    /// The frame of the server that is expected next.
    state: ClientHandshakeState,
}

/// The state of a [`ClientHandshake`].
#[derive(Debug)]
enum ClientHandshakeState {
    /// HELLO was sent; the proxy expects CHALLENGE.
    HelloSent,
    /// PROOF was sent; the proxy expects WELCOME.
    ProofSent {
        /// The nonce of the server's CHALLENGE.
        challenge: [u8; 32],
        /// The proxy's own proof, which the server's proof must cover.
        mac: [u8; 32],
    },
}

/// The result of handling a frame of the server.
#[derive(Debug)]
pub enum ClientStep {
    /// Send the frame and continue with the new state.
    Send(Box<ClientHandshake>, Frame),
    /// The handshake is complete: the server has proved that it knows the token.
    Done(Welcome),
}

impl ClientHandshake {
    /// Starts a handshake with `hello`. Returns the frame to send directly after the preface.
    pub fn start(token: Token, hello: Hello) -> (Self, Frame) {
        let frame = Frame::Hello(hello.clone());
        (Self { token, hello, secret: None, exporter: vec![], state: ClientHandshakeState::HelloSent }, frame)
    }

    /// Includes the link's resume secret in the proof. The server refuses a HELLO that joins or resumes a link without
    /// it.
    pub fn with_secret(self, secret: [u8; 32]) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// Binds the handshake to the TLS session below it. Both sides must do that, or neither. See
    /// [`Transcript::exporter`].
    pub fn with_exporter(self, exporter: impl Into<Vec<u8>>) -> Self {
        Self { exporter: exporter.into(), ..self }
    }

    /// Handles the server's next frame.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::ServerNotProved`], [`HandshakeError::Features`], [`HandshakeError::Refused`],
    /// [`HandshakeError::RefusedByOtherVersion`] or [`HandshakeError::Unexpected`]. The connection must be closed.
    pub fn on_frame(self, frame: Frame) -> Result<ClientStep, HandshakeError> {
        match (&self.state, frame) {
            (ClientHandshakeState::HelloSent, Frame::Challenge { nonce: challenge }) => {
                let mac = client_proof(&self.token, &self.transcript(&challenge));
                let next = Self { state: ClientHandshakeState::ProofSent { challenge, mac }, ..self };
                Ok(ClientStep::Send(Box::new(next), Frame::Proof { mac }))
            }
            (ClientHandshakeState::ProofSent { challenge, mac }, Frame::Welcome(welcome)) => {
                if !verify_server(&self.token, &self.transcript(challenge), mac, &welcome) {
                    return Err(HandshakeError::ServerNotProved);
                }
                if welcome.features & !self.hello.features != 0 {
                    return Err(HandshakeError::Features);
                }
                Ok(ClientStep::Done(welcome))
            }
            (ClientHandshakeState::HelloSent | ClientHandshakeState::ProofSent { .. }, other) => {
                Err(HandshakeError::from_unexpected(&other))
            }
        }
    }

    /// Returns the part of the handshake that both proofs cover.
    fn transcript<'a>(&'a self, challenge: &'a [u8; 32]) -> Transcript<'a> {
        Transcript { hello: &self.hello, challenge, secret: self.secret.as_ref(), exporter: &self.exporter }
    }
}

impl fmt::Debug for ClientHandshake {
    /// Omits the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake").field("state", &self.state).finish_non_exhaustive()
    }
}
