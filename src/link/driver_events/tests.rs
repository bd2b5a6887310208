//! Tests of what the driver of a channel waits for.

use std::{net::Ipv4Addr, time::Instant};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    runtime::Handle,
    time::timeout,
};

use super::*;
use crate::{
    link::{channel_shared::ChannelShared, write_queue::WriteQueue},
    net::ChannelSocket,
    wire::binary::FrameEncoder,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(5);

/// Returns a channel, and the far end of its connection.
async fn channel() -> (ChannelIo, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    let shared = ChannelShared::new(1, Handle::current().id(), false, None);
    let queue = WriteQueue::new(FrameEncoder::default(), None);
    (ChannelIo::new(shared, ChannelSocket::plain(near.unwrap()), queue), far.unwrap().0)
}

/// Returns the next event; `None` if nothing happens for a while.
async fn next(events: &mut DriverEvents, io: &ChannelIo) -> Option<DriverEvent> {
    timeout(Duration::from_millis(50), events.next(io, false)).await.ok()
}

/// Regression test: each flush of a channel whose congestion window is full asks for another report of the kernel's
/// view. If that makes the driver flush at once, it reads `TCP_INFO` in a busy loop: 1.2 cores of an upload over 100
/// Mbit/s.
#[tokio::test]
async fn data_that_waits_for_a_report_has_one_made_every_millisecond() {
    let (io, _far) = channel().await;
    let mut events = DriverEvents::new();
    events.set_timer(Instant::now() + LONG);
    let (begin, mut flushes) = (Instant::now(), 0);
    io.signals().request_sample();
    while begin.elapsed() < Duration::from_millis(60) {
        let event = timeout(LONG, events.next(&io, false)).await.expect("the report is made");
        assert_eq!(event, DriverEvent::FlushRequested);
        flushes += 1;
        // What a flush does while the window stays full.
        io.signals().sample_taken();
        io.signals().request_sample();
    }
    // Seldom on a busy machine, but not as seldom as a timer of the mux.
    assert!((5..=61).contains(&flushes), "{flushes} flushes in {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_driver_that_is_asked_to_flush_all_the_time_reads_in_between() {
    let (io, mut far) = channel().await;
    let mut events = DriverEvents::new();
    events.set_timer(Instant::now() + LONG);
    far.write_all(b"frames").await.unwrap();
    timeout(LONG, io.socket().readable()).await.unwrap().unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        io.signals().request_flush();
        seen.extend(next(&mut events, &io).await);
    }
    use DriverEvent::{FlushRequested, Readable};
    assert_eq!(seen, [FlushRequested, Readable, FlushRequested, Readable]);
}

/// Regression test: a channel whose peer sends all the time stayed blocked although its socket took bytes again.
#[tokio::test]
async fn a_driver_that_can_read_all_the_time_learns_that_it_may_write() {
    let (io, mut far) = channel().await;
    let mut events = DriverEvents::new();
    events.set_timer(Instant::now() + LONG);
    far.write_all(b"frames").await.unwrap();
    timeout(LONG, io.socket().readable()).await.unwrap().unwrap();
    io.shared().set_write_blocked(true);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.extend(next(&mut events, &io).await);
    }
    use DriverEvent::{Readable, Writable};
    assert_eq!(seen, [Writable, Readable, Writable, Readable]);
}

#[tokio::test]
async fn requests_made_before_the_driver_waits_are_not_lost() {
    let (io, _far) = channel().await;
    let mut events = DriverEvents::new();
    assert_eq!(next(&mut events, &io).await, Some(DriverEvent::Timeout), "the timer fires once at once");
    events.set_timer(Instant::now() + LONG);
    assert_eq!(next(&mut events, &io).await, None);
    io.wake_driver();
    io.wake_driver();
    assert_eq!(next(&mut events, &io).await, Some(DriverEvent::FlushRequested));
    assert_eq!(next(&mut events, &io).await, None, "one flush carries out both requests");
    io.cancel_driver();
    assert_eq!(next(&mut events, &io).await, Some(DriverEvent::Stopped));
}
