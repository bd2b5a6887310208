//! Unit tests of parsing and printing identifiers.

use super::*;

#[test]
fn stream_keys_round_trip() {
    let key: StreamKey = "3f9a1c:12".parse().unwrap();
    assert_eq!(key, StreamKey::new(UserChannelId::new(0x3F9A1C), 12));
    assert_eq!(key.to_string(), "3F9A1C:12");
}

#[test]
fn invalid_identifiers_are_rejected_with_their_kind() {
    assert_eq!("3F9A1C".parse::<StreamKey>(), Err(IdError::Key));
    assert_eq!("XYZ123:1".parse::<StreamKey>(), Err(IdError::User));
    assert_eq!("+F9A1C:1".parse::<StreamKey>(), Err(IdError::User));
    assert_eq!("3F9A1C:+1".parse::<StreamKey>(), Err(IdError::Stream));
    assert_eq!("a\x1b[0m".parse::<Group>(), Err(IdError::Group));
    assert_eq!("".parse::<Group>(), Err(IdError::Group));
}

#[test]
fn a_service_without_a_group_is_in_the_default_group() {
    let service: ServiceKey = "8080".parse().unwrap();
    assert_eq!(service.to_string(), "8080:default");
    assert_eq!("8080:blue".parse::<ServiceKey>().unwrap().to_string(), "8080:blue");
}
