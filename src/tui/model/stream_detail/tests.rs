//! Tests of the journal.

use super::*;
use crate::{
    ids::{Operator, UserChannelId},
    telemetry::CommandOutcome,
};

#[test]
fn the_oldest_of_too_many_events_is_dropped() {
    let [first, other] = [1, 2].map(|user| StreamKey::new(UserChannelId::new(user), 1));
    let event = |key| Event {
        epoch_ms: 0,
        kind: EventKind::OperatorActed {
            what: format!("kill stream {key}"),
            by: Operator::Cockpit,
            outcome: CommandOutcome::Done(1),
        },
    };
    let mut journal = EventJournal::default();
    journal.push(&event(first));
    (1..MAX_JOURNAL_EVENTS).for_each(|_| journal.push(&event(other)));
    assert_eq!(journal.of(first).len(), 1);
    journal.push(&event(other));
    assert_eq!((journal.of(first).len(), journal.of(other).len()), (0, MAX_JOURNAL_EVENTS));
}
