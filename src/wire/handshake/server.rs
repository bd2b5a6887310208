use std::fmt;

use super::{HandshakeError, Token, Transcript, VERSION, server_proof, verify_client};
use crate::wire::{Frame, Hello, HelloMode, Welcome};

/// The server's side of a handshake; the diagram stands in [`handshake`](super).
///
/// - Commands: [`new`](Self::new), [`with_exporter`](Self::with_exporter); [`with_secret`](Self::with_secret) once
///   [`link`](Self::link) names a link.
/// - Handle: [`on_frame`](Self::on_frame) for every frame of the proxy, until it is [`Verified`].
pub struct ServerHandshake {
    token: Token,
    nonce: [u8; 32],
    secret: Option<[u8; 32]>,
    exporter: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// For HELLO.
    Waiting,
    /// CHALLENGE is out.
    Challenged { hello: Hello },
}

/// What follows from a frame of the proxy.
#[derive(Debug)]
pub enum ServerStep {
    /// Send this, and go on with that.
    Send(ServerHandshake, Frame),
    /// The proxy has proved itself.
    Verified(Verified),
}

impl ServerHandshake {
    /// Waits for a HELLO. `nonce` comes from a cryptographic random number generator and is never used twice.
    pub fn new(token: Token, nonce: [u8; 32]) -> Self {
        Self { token, nonce, secret: None, exporter: vec![], state: State::Waiting }
    }

    /// Binds the handshake to the TLS session below it; both sides do, or neither. See [`Transcript::exporter`].
    pub fn with_exporter(self, exporter: impl Into<Vec<u8>>) -> Self {
        Self { exporter: exporter.into(), ..self }
    }

    /// The link that the proxy wants to join or resume, and its epoch, once it has said so. If there is one by that
    /// name, the resume secret of that epoch goes into [`with_secret`](Self::with_secret) before the next frame; if not,
    /// the handshake fails by itself.
    pub fn link(&self) -> Option<([u8; 16], u32)> {
        match &self.state {
            State::Challenged { hello } if hello.mode != HelloMode::New => Some((hello.link, hello.epoch)),
            State::Waiting | State::Challenged { .. } => None,
        }
    }

    /// Demands a proof of this resume secret, that of the [`link`](Self::link).
    pub fn with_secret(self, secret: [u8; 32]) -> Self {
        Self { secret: Some(secret), ..self }
    }

    /// Takes the proxy's next frame.
    ///
    /// # Errors
    ///
    /// Any [`HandshakeError`] that is not the proxy's to find. The connection is of no more use.
    pub fn on_frame(self, frame: Frame) -> Result<ServerStep, HandshakeError> {
        match (self.state, frame) {
            (State::Waiting, Frame::Hello(hello)) if hello.version != VERSION => {
                Err(HandshakeError::Version { theirs: hello.version })
            }
            (State::Waiting, Frame::Hello(hello)) => {
                let challenge = Frame::Challenge { nonce: self.nonce };
                Ok(ServerStep::Send(Self { state: State::Challenged { hello }, ..self }, challenge))
            }
            (State::Challenged { hello }, Frame::Proof { mac }) => {
                // A new link has no secret yet, whatever the driver says; any other must have one, or the token
                // alone would let one proxy take another's link.
                let secret = match (hello.mode, self.secret) {
                    (HelloMode::New, _) => None,
                    (HelloMode::Join | HelloMode::Resume, Some(secret)) => Some(secret),
                    (HelloMode::Join | HelloMode::Resume, None) => return Err(HandshakeError::UnknownLink),
                };
                let verified = Verified {
                    hello,
                    token: self.token,
                    nonce: self.nonce,
                    secret,
                    exporter: self.exporter,
                    mac,
                };
                if verify_client(&verified.token, &verified.transcript(), &mac) {
                    Ok(ServerStep::Verified(verified))
                } else {
                    Err(HandshakeError::WrongToken)
                }
            }
            (State::Waiting | State::Challenged { .. }, other) => Err(HandshakeError::instead(&other)),
        }
    }
}

impl fmt::Debug for ServerHandshake {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandshake").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A proxy that has proved itself and waits to be let in.
pub struct Verified {
    /// What it wants.
    pub hello: Hello,
    token: Token,
    nonce: [u8; 32],
    secret: Option<[u8; 32]>,
    exporter: Vec<u8>,
    mac: [u8; 32],
}

impl Verified {
    /// The frame that lets the proxy in: `welcome` with the server's own proof as its mac.
    pub fn welcome(self, mut welcome: Welcome) -> Frame {
        welcome.mac = server_proof(&self.token, &self.transcript(), &self.mac, &welcome);
        Frame::Welcome(welcome)
    }

    fn transcript(&self) -> Transcript<'_> {
        Transcript {
            hello: &self.hello,
            challenge: &self.nonce,
            secret: self.secret.as_ref(),
            exporter: &self.exporter,
        }
    }
}

impl fmt::Debug for Verified {
    /// Leaves the secrets out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").field("hello", &self.hello).finish_non_exhaustive()
    }
}
