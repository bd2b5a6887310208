//! Why a proxy gives up, and why a link to a server ended or could not be established.

use std::{fmt, io, time::Duration};

use super::service_list::ServiceEntry;
use crate::{
    net::{ConnectError, NegotiationError},
    tls::TlsError,
    wire::{ErrorCode, handshake::HandshakeError},
};

/// Why a proxy gives up: each of its servers has refused it twice in a row, before the first success, for a reason that
/// only an operator can remove. All other failures are retried.
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
    /// The server refused the registration of every service.
    #[error("{server} refused {refused}")]
    Registration {
        /// The address of the server, `HOST:PORT`.
        server: String,
        /// The services, and why.
        refused: RefusedServices,
    },
}

/// Why a server does not serve one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The reason that the server sent, for people.
    pub(super) reason: String,
    /// Whether only an operator can remove it.
    pub(super) is_permanent: bool,
}

impl Refusal {
    /// Creates the refusal with this code, `None` if the server sent none that is known, and this reason.
    pub(super) fn new(code: Option<ErrorCode>, reason: String) -> Self {
        // A refusal without a known code is not taken for a permanent one: corruption in transit looks like it.
        Self { reason, is_permanent: code.is_some_and(ErrorCode::is_permanent) }
    }

    /// Returns the refusal of a service whose port is that of another one of this proxy.
    pub(super) fn port_of_another(port: u16, name: &str) -> Self {
        let reason = format!("public port {port} is that of service {name} of this proxy");
        Self { reason, is_permanent: false }
    }

    /// Returns the refusal of a service with networks by a server that cannot refuse users by their network.
    pub(super) fn networks_not_supported() -> Self {
        let reason = "the server is too old for --allow and --deny: upgrade it, or leave these options out";
        Self { reason: reason.to_owned(), is_permanent: true }
    }
}

/// A service that a server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceRefusal {
    /// The requested port; 0 stands for any.
    port: u16,
    /// The name of the service.
    name: String,
    /// Why it was refused.
    refusal: Refusal,
}

impl ServiceRefusal {
    /// Creates the refusal of a service.
    pub(super) fn new(entry: &ServiceEntry, refusal: Refusal) -> Self {
        Self { port: entry.config.key.port, name: entry.name(), refusal }
    }
}

impl fmt::Display for ServiceRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is refused: {}", self.name, self.refusal.reason)
    }
}

/// How many refused services a message names.
const MAX_NAMED: usize = 3;

/// All services of a proxy, which one server has refused. The text is the end of a sentence: `public port 22: REASON`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedServices(pub(super) Vec<ServiceRefusal>);

impl RefusedServices {
    /// Returns the reason for which the first service was refused.
    pub fn reason(&self) -> &str {
        self.0.first().map_or("", |first| &first.refusal.reason)
    }

    /// Returns whether only an operator can remove the reasons.
    fn is_permanent(&self) -> bool {
        self.0.iter().all(|refused| refused.refusal.is_permanent)
    }
}

impl fmt::Display for RefusedServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &self.0[..] {
            return write!(f, "public port {}: {}", only.port, only.refusal.reason);
        }
        write!(f, "all {} services", self.0.len())?;
        for (index, refused) in self.0.iter().take(MAX_NAMED).enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{}: {}", refused.name, refused.refusal.reason)?;
        }
        match self.0.len().saturating_sub(MAX_NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
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
    /// The server refused every service.
    #[error("the server refused {0}")]
    Registration(RefusedServices),
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
    /// The link cannot register the services of the changed configuration.
    #[error("the services have changed")]
    Outdated,
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
    /// # Errors
    /// The error itself if it is transient: an I/O error, or a refusal whose reason may end by itself. A server of
    /// another program, or of an older version, is therefore asked again for ever, also with a wrong token.
    pub(super) fn into_permanent(self, server: &str) -> Result<ProxyError, Self> {
        let server = server.to_owned();
        match self {
            Self::Negotiation(NegotiationError::Refused(source)) if source.is_permanent() => {
                Ok(ProxyError::Refused { server, source })
            }
            Self::Negotiation(NegotiationError::Tls(source)) if source.is_permanent() => {
                Ok(ProxyError::Tls { server, source })
            }
            Self::Registration(refused) if refused.is_permanent() => {
                Ok(ProxyError::Registration { server, refused })
            }
            error => Err(error),
        }
    }
}
