//! HTTP/1: framing of bodies, keep-alive, pipelining, upgrades, unusual heads.

use super::{
    GET_A, GET_B,
    Sender::{Target, User},
    assert_conversation,
};

#[test]
fn a_download_with_curl() {
    let request = b"GET /iso/debian-12.iso?key=secret HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
    let head = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n";
    assert_conversation(
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
fn a_keep_alive_connection_shows_the_current_request() {
    assert_conversation(
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
fn repeated_requests_and_responses() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    assert_conversation(
        "again",
        &[
            (User, GET_A, "GET /a"),
            (Target, answer, "GET /a 200 4/4"),
            (User, GET_A, "GET /a"),
            (Target, answer, "GET /a 200 4/4"),
            // The same response head is framed differently after a HEAD request.
            (User, b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /a"),
            (Target, head, "HEAD /a 200"),
            (User, GET_A, "GET /a"),
            (Target, answer, "GET /a 200 4/4"),
            (User, GET_B, "GET /b"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET /b 200"),
            // A body that looks like the previous request.
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
fn responses_without_a_body() {
    assert_conversation(
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
fn expect_100_continue() {
    let put =
        b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n".as_slice();
    assert_conversation(
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
    // Whether the client still sends the body is unknown.
    assert_conversation(
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
fn chunked_bodies() {
    assert_conversation(
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
        assert_conversation("nonsense for a chunk", &steps, true);
    }
}

#[test]
fn pipelined_requests() {
    assert_conversation(
        "pipelined",
        &[
            (User, &[GET_A, GET_B].concat(), "GET /a"),
            (User, b"GET /c HTTP/1.1\r\n\r\n", "GET /a"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "GET /a 200 2/3"),
            // At the end of the body and not at the next head, which may take long.
            (Target, b"c", "GET /b"),
            (Target, b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nConte", "GET /c"),
            (Target, b"nt-Length: 5\r\n\r\n", "GET /c 200 0/5"),
        ],
        false,
    );
    let many = GET_A.repeat(crate::inspect::inspector::MAX_PENDING_REQUESTS + 1);
    assert_conversation("too many at once", &[(User, &many, "GET /a")], true);
}

#[test]
fn interim_responses() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".as_slice();
    let answer = b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n".as_slice();
    let steps = [(User, GET_A, "GET /a"), (Target, hints, "GET /a"), (Target, answer, "GET /a 200 0/1")];
    assert_conversation("early hints", &steps, false);
}

#[test]
fn upgrades_and_tunnels() {
    let upgrade =
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".as_slice();
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x03abc".as_slice();
    assert_conversation(
        "websocket",
        &[
            (User, upgrade, "GET /ws"),
            (Target, switching, "GET /ws 101"),
            (User, b"\x81\x83GET / HTTP/1.1\r\n\r\n", "GET /ws 101"),
        ],
        true,
    );
    assert_conversation(
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
fn detected_content_stays_when_a_body_cannot_be_followed() {
    let close = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>".as_slice();
    assert_conversation("up to the end", &[(User, GET_A, "GET /a"), (Target, close, "GET /a 200")], true);
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".as_slice();
    assert_conversation("two lengths", &[(User, GET_A, "GET /a"), (Target, two, "GET /a 200")], true);
    let huge = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".as_slice();
    assert_conversation("no number", &[(User, GET_A, "GET /a"), (Target, huge, "GET /a 200")], true);
    assert_conversation("no answer", &[(User, GET_A, "GET /a"), (Target, b"hello\r\n\r\n", "GET /a")], true);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".as_slice();
    assert_conversation(
        "no request",
        &[
            (User, GET_A, "GET /a"),
            (User, b"\0\x01\x02\r\n\r\n", "GET /a"),
            (Target, answer, "GET /a 200 0/2"),
            (Target, b"ok", "GET /a 200 2/2"),
        ],
        true,
    );
    assert_conversation(
        "response without a request",
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
    assert_conversation(
        "a large request",
        &[
            (User, large.as_bytes(), "GET /a"),
            (Target, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "GET /a 200 1/2"),
            (Target, b"k", "GET /a 200 2/2"),
        ],
        true,
    );
    let large = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\n\r\n");
    assert_conversation(
        "a large answer",
        &[(User, GET_A, "GET /a"), (Target, large.as_bytes(), "GET /a 200")],
        true,
    );
    let lines = format!("GET /a HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert_conversation("many lines", &[(User, lines.as_bytes(), "GET /a")], false);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1000));
    assert_conversation(
        "a long target",
        &[(User, long.as_bytes(), &format!("GET /{}", "a".repeat(199)))],
        false,
    );
    let endless = format!("GET /{}", "a".repeat(9000));
    assert_conversation("an endless target", &[(User, endless.as_bytes(), "TCP")], false);
    // The head may never be complete; a client that holds connections open in this way must be visible.
    assert_conversation("a slow head", &[(User, b"GET /slow HTTP/1.1\r\nHost: ", "GET /slow")], false);
}
