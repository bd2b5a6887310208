use std::io;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    body::{Checksum, File, Verifier, WrongByte},
    http::{Body, Framing, ReadError, Traffic, Wire},
    origin::receipt,
};

/// The longest answer that is kept: uploads' receipts, help texts and refusals.
const MAX_TEXT: usize = 64 * 1024;

/// How a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection ended before the transfer did. Whoever looks sees that it failed.
    #[error("ended after {moved} of {size} bytes: {reason}")]
    Cut {
        /// Bytes of the body that had gone over until then.
        moved: u64,
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

impl From<WrongByte> for Fault {
    fn from(wrong: WrongByte) -> Self {
        Self::Corrupt(wrong.to_string())
    }
}

/// Downloads `file` from an [`Origin`](super::Origin) over this connection and compares every byte of it. The
/// connection has to end cleanly right behind the last one.
pub async fn download<S>(socket: S, file: File, traffic: &Traffic) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire::new(socket, traffic);
    let mut verifier = Verifier::new(file);
    let cut = |verifier: &Verifier, reason: ReadError| Fault::Cut {
        moved: verifier.offset(),
        size: file.size,
        reason: reason.to_string(),
    };
    let head = format!("GET {} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n", file.path());
    wire.write(head.as_bytes()).await.map_err(|e| cut(&verifier, e.into()))?;
    let head = wire.response().await.map_err(|e| unreadable(e, |e| cut(&verifier, e)))?;
    if head.line.status != 200 {
        return Err(Fault::Status(head.line.status));
    }
    let framing = head.framing().map_err(|e| unreadable(e, |e| cut(&verifier, e)))?;
    if framing != Framing::Length(file.size) {
        return Err(Fault::Corrupt(format!("announced as {framing:?} instead of {} bytes", file.size)));
    }
    let mut body = Body::new(framing);
    while let Some(bytes) = body.next(&mut wire).await.map_err(|e| cut(&verifier, e))? {
        verifier.push(&bytes)?;
    }
    nothing_more(&mut wire).await?.map_err(|e| cut(&verifier, e.into()))
}

/// Uploads `file` to an [`Origin`](super::Origin) over this connection and compares the checksum it answers with.
pub async fn upload<S>(socket: S, file: File, traffic: &Traffic) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire::new(socket, traffic);
    let mut sent = 0;
    let mut hash = Sha256::new();
    let cut = |moved, reason: ReadError| Fault::Cut { moved, size: file.size, reason: reason.to_string() };
    let head = format!(
        "PUT /upload HTTP/1.1\r\nHost: demo\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        file.size
    );
    wire.write(head.as_bytes()).await.map_err(|e| cut(sent, e.into()))?;
    while sent < file.size {
        let piece = file.piece(sent);
        wire.write(piece).await.map_err(|e| cut(sent, e.into()))?;
        // Here and not in one go at the end: the tunnel may run on the same threads.
        hash.update(piece);
        sent += piece.len() as u64;
    }
    let head = wire.response().await.map_err(|e| unreadable(e, |e| cut(sent, e)))?;
    if head.line.status != 200 {
        return Err(Fault::Status(head.line.status));
    }
    let framing = head.framing().map_err(|e| unreadable(e, |e| cut(sent, e)))?;
    let text = text(&mut wire, framing).await.map_err(|e| unreadable(e, |e| cut(sent, e)))?;
    let expected = receipt(file.size, Checksum(hash.finalize().into()));
    if text != expected.as_bytes() {
        let got = String::from_utf8_lossy(&text).into_owned();
        return Err(Fault::Corrupt(format!("sent {expected:?}, the origin got {got:?}")));
    }
    nothing_more(&mut wire).await?.map_err(|e| cut(sent, e.into()))
}

/// Bytes that are no HTTP, where HTTP was due, are as corrupt as wrong bytes of a file.
fn unreadable(error: ReadError, otherwise: impl FnOnce(ReadError) -> Fault) -> Fault {
    match error {
        ReadError::Malformed(_) | ReadError::TooLarge => Fault::Corrupt(error.to_string()),
        ReadError::Io(_) | ReadError::Short => otherwise(error),
    }
}

async fn nothing_more<S>(wire: &mut Wire<'_, S>) -> Result<io::Result<()>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match wire.take(1).await {
        Ok(bytes) if bytes.is_empty() => Ok(Ok(())),
        Ok(_) => Err(Fault::Corrupt("bytes behind the end".into())),
        Err(error) => Ok(Err(error)),
    }
}

async fn text<S>(wire: &mut Wire<'_, S>, framing: Framing) -> Result<Bytes, ReadError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut body = Body::new(framing);
    let mut text = Vec::new();
    while let Some(bytes) = body.next(wire).await? {
        if text.len() + bytes.len() > MAX_TEXT {
            return Err(ReadError::Malformed("a longer answer than there can be"));
        }
        text.extend_from_slice(&bytes);
    }
    Ok(text.into())
}

/// What a [`get`] brought.
#[derive(Debug)]
pub struct Page {
    /// 200, if all went well.
    pub status: u16,
    /// Bytes of the body.
    pub length: u64,
    /// Their checksum.
    pub sha256: Checksum,
    /// The body itself, if it is a short one.
    pub text: Option<Bytes>,
}

/// Asks any HTTP server for `path` over this connection and hashes what comes: what `curl … | sha256sum` does where
/// there is no curl.
pub async fn get<S>(socket: S, path: &str, traffic: &Traffic) -> Result<Page, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire::new(socket, traffic);
    let (mut length, mut size) = (0, 0);
    let cut =
        |moved, size, e: ReadError| unreadable(e, |e| Fault::Cut { moved, size, reason: e.to_string() });
    let head = format!("GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n");
    wire.write(head.as_bytes()).await.map_err(|e| cut(length, size, e.into()))?;
    let head = wire.response().await.map_err(|e| cut(length, size, e))?;
    let framing = head.framing().map_err(|e| cut(length, size, e))?;
    if let Framing::Length(n) = framing {
        size = n;
    }
    let mut body = Body::new(framing);
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
    let sha256 = Checksum(hash.finalize().into());
    Ok(Page { status: head.line.status, length, sha256, text: text.map(Into::into) })
}
