//! Why a proxy gives up, and why a link to a server ended or could not be established.

use std::{io, time::Duration};

use crate::{
    net::{ConnectError, NegotiationError},
    wire::handshake::HandshakeError,
};

/// Why a proxy gives up. Failures that may be temporary are retried instead.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// One side could not prove to the other that it knows the token, or they speak different protocol versions.
    #[error("handshake with {server} failed: {source}")]
    Refused {
        /// The address of the server, `HOST:PORT`.
        server: String,
        /// The error of the handshake.
        source: HandshakeError,
    },
    /// The server refused the registration for the public port.
    #[error("{server} refused public port {port}: {reason}")]
    Registration {
        /// The address of the server, `HOST:PORT`.
        server: String,
        /// The public port that the proxy asked for; 0 stands for any.
        port: u16,
        /// The reason that the server sent.
        reason: String,
    },
}

/// Why a link to the server ended, or could not be established.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServerLinkError {
    /// No TCP connection could be established.
    #[error("cannot establish a TCP connection: {0}")]
    Connect(ConnectError),
    /// The handshake failed.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The server answered the registration with ERROR.
    #[error("the server refused the registration: {0}")]
    Registration(String),
    /// The handshake or the registration took longer than this.
    #[error("timeout: the server did not answer within {0:?}")]
    Timeout(Duration),
    /// All channels were lost, and the link was not resumed within the grace period.
    #[error("all channels were lost and the link was not resumed in time")]
    Lost,
    /// The server drains, and sent GOAWAY within a second after it accepted the registration.
    #[error("the server is draining")]
    GoAway,
}

impl ServerLinkError {
    /// Returns whether the attempt failed because packets were lost or could not be sent, and not because the server
    /// refused it.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_local() || error.kind() == io::ErrorKind::TimedOut,
            Self::Timeout(_) => true,
            _ => false,
        }
    }
}
