//! Property tests of protocol detection: any bytes, split in any way, cause no panic, no growth beyond the bounds, and
//! no unsanitized text.

use proptest::{collection::vec, prelude::*};

use super::{
    ProtocolInspector,
    inspector::{MAX_HEAD, MAX_PENDING_REQUESTS},
    tests::{InspectedStream, Segmentation, Sender},
};
use crate::{ids::clean, telemetry::Content};

/// Parts of real conversations mixed with noise. Noise alone would end detection at its first byte.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"GET /a HTTP/1.1\r\n",
        b"HEAD /\x1b HTTP/1.0\r\n",
        b"PUT /u HTTP/1.1\r\nExpect: 100-continue\r\n",
        b"CONNECT h:1 HTTP/1.1\r\n",
        b"GET /\xc2\x9b\xe2\x80\xae HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"Content-Length: 7\r\n",
        b"Content-Length: 999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\n",
        b"0\r\n\r\n",
        b"5\r\nabcde\r\n",
        b"fffffffffffffff\r\n",
        b"SSH-2.0-x\x1b[2J\r\n",
        b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03",
        b"\x00\x00\x00\x09\x00\x07\x00\x00\x04\x1b[2J",
    ];
    prop_oneof![
        6 => prop::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..10_000_usize).prop_map(|(byte, n)| std::vec::from_elem(byte, n)),
    ]
}

fn conversation() -> impl Strategy<Value = Vec<(Sender, Vec<u8>)>> {
    let sender = prop_oneof![Just(Sender::User), Just(Sender::Target)];
    vec((sender, vec(words(), 1..8).prop_map(|words| words.concat())), 1..12)
}

fn texts(content: &Content) -> Vec<&str> {
    match content {
        Content::Http { method, target, .. } => vec![method, target],
        Content::Tls { sni } => sni.as_deref().into_iter().collect(),
        Content::Ssh { banner } => banner.as_deref().into_iter().collect(),
        Content::Tcp => vec![],
    }
}

proptest! {
    #[test]
    fn segmentation_makes_no_difference(steps in conversation(), step in 1..300_usize, piece in 1..300_usize) {
        let [whole, split] = [Segmentation::Whole, Segmentation::Pieces(step, piece)].map(|segmentation| {
            let stream = InspectedStream::new();
            steps.iter().map(|(sender, bytes)| {
                stream.send(*sender, bytes, segmentation);
                stream.describe_content()
            }).collect::<Vec<_>>()
        });
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn buffers_are_bounded_and_text_is_sanitized(steps in conversation(), step in 1..3000_usize) {
        let mut inspector = ProtocolInspector::default();
        let mut skips = [0, 0];
        for (sender, bytes) in &steps {
            for piece in bytes.chunks(step) {
                let skip = &mut skips[usize::from(*sender == Sender::Target)];
                let shown = usize::try_from(*skip).ok().and_then(|skip| piece.get(skip..));
                *skip = match (shown, sender) {
                    (None, _) => *skip - piece.len() as u64,
                    (Some(shown), Sender::User) => inspector.from_user(shown),
                    (Some(shown), Sender::Target) => inspector.from_target(shown),
                };
                prop_assert!(inspector.buffered_bytes() <= 4 * MAX_HEAD + MAX_PENDING_REQUESTS * 1024);
                if let Some(content) = inspector.take_update() {
                    for text in texts(&content) {
                        prop_assert_eq!(clean(text, 253), text);
                    }
                    if let Some(body) = content.body() {
                        prop_assert!(body.size > 0);
                    }
                }
            }
        }
        if inspector.is_finished() {
            prop_assert_eq!(inspector.buffered_bytes(), 0);
        }
    }

    #[test]
    fn noise_never_panics(steps in vec((any::<bool>(), vec(any::<u8>(), 0..64)), 0..20)) {
        let stream = InspectedStream::new();
        for (is_user, bytes) in &steps {
            let sender = if *is_user { Sender::User } else { Sender::Target };
            stream.send(sender, bytes, Segmentation::Pieces(3, 5));
        }
    }
}
