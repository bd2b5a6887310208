//! One proxy with links to several servers: it serves the users of each, and each fails by itself.

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    client::{Fetched, download, is_refused},
    process::{Process, TOKEN},
    relay::{Relay, Wire},
    target::{self, LOOPBACK},
    tunnel::{FORMATS, RunningProxy, Tunnel},
};
use underpass::{
    cli::demo::DemoFile,
    config::{ProxyConfig, ProxyFormat, ServerConfig, ServerEndpoint},
    proxy::ServedService,
    telemetry::{ChannelState, Snapshot},
    tls::{ClientTls, Identity, ServerTls, ServerVerification},
    wire::handshake::Token,
};

/// A download that is still running when another server has ended.
const FILE: DemoFile = DemoFile { seed: 4, size: 3_000_000 };

/// A download that is still running when servers were added and removed.
const LONG_FILE: DemoFile = DemoFile { seed: 6, size: 6_000_000 };

/// A download that ends at once.
const SHORT_FILE: DemoFile = DemoFile { seed: 5, size: 1000 };

/// Rate of the origin in bytes per second.
const RATE: u64 = 3_000_000;

/// Starts two servers with the same token.
async fn servers(change: impl Fn(&mut ServerConfig)) -> [Tunnel; 2] {
    let token = Token::random();
    [
        Tunnel::bind(Tunnel::config(&change), token.clone()).await,
        Tunnel::bind(Tunnel::config(&change), token).await,
    ]
}

/// Returns the configuration of a proxy of both servers.
fn config(servers: &[Tunnel; 2], target: SocketAddr) -> ProxyConfig {
    let endpoints = servers.each_ref().map(|server| ServerEndpoint::new(server.addr.to_string()));
    ProxyConfig { servers: endpoints.into(), ..servers[0].proxy_config(target) }
}

/// Returns the public address of the service at this server.
fn public(served: &[ServedService], server: &Tunnel) -> SocketAddr {
    let of = |served: &&ServedService| *served.server == *server.addr.to_string();
    SocketAddr::new(LOOPBACK.ip(), served.iter().find(of).unwrap().service.port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_serves_the_users_of_each_server_and_losing_one_does_not_affect_the_other() {
    let mut servers = servers(|_| {}).await;
    let origin = target::origin(RATE).await;
    let proxy = RunningProxy::start(config(&servers, origin.addr), servers[0].token.clone());
    let served = proxy.serves_when("both servers", |served| served.len() == 2).await;
    let addresses = servers.each_ref().map(|server| public(&served, server));
    assert_eq!(download(addresses[0], FILE).end("a download").await, Ok(Fetched::from(FILE)));
    let running = download(addresses[1], FILE);
    servers[1].flowing(1).await;
    servers[0].stop_server().await;
    let served = proxy.serves_when("one server", |served| served.len() == 1).await;
    assert_eq!(public(&served, &servers[1]), addresses[1]);
    assert_eq!(servers[1].telemetry.snapshot().totals.streams_open, 1, "the download runs");
    assert_eq!(running.end("a download").await, Ok(Fetched::from(FILE)));
    // The server returns, and is served again on the same port.
    let restarted = Tunnel::config(|config| config.listen = servers[0].addr);
    let returned = Tunnel::bind(restarted, servers[0].token.clone()).await;
    let served = proxy.serves_when("both again", |served| served.len() == 2).await;
    assert_eq!(public(&served, &returned), addresses[0]);
    assert_eq!(download(addresses[0], FILE).end("a download").await, Ok(Fetched::from(FILE)));
    proxy.stop().await;
    returned.end().await;
    let [_, second] = servers;
    second.end().await;
}

/// As with services: the links to the other servers, and all open streams, continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_added_and_removed_while_downloads_run() {
    // At the same time, because the downloads take a while.
    tokio::join!(add_and_remove_servers(FORMATS[0]), add_and_remove_servers(FORMATS[1]));
}

async fn add_and_remove_servers(format: ProxyFormat) {
    let servers = servers(|config| config.proxy_wait_timeout = Duration::from_millis(100)).await;
    let origin = target::origin(RATE).await;
    let config = ProxyConfig { format, ..config(&servers, origin.addr) };
    let endpoints = config.servers.clone();
    let first_only = ProxyConfig { servers: endpoints[..1].to_vec(), ..config };
    let proxy = RunningProxy::start(first_only, servers[0].token.clone());
    let served = proxy.serves_when("one server", |served| served.len() == 1).await;
    let first = public(&served, &servers[0]);
    let leaving = download(first, LONG_FILE);
    servers[0].flowing(1).await;
    proxy.replace_servers(endpoints.clone());
    let served = proxy.serves_when("both servers", |served| served.len() == 2).await;
    assert_eq!(public(&served, &servers[0]), first);
    let kept = download(public(&served, &servers[1]), LONG_FILE);
    let link = servers[1].flowing(1).await.proxies[0].id;

    proxy.replace_servers(endpoints[1..].to_vec());
    let served = proxy.serves_when("the second server", |served| served.len() == 1).await;
    let second = public(&served, &servers[1]);
    let is_leaving = |snapshot: &Snapshot| snapshot.proxies[0].channels[0].state == ChannelState::GoingAway;
    servers[0].until("no new streams", is_leaving).await;
    // A new user of a removed server.
    is_refused(first).await;
    assert!(!leaving.has_ended(), "the download ended before its server was removed");
    assert_eq!(leaving.end("a download of a removed server").await, Ok(Fetched::from(LONG_FILE)));
    servers[0].until("the link ends with its last stream", |snapshot| snapshot.proxies.is_empty()).await;
    assert_eq!(kept.end("a download of the other server").await, Ok(Fetched::from(LONG_FILE)));
    assert_eq!(servers[1].telemetry.snapshot().proxies[0].id, link, "the link is the same");
    // A server that returns is served again.
    proxy.replace_servers(endpoints);
    let served = proxy.serves_when("both servers", |served| served.len() == 2).await;
    assert_eq!(public(&served, &servers[1]), second);
    let again = download(public(&served, &servers[0]), SHORT_FILE);
    assert_eq!(again.end("a download").await, Ok(Fetched::from(SHORT_FILE)));
    proxy.stop().await;
    for server in servers {
        server.end().await;
    }
}

/// Streams of a removed server continue, and its link is resumed where its channels are lost. Who adds the server again
/// with another fingerprint trusts the former key no more, and the link must not be resumed by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_a_server_that_returns_with_another_fingerprint_is_resumed_with_that() {
    let generate = || {
        let pem = Identity::generate().unwrap();
        Identity::from_pem(&pem, &pem).unwrap()
    };
    let (identity, other) = (generate(), generate());
    let verified = |identity: &Identity| {
        let verification = ServerVerification::Fingerprints(vec![identity.fingerprint()]);
        Some(ClientTls::new(verification).unwrap())
    };
    for (trusts_other, expects_resumption) in [(false, true), (true, false)] {
        let mut server = Tunnel::config(|config| config.grace_period = Duration::from_secs(1));
        server.tls = Some(ServerTls::new(&identity).unwrap());
        let (first, second) = (Tunnel::bind(server, Token::random()).await, Tunnel::start().await);
        let relay = Relay::to(first.addr).await;
        let origin = target::origin(RATE).await;
        let mut config = first.proxy_config(origin.addr).with_server(relay.addr.to_string());
        config.servers[0].tls = verified(&identity);
        let (own, kept) = (config.servers[0].clone(), ServerEndpoint::new(second.addr.to_string()));
        let proxy = RunningProxy::start(config, first.token.clone());
        let served = proxy.serves_when("the server", |served| served.len() == 1).await;
        let leaving = download(SocketAddr::new(LOOPBACK.ip(), served[0].service.port), LONG_FILE);
        first.flowing(1).await;
        proxy.replace_servers(vec![kept.clone()]);
        let is_leaving =
            |snapshot: &Snapshot| snapshot.proxies[0].channels[0].state == ChannelState::GoingAway;
        first.until("the link is removed", is_leaving).await;
        let trusted = if trusts_other { &other } else { &identity };
        let returned = ServerEndpoint { tls: verified(trusted), ..own };
        proxy.replace_servers(vec![kept, returned]);
        assert!(!leaving.has_ended(), "the download ended before its channels were lost");
        relay.set_all(Wire::Cut);
        let end = leaving.end("the download of the removed server").await;
        assert_eq!(end == Ok(Fetched::from(LONG_FILE)), expects_resumption, "{end:?}");
        proxy.stop().await;
        first.end().await;
        second.end().await;
    }
}

/// One that does not answer, or whose handshake is not complete, is given up as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_removed_while_it_is_connected_to() {
    let servers = servers(|_| {}).await;
    let origin = target::origin(None).await;
    let silent = target::idle().await;
    let mut config = config(&servers, origin.addr);
    config.servers[0].address = silent.addr.to_string();
    let kept = config.servers[1..].to_vec();
    let proxy = RunningProxy::start(config, servers[1].token.clone());
    proxy.serves_when("one server", |served| served.len() == 1).await;
    silent.when(|counts| counts.open == 1, crate::support::LONG).await;
    proxy.replace_servers(kept);
    silent.when(|counts| counts.open == 0, crate::support::LONG).await;
    assert_eq!(servers[1].telemetry.snapshot().proxies.len(), 1);
    proxy.stop().await;
    for server in servers {
        server.end().await;
    }
}

/// The users of one server could take all streams of the proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_of_one_server_leave_streams_to_those_of_another() {
    let servers = servers(|_| {}).await;
    let target = target::ping_pong().await;
    let config = ProxyConfig { max_streams: 8, ..config(&servers, target.addr) };
    let proxy = RunningProxy::start(config, servers[0].token.clone());
    let served = proxy.serves_when("both servers", |served| served.len() == 2).await;
    let mut users = Vec::new();
    for _ in 0..8 {
        // One that is refused may be reset before this side knows that it is connected.
        users.push(tokio::net::TcpStream::connect(public(&served, &servers[0])).await);
    }
    target.when(|counts| counts.open == 6, crate::support::LONG).await;
    let two_are_refused =
        |snapshot: &Snapshot| snapshot.totals.streams_total == 8 && snapshot.totals.streams_open == 6;
    servers[0].until("two are refused", two_are_refused).await;
    for _ in 0..2 {
        users.push(tokio::net::TcpStream::connect(public(&served, &servers[1])).await);
    }
    target.when(|counts| counts.open == 8, crate::support::LONG).await;
    drop(users);
    // A user whose proxy leaves before its FIN has passed waits for another proxy, for the five seconds of `--wait`.
    for server in &servers {
        server.until("all users have left", |snapshot| snapshot.totals.streams_open == 0).await;
    }
    proxy.stop().await;
    for server in servers {
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_gives_up_only_if_every_server_refuses_it() {
    let servers = servers(|_| {}).await;
    let origin = target::origin(None).await;
    // A server with another token.
    let other = Tunnel::start().await;
    let mut refused = config(&servers, origin.addr);
    refused.servers[0].address = other.addr.to_string();
    let proxy = RunningProxy::start(refused, servers[1].token.clone());
    let served = proxy.serves_when("one server", |served| served.len() == 1).await;
    other.until("two wrong tokens", |snapshot| snapshot.totals.handshakes_failed == 2).await;
    assert_eq!(download(public(&served, &servers[1]), FILE).end("a download").await, Ok(Fetched::from(FILE)));
    proxy.stop().await;

    let error = RunningProxy::start(config(&servers, origin.addr), Token::random()).gives_up().await;
    assert!(error.to_string().contains("wrong token"), "{error}");
    for server in servers {
        // It counts a refusal after the proxy has received it.
        server.until("each was asked twice", |snapshot| snapshot.totals.handshakes_failed == 2).await;
        server.end().await;
    }
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_all_servers_count_together() {
    let servers = servers(|_| {}).await;
    let target = target::ping_pong().await;
    let config = ProxyConfig { max_streams: 1, ..config(&servers, target.addr) };
    let proxy = RunningProxy::start(config, servers[0].token.clone());
    let served = proxy.serves_when("both servers", |served| served.len() == 2).await;
    let first = tokio::net::TcpStream::connect(public(&served, &servers[0])).await.unwrap();
    target.when(|counts| counts.open == 1, crate::support::LONG).await;
    // The maximum is open at the other server.
    is_refused(public(&served, &servers[1])).await;
    assert_eq!(target.counts().accepted, 1);
    drop(first);
    proxy.stop().await;
    for server in servers {
        server.end().await;
    }
}

#[tokio::test]
async fn the_log_names_the_server_to_which_a_channel_is_lost() {
    let (mut first, lost) = Process::server(TOKEN, &[]).await;
    let (_second, kept) = Process::server(TOKEN, &[]).await;
    let (lost, kept) = (lost.to_string(), kept.to_string());
    let servers = ["proxy", "--server", &lost, "--server", &kept];
    let service = ["--port", "0", "--to", "127.0.0.1:9", "--token", TOKEN];
    let mut proxy = Process::underpass(&[&servers[..], &service].concat());
    for _ in &[&lost, &kept] {
        proxy.serves().await;
    }
    first.kill_9().await;
    let line = proxy.line("channel to the server lost").await;
    assert!(line.contains(&format!("server={lost}")), "{line}");
}
