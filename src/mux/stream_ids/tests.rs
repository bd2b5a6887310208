//! Tests of the set of used stream ids.

use super::*;

#[test]
fn id_is_unused_once_in_any_order() {
    let mut used = UsedStreamIds::default();
    assert_eq!(
        [3, 1, 3, 2, 1, 4].map(|n| used.mark_used(n).unwrap()),
        [true, true, false, true, false, true]
    );
    assert!(used.contains(2) && !used.contains(5));
    assert_eq!(used.mark_used(u32::MAX), Err(ProtocolError::StreamIdGap));
}
