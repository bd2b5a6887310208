//! Property tests of the binary codec: round trips, frames in pieces, noise, corruption in transit.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::{
    arbitrary::any,
    collection::vec,
    prop_assert, prop_assert_eq, prop_oneof, proptest,
    strategy::{Just, Strategy},
    test_runner::TestCaseError,
};

use super::{layout::*, tests::encoded, *};
use crate::{
    ids::{Priority, StreamKey, UserChannelId},
    wire::{
        Frame, Hello, HelloMode, Open, RefusalCode, RemoveProxy, ResetCode, TunnelAction, TunnelMessage,
        UserAddresses, Welcome,
    },
};

fn any_priority() -> impl Strategy<Value = Priority> {
    proptest::sample::select(&Priority::ALL[..])
}

fn any_key() -> impl Strategy<Value = StreamKey> {
    (any::<u32>(), any::<u32>()).prop_map(|(user, stream)| StreamKey::new(UserChannelId::new(user), stream))
}

fn any_code() -> impl Strategy<Value = ResetCode> {
    (0..ResetCode::ALL.len()).prop_map(|index| ResetCode::ALL[index])
}

fn any_payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn any_user() -> impl Strategy<Value = Option<UserAddresses>> {
    let ipv4 = || any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let ipv6 = || any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
    let addresses = |(client, public)| Some(UserAddresses { client, public });
    prop_oneof![
        Just(None),
        (ipv4(), proptest::option::of(ipv4())).prop_map(addresses),
        (ipv6(), proptest::option::of(ipv6())).prop_map(addresses),
    ]
}

fn any_action() -> impl Strategy<Value = TunnelAction> {
    prop_oneof![
        Just(TunnelAction::Ping),
        Just(TunnelAction::StreamData),
        (any::<u32>(), any::<u16>())
            .prop_map(|(number, port)| TunnelAction::RemoveProxy(RemoveProxy { number, port })),
        any::<u32>().prop_map(TunnelAction::Granted),
        any::<u32>().prop_map(TunnelAction::Refused),
        "[a-zA-Z0-9._-]{1,64}".prop_map(|group| {
            format!("ADDPROXY:65535:{group}:65535").parse().expect("group is within its limits")
        }),
    ]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let handshake = prop_oneof![
        (
            any::<(u16, u32, [u8; 16], [u8; 16], u32)>(),
            prop_oneof![Just(HelloMode::New), Just(HelloMode::Join), Just(HelloMode::Resume)],
            "\\PC{0,60}",
        )
            .prop_map(|((version, features, nonce, link, epoch), mode, name)| {
                Frame::Hello(Hello { version, mode, features, nonce, link, epoch, name })
            }),
        any::<[u8; 32]>().prop_map(|nonce| Frame::Challenge { nonce }),
        any::<[u8; 32]>().prop_map(|mac| Frame::Proof { mac }),
        (proptest::sample::select(&RefusalCode::ALL[..]), any::<u16>())
            .prop_map(|(code, version)| Frame::Refused { code, version }),
        any::<([u8; 16], u32, u16, [u32; 4], Option<[u8; 32]>, [u8; 32])>().prop_map(
            |(link, epoch, channel, numbers, resume_secret, mac)| {
                let [features, max_streams, first_window, grace_ms] = numbers;
                Frame::Welcome(Welcome {
                    link,
                    epoch,
                    channel,
                    features,
                    max_streams,
                    first_window,
                    grace_ms,
                    resume_secret,
                    mac,
                })
            }
        ),
    ];
    let offset = || 0..MAX_OFFSET;
    prop_oneof![
        handshake,
        (any::<u32>(), any_key(), any::<u16>(), any_priority(), any::<u32>(), any_user()).prop_map(
            |(stream, key, port, priority, window, user)| {
                Frame::Open(Open { stream, key, port, priority, window, user })
            }
        ),
        any::<(u32, u32)>().prop_map(|(stream, window)| Frame::OpenOk { stream, window }),
        (any::<u32>(), offset(), any::<bool>(), any_payload())
            .prop_map(|(stream, offset, fin, payload)| { Frame::Data { stream, offset, fin, payload } }),
        (any::<u32>(), offset(), any::<u32>()).prop_map(|(stream, consumed, window)| Frame::Window {
            stream,
            consumed,
            window
        }),
        (any::<u32>(), any_code(), offset()).prop_map(|(stream, code, final_size)| Frame::Reset {
            stream,
            code,
            final_size
        }),
        (any::<u32>(), any_priority()).prop_map(|(stream, priority)| Frame::Priority { stream, priority }),
        any::<u64>().prop_map(|token| Frame::Ping { token }),
        any::<u64>().prop_map(|token| Frame::Pong { token }),
        any_code().prop_map(|code| Frame::GoAway { code }),
        any::<(u32, u16)>().prop_map(|(serial, count)| Frame::Channels { serial, count }),
        Just(Frame::Retire),
        any::<u16>().prop_map(|channel| Frame::Lost { channel }),
        (proptest::option::of(any_key()), any_action(), any_payload())
            .prop_map(|(key, action, data)| Frame::Message(TunnelMessage { key, action, data })),
    ]
}

fn codec() -> impl Strategy<Value = (FrameEncoder, FrameDecoder)> {
    any::<bool>().prop_map(|checked| {
        let features = PUBLIC_ADDRESS | if checked { CHECKSUMS } else { 0 };
        let FrameCodec { encoder, decoder } = FrameCodec::with_features(features);
        (encoder, decoder)
    })
}

/// Decodes frames until the bytes run out or are no frame. Asserts that no length field makes the buffer grow.
fn drain(mut decoder: FrameDecoder, buf: &mut BytesMut) -> Vec<Frame> {
    let capacity = buf.capacity();
    let mut frames = vec![];
    while let Ok(Some(frame)) = decoder.decode(buf, MAX_FRAME) {
        frames.push(frame);
    }
    assert!(buf.capacity() <= capacity, "a peer's length grew the buffer");
    frames
}

proptest! {
    #[test]
    fn frames_round_trip((mut encoder, decoder) in codec(), frames in vec(any_frame(), 1..8)) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            encoder.encode(frame, &mut bytes);
        }
        prop_assert_eq!(drain(decoder, &mut bytes), frames);
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn an_incomplete_frame_is_left_in_the_buffer((mut encoder, decoder) in codec(), frame in any_frame()) {
        let mut bytes = BytesMut::new();
        encoder.encode(&frame, &mut bytes);
        for cut in 0..bytes.len() {
            let mut decoder = decoder.clone();
            let mut buf = BytesMut::from(&bytes[..cut]);
            prop_assert_eq!(decoder.decode(&mut buf, MAX_FRAME), Ok(None));
            prop_assert_eq!(buf.len(), cut);
            buf.put_slice(&bytes[cut..]);
            prop_assert_eq!(decoder.decode(&mut buf, MAX_FRAME), Ok(Some(frame.clone())));
        }
    }

    #[test]
    fn noise_never_panics((_, decoder) in codec(), noise in vec(any::<u8>(), 0..400)) {
        drain(decoder, &mut BytesMut::from(&noise[..]));
    }

    #[test]
    fn a_corrupted_frame_never_panics(frame in any_frame(), at: usize, bits in 1..=u8::MAX) {
        let mut bytes = encoded(&frame);
        let at = at % bytes.len();
        bytes[at] ^= bits;
        drain(FrameDecoder::default(), &mut bytes);
    }

    /// Frames before the corrupted byte are decoded; decoding ends at the corrupted frame.
    #[test]
    fn checksums_detect_one_corrupted_byte(
        frames in vec(any_frame(), 1..8),
        at: usize,
        bits in 1..=u8::MAX,
    ) {
        let FrameCodec { mut encoder, .. } = FrameCodec::with_features(CHECKSUMS | PUBLIC_ADDRESS);
        let mut bytes = BytesMut::new();
        for frame in &frames {
            encoder.encode(frame, &mut bytes);
        }
        let at = at % bytes.len();
        bytes[at] ^= bits;
        let mut decoder = FrameDecoder::checked();
        let mut decoded = 0;
        let error = loop {
            match decoder.decode(&mut bytes, MAX_FRAME) {
                Ok(Some(frame)) => prop_assert_eq!(Some(&frame), frames.get(decoded)),
                Ok(None) => return Err(TestCaseError::fail("the decoder waits for more bytes")),
                Err(error) => break error,
            }
            decoded += 1;
        };
        prop_assert_eq!(error, FrameError::Checksum);
        prop_assert!(decoded < frames.len());
    }
}
