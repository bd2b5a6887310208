//! The TLS session of a channel: what is between the frames and the TCP connection. The record layer is that of rustls.

use std::{
    fmt,
    io::{self, BufRead, IoSlice, Write},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use rustls::Connection;
use tokio::net::TcpStream;

use super::{
    buffer_pool::BufferPool,
    nonblocking::{try_read, try_write},
};

/// The label of the keying material that the proofs of the tunnel's handshake cover (RFC 8446, section 7.5).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-underpass-channel";

/// The most plaintext of one record, in bytes (RFC 8446, section 5.1).
const MAX_RECORD: usize = 16 * 1024;

/// The most plaintext of one record in a small write. A receiver can use a record only when all of it has arrived; on a
/// path where the kernel takes little at a time, the first frames of a long record would wait for its last segment.
const MAX_RECORD_OF_SMALL_WRITE: usize = 4 * 1024;

/// From how many bytes on a write is encrypted into records of [`MAX_RECORD`].
const MIN_BULK_WRITE: usize = 32 * 1024;

/// The most bytes that are encrypted at once: as many as one read of the peer takes. The write queue of a channel holds
/// no more than the kernel took at once before, so that little is left if it takes less.
const MAX_ENCRYPTED: usize = BufferPool::READ_SIZE;

/// An established TLS session over a TCP connection.
///
/// rustls has one object for both directions. It is locked for the decryption of one record, or a write of at most
/// [`MAX_ENCRYPTED`] bytes, and for the system call of either: the kernel locks the socket for that, too. The driver of
/// the channel reads, and any thread may write meanwhile; the lock is a leaf lock.
pub(super) struct TlsSession {
    /// The session of rustls, with a record that is incomplete and with encrypted bytes that the kernel has not taken.
    inner: Mutex<Inner>,
    /// How many encrypted bytes the kernel has not taken, about: no less than 1 if there are any.
    unsent_bytes: AtomicUsize,
    /// Whether decrypted bytes wait to be read, for which the socket does not become readable.
    has_plaintext: AtomicBool,
    /// Keying material that is only known to both ends of this session.
    exporter: [u8; 32],
}

/// What is locked of a [`TlsSession`].
struct Inner {
    /// The session.
    connection: Connection,
    /// Bytes that were received and not handed to `connection` yet, in a pooled buffer. rustls would read 16 KiB at a
    /// time, and each read has the kernel send an acknowledgement.
    received: BytesMut,
    /// An error of the connection that was found behind data, and is returned by the next read.
    deferred_error: Option<io::Error>,
}

impl fmt::Debug for TlsSession {
    /// Omits the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession").field("unsent_bytes", &self.unsent_bytes).finish_non_exhaustive()
    }
}

impl TlsSession {
    /// Creates the session from a connection whose handshake is complete.
    ///
    /// # Errors
    /// The handshake is not complete.
    pub(super) fn new(mut connection: Connection) -> Result<Self, rustls::Error> {
        connection.set_buffer_limit(Some(MAX_ENCRYPTED));
        let exporter = connection.export_keying_material([0; 32], EXPORTER_LABEL, None)?;
        let has_plaintext = has_plaintext(&mut connection);
        Ok(Self {
            unsent_bytes: AtomicUsize::new(usize::from(connection.wants_write())),
            inner: Mutex::new(Inner { connection, received: BytesMut::new(), deferred_error: None }),
            has_plaintext: AtomicBool::new(has_plaintext),
            exporter,
        })
    }

    /// Returns keying material that only the two ends of this session know.
    pub(super) fn exporter(&self) -> [u8; 32] {
        self.exporter
    }

    /// Returns how many encrypted bytes the kernel has not taken, about: no less than 1 if there are any.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes.load(SeqCst)
    }

    /// Returns whether decrypted bytes wait to be read, for which the socket does not become readable.
    pub(super) fn has_plaintext(&self) -> bool {
        self.has_plaintext.load(SeqCst)
    }

    /// Reads into the spare capacity of `buf` until it is nearly full, or the socket is empty. Returns the number of
    /// bytes; 0 is the end of the stream that the peer has announced (close_notify).
    ///
    /// # Errors
    /// `WouldBlock` if there is no data, `UnexpectedEof` if the connection was closed without close_notify,
    /// `InvalidData` if the peer violates TLS or its bytes were changed in transit, otherwise an I/O error on the
    /// connection.
    pub(super) fn try_read(&self, stream: &TcpStream, buf: &mut BytesMut) -> io::Result<usize> {
        let mut read = 0;
        loop {
            // Locked for each record, so that a thread that writes need not wait for all.
            let inner = &mut *self.inner.lock();
            read += take_plaintext(&mut inner.connection, buf);
            if read > 0 && buf.capacity() - buf.len() < MAX_RECORD {
                let is_more = !inner.received.is_empty() || has_plaintext(&mut inner.connection);
                self.has_plaintext.store(is_more, SeqCst);
                return Ok(read);
            }
            let step = match inner.deferred_error.take() {
                Some(error) => Err(error),
                None => self.receive(inner, stream),
            };
            if step.is_err() {
                // A record with an error may follow others in the same read.
                read += take_plaintext(&mut inner.connection, buf);
            }
            // An end or an error behind data is returned by another read, which no readiness of the socket announces.
            let (result, is_end_next) = match step {
                Ok(true) => continue,
                Ok(false) => (Ok(read), read > 0),
                Err(error) if read == 0 => (Err(error), false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Ok(read), false),
                Err(error) => {
                    // The kernel reports some errors only once.
                    inner.deferred_error = Some(error);
                    (Ok(read), true)
                }
            };
            self.has_plaintext.store(is_end_next, SeqCst);
            return result;
        }
    }

    /// Has the connection decrypt bytes that were received, and receives some if there are none. Returns false if the
    /// peer has announced the end of the stream.
    fn receive(&self, inner: &mut Inner, stream: &TcpStream) -> io::Result<bool> {
        let Inner { connection, received, .. } = inner;
        if received.is_empty() {
            receive_from_socket(received, stream)?;
        }
        let n = connection.read_tls(&mut &received[..])?;
        received.advance(n);
        if received.is_empty() {
            BufferPool::with_thread_local(|pool| pool.release(std::mem::take(received)));
        }
        let processed = connection.process_new_packets();
        if connection.wants_write() {
            // An alert. The driver flushes what else the peer has to be answered.
            if processed.is_err() {
                _ = connection.write_tls(&mut SocketWriter { stream, unsent: 0 });
            }
            self.unsent_bytes.fetch_max(1, SeqCst);
        }
        let state = processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if n == 0 && !state.peer_has_closed() {
            let text = "the connection was closed without close_notify";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(n > 0)
    }

    /// Encrypts as much of `slices` as the kernel's send buffer may accept, at most [`MAX_ENCRYPTED`] bytes, and writes
    /// it. Returns how much was encrypted; [`unsent_bytes`](Self::unsent_bytes) of it are left to further calls.
    /// Without slices, writes those.
    ///
    /// # Errors
    /// `WouldBlock` if the kernel has not taken what was encrypted before, otherwise an I/O error on the connection.
    pub(super) fn try_write(&self, stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let connection = &mut self.inner.lock().connection;
        self.send(connection, stream)?;
        let total = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if total == 0 {
            return Ok(0);
        }
        let encrypted = match total {
            MIN_BULK_WRITE.. => connection.writer().write_vectored(slices)?,
            _ => encrypt_small_records(connection, slices)?,
        };
        match self.send(connection, stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(encrypted),
        }
    }

    /// Announces the end of the stream (close_notify) after what was written, as far as the kernel takes it.
    ///
    /// # Errors
    /// `WouldBlock` if the kernel does not take it now, otherwise an I/O error on the connection.
    pub(super) fn send_close_notify(&self, stream: &TcpStream) -> io::Result<()> {
        let connection = &mut self.inner.lock().connection;
        connection.send_close_notify();
        self.send(connection, stream)
    }

    /// Writes encrypted bytes until none are left.
    ///
    /// # Errors
    /// `WouldBlock` if the kernel does not take all, otherwise an I/O error on the connection.
    fn send(&self, connection: &mut Connection, stream: &TcpStream) -> io::Result<()> {
        let mut writer = SocketWriter { stream, unsent: 0 };
        while connection.wants_write() {
            match connection.write_tls(&mut writer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.unsent_bytes.store(writer.unsent.max(1), SeqCst);
                    return Err(error);
                }
                Ok(_) => {}
            }
        }
        self.unsent_bytes.store(0, SeqCst);
        Ok(())
    }
}

/// Encrypts `slices` into records of at most [`MAX_RECORD_OF_SMALL_WRITE`] bytes. Returns how many bytes were
/// encrypted.
fn encrypt_small_records(connection: &mut Connection, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let total = slices.iter().map(|slice| slice.len()).sum::<usize>();
    if total <= MAX_RECORD_OF_SMALL_WRITE {
        return connection.writer().write_vectored(slices);
    }
    let mut encrypted = 0;
    let mut record = Vec::with_capacity(slices.len());
    let mut record_bytes = 0;
    for mut slice in slices.iter().map(|slice| &slice[..]) {
        while !slice.is_empty() {
            let (taken, rest) = slice.split_at(slice.len().min(MAX_RECORD_OF_SMALL_WRITE - record_bytes));
            record.push(IoSlice::new(taken));
            record_bytes += taken.len();
            slice = rest;
            if record_bytes == MAX_RECORD_OF_SMALL_WRITE {
                encrypted += connection.writer().write_vectored(&record)?;
                record.clear();
                record_bytes = 0;
            }
        }
    }
    Ok(encrypted + connection.writer().write_vectored(&record)?)
}

/// Returns whether decrypted bytes wait in the session.
fn has_plaintext(connection: &mut Connection) -> bool {
    connection.reader().fill_buf().is_ok_and(|chunk| !chunk.is_empty())
}

/// Moves decrypted bytes to the spare capacity of `buf`. Returns how many.
fn take_plaintext(connection: &mut Connection, buf: &mut BytesMut) -> usize {
    let mut taken = 0;
    let mut reader = connection.reader();
    while let Ok(chunk) = reader.fill_buf() {
        let n = chunk.len().min(buf.capacity() - buf.len());
        if n == 0 {
            break;
        }
        buf.extend_from_slice(&chunk[..n]);
        reader.consume(n);
        taken += n;
    }
    taken
}

/// Receives into a pooled buffer. Leaves it empty at the end of the stream.
fn receive_from_socket(received: &mut BytesMut, stream: &TcpStream) -> io::Result<()> {
    *received = BufferPool::with_thread_local(|pool| pool.take(BufferPool::READ_SIZE));
    let result = loop {
        match try_read(stream, received) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    if received.is_empty() {
        BufferPool::with_thread_local(|pool| pool.release(std::mem::take(received)));
    }
    result.map(|_| ())
}

/// Writes to a socket without waiting.
struct SocketWriter<'a> {
    /// The socket.
    stream: &'a TcpStream,
    /// How many bytes the socket did not take of the last write.
    unsent: usize,
}

impl Write for SocketWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.unsent = slices.iter().map(|slice| slice.len()).sum();
        let written = try_write(self.stream, slices)?;
        self.unsent -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
