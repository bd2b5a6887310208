//! Tests of the emulated link that other tests and the benches put between two programs: its rate, delay and queue.

use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};

use crate::support::{
    link::{Link, Shape, Wire, line::Line},
    soon, target,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const MS: Duration = Duration::from_millis(1);

/// How often a measurement that other load on the machine can spoil is repeated.
const ATTEMPTS: usize = 5;

/// Creates one direction of a link, `rate` in bytes per second.
fn line(rate: u64, delay: Duration) -> Line<u32> {
    Line::new(Shape::new(NonZeroU64::new(rate), delay))
}

/// Transfers `parcels` of `bytes` each, as fast as a queue of 64 KiB accepts them, by a clock that advances in steps
/// of `tick`. Returns how many seconds that takes.
fn transfer_seconds(line: &mut Line<u32>, parcels: u32, bytes: usize, tick: Duration) -> f64 {
    let begin = Instant::now();
    let (mut now, mut queued, mut sent, mut arrived) = (begin, 0, 0, 0);
    loop {
        queued -= line.left(now);
        while line.arrived(now).is_some() {
            arrived += 1;
        }
        if arrived == parcels {
            return (now - begin).as_secs_f64();
        }
        while sent < parcels && queued + bytes <= 65_536 {
            line.push(now, bytes, sent);
            queued += bytes;
            sent += 1;
        }
        now += tick;
    }
}

#[test]
fn the_rate_is_exact_even_with_late_timers() {
    // A second of 1 Gbit/s, and a queue that lasts for half a millisecond.
    for tick in [MS / 100, MS / 10, MS / 4] {
        let took = transfer_seconds(&mut line(125_000_000, 10 * MS), 4000, 31_250, tick);
        assert!((1.0..1.02).contains(&took), "{tick:?}: {took}");
    }
    // The queue drains completely between two steps of this clock.
    let took = transfer_seconds(&mut line(125_000_000, 10 * MS), 4000, 31_250, MS);
    assert!((1.9..2.1).contains(&took), "{took}");
}

#[test]
fn a_single_message_takes_exactly_the_delay() {
    let (mut line, begin) = (line(1_000_000, 10 * MS), Instant::now());
    line.push(begin, 64, 7);
    assert_eq!(line.left(begin), 64, "the burst has room for it");
    assert_eq!((line.next(), line.arrived(begin + 9 * MS)), (Some(begin + 10 * MS), None));
    assert_eq!((line.arrived(begin + 10 * MS), line.next()), (Some(7), None));
}

#[test]
fn a_message_behind_bulk_data_waits_for_it() {
    let (mut line, begin) = (line(1_000_000, 10 * MS), Instant::now());
    // 0.1 s of the rate, less the burst.
    line.push(begin, 100_000, 1);
    line.push(begin, 64, 2);
    assert_eq!((line.left(begin + 97 * MS), line.left(begin + 99 * MS)), (0, 100_064));
    assert_eq!(line.arrived(begin + 107 * MS), None);
    assert_eq!((line.arrived(begin + 109 * MS), line.arrived(begin + 109 * MS)), (Some(1), Some(2)));
}

#[test]
fn a_shorter_delay_reorders_nothing() {
    let (mut line, begin) = (line(0, 50 * MS), Instant::now());
    line.push(begin, 10, 1);
    line.set_shape(Shape::new(None, MS));
    line.push(begin, 10, 2);
    assert_eq!((line.left(begin), line.arrived(begin + 49 * MS)), (20, None));
    assert_eq!((line.arrived(begin + 50 * MS), line.arrived(begin + 50 * MS)), (Some(1), Some(2)));
}

/// Sends `bytes` over `connections` in parallel to a target that discards them, and waits until it has closed each.
/// Returns how long that took.
async fn upload_time(link: &Link, connections: u64, bytes: u64) -> Duration {
    let mut senders = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..connections {
        let mut socket = TcpStream::connect(link.addr).await.unwrap();
        senders.spawn(async move {
            let block = vec![7; 64 * 1024];
            for _ in 0..bytes / connections / block.len() as u64 {
                socket.write_all(&block).await.unwrap();
            }
            socket.shutdown().await.unwrap();
            assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
        });
    }
    soon("the upload", senders.join_all()).await;
    begin.elapsed()
}

/// Over real sockets: never faster than the rate, and as fast unless other load on the machine prevents it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_share_the_rate() {
    let sink = target::sink().await;
    for connections in [1, 4] {
        // Slow enough that the queue lasts longer than a busy machine delays a thread.
        let link = Link::to(sink.addr, Shape::mbit(4, Duration::ZERO)).await.unwrap();
        let mut rates = Vec::new();
        for _ in 0..ATTEMPTS {
            let bytes = 1 << 20;
            rates.push(bytes as f64 / upload_time(&link, connections, bytes).await.as_secs_f64() / 5e5);
            if rates.last().unwrap() > &0.95 {
                break;
            }
        }
        println!("{connections} connections: {rates:.3?} of 4 Mbit/s");
        assert!(rates.iter().all(|&rate| rate < 1.05), "{rates:?}");
        assert!(rates.iter().any(|&rate| rate > 0.95), "{rates:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rtt_is_twice_the_delay() {
    let echo = target::echo().await;
    let link = Link::to(echo.addr, Shape::mbit(1000, 100 * MS)).await.unwrap();
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    let mut min_rtt = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        socket.write_all(&[1; 64]).await.unwrap();
        soon("an echo", socket.read_exact(&mut [0; 64])).await.unwrap();
        assert!(begin.elapsed() >= 200 * MS);
        min_rtt = min_rtt.min(begin.elapsed());
    }
    assert!(min_rtt < 220 * MS, "{min_rtt:?}");
}

/// Small messages wait behind bulk data for no longer than the queue lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_has_the_configured_length() {
    let echo = target::echo().await;
    let link = Link::to(echo.addr, Shape::mbit(4, Duration::ZERO)).await.unwrap();
    let mut busy = JoinSet::new();
    for _ in 0..4 {
        let (mut read, mut write) = TcpStream::connect(link.addr).await.unwrap().into_split();
        busy.spawn(async move { tokio::io::copy(&mut tokio::io::repeat(1), &mut write).await });
        busy.spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    }
    let mut socket = TcpStream::connect(link.addr).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..8 {
        let begin = Instant::now();
        socket.write_all(&[1; 64]).await.unwrap();
        soon("an echo", socket.read_exact(&mut [0; 64])).await.unwrap();
        times.push(begin.elapsed());
    }
    times.sort();
    println!("RTT through two queues of 131 ms: p50 {:.1?}", times[4]);
    // The queue of the reverse direction may not be full all the time.
    assert!(times[4] > 131 * MS, "nothing queued: {times:?}");
    assert!(times[4] < 524 * MS, "{times:?}");
    drop(link);
    busy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_loses_nothing_and_a_cut_resets_both_ends() {
    let echo = target::echo().await;
    let link = Link::to(echo.addr, Shape::mbit(100, MS)).await.unwrap();
    let mut user = TcpStream::connect(link.addr).await.unwrap();
    user.write_all(b"before").await.unwrap();
    soon("an echo", user.read_exact(&mut [0; 6])).await.unwrap();
    link.set_all(Wire::Dead);
    user.write_all(b"during").await.unwrap();
    let mut late = TcpStream::connect(link.addr).await.unwrap();
    late.write_all(b"during").await.unwrap();
    let mut answer = [0; 6];
    for socket in [&mut user, &mut late] {
        tokio::time::timeout(100 * MS, socket.read_exact(&mut answer)).await.unwrap_err();
    }
    link.set_all(Wire::Up);
    for socket in [&mut user, &mut late] {
        soon("the delayed echo", socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"during");
    }
    assert_eq!((link.connection(0).await.carried(), echo.counts().open), (24, 2));
    link.connection(0).await.set(Wire::Cut);
    soon("the reset", user.read(&mut answer)).await.unwrap_err();
    echo.when(|counts| counts.open == 1 && counts.failed == 1, crate::support::LONG).await;
    late.write_all(b"after!").await.unwrap();
    soon("the other connection's echo", late.read_exact(&mut answer)).await.unwrap();
    let refusal = link.refuse();
    soon("the refused connection", wait_for_reset(&link)).await;
    drop(refusal);
    drop(link);
    soon("the end of the link", late.read(&mut answer)).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_and_resets_follow_the_bytes_before_them() {
    let link = Link::to(target::after_end(100).await.addr, Shape::mbit(100, MS)).await.unwrap();
    // That target has stopped listening: the link reports it with a reset.
    soon("a target that is not there", wait_for_reset(&link)).await;
    let target = target::after_end(100).await;
    let link = Link::to(target.addr, Shape::mbit(100, MS)).await.unwrap();
    let mut user = TcpStream::connect(link.addr).await.unwrap();
    user.write_all(b"half-closed").await.unwrap();
    user.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer", user.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("11 ") && answer.ends_with("half-closed"), "{answer}");
    target.when(|counts| counts.open == 0 && counts.failed == 0, crate::support::LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_not_read_blocks_no_other() {
    let serve = target::serve_with(|mut socket| async move {
        match socket.read_u8().await? {
            b'd' => std::future::pending().await,
            byte => socket.write_u8(byte).await,
        }
    });
    let target = serve.await;
    let link = Link::to(target.addr, Shape::mbit(1000, MS)).await.unwrap();
    let mut stuck = TcpStream::connect(link.addr).await.unwrap();
    while let Ok(written) = tokio::time::timeout(300 * MS, stuck.write(&[b'd'; 4096])).await {
        written.unwrap();
    }
    let mut other = TcpStream::connect(link.addr).await.unwrap();
    other.write_u8(b'x').await.unwrap();
    assert_eq!(soon("an echo", other.read_u8()).await.unwrap(), b'x');
}

/// Waits until a connection through `link` is reset. If the reset is early, connecting already fails.
async fn wait_for_reset(link: &Link) {
    if let Ok(mut socket) = TcpStream::connect(link.addr).await {
        socket.read(&mut [0]).await.unwrap_err();
    }
}
