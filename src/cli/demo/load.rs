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
    body::DemoFile,
    client::{TransferError, download, upload},
    tally::LoadCounters,
};

/// How long a user waits after a failure before the next try, at least and at most: a tunnel that refuses everything
/// must not be asked in a tight loop.
const AFTER_FAILURE: RangeInclusive<u64> = 200..=1000;

/// The users of the demo. Each comes from an address of its own (127.0.0.2, 127.0.0.3, …), downloads files of mixed
/// sizes over several connections at once, uploads some, and checks every byte.
#[derive(Debug)]
pub struct DemoLoad {
    target: SocketAddr,
    users: u8,
    seed: u64,
    options: DemoLoadOptions,
    tally: Arc<LoadCounters>,
}

/// What the users do. The default is a mix to look at: from blinks to half a minute at a few MB/s.
#[derive(Debug, Clone)]
pub struct DemoLoadOptions {
    /// The smallest and the largest file. Every order of magnitude between them is equally likely.
    pub sizes: RangeInclusive<u64>,
    /// How many connections one user has at the same time.
    pub connections: RangeInclusive<usize>,
    /// How many transfers of a hundred are uploads.
    pub uploads: u32,
    /// The longest pause between the end of a user's transfer and the begin of the next.
    pub pause: Duration,
    /// Transfers after which the users stop by themselves; for ever without.
    pub transfers: Option<u64>,
}

impl Default for DemoLoadOptions {
    fn default() -> Self {
        Self {
            sizes: 16 << 10..=48 << 20,
            connections: 1..=4,
            uploads: 12,
            pause: Duration::from_millis(500),
            transfers: None,
        }
    }
}

impl DemoLoad {
    /// `users` users of the public port `target`. The seed decides what they ask for.
    pub fn new(target: SocketAddr, users: u8, seed: u64) -> Self {
        Self { target, users, seed, options: DemoLoadOptions::default(), tally: Arc::default() }
    }

    /// Other habits than the default ones.
    #[must_use]
    pub fn with(mut self, options: DemoLoadOptions) -> Self {
        self.options = options;
        self
    }

    /// The counters, while it runs and after.
    pub fn tally(&self) -> Arc<LoadCounters> {
        self.tally.clone()
    }

    /// Lets the users do what they do, until `cancel` or until they did [`transfers`](DemoLoadOptions::transfers) of them.
    /// No connection and no task is left when it returns.
    pub async fn run(self, cancel: CancellationToken) {
        let budget = Arc::new(AtomicU64::new(self.options.transfers.unwrap_or(u64::MAX)));
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut users = JoinSet::new();
        for number in 0..self.users {
            let user = DemoUser {
                target: self.target,
                source: source(self.target, number),
                options: self.options.clone(),
                rng: StdRng::seed_from_u64(rng.random()),
                budget: budget.clone(),
                tally: self.tally.clone(),
            };
            users.spawn(user.run(cancel.clone()));
        }
        while let Some(user) = users.join_next().await {
            if let Err(error) = user {
                tracing::error!(%error, "a user of the demo ended");
            }
        }
    }
}

/// The address that this user comes from, where the machine has it: Linux has all of 127/8, others only the first.
fn source(target: SocketAddr, number: u8) -> Option<SocketAddr> {
    let wanted = SocketAddr::from((Ipv4Addr::new(127, 0, 0, number.checked_add(2)?), 0));
    let IpAddr::V4(target) = target.ip() else { return None };
    if !target.is_loopback() {
        return None;
    }
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(wanted).ok().map(|()| wanted)
}

async fn connect(source: Option<SocketAddr>, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(source)?;
    }
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct DemoUser {
    target: SocketAddr,
    source: Option<SocketAddr>,
    options: DemoLoadOptions,
    rng: StdRng,
    budget: Arc<AtomicU64>,
    tally: Arc<LoadCounters>,
}

impl DemoUser {
    async fn run(mut self, cancel: CancellationToken) {
        let mut transfers = JoinSet::new();
        loop {
            let wanted = self.rng.random_range(self.options.connections.clone());
            while transfers.len() < wanted && self.admit() {
                self.start(&mut transfers);
            }
            let ended = tokio::select! {
                () = cancel.cancelled() => break,
                ended = transfers.join_next() => ended,
            };
            let pause = match ended {
                None => break,
                Some(Ok(Ok(()))) => {
                    self.rng.random_range(0..=self.options.pause.as_millis().try_into().unwrap_or(u64::MAX))
                }
                Some(Ok(Err(fault))) => {
                    tracing::debug!(%fault, "a transfer of the demo failed");
                    self.rng.random_range(AFTER_FAILURE)
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "a transfer of the demo broke down");
                    self.rng.random_range(AFTER_FAILURE)
                }
            };
            if self.budget.load(Relaxed) > 0 {
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                }
            }
        }
        transfers.shutdown().await;
    }

    /// Whether there is one more transfer to be done.
    fn admit(&self) -> bool {
        self.budget.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn start(&mut self, transfers: &mut JoinSet<Result<(), TransferError>>) {
        let file = DemoFile { seed: self.rng.random(), size: self.size() };
        let up = self.rng.random_range(0..100) < self.options.uploads;
        let (source, target, tally) = (self.source, self.target, self.tally.clone());
        transfers.spawn(async move {
            let transfer = tally.start();
            let result = match connect(source, target).await {
                Err(error) => Err(TransferError::Connect(error)),
                Ok(socket) if up => upload(socket, file, tally.traffic()).await,
                Ok(socket) => download(socket, file, tally.traffic()).await,
            };
            transfer.end(up, &result);
            result
        });
    }

    fn size(&mut self) -> u64 {
        let (low, high) = (*self.options.sizes.start(), *self.options.sizes.end());
        let exponent = self.rng.random_range(0.0..=1.0);
        let size = (low.max(1) as f64) * (high.max(1) as f64 / low.max(1) as f64).powf(exponent);
        (size as u64).clamp(low, high.max(low))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{
        super::{DemoOrigin, DemoOriginOptions, LoadReport},
        *,
    };

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn quick(transfers: u64) -> DemoLoadOptions {
        DemoLoadOptions {
            sizes: 0..=300_000,
            uploads: 30,
            pause: Duration::ZERO,
            transfers: Some(transfers),
            ..DemoLoadOptions::default()
        }
    }

    /// Runs `load` against an origin behind `relay`, which may do harm to what the origin sends.
    async fn through<F>(relay: fn(TcpStream, TcpStream) -> F, options: DemoLoadOptions) -> LoadReport
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        let origin = DemoOrigin::bind(LOOPBACK, DemoOriginOptions::default()).await.unwrap();
        let target = origin.addr();
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let load = DemoLoad::new(listener.local_addr().unwrap(), 2, 1).with(options);
        let tally = load.tally();
        let mut tasks = JoinSet::new();
        tasks.spawn(origin.run(cancel.clone()));
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            loop {
                let (user, _) = listener.accept().await.unwrap();
                relays.spawn(relay(user, TcpStream::connect(target).await.unwrap()));
            }
        });
        load.run(cancel).await;
        tally.report()
    }

    #[tokio::test]
    async fn every_byte_of_many_transfers_is_accounted_for() {
        let cancel = CancellationToken::new();
        let origin = DemoOrigin::bind(LOOPBACK, DemoOriginOptions::default()).await.unwrap();
        let seen = origin.traffic();
        let load = DemoLoad::new(origin.addr(), 3, 42).with(quick(200));
        let tally = load.tally();
        let mut tasks = JoinSet::new();
        tasks.spawn(origin.run(cancel.clone()));
        load.run(cancel.clone()).await;
        let report = tally.report();
        assert_eq!((report.started, report.open(), report.notes.len()), (200, 0, 0), "{report:?}");
        assert!(report.downloads > 100 && report.uploads > 20, "{report:?}");
        assert_eq!(report.downloads + report.uploads, 200);
        assert_eq!((report.down, report.up), (seen.bytes_written(), seen.bytes_read()));
        cancel.cancel();
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn users_come_from_addresses_of_their_own() {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let cancel = CancellationToken::new();
        let load = DemoLoad::new(listener.local_addr().unwrap(), 3, 0);
        let mut tasks = JoinSet::new();
        tasks.spawn(load.run(cancel.clone()));
        let mut sources = std::collections::BTreeSet::new();
        let mut held = Vec::new();
        while sources.len() < 3 {
            let (socket, peer) = listener.accept().await.unwrap();
            held.push(socket);
            sources.insert(peer.ip().to_string());
        }
        assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
        cancel.cancel();
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn the_end_is_prompt_and_leaves_nothing() {
        let cancel = CancellationToken::new();
        let slow =
            DemoOriginOptions { rate: std::num::NonZeroU64::new(10_000), ..DemoOriginOptions::default() };
        let origin = DemoOrigin::bind(LOOPBACK, slow).await.unwrap();
        let load = DemoLoad::new(origin.addr(), 4, 7);
        let tally = load.tally();
        let mut tasks = JoinSet::new();
        tasks.spawn(origin.run(cancel.clone()));
        tasks.spawn(load.run(cancel.clone()));
        while tally.report().down == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        tokio::time::timeout(Duration::from_secs(2), tasks.join_all()).await.unwrap();
        let report = tally.report();
        assert!(report.abandoned > 0, "{report:?}");
        assert_eq!((report.open(), report.failed, report.checksum_failures), (0, 0, 0), "{report:?}");
    }

    #[tokio::test]
    async fn a_changed_byte_is_a_checksum_failure() {
        async fn flip(mut user: TcpStream, mut origin: TcpStream) {
            let (mut user_read, mut user_write) = user.split();
            let (mut origin_read, mut origin_write) = origin.split();
            let up = async {
                _ = tokio::io::copy(&mut user_read, &mut origin_write).await;
            };
            let down = async {
                let mut bytes = Vec::new();
                _ = origin_read.read_to_end(&mut bytes).await;
                // The last byte: of a file, or of the receipt of an upload.
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                _ = user_write.write_all(&bytes).await;
                _ = user_write.shutdown().await;
            };
            tokio::select! {
                () = up => {}
                () = down => {}
            }
        }
        let options = DemoLoadOptions { sizes: 1000..=300_000, connections: 4..=4, ..quick(6) };
        let report = through(flip, options).await;
        assert_eq!((report.checksum_failures, report.failed, report.started), (6, 0, 6), "{report:?}");
        assert_eq!(report.notes.len(), 5);
    }

    #[tokio::test]
    async fn a_reset_or_short_transfer_failed_visibly() {
        async fn cut(mut user: TcpStream, mut origin: TcpStream) {
            let mut head = [0; 40];
            _ = user.read_exact(&mut head).await;
            let mut rest = vec![0; 1 << 20];
            let n = user.read(&mut rest).await.unwrap_or(0);
            _ = origin.write_all(&head).await;
            _ = origin.write_all(&rest[..n]).await;
            let mut bytes = [0; 200];
            if origin.read_exact(&mut bytes).await.is_ok() {
                _ = user.write_all(&bytes).await;
            }
        }
        let options =
            DemoLoadOptions { sizes: 100_000..=300_000, uploads: 0, connections: 4..=4, ..quick(6) };
        let report = through(cut, options).await;
        assert_eq!((report.checksum_failures, report.failed, report.started), (0, 6, 6), "{report:?}");
        assert!(report.notes[0].contains("bytes: "), "{report:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_refuses_is_not_asked_in_a_tight_loop() {
        let port = TcpListener::bind(LOOPBACK).await.unwrap();
        let target = port.local_addr().unwrap();
        drop(port);
        let load = DemoLoad::new(target, 1, 3).with(DemoLoadOptions {
            connections: 1..=1,
            transfers: Some(20),
            ..DemoLoadOptions::default()
        });
        let tally = load.tally();
        let start = tokio::time::Instant::now();
        load.run(CancellationToken::new()).await;
        assert_eq!(tally.report().failed, 20);
        assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
    }
}
