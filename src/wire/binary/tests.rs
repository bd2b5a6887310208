//! Unit tests of the binary codec: every frame pinned as annotated hexadecimal bytes, rejected bytes, checksums.

use bytes::{BufMut, Bytes, BytesMut};

use super::{layout::*, *};
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{
        ActionError, Frame, Hello, HelloMode, Open, RefusalCode, ResetCode, TunnelAction, TunnelMessage,
        UserAddresses, Welcome,
    },
};

/// Decodes a table of hexadecimal digits; `#` begins a comment.
fn hex(table: &str) -> BytesMut {
    let digits: String = table
        .lines()
        .flat_map(|line| line.split('#').next())
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
        .collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub(super) fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode(frame, &mut out);
    out
}

#[track_caller]
fn pinned(frame: Frame, table: &str) {
    let mut bytes = hex(table);
    assert_eq!(encoded(&frame), bytes);
    assert_eq!(decode(&mut bytes, MAX_FRAME), Ok(Some(frame)));
    assert!(bytes.is_empty());
}

#[track_caller]
fn refused(table: &str, error: FrameError) {
    assert_eq!(decode(&mut hex(table), MAX_FRAME), Err(error));
}

fn key() -> StreamKey {
    StreamKey::new(UserChannelId::new(0x3F9A1C), 2)
}

fn open(user: Option<&str>) -> Frame {
    Frame::Open(Open {
        stream: 7,
        key: key(),
        port: 8080,
        priority: Priority::Normal,
        window: 0x4_0000,
        user: user.map(|address| UserAddresses { client: address.parse().unwrap(), public: None }),
    })
}

fn open_with_public_address(client: &str, public: &str) -> Frame {
    let Frame::Open(open) = open(Some(client)) else { unreachable!() };
    let user = open.user.map(|user| UserAddresses { public: Some(public.parse().unwrap()), ..user });
    Frame::Open(Open { user, ..open })
}

fn welcome(resume_secret: Option<[u8; 32]>) -> Frame {
    Frame::Welcome(Welcome {
        link: [0x11; 16],
        epoch: 1,
        channel: 2,
        features: 1,
        max_streams: 1000,
        first_window: 0x4_0000,
        grace_ms: 30_000,
        resume_secret,
        mac: [0x33; 32],
    })
}

#[test]
fn the_preface_is_not_utf8() {
    assert_eq!(PREFACE[..], hex("F5 554E445250 0D0A"));
    assert!(str::from_utf8(&PREFACE[..1]).is_err());
}

#[test]
fn handshake_frames_are_pinned() {
    pinned(
        Frame::Hello(Hello {
            version: 2,
            mode: HelloMode::Resume,
            features: 0,
            nonce: [0xAA; 16],
            link: [0xBB; 16],
            epoch: 5,
            name: "box".into(),
        }),
        "01 00 0000 00000033                 # HELLO, no flags, zero, 51 bytes
         0002                                # version
         03                                  # mode: resume
         00000000                            # reserved
         00000000                            # features
         AAAAAAAA AAAAAAAA AAAAAAAA AAAAAAAA # nonce
         BBBBBBBB BBBBBBBB BBBBBBBB BBBBBBBB # link
         00000005                            # epoch
         03 626F78                           # name: box",
    );
    pinned(
        Frame::Challenge { nonce: [0xCC; 32] },
        "02 00 0000 00000020                 # CHALLENGE, 32 bytes
         CCCCCCCC CCCCCCCC CCCCCCCC CCCCCCCC # nonce
         CCCCCCCC CCCCCCCC CCCCCCCC CCCCCCCC",
    );
    pinned(
        Frame::Proof { mac: [0xDD; 32] },
        "03 00 0000 00000020                 # PROOF, 32 bytes
         DDDDDDDD DDDDDDDD DDDDDDDD DDDDDDDD # mac
         DDDDDDDD DDDDDDDD DDDDDDDD DDDDDDDD",
    );
    pinned(
        Frame::Refused { code: RefusalCode::UnknownLink, version: 2 },
        "05 00 0000 00000004 # REFUSED, 4 bytes
         0003                # code: unknown link
         0002                # version",
    );
    pinned(
        welcome(None),
        "04 00 0000 00000046                 # WELCOME, no secret, 70 bytes
         11111111 11111111 11111111 11111111 # link
         00000001                            # epoch
         0002                                # channel
         00000001                            # features: checksums
         000003E8                            # max streams
         00040000                            # first window
         00007530                            # grace period, ms
         33333333 33333333 33333333 33333333 # mac
         33333333 33333333 33333333 33333333",
    );
    pinned(
        welcome(Some([0x22; 32])),
        "04 01 0000 00000066                 # WELCOME, with a secret, 102 bytes
         11111111 11111111 11111111 11111111 # link
         00000001 0002 00000001              # epoch, channel, features
         000003E8 00040000                   # max streams, first window
         00007530                            # grace period
         22222222 22222222 22222222 22222222 # resume secret
         22222222 22222222 22222222 22222222
         33333333 33333333 33333333 33333333 # mac
         33333333 33333333 33333333 33333333",
    );
}

#[test]
fn opening_frames_are_pinned() {
    pinned(
        open(None),
        "10 00 0000 00000012 # OPEN, 18 bytes
         00000007            # stream
         3F9A1C 00000002     # user channel id, stream id
         1F90                # port 8080
         02                  # priority
         00040000            # window",
    );
    pinned(
        open(Some("192.0.2.1:443")),
        "10 00 0000 00000018 # OPEN, 24 bytes
         00000007 3F9A1C 00000002 1F90 02 00040000
         C0000201 01BB       # user's address and port",
    );
    pinned(
        open(Some("[2001:db8::1]:443")),
        "10 00 0000 00000024 # OPEN, 36 bytes
         00000007 3F9A1C 00000002 1F90 02 00040000
         20010DB8 00000000 00000000 00000001 01BB",
    );
    pinned(
        Frame::OpenOk { stream: 7, window: 0x4_0000 },
        "11 00 0000 00000008 # OPEN_OK, 8 bytes
         00000007 00040000   # stream, window",
    );
}

#[test]
fn open_carries_the_public_address_where_that_was_negotiated() {
    let encoded = |features, frame: &Frame| {
        let mut out = BytesMut::new();
        FrameCodec::with_features(features).encoder.encode(frame, &mut out);
        out
    };
    for (client, public, table) in [
        (
            "192.0.2.1:443",
            "203.0.113.9:80",
            "10 00 0000 0000001E # OPEN, 30 bytes
             00000007 3F9A1C 00000002 1F90 02 00040000
             C0000201 01BB       # user's address and port
             CB007109 0050       # public address and port",
        ),
        (
            "[2001:db8::1]:443",
            "[2001:db8::2]:80",
            "10 00 0000 00000036 # OPEN, 54 bytes
             00000007 3F9A1C 00000002 1F90 02 00040000
             20010DB8 00000000 00000000 00000001 01BB
             20010DB8 00000000 00000000 00000002 0050",
        ),
    ] {
        let frame = open_with_public_address(client, public);
        assert_eq!(encoded(PUBLIC_ADDRESS, &frame), hex(table));
        assert_eq!(decode(&mut hex(table), MAX_FRAME), Ok(Some(frame.clone())));
        assert_eq!(encoded(0, &frame), encoded(0, &open(Some(client))), "an older proxy would refuse it");
    }
    // The length of the body tells the families apart.
    let mixed = open_with_public_address("192.0.2.1:443", "[2001:db8::2]:80");
    assert_eq!(encoded(PUBLIC_ADDRESS, &mixed), encoded(0, &open(Some("192.0.2.1:443"))));
}

#[test]
fn stream_frames_are_pinned() {
    pinned(
        Frame::Data { stream: 7, offset: 0x1_0000_0000, fin: false, payload: Bytes::from_static(b"hi") },
        "12 00 0000 0000000E # DATA, not the end, 14 bytes
         00000007            # stream
         00000001 00000000   # offset
         6869                # payload",
    );
    pinned(
        Frame::Data { stream: 7, offset: 2, fin: true, payload: Bytes::new() },
        "12 01 0000 0000000C # DATA, the end, 12 bytes
         00000007 0000000000000002",
    );
    pinned(
        Frame::Window { stream: 7, consumed: 2, window: 0x4_0000 },
        "13 00 0000 00000010 # WINDOW, 16 bytes
         00000007            # stream
         0000000000000002    # consumed
         00040000            # window",
    );
    pinned(
        Frame::Reset { stream: 7, code: ResetCode::TargetRefused, final_size: 3 },
        "14 00 0000 0000000E # RESET, 14 bytes
         00000007            # stream
         0004                # code
         0000000000000003    # final size",
    );
    pinned(
        Frame::Priority { stream: 7, priority: Priority::Urgent },
        "16 00 0000 00000005 # PRIORITY, 5 bytes
         00000007 04",
    );
}

#[test]
fn link_frames_are_pinned() {
    pinned(Frame::Ping { token: 0x0102_0304_0506_0708 }, "20 00 0000 00000008 0102030405060708");
    pinned(Frame::Pong { token: 0x0102_0304_0506_0708 }, "21 00 0000 00000008 0102030405060708");
    pinned(
        Frame::GoAway { code: ResetCode::Shutdown },
        "23 00 0000 00000002 # GOAWAY, 2 bytes
         0007                # code",
    );
    pinned(
        Frame::Channels { serial: 3, count: 8 },
        "25 00 0000 00000006 # CHANNELS, 6 bytes
         00000003            # serial
         0008                # count",
    );
    pinned(Frame::Retire, "26 00 0000 00000000 # RETIRE, no body");
    pinned(
        Frame::Lost { channel: 3 },
        "27 00 0000 00000002 # LOST, 2 bytes
         0003                # channel",
    );
    pinned(
        Frame::Message(TunnelMessage::control(TunnelAction::Error, "no")),
        "24 00 0000 00000008 # MESSAGE, no key, 8 bytes
         05 4552524F52       # action: ERROR
         6E6F                # data",
    );
    pinned(
        Frame::Message(TunnelMessage::control(TunnelAction::Successor, "h:7000")),
        "24 00 0000 00000010 # MESSAGE, no key, 16 bytes
         09 535543434553534F52 # action: SUCCESSOR
         683A37303030        # data",
    );
    pinned(
        Frame::Message(TunnelMessage::stream(
            key(),
            TunnelAction::AddProxy("80:a:81".parse().unwrap()),
            Bytes::new(),
        )),
        "24 01 0000 00000018 # MESSAGE, with a key, 24 bytes
         3F9A1C 00000002     # user channel id, stream id
         10 414444 50524F5859 3A 3830 3A 61 3A 3831 # action: ADDPROXY:80:a:81",
    );
}

#[test]
fn a_registration_with_networks_is_pinned() {
    pinned(
        Frame::Message(TunnelMessage::control(
            TunnelAction::AddProxy("80::::networks".parse().unwrap()),
            "deny=::1",
        )),
        "24 00 0000 00000027 # MESSAGE, no key, 39 bytes
         1E 414444 50524F5859 3A 3830 3A 64656661756C74 3A 3A 3A 6E6574776F726B73
                             # action: ADDPROXY:80:default:::networks
         64656E793D3A3A31    # data: deny=::1",
    );
}

#[test]
fn numbered_requests_and_their_answers_are_pinned() {
    let control = |action: &str, data: &'static str| {
        Frame::Message(TunnelMessage::control(action.parse().unwrap(), data))
    };
    pinned(
        control("ADDPROXY:80:::::7", ""),
        "24 00 0000 00000019 # MESSAGE, no key, 25 bytes
         18 414444 50524F5859 3A 3830 3A 64656661756C74 3A 3A 3A 3A 37 # action: ADDPROXY:80:default::::7",
    );
    pinned(
        control("REMOVEPROXY:8:80", ""),
        "24 00 0000 00000011 # MESSAGE, no key, 17 bytes
         10 52454D4F5645 50524F5859 3A 38 3A 3830 # action: REMOVEPROXY:8:80",
    );
    pinned(
        control("RESPONSE:7", "80:default"),
        "24 00 0000 00000015 # MESSAGE, no key, 21 bytes
         0A 524553504F4E5345 3A 37 # action: RESPONSE:7
         38303A64656661756C74      # data: 80:default",
    );
    pinned(
        control("ERROR:7", "PORT_IN_USE: no"),
        "24 00 0000 00000017 # MESSAGE, no key, 23 bytes
         07 4552524F52 3A 37                # action: ERROR:7
         504F52545F494E5F5553453A206E6F     # data: PORT_IN_USE: no",
    );
}

#[test]
fn a_length_is_rejected_by_the_header_alone() {
    let length = |kind, len| FrameError::Length { kind, len };
    refused("12 00 0000 FFFFFFFF", length(FrameType::Data, 0xFFFF_FFFF));
    refused("12 00 0000 0004000D", length(FrameType::Data, MAX_FRAME + 1));
    refused("12 00 0000 0000000B", length(FrameType::Data, 11));
    refused("01 00 0000 00000130", length(FrameType::Hello, 304));
    refused("01 00 0000 0000002F", length(FrameType::Hello, 47));
    refused("04 01 0000 00000046", length(FrameType::Welcome, 70));
    refused("04 00 0000 00000066", length(FrameType::Welcome, 102));
    refused("10 00 0000 00000016", length(FrameType::Open, 22));
    refused("20 00 0000 00000000", length(FrameType::Ping, 0));
    refused("24 01 0000 00000008", length(FrameType::Message, 8));
    refused("25 00 0000 00000005", length(FrameType::Channels, 5));
    refused("26 00 0000 00000001", length(FrameType::Retire, 1));
    let long = decode(&mut hex("24 00 0000 00000130"), MAX_HANDSHAKE);
    assert_eq!(long, Err(length(FrameType::Message, 304)));
}

#[test]
fn bytes_outside_the_table_of_frames_are_rejected() {
    refused("00 00 0000 00000000", FrameError::UnknownType(0));
    refused("FF 00 0000 00000000", FrameError::UnknownType(0xFF));
    refused("22 01 0000 00000000", FrameError::UnknownType(0x22));
    refused("20 01 0000 00000008", FrameError::Reserved(FrameType::Ping));
    refused("12 02 0000 0000000C", FrameError::Reserved(FrameType::Data));
    refused("20 00 0100 00000008", FrameError::Reserved(FrameType::Ping));
    refused("20 00 0001 00000008", FrameError::Reserved(FrameType::Ping));
    refused(
        "16 00 0000 00000005 00000007 05",
        FrameError::Field { kind: FrameType::Priority, field: "priority" },
    );
    refused(
        "12 00 0000 0000000C 00000007 4000000000000000",
        FrameError::Field { kind: FrameType::Data, field: "offset" },
    );
    refused("15 00 0000 0000000C", FrameError::UnknownType(0x15));
    refused("24 00 0000 00000003 03 4549", FrameError::Truncated(FrameType::Message));
    refused("24 00 0000 00000002 01 FF", FrameError::Text(FrameType::Message));
    refused("24 00 0000 00000002 01 41", FrameError::Action(ActionError::Unknown));
    let hello = "01 00 0000 00000031 0002 01 00000000 00000000
                 AAAAAAAA AAAAAAAA AAAAAAAA AAAAAAAA BBBBBBBB BBBBBBBB BBBBBBBB BBBBBBBB 00000000";
    refused(
        &format!("{} 01 61", hello.replace("0002 01 00000000", "0002 01 00040000")),
        FrameError::Field { kind: FrameType::Hello, field: "reserved field" },
    );
    refused(&format!("{hello} 00 61"), FrameError::Truncated(FrameType::Hello));
    refused(&format!("{hello} 02 61"), FrameError::Truncated(FrameType::Hello));
    refused(&format!("{hello} 01 FF"), FrameError::Text(FrameType::Hello));
    refused(
        &format!("{} 01 61", hello.replace("0002 01", "0002 04")),
        FrameError::Field { kind: FrameType::Hello, field: "mode" },
    );
}

#[test]
fn a_long_name_is_truncated_at_a_character_boundary() {
    let mut frame = Frame::Hello(hello("ä".repeat(200)));
    let decoded = decode(&mut encoded(&frame), MAX_HANDSHAKE).unwrap();
    if let Frame::Hello(hello) = &mut frame {
        hello.name = "ä".repeat(127);
    }
    assert_eq!(decoded, Some(frame));
}

#[test]
fn a_payload_shares_the_memory_of_the_buffer() {
    let payload = Bytes::from_static(b"hello");
    let mut buf = encoded(&Frame::Data { stream: 1, offset: 0, fin: false, payload: payload.clone() });
    let memory = buf.as_ptr_range();
    let Ok(Some(Frame::Data { payload: decoded, .. })) = decode(&mut buf, MAX_FRAME) else { panic!() };
    assert_eq!(decoded, payload);
    assert!(memory.contains(&decoded.as_ptr()));
}

#[test]
fn a_data_header_and_its_payload_are_a_frame() {
    let frame = Frame::Data { stream: 7, offset: 9, fin: true, payload: Bytes::from_static(b"hello") };
    for encoder in [FrameEncoder::default(), FrameEncoder::checked()] {
        let (mut whole, mut header) = (BytesMut::new(), BytesMut::new());
        encoder.clone().encode(&frame, &mut whole);
        encoder.clone().data_header(7, 9, true, b"hello", &mut header);
        header.put_slice(b"hello");
        assert_eq!(header, whole);
    }
}

/// The checksums were computed with a bitwise CRC-32C in Python.
#[test]
fn checked_frames_are_pinned() {
    let frames = [
        Frame::Ping { token: 0x0102_0304_0506_0708 },
        Frame::Data { stream: 7, offset: 2, fin: false, payload: Bytes::from_static(b"hi") },
        Frame::Pong { token: 0x0102_0304_0506_0708 },
    ];
    let mut bytes = hex("20 00 842D 00000008 1CEE9408  # PING, its check, 8 bytes, its checksum
         0102030405060708              # token
         12 00 E6D0 0000000E 45189262  # DATA, whose checksum continues that of PING
         00000007 0000000000000002 6869
         21 00 A9C6 00000008 FC56A394  # PONG
         0102030405060708");
    let (mut encoder, mut out) = (FrameEncoder::checked(), BytesMut::new());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut out));
    assert_eq!(out, bytes);
    let mut decoder = FrameDecoder::checked();
    for frame in frames {
        assert_eq!(decoder.decode(&mut bytes, MAX_FRAME), Ok(Some(frame)));
    }
    assert!(bytes.is_empty());
}

/// The decoder would wait for the bytes of a corrupted length; a check of only 16 bits protects it.
#[test]
fn the_header_check_detects_every_one_and_two_bit_error() {
    let mut bytes = BytesMut::new();
    let mut encoder = FrameEncoder::checked();
    encoder
        .encode(&Frame::Data { stream: 7, offset: 2, fin: false, payload: vec![7; 4000].into() }, &mut bytes);
    let bits = 8 * HEADER;
    for (a, b) in (0..bits).flat_map(|a| (a..bits).map(move |b| (a, b))) {
        let mut header = BytesMut::from(&bytes[..HEADER]);
        header[a / 8] ^= 1 << (a % 8);
        if a != b {
            header[b / 8] ^= 1 << (b % 8);
        }
        let decoded = FrameDecoder::checked().decode(&mut header, MAX_FRAME);
        assert_eq!(decoded, Err(FrameError::Checksum), "bits {a} and {b}");
    }
}

#[test]
fn checksums_detect_lost_duplicated_and_reordered_frames() {
    let mut encoder = FrameEncoder::checked();
    let frames = [1, 2, 3].map(|token| {
        let mut bytes = BytesMut::new();
        encoder.encode(&Frame::Ping { token }, &mut bytes);
        bytes
    });
    for order in [&[1][..], &[0, 2], &[0, 0], &[0, 2, 1]] {
        let mut bytes: BytesMut = order.iter().flat_map(|&index| frames[index].clone()).collect();
        let mut decoder = FrameDecoder::checked();
        let decoded: Vec<_> = order.iter().map(|_| decoder.decode(&mut bytes, MAX_FRAME)).collect();
        assert!(decoded.contains(&Err(FrameError::Checksum)), "{order:?}: {decoded:?}");
    }
}

fn hello(name: String) -> Hello {
    Hello {
        version: VERSION,
        mode: HelloMode::New,
        features: 0,
        nonce: [1; 16],
        link: [0; 16],
        epoch: 0,
        name,
    }
}
