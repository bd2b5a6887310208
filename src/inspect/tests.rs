//! Real conversations, each also cut at every byte.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::StreamInspector;
use crate::{
    ids::{StreamKey, UserChannelId},
    net::advance,
    telemetry::{Content, StreamStats, Telemetry},
};

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    User,
    Target,
}
use Says::{Target, User};

/// How what somebody says is cut up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    Whole,
    /// In two, there.
    At(usize),
    /// So many bytes at a time; and it waits in pieces of this many, where it has to wait.
    Every(usize, usize),
}

/// A stream whose bytes are looked at.
pub(super) struct Watched {
    pub(super) tap: StreamInspector,
    pub(super) stats: Arc<StreamStats>,
}

impl Watched {
    pub(super) fn new() -> Self {
        let (hub, addr) = (Telemetry::new(), ([192, 0, 2, 1], 1000).into());
        let id = UserChannelId::new(0xABC123);
        let service = hub.service_opened("8080".parse().unwrap());
        let user = hub.user_joined(id, "192.0.2.1".parse().unwrap(), service.stats());
        let stream = hub.stream_opened(StreamKey::new(id, 1), addr, user.stats());
        Self { tap: StreamInspector::new(true), stats: stream.stats().clone() }
    }

    pub(super) fn say(&self, says: Says, bytes: &[u8], cut: Cut) {
        let (step, piece) = match cut {
            Cut::Whole => (bytes.len(), bytes.len()),
            Cut::At(at) if at > 0 && at < bytes.len() => {
                self.say(says, &bytes[..at], Cut::Whole);
                return self.say(says, &bytes[at..], Cut::Whole);
            }
            Cut::At(_) => return self.say(says, bytes, Cut::Whole),
            Cut::Every(step, piece) => (step, piece),
        };
        let mut queue: VecDeque<_> = bytes.chunks(piece.max(1)).map(Bytes::copy_from_slice).collect();
        for chunk in bytes.chunks(step.max(1)) {
            match says {
                User => self.tap.inspect_upload(chunk, &self.stats),
                Target => {
                    self.stats.add_down(chunk.len() as u64);
                    self.tap.inspect_download(&queue, chunk.len(), &self.stats);
                    advance(&mut queue, chunk.len());
                }
            }
        }
    }

    /// What is known of it: what it carries, a status, how much of the body has come.
    pub(super) fn shows(&self) -> String {
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

/// Plays a conversation in every way it may be cut. After each step it has to show what stands there; at the end there
/// is nothing more to be learnt, or there is.
fn plays(name: &str, steps: &[(Says, &[u8], &str)], over: bool) {
    let longest = steps.iter().map(|(_, bytes, _)| bytes.len()).max().unwrap();
    let cuts = [Cut::Whole, Cut::Every(1, 1), Cut::Every(1, 7), Cut::Every(5, 7), Cut::Every(20, 7)];
    // At every byte; where there are thousands, at some hundred.
    let places = (1..longest).step_by(1 + longest / 500);
    for cut in cuts.into_iter().chain(places.map(Cut::At)) {
        let stream = Watched::new();
        for (index, (says, bytes, shows)) in steps.iter().enumerate() {
            stream.say(*says, bytes, cut);
            assert_eq!(stream.shows(), *shows, "{name}, {cut:?}, step {index}");
        }
        assert_eq!(stream.tap.is_over(), over, "{name}, {cut:?}");
    }
}

const GET_A: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const GET_B: &[u8] = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_download_with_curl() {
    let request = b"GET /iso/debian-12.iso?key=secret HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
    let head = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n";
    plays(
        "download",
        &[
            (User, request, "GET /iso/debian-12.iso"),
            (Target, head, "GET /iso/debian-12.iso 200 0/10"),
            (Target, b"01234", "GET /iso/debian-12.iso 200 5/10"),
            (Target, b"56789", "GET /iso/debian-12.iso 200 10/10"),
        ],
        false,
    );
}

#[test]
fn a_connection_that_stays_open_shows_the_current_request() {
    plays(
        "keep-alive",
        &[
            (User, GET_A, "GET /a"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab\r\n", "GET /a 200 4/4"),
            (User, b"\r\nPOST /form HTTP/1.1\r\nContent-Length: 3\r\n\r\n", "POST /form"),
            (User, b"GET", "POST /form"),
            (Target, b"HTTP/1.1 303 See Other\r\ncontent-length: 0\r\n\r\n", "POST /form 303"),
            (User, GET_B, "GET /b"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHTTP", "GET /b 200 4/6"),
            (Target, b"/1", "GET /b 200 6/6"),
        ],
        false,
    );
}

#[test]
fn requests_and_answers_that_are_the_same_again() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    plays(
        "again",
        &[
            (User, GET_A, "GET /a"),
            (Target, answer, "GET /a 200 4/4"),
            (User, GET_A, "GET /a"),
            (Target, answer, "GET /a 200 4/4"),
            // The same head means another thing behind another request.
            (User, b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /a"),
            (Target, head, "HEAD /a 200"),
            (User, GET_A, "GET /a"),
            (Target, answer, "GET /a 200 4/4"),
            (User, GET_B, "GET /b"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET /b 200"),
            // A body that looks like the request before.
            (
                User,
                b"PUT /c HTTP/1.1\r\nContent-Length: 28\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
                "PUT /c",
            ),
            (Target, answer, "PUT /c 200 4/4"),
            (User, GET_B, "GET /b"),
        ],
        false,
    );
}

#[test]
fn answers_without_a_body() {
    plays(
        "HEAD, 304, 204",
        &[
            (User, b"HEAD /file HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /file"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "HEAD /file 200"),
            (User, GET_A, "GET /a"),
            (Target, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", "GET /a 304"),
            (User, GET_B, "GET /b"),
            (Target, b"HTTP/1.1 204 No Content\r\n\r\n", "GET /b 204"),
            (User, GET_A, "GET /a"),
        ],
        false,
    );
}

#[test]
fn a_body_that_waits_for_the_go_ahead() {
    let put =
        b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n".as_slice();
    plays(
        "100-continue",
        &[
            (User, put, "PUT /upload"),
            (Target, b"HTTP/1.1 100 Continue\r\n\r\n", "PUT /upload"),
            (User, b"GET / HTTP/1.1\r\n\r\n..", "PUT /upload"),
            (Target, b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno", "PUT /upload 400 2/2"),
            (User, GET_A, "GET /a"),
        ],
        false,
    );
    // Whether the body still comes cannot be told.
    plays(
        "100-continue, refused",
        &[
            (User, put, "PUT /upload"),
            (Target, b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\n", "PUT /upload 417 0/2"),
            (Target, b"no", "PUT /upload 417 2/2"),
            (User, GET_A, "PUT /upload 417 2/2"),
        ],
        true,
    );
}

#[test]
fn bodies_in_chunks() {
    plays(
        "chunked",
        &[
            (User, b"POST /c HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "POST /c"),
            (User, b"3\r\nabc\r\n2;x=\"y\"\r\n\r\n\r\n0\r\n\r\n", "POST /c"),
            (Target, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "POST /c 200"),
            (Target, b"1A \r\nHTTP/1.1 404 Not Found\r\n\r\n", "POST /c 200"),
            (Target, b"\r\n00\r\nTrailer: x\r\nAnother: y\r\n\r\n", "POST /c 200"),
            (User, GET_B, "GET /b"),
            (Target, b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n", "GET /b 404 0/1"),
        ],
        false,
    );
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    for nonsense in [b"x\r\n".as_slice(), b"\r\n", b"12345678901234567\r\n", &[b' '; 2000]] {
        let steps =
            [(User, GET_A, "GET /a"), (Target, answer, "GET /a 200"), (Target, nonsense, "GET /a 200")];
        plays("nonsense for a chunk", &steps, true);
    }
}

#[test]
fn requests_that_do_not_wait_for_answers() {
    plays(
        "pipelined",
        &[
            (User, &[GET_A, GET_B].concat(), "GET /a"),
            (User, b"GET /c HTTP/1.1\r\n\r\n", "GET /a"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "GET /a 200 2/3"),
            // Here and not with the next head: it may take long.
            (Target, b"c", "GET /b"),
            (Target, b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nConte", "GET /c"),
            (Target, b"nt-Length: 5\r\n\r\n", "GET /c 200 0/5"),
        ],
        false,
    );
    let many = GET_A.repeat(super::inspector::MAX_WAITING + 1);
    plays("too many at once", &[(User, &many, "GET /a")], true);
}

#[test]
fn what_comes_before_the_answer() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".as_slice();
    let answer = b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n".as_slice();
    let steps = [(User, GET_A, "GET /a"), (Target, hints, "GET /a"), (Target, answer, "GET /a 200 0/1")];
    plays("early hints", &steps, false);
}

#[test]
fn upgrades_and_tunnels() {
    let upgrade =
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".as_slice();
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x03abc".as_slice();
    plays(
        "websocket",
        &[
            (User, upgrade, "GET /ws"),
            (Target, switching, "GET /ws 101"),
            (User, b"\x81\x83GET / HTTP/1.1\r\n\r\n", "GET /ws 101"),
        ],
        true,
    );
    plays(
        "CONNECT",
        &[
            (User, b"CONNECT db.example:5432 HTTP/1.1\r\n\r\n", "CONNECT db.example:5432"),
            (Target, b"HTTP/1.1 200 OK\r\n\r\n", "CONNECT db.example:5432 200"),
            (User, b"\x16\x03\x01", "CONNECT db.example:5432 200"),
        ],
        true,
    );
}

#[test]
fn what_cannot_be_followed_keeps_what_is_known() {
    let close = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>".as_slice();
    plays("up to the end", &[(User, GET_A, "GET /a"), (Target, close, "GET /a 200")], true);
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".as_slice();
    plays("two lengths", &[(User, GET_A, "GET /a"), (Target, two, "GET /a 200")], true);
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".as_slice();
    plays("no number", &[(User, GET_A, "GET /a"), (Target, huge, "GET /a 200")], true);
    plays("no answer", &[(User, GET_A, "GET /a"), (Target, b"hello\r\n\r\n", "GET /a")], true);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".as_slice();
    plays(
        "no request",
        &[
            (User, GET_A, "GET /a"),
            (User, b"\0\x01\x02\r\n\r\n", "GET /a"),
            (Target, answer, "GET /a 200 0/2"),
            (Target, b"ok", "GET /a 200 2/2"),
        ],
        true,
    );
    plays(
        "farewell",
        &[
            (User, GET_A, "GET /a"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET /a 200"),
            (Target, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", "GET /a 200"),
        ],
        true,
    );
}

#[test]
fn heads_of_unusual_size() {
    let cookie = "x".repeat(9000);
    let large = format!("GET /a HTTP/1.1\r\nCookie: {cookie}\r\n\r\n");
    plays(
        "a large request",
        &[
            (User, large.as_bytes(), "GET /a"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "GET /a 200 1/2"),
            (Target, b"k", "GET /a 200 2/2"),
        ],
        true,
    );
    let large = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\n\r\n");
    plays("a large answer", &[(User, GET_A, "GET /a"), (Target, large.as_bytes(), "GET /a 200")], true);
    let lines = format!("GET /a HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    plays("many lines", &[(User, lines.as_bytes(), "GET /a")], false);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1000));
    plays("a long target", &[(User, long.as_bytes(), &format!("GET /{}", "a".repeat(199)))], false);
    let endless = format!("GET /{}", "a".repeat(9000));
    plays("an endless target", &[(User, endless.as_bytes(), "TCP")], false);
    // It may never end: who holds connections open like this has to be seen.
    plays("a slow head", &[(User, b"GET /slow HTTP/1.1\r\nHost: ", "GET /slow")], false);
}

#[test]
fn text_from_outside_is_cleaned() {
    let request = "GET /a\u{9b}b\u{202E}c HTTP/1.1\r\n\r\n".as_bytes();
    plays("marks in a target", &[(User, request, "GET /abc")], false);
    plays("an escape in a target", &[(User, b"GET /\x1b[2J HTTP/1.1\r\n\r\n", "TCP")], false);
    let banner = b"SSH-2.0-\x1b]0;x\x07y\xff\r\n".as_slice();
    plays("an escape in a banner", &[(Target, banner, "SSH SSH-2.0-]0;xy\u{FFFD}")], true);
    let hello = hex(TLS_13).iter().map(|&b| if b == b'.' { 0x1b } else { b }).collect::<Vec<_>>();
    plays("an escape in a name", &[(User, &hello, "TLS appexample")], true);
}

/// What `openssl s_client` of OpenSSL 3.0 says first, with and without `-servername app.example`.
const TLS_12: &str = "1603010097010000930303bbe8b31df8260ae7b293180366217204ef4222a424f4e8d617f41afe52e404180000\
    04c02f00ff0100006600000010000e00000b6170702e6578616d706c65000b000403000102000a000c000a001d0017001e0019001800\
    2300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205\
    020602";
const TLS_12_NAMELESS: &str = "16030100830100007f03037acf91f3a4b165f498b2536b5acd3c2554926fefba8d6215d983fff939d135890\
    00004c02f00ff01000052000b000403000102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040\
    305030603080708080809080a080b080408050806040105010601030303010302040205020602";
pub(super) const TLS_13: &str = "16030100de010000da0303fef225bdbc08b20e4a672b04cb51fe5bf67ca738e5e119b0718b26c3eaff70e8204b7b06e6\
    3964fda4b9dbdbd1441bb7abceeba6eeb6955a7c073b0f3e5fcd0e92000813021303130100ff0100008900000010000e00000b617070\
    2e6578616d706c65000b000403000102000a00040002001d002300000016000000170000000d001e001c040305030603080708080809\
    080a080b080408050806040105010601002b0003020304002d00020101003300260024001d002009513308221960da0414767a08befe\
    dde132de101826d39340e80559f6f6c45f";
const TLS_13_NAMELESS: &str = "16030100ca010000c60303ba9e3718e2404ec7784ba19dc1fd000a6532342511c4e11a1bdb3f3eacf47bcf2\
    02c172162db086d7b56be6c1449ba12b765d4646b917798337541ebc6be36ffd2000813021303130100ff01000075000b00040300010\
    2000a00040002001d002300000016000000170000000d001e001c040305030603080708080809080a080b08040805080604010501060\
    1002b0003020304002d00020101003300260024001d00200d81bcc53267ecd753fb8ebc6f25bcfb1c499c4103b7f759bf6b720278b70\
    607";

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// The same ClientHello in records of at most `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[0x16, 3, 1, 0, part.len() as u8], part].concat();
    hello[5..].chunks(size).flat_map(record).collect()
}

#[test]
fn tls_names_its_server() {
    for (hello, shows) in [
        (TLS_12, "TLS app.example"),
        (TLS_12_NAMELESS, "TLS"),
        (TLS_13, "TLS app.example"),
        (TLS_13_NAMELESS, "TLS"),
    ] {
        let hello = hex(hello);
        plays("one record", &[(User, &hello, shows), (Target, b"HTTP/1.1 200 OK\r\n\r\n", shows)], true);
        for size in [1, 50, 100, 127] {
            plays("several records", &[(User, &in_records(&hello, size), shows)], true);
        }
        let early = [&hello[..], &[0x14, 3, 3, 0, 1, 1, 0x17, 3, 3, 0, 2, 9, 9]].concat();
        plays("early data", &[(User, &early, shows)], true);
    }
}

#[test]
fn tls_that_is_not_whole() {
    let hello = hex(TLS_13);
    plays("cut before its name", &[(User, &hello[..90], "TLS")], false);
    plays("cut behind its name", &[(User, &hello[..140], "TLS app.example")], true);
    let cut = [&hello[..90], &[0; 20]].concat();
    plays("nonsense within", &[(User, &cut, "TLS")], false);
    plays(
        "too long",
        &[(User, &[&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc], &[0; 9000][..]].concat(), "TLS")],
        true,
    );
    plays("no ClientHello", &[(User, b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "TCP")], false);
}

#[test]
fn ssh_is_told_by_either_side() {
    let (client, server) = (b"SSH-2.0-OpenSSH_9.6\r\n".as_slice(), b"SSH-2.0-dropbear\r\n".as_slice());
    let shows = "SSH SSH-2.0-OpenSSH_9.6";
    plays("the user first", &[(User, client, shows), (Target, server, shows)], true);
    let shows = "SSH SSH-2.0-dropbear";
    plays("the target first", &[(Target, server, shows), (User, client, shows)], true);
    plays("a greeting first", &[(Target, b"Hello!\r\n", "TCP"), (User, b"SSH-2.0-x", "SSH")], false);
    plays(
        "no line",
        &[(Target, &[b"SSH-", &[b'x'; 400][..]].concat(), &format!("SSH SSH-{}", "x".repeat(76)))],
        true,
    );
}

#[test]
fn everything_else_is_tcp() {
    plays(
        "SMTP",
        &[
            (Target, b"220 mail.example ESMTP\r\n", "TCP"),
            (User, b"EHLO me.example\r\n", "TCP"),
            (Target, b"250 OK\r\n", "TCP"),
        ],
        true,
    );
    plays(
        "HTTP/2",
        &[(User, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04", "TCP"), (Target, b"\0\0", "TCP")],
        true,
    );
    plays("HTTP/0.9", &[(User, b"GET /\r\n", "TCP"), (Target, b"<html>", "TCP")], true);
    plays("Redis", &[(User, b"*1\r\n$4\r\nPING\r\n", "TCP"), (Target, b"+PONG\r\n", "TCP")], true);
    plays("PostgreSQL", &[(User, b"\0\0\0\x08\x04\xd2\x16\x2f", "TCP"), (Target, b"N", "TCP")], true);
    plays("a word", &[(User, b"PING\n", "TCP"), (Target, b"PONG\n", "TCP")], true);
    plays("no word", &[(User, &[b'a'; 30], "TCP"), (Target, b"a", "TCP")], true);
    plays("too little", &[(User, b"GE", "-")], false);
    // The user has the last word, but nobody can tell which answer is whose.
    plays(
        "a greeting, then HTTP",
        &[(Target, b"hi\n", "TCP"), (User, GET_A, "GET /a"), (User, GET_B, "GET /a")],
        true,
    );
}

#[test]
fn nothing_is_allocated_before_the_first_bytes_and_nothing_kept_behind_the_last() {
    let stream = Watched::new();
    stream.say(Target, b"", Cut::Whole);
    assert!(format!("{:?}", stream.tap).contains("Fresh"));
    stream.say(User, b"\0", Cut::Whole);
    stream.say(Target, b"\0", Cut::Whole);
    assert!(stream.tap.is_over());
    let off = StreamInspector::new(false);
    off.inspect_upload(GET_A, &stream.stats);
    assert!(off.is_over());
}
