//! The TLS handshake of a connection, before the handshake of the tunnel.

use std::{io, sync::LazyLock, thread};

use bytes::BytesMut;
use rustls::{ClientConnection, Connection, ServerConnection};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    negotiation::{Negotiation, NegotiationError},
    tls_session::TlsSession,
};
use crate::tls::{ClientTls, ServerTls, TlsError};

/// The most bytes of the peer that a handshake may take. A certificate chain has some kilobytes, a ClientHello one or
/// two.
const MAX_HANDSHAKE_BYTES: usize = 64 * 1024;

/// Permits for the threads that compute handshakes at the same time: for every two cores one, so that a flood of
/// connections leaves the others to streams. Those that wait for a permit are bounded by the limit of pending
/// connections, and have a deadline.
static COMPUTING: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    Semaphore::new(cores.div_ceil(2))
});

impl Negotiation {
    /// Runs the server's side of the TLS handshake, of which the first bytes were received.
    ///
    /// # Errors
    /// An I/O error, the peer closed the connection, violates TLS or accepts none of what this side offers.
    pub async fn accept_tls(&mut self, tls: &ServerTls) -> Result<(), NegotiationError> {
        let connection = ServerConnection::new(tls.config()).map_err(TlsError::from)?;
        self.run_tls_handshake(Connection::Server(connection)).await
    }

    /// Runs the proxy's side of the TLS handshake with `server`, `HOST:PORT`.
    ///
    /// # Errors
    /// An I/O error, the server closed the connection, does not speak TLS, or has a certificate that `tls` does not
    /// accept.
    pub async fn connect_tls(&mut self, tls: &ClientTls, server: &str) -> Result<(), NegotiationError> {
        let name = ClientTls::server_name(server)
            .map_err(|error| TlsError::from(rustls::Error::General(error.to_string())))?;
        let connection = ClientConnection::new(tls.config(), name).map_err(TlsError::from)?;
        match self.run_tls_handshake(Connection::Client(connection)).await {
            Err(NegotiationError::Closed) => Err(NegotiationError::NoTls),
            result => result,
        }
    }

    /// Runs the handshake of `connection`, and has all that follows pass through its session.
    async fn run_tls_handshake(&mut self, mut connection: Connection) -> Result<(), NegotiationError> {
        let mut received_bytes = self.buffer.len();
        loop {
            if !self.buffer.is_empty() {
                let received = std::mem::take(&mut self.buffer);
                let processed = process(connection, received).await?;
                connection = processed.0;
                if let Err(error) = processed.1 {
                    // The peer is told why, if its socket takes it at once.
                    let mut alert = Vec::new();
                    _ = connection.write_tls(&mut alert);
                    _ = self.socket.try_write(&[io::IoSlice::new(&alert)]);
                    return Err(TlsError::from(error).into());
                }
            }
            if connection.wants_write() {
                self.send_handshake(&mut connection).await?;
                self.start_step();
            }
            if !connection.is_handshaking() {
                break;
            }
            received_bytes += self.receive_handshake().await?;
            if received_bytes > MAX_HANDSHAKE_BYTES {
                return Err(TlsError::from(rustls::Error::General("it is too long".to_owned())).into());
            }
        }
        self.socket.set_tls(TlsSession::new(connection).map_err(TlsError::from)?);
        Ok(())
    }

    /// Sends what the handshake has to send.
    async fn send_handshake(&mut self, connection: &mut Connection) -> Result<(), NegotiationError> {
        let mut out = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut out)?;
        }
        self.send_bytes(out.into()).await
    }

    /// Receives bytes of the handshake into the buffer. Returns how many.
    async fn receive_handshake(&mut self) -> Result<usize, NegotiationError> {
        self.wait_for_data().await?;
        Ok(self.buffer.len())
    }
}

/// Has `connection` process what was `received`, on a thread for blocking tasks: the signature and the key exchange
/// take a quarter of a millisecond, for which the streams of a worker would stand still. Returns the connection and the
/// result.
///
/// # Errors
/// The runtime is shutting down.
async fn process(
    mut connection: Connection,
    received: BytesMut,
) -> Result<(Connection, Result<(), rustls::Error>), NegotiationError> {
    let Ok(permit) = COMPUTING.acquire().await else { return Err(NegotiationError::Closed) };
    let work = move || {
        let _permit = permit;
        let mut unread = &received[..];
        let mut result = Ok(());
        while result.is_ok() && !unread.is_empty() {
            result = match connection.read_tls(&mut unread) {
                Ok(_) => connection.process_new_packets().map(|_| ()),
                Err(error) => Err(rustls::Error::General(error.to_string())),
            };
        }
        (connection, result)
    };
    spawn_blocking(work).await.map_err(|_| NegotiationError::Closed)
}
