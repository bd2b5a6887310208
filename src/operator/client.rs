//! A client of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    line_reader::{LineError, LineReader},
    protocol::{self, Greeting, PROTOCOL, RequestError},
    request::Request,
};

/// The longest line that a client accepts in bytes: the snapshot of 100,000 streams has a quarter of it.
const MAX_LINE_BYTES: usize = 256 << 20;

/// How long a client tries to connect to a socket whose queue of connections is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The time between two attempts to connect.
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);

/// Why the client could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket cannot be connected to.
    #[error("cannot connect to {}: {error}", path.display())]
    Connect {
        /// The path of the socket.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The connection failed.
    #[error("the connection to the control socket failed: {0}")]
    Io(#[from] io::Error),
    /// The process has closed the connection.
    #[error("the process with the control socket has closed the connection")]
    Closed,
    /// A line is not what the protocol says.
    #[error("no control protocol of underpass: {0}")]
    Protocol(String),
    /// The process speaks a newer protocol.
    #[error(
        "underpass {version} speaks version {protocol} of the control protocol, and this underpass {} only version {PROTOCOL}: \
         use the program of that version",
        env!("CARGO_PKG_VERSION")
    )]
    Version {
        /// The version of the process.
        version: String,
        /// The version of its protocol.
        protocol: u32,
    },
    /// The process is of another version, whose answer means something else.
    #[error(
        "underpass {version} has given an answer that this underpass {} does not understand ({error}): use the program of that \
         version",
        env!("CARGO_PKG_VERSION")
    )]
    Answer {
        /// The version of the process.
        version: String,
        /// What is not understood.
        error: String,
    },
    /// The request was refused or has failed.
    #[error(transparent)]
    Refused(#[from] RequestError),
}

/// What every version of the greeting has.
#[derive(Deserialize)]
struct Versions {
    /// The version of underpass.
    underpass: String,
    /// The version of the protocol.
    protocol: u32,
}

/// A line that the process sent: an answer, or an item of what is followed.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The id of the request that it belongs to.
    pub id: Value,
    /// The result of the request.
    pub ok: Option<Value>,
    /// Why it was not performed.
    pub error: Option<RequestError>,
    /// All other fields: `seq`, `snapshot`, `changes`, `event`, `log`, `missed`.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

/// A connection to a control socket.
#[derive(Debug)]
pub struct Client {
    /// The first line.
    greeting: Greeting,
    /// Reads lines.
    reader: LineReader<OwnedReadHalf>,
    /// Writes requests.
    writer: OwnedWriteHalf,
    /// The id of the last request.
    last_id: u64,
}

impl ClientError {
    /// Returns whether the process is of a version that this program cannot operate.
    pub fn is_other_version(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Answer { .. })
    }
}

impl Client {
    /// Connects to the socket at `path` and reads the greeting.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let begin = Instant::now();
        let connected = loop {
            match UnixStream::connect(path).await {
                // Its queue of connections is full.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < CONNECT_TIMEOUT =>
                {
                    tokio::time::sleep(CONNECT_INTERVAL).await;
                }
                connected => break connected,
            }
        };
        let socket = connected.map_err(|error| ClientError::Connect { path: path.to_owned(), error })?;
        Self::over(socket).await
    }

    /// Reads the greeting on a connection.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn over(socket: UnixStream) -> Result<Self, ClientError> {
        let (reader, writer) = socket.into_split();
        let mut reader = LineReader::new(reader, MAX_LINE_BYTES);
        let line = next_line(&mut reader).await?;
        // First, because nothing else is the same in every version.
        if let Ok(Versions { underpass: version, protocol }) = serde_json::from_slice(&line)
            && protocol > PROTOCOL
        {
            return Err(ClientError::Version { version, protocol });
        }
        let Ok(greeting) = serde_json::from_slice::<Greeting>(&line) else {
            // A client that is refused is told why instead.
            return Err(match serde_json::from_slice::<Line>(&line) {
                Ok(Line { error: Some(error), .. }) => error.into(),
                _ => ClientError::Protocol(String::from_utf8_lossy(&line).chars().take(100).collect()),
            });
        };
        Ok(Self { greeting, reader, writer, last_id: 0 })
    }

    /// Returns the greeting.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Sends a request, and returns the id that its answer will have.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn send(&mut self, request: &Request) -> Result<u64, ClientError> {
        self.last_id += 1;
        self.send_with_id(self.last_id, request).await?;
        Ok(self.last_id)
    }

    /// Sends a request with this id: for a request that is about another one.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn send_with_id(&mut self, id: u64, request: &impl Serialize) -> Result<(), ClientError> {
        self.writer.write_all(&request_line(id, request)).await?;
        Ok(())
    }

    /// Waits for the next line. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next(&mut self) -> Result<Line, ClientError> {
        parse(&next_line(&mut self.reader).await?)
    }

    /// Sends a request and waits for its answer. Returns the content of `ok`. Lines that belong to other requests are
    /// dropped.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn request(&mut self, request: &Request) -> Result<Value, ClientError> {
        let id = self.send(request).await?;
        loop {
            let line = self.next().await?;
            // Without an id it is about the connection: it will be closed.
            let is_mine = line.id.as_u64() == Some(id) || line.id.is_null();
            match (is_mine, line.ok, line.error) {
                (true, _, Some(error)) => return Err(error.into()),
                (true, Some(ok), None) => return Ok(ok),
                _ => {}
            }
        }
    }

    /// Splits the connection, for a reader and a writer that wait for each other nowhere.
    pub fn into_split(self) -> (LineSource, OwnedWriteHalf) {
        (LineSource(self.reader), self.writer)
    }
}

/// The reading half of a [`Client`].
#[derive(Debug)]
pub struct LineSource(LineReader<OwnedReadHalf>);

impl LineSource {
    /// Waits for the next line. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next_text(&mut self) -> Result<bytes::Bytes, ClientError> {
        next_line(&mut self.0).await
    }
}

/// Returns the line of a request with this id.
pub fn request_line(id: u64, request: &impl Serialize) -> Vec<u8> {
    /// A request with its id.
    #[derive(Serialize)]
    struct WithId<'a, T> {
        /// The id.
        id: u64,
        /// The request.
        #[serde(flatten)]
        request: &'a T,
    }
    protocol::line(&WithId { id, request })
}

/// Parses a line that is no greeting.
fn parse(line: &[u8]) -> Result<Line, ClientError> {
    serde_json::from_slice(line).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// Waits for the next line.
async fn next_line(reader: &mut LineReader<OwnedReadHalf>) -> Result<bytes::Bytes, ClientError> {
    match reader.next_line().await {
        Ok(Some(line)) => Ok(line),
        Ok(None) => Err(ClientError::Closed),
        Err(LineError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
            Err(ClientError::Closed)
        }
        Err(LineError::Io(error)) => Err(error.into()),
        Err(error @ LineError::TooLong(_)) => Err(ClientError::Protocol(error.to_string())),
    }
}
