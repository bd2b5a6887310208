use std::io;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    body::{DemoFile, FileVerifier, Sha256Sum, WrongByte},
    http::{BodyFraming, BodyReader, HttpConnection, HttpReadError, TrafficCounters},
    origin::receipt,
};

/// The longest answer that is kept: uploads' receipts, help texts and refusals.
const MAX_TEXT: usize = 64 * 1024;

/// How a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection ended before the transfer did. Whoever looks sees that it failed.
    #[error("ended after {transferred} of {size} bytes: {reason}")]
    Truncated {
        /// Bytes of the body that had gone over until then.
        transferred: u64,
        /// Bytes that the body has.
        size: u64,
        /// A reset, or an end where none should be.
        reason: String,
    },
    /// The origin wants nothing to do with it.
    #[error("answered {0}")]
    Status(u16),
    /// The transfer looks whole and is not. The one thing that may never happen.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

impl From<WrongByte> for TransferError {
    fn from(wrong: WrongByte) -> Self {
        Self::Corrupt(wrong.to_string())
    }
}

/// Downloads `file` from an [`DemoOrigin`](super::DemoOrigin) over this connection and compares every byte of it. The
/// connection has to end cleanly right behind the last one.
pub async fn download<S>(socket: S, file: DemoFile, traffic: &TrafficCounters) -> Result<(), TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = HttpConnection::new(socket, traffic);
    let mut verifier = FileVerifier::new(file);
    let cut = |verifier: &FileVerifier, reason: HttpReadError| TransferError::Truncated {
        transferred: verifier.verified_bytes(),
        size: file.size,
        reason: reason.to_string(),
    };
    let head = format!("GET {} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n", file.path());
    wire.write(head.as_bytes()).await.map_err(|e| cut(&verifier, e.into()))?;
    let head = wire.response().await.map_err(|e| unreadable(e, |e| cut(&verifier, e)))?;
    if head.line.status != 200 {
        return Err(TransferError::Status(head.line.status));
    }
    let framing = head.framing().map_err(|e| unreadable(e, |e| cut(&verifier, e)))?;
    if framing != BodyFraming::Length(file.size) {
        return Err(TransferError::Corrupt(format!(
            "announced as {framing:?} instead of {} bytes",
            file.size
        )));
    }
    let mut body = BodyReader::new(framing);
    while let Some(bytes) = body.next(&mut wire).await.map_err(|e| cut(&verifier, e))? {
        verifier.verify(&bytes)?;
    }
    nothing_more(&mut wire).await?.map_err(|e| cut(&verifier, e.into()))
}

/// Uploads `file` to an [`DemoOrigin`](super::DemoOrigin) over this connection and compares the checksum it answers with.
pub async fn upload<S>(socket: S, file: DemoFile, traffic: &TrafficCounters) -> Result<(), TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = HttpConnection::new(socket, traffic);
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
    wire.write(head.as_bytes()).await.map_err(|e| cut(sent, e.into()))?;
    while sent < file.size {
        let piece = file.bytes_from(sent);
        wire.write(piece).await.map_err(|e| cut(sent, e.into()))?;
        // Here and not in one go at the end: the tunnel may run on the same threads.
        hash.update(piece);
        sent += piece.len() as u64;
    }
    let head = wire.response().await.map_err(|e| unreadable(e, |e| cut(sent, e)))?;
    if head.line.status != 200 {
        return Err(TransferError::Status(head.line.status));
    }
    let framing = head.framing().map_err(|e| unreadable(e, |e| cut(sent, e)))?;
    let text = text(&mut wire, framing).await.map_err(|e| unreadable(e, |e| cut(sent, e)))?;
    let expected = receipt(file.size, Sha256Sum(hash.finalize().into()));
    if text != expected.as_bytes() {
        let got = String::from_utf8_lossy(&text).into_owned();
        return Err(TransferError::Corrupt(format!("sent {expected:?}, the origin got {got:?}")));
    }
    nothing_more(&mut wire).await?.map_err(|e| cut(sent, e.into()))
}

/// Bytes that are no HTTP, where HTTP was due, are as corrupt as wrong bytes of a file.
fn unreadable(error: HttpReadError, otherwise: impl FnOnce(HttpReadError) -> TransferError) -> TransferError {
    match error {
        HttpReadError::Malformed(_) | HttpReadError::TooLarge => TransferError::Corrupt(error.to_string()),
        HttpReadError::Io(_) | HttpReadError::Short => otherwise(error),
    }
}

async fn nothing_more<S>(wire: &mut HttpConnection<'_, S>) -> Result<io::Result<()>, TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match wire.take(1).await {
        Ok(bytes) if bytes.is_empty() => Ok(Ok(())),
        Ok(_) => Err(TransferError::Corrupt("bytes behind the end".into())),
        Err(error) => Ok(Err(error)),
    }
}

async fn text<S>(wire: &mut HttpConnection<'_, S>, framing: BodyFraming) -> Result<Bytes, HttpReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = BodyReader::new(framing);
    let mut text = Vec::new();
    while let Some(bytes) = body.next(wire).await? {
        if text.len() + bytes.len() > MAX_TEXT {
            return Err(HttpReadError::Malformed("a longer answer than there can be"));
        }
        text.extend_from_slice(&bytes);
    }
    Ok(text.into())
}

/// What a [`get`] brought.
#[derive(Debug)]
pub struct GetResponse {
    /// 200, if all went well.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
    /// Their checksum.
    pub sha256: Sha256Sum,
    /// The body itself, if it is a short one.
    pub text: Option<Bytes>,
}

/// Asks any HTTP server for `path` over this connection and hashes what comes: what `curl … | sha256sum` does where
/// there is no curl.
pub async fn get<S>(socket: S, path: &str, traffic: &TrafficCounters) -> Result<GetResponse, TransferError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = HttpConnection::new(socket, traffic);
    let (mut length, mut size) = (0, 0);
    let cut = |transferred, size, e: HttpReadError| {
        unreadable(e, |e| TransferError::Truncated { transferred, size, reason: e.to_string() })
    };
    let head = format!("GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n");
    wire.write(head.as_bytes()).await.map_err(|e| cut(length, size, e.into()))?;
    let head = wire.response().await.map_err(|e| cut(length, size, e))?;
    let framing = head.framing().map_err(|e| cut(length, size, e))?;
    if let BodyFraming::Length(n) = framing {
        size = n;
    }
    let mut body = BodyReader::new(framing);
    let mut hash = Sha256::new();
    let mut text = Some(Vec::new());
    while let Some(bytes) = body.next(&mut wire).await.map_err(|e| cut(length, size, e))? {
        hash.update(&bytes);
        length += bytes.len() as u64;
        text = text.filter(|_| length <= MAX_TEXT as u64);
        if let Some(text) = &mut text {
            text.extend_from_slice(&bytes);
        }
    }
    nothing_more(&mut wire).await?.map_err(|e| cut(length, size, e.into()))?;
    let sha256 = Sha256Sum(hash.finalize().into());
    Ok(GetResponse { status: head.line.status, length, sha256, text: text.map(Into::into) })
}
