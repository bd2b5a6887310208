use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};

use super::ChannelSocket;
use crate::wire::{
    Frame, TunnelAction, TunnelMessage, Welcome,
    binary::{self, FrameCodec},
    handshake::{ClientHandshake, ClientStep, HandshakeError},
    text::{LineDecoder, LineError},
};

/// The longest line of a stranger: a token and a registration fit many times.
const STRANGERS_LINE: usize = 4096;

/// How long a stranger that was refused may take to close. It holds one of the places for strangers until then.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection did not become a channel.
#[derive(Debug, thiserror::Error)]
pub enum NegotiationError {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side closed it in the middle.
    #[error("the connection was closed during the handshake")]
    Closed,
    /// What came is no frame of ours.
    #[error("no underpass peer: {0}")]
    Frame(#[from] binary::FrameError),
    /// What came is no line of ours.
    #[error("no underpass peer: {0}")]
    Line(#[from] LineError),
    /// It was refused, by us or by the other side.
    #[error(transparent)]
    Refused(#[from] HandshakeError),
}

/// A connection that is being greeted: what was read and not used yet stays with it.
#[derive(Debug)]
pub struct Negotiation {
    socket: ChannelSocket,
    buffer: BytesMut,
    codec: FrameCodec,
}

/// The first thing that a stranger says.
#[derive(Debug)]
pub enum DetectedFormat {
    /// The binary format's preface.
    Binary,
    /// Anything else.
    Text,
}

impl Negotiation {
    /// A fresh connection.
    pub fn new(socket: ChannelSocket) -> Self {
        Self { socket, buffer: BytesMut::new(), codec: FrameCodec::default() }
    }

    /// The connection, what was read beyond the greeting, and how its frames are written and read.
    pub fn into_parts(self) -> (ChannelSocket, BytesMut, FrameCodec) {
        (self.socket, self.buffer, self.codec)
    }

    /// Both sides have agreed on `features`, which are in force from the next frame on.
    pub fn set_features(&mut self, features: u32) {
        self.codec = FrameCodec::with_features(features);
    }

    /// Tells the two formats apart by their first byte, and takes the preface off.
    ///
    /// # Errors
    /// The connection failed or closed.
    pub async fn detect_format(&mut self) -> Result<DetectedFormat, NegotiationError> {
        self.wait_readable().await?;
        if self.buffer[0] != binary::PREFACE[0] {
            return Ok(DetectedFormat::Text);
        }
        while self.buffer.len() < binary::PREFACE.len() {
            self.read().await?;
        }
        if self.buffer.split_to(binary::PREFACE.len())[..] != binary::PREFACE {
            return Err(NegotiationError::Frame(binary::FrameError::UnknownType(binary::PREFACE[0])));
        }
        Ok(DetectedFormat::Binary)
    }

    /// Waits until there is something after what was taken out.
    ///
    /// # Errors
    /// The connection failed or closed.
    pub async fn wait_readable(&mut self) -> Result<(), NegotiationError> {
        if self.buffer.is_empty() { self.read().await } else { Ok(()) }
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection failed or closed, or what came is no frame.
    pub async fn frame(&mut self) -> Result<Frame, NegotiationError> {
        loop {
            if let Some(frame) = self.codec.decoder.decode(&mut self.buffer, binary::MAX_HANDSHAKE)? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// The next line, left in the buffer, and how long it is with its end.
    ///
    /// # Errors
    /// The connection failed or closed, or what came is no line.
    pub async fn peek_line(
        &mut self,
    ) -> Result<(TunnelMessage, crate::wire::text::FieldCount, usize), NegotiationError> {
        let mut lines = LineDecoder::new(STRANGERS_LINE);
        let mut rest = self.buffer.clone();
        loop {
            if let Some((message, fields)) = lines.decode(&mut rest)? {
                return Ok((message, fields, self.buffer.len() - rest.len()));
            }
            let known = self.buffer.len();
            self.read().await?;
            rest.extend_from_slice(&self.buffer[known..]);
        }
    }

    /// Takes what [`peek_line`](Self::peek_line) saw out of the buffer.
    pub fn take(&mut self, bytes: usize) {
        bytes::Buf::advance(&mut self.buffer, bytes);
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send(&mut self, frame: &Frame) -> Result<(), NegotiationError> {
        let mut out = BytesMut::new();
        self.codec.encoder.encode(frame, &mut out);
        self.send_bytes(out.freeze()).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send_bytes(&mut self, mut bytes: Bytes) -> Result<(), NegotiationError> {
        while !bytes.is_empty() {
            self.socket.writable().await?;
            match self.socket.try_write(&[io::IoSlice::new(&bytes)]) {
                Ok(n) => bytes::Buf::advance(&mut bytes, n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends the last bytes there will be and waits, though not for long, until the other side has closed too. Closing
    /// over what it is still sending would reset the connection, and it might never see what was said last.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn send_last(&mut self, bytes: Bytes) -> Result<(), NegotiationError> {
        self.send_bytes(bytes).await?;
        self.socket.finish()?;
        let closed = async {
            while self.read().await.is_ok() {
                self.buffer.clear();
            }
        };
        // What it does after that is its own business.
        _ = tokio::time::timeout(LINGER, closed).await;
        Ok(())
    }

    /// The proxy's side of the binary handshake.
    ///
    /// # Errors
    /// The connection failed, or one side does not trust the other.
    pub async fn run_client(
        &mut self,
        client: ClientHandshake,
        hello: Frame,
    ) -> Result<Welcome, NegotiationError> {
        let mut first = BytesMut::from(&binary::PREFACE[..]);
        binary::encode(&hello, &mut first);
        self.send_bytes(first.freeze()).await?;
        let mut client = client;
        loop {
            let frame = self.frame().await?;
            match client.on_frame(frame)? {
                ClientStep::Done(welcome) => {
                    self.set_features(welcome.features);
                    return Ok(welcome);
                }
                ClientStep::Send(next, frame) => {
                    client = *next;
                    self.send(&frame).await?;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), NegotiationError> {
        loop {
            self.socket.readable().await?;
            self.buffer.reserve(STRANGERS_LINE);
            match self.socket.try_read(&mut self.buffer) {
                Ok(0) => return Err(NegotiationError::Closed),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An error that a text peer is told.
pub fn text_error(reason: &str) -> TunnelMessage {
    TunnelMessage::control(TunnelAction::Error, reason.to_owned())
}
