//! Unit tests of the ticket rotation.

use super::*;

#[test]
fn a_ticket_is_invalid_once_the_next_one_was_used() {
    let mut tickets = TicketRotation::new();
    let first = tickets.current();
    let second = tickets.issue_next();
    assert!(tickets.find(0) == Some(first) && tickets.find(1) == Some(second));
    assert!(tickets.confirm(second));
    assert!(tickets.find(0).is_none() && !tickets.confirm(first));
    assert!(tickets.confirm(second), "further channels present it too");
}

#[test]
fn a_lost_ticket_is_invalid_once_another_was_issued() {
    let mut tickets = TicketRotation::new();
    let lost = tickets.issue_next();
    let second = tickets.issue_next();
    assert!(tickets.confirm(tickets.current()), "the proxy holds no other");
    assert!(tickets.confirm(second) && !tickets.confirm(lost));
}
