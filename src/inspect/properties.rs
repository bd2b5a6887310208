//! Whatever is said, and however it is cut, nothing panics, grows or gets out.

use proptest::{collection::vec, prelude::*};

use super::{
    ProtocolInspector,
    inspector::{MAX_HEAD, MAX_WAITING},
    tests::{Cut, Says, Watched},
};
use crate::{ids::clean, telemetry::Content};

/// Parts of conversations, which nonsense is put between: pure noise is found out after its first byte.
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

fn conversation() -> impl Strategy<Value = Vec<(Says, Vec<u8>)>> {
    let says = prop_oneof![Just(Says::User), Just(Says::Target)];
    vec((says, vec(words(), 1..8).prop_map(|words| words.concat())), 1..12)
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
    fn how_it_is_cut_makes_no_difference(talk in conversation(), step in 1..300_usize, piece in 1..300_usize) {
        let [whole, cut] = [Cut::Whole, Cut::Every(step, piece)].map(|cut| {
            let stream = Watched::new();
            talk.iter().map(|(says, bytes)| {
                stream.say(*says, bytes, cut);
                stream.shows()
            }).collect::<Vec<_>>()
        });
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn what_it_keeps_is_bounded_and_clean(talk in conversation(), step in 1..3000_usize) {
        let mut sniffer = ProtocolInspector::default();
        let mut skips = [0, 0];
        for (says, bytes) in &talk {
            for piece in bytes.chunks(step) {
                let skip = &mut skips[usize::from(*says == Says::Target)];
                let shown = usize::try_from(*skip).ok().and_then(|skip| piece.get(skip..));
                *skip = match (shown, says) {
                    (None, _) => *skip - piece.len() as u64,
                    (Some(shown), Says::User) => sniffer.from_user(shown),
                    (Some(shown), Says::Target) => sniffer.from_target(shown),
                };
                prop_assert!(sniffer.kept() <= 4 * MAX_HEAD + MAX_WAITING * 1024);
                if let Some(content) = sniffer.take_news() {
                    for text in texts(&content) {
                        prop_assert_eq!(clean(text, 253), text);
                    }
                    if let Some(body) = content.body() {
                        prop_assert!(body.size > 0);
                    }
                }
            }
        }
        if sniffer.is_over() {
            prop_assert_eq!(sniffer.kept(), 0);
        }
    }

    #[test]
    fn noise_never_panics(talk in vec((any::<bool>(), vec(any::<u8>(), 0..64)), 0..20)) {
        let stream = Watched::new();
        for (user, bytes) in &talk {
            let says = if *user { Says::User } else { Says::Target };
            stream.say(says, bytes, Cut::Every(3, 5));
        }
    }
}
