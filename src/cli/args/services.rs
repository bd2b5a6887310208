//! The arguments that name the services of a proxy, and its servers.

use clap::Args;

use super::{host_port::host_port, networks::NetworkArgs, values::public_port};
use crate::{
    config::ServiceConfig,
    ids::{Group, NetworkError, ProxyProtocolVersion, ServiceKey, UserNetworks},
    tls::Fingerprint,
};

/// What the proxy serves.
#[derive(Debug, Args)]
pub(super) struct ServiceArgs {
    /// Public port to request, 0 for any free one, and the target to connect to for each of its streams. Repeat it for several
    /// services, which share the channels to the server
    #[arg(long = "service", value_name = "PORT[:GROUP]=HOST:PORT", value_parser = service)]
    services: Vec<ServiceArg>,
    /// Public port to request, in place of --service for a single one; 0 for any free one
    #[arg(
        long,
        value_name = "PORT",
        value_parser = public_port,
        requires = "to",
        required_unless_present = "services",
        conflicts_with = "services"
    )]
    port: Option<u16>,
    /// Target to connect to for each stream of --port
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_parser = host_port,
        requires = "port",
        required_unless_present = "services",
        conflicts_with = "services"
    )]
    to: Option<String>,
    /// Group of proxies that share the public port; applies to each service that names none
    #[arg(long, value_name = "NAME", default_value_t)]
    group: Group,
    /// The users that are admitted to all services
    #[command(flatten)]
    networks: NetworkArgs,
    /// Send the targets a header of the PROXY protocol with the user's address and the public address, before the user's
    /// first byte; they have to expect it (nginx: listen … proxy_protocol, HAProxy: accept-proxy) [default: none]
    #[arg(long, value_enum, value_name = "VERSION")]
    pub(super) proxy_protocol: Option<ProxyProtocolVersion>,
}

/// A service as the command line names it.
#[derive(Debug, Clone)]
struct ServiceArg {
    /// The public port; 0 for any free one.
    port: u16,
    /// The group, if one is given.
    group: Option<Group>,
    /// The target, `HOST:PORT`.
    target: String,
}

impl ServiceArgs {
    /// Returns the users that are admitted to all services.
    ///
    /// # Errors
    /// There are too many networks.
    pub(super) fn networks(&self) -> Result<UserNetworks, NetworkError> {
        self.networks.networks()
    }

    /// Returns the services.
    ///
    /// # Errors
    /// There are too many networks.
    pub(super) fn services(&self) -> Result<Vec<ServiceConfig>, NetworkError> {
        let user_networks = self.networks.networks()?;
        let only =
            self.port.zip(self.to.clone()).map(|(port, target)| ServiceArg { port, group: None, target });
        let all = self.services.iter().cloned().chain(only).map(|ServiceArg { port, group, target }| {
            let group = group.unwrap_or_else(|| self.group.clone());
            ServiceConfig {
                user_networks: user_networks.clone(),
                proxy_protocol: self.proxy_protocol,
                ..ServiceConfig::new(ServiceKey { port, group }, target)
            }
        });
        Ok(all.collect())
    }
}

/// Parses a service, `PORT[:GROUP]=HOST:PORT`.
fn service(text: &str) -> Result<ServiceArg, String> {
    let Some((key, target)) = text.split_once('=') else {
        return Err("the target is missing: write PORT=HOST:PORT, such as 8080=127.0.0.1:80".to_owned());
    };
    let (port, group) = match key.split_once(':') {
        None => (key, None),
        Some((port, group)) => (port, Some(group.parse::<Group>().map_err(|error| error.to_string())?)),
    };
    let target = host_port(target).map_err(|error| format!("target: {error}"))?;
    Ok(ServiceArg { port: public_port(port)?, group, target })
}

/// A server as the command line names it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct ServerArg {
    /// The address of its tunnel port, `HOST:PORT`.
    pub(super) address: String,
    /// The fingerprints that its key may have; empty if it is verified as the other options say.
    pub(super) fingerprints: Vec<Fingerprint>,
}

/// Parses a server, `HOST:PORT[#FINGERPRINT[,FINGERPRINT]]`.
pub(super) fn server(text: &str) -> Result<ServerArg, String> {
    // What looks like a URL is refused as a whole, with its own message.
    let split = text.split_once('#').filter(|_| !text.contains("://"));
    let (address, fingerprints) = split.unwrap_or((text, ""));
    let parse = |text: &str| text.parse::<Fingerprint>().map_err(|error| error.to_string());
    let fingerprints = match split {
        Some(_) => fingerprints.split(',').map(parse).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Ok(ServerArg { address: host_port(address)?, fingerprints })
}
