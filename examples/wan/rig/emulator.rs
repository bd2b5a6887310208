//! Model of one direction of an IP path: a drop-tail queue before a link with a rate, a delay and faults.
//!
//! It uses no socket and no clock: packets and the time are arguments, so that the tests of the model run in virtual
//! time. Each packet gets its times when it arrives. A queue that is served in order needs no more than the time at
//! which the link has sent everything before: a packet departs at `max(arrival, previous departure) + length / rate`. A
//! program that reads packets late by some microseconds, or in batches, therefore still emulates the exact rate.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Limit of the queue before the link. A packet that arrives beyond it is dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum QueueLimit {
    /// Time that a packet may wait until the link begins to send it.
    Time(Duration),
    /// Bytes that may wait.
    Bytes(u64),
}

/// Parameters of one direction. They can change at any time and apply to the packets that arrive afterwards.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    /// Rate of the link in bits per second; the length of a packet is that of its IP header and payload.
    pub(crate) bits_per_second: u64,
    /// One-way propagation delay.
    pub(crate) delay: Duration,
    /// Maximum of an additional delay, uniformly distributed. It does not reorder: a packet leaves after those before
    /// it.
    pub(crate) jitter: Duration,
    /// Limit of the queue.
    pub(crate) queue: QueueLimit,
    /// Probability that the link loses a packet, independent of other packets. A lost packet has taken its time on the
    /// link.
    pub(crate) loss: f64,
    /// Probability that a packet is held back by up to half the delay, but at least up to 2 ms, so that later ones
    /// overtake it.
    pub(crate) reorder: f64,
    /// Probability that a packet is delivered twice.
    pub(crate) duplicate: f64,
    /// Whether all packets are dropped, on arrival and at their delivery.
    pub(crate) is_black_hole: bool,
    /// Time until which all packets are dropped, on arrival and at their delivery.
    pub(crate) blackout_until: Duration,
}

/// What happened since the statistics were last taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Statistics {
    /// Packets that arrived.
    pub(crate) packets: u64,
    /// Bytes that arrived.
    pub(crate) bytes: u64,
    /// Packets that were delivered, duplicates included.
    pub(crate) delivered_packets: u64,
    /// Bytes that were delivered, duplicates included.
    pub(crate) delivered_bytes: u64,
    /// Packets that the full queue dropped.
    pub(crate) dropped_by_queue: u64,
    /// Packets lost at random.
    pub(crate) lost: u64,
    /// Packets dropped by a blackout or black hole.
    pub(crate) blacked_out: u64,
    /// Packets that were held back.
    pub(crate) reordered: u64,
    /// Packets that were delivered twice.
    pub(crate) duplicated: u64,
    /// Longest time that a packet waited in the queue.
    pub(crate) max_queue_delay: Duration,
    /// Time for which the link was sending.
    pub(crate) busy: Duration,
}

/// A packet on the link.
#[derive(Debug)]
struct PacketInFlight {
    /// When it is delivered.
    due: Duration,
    /// Position in the order of departure; decides between packets that are due at the same time.
    sequence: u64,
    /// IP header and payload.
    bytes: Vec<u8>,
}

impl Ord for PacketInFlight {
    /// Reversed, because a `BinaryHeap` returns its greatest element first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl PartialOrd for PacketInFlight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PacketInFlight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PacketInFlight {}

/// One direction of the path. Times are since any fixed moment.
#[derive(Debug)]
pub(crate) struct Emulator {
    /// Parameters.
    pub(crate) shape: Shape,
    /// Decides about loss, jitter, reordering and duplication.
    random: StdRng,
    /// When the link will have sent all packets accepted so far.
    link_free_at: Duration,
    /// When the last packet that was not held back is due; jitter does not deliver before.
    last_due: Duration,
    /// Packets in the queue and on the link. Bounded by the queue's limit and rate × delay.
    in_flight: BinaryHeap<PacketInFlight>,
    /// Packets accepted so far.
    sequence: u64,
    /// Events since they were last taken.
    statistics: Statistics,
}

impl Emulator {
    /// Returns an idle direction. Equal seeds decide equally about equal sequences of packets.
    pub(crate) fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            random: StdRng::seed_from_u64(seed),
            link_free_at: Duration::ZERO,
            last_due: Duration::ZERO,
            in_flight: BinaryHeap::new(),
            sequence: 0,
            statistics: Statistics::default(),
        }
    }

    /// Queues a packet that arrives at `now`, or drops it.
    pub(crate) fn arrive(&mut self, now: Duration, packet: &[u8]) {
        self.statistics.packets += 1;
        self.statistics.bytes += packet.len() as u64;
        if self.is_dark(now) {
            self.statistics.blacked_out += 1;
            return;
        }
        let queue_delay = self.link_free_at.saturating_sub(now);
        if self.is_full(queue_delay, packet.len()) {
            self.statistics.dropped_by_queue += 1;
            return;
        }
        self.statistics.max_queue_delay = self.statistics.max_queue_delay.max(queue_delay);
        let sending = Duration::from_nanos(packet.len() as u64 * 8_000_000_000 / self.shape.bits_per_second);
        self.statistics.busy += sending;
        self.link_free_at = now + queue_delay + sending;
        if self.happens(self.shape.loss) {
            self.statistics.lost += 1;
            return;
        }
        let due = self.due();
        if self.happens(self.shape.duplicate) {
            self.statistics.duplicated += 1;
            self.deliver_at(due, packet);
        }
        self.deliver_at(due, packet);
    }

    /// Returns when the next packet is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.in_flight.peek().map(|packet| packet.due)
    }

    /// Takes the next packet that is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Vec<u8>> {
        while self.next_due().is_some_and(|due| due <= now) {
            let packet = self.in_flight.pop()?.bytes;
            if self.is_dark(now) {
                self.statistics.blacked_out += 1;
            } else {
                self.statistics.delivered_packets += 1;
                self.statistics.delivered_bytes += packet.len() as u64;
                return Some(packet);
            }
        }
        None
    }

    /// Takes the statistics, which then begin again at zero.
    pub(crate) fn take_statistics(&mut self) -> Statistics {
        std::mem::take(&mut self.statistics)
    }

    /// Returns whether all packets are dropped at `now`.
    fn is_dark(&self, now: Duration) -> bool {
        self.shape.is_black_hole || now < self.shape.blackout_until
    }

    /// Returns whether the queue has no place for a packet of `length` bytes that would wait for `queue_delay`.
    fn is_full(&self, queue_delay: Duration, length: usize) -> bool {
        match self.shape.queue {
            QueueLimit::Time(limit) => queue_delay > limit,
            QueueLimit::Bytes(limit) => {
                let queued = queue_delay.as_secs_f64() * self.shape.bits_per_second as f64 / 8.0;
                queue_delay > Duration::ZERO && queued + length as f64 > limit as f64
            }
        }
    }

    /// Draws an event of this probability.
    fn happens(&mut self, probability: f64) -> bool {
        // Without a fault no number is drawn, so that one fault's sequence does not depend on whether another is
        // configured.
        probability > 0.0 && self.random.random::<f64>() < probability
    }

    /// Draws when the packet that departs at `link_free_at` is due.
    fn due(&mut self) -> Duration {
        let on_time = self.link_free_at + self.shape.delay;
        if self.happens(self.shape.reorder) {
            self.statistics.reordered += 1;
            let longest = (self.shape.delay / 2).max(Duration::from_millis(2));
            return on_time + longest.mul_f64(self.random.random::<f64>());
        }
        let jitter = match self.shape.jitter {
            Duration::ZERO => Duration::ZERO,
            jitter => jitter.mul_f64(self.random.random::<f64>()),
        };
        self.last_due = self.last_due.max(on_time + jitter);
        self.last_due
    }

    /// Puts a packet on the link.
    fn deliver_at(&mut self, due: Duration, packet: &[u8]) {
        self.in_flight.push(PacketInFlight { due, sequence: self.sequence, bytes: packet.to_vec() });
        self.sequence += 1;
    }
}
