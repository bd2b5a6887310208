//! One direction of an emulated link, without clock and sockets.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Shape;

/// Maximum idle time that the queue makes up for. Without it, every late wake-up of a reader on a busy machine would
/// lower the rate.
const BURST: Duration = Duration::from_millis(2);

/// One direction of an emulated link: a queue that is drained at the rate, behind which everything takes the delay.
///
/// [`push`](Self::push) adds to it; when [`next`](Self::next) is due, poll [`left`](Self::left) and
/// [`arrived`](Self::arrived).
#[derive(Debug)]
pub struct Line<T> {
    shape: Shape,
    /// Time at which the last byte leaves the queue.
    free: Option<Instant>,
    parcels: VecDeque<Parcel<T>>,
    /// Number of parcels at the front that have left the queue and are in flight.
    in_flight: usize,
}

#[derive(Debug)]
struct Parcel<T> {
    leaves: Instant,
    arrives: Instant,
    bytes: usize,
    what: T,
}

impl<T> Line<T> {
    pub fn new(shape: Shape) -> Self {
        Self { shape, free: None, parcels: VecDeque::new(), in_flight: 0 }
    }

    /// Changes rate and delay for later bytes, which do not overtake earlier ones.
    pub fn set_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// Adds `bytes` bytes to the end of the queue.
    pub fn push(&mut self, now: Instant, bytes: usize, what: T) {
        let idle = now.checked_sub(BURST).unwrap_or(now);
        let begins = self.free.map_or(idle, |free| free.max(idle));
        let takes = self
            .shape
            .rate
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate.get() as f64));
        let leaves = begins + takes;
        self.free = Some(leaves);
        let last = self.parcels.back().map_or(now, |last| last.arrives);
        let arrives = (leaves.max(now) + self.shape.delay).max(last);
        self.parcels.push_back(Parcel { leaves, arrives, bytes, what });
    }

    /// Returns the time at which something leaves the queue or arrives next.
    pub fn next(&self) -> Option<Instant> {
        let leaves = self.parcels.get(self.in_flight).map(|parcel| parcel.leaves);
        let arrives = self.parcels.front().map(|parcel| parcel.arrives);
        leaves.into_iter().chain(arrives).min()
    }

    /// Returns how many bytes have left the queue since the last call.
    pub fn left(&mut self, now: Instant) -> usize {
        let mut bytes = 0;
        while let Some(parcel) = self.parcels.get(self.in_flight).filter(|parcel| parcel.leaves <= now) {
            bytes += parcel.bytes;
            self.in_flight += 1;
        }
        bytes
    }

    /// Returns the next item that has arrived. Call [`left`](Self::left) first.
    pub fn arrived(&mut self, now: Instant) -> Option<T> {
        if self.in_flight == 0 || self.parcels.front()?.arrives > now {
            return None;
        }
        self.in_flight -= 1;
        self.parcels.pop_front().map(|parcel| parcel.what)
    }
}
