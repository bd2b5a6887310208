//! Settings of the server.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use super::{congestion::CongestionControl, ports::PortRange};
use crate::{
    ids::{NetworkSet, Policy, UserIdKey, UserNetworks},
    tls::ServerTls,
};

/// From where proxies may register in the text format, which sends the token in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextProxies {
    /// From no address.
    Off,
    /// From loopback addresses only.
    Loopback,
    /// From any address.
    Anywhere,
}

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address and port on which the server listens for proxies (the tunnel port).
    pub listen: SocketAddr,
    /// The local address on which public ports are opened.
    pub bind: IpAddr,
    /// The public ports that a proxy may request.
    pub allowed_ports: PortRange,
    /// TLS on the tunnel port; `None` serves connections without TLS only.
    pub tls: Option<ServerTls>,
    /// From where proxies may register in the text format.
    pub text_proxies: TextProxies,
    /// Whether a text proxy on another machine may send the token without TLS.
    pub insecure: bool,
    /// Whether a text proxy on a loopback address may register without the token, as proxies that predate the token do.
    pub text_without_token: bool,
    /// The load-balancing policy of a new service, until the operator changes it.
    pub default_policy: Policy,
    /// How long a user connection waits for a proxy if the service has none.
    pub proxy_wait_timeout: Duration,
    /// How long a proxy of the binary format may take to report that the connection to a stream's target is
    /// established, or has failed.
    pub open_timeout: Duration,
    /// How long each message of the handshake on the tunnel port may take, from the first byte to the last, beyond the
    /// RTTs of the path.
    pub handshake_step_timeout: Duration,
    /// How long a connection on the tunnel port may take from accept to the end of its handshake, which takes two RTTs.
    pub handshake_timeout: Duration,
    /// How long the server keeps the streams of a proxy that has lost all of its channels, for the proxy to resume
    /// its link.
    pub grace_period: Duration,
    /// How long open streams may continue after the server was asked to stop.
    pub drain_timeout: Duration,
    /// Whether to listen with `SO_REUSEPORT`, so that another server can take over the ports (zero-downtime restart).
    pub reuse_port: bool,
    /// The server that proxies are sent to when this one drains, `HOST:PORT`; `None` sends them to their configured
    /// server.
    pub successor: Option<String>,
    /// How long a user counts as connected after its last connection was closed.
    pub user_retention: Duration,
    /// The key from which the ids of users are derived. The default is a random one, for a server that keeps none.
    pub user_id_key: UserIdKey,
    /// How long a public port stays open without a proxy.
    pub idle_service_timeout: Duration,
    /// The initial flow-control window of a stream, in bytes. It grows with the bandwidth-delay product of the path.
    pub initial_window: u32,
    /// The memory budget of the buffers of all streams together, in bytes.
    pub memory_budget: u64,
    /// The largest payload of a DATA frame, in bytes; `None` derives it from the rate of the channel.
    pub max_chunk: Option<usize>,
    /// Whether one stream may use several channels of its proxy at the same time (multipath striping).
    pub stripe: bool,
    /// Which congestion control the kernel uses for channels.
    pub congestion: CongestionControl,
    /// Whether to detect the protocol of streams from their first bytes.
    pub inspect_protocols: bool,
    /// The load balancers in front of the server: connections from them, to public ports and to the tunnel port, begin
    /// with a header of the PROXY protocol, which names the user or the proxy.
    pub trusted_balancers: NetworkSet,
    /// The users that the server admits to any service, by their networks. A service admits those of its proxies among
    /// them.
    pub user_networks: UserNetworks,
    /// The most user connections that may be open at the same time, unless the memory budget allows fewer.
    pub max_streams: usize,
    /// The most user connections from one client address (IPv6: one /64) that may be open at the same time; `None`:
    /// half of
    /// `max_streams`.
    pub max_streams_per_address: Option<usize>,
    /// The most user connections of one service that may be open at the same time; `None`: three quarters of
    /// `max_streams`.
    pub max_streams_per_service: Option<usize>,
    /// The most streams that one proxy may have at the same time; `None`: three quarters of `max_streams`.
    pub max_streams_per_proxy: Option<usize>,
    /// How many new user connections from one client address (IPv6: one /64) are accepted in a second; `None`: any
    /// number.
    pub max_connections_per_second: Option<NonZeroU32>,
    /// How long a stream may carry no byte in either direction before it is ended; `None`: any time.
    pub idle_timeout: Option<Duration>,
    /// The most channels of all proxies and open public ports together: each takes a descriptor. It is lowered to what
    /// the limit of descriptors leaves beside streams and unauthenticated connections
    /// ([`fit_descriptors`](Self::fit_descriptors)).
    pub max_channels_and_ports: usize,
    /// The most channels and open public ports of the proxies from one address (IPv6: one /64); `None`: half of
    /// `max_channels_and_ports`.
    pub max_channels_per_address: Option<usize>,
    /// The last stream number of a link, after which the link has to be replaced by a new one.
    pub last_stream_number: u32,
    /// The most connections on the tunnel port that may be in their handshake at the same time: half of them before
    /// their first message, a quarter that ask for a new link, and a quarter that name an existing link.
    pub max_pending_handshakes: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 7000).into(),
            bind: Ipv4Addr::UNSPECIFIED.into(),
            allowed_ports: PortRange::default(),
            tls: None,
            text_proxies: TextProxies::Loopback,
            insecure: false,
            text_without_token: false,
            default_policy: Policy::default(),
            proxy_wait_timeout: Duration::from_secs(5),
            // Longer than a proxy's connect timeout, so that the proxy can report a timeout itself, and than the 21 s
            // after which it has noticed that its idle channels are dead, and has connected again.
            open_timeout: Duration::from_secs(23),
            handshake_step_timeout: Duration::from_secs(5),
            // An RTT of 6 s, and one lost packet.
            handshake_timeout: Duration::from_secs(30),
            grace_period: Duration::from_secs(30),
            drain_timeout: Self::DEFAULT_DRAIN_TIMEOUT,
            reuse_port: false,
            successor: None,
            user_retention: Duration::from_secs(5),
            user_id_key: UserIdKey::new(rand::random()),
            idle_service_timeout: Duration::from_secs(30),
            initial_window: 256 * 1024,
            memory_budget: 1 << 30,
            max_chunk: None,
            stripe: true,
            congestion: CongestionControl::default(),
            inspect_protocols: true,
            trusted_balancers: NetworkSet::default(),
            user_networks: UserNetworks::default(),
            max_streams: 50_000,
            max_streams_per_address: None,
            max_streams_per_service: None,
            max_streams_per_proxy: None,
            max_connections_per_second: None,
            idle_timeout: Some(Self::DEFAULT_IDLE_TIMEOUT),
            max_channels_and_ports: 1_000_000,
            max_channels_per_address: None,
            last_stream_number: u32::MAX,
            max_pending_handshakes: 2048,
        }
    }
}

impl ServerConfig {
    /// The default idle timeout of streams, for which one without traffic is kept: 2 hours. NATs may forget a
    /// connection that is idle for longer than 2 h 4 min (RFC 5382, section 5), and other proxies end it after 6 to 60
    /// minutes by default. Keepalives of SSH, WebSocket and databases are minutes apart.
    pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);

    /// The default drain timeout: less than the 10 s after which `docker stop` kills, with the clean-up after it.
    pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

    /// Returns this configuration of a running server with the values of `new` where they can change while it runs:
    /// they are read for each new connection, stream, proxy or service. The others concern what was created at the
    /// start.
    #[must_use]
    pub fn with_changes_of(&self, new: &Self) -> Self {
        let new = new.clone();
        Self {
            allowed_ports: new.allowed_ports,
            text_proxies: new.text_proxies,
            insecure: new.insecure,
            text_without_token: new.text_without_token,
            default_policy: new.default_policy,
            proxy_wait_timeout: new.proxy_wait_timeout,
            grace_period: new.grace_period,
            successor: new.successor,
            initial_window: new.initial_window,
            max_chunk: new.max_chunk,
            stripe: new.stripe,
            congestion: new.congestion,
            inspect_protocols: new.inspect_protocols,
            trusted_balancers: new.trusted_balancers,
            user_networks: new.user_networks,
            max_streams: new.max_streams,
            max_streams_per_address: new.max_streams_per_address,
            max_streams_per_service: new.max_streams_per_service,
            max_streams_per_proxy: new.max_streams_per_proxy,
            max_connections_per_second: new.max_connections_per_second,
            idle_timeout: new.idle_timeout,
            max_channels_per_address: new.max_channels_per_address,
            ..self.clone()
        }
    }

    /// Returns the most user connections of one client address: by default half of all, so that one address cannot take
    /// what all others need, and a carrier-grade NAT with hundreds of users stays far below it.
    pub fn max_streams_per_address(&self) -> usize {
        self.max_streams_per_address.unwrap_or(self.max_streams.div_ceil(2))
    }

    /// Returns the most user connections of one service: by default three quarters of all, so that a flood of one
    /// public port leaves room for the others.
    pub fn max_streams_per_service(&self) -> usize {
        self.max_streams_per_service.unwrap_or(self.three_quarters_of_streams())
    }

    /// The most streams that one proxy can have: as many as its link can have open.
    pub const MAX_STREAMS_PER_PROXY: usize = 65_536;

    /// Returns the most streams of one proxy: by default three quarters of all, and never more than
    /// [`MAX_STREAMS_PER_PROXY`](Self::MAX_STREAMS_PER_PROXY).
    pub fn max_streams_per_proxy(&self) -> usize {
        let wanted = self.max_streams_per_proxy.unwrap_or(self.three_quarters_of_streams());
        wanted.min(Self::MAX_STREAMS_PER_PROXY)
    }

    /// Returns the most channels and public ports of the proxies from one address: by default half of all, so that one
    /// host cannot take what all others need.
    pub fn max_channels_per_address(&self) -> usize {
        self.max_channels_per_address.unwrap_or(self.max_channels_and_ports.div_ceil(2))
    }

    /// Returns three quarters of the maximum number of streams, rounded up.
    fn three_quarters_of_streams(&self) -> usize {
        self.max_streams - self.max_streams / 4
    }
}
