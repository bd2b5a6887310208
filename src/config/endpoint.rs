//! The servers of a proxy: their addresses, and how each is verified.

use std::{fmt, net::IpAddr};

use super::proxy_format::ProxyFormat;
use crate::tls::ClientTls;

/// One server of a proxy.
#[derive(Debug, Clone)]
pub struct ServerEndpoint {
    /// The server's tunnel port, `HOST:PORT`.
    pub address: String,
    /// TLS to the server; `None` connects without TLS.
    pub tls: Option<ClientTls>,
    /// Whether users' data may cross the network to it in clear text, and the token reach it although it is not
    /// verified.
    pub insecure: bool,
}

impl ServerEndpoint {
    /// Creates the endpoint of a server that is connected to without TLS.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), tls: None, insecure: false }
    }

    /// Returns what connecting to the server in this format would expose although the settings do not permit it;
    /// `None` if nothing.
    pub fn exposure(&self, format: ProxyFormat) -> Option<Exposure> {
        let is_verified = self.tls.as_ref().map(ClientTls::verifies_certificate);
        Exposure::of(&self.address, is_verified, format).filter(|_| !self.insecure)
    }
}

/// What connecting to a server would show to other hosts of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// All that users send and receive, because the connection has no TLS.
    ClearText,
    /// The token, which the text format sends, to a server that is not verified.
    Token,
}

impl Exposure {
    /// Returns what connecting to `address` would expose; `None` if nothing, or if that is on this machine.
    /// `is_verified` says whether the certificate is verified, and is `None` without TLS.
    pub fn of(address: &str, is_verified: Option<bool>, format: ProxyFormat) -> Option<Self> {
        match is_verified {
            _ if is_this_machine(address) => None,
            None => Some(Self::ClearText),
            Some(false) if format == ProxyFormat::Text => Some(Self::Token),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClearText => {
                "everything that users send and receive would cross the network in clear text, to be read and changed by any \
                 host on the path"
            }
            Self::Token => {
                "--format text sends the token itself, and an attacker who intercepts the connection would learn it"
            }
        })
    }
}

/// Returns whether `HOST:PORT` is certainly on this machine: a loopback address, or a name of `localhost`, which
/// resolves to one (RFC 6761).
fn is_this_machine(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}
