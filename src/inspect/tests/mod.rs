//! Unit tests of protocol detection with real conversations, each also split at every byte. This file has the harness
//! and the tests of sanitizing and of memory; the tests of the protocols are in the modules below.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{ProtocolInspector, StreamInspector};
use crate::{
    ids::{StreamKey, UserChannelId},
    net::advance,
    telemetry::{Content, StreamGuard, StreamStats, Telemetry},
};

mod http;
pub(super) mod other_protocols;
mod transfers;

use Sender::{Target, User};

/// Which side of a stream sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    User,
    Target,
}

/// How the bytes that one side sends are split into reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Segmentation {
    /// In one read.
    Whole,
    /// In two reads, split at this offset.
    SplitAt(usize),
    /// In reads of the first number of bytes; a download is queued in pieces of the second number.
    Pieces(usize, usize),
}

/// A stream with an inspector and its counters.
pub(super) struct InspectedStream {
    pub(super) inspector: StreamInspector,
    pub(super) stats: Arc<StreamStats>,
    /// Keeps the stream open: its phase shows the end otherwise.
    _guard: StreamGuard,
}

impl InspectedStream {
    /// An open stream of which nothing was examined.
    pub(super) fn new() -> Self {
        let (hub, addr) = (Telemetry::new(), ([192, 0, 2, 1], 1000).into());
        let id = UserChannelId::new(0xABC123);
        let service = hub.service_opened("8080".parse().unwrap());
        let user = hub.user_joined(id, "192.0.2.1".parse().unwrap(), service.stats());
        let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
        Self { inspector: StreamInspector::new(true), stats: stream.stats().clone(), _guard: stream }
    }

    /// Passes `bytes` to the inspector as the driver does, and counts a download.
    pub(super) fn send(&self, sender: Sender, bytes: &[u8], segmentation: Segmentation) {
        let (step, piece) = match segmentation {
            Segmentation::Whole => (bytes.len(), bytes.len()),
            Segmentation::SplitAt(at) if at > 0 && at < bytes.len() => {
                self.send(sender, &bytes[..at], Segmentation::Whole);
                return self.send(sender, &bytes[at..], Segmentation::Whole);
            }
            Segmentation::SplitAt(_) => return self.send(sender, bytes, Segmentation::Whole),
            Segmentation::Pieces(step, piece) => (step, piece),
        };
        let mut queue: VecDeque<_> = bytes.chunks(piece.max(1)).map(Bytes::copy_from_slice).collect();
        for chunk in bytes.chunks(step.max(1)) {
            match sender {
                User => self.inspector.inspect_upload(chunk, &self.stats),
                Target => {
                    self.stats.add_down(chunk.len() as u64);
                    self.inspector.inspect_download(&queue, chunk.len(), &self.stats);
                    advance(&mut queue, chunk.len());
                }
            }
        }
    }

    /// Ends the stream. Describes the transfer that this cuts short; `-` if it cuts none short.
    pub(super) fn describe_end(&self) -> String {
        self.inspector.stream_ended(&self.stats);
        let Some(shortfall) = self.stats.shortfall() else { return "-".into() };
        let by = if shortfall.is_user_closed { ", the user closed" } else { "" };
        format!("{shortfall}{by}")
    }

    /// Describes the detected content: protocol, status, received bytes and size of the body; `-` if none was detected.
    pub(super) fn describe_content(&self) -> String {
        let Some(content) = self.stats.content() else { return "-".into() };
        let more = match &*content {
            Content::Http { status, body, .. } => {
                let status = status.map(|status| format!(" {status}"));
                let down = self.stats.traffic.down();
                let body = body.map(|body| format!(" {}/{}", body.arrived(down), body.size));
                [status, body].into_iter().flatten().collect()
            }
            Content::Ssh { banner } => banner.iter().map(|banner| format!(" {banner}")).collect(),
            _ => String::new(),
        };
        format!("{content}{more}")
    }
}

/// Plays a conversation with every segmentation. After each step (sender, bytes, expected content) the detected content
/// must be the expected one; at the end detection must have ended, or not.
pub(super) fn assert_conversation(name: &str, steps: &[(Sender, &[u8], &str)], finished: bool) {
    let longest = steps.iter().map(|(_, bytes, _)| bytes.len()).max().unwrap();
    let segmentations = [
        Segmentation::Whole,
        Segmentation::Pieces(1, 1),
        Segmentation::Pieces(1, 7),
        Segmentation::Pieces(5, 7),
        Segmentation::Pieces(20, 7),
    ];
    // At every byte; at some hundred of them in long conversations.
    let offsets = (1..longest).step_by(1 + longest / 500);
    for segmentation in segmentations.into_iter().chain(offsets.map(Segmentation::SplitAt)) {
        let stream = InspectedStream::new();
        for (index, (sender, bytes, expected)) in steps.iter().enumerate() {
            stream.send(*sender, bytes, segmentation);
            assert_eq!(stream.describe_content(), *expected, "{name}, {segmentation:?}, step {index}");
        }
        assert_eq!(stream.inspector.is_finished(), finished, "{name}, {segmentation:?}");
    }
}

const GET_A: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const GET_B: &[u8] = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn text_of_the_peers_is_sanitized() {
    let request = "GET /a\u{9b}b\u{202E}c HTTP/1.1\r\n\r\n".as_bytes();
    assert_conversation("marks in a target", &[(User, request, "GET /abc")], false);
    assert_conversation("an escape in a target", &[(User, b"GET /\x1b[2J HTTP/1.1\r\n\r\n", "TCP")], false);
    let banner = b"SSH-2.0-\x1b]0;x\x07y\xff\r\n".as_slice();
    assert_conversation("an escape in a banner", &[(Target, banner, "SSH SSH-2.0-]0;xy\u{FFFD}")], true);
    let hello = other_protocols::hex(other_protocols::TLS_13)
        .iter()
        .map(|&b| if b == b'.' { 0x1b } else { b })
        .collect::<Vec<_>>();
    assert_conversation("an escape in a name", &[(User, &hello, "TLS appexample")], true);
}

#[test]
fn memory_is_allocated_at_the_first_byte_and_freed_at_the_end() {
    let stream = InspectedStream::new();
    stream.send(Target, b"", Segmentation::Whole);
    assert!(format!("{:?}", stream.inspector).contains("NotStarted"));
    stream.send(User, b"\0", Segmentation::Whole);
    stream.send(Target, b"\0", Segmentation::Whole);
    assert!(stream.inspector.is_finished());
    let off = StreamInspector::new(false);
    off.inspect_upload(GET_A, &stream.stats);
    assert!(off.is_finished());
}

/// Returns a ClientHello that names this server.
fn client_hello(name: &str) -> Vec<u8> {
    let prefixed = |length_bytes: usize, body: &[u8]| {
        [&body.len().to_be_bytes()[size_of::<usize>() - length_bytes..], body].concat()
    };
    let names = prefixed(2, &[&[0][..], &prefixed(2, name.as_bytes())].concat());
    let extensions = prefixed(2, &[&[0, 0][..], &prefixed(2, &names)].concat());
    let random_and_lists = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    let message = [&[1][..], &prefixed(3, &random_and_lists)].concat();
    [&[0x16, 3, 1][..], &prefixed(2, &message)].concat()
}

#[test]
fn texts_of_the_peers_have_a_maximum_length() {
    let long = "n".repeat(1000);
    for (sender, bytes, shows) in [
        (User, client_hello(&long), format!("TLS {}", &long[..253])),
        (
            Target,
            format!("SSH-2.0-{}\r\n", &long[..200]).into_bytes(),
            format!("SSH SSH-2.0-{}", &long[..72]),
        ),
        (User, format!("GET /{long} HTTP/1.1\r\n\r\n").into_bytes(), format!("GET /{}", &long[..199])),
        (
            User,
            format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(24)).into_bytes(),
            format!("{} /", "M".repeat(24)),
        ),
        (User, format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(25)).into_bytes(), "TCP".to_owned()),
    ] {
        let stream = InspectedStream::new();
        stream.send(sender, &bytes, Segmentation::Whole);
        assert_eq!(stream.describe_content(), shows);
    }
}

#[test]
fn detection_ends_with_too_many_unanswered_requests() {
    let mut inspector = ProtocolInspector::default();
    for _ in 0..32 {
        inspector.from_user(GET_A);
    }
    assert!(!inspector.is_finished());
    inspector.from_user(GET_A);
    assert!(inspector.is_finished());
    assert_eq!(inspector.buffered_bytes(), 0);
}

#[test]
fn only_short_heads_are_cached() {
    let kept_after = |len: usize| {
        let mut inspector = ProtocolInspector::default();
        let head = format!("GET /a HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(len - 24));
        assert_eq!(head.len(), len);
        inspector.from_user(head.as_bytes());
        inspector.buffered_bytes()
    };
    let request = "GET/a".len();
    assert_eq!((kept_after(512), kept_after(513)), (512 + request, request));
}
