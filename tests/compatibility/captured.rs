//! What a server and a proxy of version 0.1 have sent, captured by `capture.py` from the programs: each frame, line
//! and file is read, and what this version would send in its place is the same.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use underpass::{
    feed::{Decoded, Decoder, Line},
    ids::{ServiceKey, UserNetworks},
    operator::{Greeting, Request},
    recording::{Played, Player, Recording},
    telemetry::{Event, EventKind, Snapshot},
    wire::{
        Frame, ResetCode, TunnelAction, TunnelMessage, Welcome,
        binary::{
            CHECKSUMS, FrameCodec, MAX_FRAME, MAX_HANDSHAKE, PREFACE, PUBLIC_ADDRESS, SERVICES, USER_NETWORKS,
        },
        handshake::{ServerHandshake, ServerStep, Token},
        text::{self, FieldCount, LineDecoder},
    },
};

/// The token of both programs.
const TOKEN: &str = "vK8dR2xQ9mWz4LpT7cYb";
/// The request that a user has sent.
const REQUEST: &[u8] = b"GET /captured HTTP/1.1\r\nHost: tunnel.example\r\nConnection: close\r\n\r\n";
/// The answer of the target.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nhello, tunnel\n";
/// The features in force.
const FEATURES: u32 = CHECKSUMS | PUBLIC_ADDRESS | USER_NETWORKS | SERVICES;

/// Returns what the proxy has sent, and what the server has.
fn sent_by_both(captured: &str) -> [BytesMut; 2] {
    let mut sent = [BytesMut::new(), BytesMut::new()];
    for line in captured.lines() {
        let (side, digits) = line.split_at(1);
        sent[usize::from(side == "<")].extend(crate::bytes_of_hex(digits));
    }
    sent
}

/// Decodes the two frames of the handshake that one side has sent.
fn handshake_frames(bytes: &mut BytesMut) -> [Frame; 2] {
    let mut codec = FrameCodec::default();
    [(); 2].map(|()| codec.decoder.decode(bytes, MAX_HANDSHAKE).unwrap().unwrap())
}

/// Decodes all frames after the handshake. Asserts that this version encodes the same bytes.
fn frames(mut bytes: BytesMut) -> Vec<Frame> {
    let (captured, mut written) = (bytes.clone(), BytesMut::new());
    let (mut decoder, mut encoder) =
        (FrameCodec::with_features(FEATURES).decoder, FrameCodec::with_features(FEATURES).encoder);
    let frames: Vec<_> = std::iter::from_fn(|| decoder.decode(&mut bytes, MAX_FRAME).unwrap()).collect();
    assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut written));
    assert_eq!(written, captured);
    frames
}

/// Returns the actions and texts of the messages among frames, but for pings of the text format.
fn messages(frames: &[Frame]) -> Vec<(String, String)> {
    let text = |data: &Bytes| String::from_utf8(data.to_vec()).unwrap();
    let message = |frame: &Frame| match frame {
        Frame::Message(message) => Some((message.action.to_string(), text(&message.data))),
        _ => None,
    };
    frames.iter().filter_map(message).collect()
}

/// Returns the data of a stream.
fn data_of(frames: &[Frame], wanted: u32) -> Vec<u8> {
    let data = frames.iter().filter_map(|frame| match frame {
        Frame::Data { stream, payload, .. } if *stream == wanted => Some(&payload[..]),
        _ => None,
    });
    data.collect::<Vec<_>>().concat()
}

#[test]
fn a_captured_session_is_read_and_written() {
    let [mut of_proxy, mut of_server] = sent_by_both(include_str!("0.1/captured/wire.hex"));
    assert_eq!(of_proxy.split_to(PREFACE.len())[..], PREFACE[..]);
    let [hello, proof] = handshake_frames(&mut of_proxy);
    let [challenge, answer] = handshake_frames(&mut of_server);
    let Frame::Challenge { nonce } = challenge else { panic!("{challenge:?}") };
    // A server of this version that has chosen the same nonce admits the proxy, and answers in the same way.
    let server = ServerHandshake::new([Token::new(TOKEN).key()], nonce);
    let ServerStep::Send(server, sent) = server.on_frame(hello).unwrap() else { panic!() };
    assert_eq!(sent, Frame::Challenge { nonce });
    let ServerStep::Verified(verified) = server.on_frame(proof).unwrap() else {
        panic!("the proof is wrong")
    };
    assert_eq!((&verified.hello.name[..], verified.hello.features), ("edge-1", FEATURES));
    let Frame::Welcome(welcome) = &answer else { panic!("{answer:?}") };
    assert_eq!(welcome.features, FEATURES);
    assert_eq!(verified.welcome(Welcome { mac: [0; 32], ..welcome.clone() }), answer);

    let (of_proxy, of_server) = (frames(of_proxy), frames(of_server));
    let requests = messages(&of_proxy);
    let [first, second, removal] = &requests[..] else { panic!("{requests:?}") };
    let networks: UserNetworks = first.1.parse().unwrap();
    assert_eq!(networks, "deny=192.0.2.0/24".parse().unwrap());
    for (request, number, has_networks) in [(first, 1, true), (second, 2, false)] {
        let TunnelAction::AddProxy(request) = request.0.parse().unwrap() else { panic!("{request:?}") };
        assert_eq!(
            (request.number, request.weight, request.has_networks),
            (Some(number), Some(3), has_networks)
        );
    }
    let answers = messages(&of_server);
    let services: Vec<ServiceKey> =
        answers[..2].iter().map(|(_, service)| service.parse().unwrap()).collect();
    assert_eq!(removal.0, format!("REMOVEPROXY:3:{}", services[1].port));
    assert_eq!(answers[2], ("RESPONSE:3".to_owned(), String::new()));
    let opens: Vec<_> = of_server
        .iter()
        .filter_map(|frame| if let Frame::Open(open) = frame { Some(open) } else { None })
        .collect();
    assert_eq!(opens.iter().map(|open| open.port).collect::<Vec<_>>(), [services[0].port, services[1].port]);
    assert!(opens.iter().all(|open| open.user.is_some_and(|user| user.client.ip().is_loopback())));
    assert_eq!(data_of(&of_server, opens[0].stream), REQUEST);
    assert_eq!(data_of(&of_proxy, opens[0].stream), ANSWER);
    let is_refusal = |frame: &Frame| matches!(frame, Frame::Reset { stream, code: ResetCode::TargetRefused, .. } if *stream == opens[1].stream);
    assert!(of_proxy.iter().any(is_refusal), "{of_proxy:?}");
    assert!(
        of_proxy
            .iter()
            .any(|frame| matches!(frame, Frame::OpenOk { stream, .. } if *stream == opens[0].stream))
    );
    assert_eq!(of_proxy.last(), Some(&Frame::GoAway { code: ResetCode::Shutdown }));
}

/// Decodes the lines that one side has sent. Asserts that this version encodes the same.
fn lines(mut bytes: BytesMut) -> Vec<TunnelMessage> {
    let (captured, mut written, mut decoder) = (bytes.clone(), BytesMut::new(), LineDecoder::default());
    let lines: Vec<_> = std::iter::from_fn(|| decoder.decode(&mut bytes).unwrap()).collect();
    assert!(bytes.is_empty() && lines.iter().all(|(_, fields)| *fields == FieldCount::Four));
    lines.iter().for_each(|(message, fields)| text::encode_line(message, *fields, &mut written));
    assert_eq!(written, captured);
    lines.into_iter().map(|(message, _)| message).collect()
}

#[test]
fn a_captured_session_of_the_text_format_is_read_and_written() {
    let [of_proxy, of_server] = sent_by_both(include_str!("0.1/captured/text.hex")).map(lines);
    assert_eq!(of_proxy[0], TunnelMessage::control(TunnelAction::Auth, TOKEN));
    assert!(matches!(&of_proxy[1].action, TunnelAction::AddProxy(request) if request.service.port == 0));
    let data = |lines: &[TunnelMessage]| {
        let data =
            lines.iter().filter(|line| line.action == TunnelAction::StreamData).map(|line| &line.data[..]);
        data.collect::<Vec<_>>().concat()
    };
    assert_eq!((data(&of_server), data(&of_proxy)), (REQUEST.to_vec(), ANSWER.to_vec()));
    assert!(of_server.iter().any(|line| line.action == TunnelAction::Response));
    let exit = of_proxy.last().unwrap();
    assert_eq!(exit.action, TunnelAction::Exit);
    assert_eq!(ResetCode::from_text_reason(&exit.data), Some(ResetCode::Shutdown));
}

/// Asserts what the two streams of the session have left in a state.
fn assert_streams_are_counted(snapshot: &Snapshot) {
    let totals = &snapshot.totals;
    assert_eq!((totals.streams_total, totals.streams_failed, totals.streams_open), (2, 1, 0));
    assert_eq!((totals.down, totals.up), (ANSWER.len() as u64, 2 * REQUEST.len() as u64));
    assert_eq!((&*snapshot.proxies[0].name, snapshot.proxies[0].weight), ("edge-1", 3));
}

/// Returns whether an event is the end of a stream that was complete, or one that was not.
fn stream_end(event: &Event) -> Option<bool> {
    match &event.kind {
        EventKind::StreamEnded { shortfall: None, down, .. } => Some(*down == ANSWER.len() as u64),
        _ => None,
    }
}

#[test]
fn a_captured_connection_to_the_control_socket_is_read() {
    let captured = include_str!("0.1/captured/control.jsonl");
    let requests = captured.lines().filter_map(|line| line.strip_prefix('>'));
    let requests: Vec<Request> = requests.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((requests.len(), &requests[1], &requests[8]), (11, &Request::State, &Request::Bans));
    let (mut decoder, mut ends, mut answers) = (Decoder::default(), Vec::new(), 0);
    for line in captured.lines().filter_map(|line| line.strip_prefix('<')) {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        if json.get("protocol").is_some() {
            let greeting: Greeting = serde_json::from_str(line).unwrap();
            assert_eq!((&greeting.underpass[..], greeting.role.as_str()), ("0.1.0", "server"));
        } else if json.get("seq").is_some() {
            let line = Line::parse(line.as_bytes()).unwrap();
            ends.extend(line.event().and_then(stream_end));
            let is_state = json.get("snapshot").or(json.get("changes")).is_some();
            assert_eq!(matches!(decoder.apply(line).unwrap(), Decoded::Snapshot), is_state);
        } else {
            answers += 1;
            assert!(json.get("ok").or(json.get("error")).is_some(), "{line}");
        }
    }
    assert_streams_are_counted(decoder.snapshot());
    ends.sort_unstable();
    assert_eq!((ends, answers), (vec![false, true], 10));
}

#[test]
fn a_captured_recording_is_played() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compatibility/0.1/captured/recording.upr");
    let recording = Recording::open(&[path]).unwrap();
    assert_eq!(recording.cut_files(), 0);
    let mut player = Player::new(recording);
    let (mut ends, mut last) = (Vec::new(), None);
    let is_complete = player.play(u64::MAX, || true, &mut |_, played| match played {
        Played::Event(event) => ends.extend(stream_end(&event)),
        Played::Snapshot(snapshot) => last = Some(snapshot.clone()),
        _ => {}
    });
    assert!(is_complete);
    ends.sort_unstable();
    assert_eq!(ends, [false, true, true], "of the text format as well");
    let totals = last.expect("a state").totals;
    assert_eq!((totals.streams_total, totals.streams_failed), (3, 1));
}
