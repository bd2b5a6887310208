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
    let most = 4 + 65_536;
    assert_eq!(used.mark_used(most + 2), Err(ProtocolError::StreamIdGap));
    assert_eq!(used.mark_used(most + 1), Ok(true));
    assert_eq!(used.mark_used(most + 3), Err(ProtocolError::StreamIdGap), "of all gaps together");
    assert_eq!((used.mark_used(5), used.mark_used(most + 3)), (Ok(true), Ok(true)));
}
