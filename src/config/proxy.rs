//! Settings of a proxy.

use std::time::Duration;

use super::{
    congestion::CongestionControl,
    endpoint::ServerEndpoint,
    proxy_format::ProxyFormat,
    server::ServerConfig,
    services::{ServiceConfig, ServicesError},
};
use crate::{ids::ServiceKey, tls::ClientTls};

/// How many channels a proxy keeps established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelCount {
    /// Between [`MIN_AUTO`](Self::MIN_AUTO) and [`MAX_AUTO`](Self::MAX_AUTO), as many as the path needs: more where its
    /// RTT is long, or packet loss keeps a single TCP connection below its rate.
    Auto,
    /// This number, whatever the path needs.
    Fixed(u16),
}

impl ChannelCount {
    /// The fewest channels with [`Auto`](Self::Auto): the streams survive the loss of one of two, and an interactive
    /// stream need not share a channel with a bulk transfer.
    pub const MIN_AUTO: u16 = 2;
    /// The most channels with [`Auto`](Self::Auto). Each is a port mapping of the proxy's NAT, and a carrier-grade NAT
    /// has some hundred to two thousand for a customer with all devices (RFC 6888).
    pub const MAX_AUTO: u16 = 8;

    /// Returns the fewest channels of a link.
    pub fn fewest(self) -> u16 {
        match self {
            Self::Auto => Self::MIN_AUTO,
            Self::Fixed(count) => count,
        }
    }

    /// Returns the most channels with [`Auto`](Self::Auto); `None` for a fixed number.
    pub fn max_auto(self) -> Option<u16> {
        (self == Self::Auto).then_some(Self::MAX_AUTO)
    }

    /// Returns the number of channels, within the limits, that is closest to `wanted`.
    pub fn limit(self, wanted: u16) -> u16 {
        match self {
            Self::Auto => wanted.clamp(Self::MIN_AUTO, Self::MAX_AUTO),
            Self::Fixed(count) => count,
        }
    }
}

/// Settings of a proxy.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The servers, each with another address. The proxy serves the users of all of them.
    pub servers: Vec<ServerEndpoint>,
    /// The services that every server is asked for; valid together ([`check_services`](Self::check_services)).
    pub services: Vec<ServiceConfig>,
    /// The proxy's display name; empty lets the server use the proxy's id.
    pub name: String,
    /// How many channels the proxy keeps established.
    pub channels: ChannelCount,
    /// The requested load-balancing weight for all services; `None` keeps the server's default of 1.
    pub weight: Option<u32>,
    /// The format in which the proxy speaks.
    pub format: ProxyFormat,
    /// The most streams of all servers and services that may be open at the same time; further ones are refused, and
    /// the server offers them to other proxies.
    pub max_streams: usize,
    /// The memory budget of the buffers of all streams together, in bytes.
    pub memory_budget: u64,
    /// The largest payload of a DATA frame, in bytes; `None` derives it from the rate of the channel.
    pub max_chunk: Option<usize>,
    /// How long open streams may continue after the proxy was asked to stop.
    pub drain_timeout: Duration,
    /// Whether one stream may use several channels at the same time (multipath striping).
    pub stripe: bool,
    /// Which congestion control the kernel uses for channels.
    pub congestion: CongestionControl,
    /// How long connecting to the target may take.
    pub dial_timeout: Duration,
    /// The initial backoff before the proxy reconnects; a successful connection resets the backoff to it.
    pub min_backoff: Duration,
    /// The longest backoff before the proxy reconnects.
    pub max_backoff: Duration,
}

impl ProxyConfig {
    /// The most channels that one proxy may have.
    pub const MAX_CHANNELS: u16 = 64;

    /// Settings for `service` at `server`, without TLS, with this `target`; everything else has its default.
    pub fn new(server: impl Into<String>, service: ServiceKey, target: impl Into<String>) -> Self {
        Self {
            servers: vec![ServerEndpoint::new(server)],
            services: vec![ServiceConfig::new(service, target)],
            name: String::new(),
            channels: ChannelCount::Auto,
            weight: None,
            format: ProxyFormat::Binary,
            max_streams: 50_000,
            memory_budget: 1 << 30,
            max_chunk: None,
            drain_timeout: ServerConfig::DEFAULT_DRAIN_TIMEOUT,
            stripe: true,
            congestion: CongestionControl::default(),
            dial_timeout: Duration::from_secs(10),
            min_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(15),
        }
    }

    /// Sets how all servers are connected to with TLS; `None` connects without TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<ClientTls>) -> Self {
        self.servers.iter_mut().for_each(|server| server.tls.clone_from(&tls));
        self
    }

    /// Sets the address of the only server.
    #[must_use]
    pub fn with_server(mut self, address: impl Into<String>) -> Self {
        let address = address.into();
        self.servers.truncate(1);
        self.servers.iter_mut().for_each(|server| server.address.clone_from(&address));
        self
    }

    /// Sets the port and group of the only service.
    #[must_use]
    pub fn with_service(mut self, key: ServiceKey) -> Self {
        self.services.truncate(1);
        self.services.iter_mut().for_each(|service| service.key = key.clone());
        self
    }

    /// Checks that a proxy with these settings can have all of these services.
    ///
    /// # Errors
    /// [`ServicesError`] says why it cannot.
    pub fn check_services(&self, services: &[ServiceConfig]) -> Result<(), ServicesError> {
        ServiceConfig::check_all(services, self.format)
    }
}
