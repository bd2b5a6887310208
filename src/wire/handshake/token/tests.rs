//! The format of generated tokens, and which others are accepted.

use base64::Engine as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// A token that was generated once, with its checksum.
fn generated() -> String {
    let digits = format!("{PREFIX}9pX2kQvLr7TzM4bNwYc8HsD3fJgA6e");
    format!("{digits}{}", checksum(&digits))
}

fn parse(text: &str) -> Result<String, TokenError> {
    Token::parse(text).map(|token| token.reveal().to_owned())
}

#[test]
fn a_random_token_has_a_prefix_for_scanners_and_a_checksum() {
    let token = Token::random();
    let digits = token.reveal().strip_prefix("underpass_").unwrap();
    assert_eq!(digits.len(), 36);
    assert!(digits.bytes().all(|digit| digit.is_ascii_alphanumeric()));
    assert_eq!(parse(token.reveal()).unwrap(), token.reveal());
    assert_ne!(token.reveal(), Token::random().reveal());
}

/// Tokens that operators have stored must stay valid in all later versions.
#[test]
fn the_checksum_is_stable() {
    assert_eq!(generated(), "underpass_9pX2kQvLr7TzM4bNwYc8HsD3fJgA6e1kneXK");
}

#[test]
fn a_generated_token_that_was_not_copied_exactly_is_reported_as_such() {
    let token = generated();
    assert_eq!(parse(&format!(" {token}\r\n")).unwrap(), token);
    for cut in PREFIX.len()..token.len() {
        assert_eq!(parse(&token[..cut]), Err(TokenError::Truncated { bytes: cut }));
    }
    assert_eq!(parse(&token[1..]), Err(TokenError::PrefixMissing));
    assert_eq!(parse(&token[PREFIX.len()..]), Err(TokenError::PrefixMissing));
    for more in
        [format!("{token}x"), format!("\"{token}\""), format!("token: {token}"), format!("{token}{token}")]
    {
        assert_eq!(parse(&more), Err(TokenError::MoreThanToken), "{more}");
    }
    // Every single changed digit, and two neighbours in the wrong order.
    for at in PREFIX.len()..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
        assert_eq!(parse(str::from_utf8(&changed).unwrap()), Err(TokenError::WrongChecksum));
    }
    assert_eq!(parse(&token.replace("9p", "p9")), Err(TokenError::WrongChecksum));
    let umlaut = format!("{}ü", &token[..token.len() - 2]);
    assert_eq!(parse(&umlaut), Err(TokenError::WrongChecksum));
    let message = TokenError::Truncated { bytes: 40 }.to_string();
    assert_eq!(
        message,
        "the token is incomplete: it has 40 of 46 characters; copy it again, from «underpass_» to the end"
    );
}

#[test]
fn a_token_that_can_be_guessed_is_refused_with_the_reason() {
    use TokenError::{LittleVariety, Pattern, Short, WellKnown, Words};
    for (text, expected) in [
        ("t", Short { chars: 1 }),
        ("secret", Short { chars: 6 }),
        ("aB3$xY7!kL9@qW2#mN5", Short { chars: 19 }),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", Pattern),
        ("abababababababababababab", Pattern),
        ("x7Kq9wLmx7Kq9wLmx7Kq9wLm", Pattern),
        ("abcdefghijklmnopqrstuvwxyz", Pattern),
        ("0123456789012345678901234567890123456789", Pattern),
        ("changeme-changeme-please", WellKnown),
        ("my-secret-token-2026-prod", WellKnown),
        ("Sup3r-S3cr3t-P4$$w0rd-123", WellKnown),
        ("underpass-proxy-token-of-alice", WellKnown),
        ("correct horse battery staple", Words),
        ("CorrectHorseBatteryStaple", Words),
        ("correct-horse-battery-staple-17", Words),
        ("the rain in spain stays", Words),
        ("31415926535897932384", LittleVariety),
    ] {
        assert_eq!(parse(text), Err(expected), "{text}");
        assert!(expected.to_string().contains("underpass token"), "no way out: {expected}");
    }
}

#[test]
fn a_random_token_of_any_origin_is_accepted() {
    for text in [
        // openssl rand -hex 16, -base64 18, uuidgen, pwgen 20, six words of diceware.
        "4f1d0c9e8b7a6352f0e1d2c3b4a59687",
        "q0Jx+8Vn/2LrTzM4bNwYc8Hs",
        "6f9619ff-8b86-4d11-b42d-00cf4fc964ff",
        "iez4ooThai9Eipu7quah",
        "zebra molten quarry fiddle tuxedo sprain",
        "my-secret-token-vK8dR2xQ9mWz4LpT7cYb",
    ] {
        assert_eq!(parse(text).as_deref(), Ok(text));
    }
}

/// Version 0.1 generated 24 random bytes in base64, and servers have kept them.
#[test]
fn the_tokens_of_earlier_versions_are_accepted() {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    for _ in 0..2000 {
        let text = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(random.random::<[u8; 24]>());
        assert_eq!(parse(&text).as_deref(), Ok(&text[..]));
    }
}

#[test]
fn a_token_is_one_line_that_is_not_blank() {
    let token = generated();
    for text in [format!("{token}\r\n"), format!("\u{feff}{token}\n"), format!("\t{token} ")] {
        assert_eq!(parse(&text).unwrap(), token);
    }
    for (text, expected) in [
        ("", TokenError::Blank),
        (" \n", TokenError::Blank),
        ("a\nb", TokenError::ControlCharacters),
        ("a\u{1b}[31m", TokenError::ControlCharacters),
        ("a\0", TokenError::ControlCharacters),
        (&"xY1".repeat(MAX_BYTES), TokenError::TooLong),
    ] {
        assert_eq!(parse(text), Err(expected));
    }
}

#[test]
fn debug_output_does_not_contain_the_token() {
    assert_eq!(format!("{:?}", Token::random()), "Token(***)");
}
