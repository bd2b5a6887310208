use std::collections::VecDeque;

/// Among so many places a stream that comes back is looked for. Beyond, it waits its turn like one that has used its
/// last one up.
const LOOK: usize = 64;

/// The streams of one user that wait for a channel, in their turn.
///
/// One that comes new goes first, and so does one that comes back before its next turn with some of the last one left:
/// a keystroke waits for one chunk, and not for a chunk of every download that goes to the same address. What it was
/// given is what the others get in a round, so that nobody has more by coming and going.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Those that wait, and those that have stopped waiting since their last turn.
    ring: VecDeque<Place>,
    /// Those of them that came back.
    back: VecDeque<u32>,
    waiting: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    stream: u32,
    deficit: i64,
    waits: bool,
}

impl Places {
    /// A stream has something to send; a turn is worth so many bytes.
    pub(super) fn push(&mut self, stream: u32, turn: i64) {
        self.waiting += 1;
        let room = self.ring.len() < LOOK;
        let known = self.ring.iter_mut().enumerate().take(LOOK).find(|(_, place)| place.stream == stream);
        if let Some((at, place)) = known {
            place.waits = true;
            if place.deficit > 0 && at > 0 {
                self.back.push_back(stream);
            }
        } else if room {
            self.ring.push_front(Place { stream, deficit: turn, waits: true });
        } else {
            self.ring.push_back(Place { stream, deficit: 0, waits: true });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The streams that wait, in no order.
    pub(super) fn streams(&self) -> impl Iterator<Item = u32> {
        self.ring.iter().filter(|place| place.waits).map(|place| place.stream)
    }

    /// The stream whose turn it is. What becomes of it has to be [`charge`](Self::charge)d before the next.
    pub(super) fn next(&mut self, turn: i64) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        if let Some(&stream) = self.back.front() {
            return Some(stream);
        }
        loop {
            let place = self.ring.front_mut()?;
            if !place.waits {
                self.ring.pop_front();
                continue;
            }
            if place.deficit <= 0 {
                place.deficit += turn;
            }
            if place.deficit > 0 {
                return Some(place.stream);
            }
            self.ring.rotate_left(1);
        }
    }

    /// The stream whose turn it was has sent `bytes`, and has more or not.
    pub(super) fn charge(&mut self, stream: u32, bytes: i64, more: bool) {
        let came_back = self.back.front() == Some(&stream);
        let mut places = self.ring.iter_mut();
        let place = if came_back { places.find(|place| place.stream == stream) } else { places.next() };
        let Some(place) = place else { return };
        place.deficit -= bytes;
        place.waits = more;
        let passes = !more || place.deficit <= 0;
        self.waiting -= usize::from(!more);
        if passes && came_back {
            self.back.pop_front();
        } else if passes {
            self.ring.rotate_left(1);
        }
    }

    /// Forgets those that have stopped waiting, when all have.
    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.back.clear();
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: i64 = 16_384;

    /// A ping beside downloads of the same user waited for a chunk of each of them.
    #[test]
    fn a_little_goes_first_each_time_and_much_does_not() {
        let mut places = Places::default();
        (1..=8).for_each(|stream| places.push(stream, TURN));
        for _ in 0..500 {
            places.push(9, TURN);
            assert_eq!(places.next(TURN), Some(9));
            places.charge(9, 64, false);
            let bulk = places.next(TURN).unwrap();
            assert_ne!(bulk, 9);
            places.charge(bulk, TURN, true);
        }
        // One that comes and goes with as much as the others have gets what they get.
        let mut sent = [0; 10];
        places.push(9, TURN);
        for _ in 0..9000 {
            let stream = places.next(TURN).unwrap();
            sent[stream as usize] += 1;
            places.charge(stream, 4096, stream != 9);
            if stream == 9 {
                places.push(9, TURN);
            }
        }
        assert!((900..=1100).contains(&sent[9]) && (900..=1100).contains(&sent[1]), "{sent:?}");
    }

    #[test]
    fn more_than_are_looked_at_have_their_turns_too() {
        let mut places = Places::default();
        let all = 10 * LOOK as u32;
        (0..all).for_each(|stream| places.push(stream, TURN));
        let mut sent = vec![0; all as usize];
        for _ in 0..100 * all {
            let stream = places.next(TURN).unwrap();
            sent[stream as usize] += 1;
            places.charge(stream, TURN, stream % 2 == 0);
            if stream % 2 == 1 {
                places.push(stream, TURN);
            }
        }
        assert!(sent.iter().all(|sent| (90..=110).contains(sent)), "{sent:?}");
        assert_eq!(places.streams().count(), all as usize);
    }
}
