//! How the file descriptors that the system grants are divided, so that neither users nor proxies can take those that
//! the others need.

use super::{ProxyConfig, ServerConfig};

/// Descriptors that every process needs beside its connections: stdin, stdout, stderr, the terminal of the cockpit, the
/// listener of the tunnel port, pipes of signals, files that are read while it runs, lookups of names.
const RESERVED: usize = 19;

/// Descriptors for metrics: the listener, and eight connections of scrapers.
const METRICS: usize = 9;

/// Descriptors of a recording: its file, and the directory while old files are looked for.
const RECORDING: usize = 2;

/// Descriptors of the control socket beside its connections: the listener, and the lock on its name.
const CONTROL_SOCKET: usize = 2;

/// Descriptors of a worker thread: epoll, eventfd and its end of the pipe of signals, and one connection that was
/// accepted and is being refused.
const PER_WORKER: usize = 4;

/// The share of the descriptors that is kept for the tunnel, up to a maximum: 1/4. With the common limit of 1,024 that
/// is 128 channels and public ports beside as many unauthenticated connections.
const TUNNEL_SHARE: usize = 4;

/// The most descriptors that a server keeps for channels, public ports and unauthenticated connections before streams
/// get theirs: 2,000 proxies with two channels and a port each. What streams leave is added.
const MAX_SERVER_TUNNEL: usize = 8192;

/// The most descriptors that a proxy keeps for its channels to one server, [`ProxyConfig::MAX_CHANNELS`], and for
/// connecting again where the server does not answer: several attempts for each channel at the same time.
const MAX_PROXY_TUNNEL: usize = 512;

/// The share of the descriptors that is kept for connections to the control socket: 32 of 1,024.
const CONTROL_SHARE: u64 = 32;

/// The fewest and the most connections to the control socket: an attached cockpit, a script and another operator;
/// cockpits and tools of a team.
const CONTROL_CONNECTIONS: std::ops::RangeInclusive<usize> = 8..=128;

/// Returns how many connections to the control socket a process with `limit` descriptors has at most.
pub fn max_control_connections(limit: u64) -> usize {
    let share = usize::try_from(limit / CONTROL_SHARE).unwrap_or(usize::MAX);
    share.clamp(*CONTROL_CONNECTIONS.start(), *CONTROL_CONNECTIONS.end())
}

/// What a process does beside the tunnel and only where its operator wants it. What is off leaves its descriptors to
/// streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideUses {
    /// It has a control socket (`--control`).
    pub has_control: bool,
    /// It answers scrapers (`--metrics`).
    pub has_metrics: bool,
    /// It records (`--record`).
    pub has_recording: bool,
}

impl SideUses {
    /// Returns the descriptors for them, of `limit` in all.
    fn descriptors(self, limit: u64) -> usize {
        let if_on = |is_on, count| if is_on { count } else { 0 };
        if_on(self.has_control, CONTROL_SOCKET + max_control_connections(limit))
            + if_on(self.has_metrics, METRICS)
            + if_on(self.has_recording, RECORDING)
    }
}

/// The limit of descriptors leaves none for streams.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of {limit} file descriptors leaves none for streams: raise it to 1024 or more (ulimit -n, LimitNOFILE= of a \
     systemd unit, --ulimit nofile= of a container)"
)]
pub struct TooFewDescriptors {
    /// The limit of descriptors of the process.
    limit: u64,
}

/// How a process divides its descriptors.
struct Shares {
    /// Descriptors for streams: one for each connection of a user, or to the target.
    streams: usize,
    /// Descriptors for everything between server and proxies, beside those that streams leave.
    tunnel: usize,
}

impl Shares {
    /// Divides `limit` descriptors of a process with `workers` worker threads and `uses`, of which the tunnel gets at
    /// most `max_tunnel`.
    fn of(limit: u64, workers: usize, uses: SideUses, max_tunnel: usize) -> Result<Self, TooFewDescriptors> {
        let all = usize::try_from(limit).unwrap_or(usize::MAX);
        let tunnel = (all / TUNNEL_SHARE).min(max_tunnel);
        let reserved = RESERVED + PER_WORKER * workers + uses.descriptors(limit);
        let streams = all.saturating_sub(reserved + tunnel);
        if streams == 0 { Err(TooFewDescriptors { limit }) } else { Ok(Self { streams, tunnel }) }
    }
}

impl ServerConfig {
    /// Lowers the maximum numbers of streams, unauthenticated connections, channels and ports to what `limit`
    /// descriptors allow for all of them together and `uses`, in a process with `workers` worker threads.
    ///
    /// # Errors
    /// No descriptor is left for streams.
    pub fn fit_descriptors(
        &mut self,
        limit: u64,
        workers: usize,
        uses: SideUses,
    ) -> Result<(), TooFewDescriptors> {
        let Shares { streams, tunnel } = Shares::of(limit, workers, uses, MAX_SERVER_TUNNEL)?;
        self.max_streams = self.max_streams.min(streams);
        let tunnel = tunnel + (streams - self.max_streams);
        // Unauthenticated connections must leave room for those that authenticate.
        self.max_pending_handshakes = self.max_pending_handshakes.min(tunnel / 2);
        let left = tunnel.saturating_sub(self.max_pending_handshakes);
        self.max_channels_and_ports = self.max_channels_and_ports.min(left);
        Ok(())
    }
}

impl ProxyConfig {
    /// Lowers the maximum number of streams to what `limit` descriptors allow beside the channels and `uses`, in a
    /// process with `workers` worker threads.
    ///
    /// # Errors
    /// No descriptor is left for streams.
    pub fn fit_descriptors(
        &mut self,
        limit: u64,
        workers: usize,
        uses: SideUses,
    ) -> Result<(), TooFewDescriptors> {
        let max_tunnel = MAX_PROXY_TUNNEL.saturating_mul(self.servers.len());
        let Shares { streams, .. } = Shares::of(limit, workers, uses, max_tunnel)?;
        self.max_streams = self.max_streams.min(streams);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
