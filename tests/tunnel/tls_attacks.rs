//! What an attacker on the path of a channel over TLS can do: read, replay, change the certificate, ask for less
//! protection.

use std::{net::SocketAddr, sync::Arc};

use crate::support::{
    Running,
    client::{Fetched, download},
    soon,
    target::{self, LOOPBACK},
    tunnel::{FORMATS, RunningProxy, Tunnel},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use underpass::{
    cli::demo::DemoFile,
    config::{ProxyConfig, ProxyFormat},
    net::{ChannelSocket, DetectedFormat, Negotiation},
    proxy::ProxyError,
    telemetry::EventKind,
    tls::{ClientTls, ServerTls},
    wire::{
        Frame, Welcome, binary,
        handshake::{HandshakeError, Transcript, server_proof},
    },
};

/// Waits until a handshake has failed for a reason that contains `text`.
async fn handshake_fails(tunnel: &Tunnel, text: &str) {
    let fails = |event: &EventKind| matches!(event, EventKind::HandshakeFailed { reason, .. } if reason.contains(text));
    tunnel.event(text, fails).await;
}

/// Returns the proxy's end of a connection, on which the server's TLS and that of `near` meet.
async fn accept(listener: &TcpListener, tls: &ServerTls) -> Negotiation {
    let (near, _) = soon("a proxy", listener.accept()).await.unwrap();
    let mut near = Negotiation::new(ChannelSocket::plain(near));
    assert!(matches!(near.detect_format().await.unwrap(), DetectedFormat::Tls));
    near.accept_tls(tls).await.unwrap();
    near
}

/// Forwards what `from` receives to `to` until one of them ends.
async fn forward(from: &ChannelSocket, to: &ChannelSocket) {
    let mut buffer = bytes::BytesMut::new();
    loop {
        buffer.reserve(32 * 1024);
        from.readable().await.unwrap();
        match from.try_read(&mut buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            _ => return,
        }
        while !buffer.is_empty() {
            to.writable().await.unwrap();
            if let Ok(n) = to.try_write(&[std::io::IoSlice::new(&buffer)]) {
                bytes::Buf::advance(&mut buffer, n);
            }
        }
    }
}

/// A man in the middle who terminates TLS with a certificate of his own. The proxy does not know the server's
/// certificate. He relays the handshake of the tunnel unchanged, and both proofs cover a TLS session that the other
/// side does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_man_in_the_middle_with_another_certificate_is_detected_by_the_server() {
    let tunnel = Tunnel::with_tls().await;
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let (middle, server) = (listener.local_addr().unwrap(), tunnel.addr);
    let man = Running::start(async move {
        let tls = ServerTls::self_signed().unwrap();
        loop {
            let near = accept(&listener, &tls).await;
            let far = ChannelSocket::plain(TcpStream::connect(server).await.unwrap());
            let mut far = Negotiation::new(far);
            let any = ClientTls::accepting_any_certificate().unwrap();
            far.connect_tls(&any, &server.to_string()).await.unwrap();
            let ((near, _, _), (far, _, _)) = (near.into_parts(), far.into_parts());
            tokio::select! {
                () = forward(&near, &far) => {}
                () = forward(&far, &near) => {}
            }
        }
    });
    let config = tunnel.proxy_config(LOOPBACK).with_server(middle.to_string());
    let error = RunningProxy::start(config, tunnel.token.clone()).gives_up().await;
    // He can only pass on the refusal.
    assert!(error.to_string().contains("wrong token"), "{error}");
    handshake_fails(&tunnel, "wrong token").await;
    drop(man);
    tunnel.end().await;
}

/// The same man, who lets the server's proof pass: here he even has the server prove the token, over his own TLS
/// session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_man_in_the_middle_with_another_certificate_is_detected_by_the_proxy() {
    let tunnel = Tunnel::with_tls().await;
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let config = tunnel.proxy_config(LOOPBACK).with_server(listener.local_addr().unwrap().to_string());
    let token = tunnel.token.clone();
    let man = Running::start(async move {
        let tls = ServerTls::self_signed().unwrap();
        loop {
            let mut near = accept(&listener, &tls).await;
            assert!(matches!(near.detect_format().await.unwrap(), DetectedFormat::Binary));
            let Frame::Hello(hello) = near.recv_frame().await.unwrap() else { panic!("no HELLO") };
            assert_eq!(hello.features & binary::CHECKSUMS, 0, "checksums under TLS");
            near.send_frame(&Frame::Challenge { nonce: [1; 32] }).await.unwrap();
            let Frame::Proof { mac } = near.recv_frame().await.unwrap() else { panic!("no PROOF") };
            let mut welcome = Welcome {
                link: [1; 16],
                epoch: 0,
                channel: 1,
                features: 0,
                max_streams: 1,
                first_window: 1 << 16,
                grace_ms: 0,
                resume_secret: None,
                mac: [0; 32],
            };
            let exporter = [2; 32];
            let transcript =
                Transcript { hello: &hello, challenge: &[1; 32], secret: None, exporter: &exporter };
            welcome.mac = server_proof(&token.key(), &transcript, &mac, &welcome);
            near.send_frame(&Frame::Welcome(welcome)).await.unwrap();
            _ = near.recv_frame().await;
        }
    });
    let error = RunningProxy::start(config, tunnel.token.clone()).gives_up().await;
    let ProxyError::Refused { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(source, HandshakeError::ServerNotProved), "{error}");
    drop(man);
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_tls_is_refused_with_what_to_do() {
    let tunnel = Tunnel::with_tls().await;
    let config = tunnel.proxy_config(LOOPBACK).with_tls(None);
    let error = RunningProxy::start(config, tunnel.token.clone()).gives_up().await;
    assert!(error.to_string().contains("the server requires TLS: remove --plain"), "{error}");
    handshake_fails(&tunnel, "the server requires TLS").await;
    tunnel.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_with_tls_says_that_its_server_has_none() {
    let tunnel = Tunnel::start().await;
    for (server, what) in
        [(tunnel.addr, "an underpass server"), (target::echo().await.addr, "another program")]
    {
        let socket = ChannelSocket::plain(TcpStream::connect(server).await.unwrap());
        let mut negotiation = Negotiation::new(socket);
        let any = ClientTls::accepting_any_certificate().unwrap();
        let error = soon(what, negotiation.connect_tls(&any, &server.to_string())).await.unwrap_err();
        assert!(error.to_string().contains("--plain") || what == "another program", "{what}: {error}");
    }
    handshake_fails(&tunnel, "this server was started with --plain").await;
    tunnel.end().await;
}

/// Bytes that went to a server, by connection.
type Recorded = Arc<Mutex<Vec<Vec<u8>>>>;

/// Forwards connections to `server`, and records what the proxy and the server send. Returns its address.
async fn recorder(server: SocketAddr) -> (SocketAddr, Recorded, Recorded, Running<()>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (up, down) = (Recorded::default(), Recorded::default());
    let (sent, answered) = (up.clone(), down.clone());
    let task = Running::start(async move {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(server).await.unwrap();
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            for (mut from, mut to, to_server) in [(near_read, far_write, true), (far_read, near_write, false)]
            {
                let all = if to_server { &sent } else { &answered }.clone();
                let index = {
                    let mut all = all.lock();
                    all.push(Vec::new());
                    all.len() - 1
                };
                tasks.spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(n @ 1..) = from.read(&mut buffer).await {
                        all.lock()[index].extend_from_slice(&buffer[..n]);
                        if to.write_all(&buffer[..n]).await.is_err() {
                            return;
                        }
                    }
                    _ = to.shutdown().await;
                });
            }
        }
    });
    (addr, up, down, task)
}

/// Nothing of a session is on the path in clear, and what was recorded is worth nothing on another connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_session_shows_nothing_and_cannot_be_replayed() {
    let file = DemoFile { seed: 9, size: 300_000 };
    for format in FORMATS {
        let origin = target::origin(None).await;
        let mut tunnel = Tunnel::with_tls().await;
        let (addr, up, down, recording) = recorder(tunnel.addr).await;
        let name = "proxy-with-a-name".to_owned();
        let config = ProxyConfig {
            format,
            name: name.clone(),
            ..tunnel.proxy_config(origin.addr).with_server(addr.to_string())
        };
        let public = tunnel.proxy_with(config).await;
        assert_eq!(download(public, file).end("a download").await, Ok(Fetched::from(file)));
        let secrets: [&[u8]; 5] = [
            tunnel.token.reveal().as_bytes(),
            name.as_bytes(),
            &binary::PREFACE,
            b"ADDPROXY",
            &file.bytes_from(0)[..64],
        ];
        for recorded in [&up, &down] {
            for bytes in &*recorded.lock() {
                for secret in secrets {
                    let shown = bytes.windows(secret.len()).any(|window| window == secret);
                    assert!(!shown, "{format:?}: {:?} is in clear", String::from_utf8_lossy(secret));
                }
            }
        }
        let first = up.lock()[0].clone();
        let mut replayed = TcpStream::connect(tunnel.addr).await.unwrap();
        replayed.write_all(&first).await.unwrap();
        handshake_fails(&tunnel, "cannot decrypt peer's message").await;
        drop(replayed);
        // The end of the stream passes through the recorder.
        tunnel.end().await;
        drop(recording);
    }
}

/// Text without TLS is what the policy of the server says; with TLS it is as well protected as the binary format.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_proxy_over_tls_needs_the_token() {
    let tunnel = Tunnel::with_tls().await;
    let config = ProxyConfig { format: ProxyFormat::Text, ..tunnel.proxy_config(LOOPBACK) };
    let other = RunningProxy::start(config, underpass::wire::handshake::Token::random());
    handshake_fails(&tunnel, "wrong token").await;
    let error = other.gives_up().await;
    assert!(error.to_string().contains("wrong token"), "{error}");
    tunnel.end().await;
}
