//! Replacement of a link whose stream numbers run out: another one takes over while it is used, and no user notices.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::support::{
    LONG,
    binary::BinaryChannel,
    client::{Fetched, download},
    relay::{Relay, Wire},
    soon, target,
    tunnel::{FORMATS, Tunnel},
    within,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig},
    control::{Command, LimitScope},
    ids::{Direction, Rate, RateLimits},
    telemetry::{ChannelState, DisconnectReason, EventKind},
    wire::{Frame, ResetCode},
};

/// How many streams the links of these tests may open. The server asks for another one after seven eighths.
const NUMBERS: u32 = 240;

/// A file that takes a second at the rate of its origin.
const FILE: DemoFile = DemoFile { seed: 9, size: 20_000_000 };

/// Opens a connection, exchanges one message, and closes it. Anything else is an error.
async fn exchange(public: SocketAddr) -> io::Result<()> {
    let mut socket = BufReader::new(TcpStream::connect(public).await?);
    socket.write_all(b"PING\n").await?;
    let mut answer = String::new();
    socket.read_line(&mut answer).await?;
    if answer != "PONG\n" {
        return Err(io::Error::other(format!("answered {answer:?}")));
    }
    socket.shutdown().await?;
    match socket.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("more than was asked for")),
    }
}

/// Users that open streams without a pause until they are stopped.
struct Users {
    is_over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    tasks: JoinSet<Vec<String>>,
}

impl Users {
    fn start(public: SocketAddr) -> Self {
        let (is_over, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..6 {
            let (is_over, served) = (is_over.clone(), served.clone());
            tasks.spawn(async move {
                let mut failures = Vec::new();
                while !is_over.load(Relaxed) {
                    match exchange(public).await {
                        Ok(()) => _ = served.fetch_add(1, Relaxed),
                        Err(error) => failures.push(error.to_string()),
                    }
                }
                failures
            });
        }
        Self { is_over, served, tasks }
    }

    /// Waits until `wanted` streams were served.
    async fn serve(&self, wanted: u32) {
        within(2 * LONG, "streams", async {
            while self.served.load(Relaxed) < wanted as usize {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Stops the users. Returns the number of streams and the failures.
    async fn end(self) -> (usize, Vec<String>) {
        self.is_over.store(true, Relaxed);
        let failures = soon("the users", self.tasks.join_all()).await.concat();
        (self.served.load(Relaxed), failures)
    }
}

/// Returns how many links of proxies the server has had.
fn links(tunnel: &Tunnel) -> usize {
    tunnel.events().iter().filter(|event| matches!(event, EventKind::ProxyConnected { .. })).count()
}

/// After 2^32 streams, in 75 hours at 15,800 a second, each further one failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_whose_stream_numbers_run_out_is_replaced_without_a_failed_stream() {
    for format in FORMATS {
        let mut tunnel = Tunnel::with(|config| config.last_stream_number = NUMBERS).await;
        let target = target::ping_pong().await;
        let public = tunnel.proxy(target.addr, format).await;
        // A stream of the first link that outlives the first three.
        let mut kept = BufReader::new(TcpStream::connect(public).await.unwrap());
        let users = Users::start(public);
        for round in 1..=3 {
            users.serve(round * NUMBERS).await;
            kept.write_all(b"PING\n").await.unwrap();
            let mut answer = String::new();
            soon("an answer", kept.read_line(&mut answer)).await.unwrap();
            assert_eq!(answer, "PONG\n", "{format:?}");
        }
        let (served, failures) = users.end().await;
        println!("{format:?}: {served} streams over {} links", links(&tunnel));
        assert!(failures.is_empty(), "{format:?}: {} of {served} failed: {failures:?}", failures.len());
        assert!(links(&tunnel) >= 4, "{format:?}: {} links", links(&tunnel));
        // The links without streams end, and the first one when its stream does.
        tunnel.until("two links", |snapshot| snapshot.proxies.len() == 2).await;
        kept.shutdown().await.unwrap();
        assert_eq!(soon("the end", kept.read(&mut [0])).await.unwrap(), 0);
        tunnel.until("one link", |snapshot| snapshot.proxies.len() == 1).await;
        tunnel.end().await;
    }
}

/// What the operator has set for a proxy holds for the link that replaces its link: an attacker need only open streams
/// to make a proxy replace it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_replaces_another_has_the_settings_of_the_operator() {
    let mut tunnel = Tunnel::with(|config| config.last_stream_number = 16).await;
    let target = target::ping_pong().await;
    let config = ProxyConfig { weight: Some(3), ..tunnel.proxy_config(target.addr) };
    let public = tunnel.proxy_with(config).await;
    let first = tunnel.telemetry.snapshot().proxies[0].clone();
    assert_eq!(first.weight, 3);
    let (down, up) = (Rate::new(1_000_000), Rate::new(2_000_000));
    for (direction, rate) in [(Direction::Down, down), (Direction::Up, up)] {
        tunnel.order(Command::SetLimit(LimitScope::Proxy(first.id), direction, rate)).await.unwrap();
    }
    tunnel.order(Command::SetWeight(first.id, 7)).await.unwrap();
    // As many streams as the request for another link takes; the old one would end with its last number.
    for _ in 0..14 {
        exchange(public).await.unwrap();
    }
    let replaced = |snapshot: &underpass::telemetry::Snapshot| {
        snapshot.proxies.len() == 1 && snapshot.proxies[0].id != first.id
    };
    let second = tunnel.until("the other link alone", replaced).await.proxies[0].clone();
    assert_eq!((second.weight, second.limits), (7, RateLimits { down, up }));
    // What the proxy asks for on a link that replaces none counts as before.
    tunnel.stop_proxy(0).await;
    let config = ProxyConfig { weight: Some(3), ..tunnel.proxy_config(target.addr) };
    tunnel.proxy_with(config).await;
    let third = tunnel.telemetry.snapshot().proxies[0].clone();
    assert_eq!((third.weight, third.limits), (3, RateLimits::default()));
    tunnel.end().await;
}

/// A link that is replaced is not about to end as one whose server leaves is: it resumes after the loss of its
/// channels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_link_with_a_download_resumes_after_the_loss_of_its_channels() {
    let mut tunnel = Tunnel::with(|config| config.last_stream_number = 80).await;
    let relay = Relay::to(tunnel.addr).await;
    let origin = target::origin(20_000_000).await;
    let config = ProxyConfig {
        channels: ChannelCount::Fixed(1),
        ..tunnel.proxy_config(origin.addr).with_server(relay.addr.to_string())
    };
    let public = tunnel.proxy_with(config).await;
    let download = download(public, FILE);
    tunnel.flowing(1).await;
    while links(&tunnel) < 2 {
        drop(TcpStream::connect(public).await.unwrap());
    }
    let is_replaced = |snapshot: &underpass::telemetry::Snapshot| {
        let mut channels = snapshot.proxies.iter().flat_map(|proxy| &proxy.channels);
        channels.any(|channel| channel.state == ChannelState::GoingAway)
    };
    tunnel.until("the replacement", is_replaced).await;
    relay.connection(0).await.set(Wire::Cut);
    tunnel.event("a resumption", |event| matches!(event, EventKind::ProxyResumed { .. })).await;
    assert_eq!(download.end("the download").await, Ok(Fetched::from(FILE)));
    tunnel.until("one link", |snapshot| snapshot.proxies.len() == 1).await;
    tunnel.end().await;
}

/// A proxy that does not replace its link is asked on each of its channels, and the link ends once all numbers are used
/// and its last stream has ended.
#[tokio::test]
async fn a_proxy_that_keeps_its_link_loses_it_after_the_last_stream() {
    let tunnel = Tunnel::with(|config| config.last_stream_number = 16).await;
    let (mut channel, _, public) = BinaryChannel::serving(tunnel.addr, &tunnel.token, 0).await;
    let mut users = VecDeque::new();
    let mut requested_after = None;
    for number in 1..=16 {
        users.push_back(TcpStream::connect(public).await.unwrap());
        let stream = loop {
            match channel.hear_other().await {
                Frame::Open(open) => break open.stream,
                Frame::GoAway { code } => {
                    assert_eq!(code, ResetCode::LinkReplaced);
                    requested_after = Some(number - 1);
                }
                _ => {}
            }
        };
        assert_eq!(stream, number);
    }
    // With the fourteenth OPEN, before which control frames of the channel go: an eighth of the numbers was left.
    assert_eq!(requested_after, Some(13));
    for stream in 1..=16 {
        channel.send([Frame::Reset { stream, code: ResetCode::TargetRefused, final_size: 0 }]).await;
    }
    let last = channel.rest().await;
    assert!(last.contains(&Frame::GoAway { code: ResetCode::Shutdown }), "{last:?}");
    let gone = |event: &EventKind| {
        matches!(event, EventKind::ProxyDisconnected { reason: DisconnectReason::GoAway, .. })
    };
    tunnel.event("the end of the link", gone).await;
    drop(users);
    tunnel.end().await;
}
