//! Who holds a stream back, and for how long: noted where a stream begins and ends to wait, told to whoever looks.

use std::time::{Duration, Instant};

use super::StreamControl;
use crate::{
    mux::{RecvFlow, SendFlow},
    telemetry::{Bottleneck, BottleneckTimes, ChannelHealth, RateWindow, StreamDetails, StreamDetailsSource},
};

/// For how long it may be the window's fault that nothing goes on. What is on its way arrives within a round trip, and
/// after this long it has been there: the target does not take it.
const PATIENCE: Duration = Duration::from_millis(500);

/// The shortest time that a rate is taken over: below it, it is noise.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// How far a round trip must be above twice the shortest to show that queues are full. A machine that is busy adds
/// milliseconds by itself.
const FULL: Duration = Duration::from_millis(10);

/// Who holds one direction of a stream back, and for how long everybody has.
#[derive(Debug, Default)]
pub(super) struct BottleneckTimer {
    /// Who does, and up to when that has been added up.
    now: Option<(Bottleneck, Instant)>,
    stalls: BottleneckTimes,
}

impl BottleneckTimer {
    pub(super) fn is_free(&self) -> bool {
        self.now.is_none()
    }

    /// Whether this one holds it.
    pub(super) fn is_by(&self, by: Bottleneck) -> bool {
        self.now.is_some_and(|(who, _)| who == by)
    }

    /// From `now` on there is no channel. One that is paused would not go on if there were.
    pub(super) fn lost_channel(&mut self, now: Instant) {
        if !self.is_by(Bottleneck::Operator) {
            self.by(Some(Bottleneck::Channel), now);
        }
    }

    /// There is one again.
    pub(super) fn has_channel(&mut self, now: Instant) {
        if self.is_by(Bottleneck::Channel) {
            self.by(None, now);
        }
    }

    /// From `now` on it is this one, or still is.
    pub(super) fn by(&mut self, by: Option<Bottleneck>, now: Instant) {
        self.stalls = self.stalls(now);
        self.now = by.map(|by| (by, now));
    }

    /// Who holds it back.
    fn who(&self, now: Instant) -> Option<Bottleneck> {
        let (by, since) = self.now?;
        let long = now.saturating_duration_since(since) > PATIENCE;
        Some(if long && matches!(by, Bottleneck::Window | Bottleneck::Budget) {
            Bottleneck::Target
        } else {
            by
        })
    }

    /// For how long each has, up to now.
    fn stalls(&self, now: Instant) -> BottleneckTimes {
        let mut stalls = self.stalls;
        if let (Some((_, since)), Some(by)) = (self.now, self.who(now)) {
            stalls.add(by, now.saturating_duration_since(since));
        }
        stalls
    }
}

/// Finds out whose fault it is that a stream takes no more from its socket.
#[derive(Debug, Default)]
pub(super) struct SendBottleneckDetector {
    /// How far the peer had come, and when that was looked at.
    looked: Option<(Instant, u64)>,
    by_window: bool,
}

impl SendBottleneckDetector {
    /// Who it is, where there is no room.
    ///
    /// Where all has gone out and the peer gives no more credit, it is the window if the rate is about what one window
    /// in each round trip comes to, and else the target, which takes less than it might.
    pub(super) fn whose(&mut self, flow: &SendFlow, now: Instant) -> Bottleneck {
        if flow.is_paused {
            return Bottleneck::Operator;
        }
        if flow.unsent > 0 {
            return Bottleneck::Channel;
        }
        let (then, before) = *self.looked.get_or_insert((now, flow.acknowledged));
        let elapsed = now.saturating_duration_since(then);
        if elapsed >= SHORTEST_LOOK {
            let rate = flow.acknowledged.saturating_sub(before) as f64 / elapsed.as_secs_f64();
            let round_trip = flow.min_rtt.unwrap_or_default().as_secs_f64();
            // No window at all is what a text proxy leaves when its target is slow.
            self.by_window = flow.window > 0 && rate * round_trip >= flow.window as f64 / 2.0;
            self.looked = Some((now, flow.acknowledged));
        }
        match (self.by_window, flow.is_budget_limited) {
            (true, true) => Bottleneck::Budget,
            (true, false) => Bottleneck::Window,
            (false, _) => Bottleneck::Target,
        }
    }
}

/// What whoever looks at a stream has seen of it: without that, nobody could tell a stream that is slow from one that
/// has nothing to carry.
#[derive(Debug)]
pub(super) struct ActivityTracker {
    down: RateWindow,
    up: RateWindow,
    before: (u64, u64),
    /// The user spoke last.
    asked: bool,
}

impl ActivityTracker {
    fn new((down, up): (u64, u64)) -> Self {
        let rate = || RateWindow::new(RateWindow::SECOND);
        Self { down: rate(), up: rate(), before: (down, up), asked: up > 0 && down == 0 }
    }

    /// Whether anything moves, down and up.
    fn look(&mut self, (down, up): (u64, u64), now: Instant) -> (bool, bool) {
        self.down.push(now, down);
        self.up.push(now, up);
        self.asked = down == self.before.0 && (self.asked || up > self.before.1);
        self.before = (down, up);
        (self.down.per_second() > 0.0, self.up.per_second() > 0.0)
    }
}

/// Who holds the way to the user, where nothing waits for it here.
fn upstream(recv: &RecvFlow, channel: Option<&ChannelHealth>, comes: bool) -> Option<Bottleneck> {
    let Some(channel) = channel else { return Some(Bottleneck::Channel) };
    let full =
        channel.rtt.zip(channel.min_rtt).is_some_and(|(latest, shortest)| latest > 2 * shortest + FULL);
    match () {
        () if recv.is_end_received || !comes => None,
        // The proxy has used up all it was given.
        () if recv.credit < recv.window / 8 && recv.is_budget_limited => Some(Bottleneck::Budget),
        () if recv.credit < recv.window / 8 => Some(Bottleneck::Window),
        () if full => Some(Bottleneck::Channel),
        () => Some(Bottleneck::Target),
    }
}

impl StreamDetailsSource for StreamControl {
    fn details(&self) -> Option<StreamDetails> {
        let (endpoint, now) = (self.endpoint(), Instant::now());
        let (send, recv, health) = self.link().with(|state| {
            let channel = state.mux.primary_channel(endpoint.number());
            let stats = channel.and_then(|id| state.channels.get(&id)?.stats());
            // One that waits for a channel to come is held by that.
            let health = channel.map(|_| stats.map(|stats| stats.health()).unwrap_or_default());
            Some((state.mux.send_flow(endpoint.number())?, state.mux.recv_flow(endpoint.number())?, health))
        })?;
        let carried = endpoint.stats().map_or((0, 0), |stats| (stats.traffic.down(), stats.traffic.up()));
        let look = |held: &BottleneckTimer| (held.who(now), held.stalls(now));
        let (held_down, stalls_down) = look(&endpoint.delivery().held);
        let (held_up, stalls_up) = look(&endpoint.held_up());
        let (comes, goes) = {
            let mut looks = endpoint.looks();
            let looks = looks.get_or_insert_with(|| Box::new(ActivityTracker::new(carried)));
            let (down, up) = looks.look(carried, now);
            // Who has not been told everything yet owes no answer.
            (down || (looks.asked && !up && held_up.is_none()), up)
        };
        Some(StreamDetails {
            download_window: recv.window,
            upload_window: send.window,
            download_buffered: recv.buffered,
            upload_buffered: send.unsent,
            upload_in_flight: send.in_flight,
            download_bottleneck: held_down.or_else(|| upstream(&recv, health.as_ref(), comes)),
            upload_bottleneck: held_up
                .or(health.is_none().then_some(Bottleneck::Channel))
                .or(goes.then_some(Bottleneck::User)),
            bottleneck_times: stalls_down.or_longer(stalls_up),
            failovers: endpoint.migrations(),
            retransmitted_bytes: send.retransmitted,
            connect_latency: None,
            time_to_first_byte: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_time_without_a_channel_is_counted_once() {
        let (mut held, begin) = (BottleneckTimer::default(), Instant::now());
        held.by(Some(Bottleneck::Window), begin);
        held.lost_channel(begin + 10 * MS);
        // What has gone out is to go out again: so says who has no room.
        held.by(Some(Bottleneck::Channel), begin + 100 * MS);
        assert_eq!(held.stalls(begin + 500 * MS).of(Bottleneck::Channel), 490 * MS);
        held.has_channel(begin + 1000 * MS);
        let stalls = held.stalls(begin + 2000 * MS);
        assert_eq!(
            stalls.all().collect::<Vec<_>>(),
            [(Bottleneck::Channel, 990 * MS), (Bottleneck::Window, 10 * MS)]
        );
        held.by(Some(Bottleneck::Operator), begin + 2000 * MS);
        held.lost_channel(begin + 3000 * MS);
        held.has_channel(begin + 4000 * MS);
        assert_eq!(held.stalls(begin + 5000 * MS).of(Bottleneck::Operator), 3000 * MS);
    }

    #[test]
    fn stalls_add_up_by_whose_fault_they_are() {
        let (mut held, begin) = (BottleneckTimer::default(), Instant::now());
        held.by(Some(Bottleneck::User), begin);
        assert_eq!(held.who(begin), Some(Bottleneck::User));
        held.by(Some(Bottleneck::Limit), begin + 10 * MS);
        held.by(None, begin + 30 * MS);
        held.by(Some(Bottleneck::User), begin + 100 * MS);
        let stalls = held.stalls(begin + 105 * MS);
        let all: Vec<_> = stalls.all().collect();
        assert_eq!(all, [(Bottleneck::Limit, 20 * MS), (Bottleneck::User, 15 * MS)]);
        // A clock that goes back takes nothing away.
        assert_eq!(held.stalls(begin).of(Bottleneck::User), 10 * MS);
    }

    #[test]
    fn a_window_that_stays_full_is_the_targets_fault() {
        let (mut held, begin) = (BottleneckTimer::default(), Instant::now());
        for round_trip in 0..20 {
            held.by(Some(Bottleneck::Window), begin + round_trip * 100 * MS);
        }
        let last = begin + 1900 * MS;
        assert_eq!(held.who(last + 100 * MS), Some(Bottleneck::Window));
        assert_eq!(held.who(last + 600 * MS), Some(Bottleneck::Target));
        let stalls = held.stalls(last + 600 * MS);
        assert_eq!((stalls.of(Bottleneck::Window), stalls.of(Bottleneck::Target)), (1900 * MS, 600 * MS));
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
    fn a_target_that_takes_less_than_a_window_in_a_round_trip_is_slow() {
        let begin = Instant::now();
        let whose = |rate: u64, is_budget_limited: bool| {
            let mut obstacle = SendBottleneckDetector::default();
            let look =
                |n: u64| (SendFlow { is_budget_limited, ..full(n * rate / 20) }, begin + 50 * MS * n as u32);
            (0..20).map(look).map(|(flow, now)| obstacle.whose(&flow, now)).last()
        };
        // One window in each round trip is 2.6 MB/s.
        assert_eq!(whose(2_500_000, false), Some(Bottleneck::Window));
        assert_eq!(whose(2_500_000, true), Some(Bottleneck::Budget));
        assert_eq!(whose(1_000_000, false), Some(Bottleneck::Target));
        assert_eq!(whose(0, true), Some(Bottleneck::Target));
        let mut obstacle = SendBottleneckDetector::default();
        assert_eq!(obstacle.whose(&SendFlow { unsent: 1, ..full(0) }, begin), Bottleneck::Channel);
        let none = |ms| (SendFlow { window: 0, ..full(0) }, begin + ms * MS);
        assert!([0, 20].map(none).iter().all(|(flow, now)| obstacle.whose(flow, *now) == Bottleneck::Target));
        assert_eq!(
            obstacle.whose(&SendFlow { unsent: 1, is_paused: true, ..full(0) }, begin),
            Bottleneck::Operator
        );
    }

    #[test]
    fn what_comes_slowly_is_the_targets_fault_or_that_of_what_lies_before_it() {
        let recv = RecvFlow {
            window: 1000,
            buffered: 0,
            credit: 900,
            is_budget_limited: false,
            is_end_received: false,
        };
        let calm = ChannelHealth::default();
        let full = ChannelHealth { rtt: Some(70 * MS), min_rtt: Some(20 * MS), ..calm };
        let (calm, full) = (Some(&calm), Some(&full));
        assert_eq!(upstream(&recv, calm, true), Some(Bottleneck::Target));
        assert_eq!(upstream(&recv, full, true), Some(Bottleneck::Channel));
        assert_eq!(upstream(&recv, None, false), Some(Bottleneck::Channel), "it waits for one");
        assert_eq!(upstream(&RecvFlow { credit: 0, ..recv }, calm, true), Some(Bottleneck::Window));
        assert_eq!(
            upstream(&RecvFlow { credit: 0, is_budget_limited: true, ..recv }, calm, true),
            Some(Bottleneck::Budget)
        );
        assert_eq!(upstream(&recv, full, false), None, "nothing is to be carried");
        assert_eq!(upstream(&RecvFlow { is_end_received: true, ..recv }, full, true), None);
    }

    #[test]
    fn what_rests_is_held_by_nobody_until_somebody_asks() {
        let begin = Instant::now();
        let mut looks = ActivityTracker::new((500, 100));
        let mut look = |carried, ms| {
            let (down, up) = looks.look(carried, begin + ms * MS);
            (down, up, looks.asked)
        };
        assert_eq!(look((500, 100), 0), (false, false, false));
        assert_eq!(look((500, 164), 100), (false, true, true));
        assert_eq!(look((500, 164), 5000), (false, false, true), "the target is slow to answer");
        assert_eq!(look((900, 164), 5100), (true, false, false));
        assert_eq!(look((900, 164), 6200), (false, false, false));
    }
}
