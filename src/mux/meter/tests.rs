use super::*;

const MS: Duration = Duration::from_millis(1);

/// A sender that never runs dry, and a line of a rate and a length, in virtual time.
struct Line {
    meter: Meter,
    now: Instant,
    rate: f64,
    round_trip: Duration,
    /// When the last byte so far has left the line.
    free: Instant,
    pongs: VecDeque<(Instant, u64)>,
    carried: u64,
}

impl Line {
    fn new(rate: f64, round_trip: Duration) -> Self {
        let now = Instant::now();
        let mut meter = Meter::new(&MuxConfig::default(), now);
        let token = meter.mark(now);
        let pongs = [(now + round_trip, token)].into();
        Self { meter, now, rate, round_trip, free: now, pongs, carried: 0 }
    }

    fn step(&mut self) {
        self.now += MS / 20;
        while let Some(&(_, token)) = self.pongs.front().filter(|(at, _)| *at <= self.now) {
            self.pongs.pop_front();
            self.meter.answered(token, self.now);
        }
        loop {
            let arrives = self.free.max(self.now) + self.round_trip;
            if let Some(token) = self.meter.poll_marker(self.now) {
                self.pongs.push_back((arrives, token));
                continue;
            }
            if self.meter.holds() {
                break;
            }
            let chunk = self.meter.chunk();
            self.meter.sent(chunk, self.now);
            self.carried += chunk as u64;
            self.free = self.free.max(self.now) + Duration::from_secs_f64(chunk as f64 / self.rate);
        }
        assert!(self.meter.has_output() || !self.pongs.is_empty(), "nothing will ever go out again");
    }

    /// What part of the rate was used in this time, and how long data queued for nine tenths of it at the most.
    fn run(&mut self, time: Duration) -> (f64, Duration) {
        let (begin, before) = (self.now, self.carried);
        let mut queues = Vec::new();
        while self.now < begin + time {
            self.step();
            queues.push(self.free.saturating_duration_since(self.now));
        }
        queues.sort();
        let used = (self.carried - before) as f64 / (self.rate * time.as_secs_f64());
        (used, queues[queues.len() * 9 / 10])
    }

    /// What should be the longest queue.
    fn target(&self) -> Duration {
        let chunk = Duration::from_secs_f64(self.meter.chunk() as f64 / self.rate);
        self.meter.target.max(self.round_trip / FAR).max(CHUNKS_A_QUEUE * chunk) * 7 / 4
    }
}

#[test]
fn a_line_is_kept_busy_and_its_queue_short() {
    for (mb, round_trip) in [(1, 5), (1, 20), (1, 100), (12, 20), (25, 20), (25, 1), (125, 10), (1250, 1)] {
        let mut line = Line::new(f64::from(mb) * 1e6, round_trip * MS);
        line.run(3000 * MS);
        let (used, queue) = line.run(30_000 * MS);
        println!("{mb} MB/s, {round_trip} ms: {used:.4} used, {queue:?} of {:?}", line.target());
        assert!(used >= 0.8 && queue <= line.target(), "{mb} MB/s, {round_trip} ms: {used} {queue:?}");
    }
}

#[test]
fn a_faster_line_is_used_within_a_second_and_a_slower_one_has_no_long_queue_after_it() {
    let mut line = Line::new(2e6, 20 * MS);
    line.run(5000 * MS);
    line.rate = 20e6;
    line.run(1000 * MS);
    let (used, queue) = line.run(1000 * MS);
    assert!(used >= 0.95 && queue <= line.target(), "{used} {queue:?}");
    line.rate = 2e6;
    line.run(3000 * MS);
    let (used, queue) = line.run(1000 * MS);
    assert!(used >= 0.95 && queue <= line.target(), "{used} {queue:?}");
}

/// The longer round trips of another way look like a queue.
#[test]
fn a_longer_line_is_used_again_after_a_while() {
    let mut line = Line::new(25e6, 10 * MS);
    line.run(5000 * MS);
    line.round_trip = 100 * MS;
    line.run(15_000 * MS);
    let (used, queue) = line.run(5000 * MS);
    assert!(used >= 0.95 && queue <= line.round_trip / 2, "{used} {queue:?}");
}

#[test]
fn chunks_fit_the_line() {
    let chunk = |mb: f64| {
        let mut line = Line::new(mb * 1e6, 5 * MS);
        line.run(3000 * MS);
        line.meter.chunk()
    };
    assert_eq!([0.2, 6.0, 12.0, 30.0, 100.0, 1000.0].map(chunk), [4, 4, 8, 16, 64, 64].map(|kib| kib * 1024));
    let mut meter = Line::new(100e6, 5 * MS).meter;
    assert_eq!(meter.chunk(), CHUNK_SIZE, "nothing is known yet");
    for (lost, chunk) in [(1, 64), (3, 32), (6, 16), (9, 16), (10, 32), (11, 64)] {
        meter.sent(100_000, Instant::now());
        meter.resent(lost);
        assert_eq!(meter.chunk(), chunk * 1024);
    }
}

/// One byte now and then is no load: no ping follows it, and it says nothing of the line.
#[test]
fn little_is_not_measured() {
    let mut line = Line::new(100e6, 5 * MS);
    for _ in 0..10_000 {
        line.meter.sent(1, line.now);
        line.meter.ran_dry();
        line.now += MS;
        assert_eq!(line.meter.poll_marker(line.now), None);
    }
    assert_eq!((line.meter.rate, line.meter.outstanding()), (None, 10_000));
}

#[test]
fn a_delivery_is_foretold() {
    let mut line = Line::new(10e6, 20 * MS);
    assert_eq!(line.meter.delivery(1000), None);
    line.run(5000 * MS);
    // Half a round trip, the queue, and what is asked about: a tenth of a second's worth.
    let foretold = line.meter.delivery(1_000_000).unwrap();
    let real = line.free - line.now + line.round_trip / 2 + 100 * MS;
    assert!(foretold.abs_diff(real) <= 3 * MS, "{foretold:?} {real:?}");
}
