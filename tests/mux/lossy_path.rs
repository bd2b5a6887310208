//! A model of TCP connections over one path with a rate, a delay and random loss, in virtual time: each delivers in
//! order, so that a lost segment delays all data behind it until it is retransmitted.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use underpass::{mux::TransportSample, wire::Frame};

/// The payload of a full segment in bytes.
const SEGMENT_LEN: usize = 1448;

/// How many bytes a connection's send buffer holds before it accepts no more.
const SEND_BUFFER: usize = 32 * 1024;

/// How long after a segment its loss is detected if none follows it: a tail loss probe with one segment in flight waits
/// two RTTs and for a delayed acknowledgement.
const DELAYED_ACK: Duration = Duration::from_millis(200);

/// One direction of the path, which its connections share.
pub(crate) struct LossyPath {
    /// The rate of the bottleneck in bytes per second.
    rate: f64,
    /// The delay in one direction.
    delay: Duration,
    /// The probability that a segment is lost.
    loss: f64,
    /// The state of the random number generator.
    random: u64,
    /// When the last byte sent so far leaves the bottleneck.
    idle_at: Instant,
    /// The connections, of which the first is served next.
    turn: usize,
    /// The congestion window of each connection's kernel, in bytes: the first, since when it grows, and by which factor
    /// in each round trip.
    kernel_window: (f64, Instant, f64),
    connections: Vec<Connection>,
}

/// The sending side of one TCP connection, and its receiver.
#[derive(Default)]
struct Connection {
    /// Frames in the send buffer, with the bytes that are left of each.
    unsent: VecDeque<(usize, Frame)>,
    /// Segments that the receiver has not passed on.
    in_flight: VecDeque<Segment>,
    /// When the acknowledgements of segments that were passed on arrive, and their bytes.
    acknowledged: VecDeque<(Instant, usize)>,
    delivered: u64,
    sent_segments: u64,
    retransmitted_segments: u64,
}

/// A segment that the receiver has not passed on.
struct Segment {
    bytes: usize,
    sent_at: Instant,
    state: SegmentState,
    /// The frames whose last byte it carries.
    frames: Vec<Frame>,
}

enum SegmentState {
    /// It arrives at this time.
    Arriving(Instant),
    /// It is lost, and retransmitted at this time unless its loss is detected earlier.
    Lost(Instant),
}

impl LossyPath {
    pub(crate) fn new(connections: usize, mbit: f64, delay: Duration, loss: f64, now: Instant) -> Self {
        Self {
            rate: mbit * 1e6 / 8.0,
            delay,
            loss,
            random: 0x9E37_79B9_7F4A_7C15,
            idle_at: now,
            turn: 0,
            kernel_window: (f64::from(1 << 30), now, 1.0),
            connections: (0..connections).map(|_| Connection::default()).collect(),
        }
    }

    /// Has the kernel of each connection begin with a congestion window of `bytes` bytes, which grows by `factor` in
    /// each round trip, as that of BBR does after losses have ended its slow start.
    pub(crate) fn limit_kernel_window(&mut self, bytes: f64, factor: f64) {
        self.kernel_window = (bytes, self.kernel_window.1, factor);
    }

    /// Returns the congestion window of each connection's kernel, in bytes.
    fn kernel_window(&self, now: Instant) -> u64 {
        let (first, since, factor) = self.kernel_window;
        let round_trips = (now - since).as_secs_f64() / (2 * self.delay).as_secs_f64();
        (first * factor.powf(round_trips)).min(f64::from(1 << 30)) as u64
    }

    /// Returns how many bytes of a connection are on the network.
    fn in_flight(&self, connection: usize, now: Instant) -> u64 {
        let (connection, rtt) = (&self.connections[connection], 2 * self.delay);
        let in_pipe = connection.in_flight.iter().filter(|segment| segment.sent_at + rtt > now);
        in_pipe.map(|segment| segment.bytes as u64).sum::<u64>()
            + connection.acknowledged.iter().map(|(_, bytes)| *bytes as u64).sum::<u64>()
    }

    /// Returns whether the next segment is lost.
    fn is_lost(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) as f64 / (1u64 << 53) as f64) < self.loss
    }

    /// Returns whether the send buffer of a connection accepts another frame.
    pub(crate) fn is_writable(&self, connection: usize) -> bool {
        self.connections[connection].unsent.iter().map(|(left, _)| left).sum::<usize>() < SEND_BUFFER
    }

    /// Writes a frame to the send buffer of a connection.
    pub(crate) fn write(&mut self, connection: usize, frame: Frame) {
        let bytes = if let Frame::Data { payload, .. } = &frame { payload.len() + 24 } else { 24 };
        self.connections[connection].unsent.push_back((bytes, frame));
    }

    /// Sends segments of all connections in turn that the bottleneck takes in the next `step`, and retransmits lost
    /// ones.
    pub(crate) fn transmit(&mut self, now: Instant, step: Duration) {
        for index in 0..self.connections.len() {
            self.retransmit(index, now);
        }
        let mut idle_connections = 0;
        while self.idle_at < now + step && idle_connections < self.connections.len() {
            self.turn = (self.turn + 1) % self.connections.len();
            idle_connections = if self.send_segment(self.turn, now) { 0 } else { idle_connections + 1 };
        }
    }

    /// Sends one segment of a connection. Returns false if it has no data, or its kernel's window is full.
    fn send_segment(&mut self, index: usize, now: Instant) -> bool {
        if self.in_flight(index, now) >= self.kernel_window(now) {
            return false;
        }
        let (mut bytes, mut frames) = (0, Vec::new());
        let unsent = &mut self.connections[index].unsent;
        while let Some((left, _)) = unsent.front_mut().filter(|_| bytes < SEGMENT_LEN) {
            let taken = (SEGMENT_LEN - bytes).min(*left);
            (*left, bytes) = (*left - taken, bytes + taken);
            if *left == 0 {
                frames.extend(unsent.pop_front().map(|(_, frame)| frame));
            }
        }
        if bytes == 0 {
            return false;
        }
        self.idle_at = self.idle_at.max(now) + Duration::from_secs_f64((bytes + 66) as f64 / self.rate);
        let (is_lost, rtt) = (self.is_lost(), 2 * self.delay);
        let connection = &mut self.connections[index];
        connection.sent_segments += 1;
        let state = if is_lost {
            SegmentState::Lost(self.idle_at + 2 * rtt + DELAYED_ACK)
        } else {
            // Its selective acknowledgement shows which segments before it are lost.
            for earlier in &mut connection.in_flight {
                if let SegmentState::Lost(at) = &mut earlier.state {
                    *at = (*at).min(self.idle_at + rtt + rtt / 4);
                }
            }
            SegmentState::Arriving(self.idle_at + self.delay)
        };
        connection.in_flight.push_back(Segment { bytes, sent_at: self.idle_at, state, frames });
        true
    }

    /// Retransmits the segments of a connection whose loss is detected.
    fn retransmit(&mut self, index: usize, now: Instant) {
        for position in 0..self.connections[index].in_flight.len() {
            if matches!(self.connections[index].in_flight[position].state, SegmentState::Lost(at) if at <= now)
            {
                let is_lost = self.is_lost();
                let rtt = 2 * self.delay;
                let connection = &mut self.connections[index];
                connection.retransmitted_segments += 1;
                connection.sent_segments += 1;
                connection.in_flight[position].state = if is_lost {
                    SegmentState::Lost(now + rtt + rtt / 4)
                } else {
                    SegmentState::Arriving(now + self.delay)
                };
            }
        }
    }

    /// Removes and returns the next frame that a connection's receiver passes on.
    pub(crate) fn receive(&mut self, connection: usize, now: Instant) -> Vec<Frame> {
        let connection = &mut self.connections[connection];
        let has_arrived =
            |segment: &Segment| matches!(segment.state, SegmentState::Arriving(at) if at <= now);
        let mut received = Vec::new();
        while connection.in_flight.front().is_some_and(has_arrived) {
            let Some(segment) = connection.in_flight.pop_front() else { break };
            connection.acknowledged.push_back((now + self.delay, segment.bytes));
            received.extend(segment.frames);
        }
        received
    }

    /// Returns what the sender's kernel reports of a connection. Without `reports_loss` it hides retransmissions.
    pub(crate) fn sample(&mut self, index: usize, reports_loss: bool, now: Instant) -> TransportSample {
        let (queued, rtt) = (self.idle_at.saturating_duration_since(now), 2 * self.delay);
        let connection = &mut self.connections[index];
        while let Some((_, bytes)) = connection.acknowledged.front().filter(|(at, _)| *at <= now) {
            connection.delivered += *bytes as u64;
            connection.acknowledged.pop_front();
        }
        let connection = &self.connections[index];
        let is_acknowledged =
            |segment: &Segment| matches!(segment.state, SegmentState::Arriving(at) if at + self.delay <= now);
        // A segment before one that is selectively acknowledged is missing.
        let last_acknowledged = connection.in_flight.iter().rposition(is_acknowledged).unwrap_or(0);
        let is_recovering =
            connection.in_flight.iter().take(last_acknowledged).any(|segment| !is_acknowledged(segment));
        TransportSample {
            rtt: rtt + queued,
            in_flight: self.in_flight(index, now),
            cwnd_used: self.in_flight(index, now),
            unsent: connection.unsent.iter().map(|(left, _)| *left as u64).sum(),
            delivered: connection.delivered,
            cwnd: self.kernel_window(now),
            sent_segments: if reports_loss { connection.sent_segments } else { 0 },
            retransmitted_segments: if reports_loss { connection.retransmitted_segments } else { 0 },
            is_recovering,
        }
    }
}
