//! Shares of a bottleneck and queueing behind other streams. The bounds are wide, because the machine may be busy;
//! `assets/bench/peers` measures the figures.

use std::time::{Duration, Instant};

use crate::support::{
    link::{Link, Shape},
    soon, target,
    target::Target,
    tunnel::Tunnel,
    within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use underpass::{
    config::{ChannelCount, ProxyConfig},
    control::Command,
    ids::{Priority, StreamKey},
};

const MS: Duration = Duration::from_millis(1);

/// Number of attempts of a measurement that other load can spoil.
const ATTEMPTS: usize = 4;

/// Starts a target that sends without end on connections that start with `d` and echoes on others.
async fn bulk_or_echo() -> Target {
    target::serve_with(|mut socket| async move {
        if socket.read_u8().await? != b'd' {
            let (mut read, mut write) = socket.split();
            return tokio::io::copy(&mut read, &mut write).await.map(drop);
        }
        let block = vec![0; 64 * 1024];
        loop {
            socket.write_all(&block).await?;
        }
    })
    .await
}

/// A tunnel whose channels go through an emulated link, and its users.
struct Narrow {
    tunnel: Tunnel,
    link: Link,
    target: Target,
    public: std::net::SocketAddr,
    users: JoinSet<()>,
}

impl Narrow {
    async fn start(shape: Shape, channels: u16, window: u32) -> Self {
        let mut tunnel = Tunnel::with(|config| config.initial_window = window).await;
        let link = Link::to(tunnel.addr, shape).await.unwrap();
        let target = bulk_or_echo().await;
        let config = ProxyConfig {
            channels: ChannelCount::Fixed(channels),
            ..tunnel.proxy_config(target.addr).with_server(link.addr.to_string())
        };
        let public = tunnel.proxy_with(config).await;
        Self { tunnel, link, target, public, users: JoinSet::new() }
    }

    async fn connect(&self, kind: u8) -> TcpStream {
        let mut socket = soon("a user", TcpStream::connect(self.public)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_u8(kind).await.unwrap();
        socket
    }

    /// Starts an endless download and returns its stream key.
    async fn download(&mut self) -> StreamKey {
        let mut socket = self.connect(b'd').await;
        let key = self.tunnel.stream_of(socket.local_addr().unwrap()).await.key;
        self.users.spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
        });
        key
    }

    /// Returns the bytes that a stream has downloaded so far.
    fn brought(&self, key: StreamKey) -> u64 {
        self.tunnel.telemetry.snapshot().streams.iter().find(|stream| stream.key == key).unwrap().down
    }

    async fn end(mut self) {
        self.users.shutdown().await;
        self.target.when(|counts| counts.open == 0, crate::support::LONG).await;
        drop(self.link);
        self.tunnel.end().await;
    }
}

/// A stream whose priority is raised to high gets four times the share of a low one within two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn priorities_share_a_saturated_channel_by_weight() {
    let mut narrow = Narrow::start(Shape::mbit(100, MS), 1, 1 << 20).await;
    let (high, low) = (narrow.download().await, narrow.download().await);
    narrow.tunnel.flowing(2).await;
    narrow.tunnel.order(Command::SetPriority(high, Priority::High)).await.unwrap();
    narrow.tunnel.order(Command::SetPriority(low, Priority::Low)).await.unwrap();
    // Counted in bytes instead of time: two seconds of this link are 25 MB.
    let carried = |narrow: &Narrow| narrow.brought(high) + narrow.brought(low);
    let until = async |narrow: &Narrow, bytes: u64| {
        let wanted = carried(narrow) + bytes;
        while carried(narrow) < wanted {
            tokio::time::sleep(5 * MS).await;
        }
    };
    within(crate::support::LONG, "what waits from before", until(&narrow, 25_000_000)).await;
    let before = [high, low].map(|key| narrow.brought(key));
    within(crate::support::LONG, "enough to judge by", until(&narrow, 25_000_000)).await;
    let after = [high, low].map(|key| narrow.brought(key));
    let share = |at: usize| (after[at] - before[at]) as f64;
    let ratio = share(0) / share(1);
    println!("high to low: {ratio:.2}");
    assert!((3.6..=4.4).contains(&ratio), "{ratio}");
    narrow.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_is_not_queued_behind_eight_downloads() {
    let mut tried = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut narrow = Narrow::start(Shape::mbit(200, 10 * MS), 2, 256 << 10).await;
        let mut ping = narrow.connect(b'e').await;
        for _ in 0..8 {
            narrow.download().await;
        }
        narrow.tunnel.flowing(8).await;
        // Until all queues are full.
        tokio::time::sleep(500 * MS).await;
        let mut times = Vec::new();
        for _ in 0..30 {
            let begin = Instant::now();
            ping.write_all(&[1; 64]).await.unwrap();
            soon("a pong", ping.read_exact(&mut [0; 64])).await.unwrap();
            times.push(begin.elapsed());
        }
        times.sort();
        drop(ping);
        narrow.end().await;
        println!("beside eight downloads, over 20 ms: p50 {:.1?}, longest {:.1?}", times[15], times[29]);
        assert!(times[0] >= 20 * MS, "the link has no delay: {times:?}");
        if times[15] < 60 * MS {
            return;
        }
        tried.push(times[15]);
    }
    panic!("p50 {tried:.1?}");
}
