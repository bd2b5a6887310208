//! The arguments that name the services of a proxy, and its servers.

use std::{
    collections::{HashMap, hash_map::Entry},
    slice,
};

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
    /// Public port to request, 0 for any free one, and the target to connect to for each of its streams. Repeat it for
    /// several services, which share the channels to the server. Options of one service follow behind commas:
    /// allow=CIDR, which takes the place of --allow, deny=CIDR, in addition to --deny, and proxy-protocol=v1|v2
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
    /// Send the targets a header of the PROXY protocol with the user's address and the public address, before the
    /// user's first byte; they have to expect it (nginx: listen … proxy_protocol, HAProxy: accept-proxy) [default:
    /// none]
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
    let (port, group) = public(key)?;
    let target = host_port(target).map_err(|error| format!("target: {error}"))?;
    let mut service = ServiceArg::new(port, group, target);
    for option in parts {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if !OPTIONS.contains(&name) {
            return Err(UnknownKey::new(name, OPTIONS).to_string());
        }
        service.set_option(name, value).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(service)
}

/// Parses the public port of a service, `PORT[:GROUP]`.
fn public(text: &str) -> Result<(u16, Option<Group>), String> {
    let (port, group) = text.split_once(':').map_or((text, None), |(port, group)| (port, Some(group)));
    let group = group.map(|group| group.parse::<Group>().map_err(|error| error.to_string())).transpose()?;
    Ok((public_port(port)?, group))
}

impl ServiceArg {
    /// Sets one of the [`OPTIONS`] from its text.
    fn set_option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let network = || value.parse().map_err(|error: NetworkError| error.to_string());
        match name {
            "allow" => self.allow.push(network()?),
            "deny" => self.deny.push(network()?),
            _ => {
                let version = ProxyProtocolVersion::from_str(value, false);
                self.proxy_protocol = Some(version.map_err(|_| "expected v1 or v2")?);
            }
        }
        Ok(())
    }
}

/// The options of one service.
const OPTIONS: [&str; 3] = ["allow", "deny", "proxy-protocol"];

/// The keys of a table `[[service]]`.
pub(super) const KEYS: [&str; 5] = ["public", "to", OPTIONS[0], OPTIONS[1], OPTIONS[2]];

/// The keys of a table `[[service]]` that it must have, each with an example.
const REQUIRED: [(&str, &str); 2] = [("public", "8080 or \"8080:group\""), ("to", "\"127.0.0.1:80\"")];

/// What the keys of a service are called in the files of other programs.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("port", "public"),
    ("remote-port", "public"),
    ("remotePort", "public"),
    ("bind_addr", "public"),
    ("target", "to"),
    ("localPort", "to"),
    ("local_addr", "to"),
    ("local-port", "to"),
];

/// Returns the values of `--service` for the tables `[[service]]` of a file, each with the line of the table.
///
/// # Errors
/// Keys that are missing or unknown, values that they cannot have, and a port that two services request.
pub(super) fn table_values(tables: &[RawTable]) -> Result<Vec<(usize, String)>, Vec<Mistake>> {
    let (mut values, mut mistakes) = (Vec::new(), Vec::new());
    let mut ports: HashMap<u16, (usize, usize)> = HashMap::new();
    for (index, table) in tables.iter().enumerate() {
        let place = format!("service {}", index + 1);
        match table_value(&place, table) {
            Ok(value) => values.push((table.line, value)),
            Err(wrong) => mistakes.extend(wrong),
        }
        let Some((line, Ok((port @ 1.., _)))) =
            text_of(table, "public").map(|(line, text)| (line, public(text)))
        else {
            continue;
        };
        match ports.entry(port) {
            Entry::Vacant(entry) => _ = entry.insert((index + 1, line)),
            Entry::Occupied(entry) => {
                let (other, other_line) = entry.get();
                let why = format!(
                    "service {other} requests port {port}, too (line {other_line}): give each its own, or 0 for any free one"
                );
                mistakes.push(Mistake::at(line, format!("{place}: public"), why));
            }
        }
    }
    if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
}

/// Returns the text of a key of a table, and its line; `None` if it has none.
fn text_of<'a>(table: &'a RawTable, name: &str) -> Option<(usize, &'a str)> {
    let key = table.get(name)?;
    if let RawValue::Text(text) = &key.value { Some((key.line, text)) } else { None }
}

/// Returns the value of `--service` for one table `[[service]]`.
fn table_value(place: &str, table: &RawTable) -> Result<String, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let (mut value, mut checked) = (String::new(), ServiceArg::new(0, None, String::new()));
    for ((name, example), separator) in REQUIRED.into_iter().zip(["", "="]) {
        let (line, why) = match (table.get(name), text_of(table, name)) {
            (None, _) => (table.line, format!("it is missing: write {name} = {example}")),
            (Some(key), None) => (key.line, format!("expected {example}")),
            (_, Some((line, text))) => {
                let wrong = if name == "to" { host_port(text).err() } else { public(text).err() };
                value += &format!("{separator}{text}");
                let Some(why) = wrong else { continue };
                (line, why)
            }
        };
        mistakes.push(Mistake::at(line, format!("{place}: {name}"), why));
    }
    for key in table.keys.iter().filter(|key| REQUIRED.iter().all(|(name, _)| *name != key.name)) {
        let name = &key.name;
        let texts = match &key.value {
            _ if !OPTIONS.contains(&&name[..]) => {
                let mut unknown = Mistake::unknown(key.line, place, name, KEYS);
                if let Some((_, ours)) = OTHER_NAMES.iter().find(|(theirs, _)| theirs == name) {
                    unknown.why += &format!("; did you mean «{ours}»?");
                    // It may be a key of the whole file, too.
                    unknown.unknown_key = None;
                }
                mistakes.push(unknown);
                continue;
            }
            RawValue::Text(text) => slice::from_ref(text),
            RawValue::List(texts) => texts.as_slice(),
            _ => {
                mistakes.push(Mistake::at(key.line, format!("{place}: {name}"), "expected a text or a list"));
                continue;
            }
        };
        for text in texts {
            value += &format!(",{name}={text}");
            if let Err(why) = checked.set_option(name, text) {
                mistakes.push(Mistake::at(key.line, format!("{place}: {name}"), why));
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
