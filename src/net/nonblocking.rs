//! Reads and writes on a TCP connection that do not wait.

use std::io::{self, IoSlice};

use bytes::BufMut;
use tokio::{io::Interest, net::TcpStream};

/// Writes as much of `slices` as the send buffer of `stream` accepts without waiting. Returns the number of bytes.
///
/// # Errors
/// `WouldBlock` if the send buffer is full, otherwise an I/O error on the connection.
pub(crate) fn try_write(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        // send(2) has less to check than writev(2), and most responses are in one piece.
        [one] => stream.try_write(one),
        many => stream.try_write_vectored(many),
    }
}

/// Reads from `stream` into the spare capacity of `buf` without waiting. Returns the number of bytes; 0 is the end of
/// the stream.
///
/// A short read means that the receive buffer is empty. The function then clears tokio's readiness, so that the next
/// attempt returns `WouldBlock` without a system call: for small messages this saves one call of three.
pub(crate) fn try_read(stream: &TcpStream, buf: &mut impl BufMut) -> io::Result<usize> {
    let capacity = buf.chunk_mut().len();
    let mut read = 0;
    // Data that arrives meanwhile sets the readiness again: tokio clears only the readiness that it reported before.
    let result = stream.try_io(Interest::READABLE, || {
        read = stream.try_read_buf(buf)?;
        if 0 < read && read < capacity { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match result {
        Err(error) if read == 0 => Err(error),
        _ => Ok(read),
    }
}
