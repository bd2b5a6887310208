//! Tests of file names and of the clipboard sequence.

use std::time::Duration;

use super::*;

#[test]
fn stamps_are_dates() {
    let stamp = |s| stamp(UNIX_EPOCH + Duration::from_secs(s));
    assert_eq!(stamp(0), "19700101-000000-000");
    assert_eq!(stamp(951_782_399), "20000228-235959-000");
    assert_eq!(stamp(951_782_400), "20000229-000000-000");
    assert_eq!(stamp(1_795_384_925), "20261122-220205-000");
}

#[test]
fn the_clipboard_gets_no_control_character() {
    assert_eq!(clipboard("3F9A1C:2"), b"\x1b]52;c;M0Y5QTFDOjI=\x07");
}
