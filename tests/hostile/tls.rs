//! Pending connections that begin with TLS: what they send before their handshake is complete, or instead of it.

use std::time::Duration;

use rustls::{ClientConnection, Connection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use underpass::{
    net::{ChannelSocket, Negotiation},
    tls::{ClientTls, ServerTls},
};

use crate::{
    SECOND, Server,
    support::{LONG, soon},
};

/// Returns the first flight of a conforming client.
fn client_hello() -> Vec<u8> {
    let name = ClientTls::server_name("localhost:1").unwrap();
    let config = ClientTls::accepting_any_certificate().unwrap().config();
    let mut connection = Connection::Client(ClientConnection::new(config, name).unwrap());
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Returns a TLS record of a handshake.
fn record(body: &[u8]) -> Vec<u8> {
    [&[0x16, 3, 1][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// Returns a server with TLS whose pending connections have this long for each message.
async fn server(step: Duration) -> Server {
    Server::with(|config| {
        config.tls = Some(ServerTls::self_signed().unwrap());
        config.handshake_step_timeout = step;
    })
    .await
}

#[tokio::test]
async fn incomplete_and_wrong_handshakes_are_closed_with_the_reason() {
    const SLOW: &str = "no complete message within";
    const WRONG: &str = "TLS handshake failed";
    let hello = client_hello();
    // A ClientHello of 1 MiB, in records of the largest size.
    let part = record(&[[1, 0x10, 0, 0].as_slice(), &[0; 16_380]].concat());
    let mut long = part;
    (0..63).for_each(|_| long.extend(record(&[0; 16_384])));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("one byte", vec![0x16], SLOW),
        ("half a header", hello[..3].into(), SLOW),
        ("half a ClientHello", hello[..hello.len() / 2].into(), SLOW),
        ("a ClientHello, and silence", hello.clone(), SLOW),
        ("garbage", [&[0x16][..], &[0xAB; 3000]].concat(), WRONG),
        ("a record of 64 KiB", [&[0x16, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat(), WRONG),
        ("a ClientHello of 1 MiB", long, WRONG),
        ("empty records", record(&[]).repeat(1000), WRONG),
        ("two ClientHellos", [&hello[..], &hello].concat(), WRONG),
        ("garbage after a ClientHello", [&hello[..], &[0xAB; 3000]].concat(), WRONG),
        ("a forged record after it", [&hello[..], &[0x17, 3, 3, 0, 40], &[0xAB; 40]].concat(), WRONG),
        ("an alert", vec![0x16, 3, 1, 0, 0, 0x15, 3, 1, 0, 2, 2, 40], WRONG),
    ];
    let slow = server(Duration::from_millis(500)).await;
    // What is wrong has to be noticed before the step ends, also on a busy machine.
    let wrong = server(LONG).await;
    let server_of = |reason| if reason == SLOW { &slow } else { &wrong };
    let mut pending = JoinSet::new();
    for (what, bytes, reason) in cases {
        let addr = server_of(reason).tunnel.addr;
        pending.spawn(async move {
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let pending_addr = socket.local_addr().unwrap();
            // The server may close the connection before everything is sent.
            _ = soon(what, socket.write_all(&bytes)).await;
            _ = soon(what, socket.read_to_end(&mut Vec::new())).await;
            (what, pending_addr, reason)
        });
    }
    for (what, pending_addr, reason) in soon("all are turned away", pending.join_all()).await {
        let told = server_of(reason).rejection_reason(what, pending_addr).await;
        assert!(told.contains(reason), "{what}: {told}");
        assert!(!told.contains(char::is_control), "{what}: {told:?}");
    }
    slow.end().await;
    wrong.end().await;
}

/// The timeout of a step holds for the whole flight, and the next flight has its own.
#[tokio::test]
async fn a_client_hello_in_single_bytes_has_the_timeout_of_one_message() {
    let step = Duration::from_millis(300);
    let server = server(step).await;
    let mut socket = TcpStream::connect(server.tunnel.addr).await.unwrap();
    let pending_addr = socket.local_addr().unwrap();
    let mut hello = client_hello().into_iter();
    let mut tick = tokio::time::interval(step / 5);
    let mut buffer = [0; 64];
    soon("it is turned away", async {
        loop {
            tokio::select! {
                _ = tick.tick() => drop(socket.write_all(&[hello.next().unwrap()]).await),
                read = socket.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { break },
            }
        }
    })
    .await;
    assert!(server.rejection_reason("it", pending_addr).await.contains("no complete message within"));
    server.end().await;
}

/// What follows a complete TLS handshake has the limits that it has without TLS.
#[tokio::test]
async fn a_peer_that_is_silent_or_wrong_behind_tls_is_closed() {
    let server = server(SECOND / 2).await;
    let cases: [(&'static [u8], &str); 4] = [
        (b"", "no complete message within"),
        (b"\xF5UNDRQ\r\n", "message of an unknown type ("),
        (b"\x16\x03\x01\x00\x05hello\n", "it received data of an unknown protocol"),
        (&[b'A'; 5000], "it received data of an unknown protocol"),
    ];
    for (bytes, reason) in cases {
        let socket = TcpStream::connect(server.tunnel.addr).await.unwrap();
        let pending_addr = socket.local_addr().unwrap();
        let mut pending = Negotiation::new(ChannelSocket::plain(socket));
        let any = ClientTls::accepting_any_certificate().unwrap();
        soon("TLS", pending.connect_tls(&any, "localhost:1")).await.unwrap();
        pending.send_bytes(bytes::Bytes::from_static(bytes)).await.unwrap();
        let told = server.rejection_reason(reason, pending_addr).await;
        assert!(told.contains(reason), "{told}");
    }
    server.end().await;
}
