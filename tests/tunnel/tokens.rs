//! Named proxies: each token permits what its entry says, and no more; entries change while the server runs; addresses
//! that send wrong tokens are blocked.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    binary::{BinaryChannel, add_proxy, hello},
    client::{download, fetch, is_refused, is_reset},
    target,
    text::{FieldCount, TextChannel},
    tunnel::{RunningProxy, Tunnel},
};
use tokio::task::JoinSet;
use underpass::{
    cli::demo::DemoFile,
    config::{ChannelCount, ProxyConfig, ProxyEntries, ProxyFormat, ServerConfig},
    control::{Command, CommandError},
    server::Credentials,
    telemetry::{DisconnectReason, EndReason, EventKind},
    wire::{
        Hello, HelloMode, RefusalCode,
        handshake::{HandshakeError, Token},
    },
};

/// A download that takes as long as a test.
const ENDLESS: DemoFile = DemoFile { seed: 1, size: 1 << 36 };
/// A download that takes one second at [`RATE`].
const SHORT: DemoFile = DemoFile { seed: 2, size: 2_000_000 };
/// Rate limit of the origin in bytes per second.
const RATE: u64 = 2_000_000;

/// Returns the entry of `name` with `token` and more keys.
fn entry(name: &str, token: &Token, more: &str) -> String {
    format!("[[proxy]]\nname = \"{name}\"\ntoken-hash = \"{}\"\n{more}\n", token.key().reveal_hash())
}

/// A server whose entries a test changes.
struct Server {
    tunnel: Tunnel,
    credentials: Credentials,
    /// The time by which tokens expire, in milliseconds since the Unix epoch.
    now: Arc<AtomicU64>,
}

impl Server {
    /// Starts a server with one entry, for `alice`.
    async fn start(more: &str, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let token = Token::random();
        let entries = ProxyEntries::parse(&entry("alice", &token, more)).unwrap();
        let now = Arc::<AtomicU64>::default();
        let clock = now.clone();
        let credentials = Credentials::new(None, entries).with_clock(move || clock.load(SeqCst));
        let tunnel = Tunnel::bind_with(Tunnel::config(change), token, credentials.clone()).await;
        Self { tunnel, credentials, now }
    }

    /// Replaces the entries.
    fn replace(&self, text: &str) {
        self.credentials.replace_entries(ProxyEntries::parse(text).unwrap());
    }

    /// Returns why a new link with `token` is refused; `None` if it is not.
    async fn refuses(&self, token: &Token) -> Option<RefusalCode> {
        refusal(BinaryChannel::greeted(self.tunnel.addr, token, hello(), None).await.err())
    }
}

/// Lets streams finish however busy the machine is.
fn patient(config: &mut ServerConfig) {
    config.drain_timeout = crate::support::LONG;
}

/// Returns the code of a refusal.
fn refusal(error: Option<HandshakeError>) -> Option<RefusalCode> {
    error.map(|error| match error {
        HandshakeError::Refused { code, .. } => code,
        error => panic!("{error}"),
    })
}

/// Waits until an event with this text was emitted.
async fn event(tunnel: &Tunnel, text: &str) -> EventKind {
    tunnel.event(text, |event| event.to_string().contains(text)).await
}

#[tokio::test]
async fn a_proxy_registers_for_the_ports_and_groups_of_its_entry_alone() {
    let server = Server::start("ports = [\"21000-21999\"]\ngroups = [\"web\"]", |_| {}).await;
    let mut tunnel = server.tunnel;
    let echo = target::echo().await;
    for (service, expected) in [
        ("22000:web", "port 22000 is not allowed: «alice» may use 21000-21999 (key `ports`"),
        ("21500:shop", "group «shop» is not allowed: «alice» may join web (key `groups`"),
        ("0:shop", "group «shop» is not allowed"),
    ] {
        let config = tunnel.proxy_config(echo.addr).with_service(service.parse().unwrap());
        let error = RunningProxy::start(config, tunnel.token.clone()).gives_up().await.to_string();
        assert!(error.contains(expected), "{error}");
        event(&tunnel, expected).await;
    }
    // Any port is one of the entry's.
    let config = tunnel.proxy_config(echo.addr).with_service("0:web".parse().unwrap());
    let public = tunnel.proxy_with(ProxyConfig { name: "laptop".to_owned(), ..config }).await;
    assert!((21_000..22_000).contains(&public.port()), "{public}");
    // The name that the token proves comes first.
    assert_eq!(&*tunnel.telemetry.snapshot().proxies[0].name, "alice/laptop");
    tunnel.end().await;
}

#[tokio::test]
async fn an_entry_limits_proxies_channels_and_streams() {
    let server = Server::start("proxies = 1\nchannels = 2\nstreams = 1", |_| {}).await;
    let origin = target::origin(None).await;
    let (addr, token) = (server.tunnel.addr, server.tunnel.token.clone());
    let (first, welcome, _) = BinaryChannel::serving(addr, &token, 0).await;
    assert_eq!(server.refuses(&token).await, Some(RefusalCode::TooManyProxies));
    event(&server.tunnel, "«alice» has its maximum of 1 proxies (key `proxies`").await;
    let join = Hello { mode: HelloMode::Join, link: welcome.link, ..hello() };
    let second = BinaryChannel::greeted(addr, &token, join.clone(), welcome.resume_secret).await.unwrap();
    let third = BinaryChannel::greeted(addr, &token, join.clone(), welcome.resume_secret).await.err();
    assert_eq!(refusal(third), Some(RefusalCode::TooManyChannels));
    event(&server.tunnel, "«alice» has its maximum of 2 channels (key `channels`").await;
    // What ends makes room.
    drop((first, second));
    server
        .tunnel
        .until("the proxy is gone or detached", |snapshot| {
            snapshot.proxies.iter().all(|proxy| proxy.channels.is_empty())
        })
        .await;
    let kick = server.tunnel.telemetry.snapshot().proxies[0].id;
    server.tunnel.order(Command::KickProxy(kick)).await.unwrap();
    let mut tunnel = server.tunnel;
    tunnel.until("no proxy", |snapshot| snapshot.proxies.is_empty()).await;
    let config = ProxyConfig { channels: ChannelCount::Fixed(2), ..tunnel.proxy_config(origin.addr) };
    let public = tunnel.proxy_with(config).await;
    let held = download(public, ENDLESS);
    tunnel.flowing(1).await;
    is_refused(public).await;
    event(&tunnel, "«alice» has its maximum of 1 streams (key `streams`").await;
    let stream = tunnel.telemetry.snapshot().streams[0].info.key;
    tunnel.order(Command::KillStream(stream)).await.unwrap();
    is_reset(held).await;
    assert_eq!(fetch(public, &SHORT.path()).await, Ok(SHORT.into()));
    tunnel.end().await;
}

/// Nothing would end a link that never got its first channel.
#[tokio::test]
async fn a_new_link_beyond_the_maximum_of_channels_leaves_nothing_behind() {
    let server = Server::start("proxies = 2\nchannels = 1", |_| {}).await;
    let (addr, token) = (server.tunnel.addr, server.tunnel.token.clone());
    let (_first, ..) = BinaryChannel::serving(addr, &token, 0).await;
    // A proxy that stays counted would use up the `proxies` of the entry.
    for _ in 0..3 {
        assert_eq!(server.refuses(&token).await, Some(RefusalCode::TooManyChannels));
    }
    assert_eq!(server.tunnel.telemetry.snapshot().proxies.len(), 1);
    let only = server.tunnel.telemetry.snapshot().proxies[0].id;
    server.tunnel.order(Command::KickProxy(only)).await.unwrap();
    server.tunnel.until("no proxy", |snapshot| snapshot.proxies.is_empty()).await;
    server.tunnel.end().await;
}

/// Those that it replaces do not count, nor a resumption whose answer was lost.
#[tokio::test]
async fn a_link_with_its_maximum_of_channels_is_resumed_however_often_that_is_tried() {
    let server = Server::start("channels = 1", |_| {}).await;
    let (addr, token) = (server.tunnel.addr, server.tunnel.token.clone());
    let (_first, welcome, _) = BinaryChannel::serving(addr, &token, 0).await;
    let resume = Hello { mode: HelloMode::Resume, link: welcome.link, ..hello() };
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        unfinished
            .push(BinaryChannel::greeted(addr, &token, resume.clone(), welcome.resume_secret).await.unwrap());
    }
    let join = Hello { mode: HelloMode::Join, ..resume };
    let joined = BinaryChannel::greeted(addr, &token, join, welcome.resume_secret).await;
    assert_eq!(refusal(joined.err()), Some(RefusalCode::TooManyChannels));
    let only = server.tunnel.telemetry.snapshot().proxies[0].id;
    server.tunnel.order(Command::KickProxy(only)).await.unwrap();
    drop(unfinished);
    server.tunnel.until("no proxy", |snapshot| snapshot.proxies.is_empty()).await;
    server.tunnel.end().await;
}

#[tokio::test]
async fn an_entry_limits_the_rate_of_all_its_streams_and_a_reload_changes_it() {
    let server = Server::start("rate = \"400K\"", |_| {}).await;
    let origin = target::origin(None).await;
    let Server { mut tunnel, credentials, .. } = server;
    let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
    let begin = std::time::Instant::now();
    let file = DemoFile { seed: 3, size: 200_000 };
    let downloads = [download(public, file), download(public, file)];
    for download in downloads {
        assert_eq!(download.end("the end of a download").await, Ok(file.into()));
    }
    // 400,000 bytes at 400,000 bytes per second, beside the burst of 100 ms.
    assert!(begin.elapsed() > Duration::from_millis(800), "{:?}", begin.elapsed());
    let token = tunnel.token.clone();
    let held = download(public, ENDLESS);
    tunnel.flowing(1).await;
    credentials.replace_entries(ProxyEntries::parse(&entry("alice", &token, "")).unwrap());
    // Fourteen seconds at the old rate.
    tunnel.until("more bytes than the rate allowed", |snapshot| snapshot.totals.down > 6_000_000).await;
    event(&tunnel, "tokens reloaded: changed alice").await;
    tunnel.order(Command::KillStream(tunnel.telemetry.snapshot().streams[0].info.key)).await.unwrap();
    is_reset(held).await;
    tunnel.end().await;
}

/// The proxy gets no new stream from then on, and its open ones have the drain timeout.
#[tokio::test]
async fn a_revoked_proxy_finishes_its_streams_within_the_drain_timeout() {
    let server = Server::start("", patient).await;
    let origin = target::origin(RATE).await;
    let Server { mut tunnel, credentials, .. } = server;
    let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
    let running = download(public, SHORT);
    tunnel.flowing(1).await;
    let other = Token::random();
    credentials.replace_entries(ProxyEntries::parse(&entry("bob", &other, "")).unwrap());
    event(&tunnel, "tokens reloaded: added bob revoked alice").await;
    event(&tunnel, "the token of «alice» was revoked; proxies connected with it: 1").await;
    // Neither the link nor the token is accepted any more.
    let error = BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello(), None).await.err();
    assert_eq!(refusal(error), Some(RefusalCode::WrongToken));
    assert_eq!(running.end("the end of the download").await, Ok(SHORT.into()));
    let ended = |event: &EventKind| {
        matches!(event, EventKind::ProxyDisconnected { reason: DisconnectReason::TokenEnded, .. })
    };
    tunnel.event("the end of the proxy", ended).await;
    tunnel.proxies().iter().for_each(drop);
    let (_channel, ..) = BinaryChannel::serving(tunnel.addr, &other, 0).await;
    drop(_channel);
    tunnel.until("bob's proxy", |snapshot| !snapshot.proxies.is_empty()).await;
    let bob = tunnel.telemetry.snapshot().proxies[0].id;
    tunnel.order(Command::KickProxy(bob)).await.unwrap();
    tunnel.until("no proxy", |snapshot| snapshot.proxies.is_empty()).await;
    tunnel.end().await;
}

#[tokio::test]
async fn the_streams_of_a_revoked_proxy_are_reset_after_the_drain_timeout() {
    let timeout = Duration::from_millis(300);
    let server = Server::start("", |config| config.drain_timeout = timeout).await;
    let origin = target::origin(RATE).await;
    let Server { mut tunnel, credentials, .. } = server;
    let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
    let running = download(public, ENDLESS);
    let stream = tunnel.flowing(1).await.streams[0].info.key;
    credentials.replace_entries(ProxyEntries::default());
    is_reset(running).await;
    assert_eq!(tunnel.ended(stream).await.0, EndReason::ProxyGone);
    tunnel.until("nothing", |snapshot| snapshot.proxies.is_empty()).await;
}

#[tokio::test]
async fn a_token_expires_on_its_date() {
    let server = Server::start("expires = 2027-12-31T18:00:00Z", patient).await;
    let expires = 1_830_276_000_000;
    server.now.store(expires - 1, SeqCst);
    let origin = target::origin(RATE).await;
    let Server { mut tunnel, credentials, now } = server;
    let public = tunnel.proxy(origin.addr, ProxyFormat::Binary).await;
    let running = download(public, SHORT);
    tunnel.flowing(1).await;
    now.store(expires, SeqCst);
    event(&tunnel, "the token of «alice» has expired; proxies connected with it: 1").await;
    let error = BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello(), None).await.err();
    assert_eq!(refusal(error), Some(RefusalCode::TokenExpired));
    event(&tunnel, "the token of «alice» has expired (key `expires`").await;
    assert_eq!(running.end("the end of the download").await, Ok(SHORT.into()));
    tunnel.until("the proxy is gone", |snapshot| snapshot.proxies.is_empty()).await;
    // Another date: the proxy, which keeps trying, comes back.
    let later = entry("alice", &tunnel.token, "expires = 2028-01-31");
    credentials.replace_entries(ProxyEntries::parse(&later).unwrap());
    assert_eq!(tunnel.proxies()[0].serves().await.port, public.port());
    tunnel.end().await;
}

/// A reload that makes a token right also forgets that it was wrong.
#[tokio::test]
async fn entries_are_added_while_the_server_runs() {
    let server = Server::start("", |_| {}).await;
    let (alice, bob) = (server.tunnel.token.clone(), Token::random());
    assert_eq!(server.refuses(&bob).await, Some(RefusalCode::WrongToken));
    server.replace(&(entry("alice", &alice, "") + &entry("bob", &bob, "")));
    event(&server.tunnel, "tokens reloaded: added bob").await;
    assert_eq!(server.refuses(&bob).await, None);
    server.tunnel.until("no proxy", |snapshot| snapshot.proxies.is_empty()).await;
    server.tunnel.end().await;
}

#[tokio::test]
async fn an_address_with_many_wrong_tokens_is_blocked_until_it_is_unblocked() {
    let server = Server::start("", |_| {}).await;
    let tunnel = &server.tunnel;
    let address = IpAddr::from([127, 0, 0, 1]).into();
    let guess = |count: usize| {
        let addr = tunnel.addr;
        let mut guesses = JoinSet::new();
        for _ in 0..count {
            guesses.spawn(async move {
                _ = BinaryChannel::greeted(addr, &Token::random(), hello(), None).await;
            });
        }
        guesses
    };
    // All at once: the refusals are delayed, and nothing here waits for them.
    let guesses = guess(10);
    event(tunnel, "127.0.0.1 blocked for 600 s after 10 wrong tokens (`:unblock 127.0.0.1` in the cockpit)")
        .await;
    assert_eq!(tunnel.telemetry.totals().addresses_blocked, 1);
    drop(guesses);
    // Wrong tokens are refused at once. The right one, of a proxy behind the same NAT, is not.
    assert_eq!(server.refuses(&Token::random()).await, Some(RefusalCode::AddressBlocked));
    assert_eq!(server.refuses(&tunnel.token).await, None);
    for (token, action) in [("wrong", "ERROR"), (tunnel.token.reveal(), "RESPONSE")] {
        let mut text = TextChannel::connect(tunnel.addr, FieldCount::Four).await;
        text.send("", 0, "AUTH", token.as_bytes()).await;
        text.send("", 0, "ADDPROXY:0", b"").await;
        let answer = text.hear_action(action).await.text();
        assert_eq!(answer.contains("this address is blocked for another"), token == "wrong", "{answer}");
    }
    tunnel.order(Command::Unblock(address)).await.unwrap();
    event(tunnel, "operator: unblock 127.0.0.1").await;
    assert_eq!(tunnel.order(Command::Unblock(address)).await, Err(CommandError::NotFound));
    let (mut proxy, welcome) =
        BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello(), None).await.unwrap();
    proxy.send([add_proxy(0)]).await;
    // From the address of a connected proxy an attacker is only delayed.
    let failed = tunnel.telemetry.totals().handshakes_failed;
    let guesses = guess(20);
    tunnel
        .until("three refusals without delay", |snapshot| snapshot.totals.handshakes_failed >= failed + 3)
        .await;
    let join = Hello { mode: HelloMode::Join, link: welcome.link, ..hello() };
    assert!(BinaryChannel::greeted(tunnel.addr, &tunnel.token, join, welcome.resume_secret).await.is_ok());
    assert_eq!(server.refuses(&tunnel.token).await, None);
    drop(guesses);
    assert_eq!(tunnel.telemetry.totals().addresses_blocked, 1);
    drop(proxy);
    let proxies = tunnel.telemetry.snapshot().proxies;
    for proxy in proxies {
        _ = tunnel.order(Command::KickProxy(proxy.id)).await;
    }
    tunnel.until("no proxy", |snapshot| snapshot.proxies.is_empty()).await;
    server.tunnel.end().await;
}
