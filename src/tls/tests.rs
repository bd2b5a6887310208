#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rustls::{ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConnection};

use super::{ALPN, ClientTls, ServerTls, self_signed_certificate};

/// Runs the handshake of a proxy with these settings at a server with those. Returns the proxy's end.
fn connect(client: &ClientTls, server: &ServerTls) -> Connection {
    let name = ClientTls::server_name("tunnel.example.org:7000").unwrap();
    let mut near = Connection::Client(ClientConnection::new(client.config(), name).unwrap());
    let mut far = Connection::Server(ServerConnection::new(server.config()).unwrap());
    while near.wants_write() || far.wants_write() {
        transfer(&mut near, &mut far);
        transfer(&mut far, &mut near);
    }
    assert!(!near.is_handshaking() && !far.is_handshaking());
    near
}

/// Hands what `from` has to send to `to`.
fn transfer(from: &mut Connection, to: &mut Connection) {
    let mut sent = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut sent).unwrap();
    }
    let mut unread = &sent[..];
    while !unread.is_empty() {
        to.read_tls(&mut unread).unwrap();
        to.process_new_packets().unwrap();
    }
}

#[test]
fn both_sides_speak_tls_1_3_without_resumption() {
    let (client, server) =
        (ClientTls::accepting_any_certificate().unwrap(), ServerTls::self_signed().unwrap());
    for _ in 0..2 {
        let connection = connect(&client, &server);
        assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(connection.alpn_protocol(), Some(ALPN));
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn a_replaced_certificate_is_that_of_new_connections_of_all_clones() {
    let (client, server) =
        (ClientTls::accepting_any_certificate().unwrap(), ServerTls::self_signed().unwrap());
    let used_by_connections = server.clone();
    let (chain, key) = self_signed_certificate().unwrap();
    assert_ne!(connect(&client, &used_by_connections).peer_certificates(), Some(&chain[..]));
    server.replace(chain.clone(), key).unwrap();
    assert_eq!(connect(&client, &used_by_connections).peer_certificates(), Some(&chain[..]));
}

#[test]
fn a_key_of_another_certificate_changes_nothing() {
    let server = ServerTls::self_signed().unwrap();
    let before = server.config();
    let (chain, _) = self_signed_certificate().unwrap();
    let (_, other_key) = self_signed_certificate().unwrap();
    server.replace(chain, other_key).unwrap_err();
    assert!(Arc::ptr_eq(&before, &server.config()));
}

#[test]
fn the_server_name_is_the_host_without_the_port() {
    for (server, name) in
        [("a.example:7000", "a.example"), ("192.0.2.1:7", "192.0.2.1"), ("[2001:db8::1]:7", "2001:db8::1")]
    {
        assert_eq!(ClientTls::server_name(server).unwrap().to_str(), name);
    }
}
