//! The arguments that name the services of a proxy, and its servers.

use clap::{Args, ValueEnum as _};

use super::{host_port::host_port, networks::NetworkArgs, values::public_port};
use crate::{
    config::{Mistake, RawTable, RawValue, ServiceConfig, UnknownKey},
    ids::{Group, Network, NetworkError, ProxyProtocolVersion, ServiceKey},
    tls::Fingerprint,
};

/// What the proxy serves.
#[derive(Debug, Args)]
pub(super) struct ServiceArgs {
    /// Public port to request, 0 for any free one, and the target to connect to for each of its streams. Repeat it for several
    /// services, which share the channels to the server. Options of one service follow behind commas: allow=CIDR, which takes the
    /// place of --allow, deny=CIDR, in addition to --deny, and proxy-protocol=v1|v2
    #[arg(long = "service", value_name = "PORT[:GROUP]=HOST:PORT[,OPTION…]", value_parser = service)]
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
    proxy_protocol: Option<ProxyProtocolVersion>,
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
    /// The networks that its users are admitted from; empty: as for all services.
    allow: Vec<Network>,
    /// The networks that its users are refused from, beside those of all services.
    deny: Vec<Network>,
    /// The version of the PROXY protocol, if one is given.
    proxy_protocol: Option<ProxyProtocolVersion>,
}

impl ServiceArg {
    /// Creates a service that admits the users of all services.
    fn new(port: u16, group: Option<Group>, target: String) -> Self {
        Self { port, group, target, allow: Vec::new(), deny: Vec::new(), proxy_protocol: None }
    }
}

impl ServiceArgs {
    /// Returns the services.
    ///
    /// # Errors
    /// There are too many networks.
    pub(super) fn services(&self) -> Result<Vec<ServiceConfig>, NetworkError> {
        let only = self.port.zip(self.to.clone()).map(|(port, target)| ServiceArg::new(port, None, target));
        let all = self.services.iter().cloned().chain(only).map(|service| {
            let group = service.group.unwrap_or_else(|| self.group.clone());
            Ok(ServiceConfig {
                user_networks: self.networks.networks_with(&service.allow, &service.deny)?,
                proxy_protocol: service.proxy_protocol.or(self.proxy_protocol),
                ..ServiceConfig::new(ServiceKey { port: service.port, group }, service.target)
            })
        });
        all.collect()
    }
}

/// Parses a service, `PORT[:GROUP]=HOST:PORT[,OPTION=VALUE]…`.
fn service(text: &str) -> Result<ServiceArg, String> {
    let mut parts = text.split(',');
    let text = parts.next().unwrap_or_default();
    let Some((key, target)) = text.split_once('=') else {
        return Err("the target is missing: write PORT=HOST:PORT, such as 8080=127.0.0.1:80".to_owned());
    };
    let (port, group) = match key.split_once(':') {
        None => (key, None),
        Some((port, group)) => (port, Some(group.parse::<Group>().map_err(|error| error.to_string())?)),
    };
    let target = host_port(target).map_err(|error| format!("target: {error}"))?;
    let mut service = ServiceArg::new(public_port(port)?, group, target);
    for option in parts {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let network = || value.parse().map_err(|error: NetworkError| format!("{name}: {error}"));
        match name {
            "allow" => service.allow.push(network()?),
            "deny" => service.deny.push(network()?),
            "proxy-protocol" => {
                let version = ProxyProtocolVersion::from_str(value, false);
                service.proxy_protocol = Some(version.map_err(|_| "proxy-protocol: expected v1 or v2")?);
            }
            name => {
                let unknown = UnknownKey::new(name, ["allow", "deny", "proxy-protocol"]);
                return Err(unknown.to_string());
            }
        }
    }
    Ok(service)
}

/// The keys of a table `[[service]]`.
const KEYS: [&str; 5] = ["public", "to", "allow", "deny", "proxy-protocol"];

/// Returns the value of `--service` for the `index`-th table `[[service]]` of a file, from 0. Its parser checks the values.
///
/// # Errors
/// Keys that are missing, unknown, or of another type.
pub(super) fn table_value(index: usize, table: &RawTable) -> Result<String, Vec<Mistake>> {
    let place = format!("service {}", index + 1);
    let mut mistakes = Vec::new();
    let mut value = String::new();
    for (required, separator, example) in
        [("public", "", "8080 or \"8080:group\""), ("to", "=", "\"127.0.0.1:80\"")]
    {
        match table.get(required).map(|key| (key.line, &key.value)) {
            Some((_, RawValue::Text(text))) => value += &format!("{separator}{text}"),
            Some((line, _)) => {
                mistakes.push(Mistake::at(
                    line,
                    format!("{place}: {required}"),
                    format!("expected {example}"),
                ));
            }
            None => {
                let why = format!("it is missing: write {required} = {example}");
                mistakes.push(Mistake::at(table.line, format!("{place}: {required}"), why));
            }
        }
    }
    for key in table.keys.iter().filter(|key| !["public", "to"].contains(&&key.name[..])) {
        let name = &key.name;
        match &key.value {
            _ if !KEYS.contains(&&name[..]) => {
                mistakes.push(Mistake::unknown(key.line, &place, name, KEYS));
            }
            RawValue::Text(text) => value += &format!(",{name}={text}"),
            RawValue::List(texts) => texts.iter().for_each(|text| value += &format!(",{name}={text}")),
            _ => {
                mistakes.push(Mistake::at(key.line, format!("{place}: {name}"), "expected a text or a list"))
            }
        }
    }
    if mistakes.is_empty() { Ok(value) } else { Err(mistakes) }
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
