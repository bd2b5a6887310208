//! Unit and property tests of the text format.

use base64::prelude::BASE64_STANDARD;
use proptest::{
    arbitrary::any,
    collection::vec,
    prop_assert, prop_assert_eq, prop_oneof, proptest,
    strategy::{Just, Strategy},
};

use super::*;
use crate::ids::UserChannelId;

fn user(stream: u32) -> StreamKey {
    StreamKey::new(UserChannelId::new(0xABC123), stream)
}

fn read(line: &str) -> Result<(TunnelMessage, FieldCount), LineError> {
    decode_line(line.as_bytes())
}

fn written(message: &TunnelMessage, fields: FieldCount) -> BytesMut {
    let mut out = BytesMut::new();
    encode_line(message, fields, &mut out);
    out
}

#[track_caller]
fn reads_as(line: &str, fields: FieldCount, message: TunnelMessage) {
    assert_eq!(read(line), Ok((message, fields)));
}

#[track_caller]
fn pinned(line: &str, fields: FieldCount, message: TunnelMessage) {
    assert_eq!(str::from_utf8(&written(&message, fields)).unwrap(), format!("{line}\n"));
    reads_as(line, fields, message);
}

#[test]
fn lines_of_four_fields_are_pinned() {
    let four = |line, message| pinned(line, FieldCount::Four, message);
    four(
        "|0|ADDPROXY:8080:default:80|",
        TunnelMessage::control(TunnelAction::AddProxy("8080:default:80".parse().unwrap()), ""),
    );
    four("|0|RESPONSE|b2s=", TunnelMessage::control(TunnelAction::Response, "ok"));
    four("|0|AUTH|dG9rZW4=", TunnelMessage::control(TunnelAction::Auth, "token"));
    four("|0|PING|", TunnelMessage::control(TunnelAction::Ping, ""));
    four("|0|SUCCESSOR|aDo3MDAw", TunnelMessage::control(TunnelAction::Successor, "h:7000"));
    four("ABC123|1|STREAM_START|", TunnelMessage::stream(user(1), TunnelAction::StreamStart, ""));
    four(
        "ABC123|1|STREAM_START|MjA5NzE1MjA=",
        TunnelMessage::stream(user(1), TunnelAction::StreamStart, "20971520"),
    );
    four("ABC123|2|STREAM_DATA|aGVsbG8=", TunnelMessage::stream(user(2), TunnelAction::StreamData, "hello"));
    four("ABC123|2|STREAM_END|", TunnelMessage::stream(user(2), TunnelAction::StreamEnd, ""));
    four(
        "ABC123|4294967295|FORWARD|/+8=",
        TunnelMessage::stream(user(u32::MAX), TunnelAction::Forward, &b"\xFF\xEF"[..]),
    );
}

#[test]
fn lines_of_three_fields_are_pinned() {
    let three = |line, message| pinned(line, FieldCount::Three, message);
    three("ABC123|FORWARD|aGVsbG8=", TunnelMessage::stream(user(0), TunnelAction::Forward, "hello"));
    three("ABC123|STREAM_END|", TunnelMessage::stream(user(0), TunnelAction::StreamEnd, ""));
    three(
        "|ADDPROXY:8080:default|",
        TunnelMessage::control(TunnelAction::AddProxy("8080".parse().unwrap()), ""),
    );
    let second = TunnelMessage::stream(user(2), TunnelAction::StreamEnd, "");
    assert_eq!(written(&second, FieldCount::Three)[..], b"ABC123|STREAM_END|\n"[..]);
}

#[test]
fn shortened_lines_are_accepted() {
    let end = |stream| TunnelMessage::stream(user(stream), TunnelAction::StreamEnd, "");
    reads_as("ABC123|1|STREAM_END", FieldCount::Four, end(1));
    reads_as("abc123|1|STREAM_END|\r", FieldCount::Four, end(1));
    reads_as("ABC123|STREAM_END", FieldCount::Three, end(0));
    reads_as("|PING", FieldCount::Three, TunnelMessage::control(TunnelAction::Ping, ""));
    reads_as(
        "|ADDPROXY:8080",
        FieldCount::Three,
        TunnelMessage::control(TunnelAction::AddProxy("8080".parse().unwrap()), ""),
    );
}

#[test]
fn a_size_is_accepted_in_plain_digits_or_base64() {
    let size = |line| start_size(&read(line).unwrap().0.data);
    assert_eq!(size("ABC123|1|STREAM_START|20971520"), Some(20_971_520));
    assert_eq!(size("ABC123|1|STREAM_START|MjA5NzE1MjA="), Some(20_971_520));
    assert_eq!(size("ABC123|STREAM_START|0"), Some(0));
    assert_eq!(size("ABC123|1|STREAM_START|18446744073709551615"), Some(u64::MAX));
    // Unknown sizes: empty data, base64 of "-1", base64 of "+1", a number of more than 64 bits.
    for unknown in ["", "LTE=", "KzE=", "99999999999999999999"] {
        let (message, _) = read(&format!("ABC123|1|STREAM_START|{unknown}")).unwrap();
        assert_eq!(message.data, "", "{unknown}");
        assert_eq!(start_size(&message.data), None);
    }
}

#[test]
fn invalid_lines_are_rejected_with_their_defect() {
    for (line, error) in [
        ("", LineError::FieldCount),
        ("PING", LineError::FieldCount),
        ("ABC123|1", LineError::FieldCount),
        ("ABC123|1|STREAM_DATA|aGk=|", LineError::FieldCount),
        ("ABC123|STREAM_DATA|aGk=|", LineError::FieldCount),
        ("ABC12|1|STREAM_END|", LineError::User),
        ("+BC123|1|STREAM_END|", LineError::User),
        ("|1|STREAM_END|", LineError::User),
        ("ABC123|4294967296|STREAM_END|", LineError::Stream),
        ("ABC123|+1|STREAM_END|", LineError::Stream),
        ("ABC123||STREAM_END|", LineError::Stream),
        ("ABC123|1|STREAM_STOP|", LineError::Action(ActionError::Unknown)),
        ("ABC123|stream_end|", LineError::Action(ActionError::Unknown)),
        ("|0|ADDPROXY:99999|", LineError::Action(ActionError::AddProxy)),
        ("ABC123|1|STREAM_DATA|aGk", LineError::Base64),
        ("ABC123|1|STREAM_DATA|aGl=", LineError::Base64),
        ("ABC123|1|STREAM_DATA|a-_=", LineError::Base64),
        ("ABC123|1|STREAM_DATA| aGk=", LineError::Base64),
        ("ABC123|1|STREAM_START|-1", LineError::Base64),
    ] {
        assert_eq!(read(line), Err(error), "{line}");
    }
    assert_eq!(decode_line(b"ABC123|1|\xFF|"), Err(LineError::NotUtf8));
}

#[test]
fn a_long_line_in_pieces_is_searched_once() {
    let message = TunnelMessage::stream(user(1), TunnelAction::StreamData, vec![7; 48 << 10]);
    let line = written(&message, FieldCount::Four);
    let (mut decoder, mut buf) = (LineDecoder::default(), BytesMut::new());
    for piece in line[..line.len() - 1].chunks(100) {
        buf.extend_from_slice(piece);
        assert_eq!(decoder.decode(&mut buf), Ok(None));
        assert_eq!(decoder.scanned, buf.len());
    }
    buf.extend_from_slice(b"\n|0|PI");
    assert_eq!(decoder.decode(&mut buf), Ok(Some((message, FieldCount::Four))));
    assert_eq!(decoder.decode(&mut buf), Ok(None));
    buf.extend_from_slice(b"NG|\n");
    let ping = TunnelMessage::control(TunnelAction::Ping, "");
    assert_eq!(decoder.decode(&mut buf), Ok(Some((ping, FieldCount::Four))));
    assert!(buf.is_empty());
}

#[test]
fn empty_lines_are_skipped_and_invalid_ones_are_removed() {
    let (mut decoder, mut buf) = (LineDecoder::default(), BytesMut::from("\n\r\n\nwhat?\n\n|0|PING|\r\n\n"));
    assert_eq!(decoder.decode(&mut buf), Err(LineError::FieldCount));
    let ping = TunnelMessage::control(TunnelAction::Ping, "");
    assert_eq!(decoder.decode(&mut buf), Ok(Some((ping, FieldCount::Four))));
    assert_eq!(decoder.decode(&mut buf), Ok(None));
    assert!(buf.is_empty());
}

#[test]
fn the_line_limit_holds_for_whole_lines_and_for_pieces() {
    let ping = b"|0|PING|\n";
    let mut decoder = LineDecoder::new(ping.len());
    assert!(decoder.decode(&mut BytesMut::from(&ping[..])).unwrap().is_some());
    let mut decoder = LineDecoder::new(ping.len() - 1);
    assert_eq!(decoder.decode(&mut BytesMut::from(&ping[..])), Err(LineError::TooLong));
    let mut decoder = LineDecoder::new(usize::MAX);
    let mut buf = BytesMut::zeroed(MAX_LINE - 1);
    assert_eq!(decoder.decode(&mut buf), Ok(None));
    buf.extend_from_slice(b"A");
    assert_eq!(decoder.decode(&mut buf), Err(LineError::TooLong));
}

fn any_message() -> impl Strategy<Value = TunnelMessage> {
    let action = prop_oneof![
        Just(TunnelAction::Auth),
        Just(TunnelAction::Ping),
        Just(TunnelAction::StreamData),
        Just(TunnelAction::StreamReset),
        "[a-zA-Z0-9._-]{1,64}".prop_map(|group| {
            format!("ADDPROXY:65535:{group}:65535").parse().expect("group is within its limits")
        }),
    ];
    let key = proptest::option::of(any::<(u32, u32)>())
        .prop_map(|key| key.map(|(user, stream)| StreamKey::new(UserChannelId::new(user), stream)));
    let plain = (key.clone(), action, vec(any::<u8>(), 0..400).prop_map(Bytes::from));
    let start = (key, Just(TunnelAction::StreamStart), proptest::option::of(any::<u64>()).prop_map(digits));
    prop_oneof![3 => plain.boxed(), 1 => start.boxed()].prop_map(|(key, action, data)| TunnelMessage {
        key,
        action,
        data,
    })
}

fn digits(size: Option<u64>) -> Bytes {
    size.map_or(Bytes::new(), |size| Bytes::from(size.to_string()))
}

proptest! {
    #[test]
    fn messages_round_trip(
        messages in vec((any_message(), any::<bool>()), 1..6),
        piece in 1..50_usize,
    ) {
        let (mut bytes, mut sent) = (BytesMut::new(), vec![]);
        for (mut message, three) in messages {
            let fields = if three { FieldCount::Three } else { FieldCount::Four };
            if let (FieldCount::Three, Some(key)) = (fields, &mut message.key) {
                key.stream = StreamId(0);
            }
            encode_line(&message, fields, &mut bytes);
            sent.push((message, fields));
        }
        let (mut decoder, mut buf, mut got) = (LineDecoder::default(), BytesMut::new(), vec![]);
        for piece in bytes.chunks(piece) {
            buf.extend_from_slice(piece);
            while let Some(message) = decoder.decode(&mut buf).expect("what we write is a message") {
                got.push(message);
            }
        }
        prop_assert_eq!(got, sent);
        prop_assert!(buf.is_empty());
    }

    /// The SIMD engine against the portable one: encoder and decoder of one engine could have the same defect.
    #[test]
    fn data_is_standard_base64(data in vec(any::<u8>(), 0..600)) {
        let line = format!("ABC123|1|STREAM_DATA|{}", BASE64_STANDARD.encode(&data));
        let message = TunnelMessage::stream(user(1), TunnelAction::StreamData, data);
        prop_assert_eq!(written(&message, FieldCount::Four).to_vec(), format!("{line}\n").into_bytes());
        prop_assert_eq!(read(&line), Ok((message, FieldCount::Four)));
    }

    #[test]
    fn noise_never_panics(noise in vec(prop_oneof![2 => any::<u8>(), 1 => Just(b'|'), 1 => Just(b'\n')], 0..200)) {
        _ = decode_line(&noise);
        let (mut decoder, mut buf) = (LineDecoder::new(64), BytesMut::from(&noise[..]));
        while !matches!(decoder.decode(&mut buf), Ok(None) | Err(LineError::TooLong)) {}
    }

    #[test]
    fn a_corrupted_line_never_panics(message in any_message(), at: usize, byte: u8) {
        let mut line = written(&message, FieldCount::Four);
        let at = at % line.len();
        line[at] = byte;
        _ = decode_line(&line);
    }
}
