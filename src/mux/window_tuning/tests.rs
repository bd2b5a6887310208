//! Tests of receive-window auto-tuning over simulated paths, in virtual time.

use super::*;

const INITIAL: u32 = 256 * 1024;
const MAX: u32 = 16 << 20;

/// Returns the largest window that is kept on a path with this capacity in bytes per second.
fn final_window(capacity: f64, rtt: Duration) -> u32 {
    let begin = Instant::now();
    let (mut tuner, mut window, mut received) = (WindowTuner::default(), INITIAL, 0);
    for ms in 0..20_000 {
        let rate = capacity.min(f64::from(window) / rtt.as_secs_f64());
        let now = begin + Duration::from_millis(ms);
        let bytes = (rate / 1000.0) as u64;
        received += bytes;
        let flow = ReceivedFlow { received, unread: 0, limit: received + u64::from(window), window };
        let wanted = tuner.on_consumed(bytes, flow, rtt, now);
        window = wanted.unwrap_or(window).clamp(INITIAL, MAX);
    }
    tuner.trial.map_or(window, |trial| trial.window_before.min(window))
}

/// Regression test: a reader that stalled and then took all buffered data at once was taken for an equally fast path.
#[test]
fn buffered_data_does_not_raise_the_window() {
    let (begin, rtt) = (Instant::now(), Duration::from_millis(50));
    let (mut tuner, mut window, mut received) = (WindowTuner::default(), INITIAL, 0);
    for second in 0..60 {
        let at = |ms| begin + Duration::from_secs(second) + Duration::from_millis(ms);
        // A whole window arrives while the reader stalls. Then the reader takes it, and what arrives meanwhile.
        received += u64::from(window);
        let mut buffered = u64::from(window);
        for ms in 900..1000 {
            received += 12_500;
            let bytes = (buffered + 12_500).min(125_000);
            buffered = buffered + 12_500 - bytes;
            let consumed = received - buffered;
            let flow =
                ReceivedFlow { received, unread: buffered, limit: consumed + u64::from(window), window };
            window = tuner.on_consumed(bytes, flow, rtt, at(ms)).unwrap_or(window).min(MAX);
        }
    }
    assert!(window <= 4 << 20, "{window}: four times the BDP of 100 Mbit/s and 50 ms is 2.5 MB");
}

/// Regression test: where a lost segment delays all data behind it, the data arrives at once after some round trips.
/// The rate over that time asked for no more than the window that had limited it, and one download with 3 % loss at 50
/// Mbit/s and 200 ms had 0.8 of what TCP alone delivers.
#[test]
fn window_grows_where_data_arrives_in_bursts_after_retransmissions() {
    const ROUND_TRIPS: u32 = 4;
    let (begin, rtt, capacity) = (Instant::now(), Duration::from_millis(200), 6.25e6);
    let (mut tuner, mut window, mut received, mut limit) =
        (WindowTuner::default(), INITIAL, 0, u64::from(INITIAL));
    let most = (capacity * (rtt * ROUND_TRIPS).as_secs_f64()) as u64;
    for burst in 0..20 {
        let end = limit.min(received + most);
        let mut now = begin + burst * ROUND_TRIPS * rtt;
        while received < end {
            let bytes = (end - received).min(64 * 1024);
            received += bytes;
            let flow = ReceivedFlow { received, unread: 0, limit, window };
            window = tuner.on_consumed(bytes, flow, rtt, now).unwrap_or(window).min(MAX);
            limit = limit.max(received + u64::from(window));
            now += Duration::from_micros(200);
        }
    }
    assert!(u64::from(window) >= most, "{window} bytes of credit, and {most} can arrive at once");
}

#[test]
fn window_grows_while_that_raises_the_rate() {
    let far = final_window(62.5e6, Duration::from_millis(50));
    assert!(
        (12_400_000..=12_500_000).contains(&far),
        "the BDP of 500 Mbit/s and 50 ms is 3.125 MB, not a quarter of {far}"
    );
    assert_eq!(final_window(125e6, Duration::from_millis(4)), 512 * 1024, "the BDP is 500 KB");
    assert_eq!(final_window(0.1e9, Duration::from_micros(100)), INITIAL, "a short RTT needs no more");
    assert_eq!(final_window(1.5e9, Duration::from_micros(100)), MAX_UNTRIED_WINDOW, "the reader is fast");
    assert_eq!(final_window(125e6, Duration::from_millis(250)), MAX, "the maximum limits it");
    assert_eq!(final_window(1e3, Duration::from_millis(50)), INITIAL, "a slow reader needs no more");
}

/// Each of several channels in slow start doubles what it has in flight in the round trip that the credit takes, and
/// what they deliver waits for a lost segment of any of them for another one.
#[test]
fn window_of_a_striped_stream_holds_what_waits_for_a_retransmission() {
    let (begin, rtt, bdp) = (Instant::now(), Duration::from_millis(200), 1_250_000);
    let (mut tuner, mut window, mut received) = (WindowTuner::default(), INITIAL, 0);
    tuner.set_striped();
    for ms in 0..2000 {
        received += bdp / 200;
        let flow = ReceivedFlow { received, unread: 0, limit: received + u64::from(window), window };
        let now = begin + Duration::from_millis(ms);
        window = tuner.on_consumed(bdp / 200, flow, rtt, now).unwrap_or(window).min(MAX);
    }
    assert!(u64::from(window) >= 6 * bdp, "{window}");
}
