use std::collections::VecDeque;

use foldhash::HashMap;

use super::places::Places;
use crate::ids::{Priority, UserChannelId};

/// What one share of a priority is worth in each round, in bytes. Small, so that a round of all priorities is short
/// even on a slow channel: a large chunk only takes its sender more rounds to pay for.
const SHARE: i64 = 4 * 1024;

/// What a user, and a stream of a user, may send in its turn, in bytes.
const TURN: i64 = 16 * 1024;

/// Of how many users who have left the places are kept for users to come.
const MAX_SPARE: usize = 64;

/// Whose data goes out next on a channel: a deficit round robin (Shreedhar and Varghese, 1995) in bytes at three
/// levels. The priorities share by their weight; within a priority the users share alike; within a user the streams
/// do. Somebody with fifty downloads gets no more than somebody with one, and nobody starves.
///
/// A turn may be overdrawn by one chunk; what was overdrawn is paid for in the next rounds. That keeps chunks large
/// without making turns large. A user who comes new goes first, so that a small message waits for one chunk and not
/// for everybody's (as in FQ-CoDel, RFC 8290). One who comes back in the same round does as long as its turn's worth is
/// not spent: someone who types waits no longer than someone who has just come. So it is with priorities, too: one that
/// waited for nothing when its turn came goes before a lower one that is at its turn, and is charged for it.
#[derive(Debug)]
pub(super) struct Scheduler {
    classes: [Class; Priority::ALL.len()],
    /// The class whose turn it is.
    turn: usize,
    /// A higher one that goes before it.
    ahead: Option<usize>,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self { classes: std::array::from_fn(Class::new), turn: 0, ahead: None }
    }
}

#[derive(Debug, Default)]
struct Class {
    deficit: i64,
    /// Streams that wait.
    streams: usize,
    /// Users who wait, and those who have stopped waiting since their last turn.
    ring: VecDeque<UserChannelId>,
    /// Those of them who came back before their next turn, and have not spent all of the last one.
    back: VecDeque<UserChannelId>,
    users: HashMap<UserChannelId, User>,
    /// The places of users who have left, for those who come: many do with each chunk.
    spare: Vec<Places>,
}

#[derive(Debug, Default)]
struct User {
    deficit: i64,
    places: Places,
}

/// A stream that was given the next place, and where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) stream: u32,
    class: usize,
    user: UserChannelId,
}

impl Turn {
    /// Whether the stream still has the priority that it was given its place under.
    pub(super) fn is_of(self, priority: Priority) -> bool {
        self.class == priority as usize
    }
}

impl Scheduler {
    /// A stream has data. It must not be in already.
    pub(super) fn push(&mut self, stream: u32, priority: Priority, user: UserChannelId) {
        let index = priority as usize;
        let class = &mut self.classes[index];
        if class.streams == 0 && class.deficit > 0 && index > self.ahead.unwrap_or(self.turn) {
            self.ahead = Some(index);
        }
        let queue = class.users.entry(user).or_insert_with(|| {
            class.ring.push_front(user);
            User { deficit: TURN, places: class.spare.pop().unwrap_or_default() }
        });
        if queue.places.is_empty() && queue.deficit > 0 && class.ring.front() != Some(&user) {
            class.back.push_back(user);
        }
        queue.places.push(stream, TURN);
        class.streams += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.streams == 0)
    }

    /// The streams that wait, in no order.
    pub(super) fn streams(&self) -> impl Iterator<Item = u32> {
        let users = self.classes.iter().flat_map(|class| class.users.values());
        users.flat_map(|user| user.places.streams())
    }

    /// The stream whose turn it is. Say what became of it with [`sent`](Self::sent).
    pub(super) fn next(&mut self) -> Option<Turn> {
        if self.is_empty() {
            return None;
        }
        loop {
            let index = self.ahead.unwrap_or(self.turn);
            let class = &mut self.classes[index];
            if class.streams == 0 && self.ahead.take().is_some() {
                // What is left of its turn is left until the next one.
                continue;
            }
            if class.streams == 0 {
                class.deficit = turn_of(index);
                class.ring.clear();
                class.back.clear();
                class.users.clear();
                self.turn = (index + 1) % self.classes.len();
                continue;
            }
            if class.deficit <= 0 {
                class.deficit += turn_of(index);
                if class.deficit <= 0 {
                    self.turn = (index + 1) % self.classes.len();
                    continue;
                }
            }
            if let Some((stream, user)) = class.next() {
                return Some(Turn { stream, class: index, user });
            }
        }
    }

    /// The stream whose turn it was has sent `bytes`, and has more or not.
    pub(super) fn sent(&mut self, turn: Turn, bytes: usize, more: bool) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let class = &mut self.classes[turn.class];
        class.deficit -= bytes;
        class.charge(turn, bytes, more);
        if class.deficit <= 0 && self.ahead.take().is_none() {
            self.turn = (turn.class + 1) % self.classes.len();
        }
    }
}

/// What a priority may send in its turn, in bytes.
fn turn_of(class: usize) -> i64 {
    SHARE * i64::from(Priority::ALL[class].weight())
}

impl Class {
    fn new(index: usize) -> Self {
        Self { deficit: turn_of(index), ..Self::default() }
    }

    /// The next stream of the user at the front, or `None` if the user's turn passes: it is not paid for yet, or
    /// nothing waits.
    fn next(&mut self) -> Option<(u32, UserChannelId)> {
        let id = *self.back.front().or(self.ring.front())?;
        let user = self.users.get_mut(&id).filter(|user| !user.places.is_empty());
        let Some(user) = user else {
            if let Some(mut user) = self.users.remove(&id).filter(|_| self.spare.len() < MAX_SPARE) {
                user.places.clear();
                self.spare.push(user.places);
            }
            self.ring.pop_front();
            return None;
        };
        if user.deficit <= 0 {
            user.deficit += TURN;
            if user.deficit <= 0 {
                self.ring.rotate_left(1);
                return None;
            }
        }
        user.places.next(TURN).map(|stream| (stream, id))
    }

    fn charge(&mut self, turn: Turn, bytes: i64, more: bool) {
        let Some(user) = self.users.get_mut(&turn.user) else { return };
        user.deficit -= bytes;
        user.places.charge(turn.stream, bytes, more);
        self.streams -= usize::from(!more);
        // One that waits no more stays until its next turn: who comes back before that is not new.
        if user.deficit <= 0 || user.places.is_empty() {
            if self.back.front() == Some(&turn.user) {
                self.back.pop_front();
            } else {
                self.ring.rotate_left(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 64 * 1024;

    /// What each stream has sent after `chunks` chunks. Streams that are named have data without end.
    fn shares(streams: &[(u32, Priority, u32)], chunk: usize, chunks: usize) -> HashMap<u32, usize> {
        let mut scheduler = Scheduler::default();
        for &(stream, priority, user) in streams {
            scheduler.push(stream, priority, UserChannelId::new(user));
        }
        let mut shares = HashMap::default();
        for _ in 0..chunks {
            let turn = scheduler.next().unwrap();
            *shares.entry(turn.stream).or_default() += chunk;
            scheduler.sent(turn, chunk, true);
        }
        shares
    }

    fn ratio(shares: &HashMap<u32, usize>, a: u32, b: u32) -> f64 {
        shares[&a] as f64 / shares[&b] as f64
    }

    /// Someone whose keys came faster than all others had their turn waited for all of them with every second key.
    #[test]
    fn who_comes_back_with_little_goes_first_as_long_as_it_is_little() {
        let mut scheduler = Scheduler::default();
        let user = UserChannelId::new;
        (0..50).for_each(|stream| scheduler.push(stream, Priority::Normal, user(stream)));
        let mut sent = HashMap::default();
        for _ in 0..1000 {
            scheduler.push(50, Priority::Normal, user(50));
            let turn = scheduler.next().unwrap();
            assert_eq!(turn.stream, 50);
            scheduler.sent(turn, 64, false);
            let turn = scheduler.next().unwrap();
            scheduler.sent(turn, CHUNK, true);
        }
        // With as much as the others have it gets no more than they.
        scheduler.push(50, Priority::Normal, user(50));
        for _ in 0..50_000 {
            let turn = scheduler.next().unwrap();
            *sent.entry(turn.stream).or_insert(0) += 4096;
            scheduler.sent(turn, 4096, turn.stream != 50);
            if turn.stream == 50 {
                scheduler.push(50, Priority::Normal, user(50));
            }
        }
        let ratio = f64::from(sent[&50]) / f64::from(sent[&0]);
        assert!((0.9..=1.1).contains(&ratio), "{ratio}");
    }

    #[test]
    fn priorities_share_by_weight_whatever_the_chunk() {
        let streams = Priority::ALL.map(|priority| (priority as u32, priority, priority as u32));
        for chunk in [100, 8 * 1024, CHUNK] {
            let shares = shares(&streams, chunk, 400_000);
            for low in 0..4 {
                let ratio = ratio(&shares, low + 1, low);
                assert!((1.95..=2.05).contains(&ratio), "{chunk}: {ratio}");
            }
        }
    }

    /// A stream was made high to be quick, and waited for what a normal one had left of its turn.
    #[test]
    fn a_higher_priority_goes_first_as_long_as_it_is_little() {
        let user = UserChannelId::new;
        for chunk in [1024, 4096, CHUNK] {
            let mut scheduler = Scheduler::default();
            scheduler.push(1, Priority::Normal, user(1));
            scheduler.push(2, Priority::Low, user(2));
            let mut lower = [0; 3];
            for _ in 0..10_000 {
                scheduler.push(9, Priority::High, user(9));
                let turn = scheduler.next().unwrap();
                assert_eq!(turn.stream, 9, "{chunk}");
                scheduler.sent(turn, 64, false);
                let turn = scheduler.next().unwrap();
                lower[turn.stream as usize] += chunk;
                scheduler.sent(turn, chunk, true);
            }
            let ratio = lower[1] as f64 / lower[2] as f64;
            assert!((1.95..=2.05).contains(&ratio), "{chunk}: {ratio}");
            // Where it comes and goes with much, it has its share by weight and no more.
            let mut sent = [0; 10];
            scheduler.push(9, Priority::High, user(9));
            for _ in 0..400_000 {
                let turn = scheduler.next().unwrap();
                sent[turn.stream as usize] += chunk;
                scheduler.sent(turn, chunk, turn.stream != 9);
                if turn.stream == 9 {
                    scheduler.push(9, Priority::High, user(9));
                }
            }
            let ratio = sent[9] as f64 / sent[1] as f64;
            assert!((1.9..=2.1).contains(&ratio), "{chunk}: {ratio}");
        }
    }

    #[test]
    fn a_user_with_fifty_downloads_gets_no_more_than_one_with_one() {
        let mut streams: Vec<_> = (0..50).map(|stream| (stream, Priority::Normal, 1)).collect();
        streams.push((50, Priority::Normal, 2));
        let shares = shares(&streams, CHUNK, 10_000);
        let many: usize = (0..50).map(|stream| shares[&stream]).sum();
        let ratio = many as f64 / shares[&50] as f64;
        assert!((0.98..=1.02).contains(&ratio), "{ratio}");
        let each: Vec<_> = (0..50).map(|stream| shares[&stream]).collect();
        assert!(each.iter().max().unwrap() - each.iter().min().unwrap() <= 2 * CHUNK);
    }

    #[test]
    fn a_small_message_waits_for_one_chunk_of_a_bulk_stream_at_the_most() {
        let mut scheduler = Scheduler::default();
        let user = UserChannelId::new;
        (0..4).for_each(|stream| scheduler.push(stream, Priority::Normal, user(stream)));
        for _ in 0..1000 {
            let turn = scheduler.next().unwrap();
            scheduler.sent(turn, CHUNK, true);
        }
        scheduler.push(9, Priority::Normal, user(9));
        let mut waited = 0;
        while let Some(turn) = scheduler.next() {
            if turn.stream == 9 {
                scheduler.sent(turn, 64, false);
                break;
            }
            scheduler.sent(turn, CHUNK, true);
            waited += 1;
        }
        assert!(waited <= 1, "waited for {waited} chunks");
        (0..4).for_each(|_| {
            let turn = scheduler.next().unwrap();
            scheduler.sent(turn, 1, false);
        });
        assert!(scheduler.is_empty() && scheduler.next().is_none());
        scheduler.push(1, Priority::Low, user(1));
        assert_eq!(scheduler.next().map(|turn| turn.stream), Some(1));
        let left: usize = scheduler.classes.iter().map(|class| class.users.len()).sum();
        assert_eq!(left, 1, "nobody else is remembered");
    }
}
