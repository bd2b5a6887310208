//! The services of a proxy: public ports and their targets.

use std::collections::HashSet;

use super::proxy_format::ProxyFormat;
use crate::ids::{ProxyProtocolVersion, ServiceKey, UserNetworks};

/// One service of a proxy: a public port, and what its streams are connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// The requested public port (0: any free port) and group.
    pub key: ServiceKey,
    /// The address that the proxy connects to for each stream, `HOST:PORT`.
    pub target: String,
    /// The users that the proxy admits to the service, by their networks. The server refuses all others.
    pub user_networks: UserNetworks,
    /// The version of the PROXY protocol in which the target receives the user's address and the public address; `None`
    /// if it receives none.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
}

/// Services that one proxy cannot have together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServicesError {
    /// There is none.
    #[error("no service: a proxy needs at least one public port with its target")]
    None,
    /// There are more than a server accepts.
    #[error("{0} services: one proxy has at most {max}; start another one for the others", max = ServiceConfig::MAX)]
    TooMany(usize),
    /// The text format carries the streams of one service only.
    #[error(
        "{0} services with --format text, in which a stream does not name its port: use --format binary, or start a proxy for each"
    )]
    TextFormat(usize),
    /// Two services request the same public port, of which only one target could get the streams.
    #[error("public port {0} is requested by two services: give each its own, or 0 for any free one")]
    SamePort(u16),
}

impl ServiceConfig {
    /// The most services of one proxy: an open port and a task of the server each.
    pub const MAX: usize = 1024;

    /// Creates the service of this port and group with this `target`; it admits all users.
    pub fn new(key: ServiceKey, target: impl Into<String>) -> Self {
        Self { key, target: target.into(), user_networks: UserNetworks::default(), proxy_protocol: None }
    }

    /// Checks that one proxy that speaks this format can have all of these services.
    ///
    /// # Errors
    /// [`ServicesError`] says why it cannot.
    pub fn check_all(services: &[Self], format: ProxyFormat) -> Result<(), ServicesError> {
        if format == ProxyFormat::Text && services.len() > 1 {
            return Err(ServicesError::TextFormat(services.len()));
        }
        match services.len() {
            0 => return Err(ServicesError::None),
            len if len > Self::MAX => return Err(ServicesError::TooMany(len)),
            _ => {}
        }
        let mut ports = HashSet::new();
        let requested = services.iter().map(|service| service.key.port).filter(|&port| port != 0);
        for port in requested {
            if !ports.insert(port) {
                return Err(ServicesError::SamePort(port));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
