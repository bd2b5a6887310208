//! The users of the demo: they download and upload until they are stopped, and verify every byte.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{TransferError, download, upload},
    counters::LoadCounters,
    file::DemoFile,
};
use crate::net::refuse_self_connection;

/// Range in milliseconds from which a user chooses its wait after a failed transfer, so that a tunnel that refuses
/// every connection does not see a tight loop of attempts.
const FAILURE_PAUSE_MS: RangeInclusive<u64> = 200..=1000;

/// A set of simulated users. Each connects from its own source address (127.0.0.2, 127.0.0.3, …), downloads files of
/// mixed sizes over several connections at once, uploads some files, and verifies every byte.
#[derive(Debug)]
pub struct DemoLoad {
    /// Public port that the users connect to.
    target: SocketAddr,
    /// Number of simulated users.
    users: u8,
    /// Seed of the random sizes, pauses and contents, so that a load can be repeated.
    seed: u64,
    /// What the users transfer and how often.
    options: DemoLoadOptions,
    /// Counts the results of the transfers.
    counters: Arc<LoadCounters>,
}

/// What the users transfer and how often. The default is a mix for watching: at a few MB/s, transfers take from a
/// fraction of a second to half a minute.
#[derive(Debug, Clone)]
pub struct DemoLoadOptions {
    /// Sizes in bytes of the smallest and the largest file. The logarithm of the size is uniformly distributed.
    pub sizes: RangeInclusive<u64>,
    /// Range of the number of connections that one user has open at once.
    pub connections: RangeInclusive<usize>,
    /// Share of uploads among the transfers, in percent.
    pub upload_percent: u32,
    /// Maximum pause between the end of a transfer and the start of the next one of the same user.
    pub max_pause: Duration,
    /// Total number of transfers after which the users stop; `None` is unlimited.
    pub max_transfers: Option<u64>,
}

impl Default for DemoLoadOptions {
    fn default() -> Self {
        Self {
            sizes: 16 << 10..=48 << 20,
            connections: 1..=4,
            upload_percent: 12,
            max_pause: Duration::from_millis(500),
            max_transfers: None,
        }
    }
}

impl DemoLoad {
    /// Creates `users` users of the public port `target`. The seed determines their files and pauses.
    pub fn new(target: SocketAddr, users: u8, seed: u64) -> Self {
        Self { target, users, seed, options: DemoLoadOptions::default(), counters: Arc::default() }
    }

    /// Replaces the default options.
    #[must_use]
    pub fn with_options(mut self, options: DemoLoadOptions) -> Self {
        self.options = options;
        self
    }

    /// Returns the counters, which can be read while the load runs and afterwards.
    pub fn counters(&self) -> Arc<LoadCounters> {
        self.counters.clone()
    }

    /// Runs the users until `cancel`, or until they have finished [`max_transfers`](DemoLoadOptions::max_transfers)
    /// transfers. All their connections are closed and their tasks have ended when it returns.
    pub async fn run(self, cancel: CancellationToken) {
        let remaining = Arc::new(AtomicU64::new(self.options.max_transfers.unwrap_or(u64::MAX)));
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut users = JoinSet::new();
        for number in 0..self.users {
            let user = DemoUser {
                target: self.target,
                source: source_addr(self.target, number),
                options: self.options.clone(),
                rng: StdRng::seed_from_u64(rng.random()),
                remaining: remaining.clone(),
                counters: self.counters.clone(),
            };
            users.spawn(user.run(cancel.clone()));
        }
        while let Some(user) = users.join_next().await {
            if let Err(error) = user {
                tracing::error!(%error, "a user task of the demo panicked");
            }
        }
    }
}

/// Returns the source address of user `number`, or `None` if the system cannot bind it: Linux has all of 127.0.0.0/8 on
/// loopback, other systems only 127.0.0.1.
fn source_addr(target: SocketAddr, number: u8) -> Option<SocketAddr> {
    let wanted = SocketAddr::from((Ipv4Addr::new(127, 0, 0, number.checked_add(2)?), 0));
    let IpAddr::V4(target) = target.ip() else { return None };
    if !target.is_loopback() {
        return None;
    }
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(wanted).ok().map(|()| wanted)
}

/// Connects to `target` from the address `source`.
async fn connect(source: Option<SocketAddr>, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(source)?;
    }
    let stream = socket.connect(target).await?;
    // The public port is one of the ephemeral range.
    refuse_self_connection(&stream, target.port())?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One simulated user.
struct DemoUser {
    /// The public port that the user connects to.
    target: SocketAddr,
    /// The address that the user connects from; `None` lets the system choose.
    source: Option<SocketAddr>,
    /// What the user transfers and how often.
    options: DemoLoadOptions,
    /// Source of the user's random sizes, pauses and contents.
    rng: StdRng,
    /// Transfers that may still be started, shared by all users.
    remaining: Arc<AtomicU64>,
    /// Counts the results of the transfers of all users.
    counters: Arc<LoadCounters>,
}

impl DemoUser {
    /// Keeps a random number of transfers open until `cancel`, or until none remains.
    async fn run(mut self, cancel: CancellationToken) {
        let mut transfers = JoinSet::new();
        loop {
            let connections = self.rng.random_range(self.options.connections.clone());
            while transfers.len() < connections && self.take_transfer() {
                self.start_transfer(&mut transfers);
            }
            let ended = tokio::select! {
                () = cancel.cancelled() => break,
                ended = transfers.join_next() => ended,
            };
            let pause = match ended {
                None => break,
                Some(Ok(Ok(()))) => self
                    .rng
                    .random_range(0..=self.options.max_pause.as_millis().try_into().unwrap_or(u64::MAX)),
                Some(Ok(Err(error))) => {
                    tracing::debug!(%error, "a transfer of the demo failed");
                    self.rng.random_range(FAILURE_PAUSE_MS)
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "a transfer task of the demo panicked");
                    self.rng.random_range(FAILURE_PAUSE_MS)
                }
            };
            if self.remaining.load(Relaxed) > 0 {
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                }
            }
        }
        transfers.shutdown().await;
    }

    /// Takes one of the remaining transfers. Returns `false` if none is left.
    fn take_transfer(&self) -> bool {
        self.remaining.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Spawns a download or an upload of a random file.
    fn start_transfer(&mut self, transfers: &mut JoinSet<Result<(), TransferError>>) {
        let file = DemoFile { seed: self.rng.random(), size: self.random_size() };
        let up = self.rng.random_range(0..100) < self.options.upload_percent;
        let (source, target, counters) = (self.source, self.target, self.counters.clone());
        transfers.spawn(async move {
            let transfer = counters.start();
            let result = match connect(source, target).await {
                Err(error) => Err(TransferError::Connect(error)),
                Ok(socket) if up => upload(socket, file, counters.traffic()).await,
                Ok(socket) => download(socket, file, counters.traffic()).await,
            };
            transfer.end(up, &result);
            result
        });
    }

    /// Chooses a file size in bytes whose logarithm is uniformly distributed.
    fn random_size(&mut self) -> u64 {
        let (low, high) = (*self.options.sizes.start(), *self.options.sizes.end());
        let exponent = self.rng.random_range(0.0..=1.0);
        let size = (low.max(1) as f64) * (high.max(1) as f64 / low.max(1) as f64).powf(exponent);
        (size as u64).clamp(low, high.max(low))
    }
}

#[cfg(test)]
mod tests;
