//! Why a proxy gives up, and why a link to a server ended or could not be established.

use std::{io, time::Duration};

use crate::{
    net::{ConnectError, NegotiationError},
    tls::TlsError,
    wire::{ErrorCode, handshake::HandshakeError},
};

/// Why a proxy gives up: the server has refused it twice in a row, before the first success, for a reason that only an
/// operator can remove. All other failures are retried.
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
    /// The certificate of the server does not verify.
    #[error("TLS handshake with {server} failed: {source}")]
    Tls {
        /// The address of the server, `HOST:PORT`.
        server: String,
        /// What is wrong with the certificate, and what to do.
        source: TlsError,
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
    #[error("the server refused the registration: {reason}")]
    Registration {
        /// The code by which the proxy decides whether to ask again; `None` if the server sent none that is known.
        code: Option<ErrorCode>,
        /// The reason that the server sent, for people.
        reason: String,
    },
    /// The server is of a version that cannot refuse users by their network.
    #[error("the server is too old for --allow and --deny")]
    NetworksNotSupported,
    /// The server accepted the registration with something that is no service.
    #[error("the server answered the registration with «{0}» instead of PORT:GROUP")]
    InvalidAnswer(String),
    /// The handshake or the registration took longer than this.
    #[error("timeout: the server did not answer within {0:?}")]
    Timeout(Duration),
    /// All channels were lost, and the link was not resumed within the grace period.
    #[error("all channels were lost and the link was not resumed in time")]
    Lost,
    /// The server drains, and sent GOAWAY within a second after it accepted the registration.
    #[error("the server is draining")]
    GoAway,
    /// The server asked for another link within a second after it accepted the registration.
    #[error("the server replaces the link")]
    Replaced,
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

    /// Returns whether the server does not know the link that the proxy wants to join or resume.
    pub(super) fn is_unknown_link(&self) -> bool {
        matches!(self, Self::Negotiation(NegotiationError::Refused(error)) if error.is_unknown_link())
    }

    /// Returns whether the proxy does not accept the certificate of the server.
    pub(super) fn is_certificate_refused(&self) -> bool {
        matches!(self, Self::Negotiation(NegotiationError::Tls(error)) if error.concerns_certificate())
    }

    /// Converts a refusal by `server` that only an operator can remove to the error with which the proxy ends.
    ///
    /// A refusal without a known code is not taken for one: corruption in transit looks like it. A server of another program,
    /// or of an older version, is therefore asked again for ever, also with a wrong token.
    ///
    /// # Errors
    /// The error itself if it is transient: an I/O error, or a refusal whose reason may end by itself.
    pub(super) fn into_permanent(self, server: &str, port: u16) -> Result<ProxyError, Self> {
        let server = server.to_owned();
        match self {
            Self::Negotiation(NegotiationError::Refused(source)) if source.is_permanent() => {
                Ok(ProxyError::Refused { server, source })
            }
            Self::Negotiation(NegotiationError::Tls(source)) if source.is_permanent() => {
                Ok(ProxyError::Tls { server, source })
            }
            Self::Registration { code: Some(code), reason } if code.is_permanent() => {
                Ok(ProxyError::Registration { server, port, reason })
            }
            error @ Self::NetworksNotSupported => {
                let reason = format!("{error}: upgrade it, or leave these options out");
                Ok(ProxyError::Registration { server, port, reason })
            }
            error => Err(error),
        }
    }
}
