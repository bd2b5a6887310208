//! What an operator can set, proved once: nothing behind this room has to ask whether a value makes sense.
//!
//! Secrets are not kept here: the token goes from the command line straight to where it is used.

mod cockpit;
mod ports;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

pub use cockpit::{CockpitFile, CockpitFileError};
pub use ports::{PortRange, PortRangeError};

use crate::ids::{Policy, ServiceKey};

/// Who may register a proxy in the text format, which carries the token in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextProxies {
    /// Nobody.
    Off,
    /// Programs on this machine.
    Loopback,
    /// Anybody who has the token.
    Anywhere,
}

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where proxies connect to.
    pub listen: SocketAddr,
    /// The address that public ports are opened on.
    pub bind: IpAddr,
    /// The ports that a proxy may ask for.
    pub allowed_ports: PortRange,
    /// Who may register in the text format.
    pub text_proxies: TextProxies,
    /// Whether a text proxy on this machine may register without the token, as programs older than the token do.
    pub text_without_token: bool,
    /// How a service gives its streams to its proxies, until the operator says otherwise.
    pub default_policy: Policy,
    /// How long a user waits for a proxy when none is there.
    pub proxy_wait_timeout: Duration,
    /// How long a proxy of the binary format may take to say that the target of a stream is there, or is not.
    pub open_timeout: Duration,
    /// How long a handshake may take in all.
    pub handshake_timeout: Duration,
    /// How long streams wait for a proxy that has lost every channel.
    pub grace_period: Duration,
    /// How long open streams may go on after the server was asked to end.
    pub drain_timeout: Duration,
    /// Whether another server may listen on the same ports, so that one takes over from the other.
    pub reuse_port: bool,
    /// Where proxies are sent when the server ends, `HOST:PORT`; to where they came from if nowhere.
    pub successor: Option<String>,
    /// How long a user keeps its id after its last connection has ended.
    pub user_id_retention: Duration,
    /// How long a public port stays open without a proxy.
    pub idle_service_timeout: Duration,
    /// The first receive window of a stream, in bytes. It grows where bandwidth and delay ask for it.
    pub initial_window: u32,
    /// What the windows of all streams together may grow by, in bytes.
    pub window_budget: u64,
    /// The most bytes of a stream that go out together, so that another gets its turn; by how fast a channel is where
    /// it is not given.
    pub max_chunk: Option<usize>,
    /// Whether one stream may use several channels of its proxy at once.
    pub stripe: bool,
    /// Whether to read what streams carry from their first bytes.
    pub inspect_protocols: bool,
    /// How many user connections there may be at once.
    pub max_streams: usize,
    /// How many connections may be in their handshake at once.
    pub max_pending_handshakes: usize,
    /// How many connections from one client address may be in their handshake at once.
    pub max_pending_per_ip: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 7000).into(),
            bind: Ipv4Addr::UNSPECIFIED.into(),
            allowed_ports: PortRange::default(),
            text_proxies: TextProxies::Loopback,
            text_without_token: false,
            default_policy: Policy::default(),
            proxy_wait_timeout: Duration::from_secs(5),
            // Longer than a proxy gives its target.
            open_timeout: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(5),
            grace_period: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            reuse_port: false,
            successor: None,
            user_id_retention: Duration::from_secs(5),
            idle_service_timeout: Duration::from_secs(30),
            initial_window: 256 * 1024,
            window_budget: 1 << 30,
            max_chunk: None,
            stripe: true,
            inspect_protocols: true,
            max_streams: 50_000,
            max_pending_handshakes: 1024,
            max_pending_per_ip: 256,
        }
    }
}

/// Which format a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFormat {
    /// The binary format: several channels, credit for each stream, the token never on the wire.
    Binary,
    /// Lines of text, on one channel.
    Text,
}

/// How a proxy behaves.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The server's tunnel port, `HOST:PORT`.
    pub server: String,
    /// The public port it asks for (0: any free one) and its group.
    pub service: ServiceKey,
    /// What it dials for each stream, `HOST:PORT`.
    pub target: String,
    /// What it calls itself.
    pub name: String,
    /// How many channels it keeps.
    pub channels: u16,
    /// The share of new streams that it asks for beside other proxies; 1 where it does not say.
    pub weight: Option<u32>,
    /// What it speaks.
    pub format: ProxyFormat,
    /// As on the server.
    pub max_chunk: Option<usize>,
    /// How long open streams may go on after the proxy was asked to end.
    pub drain_timeout: Duration,
    /// As on the server.
    pub stripe: bool,
    /// How long dialling the target may take.
    pub dial_timeout: Duration,
    /// The first wait before the proxy reconnects.
    pub min_backoff: Duration,
    /// The longest wait before the proxy reconnects.
    pub max_backoff: Duration,
}

impl ProxyConfig {
    /// The most channels one proxy may have.
    pub const MAX_CHANNELS: u16 = 64;

    /// A proxy with the usual settings.
    pub fn new(server: impl Into<String>, service: ServiceKey, target: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            service,
            target: target.into(),
            name: String::new(),
            channels: 2,
            weight: None,
            format: ProxyFormat::Binary,
            max_chunk: None,
            drain_timeout: Duration::from_secs(10),
            stripe: true,
            dial_timeout: Duration::from_secs(10),
            min_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(15),
        }
    }
}
