use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Shape;

/// How long a line may have been idle and still make up for it. Without this a reader who is woken late, on a machine
/// that has other things to do, costs rate.
const BURST: Duration = Duration::from_millis(2);

/// One direction of a link without clock and sockets: what comes in leaves one behind the other at the rate, and
/// arrives a delay later.
///
/// - *Handle*: [`push`](Self::push).
/// - *Poll*, when [`next`](Self::next) is due: [`left`](Self::left), [`arrived`](Self::arrived).
#[derive(Debug)]
pub struct Line<T> {
    shape: Shape,
    /// When the last byte so far has left.
    free: Option<Instant>,
    parcels: VecDeque<Parcel<T>>,
    /// How many at the front have left, and are on the way.
    on_the_way: usize,
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
        Self { shape, free: None, parcels: VecDeque::new(), on_the_way: 0 }
    }

    /// Another rate and delay for what comes from now on. Nothing overtakes what came before.
    pub fn set_shape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// Puts something at the end of the queue.
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

    /// When something leaves or arrives next.
    pub fn next(&self) -> Option<Instant> {
        let leaves = self.parcels.get(self.on_the_way).map(|parcel| parcel.leaves);
        let arrives = self.parcels.front().map(|parcel| parcel.arrives);
        leaves.into_iter().chain(arrives).min()
    }

    /// How many bytes have left the queue since this was asked last.
    pub fn left(&mut self, now: Instant) -> usize {
        let mut bytes = 0;
        while let Some(parcel) = self.parcels.get(self.on_the_way).filter(|parcel| parcel.leaves <= now) {
            bytes += parcel.bytes;
            self.on_the_way += 1;
        }
        bytes
    }

    /// The next thing that has arrived. Ask for what has [`left`](Self::left) before.
    pub fn arrived(&mut self, now: Instant) -> Option<T> {
        if self.on_the_way == 0 || self.parcels.front()?.arrives > now {
            return None;
        }
        self.on_the_way -= 1;
        self.parcels.pop_front().map(|parcel| parcel.what)
    }
}
