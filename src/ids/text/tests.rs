//! Unit tests of sanitizing text of the peer.

use super::clean;

#[test]
fn escapes_and_overrides_never_pass() {
    assert_eq!(clean("a\x1b[2Jb\u{202E}c\u{9b}d\r\n", 64), "a[2Jbcd");
    assert_eq!(clean("abcdef", 3), "abc");
}
