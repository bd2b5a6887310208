//! The users of one priority class, in deficit round robin.

use std::collections::VecDeque;

use foldhash::HashMap;

use super::stream_ring::StreamRing;
use crate::ids::UserChannelId;

/// The quantum of a user, and of a stream of a user, in bytes per round.
const QUANTUM: i64 = 16 * 1024;

/// How many empty rings of users without queued streams are kept for reuse. A user may come and go with each chunk.
const MAX_SPARE_RINGS: usize = 64;

/// One priority class of the scheduler: its deficit, and its users.
#[derive(Debug)]
pub(super) struct PriorityClass {
    /// How many bytes the class may still send in this round; negative if it has sent too many.
    pub(super) deficit: i64,
    /// How many streams of this class are queued.
    queued_streams: usize,
    /// The users in the order in which they are served: those with queued streams, and those that have had none since
    /// their last turn.
    ring: VecDeque<UserChannelId>,
    /// Users of the ring that returned before their next turn with a positive deficit. They go first.
    returning: VecDeque<UserChannelId>,
    /// The deficit and the queued streams of each user in the ring.
    users: HashMap<UserChannelId, UserQueue>,
    /// Empty stream rings of users without queued streams, kept for reuse.
    spare_rings: Vec<StreamRing>,
}

/// The queued streams of one user.
#[derive(Debug, Default)]
struct UserQueue {
    /// How many bytes the user may still send in this round; negative if it has sent too many.
    deficit: i64,
    /// The streams in the order in which they are served.
    streams: StreamRing,
}

impl PriorityClass {
    /// Creates a priority class without streams, with one quantum of deficit in bytes.
    pub(super) fn new(quantum: i64) -> Self {
        Self {
            deficit: quantum,
            queued_streams: 0,
            ring: VecDeque::new(),
            returning: VecDeque::new(),
            users: HashMap::default(),
            spare_rings: Vec::new(),
        }
    }

    /// Returns whether no stream is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.queued_streams == 0
    }

    /// Returns how many streams are queued.
    pub(super) fn len(&self) -> usize {
        self.queued_streams
    }

    /// Returns the ids of the queued streams, in no order.
    pub(super) fn streams(&self) -> impl Iterator<Item = u32> {
        self.users.values().flat_map(|user| user.streams.streams())
    }

    /// Returns how many users the class has, also those without queued streams.
    #[cfg(test)]
    pub(super) fn user_count(&self) -> usize {
        self.users.len()
    }

    /// Removes all users and sets the deficit to `quantum` bytes. Called when the class is to be served and has no
    /// queued stream.
    pub(super) fn reset(&mut self, quantum: i64) {
        self.deficit = quantum;
        self.ring.clear();
        self.returning.clear();
        self.users.clear();
    }

    /// Queues a stream that has data to send under its user.
    pub(super) fn enqueue(&mut self, stream: u32, user: UserChannelId) {
        let queue = self.users.entry(user).or_insert_with(|| {
            self.ring.push_front(user);
            UserQueue { deficit: QUANTUM, streams: self.spare_rings.pop().unwrap_or_default() }
        });
        if queue.streams.is_empty() && queue.deficit > 0 && self.ring.front() != Some(&user) {
            self.returning.push_back(user);
        }
        queue.streams.enqueue(stream, QUANTUM);
        self.queued_streams += 1;
    }

    /// Selects the next stream of the user at the front. Returns `None` if the turn passes to another user: the user
    /// at the front has overdrawn its deficit, or has no queued stream.
    pub(super) fn next(&mut self) -> Option<(u32, UserChannelId)> {
        let id = *self.returning.front().or(self.ring.front())?;
        let user = self.users.get_mut(&id).filter(|user| !user.streams.is_empty());
        let Some(user) = user else {
            if let Some(mut user) =
                self.users.remove(&id).filter(|_| self.spare_rings.len() < MAX_SPARE_RINGS)
            {
                user.streams.clear();
                self.spare_rings.push(user.streams);
            }
            self.ring.pop_front();
            return None;
        };
        if user.deficit <= 0 {
            user.deficit += QUANTUM;
            if user.deficit <= 0 {
                self.ring.rotate_left(1);
                return None;
            }
        }
        user.streams.next(QUANTUM).map(|stream| (stream, id))
    }

    /// Subtracts the `bytes` that a stream has sent from its deficit and from its user's. `has_more` tells whether
    /// the stream stays queued.
    pub(super) fn charge(&mut self, stream: u32, id: UserChannelId, bytes: i64, has_more: bool) {
        let Some(user) = self.users.get_mut(&id) else { return };
        user.deficit -= bytes;
        user.streams.charge(stream, bytes, has_more);
        self.queued_streams -= usize::from(!has_more);
        // A user without queued streams stays until its next turn: if it returns before that, it is not a new user.
        if user.deficit <= 0 || user.streams.is_empty() {
            if self.returning.front() == Some(&id) {
                self.returning.pop_front();
            } else {
                self.ring.rotate_left(1);
            }
        }
    }
}
