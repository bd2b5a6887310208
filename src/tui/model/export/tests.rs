//! Tests of the quoting of exported values.

use super::*;

#[test]
fn values_cannot_break_out_of_their_cells() {
    assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
    assert_eq!(csv("=cmd()"), "'=cmd()");
    assert_eq!(json("a\"\\\u{1b}é"), "\"a\\\"\\\\\\u001bé\"");
}
