//! Framing and limits of messages.

use super::*;

async fn read_body(head: &str, body: &str) -> Result<String, HttpReadError> {
    let traffic = TrafficCounters::default();
    let (mut far, near) = tokio::io::duplex(1 << 16);
    far.write_all(format!("PUT / HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    drop(far);
    let mut connection = HttpConnection::new(near, &traffic);
    let head = connection.read_request().await?.unwrap();
    let mut body = BodyReader::new(head.framing()?);
    let mut all = Vec::new();
    while let Some(bytes) = body.next(&mut connection).await? {
        all.extend_from_slice(&bytes);
    }
    Ok(String::from_utf8(all).unwrap())
}

#[tokio::test]
async fn a_body_ends_where_its_framing_says() {
    assert_eq!(read_body("Content-Length: 5", "helloGET").await.unwrap(), "hello");
    assert_eq!(read_body("A: b", "hello").await.unwrap(), "");
    let chunked = "Transfer-Encoding: chunked";
    assert_eq!(
        read_body(chunked, "5;x=y\r\nhello\r\nA\r\n, 10 bytes\r\n0\r\nT: 1\r\n\r\n").await.unwrap(),
        { "hello, 10 bytes" }
    );
    assert_eq!(read_body(chunked, "0\r\n\r\n").await.unwrap(), "");
}

#[tokio::test]
async fn a_truncated_body_is_an_error() {
    let chunked = "Transfer-Encoding: chunked";
    for (head, body) in [
        ("Content-Length: 6", "hello"),
        (chunked, "5\r\nhel"),
        (chunked, "5\r\nhello\r\n"),
        (chunked, "5\r\nhello\r\n0\r\n"),
    ] {
        assert!(matches!(read_body(head, body).await, Err(HttpReadError::Truncated)), "{head} {body}");
    }
}

#[tokio::test]
async fn ambiguous_and_invalid_lengths_are_refused() {
    for (head, body) in [
        ("Content-Length: 5\r\nContent-Length: 6", ""),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", ""),
        ("Content-Length: +5", ""),
        ("Content-Length: 99999999999999999999", ""),
        ("Transfer-Encoding: gzip, chunked", ""),
        ("Transfer-Encoding: chunked", "-1\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhello!\r\n0\r\n\r\n"),
    ] {
        assert!(matches!(read_body(head, body).await, Err(HttpReadError::Malformed(_))), "{head}");
    }
    let endless = "f".repeat(MAX_LINE_BYTES + 1);
    let error = read_body("Transfer-Encoding: chunked", &endless).await;
    assert!(matches!(error, Err(HttpReadError::Malformed(_))));
}

#[tokio::test]
async fn the_size_of_a_head_is_bounded() {
    let long = format!("A: {}", "x".repeat(MAX_HEAD_BYTES));
    assert!(matches!(read_body(&long, "").await, Err(HttpReadError::TooLarge)));
    let many = vec!["A: b"; MAX_HEADERS + 1].join("\r\n");
    assert!(matches!(read_body(&many, "").await, Err(HttpReadError::TooLarge)));
}
