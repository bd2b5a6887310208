//! Unit tests of the choice of a congestion control.

use super::*;

#[test]
fn bbr_is_requested_unless_the_other_side_is_on_this_machine() {
    let named = CongestionControl::Named("cubic".to_owned());
    for (choice, is_loopback, expected) in [
        (CongestionControl::default(), false, Some("bbr")),
        (CongestionControl::default(), true, None),
        (CongestionControl::System, false, None),
        (named.clone(), false, Some("cubic")),
        (named, true, Some("cubic")),
    ] {
        assert_eq!(choice.requested_name(is_loopback), expected, "{choice:?}, loopback: {is_loopback}");
    }
}
