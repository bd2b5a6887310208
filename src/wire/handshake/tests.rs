use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::{
    Hello, HelloMode, Welcome,
    binary::{MAX_HANDSHAKE, decode, encode},
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
        max_frame: 1 << 18,
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
        ping_ms: 5_000,
        resume_secret: Some(SECRET),
        mac: [0; 32],
    }
}

fn over<'a>(hello: &'a Hello, challenge: &'a [u8; 32]) -> Transcript<'a> {
    Transcript { hello, challenge, secret: None, exporter: &[] }
}

/// The frame as the other side gets it.
fn carried(frame: Frame) -> Frame {
    let mut bytes = BytesMut::new();
    encode(&frame, &mut bytes);
    decode(&mut bytes, MAX_HANDSHAKE).unwrap().unwrap()
}

/// A whole handshake over the wire; the first side that fails ends it.
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
fn the_right_token_opens() {
    let got = shake(client(HelloMode::New), server(), None).unwrap();
    assert_eq!(Welcome { mac: [0; 32], ..got }, welcome());
}

#[test]
fn the_wrong_token_does_not() {
    let wrong = ClientHandshake::start(Token::new("open sesam"), hello(HelloMode::New));
    assert_eq!(shake(wrong, server(), None), Err(HandshakeError::WrongToken));
}

#[test]
fn a_link_opens_only_to_its_own_secret() {
    for mode in [HelloMode::Join, HelloMode::Resume] {
        assert!(shake(client_of_link(mode, SECRET), server(), Some(SECRET)).is_ok());
        let wrong = Err(HandshakeError::WrongToken);
        assert_eq!(shake(client_of_link(mode, [9; 32]), server(), Some(SECRET)), wrong);
        assert_eq!(shake(client(mode), server(), Some(SECRET)), wrong);
    }
}

#[test]
fn a_link_that_nobody_knows_opens_to_nobody() {
    let unknown = Err(HandshakeError::UnknownLink);
    assert_eq!(shake(client(HelloMode::Resume), server(), None), unknown);
    assert_eq!(shake(client_of_link(HelloMode::Join, SECRET), server(), None), unknown);
}

#[test]
fn another_tls_session_does_not_open() {
    let bound = |exporter: &[u8]| {
        let (client, frame) = client(HelloMode::New);
        (client.with_exporter(exporter), frame)
    };
    assert!(shake(bound(b"a"), server().with_exporter(b"a"), None).is_ok());
    assert_eq!(shake(bound(b"a"), server().with_exporter(b"b"), None), Err(HandshakeError::WrongToken));
    assert_eq!(shake(bound(b"a"), server(), None), Err(HandshakeError::WrongToken));
}

#[test]
fn another_version_is_named() {
    let mut hello = hello(HelloMode::New);
    hello.version = 7;
    let refused = shake(ClientHandshake::start(token(), hello), server(), None);
    assert_eq!(refused, Err(HandshakeError::Version { theirs: 7 }));
}

#[test]
fn a_changed_hello_never_verifies() {
    let changes: [fn(&mut Hello); 9] = [
        |hello| hello.version = 2,
        |hello| hello.mode = HelloMode::Join,
        |hello| hello.max_frame += 1,
        |hello| hello.features = 0,
        |hello| hello.nonce[15] ^= 1,
        |hello| hello.link[0] ^= 1,
        |hello| hello.epoch = 1,
        |hello| hello.name.push('x'),
        |hello| hello.name.clear(),
    ];
    let sent = hello(HelloMode::New);
    let mac = client_proof(&token(), &over(&sent, &NONCE));
    assert!(verify_client(&token(), &over(&sent, &NONCE), &mac));
    let mut answer = welcome();
    answer.mac = server_proof(&token(), &over(&sent, &NONCE), &mac, &answer);
    for change in changes {
        let mut got = sent.clone();
        change(&mut got);
        assert!(!verify_client(&token(), &over(&got, &NONCE), &mac), "{got:?}");
        assert!(!verify_server(&token(), &over(&got, &NONCE), &mac, &answer), "{got:?}");
    }
}

#[test]
fn a_changed_welcome_never_verifies() {
    let changes: [fn(&mut Welcome); 12] = [
        |welcome| welcome.link[0] ^= 1,
        |welcome| welcome.epoch += 1,
        |welcome| welcome.channel += 1,
        |welcome| welcome.features = 0,
        |welcome| welcome.max_streams += 1,
        |welcome| welcome.first_window += 1,
        |welcome| welcome.grace_ms += 1,
        |welcome| welcome.ping_ms += 1,
        |welcome| welcome.resume_secret = None,
        |welcome| welcome.resume_secret = Some([0; 32]),
        |welcome| welcome.mac[0] ^= 1,
        |welcome| welcome.mac[31] ^= 0x80,
    ];
    let (hello, client_mac) = (hello(HelloMode::New), [5; 32]);
    let mut sent = welcome();
    sent.mac = server_proof(&token(), &over(&hello, &NONCE), &client_mac, &sent);
    assert!(verify_server(&token(), &over(&hello, &NONCE), &client_mac, &sent));
    for (index, change) in changes.into_iter().enumerate() {
        let mut got = sent.clone();
        change(&mut got);
        assert!(!verify_server(&token(), &over(&hello, &NONCE), &client_mac, &got), "change {index}");
    }
    assert!(!verify_server(&token(), &over(&hello, &NONCE), &[6; 32], &sent));
}

#[test]
fn a_recorded_proof_is_worth_nothing_under_another_challenge() {
    let hello = hello(HelloMode::New);
    let recorded = client_proof(&token(), &over(&hello, &NONCE));
    let server = ServerHandshake::new(token(), [7; 32]);
    let ServerStep::Send(server, _) = server.on_frame(Frame::Hello(hello)).unwrap() else { panic!() };
    let replayed = server.on_frame(Frame::Proof { mac: recorded });
    assert_eq!(replayed.unwrap_err(), HandshakeError::WrongToken);
}

#[test]
fn no_proof_passes_for_one_of_the_other_role() {
    let hello = hello(HelloMode::New);
    let mac = client_proof(&token(), &over(&hello, &NONCE));
    let mut reflected = welcome();
    reflected.mac = mac;
    assert!(!verify_server(&token(), &over(&hello, &NONCE), &mac, &reflected));
    let servers = server_proof(&token(), &over(&hello, &NONCE), &mac, &welcome());
    assert!(!verify_client(&token(), &over(&hello, &NONCE), &servers));
}

#[test]
fn a_server_without_the_token_is_found_out() {
    let (client, _) = client(HelloMode::New);
    let ClientStep::Send(client, _) = client.on_frame(Frame::Challenge { nonce: NONCE }).unwrap() else {
        panic!()
    };
    let guessed = client.on_frame(Frame::Welcome(welcome()));
    assert_eq!(guessed.unwrap_err(), HandshakeError::ServerNotProved);
}

#[test]
fn a_refusal_reaches_the_proxy_stripped() {
    let (greeted, _) = client(HelloMode::New);
    let refused = greeted.on_frame(carried(HandshakeError::WrongToken.refusal()));
    assert_eq!(refused.unwrap_err(), HandshakeError::Refused("wrong token".into()));
    let (greeted, _) = client(HelloMode::New);
    let hostile = TunnelMessage::control(TunnelAction::Error, &b"\x1b[2J\xFFno"[..]);
    let refused = greeted.on_frame(Frame::Message(hostile));
    assert_eq!(refused.unwrap_err(), HandshakeError::Refused("[2J\u{FFFD}no".into()));
}

#[test]
fn what_was_not_offered_is_not_taken() {
    let mut modest = hello(HelloMode::New);
    modest.features = 0;
    let refused = shake(ClientHandshake::start(token(), modest), server(), None);
    assert_eq!(refused, Err(HandshakeError::Features));
}

#[test]
fn a_frame_out_of_turn_ends_the_handshake() {
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

/// A proxy in another language computes the same, or cannot get in: the proofs may not change by accident. The values
/// come from Python's hmac and hashlib.
#[test]
fn the_proofs_are_pinned() {
    let (new, join) = (hello(HelloMode::New), hello(HelloMode::Join));
    let proof = client_proof(&token(), &over(&new, &NONCE));
    assert_eq!(hex(&proof), "de308c999b08c9b4b7d50a483dae51e3a297dc582360e7779db19f4e8be18ed1");
    let bound = Transcript { hello: &join, challenge: &NONCE, secret: Some(&SECRET), exporter: b"tls" };
    assert_eq!(
        hex(&client_proof(&token(), &bound)),
        "6dbe35ff9c24014b70e0b7dcefb1856936f77d696e8846ac9dbdcedcba7d63b7"
    );
    assert_eq!(
        hex(&server_proof(&token(), &over(&new, &NONCE), &proof, &welcome())),
        "dadb3dba745ff80688c306151b3f2e2e2f54d60da03f5028e8b455dd3dafdbfd"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_token_is_compared_whole_and_never_printed() {
    assert!(token().matches(b"open sesame"));
    for wrong in [&b""[..], b"open sesam", b"open sesame ", b"Open sesame"] {
        assert!(!token().matches(wrong));
    }
    assert_eq!(format!("{:?}", token()), "Token(***)");
    let (client, _) = client_of_link(HelloMode::Join, SECRET);
    assert!(!format!("{client:?} {:?}", server().with_secret(SECRET)).contains("2, 2"));
}

#[test]
fn a_random_token_is_32_characters_for_a_shell_or_a_url() {
    let token = Token::random();
    assert_eq!(token.reveal().len(), 32);
    assert!(token.reveal().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
    assert!(!token.matches(Token::random().reveal().as_bytes()));
}
