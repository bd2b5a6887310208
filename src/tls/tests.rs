//! The settings of both sides, in handshakes in memory.

#![allow(clippy::unwrap_used)]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConnection};

use super::{ALPN, ClientTls, Fingerprint, Identity, ServerTls, ServerVerification, TlsError};

/// Returns a new self-signed identity.
fn identity() -> Identity {
    let pem = Identity::generate().unwrap();
    Identity::from_pem(&pem, &pem).unwrap()
}

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
pub(crate) fn transfer(from: &mut Connection, to: &mut Connection) {
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

/// Returns an authority with this name.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Returns an identity for `name` that `authority` has issued, valid from the begin of one year to that of another.
fn issued(authority: &CertifiedIssuer<'_, KeyPair>, name: &str, (from, to): (i32, i32)) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let certificate = params.signed_by(&key, authority).unwrap();
    Identity::from_pem(&certificate.pem(), &key.serialize_pem()).unwrap()
}

/// Runs a handshake that fails at the proxy. Returns what the proxy says, and what the server says about its alert.
fn refused(client: &ClientTls, identity: &Identity, server: &str) -> (TlsError, TlsError) {
    let name = ClientTls::server_name(server).unwrap();
    let mut near = Connection::Client(ClientConnection::new(client.config(), name).unwrap());
    let config = ServerTls::new(identity).unwrap().config();
    let mut far = Connection::Server(ServerConnection::new(config).unwrap());
    transfer(&mut near, &mut far);
    let failed = |from: &mut Connection, to: &mut Connection| {
        let mut sent = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut sent).unwrap();
        }
        let mut unread = &sent[..];
        while !unread.is_empty() {
            to.read_tls(&mut unread).unwrap();
            if let Err(error) = to.process_new_packets() {
                return TlsError::from(error);
            }
        }
        panic!("the peer accepted what it received")
    };
    let error = failed(&mut far, &mut near);
    (error, failed(&mut near, &mut far))
}

#[test]
fn a_server_with_another_key_than_the_pinned_one_is_refused_with_both_fingerprints() {
    let (ours, other) = (identity(), identity());
    let client =
        |pins: &[Fingerprint]| ClientTls::new(ServerVerification::Fingerprints(pins.to_vec())).unwrap();
    let server = ServerTls::new(&ours).unwrap();
    connect(&client(&[ours.fingerprint()]), &server);
    connect(&client(&[other.fingerprint(), ours.fingerprint()]), &server);
    let (error, alert) = refused(&client(&[ours.fingerprint()]), &other, "192.0.2.1:7000");
    let text = error.to_string();
    let expected = format!(
        "has the fingerprint {}, and not {} (--fingerprint)",
        other.fingerprint(),
        ours.fingerprint()
    );
    assert!(text.contains(&expected) && text.contains("somebody intercepts the connection"), "{text}");
    assert!(error.is_permanent());
    assert!(alert.to_string().contains("does not trust the certificate"), "{alert}");
}

/// Who knows the key needs neither the dates nor the name, and a clock that is wrong by years does no harm.
#[test]
fn a_pinned_key_and_a_proof_of_the_token_need_no_dates_and_no_names() {
    let authority = authority("ours");
    for years in [(2001, 2002), (2901, 2902)] {
        let identity = issued(&authority, "other.test", years);
        let server = ServerTls::new(&identity).unwrap();
        connect(
            &ClientTls::new(ServerVerification::Fingerprints(vec![identity.fingerprint()])).unwrap(),
            &server,
        );
        connect(&ClientTls::new(ServerVerification::Token).unwrap(), &server);
    }
}

#[test]
fn a_certificate_that_does_not_verify_is_refused_with_what_to_do() {
    let (ours, other, forged) = (authority("ours"), authority("other"), authority("ours"));
    let client = ClientTls::new(ServerVerification::Authorities(ours.pem())).unwrap();
    let valid = (2001, 2901);
    connect(&client, &ServerTls::new(&issued(&ours, "tunnel.example.org", valid)).unwrap());
    for (identity, server, expected, at_server, is_permanent) in [
        (
            issued(&ours, "other.test", valid),
            "tunnel.test:7000",
            "is for other.test, and not for tunnel.test: write",
            "another name",
            true,
        ),
        (
            issued(&ours, "tunnel.test", valid),
            "192.0.2.1:7000",
            "is for tunnel.test, and not for 192.0.2.1: write",
            "another name",
            true,
        ),
        (
            issued(&ours, "tunnel.test", (2001, 2002)),
            "tunnel.test:7000",
            "expired on Jan  1 00:00:00 2002 +00:00, and the clock of",
            "by its clock",
            false,
        ),
        (
            issued(&ours, "tunnel.test", (2901, 2902)),
            "tunnel.test:7000",
            "is not valid before Jan  1 00:00:00 2901 +00:00, and",
            "by its clock",
            false,
        ),
        (
            issued(&other, "tunnel.test", valid),
            "tunnel.test:7000",
            "give the authority's certificate with --ca",
            "does not trust",
            true,
        ),
        (
            issued(&forged, "tunnel.test", valid),
            "tunnel.test:7000",
            "a signature of the server is wrong",
            "does not trust",
            true,
        ),
        (identity(), "tunnel.test:7000", "pin the server's with --fingerprint", "does not trust", true),
    ] {
        let (error, alert) = refused(&client, &identity, server);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.is_permanent(), is_permanent, "{error}");
        assert!(alert.to_string().contains(at_server), "{alert}");
    }
}

#[test]
fn a_file_without_authorities_is_refused() {
    for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        ClientTls::new(ServerVerification::Authorities(pem.to_owned())).unwrap_err();
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
    let identity = identity();
    assert_ne!(connect(&client, &used_by_connections).peer_certificates(), Some(&identity.chain[..]));
    server.replace(&identity).unwrap();
    assert_eq!(connect(&client, &used_by_connections).peer_certificates(), Some(&identity.chain[..]));
}

#[test]
fn the_server_name_is_the_host_without_the_port() {
    for (server, name) in
        [("a.example:7000", "a.example"), ("192.0.2.1:7", "192.0.2.1"), ("[2001:db8::1]:7", "2001:db8::1")]
    {
        assert_eq!(ClientTls::server_name(server).unwrap().to_str(), name);
    }
}
