//! Targets that lead back to a public port of the same server, so that each stream is the cause of another one.
//!
//! Such a loop took all descriptors of the server and of the proxy within a second, and continued after its user had
//! left.

use std::net::SocketAddr;

use tokio::{io::AsyncWriteExt, net::TcpStream};
use underpass::{
    config::{ProxyConfig, ProxyFormat, ServiceConfig},
    ids::StreamKey,
    telemetry::{EndReason, EventKind},
};

use crate::{
    Server, rest,
    support::{
        soon,
        target::{LOOPBACK, free_ports},
    },
};

impl Server {
    /// Adds a proxy that serves the public port `port` and whose target is `target` on the same host.
    async fn redirect(&mut self, port: u16, target: u16, format: ProxyFormat) -> SocketAddr {
        let target = SocketAddr::new(LOOPBACK.ip(), target);
        let service = port.to_string().parse().unwrap();
        let config = ProxyConfig { format, ..self.tunnel.proxy_config(target).with_service(service) };
        self.tunnel.proxy_with(config).await
    }

    /// Connects a user who sends a request, asserts that its connection is reset, and that no stream is left.
    async fn resets_a_user_of(&self, public: SocketAddr) {
        let mut user = soon("a user", TcpStream::connect(public)).await.unwrap();
        // Fails if the reset has arrived already.
        _ = user.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        let (received, end) = rest(&mut user).await;
        assert!(received.is_empty(), "the user received its own request");
        assert!(end.is_err(), "a loop must not look like an empty response");
        drop(user);
        self.tunnel.until("the loop has ended", |snapshot| snapshot.totals.streams_open == 0).await;
    }

    /// Returns the streams that ended as part of a loop.
    fn looping_streams(&self) -> Vec<StreamKey> {
        let events = self.tunnel.events().into_iter();
        events
            .filter_map(|event| match event {
                EventKind::StreamEnded { key, reason: EndReason::ForwardingLoop, .. } => Some(key),
                _ => None,
            })
            .collect()
    }
}

#[tokio::test]
async fn a_proxy_whose_target_is_its_own_public_port_refuses_its_streams() {
    let mut server = Server::start().await;
    let [port] = free_ports();
    let public = server.redirect(port, port, ProxyFormat::Binary).await;
    for user in 1..=3 {
        server.resets_a_user_of(public).await;
        let totals = server.tunnel.telemetry.snapshot().totals;
        assert!(totals.streams_total <= 20 * user, "the loop went on: {totals:?}");
        assert!(totals.forwarding_loops >= user, "{totals:?}");
    }
    server
        .tunnel
        .event("a loop", |event| {
            matches!(event, EventKind::StreamEnded { reason: EndReason::ForwardingLoop, .. })
        })
        .await;
    assert!(!server.looping_streams().is_empty());
    server.end().await;
}

/// A service may lead to another one of the same proxy, whose target leads back: the proxy sees each connection of the
/// loop.
#[tokio::test]
async fn a_loop_through_two_services_of_one_proxy_is_refused_and_a_chain_is_not() {
    let mut server = Server::start().await;
    let [first, second, third] = free_ports();
    let at = |port| SocketAddr::new(LOOPBACK.ip(), port);
    let leading =
        |from: u16, to: SocketAddr| ServiceConfig::new(from.to_string().parse().unwrap(), to.to_string());
    let echo = crate::support::target::echo().await;
    let services = vec![leading(first, at(second)), leading(second, at(first)), leading(third, echo.addr)];
    let config = ProxyConfig { services, ..server.tunnel.proxy_config(LOOPBACK) };
    server.tunnel.proxy_with(config).await;
    let running = server.tunnel.proxies().last().unwrap();
    running.serves_when("all", |served| served.len() == 3).await;
    for user in 1..=2 {
        server.resets_a_user_of(at(first)).await;
        let totals = server.tunnel.telemetry.snapshot().totals;
        assert!(totals.streams_total <= 20 * user, "the loop went on: {totals:?}");
        assert!(totals.forwarding_loops >= user, "{totals:?}");
    }
    // One that ends somewhere is served.
    let chain = vec![leading(first, at(second)), leading(second, at(third)), leading(third, echo.addr)];
    let running = server.tunnel.proxies().last().unwrap();
    running.replace_services(chain);
    running.serves_when("the chain", |served| served[1].target == at(third).to_string()).await;
    let file = underpass::cli::demo::DemoFile { seed: 1, size: 100_000 };
    crate::support::client::echoes(at(first), file).await;
    server.end().await;
}

/// No proxy of a longer loop sees both ends of a connection. The connection beyond the server's limit is reset, and
/// that ends the streams of the chain, from the last one to the user's.
#[tokio::test]
async fn a_loop_through_two_proxies_ends_at_the_limit_of_the_server() {
    for format in [ProxyFormat::Binary, ProxyFormat::Text] {
        let mut server = Server::with(|config| config.max_streams = 40).await;
        let [first, second] = free_ports();
        let public = server.redirect(first, second, format).await;
        server.redirect(second, first, format).await;
        for _ in 0..3 {
            server.resets_a_user_of(public).await;
            server.serves().await;
        }
        let refused = |event: &EventKind| matches!(event, EventKind::UserRejected { .. });
        server.tunnel.event("the limit of the server", refused).await;
        server.end().await;
    }
}

/// The OPEN of the text format has no address by which its proxy could notice the loop.
#[tokio::test]
async fn a_loop_of_a_text_proxy_ends_at_the_limit_of_the_server() {
    let mut server = Server::with(|config| config.max_streams = 40).await;
    let [port] = free_ports();
    let public = server.redirect(port, port, ProxyFormat::Text).await;
    server.resets_a_user_of(public).await;
    server.end().await;
}
