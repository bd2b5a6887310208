//! The arguments that limit user connections, and the channels of proxies.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;

use super::values::{number, seconds};
use crate::config::ServerConfig;

/// The limits of user connections, and of the channels of proxies.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Maximum number of open user connections; lower where the limit of file descriptors requires it
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = number(1..=1_000_000))]
    max_streams: u32,
    /// Maximum number of open user connections from one address (IPv6: one /64). Raise it where a load balancer or a
    /// reverse proxy in front of the public ports makes all users come from one address, and does not name them
    /// (--trust-proxy-protocol) [default: half of --max-streams]
    #[arg(long, value_name = "N", value_parser = number(1..=1_000_000))]
    max_streams_per_address: Option<u32>,
    /// Maximum number of open user connections of one service [default: three quarters of --max-streams]
    #[arg(long, value_name = "N", value_parser = number(1..=1_000_000))]
    max_streams_per_service: Option<u32>,
    /// Maximum number of streams that one proxy serves; where all proxies of a service have theirs, a new user is
    /// refused at once [default: three quarters of --max-streams, at most 65536]
    #[arg(long, value_name = "N", value_parser = number(1..=ServerConfig::MAX_STREAMS_PER_PROXY as u32))]
    max_streams_per_proxy: Option<u32>,
    /// Maximum number of channels and public ports of the proxies from one address (IPv6: one /64). Raise it where many
    /// proxies are behind one NAT [default: half of what the limit of file descriptors allows]
    #[arg(long, value_name = "N", value_parser = number(1..=1_000_000))]
    max_channels_per_address: Option<u32>,
    /// Maximum number of new user connections per second from one address (IPv6: one /64), with as many at once; 0 for
    /// any number
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number(0..=1_000_000))]
    max_connections_per_second: u32,
    /// Idle timeout: time after which a stream without a byte in either direction is ended, in seconds; 0 for never
    #[arg(long, value_name = "SECS", default_value = "7200", value_parser = seconds)]
    idle_timeout: Duration,
}

impl LimitArgs {
    /// Resolves the arguments into `config`.
    pub(super) fn apply(&self, config: &mut ServerConfig) {
        let count = |count: Option<u32>| count.map(|count| count as usize);
        config.max_streams = self.max_streams as usize;
        config.max_streams_per_address = count(self.max_streams_per_address);
        config.max_streams_per_service = count(self.max_streams_per_service);
        config.max_streams_per_proxy = count(self.max_streams_per_proxy);
        config.max_channels_per_address = count(self.max_channels_per_address);
        config.max_connections_per_second = NonZeroU32::new(self.max_connections_per_second);
        config.idle_timeout = Some(self.idle_timeout).filter(|timeout| !timeout.is_zero());
    }
}
