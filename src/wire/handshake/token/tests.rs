//! Unit tests of token generation.

use super::*;

/// Regression: one token in 64 began with a hyphen, and the command to paste on the other machine failed.
#[test]
fn no_random_token_looks_like_an_option() {
    assert!((0..2000).all(|_| !Token::random().reveal().starts_with('-')));
}
