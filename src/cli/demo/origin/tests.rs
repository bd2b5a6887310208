//! Requests, responses and rate limits of the origin.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use super::*;

/// Sends all `requests`, closes the write direction as `nc -N` does, and returns everything that the origin sends.
async fn exchange(requests: &[u8]) -> String {
    let shared = OriginState::new(DemoOriginOptions::default());
    let (mut near, far) = duplex(1 << 20);
    let client = async {
        near.write_all(requests).await.unwrap();
        near.shutdown().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (served, answer) = tokio::join!(serve(far, &shared), client);
    drop(served);
    answer
}

#[tokio::test]
async fn a_client_that_half_closes_receives_the_whole_response() {
    let answer = exchange(b"GET /file/70000?seed=5 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("Content-Length: 70000\r\n"));
    let shared = OriginState::new(DemoOriginOptions::default());
    let (mut near, far) = duplex(1 << 10);
    near.write_all(b"GET /file/70000?seed=5 HTTP/1.0\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    let (served, read) = tokio::join!(serve(far, &shared), near.read_to_end(&mut bytes));
    served.unwrap();
    read.unwrap();
    assert_eq!(Sha256Sum::of(&bytes[bytes.len() - 70_000..]), DemoFile { seed: 5, size: 70_000 }.sha256());
}

#[tokio::test]
async fn one_connection_serves_several_requests() {
    let answer = exchange(
        b"HEAD /file/20M HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n\
          PUT /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
          POST /upload/name HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 4, "{answer}");
    assert!(answer.contains("Content-Length: 20000000\r\n") && answer.contains(HELP));
    assert!(answer.contains(&receipt(3, Sha256Sum::of(b"abc"))));
    assert!(answer.ends_with(&receipt(0, Sha256Sum::of(b""))));
}

#[tokio::test]
async fn a_client_that_expects_100_continue_receives_it_before_the_body() {
    let shared = OriginState::new(DemoOriginOptions::default());
    let (mut near, far) = duplex(1 << 10);
    let client = async {
        let head = b"PUT /upload HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        near.write_all(head).await.unwrap();
        let mut go = [0; 25];
        near.read_exact(&mut go).await.unwrap();
        assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
        near.write_all(b"abc").await.unwrap();
        near.shutdown().await.unwrap();
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&receipt(3, Sha256Sum::of(b"abc"))), "{answer}");
    };
    let (served, ()) = tokio::join!(serve(far, &shared), client);
    served.unwrap();
}

#[tokio::test]
async fn unknown_paths_and_malformed_requests_receive_an_error_status() {
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\n\r\n", "404"),
        ("BREW /coffee HTTP/1.1\r\n\r\n", "404"),
        ("GET /file/ HTTP/1.1\r\n\r\n", "400"),
        ("GET /file/20Q HTTP/1.1\r\n\r\n", "400"),
        ("GET /file/1?seed=x HTTP/1.1\r\n\r\n", "400"),
        ("GET /file/1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "400"),
        ("DELETE /file/1 HTTP/1.1\r\n\r\n", "405"),
        ("GET /upload HTTP/1.1\r\n\r\n", "405"),
        ("PUT /file/1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("PUT /upload HTTP/1.1\r\n\r\n", "411"),
        ("PUT /upload HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400"),
        ("PUT /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"),
        ("\x16\x03\x01 TLS\r\n\r\n", "400"),
    ] {
        let answer = exchange(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{request:?}: {answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(20_000));
    assert!(exchange(long.as_bytes()).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_truncated_upload_receives_no_response() {
    assert_eq!(exchange(b"PUT /upload HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").await, "");
}

/// Sends one request and returns how many seconds the response takes.
async fn seconds_of(mut near: DuplexStream, request: String) -> f64 {
    let start = Instant::now();
    let (mut read, mut write) = tokio::io::split(&mut near);
    let send = async {
        write.write_all(request.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut sink = tokio::io::sink();
    let (_, received) = tokio::join!(send, tokio::io::copy(&mut read, &mut sink));
    received.unwrap();
    start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn rate_limits_hold_per_connection_and_for_all_connections() {
    let options =
        DemoOriginOptions { rate: NonZeroU64::new(3_000_000), connection_rate: NonZeroU64::new(2_000_000) };
    let get = || "GET /file/6000000 HTTP/1.1\r\n\r\n".to_owned();

    let alone = OriginState::new(options);
    let (near, far) = duplex(1 << 16);
    let (served, took) = tokio::join!(serve(far, &alone), seconds_of(near, get()));
    served.unwrap();
    assert!((2.9..3.2).contains(&took), "one connection: {took}");

    let both = OriginState::new(options);
    let (near_a, far_a) = duplex(1 << 16);
    let (near_b, far_b) = duplex(1 << 16);
    let (a, b, took_a, took_b) = tokio::join!(
        serve(far_a, &both),
        serve(far_b, &both),
        seconds_of(near_a, get()),
        seconds_of(near_b, get())
    );
    a.unwrap();
    b.unwrap();
    let took = took_a.max(took_b);
    assert!((3.9..4.2).contains(&took), "two connections: {took_a} {took_b}");

    let upload = OriginState::new(options);
    let (near, far) = duplex(1 << 10);
    let put = format!("PUT /upload HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n{}", "x".repeat(4_000_000));
    let (served, took) = tokio::join!(serve(far, &upload), seconds_of(near, put));
    served.unwrap();
    assert!((1.9..2.2).contains(&took), "upload: {took}");
}
