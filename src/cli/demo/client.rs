//! HTTP clients that verify what they transfer.

use std::io;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    file::{DemoFile, FileVerifier, Sha256Sum, WrongByte},
    http::{BodyFraming, BodyReader, HttpConnection, HttpReadError, TrafficCounters},
    origin::receipt,
};

/// Maximum length in bytes of a response body that is kept: receipts of uploads, help texts and error pages.
const MAX_TEXT: usize = 64 * 1024;

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The TCP connection could not be established.
    #[error("cannot connect to the public port: {0}")]
    Connect(io::Error),
    /// The connection was reset or closed before the transfer was complete, which the user sees.
    #[error("connection ended after {transferred} of {size} bytes: {reason}")]
    Truncated {
        /// Bytes of the body that were transferred before.
        transferred: u64,
        /// Length of the body in bytes.
        size: u64,
        /// The I/O error, or that the connection was closed before the end.
        reason: String,
    },
    /// The origin answered with a status other than 200.
    #[error("the origin answered with HTTP status {0}")]
    Status(u16),
    /// The transfer looks complete and delivered other bytes than were sent. A tunnel must never cause this.
    #[error("corrupted data: {0}")]
    Corrupt(String),
}

impl From<WrongByte> for TransferError {
    fn from(wrong: WrongByte) -> Self {
        Self::Corrupt(wrong.to_string())
    }
}

/// Downloads `file` from a [`DemoOrigin`](super::DemoOrigin) over `socket` and verifies every byte. The connection has
/// to be closed cleanly right after the last byte.
pub async fn download<S>(socket: S, file: DemoFile, traffic: &TrafficCounters) -> Result<(), TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = HttpConnection::new(socket, traffic);
    let mut verifier = FileVerifier::new(file);
    let cut = |verifier: &FileVerifier, reason: HttpReadError| TransferError::Truncated {
        transferred: verifier.verified_bytes(),
        size: file.size,
        reason: reason.to_string(),
    };
    let head = format!("GET {} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n", file.path());
    connection.write(head.as_bytes()).await.map_err(|e| cut(&verifier, e.into()))?;
    let head = connection.read_response().await.map_err(|e| map_read_error(e, |e| cut(&verifier, e)))?;
    if head.line.status != 200 {
        return Err(TransferError::Status(head.line.status));
    }
    let framing = head.framing().map_err(|e| map_read_error(e, |e| cut(&verifier, e)))?;
    if framing != BodyFraming::Length(file.size) {
        return Err(TransferError::Corrupt(format!(
            "the response announces {framing:?} instead of {} bytes",
            file.size
        )));
    }
    let mut body = BodyReader::new(framing);
    while let Some(bytes) = body.next(&mut connection).await.map_err(|e| cut(&verifier, e))? {
        verifier.verify(&bytes)?;
    }
    expect_end(&mut connection).await?.map_err(|e| cut(&verifier, e.into()))
}

/// Uploads `file` to a [`DemoOrigin`](super::DemoOrigin) over `socket` and compares the SHA-256 in the response with
/// its own.
pub async fn upload<S>(socket: S, file: DemoFile, traffic: &TrafficCounters) -> Result<(), TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = HttpConnection::new(socket, traffic);
    let mut sent = 0;
    let mut hash = Sha256::new();
    let cut = |transferred, reason: HttpReadError| TransferError::Truncated {
        transferred,
        size: file.size,
        reason: reason.to_string(),
    };
    let head = format!(
        "PUT /upload HTTP/1.1\r\nHost: demo\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        file.size
    );
    connection.write(head.as_bytes()).await.map_err(|e| cut(sent, e.into()))?;
    while sent < file.size {
        let piece = file.bytes_from(sent);
        connection.write(piece).await.map_err(|e| cut(sent, e.into()))?;
        // Hashed per segment instead of once at the end, because the tunnel may run on the same threads.
        hash.update(piece);
        sent += piece.len() as u64;
    }
    let head = connection.read_response().await.map_err(|e| map_read_error(e, |e| cut(sent, e)))?;
    if head.line.status != 200 {
        return Err(TransferError::Status(head.line.status));
    }
    let framing = head.framing().map_err(|e| map_read_error(e, |e| cut(sent, e)))?;
    let text = read_text(&mut connection, framing).await.map_err(|e| map_read_error(e, |e| cut(sent, e)))?;
    let expected = receipt(file.size, Sha256Sum(hash.finalize().into()));
    if text != expected.as_bytes() {
        let got = String::from_utf8_lossy(&text).into_owned();
        return Err(TransferError::Corrupt(format!("uploaded {expected:?}, the origin received {got:?}")));
    }
    expect_end(&mut connection).await?.map_err(|e| cut(sent, e.into()))
}

/// Maps an error of reading a response: bytes that are not HTTP count as corrupt like wrong bytes of a file; I/O errors
/// and truncation go through `otherwise`.
fn map_read_error(
    error: HttpReadError,
    otherwise: impl FnOnce(HttpReadError) -> TransferError,
) -> TransferError {
    match error {
        HttpReadError::Malformed(_) | HttpReadError::TooLarge => TransferError::Corrupt(error.to_string()),
        HttpReadError::Io(_) | HttpReadError::Truncated => otherwise(error),
    }
}

/// Reads the end of the connection. Returns the I/O error if it was reset, and fails if more bytes arrive.
async fn expect_end<S>(connection: &mut HttpConnection<'_, S>) -> Result<io::Result<()>, TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match connection.read_up_to(1).await {
        Ok(bytes) if bytes.is_empty() => Ok(Ok(())),
        Ok(_) => Err(TransferError::Corrupt("bytes after the end of the body".into())),
        Err(error) => Ok(Err(error)),
    }
}

/// Reads a short body completely, up to [`MAX_TEXT`].
async fn read_text<S>(
    connection: &mut HttpConnection<'_, S>,
    framing: BodyFraming,
) -> Result<Bytes, HttpReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = BodyReader::new(framing);
    let mut text = Vec::new();
    while let Some(bytes) = body.next(connection).await? {
        if text.len() + bytes.len() > MAX_TEXT {
            return Err(HttpReadError::Malformed("the response body is longer than 64 KiB"));
        }
        text.extend_from_slice(&bytes);
    }
    Ok(text.into())
}

/// Response to a [`get`].
#[derive(Debug)]
pub struct GetResponse {
    /// HTTP status code.
    pub status: u16,
    /// Length of the body in bytes.
    pub length: u64,
    /// SHA-256 of the body.
    pub sha256: Sha256Sum,
    /// The body itself, if it has at most 64 KiB.
    pub text: Option<Bytes>,
}

/// Requests `path` from any HTTP server over `socket` and hashes the body, like `curl … | sha256sum` on machines
/// without curl.
pub async fn get<S>(socket: S, path: &str, traffic: &TrafficCounters) -> Result<GetResponse, TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = HttpConnection::new(socket, traffic);
    let (mut length, mut size) = (0, 0);
    let cut = |transferred, size, e: HttpReadError| {
        map_read_error(e, |e| TransferError::Truncated { transferred, size, reason: e.to_string() })
    };
    let head = format!("GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n");
    connection.write(head.as_bytes()).await.map_err(|e| cut(length, size, e.into()))?;
    let head = connection.read_response().await.map_err(|e| cut(length, size, e))?;
    let framing = head.framing().map_err(|e| cut(length, size, e))?;
    if let BodyFraming::Length(n) = framing {
        size = n;
    }
    let mut body = BodyReader::new(framing);
    let mut hash = Sha256::new();
    let mut text = Some(Vec::new());
    while let Some(bytes) = body.next(&mut connection).await.map_err(|e| cut(length, size, e))? {
        hash.update(&bytes);
        length += bytes.len() as u64;
        text = text.filter(|_| length <= MAX_TEXT as u64);
        if let Some(text) = &mut text {
            text.extend_from_slice(&bytes);
        }
    }
    expect_end(&mut connection).await?.map_err(|e| cut(length, size, e.into()))?;
    let sha256 = Sha256Sum(hash.finalize().into());
    Ok(GetResponse { status: head.line.status, length, sha256, text: text.map(Into::into) })
}
