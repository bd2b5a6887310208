//! Whether the message within which a stream ends is complete: each framing of HTTP/1, in both directions.

use super::{
    GET_A, GET_B, InspectedStream, Segmentation,
    Sender::{Target, User},
};
use crate::telemetry::StreamPhase;

/// A step of a conversation: bytes of a side, or its FIN where there are none.
type Step<'a> = (super::Sender, &'a [u8]);

/// Plays a conversation with several segmentations, ends it, and asserts which transfer that cuts short.
#[track_caller]
fn assert_end(steps: &[Step<'_>], expected: &str) {
    for segmentation in [Segmentation::Whole, Segmentation::Pieces(1, 7), Segmentation::Pieces(5, 3)] {
        let stream = InspectedStream::new();
        for (sender, bytes) in steps {
            match (sender, *bytes) {
                (User, []) => stream.inspector.upload_ended(&stream.stats),
                (Target, []) => stream.stats.set_phase(StreamPhase::TargetDone),
                _ => stream.send(*sender, bytes, segmentation),
            }
        }
        assert_eq!(stream.describe_end(), expected, "{segmentation:?}: {steps:?}");
    }
}

const FIN: &[u8] = b"";
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345";
const REST: &[u8] = b"67890";
const CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const PUT_HALF: &[u8] = b"PUT /u HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345";
const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
const REJECTED: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";

#[test]
fn a_response_is_short_while_its_framing_says_that_more_was_to_come() {
    assert_end(&[(User, GET_A), (Target, HALF)], "5 of 10");
    assert_end(&[(User, GET_A), (Target, HALF), (Target, FIN)], "5 of 10");
    assert_end(&[(User, GET_A), (Target, HALF), (Target, REST)], "-");
    assert_end(&[(User, GET_A), (Target, HALF), (Target, REST), (Target, FIN)], "-");
    assert_end(&[(User, GET_A), (Target, CHUNKS)], "10 of unknown size");
    assert_end(&[(User, GET_A), (Target, CHUNKS), (Target, &LAST_CHUNK[..3])], "13 of unknown size");
    assert_end(&[(User, GET_A), (Target, CHUNKS), (Target, LAST_CHUNK)], "-");
    // In the middle of a chunk.
    let cut = CHUNKS.len() - 4;
    assert_end(&[(User, GET_A), (Target, &CHUNKS[..cut])], "6 of unknown size");
    let head = HALF.len() - 5;
    assert_end(&[(User, GET_A), (Target, &HALF[..head])], "0 of 10");
}

#[test]
fn of_a_persistent_connection_the_last_response_counts() {
    let first = [(User, GET_A), (Target, HALF), (Target, REST)];
    let with = |more: &[Step<'static>]| [&first, more].concat();
    assert_end(&with(&[(User, GET_B), (Target, HALF)]), "5 of 10");
    assert_end(&with(&[(User, GET_B), (Target, CHUNKS)]), "10 of unknown size");
    assert_end(&with(&[(User, GET_B), (Target, CREATED)]), "-");
    // Both requests at once.
    assert_end(&[(User, GET_A), (User, GET_B), (Target, CREATED), (Target, HALF)], "5 of 10");
    assert_end(&[(User, GET_A), (User, GET_B), (Target, CREATED), (Target, CREATED)], "-");
}

#[test]
fn a_response_without_a_body_or_a_known_size_is_never_short() {
    let head = b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n".as_slice();
    let sized = b"HTTP/1.1 200 OK\r\nContent-Length: 200000000\r\n\r\n".as_slice();
    assert_end(&[(User, head), (Target, sized)], "-");
    assert_end(&[(User, head), (Target, sized), (User, GET_A), (Target, CREATED)], "-");
    for bodiless in [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n".as_slice(),
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
        b"HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        assert_end(&[(User, GET_A), (Target, bodiless)], "-");
    }
    let connect = b"CONNECT h:1 HTTP/1.1\r\n\r\n".as_slice();
    assert_end(&[(User, connect), (Target, HALF)], "-");
    assert_end(&[(User, b"SSH-2.0-x\r\n"), (Target, HALF)], "-");
    // A part of a range has the size of the part.
    let part =
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/200\r\nContent-Length: 5\r\n\r\n12345";
    assert_end(&[(User, GET_A), (Target, part)], "-");
    assert_end(&[(User, GET_A), (Target, &part[..part.len() - 1])], "4 of 5");
}

#[test]
fn who_closed_within_a_response_is_known_where_a_user_closes_early() {
    // A user may close its direction behind the request, and wait.
    assert_end(&[(User, GET_A), (User, FIN), (Target, HALF)], "5 of 10");
    assert_end(&[(User, GET_A), (User, FIN), (Target, HALF), (Target, REST)], "-");
    assert_end(&[(User, GET_A), (Target, HALF), (User, FIN)], "5 of 10, the user closed");
    assert_end(&[(User, GET_A), (Target, HALF), (User, FIN), (Target, REST)], "-");
    // The user closes because the target has.
    assert_end(&[(User, GET_A), (Target, HALF), (Target, FIN), (User, FIN)], "5 of 10");
    let first = [(User, GET_A), (Target, HALF), (Target, REST)];
    assert_end(&[&first[..], &[(User, GET_B), (User, FIN), (Target, HALF)]].concat(), "5 of 10");
}

#[test]
fn an_upload_is_short_unless_its_response_was_complete_before() {
    assert_end(&[(User, PUT_HALF)], "5 of 10 of the upload");
    assert_end(&[(User, PUT_HALF), (User, FIN)], "5 of 10 of the upload, the user closed");
    // The target answers to what it got; the user may be gone.
    assert_end(&[(User, PUT_HALF), (User, FIN), (Target, CREATED)], "5 of 10 of the upload, the user closed");
    assert_end(&[(User, PUT_HALF), (Target, FIN), (User, FIN)], "5 of 10 of the upload");
    assert_end(&[(User, PUT_HALF), (User, REST), (User, FIN), (Target, CREATED)], "-");
    assert_end(&[(User, PUT_HALF), (Target, REJECTED), (User, FIN)], "-");
    let chunked = b"PUT /u HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n".as_slice();
    assert_end(&[(User, chunked), (User, FIN)], "10 of unknown size of the upload, the user closed");
    assert_end(&[(User, chunked), (User, LAST_CHUNK), (User, FIN), (Target, CREATED)], "-");
}

/// The announcement of a text proxy counts only where inspection knows less.
#[test]
fn an_announced_size_counts_unless_http_says_that_the_response_is_complete() {
    let announced = |size, steps: &[Step<'_>]| {
        let stream = InspectedStream::new();
        stream.stats.set_total_size(size);
        steps.iter().for_each(|(sender, bytes)| stream.send(*sender, bytes, Segmentation::Whole));
        stream.describe_end()
    };
    assert_eq!(announced(0, &[(Target, b"12345")]), "-");
    assert_eq!(announced(5, &[(Target, b"12345")]), "-");
    assert_eq!(announced(10, &[(Target, b"12345")]), "5 of 10");
    assert_eq!(announced(1000, &[(User, GET_A), (Target, CREATED)]), "-");
    assert_eq!(announced(1000, &[(User, GET_A), (Target, HALF)]), "5 of 10");
}
