//! Unit tests of the names and weights of priorities.

use super::*;

#[test]
fn priorities_round_trip_and_double_in_weight() {
    for priority in Priority::ALL {
        assert_eq!(priority.to_string().parse(), Ok(priority));
        assert_eq!(Priority::from_wire(priority as u8), Some(priority));
    }
    assert_eq!(Priority::ALL.map(Priority::weight), [1, 2, 4, 8, 16]);
    assert_eq!(
        (Priority::Urgent.raised(), Priority::Background.lowered()),
        (Priority::Urgent, Priority::Background)
    );
    assert_eq!("top".parse::<Priority>(), Err(IdError::Priority));
}
