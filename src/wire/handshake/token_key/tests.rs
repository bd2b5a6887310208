//! The text form of hashes, and what they match.

use super::*;
use crate::wire::handshake::{Token, TokenError};

#[test]
fn a_hash_is_printed_as_it_is_parsed_and_matches_its_token_alone() {
    let token = Token::random();
    let key = token.key();
    let text = key.reveal_hash();
    assert_eq!(text.len(), "sha256:".len() + 64);
    assert!(TokenKey::parse_hash(&format!("{text}\n")) == Some(key.clone()));
    assert!(TokenKey::parse_hash(&text.to_uppercase().replace("SHA", "sha")) == Some(key.clone()));
    assert!(key.matches(&TokenKey::of(token.reveal())));
    assert!(!key.matches(&TokenKey::of(Token::random().reveal())));
    assert!(!key.matches(&TokenKey::of(&text)), "the hash passes for the token");
    for wrong in ["", "sha256:", &text[..70], &format!("{text}0"), &text.replace("sha256:", ""), "sha256:é"]
    {
        assert!(TokenKey::parse_hash(wrong).is_none(), "{wrong}");
    }
    assert!(Token::parse(&text).is_err_and(|error| error == TokenError::IsHash));
    assert_eq!(format!("{key:?}"), "TokenKey(***)");
}

/// `printf %s TOKEN | sha256sum` gives the same digits.
#[test]
fn a_hash_is_the_sha256_of_the_token() {
    let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(TokenKey::of("abc").reveal_hash(), hash);
}
