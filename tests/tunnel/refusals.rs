//! Refusals and faults before a proxy serves: which of them end it, and which it retries.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    process::{Process, TOKEN},
    soon,
    target::{self, LOOPBACK},
    tunnel::{FORMATS, RunningProxy, Tunnel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinSet,
};
use underpass::{
    config::{ChannelCount, ProxyConfig, ProxyFormat},
    proxy::ProxyError,
    telemetry::EventKind,
    wire::handshake::Token,
};

/// A byte of the handshake or the registration that is to be corrupted in transit.
#[derive(Debug, Clone, Copy)]
struct Fault {
    /// Whether the proxy sends it.
    is_from_proxy: bool,
    /// What precedes the byte, in the same read of the relay.
    after: &'static [u8],
    /// How many bytes lie between.
    skipped: usize,
}

/// A relay that corrupts one byte of one connection.
struct FaultyRelay {
    addr: SocketAddr,
    /// The fault that is to happen next.
    fault: Arc<Mutex<Option<Fault>>>,
    /// How many connections the relay has forwarded.
    connections: Arc<AtomicUsize>,
    /// Resets all connections when it changes.
    cut: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl FaultyRelay {
    async fn to(server: SocketAddr, fault: Option<Fault>) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (fault, connections) = (Arc::new(Mutex::new(fault)), Arc::<AtomicUsize>::default());
        let cut = watch::Sender::new(());
        let mut tasks = JoinSet::new();
        let (faults, count, cuts) = (fault.clone(), connections.clone(), cut.clone());
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(server).await.unwrap();
                count.fetch_add(1, SeqCst);
                let (faults, mut cut) = (faults.clone(), cuts.subscribe());
                relays.spawn(async move {
                    let ((near_read, near_write), (far_read, far_write)) =
                        (near.into_split(), far.into_split());
                    tokio::select! {
                        ((), ()) = async { tokio::join!(
                            forward(near_read, far_write, true, &faults),
                            forward(far_read, near_write, false, &faults),
                        ) } => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { addr, fault, connections, cut, _tasks: tasks }
    }

    fn has_corrupted(&self) -> bool {
        self.fault.lock().unwrap().is_none()
    }
}

/// Forwards one direction to its end, and corrupts the byte that `fault` selects.
async fn forward(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    is_from_proxy: bool,
    fault: &Mutex<Option<Fault>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        {
            let mut fault = fault.lock().unwrap();
            if let Some(wanted) = fault.filter(|fault| fault.is_from_proxy == is_from_proxy)
                && let Some(found) =
                    buffer[..n].windows(wanted.after.len()).position(|part| part == wanted.after)
                && let Some(byte) = buffer[..n].get_mut(found + wanted.after.len() + wanted.skipped)
            {
                *byte ^= 1;
                *fault = None;
            }
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    _ = to.shutdown().await;
}

const PREFACE: &[u8] = b"UNDRP\r\n";

/// The lengths of HELLO's header and of the fields before its nonce.
const BEFORE_NONCE: usize = 8 + 11;

/// Regression test: a checksum failure on the first ADDPROXY was answered with ERROR, which the proxy took for a
/// refused registration, and it ended. The handshake has no checksums: there, corruption looks like a wrong token.
#[tokio::test]
async fn corruption_in_transit_does_not_end_a_proxy_that_has_not_served_yet() {
    let fault = |is_from_proxy, after, skipped| Fault { is_from_proxy, after, skipped };
    for (what, format, fault) in [
        ("the nonce of HELLO", ProxyFormat::Binary, fault(true, PREFACE, BEFORE_NONCE)),
        ("the version in HELLO", ProxyFormat::Binary, fault(true, PREFACE, 9)),
        ("the type of HELLO", ProxyFormat::Binary, fault(true, PREFACE, 0)),
        ("CHALLENGE", ProxyFormat::Binary, fault(false, b"\x02\0\0\0\0\0\0\x20", 0)),
        ("PROOF", ProxyFormat::Binary, fault(true, b"\x03\0\0\0\0\0\0\x20", 31)),
        ("WELCOME", ProxyFormat::Binary, fault(false, b"\x04\x01\0\0\0\0\0\x66", 0)),
        ("the secret in WELCOME", ProxyFormat::Binary, fault(false, b"\x04\x01\0\0\0\0\0\x66", 50)),
        ("ADDPROXY", ProxyFormat::Binary, fault(true, b"ADDPROXY", 0)),
        ("RESPONSE", ProxyFormat::Binary, fault(false, b"RESPONSE", 0)),
        ("the token in AUTH", ProxyFormat::Text, fault(true, b"|AUTH|", 3)),
        ("ADDPROXY as a line", ProxyFormat::Text, fault(true, b"ADDPROXY", 0)),
        ("the port in ADDPROXY", ProxyFormat::Text, fault(true, b"ADDPROXY:", 0)),
        ("RESPONSE as a line", ProxyFormat::Text, fault(false, b"|RESPONSE", 0)),
    ] {
        let tunnel = Tunnel::start().await;
        let relay = FaultyRelay::to(tunnel.addr, Some(fault)).await;
        let config = ProxyConfig {
            format,
            ..tunnel.proxy_config(target::refusing().await).with_server(relay.addr.to_string())
        };
        let mut proxy = RunningProxy::start(config, tunnel.token.clone());
        proxy.serves().await;
        assert!(relay.has_corrupted(), "{what}: nothing was corrupted");
        proxy.stop().await;
        drop(relay);
        tunnel.end().await;
    }
}

/// HELLO names the link without a checksum. The answer that it is unknown ends all of its streams.
#[tokio::test]
async fn corruption_of_the_link_in_hello_does_not_end_its_streams() {
    let mut tunnel = Tunnel::start().await;
    let relay = FaultyRelay::to(tunnel.addr, None).await;
    let echo = target::echo().await;
    let config = ProxyConfig {
        channels: ChannelCount::Fixed(1),
        ..tunnel.proxy_config(echo.addr).with_server(relay.addr.to_string())
    };
    let public = tunnel.proxy_with(config).await;
    let mut user = TcpStream::connect(public).await.unwrap();
    let mut answer = [0; 6];
    user.write_all(b"before").await.unwrap();
    soon("an echo", user.read_exact(&mut answer)).await.unwrap();
    let link = Fault { is_from_proxy: true, after: PREFACE, skipped: BEFORE_NONCE + 16 };
    *relay.fault.lock().unwrap() = Some(link);
    relay.cut.send_replace(());
    user.write_all(b"after!").await.unwrap();
    soon("an echo", user.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"after!");
    assert!(relay.has_corrupted());
    drop(user);
    tunnel.end().await;
}

/// A port that another program or another group of proxies holds may become free. A proxy that starts before that must
/// not need somebody to start it again.
#[tokio::test]
async fn a_port_in_use_is_requested_again_until_it_is_free() {
    for format in FORMATS {
        let mut tunnel = Tunnel::with(|config| config.idle_service_timeout = Duration::from_millis(50)).await;
        let echo = target::echo().await;
        let program = TcpListener::bind(LOOPBACK).await.unwrap();
        let port = program.local_addr().unwrap().port();
        let mut program = Some(program);
        let other_group = tunnel.proxy(echo.addr, format).await;
        for (service, reason) in [
            (format!("{port}:default"), "is in use on the server"),
            (format!("{}:blue", other_group.port()), "is already served by group «default»"),
        ] {
            let config = ProxyConfig {
                format,
                ..tunnel.proxy_config(echo.addr).with_service(service.parse().unwrap())
            };
            let mut proxy = RunningProxy::start(config, tunnel.token.clone());
            // More than the two attempts after which a final refusal would end it.
            let refusals = || {
                let is_refusal = |event: &&EventKind| matches!(event, EventKind::RegistrationRefused { reason: told, .. } if told.contains(reason));
                tunnel.events().iter().filter(is_refusal).count()
            };
            tunnel.until("three refusals", |_| refusals() >= 3).await;
            match program.take() {
                Some(program) => drop(program),
                None => tunnel.stop_proxy(0).await,
            }
            assert_eq!(proxy.serves().await.to_string(), service);
            proxy.stop().await;
        }
        tunnel.end().await;
    }
}

/// What only an operator can change ends the proxy after a second attempt, which shows that the answer was not
/// corrupted.
#[tokio::test]
async fn a_final_refusal_ends_a_proxy_after_two_attempts() {
    for format in FORMATS {
        for (service, token, reason) in
            [("0", Some("wrong"), "wrong token"), ("22", None, "port 22 is not allowed")]
        {
            let tunnel = Tunnel::start().await;
            let relay = FaultyRelay::to(tunnel.addr, None).await;
            let config = ProxyConfig {
                channels: ChannelCount::Fixed(1),
                format,
                ..tunnel
                    .proxy_config(LOOPBACK)
                    .with_server(relay.addr.to_string())
                    .with_service(service.parse().unwrap())
            };
            let token = token.map_or(tunnel.token.clone(), Token::new);
            let error = RunningProxy::start(config, token).gives_up().await;
            assert!(matches!(error, ProxyError::Refused { .. } | ProxyError::Registration { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(relay.connections.load(SeqCst), 2, "{format:?}: {error}");
            drop(relay);
            tunnel.end().await;
        }
    }
}

/// An operator who looks for what was refused finds the registration, and not the other channels that the proxy has
/// dialled meanwhile.
#[tokio::test]
async fn a_refused_registration_is_one_refusal_in_the_log() {
    let (mut server, addr) = Process::server(TOKEN, &["--ports", "1024-65535"]).await;
    let addr = addr.to_string();
    let arguments = ["proxy", "--server", &addr, "--port", "22", "--to", "127.0.0.1:9", "--channels", "8"];
    let mut proxy = Process::underpass(&[&arguments[..], &["--token", TOKEN]].concat());
    assert_eq!(proxy.exit().await.code(), Some(3), "{}", proxy.output());
    // The channels arrived before this request does.
    let mut socket = TcpStream::connect(&addr).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    server.line("the client speaks HTTP").await;
    let output = server.output();
    let refused: Vec<&str> = output.lines().filter(|line| line.contains("refused")).collect();
    // The proxy asks twice, because the first answer could have been corrupted.
    assert_eq!(refused.len(), 3, "{output}");
    assert!(refused[..2].iter().all(|line| line.contains("port 22 is not allowed")), "{output}");
}
