//! Unit tests of the acknowledgements of the peer's kernel.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Statistics of a connection on which `acknowledged` bytes were acknowledged 100 ms ago, and `unsent` are queued.
fn tcp(acknowledged: u64, unsent: u64) -> TcpInfo {
    let last_ack_age = Duration::from_millis(100);
    TcpInfo { acknowledged_bytes: acknowledged, unsent_bytes: unsent, last_ack_age, ..TcpInfo::default() }
}

/// A slow path delivers 10 KB/s, and the ping is behind 30 KB: the answer is 3 s late, and the path works.
#[test]
fn acknowledged_data_before_the_ping_shows_that_the_path_works() {
    let begin = Instant::now();
    let mut progress = AckProgress::new(begin);
    assert_eq!(progress.update(&tcp(5_000, 20_000), 10_000, true, begin), Some(begin - SECOND / 10));
    let at = |second: u32| begin + second * SECOND;
    assert_eq!(progress.update(&tcp(15_000, 20_000), 0, true, at(1)), Some(at(1) - SECOND / 10));
    assert_eq!(progress.update(&tcp(25_000, 20_000), 0, true, at(2)), Some(at(2) - SECOND / 10));
    // No further acknowledgement: an outage.
    assert_eq!(progress.update(&tcp(25_000, 20_000), 0, true, at(3)), None);
    assert_eq!(progress.stall(at(3)), SECOND + SECOND / 10);
}

/// The kernel of an intermediary accepts and acknowledges everything, and forwards nothing.
#[test]
fn data_behind_an_acknowledged_ping_excuses_nothing() {
    let begin = Instant::now();
    let mut progress = AckProgress::new(begin);
    assert_eq!(progress.update(&tcp(1_000, 24), 0, true, begin), Some(begin - SECOND / 10));
    for second in 1..10 {
        let acknowledged = 1_024 + 100 * u64::from(second);
        assert_eq!(progress.update(&tcp(acknowledged, 0), 0, true, begin + second * SECOND), None);
    }
    // The answer has arrived, and the next one is due.
    assert_eq!(progress.update(&tcp(3_000, 0), 0, false, begin + 10 * SECOND), None);
    assert!(progress.update(&tcp(3_500, 500), 0, true, begin + 11 * SECOND).is_some());
}

/// After a change of its address, nothing of what a proxy has sent is acknowledged.
#[test]
fn a_kernel_that_acknowledges_nothing_is_noticed_within_half_a_second() {
    let begin = Instant::now();
    let mut progress = AckProgress::new(begin);
    let ms = Duration::from_millis;
    let tcp = |bytes_in_flight, ack_age| TcpInfo {
        bytes_in_flight,
        last_ack_age: ms(ack_age),
        smoothed_rtt: ms(40),
        ..TcpInfo::default()
    };
    progress.update(&tcp(0, 60_000), 0, true, begin);
    assert_eq!(progress.ack_due_at(), None, "nothing is in flight");
    // The last acknowledgement was long before what is in flight now was sent.
    progress.update(&tcp(1000, 60_100), 0, true, begin + ms(100));
    assert_eq!(progress.ack_due_at(), Some(begin + ms(600)));
    progress.update(&tcp(5000, 20), 0, true, begin + ms(400));
    assert_eq!(progress.ack_due_at(), Some(begin + ms(880)));
    progress.update(&tcp(5000, 270), 0, true, begin + ms(650));
    assert_eq!(progress.ack_due_at(), Some(begin + ms(880)), "no other acknowledgement");
    progress.update(&tcp(0, 10), 0, true, begin + ms(700));
    assert_eq!(progress.ack_due_at(), None);
    // The kernel retransmits a lost segment after an RTT and the larger of 200 ms and four deviations; the
    // acknowledgement takes another RTT.
    for (rtt, deviation, timeout) in [(40, 10, 500), (150, 20, 650), (150, 100, 850), (3600, 0, 11_000)] {
        let tcp = TcpInfo { smoothed_rtt: ms(rtt), rtt_deviation: ms(deviation), ..tcp(1000, 0) };
        progress.update(&tcp, 0, true, begin);
        assert_eq!(progress.ack_due_at(), Some(begin + ms(timeout)), "{rtt} {deviation}");
    }
}

#[test]
fn data_behind_a_lost_segment_is_no_silence() {
    let (begin, mut progress) = (Instant::now(), AckProgress::new(Instant::now()));
    let received = |segments| TcpInfo { received_segments: segments, ..TcpInfo::default() };
    // What came before the answer was due is no sign of life: an idle channel's update before may be seconds ago.
    for (segments, is_answer_due, has_received) in [
        (0, true, false),
        (3, true, true),
        (3, true, false),
        (4, true, true),
        (5, false, true),
        (9, true, false),
    ] {
        progress.update(&received(segments), 0, is_answer_due, begin);
        assert_eq!(progress.has_received(), has_received, "{segments}");
    }
}

#[test]
fn a_peer_that_pauses_has_not_sent_all_the_time() {
    let ms = Duration::from_millis;
    let (begin, mut progress) = (Instant::now(), AckProgress::new(Instant::now()));
    for (segments, at_ms, receiving_ms) in [
        (0, 0, 0),
        (1, 500, 0),
        (2, 3000, 2500),
        (2, 4000, 2500),
        (3, 5000, 4500),
        (4, 8500, 0),
        (5, 9000, 500),
    ] {
        let tcp = TcpInfo { received_segments: segments, ..TcpInfo::default() };
        progress.update(&tcp, 0, true, begin + ms(at_ms));
        assert_eq!(progress.receiving_time(), ms(receiving_ms), "{at_ms}");
    }
}
