//! The scheduler of a channel: it decides which stream sends the next chunk.

mod class;
mod stream_ring;
#[cfg(test)]
mod tests;

use class::PriorityClass;

use crate::ids::{Priority, UserChannelId};

/// The quantum of a priority class with weight 1, in bytes per round. It is small, so that a round of all classes is
/// short even on a slow channel: a class that sends a larger chunk pays for it in more rounds.
const CLASS_QUANTUM: i64 = 4 * 1024;

/// Deficit round robin (Shreedhar and Varghese, 1995) in bytes on three levels: priority classes share a channel by
/// weight, users of one class equally, and streams of one user equally. A user with fifty downloads gets no more than
/// a user with one, and no stream starves.
///
/// A deficit may be overdrawn by one chunk, which is paid for in the next rounds: chunks can be large although quanta
/// are small. A new user goes first, so that a small message waits for one chunk and not for a chunk of each user, as
/// in FQ-CoDel (RFC 8290). A user that returns within its round goes first as well, until its quantum is spent:
/// someone who types waits no longer than a new user. The same holds for classes: one that becomes active again with
/// a positive deficit preempts a lower class that is being served, and is charged for what it sends.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// One class for each priority, lowest first.
    classes: [PriorityClass; Priority::ALL.len()],
    /// The index in `classes` of the priority class that is being served.
    current_class: usize,
    /// The index of a higher class that is served before the current one; `None` if there is none.
    preempting_class: Option<usize>,
}

impl Default for Scheduler {
    fn default() -> Self {
        let classes = std::array::from_fn(|index| PriorityClass::new(class_quantum(index)));
        Self { classes, current_class: 0, preempting_class: None }
    }
}

/// A stream that may send the next chunk, with the class and the user under which it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScheduledStream {
    /// The id of the stream.
    pub(super) stream: u32,
    /// The index of the priority class under which the stream is queued.
    class: usize,
    /// The user under which the stream is queued in that class.
    user: UserChannelId,
}

impl ScheduledStream {
    /// Returns whether the stream is queued under this priority, which may have changed since.
    pub(super) fn has_priority(self, priority: Priority) -> bool {
        self.class == priority as usize
    }
}

impl Scheduler {
    /// Queues a stream that has data to send and is not queued yet.
    pub(super) fn enqueue(&mut self, stream: u32, priority: Priority, user: UserChannelId) {
        let index = priority as usize;
        let class = &mut self.classes[index];
        if class.is_empty()
            && class.deficit > 0
            && index > self.preempting_class.unwrap_or(self.current_class)
        {
            self.preempting_class = Some(index);
        }
        class.enqueue(stream, user);
    }

    /// Returns whether no stream is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(PriorityClass::is_empty)
    }

    /// Returns how many streams are queued.
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(PriorityClass::len).sum()
    }

    /// Returns the ids of the queued streams, in no order.
    pub(super) fn streams(&self) -> impl Iterator<Item = u32> {
        self.classes.iter().flat_map(PriorityClass::streams)
    }

    /// Selects the stream that sends the next chunk; it stays the same until [`charge`](Self::charge) is called for
    /// it. `None` if no stream is queued.
    pub(super) fn next(&mut self) -> Option<ScheduledStream> {
        if self.is_empty() {
            return None;
        }
        loop {
            let index = self.preempting_class.unwrap_or(self.current_class);
            let class = &mut self.classes[index];
            if class.is_empty() && self.preempting_class.take().is_some() {
                // The class keeps the rest of its deficit until it is served again.
                continue;
            }
            if class.is_empty() {
                class.reset(class_quantum(index));
                self.current_class = (index + 1) % self.classes.len();
                continue;
            }
            if class.deficit <= 0 {
                class.deficit += class_quantum(index);
                if class.deficit <= 0 {
                    self.current_class = (index + 1) % self.classes.len();
                    continue;
                }
            }
            if let Some((stream, user)) = class.next() {
                return Some(ScheduledStream { stream, class: index, user });
            }
        }
    }

    /// Subtracts the `bytes` that the selected stream has sent from its deficit and from those of its user and its
    /// class. `has_more` tells whether the stream stays queued.
    pub(super) fn charge(&mut self, scheduled: ScheduledStream, bytes: usize, has_more: bool) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let class = &mut self.classes[scheduled.class];
        class.deficit -= bytes;
        class.charge(scheduled.stream, scheduled.user, bytes, has_more);
        if class.deficit <= 0 && self.preempting_class.take().is_none() {
            self.current_class = (scheduled.class + 1) % self.classes.len();
        }
    }
}

/// Returns the quantum of a priority class, in bytes per round: [`CLASS_QUANTUM`] times its weight.
fn class_quantum(class: usize) -> i64 {
    CLASS_QUANTUM * i64::from(Priority::ALL[class].weight())
}
