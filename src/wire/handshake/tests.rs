//! Unit tests of the handshake: both sides wired together, tampering, replay, versions.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{
    ids::encode_hex,
    wire::{
        Frame, Hello, HelloMode, RefusalCode, TunnelAction, TunnelMessage, Welcome,
        binary::{CHECKSUMS, FrameType, MAX_HANDSHAKE, VERSION, decode, encode},
    },
};

const NONCE: [u8; 32] = [1; 32];
const SECRET: [u8; 32] = [2; 32];
const LINK: [u8; 16] = [3; 16];

fn token() -> Token {
    Token::new("open sesame")
}

fn hello(mode: HelloMode) -> Hello {
    Hello {
        version: VERSION,
        mode,
        features: CHECKSUMS,
        nonce: [4; 16],
        link: if mode == HelloMode::New { [0; 16] } else { LINK },
        epoch: 0,
        name: "box".into(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        link: LINK,
        epoch: 1,
        channel: 1,
        features: CHECKSUMS,
        max_streams: 100,
        first_window: 1 << 18,
        grace_ms: 30_000,
        resume_secret: Some(SECRET),
        mac: [0; 32],
    }
}

/// The transcript of `hello` and `challenge` without a resume secret and without TLS.
fn over<'a>(hello: &'a Hello, challenge: &'a [u8; 32]) -> Transcript<'a> {
    Transcript { hello, challenge, secret: None, exporter: &[] }
}

/// Encodes the frame and decodes it again, as the peer receives it.
fn carried(frame: Frame) -> Frame {
    let mut bytes = BytesMut::new();
    encode(&frame, &mut bytes);
    decode(&mut bytes, MAX_HANDSHAKE).unwrap().unwrap()
}

/// Runs a whole handshake through the codec. Returns the error of the first side that fails.
fn shake(
    client: (ClientHandshake, Frame),
    server: ServerHandshake,
    link_secret: Option<[u8; 32]>,
) -> Result<Welcome, HandshakeError> {
    let (client, hello) = client;
    let ServerStep::Send(mut server, challenge) = server.on_frame(carried(hello))? else { panic!() };
    if let Some(secret) = link_secret {
        assert_eq!(server.link(), Some((LINK, 0)));
        server = server.with_secret(secret);
    }
    let ClientStep::Send(client, proof) = client.on_frame(carried(challenge))? else { panic!() };
    let ServerStep::Verified(verified) = server.on_frame(carried(proof))? else { panic!() };
    let ClientStep::Done(welcome) = client.on_frame(carried(verified.welcome(welcome())))? else { panic!() };
    Ok(welcome)
}

fn client(mode: HelloMode) -> (ClientHandshake, Frame) {
    ClientHandshake::start(token(), hello(mode))
}

fn client_of_link(mode: HelloMode, secret: [u8; 32]) -> (ClientHandshake, Frame) {
    let (client, frame) = client(mode);
    (client.with_secret(secret), frame)
}

fn server() -> ServerHandshake {
    ServerHandshake::new(token(), NONCE)
}

#[test]
fn the_right_token_is_accepted() {
    let got = shake(client(HelloMode::New), server(), None).unwrap();
    assert_eq!(Welcome { mac: [0; 32], ..got }, welcome());
}

#[test]
fn a_wrong_token_is_refused() {
    let wrong = ClientHandshake::start(Token::new("open sesam"), hello(HelloMode::New));
    assert_eq!(shake(wrong, server(), None), Err(HandshakeError::WrongToken));
}

#[test]
fn a_link_requires_its_resume_secret() {
    for mode in [HelloMode::Join, HelloMode::Resume] {
        assert!(shake(client_of_link(mode, SECRET), server(), Some(SECRET)).is_ok());
        let wrong = Err(HandshakeError::WrongToken);
        assert_eq!(shake(client_of_link(mode, [9; 32]), server(), Some(SECRET)), wrong);
        assert_eq!(shake(client(mode), server(), Some(SECRET)), wrong);
    }
}

#[test]
fn an_unknown_link_is_refused() {
    let unknown = Err(HandshakeError::UnknownLink);
    assert_eq!(shake(client(HelloMode::Resume), server(), None), unknown);
    assert_eq!(shake(client_of_link(HelloMode::Join, SECRET), server(), None), unknown);
}

#[test]
fn a_proof_is_bound_to_its_tls_session() {
    let bound = |exporter: &[u8]| {
        let (client, frame) = client(HelloMode::New);
        (client.with_exporter(exporter), frame)
    };
    assert!(shake(bound(b"a"), server().with_exporter(b"a"), None).is_ok());
    assert_eq!(shake(bound(b"a"), server().with_exporter(b"b"), None), Err(HandshakeError::WrongToken));
    assert_eq!(shake(bound(b"a"), server(), None), Err(HandshakeError::WrongToken));
}

#[test]
fn another_version_is_refused_by_number() {
    let mut hello = hello(HelloMode::New);
    hello.version = 7;
    let refused = shake(ClientHandshake::start(token(), hello), server(), None);
    assert_eq!(refused, Err(HandshakeError::Version { theirs: 7 }));
}

/// The bytes of version 1, captured from its encoder: a proxy of that version connects, and gets a refusal in a frame
/// that it knows and that names both versions.
#[test]
fn an_old_proxy_is_refused_by_a_frame_that_it_knows() {
    let mut hello = BytesMut::from(
        &[
            &b"\x01\x00\x00\x00\x00\x00\x00\x33\x00\x01\x01\x00\x04\x00\x0C\x00\x00\x00\x01"[..],
            &[0xAA; 16],
            &[0; 16],
            b"\x00\x00\x00\x00\x03box",
        ]
        .concat()[..],
    );
    let frame = decode(&mut hello, MAX_HANDSHAKE).unwrap().unwrap();
    let error = server().on_frame(frame).unwrap_err();
    assert_eq!(error, HandshakeError::Version { theirs: 1 });
    let mut refusal = BytesMut::new();
    encode(&error.refusal(), &mut refusal);
    let sentence = "protocol version 1 is not supported, the server speaks version 2";
    let length = 6 + sentence.len() as u8;
    let expected =
        [&b"\x24\x00\x00\x00\x00\x00\x00"[..], &[length], b"\x05ERROR", sentence.as_bytes()].concat();
    assert_eq!(refusal[..], expected[..]);
}

/// A server of version 1 reads the version in our HELLO, because the layout of HELLO is the same, and answers with a
/// sentence; the proxy shows it and gives up.
#[test]
fn an_old_server_refuses_with_a_sentence_that_the_proxy_shows() {
    let (client, hello) = client(HelloMode::New);
    let mut sent = BytesMut::new();
    encode(&hello, &mut sent);
    let fixed_in_every_version = b"\x01\x00\x00\x00\x00\x00\x00\x33\x00\x02\x01\x00\x00\x00\x00";
    assert_eq!(sent[..15], fixed_in_every_version[..]);
    let answer = b"\x24\x00\x00\x00\x00\x00\x00\x30\x05ERRORversion 2 is not spoken here, version 1 is";
    let frame = decode(&mut BytesMut::from(&answer[..]), MAX_HANDSHAKE).unwrap().unwrap();
    let error = client.on_frame(frame).unwrap_err();
    assert!(!error.is_unknown_link());
    assert_eq!(
        error.to_string(),
        "the peer does not support protocol version 2: version 2 is not spoken here, version 1 is"
    );
}

/// From version 2 on, versions are refused by a code that carries the server's version.
#[test]
fn a_newer_proxy_is_refused_by_a_code_with_our_version() {
    let newer = Hello { version: 3, ..hello(HelloMode::New) };
    let error = server().on_frame(Frame::Hello(newer)).unwrap_err();
    assert_eq!(error.refusal(), Frame::Refused { code: RefusalCode::UnsupportedVersion, version: VERSION });
    let (client, _) = client(HelloMode::New);
    let shown = client.on_frame(Frame::Refused { code: RefusalCode::UnsupportedVersion, version: 3 });
    assert_eq!(
        shown.unwrap_err().to_string(),
        "protocol version 2 is not supported, the peer speaks version 3"
    );
}

#[test]
fn only_the_code_says_that_a_link_is_unknown() {
    let unknown = Frame::Refused { code: RefusalCode::UnknownLink, version: VERSION };
    assert_eq!(HandshakeError::UnknownLink.refusal(), unknown);
    let (waiting, _) = client(HelloMode::Resume);
    assert!(waiting.on_frame(unknown).unwrap_err().is_unknown_link());
    let sentence = TunnelMessage::control(TunnelAction::Error, HandshakeError::UnknownLink.to_string());
    let (waiting, _) = client(HelloMode::Resume);
    assert!(!waiting.on_frame(Frame::Message(sentence)).unwrap_err().is_unknown_link());
}

#[test]
fn a_changed_hello_never_verifies() {
    let changes: [fn(&mut Hello); 8] = [
        |hello| hello.version = 3,
        |hello| hello.mode = HelloMode::Join,
        |hello| hello.features = 0,
        |hello| hello.nonce[15] ^= 1,
        |hello| hello.link[0] ^= 1,
        |hello| hello.epoch = 1,
        |hello| hello.name.push('x'),
        |hello| hello.name.clear(),
    ];
    let sent = hello(HelloMode::New);
    let mac = client_proof(&token(), &over(&sent, &NONCE));
    assert!(verify_client(&[token().key()], &over(&sent, &NONCE), &mac).is_some());
    let mut answer = welcome();
    answer.mac = server_proof(&token().key(), &over(&sent, &NONCE), &mac, &answer);
    for change in changes {
        let mut got = sent.clone();
        change(&mut got);
        assert!(verify_client(&[token().key()], &over(&got, &NONCE), &mac).is_none(), "{got:?}");
        assert!(!verify_server(&token(), &over(&got, &NONCE), &mac, &answer), "{got:?}");
    }
}

#[test]
fn a_changed_welcome_never_verifies() {
    let changes: [fn(&mut Welcome); 11] = [
        |welcome| welcome.link[0] ^= 1,
        |welcome| welcome.epoch += 1,
        |welcome| welcome.channel += 1,
        |welcome| welcome.features = 0,
        |welcome| welcome.max_streams += 1,
        |welcome| welcome.first_window += 1,
        |welcome| welcome.grace_ms += 1,
        |welcome| welcome.resume_secret = None,
        |welcome| welcome.resume_secret = Some([0; 32]),
        |welcome| welcome.mac[0] ^= 1,
        |welcome| welcome.mac[31] ^= 0x80,
    ];
    let (hello, client_mac) = (hello(HelloMode::New), [5; 32]);
    let mut sent = welcome();
    sent.mac = server_proof(&token().key(), &over(&hello, &NONCE), &client_mac, &sent);
    assert!(verify_server(&token(), &over(&hello, &NONCE), &client_mac, &sent));
    for (index, change) in changes.into_iter().enumerate() {
        let mut got = sent.clone();
        change(&mut got);
        assert!(!verify_server(&token(), &over(&hello, &NONCE), &client_mac, &got), "change {index}");
    }
    assert!(!verify_server(&token(), &over(&hello, &NONCE), &[6; 32], &sent));
}

#[test]
fn a_replayed_proof_does_not_verify() {
    let hello = hello(HelloMode::New);
    let recorded = client_proof(&token(), &over(&hello, &NONCE));
    let server = ServerHandshake::new(token(), [7; 32]);
    let ServerStep::Send(server, _) = server.on_frame(Frame::Hello(hello)).unwrap() else { panic!() };
    let replayed = server.on_frame(Frame::Proof { mac: recorded });
    assert_eq!(replayed.unwrap_err(), HandshakeError::WrongToken);
}

#[test]
fn a_reflected_proof_does_not_verify() {
    let hello = hello(HelloMode::New);
    let mac = client_proof(&token(), &over(&hello, &NONCE));
    let mut reflected = welcome();
    reflected.mac = mac;
    assert!(!verify_server(&token(), &over(&hello, &NONCE), &mac, &reflected));
    let servers = server_proof(&token().key(), &over(&hello, &NONCE), &mac, &welcome());
    assert!(verify_client(&[token().key()], &over(&hello, &NONCE), &servers).is_none());
}

#[test]
fn a_server_without_the_token_is_detected() {
    let (client, _) = client(HelloMode::New);
    let ClientStep::Send(client, _) = client.on_frame(Frame::Challenge { nonce: NONCE }).unwrap() else {
        panic!()
    };
    let guessed = client.on_frame(Frame::Welcome(welcome()));
    assert_eq!(guessed.unwrap_err(), HandshakeError::ServerNotProved);
}

#[test]
fn a_refusal_reaches_the_proxy_sanitized() {
    let (waiting, _) = client(HelloMode::New);
    let refused = waiting.on_frame(carried(HandshakeError::WrongToken.refusal())).unwrap_err();
    assert_eq!(refused, HandshakeError::Refused { code: RefusalCode::WrongToken, version: VERSION });
    assert_eq!(
        refused.to_string(),
        "wrong token: compare it with the server's, which is in its --token-file, --tokens or --state-dir"
    );
    let (waiting, _) = client(HelloMode::New);
    let hostile = TunnelMessage::control(TunnelAction::Error, &b"\x1b[2J\xFFno"[..]);
    let refused = waiting.on_frame(Frame::Message(hostile));
    assert_eq!(refused.unwrap_err(), HandshakeError::RefusedByOtherVersion("[2J\u{FFFD}no".into()));
}

#[test]
fn a_feature_that_was_not_offered_is_rejected() {
    let mut modest = hello(HelloMode::New);
    modest.features = 0;
    let refused = shake(ClientHandshake::start(token(), modest), server(), None);
    assert_eq!(refused, Err(HandshakeError::Features));
}

#[test]
fn an_unexpected_frame_ends_the_handshake() {
    let frames = || {
        [
            Frame::Hello(hello(HelloMode::New)),
            Frame::Challenge { nonce: NONCE },
            Frame::Proof { mac: [0; 32] },
            Frame::Welcome(welcome()),
            Frame::Ping { token: 1 },
            Frame::Data { stream: 1, offset: 0, fin: false, payload: Bytes::new() },
            Frame::Message(TunnelMessage::control(TunnelAction::Ping, "")),
        ]
    };
    let challenged = || {
        let step = server().on_frame(Frame::Hello(hello(HelloMode::New))).unwrap();
        let ServerStep::Send(server, _) = step else { panic!() };
        server
    };
    let proved = || {
        let step = client(HelloMode::New).0.on_frame(Frame::Challenge { nonce: NONCE }).unwrap();
        let ClientStep::Send(client, _) = step else { panic!() };
        client
    };
    for frame in frames() {
        let kind = frame.kind();
        let unexpected = Some(HandshakeError::Unexpected(kind));
        if kind != FrameType::Hello {
            assert_eq!(server().on_frame(frame.clone()).err(), unexpected);
        }
        if kind != FrameType::Proof {
            assert_eq!(challenged().on_frame(frame.clone()).err(), unexpected);
        }
        if kind != FrameType::Challenge {
            assert_eq!(client(HelloMode::New).0.on_frame(frame.clone()).err(), unexpected);
        }
        if kind != FrameType::Welcome {
            assert_eq!(proved().on_frame(frame).err(), unexpected);
        }
    }
}

/// A proxy in another language must compute the same proofs, so they must not change by accident. The values were
/// computed with Python's hmac and hashlib.
#[test]
fn proofs_are_pinned() {
    let (new, join) = (hello(HelloMode::New), hello(HelloMode::Join));
    let proof = client_proof(&token(), &over(&new, &NONCE));
    assert_eq!(encode_hex(&proof), "2c95af8d9174612c946edf7ab848ebda2e3d0594b05c34181ba020d92c2c435a");
    let bound = Transcript { hello: &join, challenge: &NONCE, secret: Some(&SECRET), exporter: b"tls" };
    assert_eq!(
        encode_hex(&client_proof(&token(), &bound)),
        "40d071efb176196801da997835152bb69268753123d9f388fcd6395e0441d5c8"
    );
    assert_eq!(
        encode_hex(&server_proof(&token().key(), &over(&new, &NONCE), &proof, &welcome())),
        "1ee7f28eb1e3f2c2969bf7454747bfacfba48214e82823903b2775a74dee652a"
    );
}

#[test]
fn tokens_are_compared_in_full_and_never_printed() {
    assert!(token().key().matches(&TokenKey::of(b"open sesame")));
    for wrong in [&b""[..], b"open sesam", b"open sesame ", b"Open sesame"] {
        assert!(!token().key().matches(&TokenKey::of(wrong)));
    }
    assert_eq!(format!("{:?}", token()), "Token(***)");
    let (client, _) = client_of_link(HelloMode::Join, SECRET);
    assert!(!format!("{client:?} {:?}", server().with_secret(SECRET)).contains("2, 2"));
}

#[test]
fn a_token_matches_itself_alone() {
    let token = Token::random();
    assert!(token.key().matches(&TokenKey::of(token.reveal())));
    assert!(!token.key().matches(&TokenKey::of(Token::random().reveal())));
}
