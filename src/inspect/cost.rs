//! Measures the cost of protocol detection: `cargo test --release --lib inspect::cost -- --ignored --nocapture`.

use std::{collections::VecDeque, hint::black_box, time::Instant};

use bytes::Bytes;

use super::{
    StreamInspector,
    tests::{
        InspectedStream, Segmentation, Sender,
        other_protocols::{TLS_13, hex},
    },
};

/// The bytes of one call.
const CHUNK: usize = 64 * 1024;

/// Calls `once` `times` times in each of seven runs. Prints and returns the median, in nanoseconds per call.
fn measure(name: &str, times: u32, mut once: impl FnMut()) -> f64 {
    let mut runs: Vec<f64> = (0..7)
        .map(|_| {
            let began = Instant::now();
            (0..times).for_each(|_| once());
            began.elapsed().as_nanos() as f64 / f64::from(times)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{name:<48} {:>9.1} ns", runs[3]);
    runs[3]
}

#[test]
#[ignore = "a measurement"]
fn cost() {
    let request = b"GET /iso/debian-12.iso HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
        Content-Length: 2\r\nConnection: keep-alive\r\n\r\nok";
    let body = Bytes::from(vec![b'x'; CHUNK]);
    // Queued pieces have some hundred bytes to some KiB each.
    let queue: VecDeque<Bytes> = body.chunks(8 * 1024).map(Bytes::copy_from_slice).collect();

    let download = InspectedStream::new();
    download.send(Sender::User, request, Segmentation::Whole);
    download.send(
        Sender::Target,
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n",
        Segmentation::Whole,
    );
    let none =
        measure("64 KiB, counted only", 1_000_000, || download.stats.add_down(black_box(CHUNK as u64)));
    let with = measure("64 KiB of a body, counted and inspected", 1_000_000, || {
        download.stats.add_down(black_box(CHUNK as u64));
        download.inspector.inspect_download(&queue, black_box(CHUNK), &download.stats);
    });
    println!("{:<48} {:>9.1} ns", "  the difference", with - none);
    assert!(download.describe_content().starts_with("GET /iso/debian-12.iso 200"));

    let off = StreamInspector::new(false);
    measure("64 KiB with detection off, download", 10_000_000, || {
        off.inspect_download(&queue, black_box(CHUNK), &download.stats)
    });
    measure("64 KiB with detection off, upload", 10_000_000, || {
        off.inspect_upload(black_box(&body), &download.stats)
    });

    let chunked = InspectedStream::new();
    chunked.send(Sender::User, request, Segmentation::Whole);
    chunked.send(
        Sender::Target,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        Segmentation::Whole,
    );
    let chunk = [b"fff8\r\n".as_slice(), &[b'x'; 0xfff8], b"\r\n"].concat();
    let whole = VecDeque::from([Bytes::from(chunk)]);
    measure("64 KiB of a body in chunks of 64 KiB", 1_000_000, || {
        chunked.inspector.inspect_download(&whole, black_box(whole[0].len()), &chunked.stats);
    });
    let chunk = [b"ff8\r\n".as_slice(), &[b'x'; 0xff8], b"\r\n"].concat();
    let small = VecDeque::from([Bytes::from(chunk.repeat(16))]);
    measure("64 KiB of a body in chunks of 4 KiB", 1_000_000, || {
        chunked.inspector.inspect_download(&small, black_box(small[0].len()), &chunked.stats);
    });
    assert!(!chunked.inspector.is_finished());

    let kept = InspectedStream::new();
    let answers = VecDeque::from([Bytes::from_static(answer)]);
    measure("a request and its response", 200_000, || {
        kept.inspector.inspect_upload(black_box(request), &kept.stats);
        kept.inspector.inspect_download(&answers, answer.len(), &kept.stats);
    });
    assert!(!kept.inspector.is_finished());
    let hello = hex(TLS_13);
    let stats = &kept.stats;
    measure("the first bytes of TLS", 200_000, || {
        StreamInspector::new(true).inspect_upload(black_box(&hello), stats)
    });
    measure("the first bytes of something else", 200_000, || {
        StreamInspector::new(true).inspect_upload(black_box(b"\0\0\0\x08"), stats)
    });
}
