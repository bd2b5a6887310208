//! The exchange with which a connection becomes a channel: detection of the format, the binary handshake, the first
//! lines of the text format. It knows nothing of links; the caller decides whom to admit, and sets the deadline.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::{foreign_protocol::ForeignProtocol, socket::ChannelSocket};
use crate::{
    tls::TlsError,
    wire::{
        Frame, TunnelMessage, Welcome,
        binary::{self, FrameCodec},
        handshake::{ClientHandshake, ClientStep, HandshakeError},
        text::{FieldCount, LineDecoder, LineError},
    },
};

/// The longest line of an unauthenticated peer, in bytes, and the size of its reads. A token and a registration fit
/// many times.
const UNAUTHENTICATED_READ: usize = 4096;

/// The first byte of a TLS connection: the content type of a handshake record. No line of the text format begins with
/// this control character.
const TLS_HANDSHAKE: u8 = 0x16;

/// How many RTTs a message may take beyond the timeout of a step: one to ask for it, and the kernel's retransmission
/// timeout, three RTTs before it has measured any.
const RTTS_PER_STEP: u32 = 4;

/// The RTT that is allowed for if the kernel has not measured any, because it had to retransmit the SYN-ACK: then the
/// path is lossy, or its RTT exceeds a second.
const UNKNOWN_RTT: Duration = Duration::from_secs(6);

/// How long the server waits for a refused peer to close its side. The connection counts against the limit of
/// unauthenticated connections until then.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection did not become a channel.
#[derive(Debug, thiserror::Error)]
pub enum NegotiationError {
    /// An I/O error on the connection.
    #[error("I/O error during the handshake: {0}")]
    Io(#[from] io::Error),
    /// The peer has reset the connection before it sent a byte, as a proxy does with the other connection attempts once
    /// one of them has succeeded.
    #[error("the connection was reset by the peer before it sent anything")]
    Abandoned,
    /// The peer closed the connection before it sent a byte, as a check of the port does.
    #[error("the connection was closed by the peer before it sent anything")]
    Unused,
    /// The peer closed the connection before the negotiation was complete.
    #[error("the connection was closed during the handshake by the peer")]
    Closed,
    /// The peer's next message was not complete within this time.
    #[error("handshake timeout: no complete message within {0:.1?}")]
    StepTimeout(Duration),
    /// The peer of this server is no proxy: its first line has no field separator.
    #[error(
        "this is the tunnel port, where proxies connect, and it received data of an unknown protocol: users connect to the \
         public ports"
    )]
    UnknownProtocol,
    /// The peer of this proxy is no server.
    #[error(
        "this address is no tunnel port of an underpass server, it answered with {0}: check the option --server; public \
         ports are for users"
    )]
    NotServer(ForeignProtocol),
    /// The received bytes are no frame of the binary format, although the peer began with its preface.
    #[error("the handshake was damaged, or the peer is of another version ({0})")]
    Frame(#[from] binary::FrameError),
    /// The received bytes are no line of the text format.
    #[error("the message is not one of the text format: {0}")]
    Line(#[from] LineError),
    /// This side has no descriptor for the channel. The peer is told, and tries again.
    #[error("{0}")]
    NoDescriptor(String),
    /// The TLS handshake failed, or the peer violated TLS after it.
    #[error("TLS handshake failed: {0}")]
    Tls(#[from] TlsError),
    /// The peer closed the connection in answer to a TLS handshake.
    #[error(
        "the peer closed the connection in answer to TLS: this is not the tunnel port of a server, or the server was \
         started with --plain, which both sides need or neither"
    )]
    NoTls,
    /// A peer begins with TLS, which this server was told not to speak.
    #[error(
        "the peer speaks TLS, but this server was started with --plain: give that to the proxy, too, or remove it here; \
         users connect to the public ports, and not to the tunnel port"
    )]
    TlsDisabled,
    /// The binary handshake failed, or one side refused the other.
    #[error(transparent)]
    Refused(#[from] HandshakeError),
    /// The peer speaks a protocol that belongs to a public port.
    #[error("the client speaks {0}: this is the tunnel port, and users connect to the public ports")]
    OtherProtocol(&'static str),
    /// The peer sent one more wrong token from an address that is blocked because of them. The peer is told.
    #[error("its address is blocked because of wrong tokens")]
    AddressBlocked,
    /// This side refused a peer of the text format, for this reason.
    #[error("{0}")]
    TextRefused(String),
}

impl NegotiationError {
    /// Returns whether this side refused the peer; otherwise the peer, or the network, ended the negotiation.
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Io(_) | Self::Abandoned | Self::Unused | Self::Closed | Self::StepTimeout(_) | Self::NoTls
        )
    }

    /// Returns the error of a read from the peer's connection that failed with `error`.
    fn from_read(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(error) => Self::Tls(error.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            Err(error) => Self::Io(error),
        }
    }
}

/// A connection that is not a channel yet, with its read buffer and its frame codec.
#[derive(Debug)]
pub struct Negotiation {
    /// The connection to the peer.
    pub(super) socket: ChannelSocket,
    /// Bytes that were received from the peer and not consumed yet.
    pub(super) buffer: BytesMut,
    /// Encodes and decodes the frames of the binary format.
    codec: FrameCodec,
    /// How long the next message may take beyond the RTTs of the path; `None` while nothing limits it.
    step_timeout: Option<Duration>,
    /// When the message that is being received has to be complete, and how long it may take; `None` while nothing
    /// limits it.
    step_deadline: Option<(Instant, Duration)>,
    /// When a frame was sent that the peer has not answered yet.
    asked_at: Option<Instant>,
    /// The shortest time from a frame to its answer; `None` before the first answer.
    rtt: Option<Duration>,
}

/// The format that a peer speaks, detected by its first byte.
#[derive(Debug)]
pub enum DetectedFormat {
    /// The binary format: the connection begins with [`binary::PREFACE`].
    Binary,
    /// TLS, in which one of the formats follows: the connection begins with a handshake record (RFC 8446, section 5.1).
    Tls,
    /// The text format: the connection begins with any other byte.
    Text,
}

impl Negotiation {
    /// Begins a negotiation on a new connection.
    pub fn new(socket: ChannelSocket) -> Self {
        // Without a measured RTT, because the SYN had to be retransmitted, the bound might be too short.
        if let Some(rtt) = socket.handshake_rtt() {
            socket.bound_retransmission_timeout(rtt);
        }
        let (buffer, codec) = Default::default();
        Self { socket, buffer, codec, step_timeout: None, step_deadline: None, asked_at: None, rtt: None }
    }

    /// Returns the socket of the connection.
    pub(crate) fn socket(&self) -> &ChannelSocket {
        &self.socket
    }

    /// Returns whether the connection uses TLS.
    pub fn is_tls(&self) -> bool {
        self.socket.is_tls()
    }

    /// Returns the bytes that were received and not consumed yet.
    pub fn received(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns the keying material of the TLS session to which the proofs of the handshake are bound; empty without
    /// TLS.
    pub fn exporter(&self) -> Vec<u8> {
        self.socket.exporter().map_or_else(Vec::new, Vec::from)
    }

    /// Returns the RTT that the exchange of frames has measured; `None` if there was none. Unlike the kernel's, it is
    /// that of the whole path where an intermediary terminates the TCP connection.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Ends the negotiation. Returns the connection, the bytes received beyond the negotiation, and the codec for the
    /// frames that follow.
    pub fn into_parts(self) -> (ChannelSocket, BytesMut, FrameCodec) {
        (self.socket, self.buffer, self.codec)
    }

    /// Applies `features` (protocol feature bits on which both sides agreed) to the frames that are sent and received
    /// from now on.
    pub fn set_features(&mut self, features: u32) {
        self.codec = FrameCodec::with_features(features);
    }

    /// Limits how long each further message of the peer may take: `timeout` for the first one, which the peer sends
    /// with its first packet, and some RTTs more for later ones.
    pub fn set_step_timeout(&mut self, timeout: Duration) {
        self.step_timeout = Some(timeout);
        self.step_deadline = Some((Instant::now() + timeout, timeout));
    }

    /// Begins to wait for the next message of the peer, which answers one of this side.
    pub(super) fn start_step(&mut self) {
        self.step_deadline = self.step_timeout.map(|timeout| {
            let rtt = self.socket.handshake_rtt().unwrap_or(UNKNOWN_RTT);
            let timeout = timeout + rtt * RTTS_PER_STEP;
            (Instant::now() + timeout, timeout)
        });
    }

    /// Waits for the peer's first byte, which tells the formats apart, and consumes the preface of the binary format.
    ///
    /// # Errors
    /// An I/O error, the peer closed the connection, or a preface that is incorrect after its first byte.
    pub async fn detect_format(&mut self) -> Result<DetectedFormat, NegotiationError> {
        let is_tls = self.socket.is_tls();
        self.wait_for_data().await.map_err(|error| match error {
            NegotiationError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                NegotiationError::Abandoned
            }
            NegotiationError::Closed if !is_tls => NegotiationError::Unused,
            error => error,
        })?;
        if self.buffer[0] == TLS_HANDSHAKE && !is_tls {
            return Ok(DetectedFormat::Tls);
        }
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

    /// Waits until the buffer holds at least one byte that was not consumed.
    ///
    /// # Errors
    /// An I/O error, or the peer closed the connection.
    pub async fn wait_for_data(&mut self) -> Result<(), NegotiationError> {
        if self.buffer.is_empty() { self.read().await } else { Ok(()) }
    }

    /// Receives and returns the next frame of the binary format.
    ///
    /// # Errors
    /// An I/O error, the peer closed the connection, or the bytes are no frame.
    pub async fn recv_frame(&mut self) -> Result<Frame, NegotiationError> {
        loop {
            if let Some(frame) = self.codec.decoder.decode(&mut self.buffer, binary::MAX_HANDSHAKE)? {
                self.start_step();
                if let Some(asked_at) = self.asked_at.take() {
                    let rtt = asked_at.elapsed();
                    self.rtt = Some(self.rtt.map_or(rtt, |known| known.min(rtt)));
                }
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// Receives the next line, but leaves it in the buffer. Returns the message, the number of fields in the line,
    /// and its length in bytes including the line end.
    ///
    /// # Errors
    /// An I/O error, the peer closed the connection, or the bytes are no line.
    pub async fn peek_line(&mut self) -> Result<(TunnelMessage, FieldCount, usize), NegotiationError> {
        let mut lines = LineDecoder::new(UNAUTHENTICATED_READ);
        let mut rest = self.buffer.clone();
        loop {
            if let Some((message, fields)) = lines.decode(&mut rest)? {
                self.start_step();
                return Ok((message, fields, self.buffer.len() - rest.len()));
            }
            let known = self.buffer.len();
            self.read().await?;
            rest.extend_from_slice(&self.buffer[known..]);
        }
    }

    /// Removes the first `bytes` bytes from the buffer: a line that [`peek_line`](Self::peek_line) returned.
    pub fn consume(&mut self, bytes: usize) {
        bytes::Buf::advance(&mut self.buffer, bytes);
    }

    /// Encodes and sends one frame of the binary format.
    ///
    /// # Errors
    /// An I/O error on the connection.
    pub async fn send_frame(&mut self, frame: &Frame) -> Result<(), NegotiationError> {
        let mut out = BytesMut::new();
        self.codec.encoder.encode(frame, &mut out);
        self.send_bytes(out.freeze()).await
    }

    /// Sends the frame that ends the negotiation, and announces that nothing follows.
    ///
    /// # Errors
    /// An I/O error on the connection.
    pub async fn send_last_frame(&mut self, frame: &Frame) -> Result<(), NegotiationError> {
        self.send_frame(frame).await?;
        self.socket.announce_end();
        Ok(())
    }

    /// Sends `bytes` without encoding.
    ///
    /// # Errors
    /// An I/O error on the connection.
    pub async fn send_bytes(&mut self, mut bytes: Bytes) -> Result<(), NegotiationError> {
        self.asked_at = Some(Instant::now());
        while !bytes.is_empty() || self.socket.unsent_bytes() > 0 {
            self.socket.writable().await?;
            match self.socket.try_write(&[io::IoSlice::new(&bytes)]) {
                Ok(n) => bytes::Buf::advance(&mut bytes, n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends `bytes`, shuts down the write direction (FIN), and discards what the peer sends until it closes, for at
    /// most a second. Closing a socket with unread data makes the kernel send an RST, which can destroy `bytes` before
    /// the peer has read them.
    ///
    /// # Errors
    /// An I/O error on the connection.
    pub async fn send_and_close(&mut self, bytes: Bytes) -> Result<(), NegotiationError> {
        self.send_bytes(bytes).await?;
        self.socket.shutdown_write()?;
        let closed = async {
            while self.read().await.is_ok() {
                self.buffer.clear();
            }
        };
        // A peer that is still sending after the timeout gets the RST.
        _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
        Ok(())
    }

    /// Runs the proxy's side of the binary handshake, from the preface and `hello` to the server's WELCOME, and puts
    /// the selected features in force.
    ///
    /// # Errors
    /// An I/O error, the server closed the connection, or the handshake failed.
    pub async fn run_client(
        &mut self,
        client: ClientHandshake,
        hello: Frame,
    ) -> Result<Welcome, NegotiationError> {
        let mut first = BytesMut::from(&binary::PREFACE[..]);
        binary::encode(&hello, &mut first);
        self.send_bytes(first.freeze()).await?;
        let mut client = client;
        let mut is_first = true;
        loop {
            let frame = self.recv_frame().await.map_err(|error| match error {
                NegotiationError::Frame(_) if is_first => {
                    NegotiationError::NotServer(ForeignProtocol::of(&self.buffer))
                }
                error => error,
            })?;
            is_first = false;
            match client.on_frame(frame)? {
                ClientStep::Done(welcome) => {
                    self.set_features(welcome.features);
                    return Ok(welcome);
                }
                ClientStep::Send(next, frame) => {
                    client = *next;
                    self.send_frame(&frame).await?;
                }
            }
        }
    }

    /// Waits until the socket is readable.
    ///
    /// # Errors
    /// The deadline of the message that is being received has passed.
    pub(super) async fn wait_readable(&self) -> Result<(), NegotiationError> {
        match self.step_deadline {
            None => self.socket.readable().await?,
            Some((at, timeout)) => {
                let readable = timeout_at(at, self.socket.readable()).await;
                readable.map_err(|_| NegotiationError::StepTimeout(timeout))??;
            }
        }
        Ok(())
    }

    /// Reads once from the socket into the buffer, waiting for data if there is none.
    async fn read(&mut self) -> Result<(), NegotiationError> {
        loop {
            self.wait_readable().await?;
            self.buffer.reserve(UNAUTHENTICATED_READ);
            match self.socket.try_read(&mut self.buffer) {
                Ok(0) => return Err(NegotiationError::Closed),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(NegotiationError::from_read(error)),
            }
        }
    }
}
