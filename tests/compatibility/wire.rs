//! The wire of version 0.1 (protocol version 2): handshake, every frame, with and without checksums, and the text
//! format.

use bytes::{Bytes, BytesMut};
use underpass::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{
        Frame, Hello, HelloMode, Open, RefusalCode, ResetCode, TunnelMessage, UserAddresses, Welcome,
        binary::{
            CHECKSUMS, FrameCodec, MAX_FRAME, MAX_HANDSHAKE, PREFACE, PUBLIC_ADDRESS, USER_NETWORKS, encode,
        },
        handshake::{ClientHandshake, ClientStep, HandshakeError, ServerHandshake, ServerStep, Token},
        text::{self, FieldCount, LineDecoder},
    },
};

/// The recorded frames: a name and its bytes in each line.
const FRAMES: &str = include_str!("0.1/frames.hex");
/// The same frames on one channel with checksums, which continue from frame to frame.
const CHECKED: &str = include_str!("0.1/checked.hex");
/// The recorded handshake, from the preface to WELCOME: `>` is what the proxy sends, `<` what the server sends.
const HANDSHAKE: &str = include_str!("0.1/handshake.hex");
/// The recorded lines of the text format, in both directions.
const LINES: &str = include_str!("0.1/text.lines");

/// The features of version 0.1.
const FEATURES: u32 = CHECKSUMS | PUBLIC_ADDRESS | USER_NETWORKS;

/// Returns the name and the bytes of each recorded line.
fn recorded(text: &str) -> Vec<(&str, BytesMut)> {
    text.lines()
        .map(|line| {
            let (name, digits) = line.split_once(' ').unwrap();
            (name, crate::bytes_of_hex(digits).collect())
        })
        .collect()
}

fn key() -> StreamKey {
    StreamKey::new(UserChannelId::new(0x3F9A1C), 2)
}

fn open(client: &str, public: &str) -> Frame {
    let user = UserAddresses { client: client.parse().unwrap(), public: Some(public.parse().unwrap()) };
    let (stream, port, priority, window) = (7, 8080, Priority::High, 65_536);
    Frame::Open(Open { stream, key: key(), port, priority, window, user: Some(user) })
}

fn message(action: &str, data: &'static str) -> Frame {
    Frame::Message(TunnelMessage::control(action.parse().unwrap(), data))
}

/// Returns every frame that follows a handshake, as version 0.1 sends it.
fn frames() -> Vec<(&'static str, Frame)> {
    vec![
        ("OPEN", open("192.0.2.7:50000", "198.51.100.1:8080")),
        ("OPEN-IPV6", open("[2001:db8::7]:50000", "[2001:db8::1]:8080")),
        ("OPEN_OK", Frame::OpenOk { stream: 7, window: 262_144 }),
        ("DATA", Frame::Data { stream: 7, offset: 5, fin: false, payload: Bytes::from_static(b"hello") }),
        ("DATA-END", Frame::Data { stream: 7, offset: 10, fin: true, payload: Bytes::new() }),
        ("WINDOW", Frame::Window { stream: 7, consumed: 10, window: 65_536 }),
        ("RESET", Frame::Reset { stream: 7, code: ResetCode::TargetIoError, final_size: 11 }),
        ("PRIORITY", Frame::Priority { stream: 7, priority: Priority::Low }),
        ("PING", Frame::Ping { token: 0x0102_0304_0506_0708 }),
        ("PONG", Frame::Pong { token: 0x0102_0304_0506_0708 }),
        ("GOAWAY", Frame::GoAway { code: ResetCode::LinkReplaced }),
        ("CHANNELS", Frame::Channels { serial: 3, count: 4 }),
        ("RETIRE", Frame::Retire),
        ("LOST", Frame::Lost { channel: 2 }),
        ("ADDPROXY", message("ADDPROXY:8080:web:80:3", "")),
        ("ADDPROXY-NETWORKS", message("ADDPROXY:0:default:::networks", "allow=10.0.0.0/8 deny=10.9.0.0/16")),
        ("RESPONSE", message("RESPONSE", "8080:web")),
        ("ERROR", message("ERROR", "PORT_IN_USE: port 8080 is in use on the server")),
        ("SUCCESSOR", message("SUCCESSOR", "other.example:7000")),
    ]
}

/// Encodes frames as version 0.1 did.
fn encoded(frames: impl IntoIterator<Item = Frame>, features: u32) -> BytesMut {
    let (mut codec, mut out) = (FrameCodec::with_features(features), BytesMut::new());
    frames.into_iter().for_each(|frame| codec.encoder.encode(&frame, &mut out));
    out
}

#[test]
fn every_frame_of_0_1_is_read_and_written() {
    let recorded = recorded(FRAMES);
    assert_eq!(recorded.len(), frames().len());
    for ((name, mut bytes), (expected, frame)) in recorded.into_iter().zip(frames()) {
        assert_eq!(name, expected);
        assert_eq!(encoded([frame.clone()], PUBLIC_ADDRESS), bytes, "{name}");
        let mut decoder = FrameCodec::with_features(PUBLIC_ADDRESS).decoder;
        assert_eq!(decoder.decode(&mut bytes, MAX_FRAME).unwrap(), Some(frame), "{name}");
    }
}

#[test]
fn a_channel_of_0_1_with_checksums_is_read_and_written() {
    let (_, mut bytes) = recorded(CHECKED).remove(0);
    assert_eq!(encoded(frames().into_iter().map(|(_, frame)| frame), FEATURES), bytes);
    let mut decoder = FrameCodec::with_features(FEATURES).decoder;
    for (name, frame) in frames() {
        assert_eq!(decoder.decode(&mut bytes, MAX_FRAME).unwrap(), Some(frame), "{name}");
    }
    assert!(bytes.is_empty());
}

/// Returns the token with which the handshake was recorded.
fn token() -> Token {
    Token::new("a token of the recording")
}

/// Returns the HELLO of the recorded handshake.
fn hello() -> Hello {
    Hello {
        version: 2,
        mode: HelloMode::New,
        features: FEATURES,
        nonce: [4; 16],
        link: [0; 16],
        epoch: 0,
        name: "edge-1".to_owned(),
    }
}

/// Returns the WELCOME of the recorded handshake, without its HMAC.
fn welcome() -> Welcome {
    Welcome {
        link: [3; 16],
        epoch: 1,
        channel: 1,
        features: FEATURES,
        max_streams: 50_000,
        first_window: 262_144,
        grace_ms: 30_000,
        resume_secret: Some([2; 32]),
        mac: [0; 32],
    }
}

/// Decodes the only frame of `bytes`.
fn frame_of(mut bytes: BytesMut) -> Frame {
    let frame = FrameCodec::default().decoder.decode(&mut bytes, MAX_HANDSHAKE).unwrap().unwrap();
    assert!(bytes.is_empty());
    frame
}

/// Encodes a frame of the handshake.
fn handshake_bytes(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode(frame, &mut out);
    out
}

/// A server of 0.1 accepts what this proxy sends, and its answers are accepted.
#[test]
fn the_handshake_of_a_server_of_0_1_is_accepted() {
    let recorded = recorded(HANDSHAKE);
    let [(_, sent_hello), (_, challenge), (_, sent_proof), (_, answer), (_, refusal)] = &recorded[..] else {
        panic!()
    };
    let (client, frame) = ClientHandshake::start(token(), hello());
    assert_eq!([&PREFACE[..], &handshake_bytes(&frame)].concat(), sent_hello[..]);
    let ClientStep::Send(client, proof) = client.on_frame(frame_of(challenge.clone())).unwrap() else {
        panic!()
    };
    assert_eq!(handshake_bytes(&proof), sent_proof);
    let ClientStep::Done(done) = client.on_frame(frame_of(answer.clone())).unwrap() else { panic!() };
    assert_eq!((done.features, done.resume_secret), (FEATURES, Some([2; 32])));
    let (client, _) = ClientHandshake::start(token(), hello());
    let refused = HandshakeError::Refused { code: RefusalCode::UnsupportedVersion, version: 2 };
    assert_eq!(client.on_frame(frame_of(refusal.clone())).unwrap_err(), refused);
}

/// A proxy of 0.1 is accepted with the features that it has, and gets the answers that it expects.
#[test]
fn the_handshake_of_a_proxy_of_0_1_is_accepted() {
    let recorded = recorded(HANDSHAKE);
    let [(_, hello_bytes), (_, challenge), (_, proof), (_, answer), _] = &recorded[..] else { panic!() };
    let server = ServerHandshake::new([token().key()], [1; 32]);
    let first = hello_bytes.strip_prefix(&PREFACE[..]).unwrap();
    let ServerStep::Send(server, sent) = server.on_frame(frame_of(first.into())).unwrap() else { panic!() };
    assert_eq!(handshake_bytes(&sent), challenge);
    let ServerStep::Verified(verified) = server.on_frame(frame_of(proof.clone())).unwrap() else { panic!() };
    assert_eq!(verified.hello, hello());
    assert_eq!(handshake_bytes(&verified.welcome(welcome())), answer);
}

#[test]
fn the_lines_of_0_1_are_read_and_written() {
    let mut decoder = LineDecoder::default();
    let mut buffer = BytesMut::from(LINES);
    let mut written = BytesMut::new();
    let mut lines = 0;
    while let Some((message, fields)) = decoder.decode(&mut buffer).unwrap() {
        text::encode_line(&message, fields, &mut written);
        lines += 1;
    }
    assert_eq!((lines, buffer.len()), (LINES.lines().count(), 0));
    assert_eq!(std::str::from_utf8(&written).unwrap(), LINES);
    let first = text::decode_line(LINES.lines().next().unwrap().as_bytes()).unwrap();
    assert_eq!(first.1, FieldCount::Four);
}
