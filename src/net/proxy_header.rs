//! Reads the header of the PROXY protocol from the beginning of a connection.

use std::io;

use tokio::net::TcpStream;

use crate::wire::proxy_protocol::{ProxyHeader, ProxyHeaderError, decode};

/// How many bytes are looked at at a time: most headers are shorter.
const READ_LEN: usize = 256;

/// Why no header could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadHeaderError {
    /// The peer closed or reset the connection before it sent a byte, as a check of the port alone does.
    #[error("the connection was closed before a PROXY protocol header")]
    Closed,
    /// The peer closed the connection within the header.
    #[error("the connection was closed within the PROXY protocol header")]
    Truncated,
    /// What was received is no header.
    #[error(transparent)]
    Header(#[from] ProxyHeaderError),
    /// An I/O error on the connection.
    #[error("I/O error before the end of the PROXY protocol header: {0}")]
    Io(io::Error),
}

/// Reads the header at the beginning of the connection, and no byte of what follows it: the caller passes the socket on
/// as if there had been none. The caller sets the deadline; the length is bounded by
/// [`MAX_HEADER`](crate::wire::proxy_protocol::MAX_HEADER).
///
/// # Errors
/// [`ReadHeaderError`]; the connection must be closed.
pub(crate) async fn read_proxy_header(socket: &TcpStream) -> Result<ProxyHeader, ReadHeaderError> {
    let mut header = Vec::new();
    loop {
        let known = header.len();
        header.resize(known + READ_LEN, 0);
        let is_first = known == 0;
        let peeked = match socket.peek(&mut header[known..]).await {
            Ok(0) if is_first => return Err(ReadHeaderError::Closed),
            Ok(0) => return Err(ReadHeaderError::Truncated),
            Ok(peeked) => peeked,
            Err(error) if is_first && error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(ReadHeaderError::Closed);
            }
            Err(error) => return Err(ReadHeaderError::Io(error)),
        };
        header.truncate(known + peeked);
        let decoded = decode(&header)?;
        let end = decoded.map_or(header.len(), |(_, len)| len);
        // Takes the bytes of the header off the socket, which were only looked at.
        let mut at = known;
        while at < end {
            socket.readable().await.map_err(ReadHeaderError::Io)?;
            match socket.try_read(&mut header[at..end]) {
                Ok(0) => return Err(ReadHeaderError::Truncated),
                Ok(taken) => at += taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(ReadHeaderError::Io(error)),
            }
        }
        if let Some((header, _)) = decoded {
            return Ok(header);
        }
    }
}

/// Waits until the peer has sent a byte, or has closed or reset the connection. Returns whether it has sent one.
pub(crate) async fn has_data(socket: &TcpStream) -> bool {
    matches!(socket.peek(&mut [0]).await, Ok(1..))
}
