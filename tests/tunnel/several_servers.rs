//! One proxy with links to several servers: it serves the users of each, and each fails by itself.

use std::net::SocketAddr;

use crate::support::{
    client::{Fetched, download, is_refused},
    process::{Process, TOKEN},
    target::{self, LOOPBACK},
    tunnel::{RunningProxy, Tunnel},
};
use underpass::{
    cli::demo::DemoFile,
    config::{ProxyConfig, ServerConfig, ServerEndpoint},
    proxy::ServedService,
    wire::handshake::Token,
};

/// A download that is still running when another server has ended.
const FILE: DemoFile = DemoFile { seed: 4, size: 3_000_000 };

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
        assert_eq!(server.telemetry.totals().handshakes_failed, 2, "each was asked twice");
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
