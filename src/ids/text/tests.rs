//! Unit tests of sanitizing text of the peer.

use super::clean;

#[test]
fn control_characters_and_overrides_are_removed() {
    assert_eq!(clean("a\x1b[2Jb\u{202E}c\u{9b}d\r\n", 64), "a[2Jbcd");
    assert_eq!(clean("abcdef", 3), "abc");
}
