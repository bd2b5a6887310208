//! Bytes that a local socket receives before those of its stream: the PROXY protocol header of a target.

use std::io;

use bytes::{Buf as _, Bytes};
use tokio::net::TcpStream;

use super::{delivery::ReceiveSource, endpoint::Endpoint, handle::Stream};
use crate::net::{try_write, write_vectored_once};

impl Stream {
    /// Writes `preamble` to a socket that the stream is about to be [relayed](Self::relay) to, and in the same call the
    /// data that the peer has sent already: a target that takes its first read for the whole request finds it behind
    /// the header.
    ///
    /// Only for a stream that the peer has opened: no rate limit applies to such a one here.
    ///
    /// # Errors
    /// An I/O error on the connection.
    pub async fn write_preamble(&self, socket: &TcpStream, mut preamble: Bytes) -> io::Result<()> {
        while !preamble.is_empty() {
            socket.writable().await?;
            match self.endpoint().write_preamble(self.link(), socket, &preamble) {
                Ok(taken) => preamble.advance(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Endpoint {
    /// Writes `preamble` and the received data behind it with one call. Returns how many bytes of `preamble` were
    /// written; the data counts as delivered as usual.
    fn write_preamble(
        &self,
        source: &impl ReceiveSource,
        socket: &TcpStream,
        preamble: &Bytes,
    ) -> io::Result<usize> {
        let stream = self.shared().number();
        let mut delivery = self.lock_delivery();
        if delivery.queue.is_empty() {
            delivery.end = source.consume_and_read(stream, 0, &mut delivery.queue);
            delivery.queue_refilled();
        }
        delivery.queue.push_front(preamble.clone());
        let written = write_vectored_once(&delivery.queue, usize::MAX, |slices| try_write(socket, slices));
        delivery.queue.pop_front();
        let written = written?;
        let data = written.saturating_sub(preamble.len());
        if data > 0 {
            self.socket_took(&mut delivery, data);
            source.consume(stream, data as u64);
        }
        Ok(written - data)
    }
}
