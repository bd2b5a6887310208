//! Unit tests of the names of load-balancing policies.

use super::*;

#[test]
fn policies_round_trip() {
    for policy in Policy::ALL {
        assert_eq!(policy.to_string().parse(), Ok(policy));
        assert_eq!(Policy::from_number(policy as u8), Some(policy));
    }
    assert_eq!("fair".parse::<Policy>(), Err(IdError::Policy));
}
