//! Unit tests of the mutexes of tables.

use super::*;
use crate::telemetry::{EventKind, Telemetry};

#[test]
fn an_event_may_be_emitted_after_a_table_was_unlocked() {
    let table = TableMutex::new(1);
    *table.lock() += 1;
    assert_eq!(*table.lock(), 2);
    Telemetry::new().emit(EventKind::DrainStarted { open_streams: 0 });
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "while the lock of a table is held")]
fn an_event_under_the_lock_of_a_table_is_a_defect() {
    let table = TableMutex::new(1);
    let _locked = table.lock();
    Telemetry::new().emit(EventKind::DrainStarted { open_streams: 0 });
}
