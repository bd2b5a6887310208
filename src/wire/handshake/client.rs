use std::fmt;

use super::{HandshakeError, Token, Transcript, client_proof, verify_server};
use crate::wire::{Frame, Hello, Welcome};

/// The proxy's side of a handshake; the diagram stands in [`handshake`](super).
///
/// Commands: [`start`](Self::start), then [`with_secret`](Self::with_secret) and [`with_exporter`](Self::with_exporter)
/// as they apply, then [`on_frame`](Self::on_frame) for every frame of the server.
pub struct ClientHandshake {
    token: Token,
    hello: Hello,
    secret: Option<[u8; 32]>,
    exporter: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// HELLO is out.
    Greeted,
    /// PROOF is out.
    Proved { challenge: [u8; 32], mac: [u8; 32] },
}

/// What follows from a frame of the server.
#[derive(Debug)]
pub enum ClientStep {
    /// Send this, and go on with that.
    Send(Box<ClientHandshake>, Frame),
    /// The server has proved itself; this is what it said.
    Done(Welcome),
}

impl ClientHandshake {
    /// Begins with this HELLO; gives the frame to send right after the preface.
    pub fn start(token: Token, hello: Hello) -> (Self, Frame) {
        let frame = Frame::Hello(hello.clone());
        (Self { token, hello, secret: None, exporter: vec![], state: State::Greeted }, frame)
    }

    /// Proves the resume secret as well. A HELLO that joins or resumes a link is refused without.
    pub fn with_secret(self, secret: [u8; 32]) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// Binds the handshake to the TLS session below it; both sides do, or neither. See [`Transcript::exporter`].
    pub fn with_exporter(self, exporter: impl Into<Vec<u8>>) -> Self {
        Self { exporter: exporter.into(), ..self }
    }

    /// Takes the server's next frame.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::ServerNotProved`], [`HandshakeError::Features`], [`HandshakeError::Refused`] or
    /// [`HandshakeError::Unexpected`]. The connection is of no more use.
    pub fn on_frame(self, frame: Frame) -> Result<ClientStep, HandshakeError> {
        match (&self.state, frame) {
            (State::Greeted, Frame::Challenge { nonce: challenge }) => {
                let mac = client_proof(&self.token, &self.transcript(&challenge));
                let next = Self { state: State::Proved { challenge, mac }, ..self };
                Ok(ClientStep::Send(Box::new(next), Frame::Proof { mac }))
            }
            (State::Proved { challenge, mac }, Frame::Welcome(welcome)) => {
                if !verify_server(&self.token, &self.transcript(challenge), mac, &welcome) {
                    return Err(HandshakeError::ServerNotProved);
                }
                if welcome.features & !self.hello.features != 0 {
                    return Err(HandshakeError::Features);
                }
                Ok(ClientStep::Done(welcome))
            }
            (State::Greeted | State::Proved { .. }, other) => Err(HandshakeError::instead(&other)),
        }
    }

    fn transcript<'a>(&'a self, challenge: &'a [u8; 32]) -> Transcript<'a> {
        Transcript { hello: &self.hello, challenge, secret: self.secret.as_ref(), exporter: &self.exporter }
    }
}

impl fmt::Debug for ClientHandshake {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake").field("state", &self.state).finish_non_exhaustive()
    }
}
