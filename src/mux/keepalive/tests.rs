//! Tests of the keepalive in virtual time: two ends of one channel, on a path with a delay that may be interrupted.

use std::collections::VecDeque;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a side of the channel sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Ping,
    Pong,
    Data,
}

/// One side of the channel.
struct Side {
    role: Role,
    keepalive: Keepalive,
    /// When each ping without an answer was sent.
    unanswered: VecDeque<Instant>,
    rtt: Option<Duration>,
    timer_at: Instant,
    timeouts: usize,
    /// What arrives at this side, and when.
    arriving: VecDeque<(Instant, Sent)>,
}

/// A channel in virtual time.
struct Channel {
    config: MuxConfig,
    begin: Instant,
    now: Instant,
    sides: [Side; 2],
    delay: Duration,
    /// Frames sent in this time are lost.
    is_cut: bool,
    has_streams: bool,
    /// What was sent, when and by which side.
    sent: Vec<(Duration, usize, Sent)>,
}

const PROXY: usize = 0;
const SERVER: usize = 1;

impl Channel {
    fn new(delay: Duration, has_streams: bool) -> Self {
        let now = Instant::now();
        let side = |role| {
            let mut keepalive = Keepalive::new(now);
            keepalive.set_initial_rtt(delay * 2);
            let (unanswered, arriving) = (VecDeque::new(), VecDeque::new());
            Side { role, keepalive, unanswered, rtt: None, timer_at: now, timeouts: 0, arriving }
        };
        let sides = [side(Role::Proxy), side(Role::Server)];
        let config = MuxConfig::default();
        Self { config, begin: now, now, sides, delay, is_cut: false, has_streams, sent: Vec::new() }
    }

    fn path(&self, side: usize) -> PathState {
        let Side { unanswered, rtt, .. } = &self.sides[side];
        PathState {
            unanswered_since: unanswered.front().copied(),
            rtt: *rtt,
            min_rtt: *rtt,
            has_streams: self.has_streams,
            is_first: true,
            has_fixed_ping_interval: false,
        }
    }

    fn send(&mut self, side: usize, what: Sent) {
        let now = self.now;
        self.sent.push((now - self.begin, side, what));
        let Side { keepalive, unanswered, .. } = &mut self.sides[side];
        match what {
            Sent::Ping => {
                keepalive.on_ping_sent(now);
                unanswered.push_back(now);
            }
            Sent::Data => keepalive.on_frame_sent(&self.config, now),
            Sent::Pong => {}
        }
        if !self.is_cut {
            self.sides[1 - side].arriving.push_back((now + self.delay, what));
        }
        if self.sides[side].keepalive.is_ping_due() {
            self.send(side, Sent::Ping);
        }
        self.set_timer_if_late(side);
    }

    fn set_timer_if_late(&mut self, side: usize) {
        if self.sides[side].keepalive.take_late_timer(self.now) {
            self.set_timer(side);
        }
    }

    fn set_timer(&mut self, side: usize) {
        let (path, now) = (self.path(side), self.now);
        let Side { role, keepalive, .. } = &mut self.sides[side];
        self.sides[side].timer_at = keepalive.next_timeout(&self.config, *role, path, now);
    }

    fn receive(&mut self, side: usize) {
        let Some((at, what)) = self.sides[side].arriving.pop_front() else { return };
        assert_eq!(at, self.now);
        let one = &mut self.sides[side];
        one.keepalive.on_alive(at);
        match what {
            Sent::Ping => self.send(side, Sent::Pong),
            Sent::Pong => one.rtt = one.unanswered.pop_front().map(|sent_at| at - sent_at),
            Sent::Data => one.keepalive.on_frame_received(),
        }
        self.set_timer_if_late(side);
    }

    /// Lets this time pass. A side whose peer is lost stops.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = |side: usize| self.sides[side].arriving.front().map(|(at, _)| (*at, side, true));
            let timer = |side: usize| {
                (self.liveness(side) != Liveness::Lost).then_some((self.sides[side].timer_at, side, false))
            };
            let next = [arrival(0), arrival(1), timer(0), timer(1)].into_iter().flatten().min();
            let Some((at, side, is_arrival)) = next.filter(|(at, ..)| *at <= end) else { break };
            self.now = at;
            if is_arrival {
                self.receive(side);
                continue;
            }
            let path = self.path(side);
            let Side { role, keepalive, timeouts, .. } = &mut self.sides[side];
            *timeouts += 1;
            keepalive.on_timeout(&self.config, *role, path, at);
            if keepalive.is_ping_due() {
                self.send(side, Sent::Ping);
            }
            self.set_timer(side);
        }
        self.now = end;
    }

    fn liveness(&self, side: usize) -> Liveness {
        self.sides[side].keepalive.liveness(&self.config, self.path(side), self.now)
    }

    /// Lets time pass until `side` sees its peer so, and returns how much.
    fn pass_until(&mut self, side: usize, wanted: Liveness) -> Duration {
        let begin = self.now;
        while self.liveness(side) != wanted {
            assert!(self.now - begin < 120 * SECOND, "{:?}", self.liveness(side));
            self.pass(10 * MS);
        }
        self.now - begin
    }

    /// Returns how many frames were sent by one side since `since`.
    fn count(&self, side: usize, what: Sent, since: Duration) -> usize {
        self.sent.iter().filter(|(at, who, sent)| (*who, *sent) == (side, what) && *at >= since).count()
    }
}

/// An idle channel costs one ping in twenty seconds, of the proxy; the server only answers. Its NAT, which forgets a
/// connection that was idle for 30 or 60 seconds, keeps it.
#[test]
fn an_idle_channel_is_pinged_by_the_proxy_only() {
    let mut channel = Channel::new(20 * MS, false);
    channel.pass(10 * SECOND);
    let timeouts = channel.sides.each_ref().map(|side| side.timeouts);
    channel.pass(600 * SECOND);
    let pings = channel.count(PROXY, Sent::Ping, 10 * SECOND);
    assert!((29..=31).contains(&pings), "{pings}");
    assert_eq!(channel.count(SERVER, Sent::Ping, 10 * SECOND), 0);
    assert_eq!(channel.count(SERVER, Sent::Pong, 10 * SECOND), pings);
    for (side, before) in channel.sides.iter().zip(timeouts) {
        assert!(side.timeouts - before <= 32 + pings, "timers fired {} times", side.timeouts - before);
    }
    let times: Vec<_> = channel.sent.iter().map(|(at, ..)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 21 * SECOND), "{times:?}");
}

/// A user that sends its first byte for minutes on a channel that has died meanwhile is not worse off than on an active
/// one: the time counts from that byte.
#[test]
fn the_first_byte_after_a_pause_is_followed_by_a_ping() {
    for side in [PROXY, SERVER] {
        let mut channel = Channel::new(20 * MS, true);
        channel.pass(63 * SECOND);
        assert_eq!(channel.liveness(side), Liveness::Responsive);
        channel.is_cut = true;
        channel.send(side, Sent::Data);
        assert_eq!(channel.sent.last().unwrap().2, Sent::Ping);
        assert!(channel.pass_until(side, Liveness::Unresponsive) <= 760 * MS);
        assert!(channel.pass_until(side, Liveness::Lost) <= 1760 * MS);
    }
}

/// Each side finds that the other has vanished although neither sends anything.
#[test]
fn a_dead_idle_channel_is_detected_by_both_sides() {
    for (has_streams, limit) in [(true, 10 * SECOND), (false, 33 * SECOND)] {
        let mut channel = Channel::new(20 * MS, has_streams);
        channel.pass(60 * SECOND);
        channel.is_cut = true;
        let took = channel.pass_until(PROXY, Liveness::Lost);
        let took = took + channel.pass_until(SERVER, Liveness::Lost);
        assert!(took <= limit, "{took:?}");
    }
}

/// On a path of six seconds an answer takes six seconds, and a lost segment three times as long.
#[test]
fn a_long_path_is_not_taken_for_dead() {
    for rtt in [3600 * MS, 6 * SECOND] {
        let mut channel = Channel::new(rtt / 2, true);
        for _ in 0..30 {
            channel.send(PROXY, Sent::Data);
            channel.pass(SECOND);
            assert_eq!([PROXY, SERVER].map(|side| channel.liveness(side)), [Liveness::Responsive; 2]);
        }
        // Everything in flight is lost, and so is what the kernel sends first.
        channel.sides.iter_mut().for_each(|side| side.arriving.clear());
        channel.is_cut = true;
        channel.pass(2 * rtt);
        assert_ne!(channel.liveness(PROXY), Liveness::Lost);
        let took = 2 * rtt + channel.pass_until(PROXY, Liveness::Lost);
        assert!(took <= 4 * rtt + 2 * SECOND, "{took:?}");
    }
}

/// Nothing that a channel in use sends moves its timer.
#[test]
fn a_busy_channel_sets_its_timer_at_regular_intervals() {
    let mut channel = Channel::new(20 * MS, true);
    channel.pass(60 * SECOND);
    let before = channel.sides[PROXY].timeouts;
    for _ in 0..10_000 {
        channel.send(PROXY, Sent::Data);
        channel.pass(MS);
    }
    let fired = channel.sides[PROXY].timeouts - before;
    assert!((30..=60).contains(&fired), "{fired} in ten seconds");
    assert!((9..=11).contains(&channel.count(PROXY, Sent::Ping, 60 * SECOND)));
}

/// A process that gets no processor for seconds finds its timer late, and the answers unread: it is not the peer that
/// was silent.
#[test]
fn time_without_a_processor_is_no_silence() {
    let mut channel = Channel::new(20 * MS, true);
    channel.pass(60 * SECOND);
    channel.is_cut = true;
    channel.send(PROXY, Sent::Data);
    // The timer is due after 250 ms, and fires three seconds later.
    let (path, now) = (channel.path(PROXY), channel.now + 3250 * MS);
    let Side { role, keepalive, .. } = &mut channel.sides[PROXY];
    keepalive.on_timeout(&channel.config, *role, path, now);
    assert_eq!(keepalive.silence(path, now), 250 * MS);
    channel.now = now;
    channel.set_timer(PROXY);
    assert!((1500 * MS..=2500 * MS).contains(&channel.pass_until(PROXY, Liveness::Lost)));
}

/// Regression test: on a machine on which every timer fired two seconds late, a channel that had died was found dead
/// after more than half a minute.
#[test]
fn a_dead_channel_is_detected_although_every_timer_is_late() {
    let mut channel = Channel::new(20 * MS, true);
    channel.pass(60 * SECOND);
    channel.is_cut = true;
    channel.send(PROXY, Sent::Data);
    let begin = channel.now;
    while channel.liveness(PROXY) != Liveness::Lost {
        channel.now = channel.sides[PROXY].timer_at + 2 * SECOND;
        let (path, now) = (channel.path(PROXY), channel.now);
        let Side { role, keepalive, .. } = &mut channel.sides[PROXY];
        keepalive.on_timeout(&channel.config, *role, path, now);
        channel.set_timer(PROXY);
        assert!(channel.now - begin <= 12 * SECOND, "not after {:?}", channel.now - begin);
    }
}
