//! Servers and proxies of different versions: what both have is used, and nothing is sent that one of them does not
//! know.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpListener;
use underpass::{
    config::{ChannelCount, ProxyConfig, ServiceConfig},
    ids::{Priority, StreamKey, UserChannelId},
    wire::{
        Frame, Open, ResetCode, TunnelAction, TunnelMessage,
        binary::{CHECKSUMS, PUBLIC_ADDRESS, SERVICES, USER_NETWORKS},
        handshake::Token,
    },
};

use crate::support::{
    binary::{BinaryChannel, hello},
    soon,
    target::{self, LOOPBACK},
    tunnel::{RunningProxy, Tunnel},
};

/// The features of version 0.1.
const FEATURES_OF_0_1: u32 = CHECKSUMS | PUBLIC_ADDRESS | USER_NETWORKS;

/// Returns the next request of the proxy.
async fn request(channel: &mut BinaryChannel) -> String {
    loop {
        if let Frame::Message(TunnelMessage { action, .. }) = channel.hear_other().await {
            return action.to_string();
        }
    }
}

/// Sends an answer without a number.
async fn answer(channel: &mut BinaryChannel, action: TunnelAction, data: &'static str) {
    channel.send([Frame::Message(TunnelMessage::control(action, data))]).await;
}

/// Opens a stream of a public port. Returns the bytes of the target, or the code of the reset.
async fn open(channel: &mut BinaryChannel, stream: u32, port: u16) -> Result<Bytes, ResetCode> {
    let key = StreamKey::new(UserChannelId::new(1), stream);
    let open = Open { stream, key, port, priority: Priority::default(), window: 65_536, user: None };
    channel.send([Frame::Open(open)]).await;
    loop {
        match channel.hear_other().await {
            Frame::Data { payload, .. } => return Ok(payload),
            Frame::Reset { code, .. } => return Err(code),
            _ => {}
        }
    }
}

/// Starts a target that sends `name` to each user, and stays connected.
async fn named(name: &'static str) -> target::Target {
    target::serve_with(move |mut socket| async move {
        tokio::io::AsyncWriteExt::write_all(&mut socket, name.as_bytes()).await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
        Ok(())
    })
    .await
}

fn service(key: &str, target: SocketAddr) -> ServiceConfig {
    ServiceConfig::new(key.parse().unwrap(), target.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_serves_several_services_of_a_server_of_0_1() {
    let (listener, token) = (TcpListener::bind(LOOPBACK).await.unwrap(), Token::random());
    let (one, two) = (named("one").await, named("two").await);
    let server = listener.local_addr().unwrap().to_string();
    let config = ProxyConfig::new(server, "0".parse().unwrap(), one.addr.to_string());
    let services = vec![service("8080", one.addr), service("0:web", two.addr)];
    let config = ProxyConfig { services, channels: ChannelCount::Fixed(1), ..config };
    let proxy = RunningProxy::start(config, token.clone());
    let (socket, _) = soon("a proxy", listener.accept()).await.unwrap();
    let mut channel = BinaryChannel::accepted(socket, &token, FEATURES_OF_0_1).await;
    let port = |addr: SocketAddr| addr.port();
    // Without numbers, and the second one after the answer to the first.
    assert_eq!(request(&mut channel).await, format!("ADDPROXY:8080:default:{}", port(one.addr)));
    assert!(!channel.settle().await.iter().any(|frame| matches!(frame, Frame::Message(_))));
    answer(&mut channel, TunnelAction::Response, "8080:default").await;
    assert_eq!(request(&mut channel).await, format!("ADDPROXY:0:web:{}", port(two.addr)));
    answer(&mut channel, TunnelAction::Response, "9000:web").await;
    channel.during(proxy.serves_when("both", |served| served.len() == 2)).await;
    assert_eq!(open(&mut channel, 1, 8080).await, Ok("one".into()));
    assert_eq!(open(&mut channel, 2, 9000).await, Ok("two".into()));
    // It cannot be told that a service is removed, and the proxy refuses its streams.
    proxy.replace_services(vec![service("0:web", two.addr)]);
    channel.during(proxy.serves_when("one", |served| served.len() == 1)).await;
    assert_eq!(open(&mut channel, 3, 8080).await, Err(ResetCode::LimitExceeded));
    assert_eq!(open(&mut channel, 4, 9000).await, Ok("two".into()));
    drop(channel);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_of_0_1_gets_answers_without_numbers() {
    let tunnel = Tunnel::with(|config| config.grace_period = std::time::Duration::ZERO).await;
    let hello = underpass::wire::Hello { features: PUBLIC_ADDRESS | USER_NETWORKS, ..hello() };
    let (mut channel, welcome) =
        BinaryChannel::greeted(tunnel.addr, &tunnel.token, hello, None).await.unwrap();
    assert_eq!(welcome.features & SERVICES, 0, "it has not offered them");
    for refused in [false, true] {
        let service = if refused { "22" } else { "0" };
        let message = format!("ADDPROXY:{service}").parse().unwrap();
        channel.send([Frame::Message(TunnelMessage::control(message, ""))]).await;
        let action = request(&mut channel).await;
        assert_eq!(action, if refused { "ERROR" } else { "RESPONSE" });
    }
    drop(channel);
    tunnel.until("it has left", |snapshot| snapshot.proxies.is_empty()).await;
    tunnel.end().await;
}
