//! Unit tests of deriving the ids of users.

use super::*;

fn key(byte: u8) -> UserIdKey {
    UserIdKey::new([byte; KEY_BYTES])
}

/// Computed with the `hmac` module of Python: another version of the program must derive the same ids.
#[test]
fn an_id_depends_on_nothing_but_key_port_address_and_attempt() {
    let v4: IpAddr = "203.0.113.9".parse().unwrap();
    assert_eq!(key(7).derive(8080, v4, 0).to_string(), "6AAE12");
    let others = [
        key(8).derive(8080, v4, 0),
        key(7).derive(8081, v4, 0),
        key(7).derive(8080, "203.0.113.10".parse().unwrap(), 0),
        key(7).derive(8080, v4, 1),
    ];
    assert!(others.iter().all(|other| *other != key(7).derive(8080, v4, 0)), "{others:?}");
    // As which a listener on `::` would report the same client.
    assert_eq!(key(7).derive(8080, "::ffff:203.0.113.9".parse().unwrap(), 0), key(7).derive(8080, v4, 0));
}

#[test]
fn a_key_is_64_hexadecimal_digits_and_never_printed_by_debug() {
    let addr = "2001:db8::1".parse().unwrap();
    let text = key(0xAB).reveal();
    assert_eq!(text, "ab".repeat(KEY_BYTES));
    assert_eq!(text.parse::<UserIdKey>().unwrap().derive(1, addr, 0), key(0xAB).derive(1, addr, 0));
    for wrong in ["", "ab", &"ab".repeat(33), &"+b".repeat(32), &"é".repeat(32)] {
        assert_eq!(wrong.parse::<UserIdKey>().unwrap_err(), IdError::UserIdKey, "{wrong}");
    }
    assert_eq!(format!("{:?}", key(0xAB)), "UserIdKey(***)");
}
