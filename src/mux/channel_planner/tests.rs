//! Unit tests of the planner in virtual time, beside a model of a path: each channel is as fast as its kernel's
//! congestion control, and all together no faster than the path.

use super::*;

const MAX: u16 = 8;

/// A link on a path, whose proxy opens and closes channels as it is asked to.
struct ModelledLink {
    planner: ChannelPlanner,
    now: Instant,
    min_rtt: Duration,
    /// The rate of the path, in bytes per second.
    path_rate: f64,
    /// The rate of the kernel's congestion control on one channel, in bytes per second.
    channel_rate: f64,
    /// The rate of a policer, in bytes per second, whose losses slow all channels down.
    policed_rate: f64,
    /// The share of segments that are lost.
    loss: f64,
    /// Whether there is always data to send; otherwise `message_rate` bytes per second are sent.
    is_bulk: bool,
    message_rate: f64,
    /// How many channels the link has now.
    channels: u16,
    /// Whether the proxy opens the channels that it is asked for.
    opens: bool,
    plans: Vec<(Duration, ChannelPlan)>,
    begin: Instant,
}

impl ModelledLink {
    /// A download on a path of 100 Mbit/s and 40 ms.
    fn bulk(channel_mbit: f64, loss: f64) -> Self {
        let now = Instant::now();
        Self {
            planner: ChannelPlanner::new(),
            now,
            min_rtt: Duration::from_millis(40),
            path_rate: 100e6 / 8.0,
            channel_rate: channel_mbit * 1e6 / 8.0,
            policed_rate: f64::INFINITY,
            loss,
            is_bulk: true,
            message_rate: 0.0,
            channels: 2,
            opens: true,
            plans: Vec::new(),
            begin: now,
        }
    }

    /// Lets time pass in steps of 10 ms.
    fn run(&mut self, time: Duration) {
        let step = Duration::from_millis(10);
        let mut lost = 0.0;
        for _ in 0..time.as_millis() / step.as_millis() {
            self.now += step;
            let most = (self.channel_rate * f64::from(self.channels)).min(self.policed_rate);
            let rate = if self.is_bulk { most.min(self.path_rate) } else { self.message_rate };
            let bytes = rate * step.as_secs_f64();
            let segments = bytes / 1448.0;
            lost += segments * self.loss;
            let whole = lost as u64;
            lost -= whole as f64;
            if bytes > 0.0 {
                self.planner.record(ChannelReport {
                    delivered: bytes as u64,
                    sent_segments: segments.ceil() as u64,
                    lost_segments: whole,
                    is_backlogged: self.is_bulk,
                    is_transport_limited: self.is_bulk && most < self.path_rate,
                });
            }
            let link = PlannedLink { channels: self.channels, max_channels: MAX, min_rtt: self.min_rtt };
            if let Some(plan) = self.planner.decide(link, self.now) {
                self.plans.push((self.now - self.begin, plan));
                if self.opens || plan.to < self.channels {
                    self.channels = plan.to;
                }
            }
        }
    }

    fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// The changes so far, without their times and reasons.
    fn steps(&self) -> Vec<(u16, u16)> {
        self.plans.iter().map(|(_, plan)| (plan.from, plan.to)).collect()
    }
}

/// A download of 10 s at 1 % loss with CUBIC: 5 Mbit/s for each channel.
#[test]
fn a_kernel_that_is_slower_than_the_path_gets_all_channels_within_three_seconds() {
    let mut link = ModelledLink::bulk(5.0, 0.01);
    link.seconds(10);
    assert_eq!(link.steps(), [(2, 4), (4, 8)], "{:?}", link.plans);
    assert!(link.plans[1].0 < Duration::from_secs(3), "{:?}", link.plans);
    link.seconds(600);
    assert_eq!(link.channels, 8, "they are needed: {:?}", link.plans);
}

#[test]
fn a_path_without_loss_keeps_the_fewest_channels() {
    let mut link = ModelledLink::bulk(200.0, 0.0);
    link.seconds(600);
    // As in slow start: the kernel's window holds data back, and nothing is lost.
    link.channel_rate = 1e6;
    link.seconds(600);
    assert_eq!(link.plans, [], "{:?}", link.plans);
}

/// On loopback, the kernel is not asked.
#[test]
fn without_reports_the_planner_wants_the_fewest_channels() {
    let mut link = ModelledLink::bulk(5.0, 0.01);
    (link.is_bulk, link.message_rate) = (false, 0.0);
    link.seconds(600);
    assert_eq!(link.plans, []);
}

/// BBR fills the path in spite of the loss. Messages still want channels that have no lost segment.
#[test]
fn a_lossy_path_that_one_channel_fills_gets_four() {
    let mut link = ModelledLink::bulk(200.0, 0.005);
    link.seconds(60);
    assert_eq!(link.steps(), [(2, 4)]);
    assert!(link.plans[0].0 < Duration::from_secs(1), "{:?}", link.plans);
}

/// A path to another continent: its channels are there before the first transfer, and stay while nothing is lost.
#[test]
fn a_distant_path_gets_four_channels_at_once() {
    let mut link = ModelledLink::bulk(200.0, 0.0);
    link.min_rtt = 2 * DISTANT_RTT;
    link.run(Duration::from_millis(10));
    assert_eq!((link.steps(), min_channels(link.min_rtt)), (vec![(2, 4)], 4));
    assert_eq!(link.plans[0].1.reason, PlanReason::Distance(2 * DISTANT_RTT));
    link.min_rtt = NEAR_RTT;
    link.seconds(600);
    assert_eq!(link.channels, 4, "{:?}", link.plans);
    link.min_rtt = NEAR_RTT / 2;
    link.seconds(1);
    assert_eq!(link.channels, 2, "a shorter route: {:?}", link.plans);
    assert_eq!(min_channels(DISTANT_RTT - Duration::from_millis(1)), 2);
}

/// A proxy with one channel, or with a number that the operator has set.
#[test]
fn a_distant_path_gets_no_more_channels_than_may_be_opened() {
    let mut planner = ChannelPlanner::new();
    let link = |channels| PlannedLink { channels, max_channels: channels, min_rtt: DISTANT_RTT };
    let now = Instant::now();
    assert_eq!([1, 2].map(|channels| planner.decide(link(channels), now)), [None, None]);
    assert_eq!(planner.decide(link(3), now).map(|plan| plan.to), Some(3));
}

/// 700 requests per second of keep-alive connections.
#[test]
fn messages_on_a_lossy_path_get_four_channels() {
    let mut link = ModelledLink::bulk(5.0, 0.01);
    (link.is_bulk, link.message_rate) = (false, 700.0 * 1400.0);
    link.seconds(60);
    assert_eq!(link.steps(), [(2, 4)], "{:?}", link.plans);
}

/// A single retransmission in a minute, by reordering or chance.
#[test]
fn rare_losses_change_nothing() {
    let mut link = ModelledLink::bulk(200.0, 0.000_002);
    link.seconds(600);
    assert_eq!(link.plans, []);
}

/// Something else limits the rate, such as a policer: more channels lose more and bring nothing.
#[test]
fn channels_without_gain_are_taken_back_and_tried_ever_more_rarely() {
    let mut link = ModelledLink::bulk(5.0, 0.01);
    link.policed_rate = 20e6 / 8.0;
    link.seconds(1800);
    let attempts: Vec<_> = link.plans.iter().filter(|(_, plan)| (plan.from, plan.to) == (4, 8)).collect();
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!((4..=8).contains(&attempts.len()), "{:?}", link.plans);
    assert!(pauses.windows(2).all(|pair| pair[1] >= pair[0].mul_f64(1.5)), "{pauses:?}");
    assert!(link.plans.iter().any(|(_, plan)| matches!(plan.reason, PlanReason::NoGain(_))));
}

#[test]
fn channels_that_are_not_needed_are_closed() {
    let mut link = ModelledLink::bulk(5.0, 0.01);
    link.seconds(10);
    assert_eq!(link.channels, 8);
    link.is_bulk = false;
    link.seconds(25);
    assert_eq!(link.channels, 8, "a pause between two transfers");
    link.seconds(10);
    assert_eq!(link.channels, 4, "{:?}", link.plans);
    link.seconds(20);
    assert_eq!(link.channels, 4, "the last loss is less than a minute ago");
    link.seconds(10);
    assert_eq!(link.channels, 2, "{:?}", link.plans);
    link.is_bulk = true;
    link.seconds(5);
    assert_eq!(link.channels, 8, "they are opened again when they are needed");
}

/// A proxy behind a carrier-grade NAT that has no port mapping left.
#[test]
fn channels_that_are_not_opened_are_asked_for_ever_more_rarely() {
    let mut link = ModelledLink::bulk(5.0, 0.01);
    link.opens = false;
    link.seconds(600);
    let asked = link.plans.iter().filter(|(_, plan)| plan.to > plan.from).count();
    assert!((2..=5).contains(&asked), "{:?}", link.plans);
    assert_eq!(link.plans[1].1.reason, PlanReason::NotOpened);
    link.opens = true;
    link.seconds(600);
    assert_eq!(link.channels, 8, "{:?}", link.plans);
}

/// The transfer ends while the new channels are being measured.
#[test]
fn an_attempt_without_data_decides_nothing() {
    let mut link = ModelledLink::bulk(5.0, 0.01);
    link.run(Duration::from_millis(1500));
    assert_eq!(link.channels, 8, "{:?}", link.plans);
    link.is_bulk = false;
    link.seconds(5);
    assert_eq!(link.channels, 8, "{:?}", link.plans);
}

#[test]
fn the_maximum_is_never_exceeded() {
    for max_channels in [1, 2, 3, 5] {
        let mut planner = ChannelPlanner::new();
        let mut now = Instant::now();
        for _ in 0..1000 {
            now += Duration::from_millis(20);
            planner.record(ChannelReport {
                delivered: 20_000,
                sent_segments: 20,
                lost_segments: 1,
                is_backlogged: true,
                is_transport_limited: true,
            });
            let link =
                PlannedLink { channels: max_channels, max_channels, min_rtt: Duration::from_millis(40) };
            planner.decide(link, now);
            assert!(planner.wanted() <= max_channels.max(MIN_CHANNELS), "{}", planner.wanted());
        }
    }
}

#[test]
fn a_plan_is_one_short_line() {
    let text = |from, to, reason| ChannelPlan { from, to, reason }.to_string();
    let rtt = Duration::from_micros(200_700);
    assert_eq!(text(2, 4, PlanReason::Distance(rtt)), "2 → 4 channels: an RTT of 200 ms");
    assert_eq!(text(2, 4, PlanReason::Loss(0.0102)), "2 → 4 channels: loss 1.0 %");
    assert_eq!(text(2, 4, PlanReason::Loss(0.0012)), "2 → 4 channels: loss 0.12 %");
    assert_eq!(
        text(4, 8, PlanReason::TransportLimited(0.01)),
        "4 → 8 channels: TCP is slower than the path at 1.0 % loss"
    );
    assert_eq!(text(8, 4, PlanReason::NoGain(1.014)), "8 → 4 channels: no gain from more, 1.01 of the rate");
    assert_eq!(text(4, 2, PlanReason::NotNeeded), "4 → 2 channels: no more are needed");
}
