//! Unit tests of the names and weights of priorities.

use super::*;

#[test]
fn each_priority_reads_back_as_it_is_written_and_weighs_twice_the_one_below() {
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
