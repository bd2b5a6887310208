//! Unit tests of the ids of users that have left.

use super::*;

fn departed(number: u32) -> (UserAddr, DepartedUser) {
    let addr = (8080, IpAddr::from(number.to_be_bytes()));
    (addr, DepartedUser { id: UserChannelId::new(number), last_stream: number })
}

#[test]
fn the_user_that_left_first_is_forgotten_first() {
    let mut users = DepartedUsers::default();
    for number in 0..MAX_DEPARTED as u32 {
        let (addr, user) = departed(number);
        assert_eq!(users.add(addr, user), None);
    }
    // One returns and leaves again: the second one is then the oldest.
    let (addr, user) = departed(0);
    assert_eq!(users.take(&addr), Some(user));
    assert_eq!(users.take(&addr), None);
    assert_eq!(users.add(addr, user), None);
    let (next_addr, next) = departed(MAX_DEPARTED as u32);
    assert_eq!(users.add(next_addr, next), Some(departed(1).1));
    assert_eq!(users.take(&departed(1).0), None);
    assert_eq!(users.by_addr.len(), MAX_DEPARTED);
    assert_eq!(users.by_departure.len(), MAX_DEPARTED);
}
