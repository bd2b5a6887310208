//! Tests of bottleneck detection, with injected times.

use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn time_without_a_channel_is_counted_once() {
    let (mut timer, begin) = (BottleneckTimer::default(), Instant::now());
    timer.set(Some(Bottleneck::Window), begin);
    timer.channel_lost(begin + 10 * MS);
    // Data in flight has to be retransmitted: the sender finds its buffer full and records the channel.
    timer.set(Some(Bottleneck::Channel), begin + 100 * MS);
    assert_eq!(timer.times(begin + 500 * MS).of(Bottleneck::Channel), 490 * MS);
    timer.channel_restored(begin + 1000 * MS);
    let times = timer.times(begin + 2000 * MS);
    assert_eq!(
        times.all().collect::<Vec<_>>(),
        [(Bottleneck::Channel, 990 * MS), (Bottleneck::Window, 10 * MS)]
    );
    timer.set(Some(Bottleneck::Operator), begin + 2000 * MS);
    timer.channel_lost(begin + 3000 * MS);
    timer.channel_restored(begin + 4000 * MS);
    assert_eq!(timer.times(begin + 5000 * MS).of(Bottleneck::Operator), 3000 * MS);
}

#[test]
fn times_add_up_by_bottleneck() {
    let (mut timer, begin) = (BottleneckTimer::default(), Instant::now());
    timer.set(Some(Bottleneck::User), begin);
    assert_eq!(timer.current(begin), Some(Bottleneck::User));
    timer.set(Some(Bottleneck::Limit), begin + 10 * MS);
    timer.set(None, begin + 30 * MS);
    timer.set(Some(Bottleneck::User), begin + 100 * MS);
    let times = timer.times(begin + 105 * MS);
    let all: Vec<_> = times.all().collect();
    assert_eq!(all, [(Bottleneck::Limit, 20 * MS), (Bottleneck::User, 15 * MS)]);
    // A time before the last change subtracts nothing.
    assert_eq!(timer.times(begin).of(Bottleneck::User), 10 * MS);
}

#[test]
fn a_window_that_stays_full_makes_the_target_the_bottleneck() {
    let (mut timer, begin) = (BottleneckTimer::default(), Instant::now());
    for round_trip in 0..20 {
        timer.set(Some(Bottleneck::Window), begin + round_trip * 100 * MS);
    }
    let last = begin + 1900 * MS;
    assert_eq!(timer.current(last + 100 * MS), Some(Bottleneck::Window));
    assert_eq!(timer.current(last + 600 * MS), Some(Bottleneck::Target));
    let times = timer.times(last + 600 * MS);
    assert_eq!((times.of(Bottleneck::Window), times.of(Bottleneck::Target)), (1900 * MS, 600 * MS));
}

fn full(acknowledged: u64) -> SendFlow {
    SendFlow {
        window: 256 * 1024,
        unsent: 0,
        in_flight: 256 * 1024,
        acknowledged,
        retransmitted: 0,
        is_paused: false,
        is_budget_limited: false,
        min_rtt: Some(100 * MS),
    }
}

#[test]
fn a_target_that_takes_less_than_one_window_per_rtt_is_the_bottleneck() {
    let begin = Instant::now();
    let detected = |rate: u64, is_budget_limited: bool| {
        let mut detector = SendBottleneckDetector::default();
        let sample =
            |n: u64| (SendFlow { is_budget_limited, ..full(n * rate / 20) }, begin + 50 * MS * n as u32);
        (0..20).map(sample).map(|(flow, now)| detector.detect(&flow, now)).last()
    };
    // One window per RTT is 2.6 MB/s.
    assert_eq!(detected(2_500_000, false), Some(Bottleneck::Window));
    assert_eq!(detected(2_500_000, true), Some(Bottleneck::Budget));
    assert_eq!(detected(1_000_000, false), Some(Bottleneck::Target));
    assert_eq!(detected(0, true), Some(Bottleneck::Target));
    let mut detector = SendBottleneckDetector::default();
    assert_eq!(detector.detect(&SendFlow { unsent: 1, ..full(0) }, begin), Bottleneck::Channel);
    let no_window = |ms| (SendFlow { window: 0, ..full(0) }, begin + ms * MS);
    assert!(
        [0, 20].map(no_window).iter().all(|(flow, now)| detector.detect(flow, *now) == Bottleneck::Target)
    );
    assert_eq!(
        detector.detect(&SendFlow { unsent: 1, is_paused: true, ..full(0) }, begin),
        Bottleneck::Operator
    );
}

#[test]
fn a_slow_receiving_half_is_limited_by_target_channel_window_or_budget() {
    let recv =
        RecvFlow { window: 1000, buffered: 0, credit: 900, is_budget_limited: false, is_end_received: false };
    let calm = ChannelHealth::default();
    let full = ChannelHealth { rtt: Some(70 * MS), min_rtt: Some(20 * MS), ..calm };
    let (calm, full) = (Some(&calm), Some(&full));
    assert_eq!(receive_bottleneck(&recv, calm, true), Some(Bottleneck::Target));
    assert_eq!(receive_bottleneck(&recv, full, true), Some(Bottleneck::Channel));
    assert_eq!(receive_bottleneck(&recv, None, false), Some(Bottleneck::Channel), "the link is detached");
    assert_eq!(receive_bottleneck(&RecvFlow { credit: 0, ..recv }, calm, true), Some(Bottleneck::Window));
    assert_eq!(
        receive_bottleneck(&RecvFlow { credit: 0, is_budget_limited: true, ..recv }, calm, true),
        Some(Bottleneck::Budget)
    );
    assert_eq!(receive_bottleneck(&recv, full, false), None, "no data is expected");
    assert_eq!(receive_bottleneck(&RecvFlow { is_end_received: true, ..recv }, full, true), None);
}

#[test]
fn an_idle_stream_expects_no_response_until_the_user_sends() {
    let begin = Instant::now();
    let counts = |(down, up)| ByteCounts { down, up };
    let mut tracker = ActivityTracker::new(counts((500, 100)));
    let mut sample = |bytes, ms| {
        let activity = tracker.sample(counts(bytes), begin + ms * MS);
        (activity.is_active_down, activity.is_active_up, tracker.is_awaiting_response())
    };
    assert_eq!(sample((500, 100), 0), (false, false, false));
    assert_eq!(sample((500, 164), 100), (false, true, true));
    assert_eq!(sample((500, 164), 5000), (false, false, true), "the target is slow to answer");
    assert_eq!(sample((900, 164), 5100), (true, false, false));
    assert_eq!(sample((900, 164), 6200), (false, false, false));
}
